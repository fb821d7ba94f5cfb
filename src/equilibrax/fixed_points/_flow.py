"""`Flow`: how trajectories are followed."""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import diffrax
import equinox as eqx
import jax.numpy as jnp

from .. import _checks
from .._types import Scalar
from ..networks import AbstractDynamics, is_map
from ._accuracy import FLOOR, TIGHTER
from ._speed import num_lanes
from .stepping import DiffraxStepper, Iteration, Stepper, UnrolledStepper, in_lanes

EvidenceLevel: TypeAlias = Literal["proof", "probe", "spectrum"]


def _as(kind: type) -> Callable[[Any], Any]:
    """A converter of numpy's and JAX's numbers to Python's, which leaves mistakes alone."""

    def convert(value):
        if isinstance(value, (bool, str)) or value is None:
            return value
        try:
            same = kind(value)
        except (TypeError, ValueError, OverflowError):
            return value
        return same if same == value else value

    return convert


class Flow(eqx.Module):
    r"""Follow each input's trajectory with a Diffrax solver.

    A trajectory is followed in phases: to a twentieth of `t1` (a tenth, if n > 8 or the network is
    not threshold-linear; a fifth, if n > 128 or weights have low rank), to a fifth, to the end, and
    then with tighter and tighter tolerances. In each it stops at the first step after which one of
    these holds:

    - *settling*: |tau_j dx_j/dt| is for every j below 0.7 of the distance to the nearest threshold
      in the first phase, a tenth in the second, a hundredth in the third (threshold-linear
      networks; a fifth, a 50th and never, if n > 8; a 20th, a 100th and never, if n > 128;
      a tenth and a 50th of the mean distance, and never, if of low rank).
      If convergence is then proven, or a probe speaks for it, the trajectory has ended; otherwise
      it goes on in the next phase;
    - *resting*: |tau_j dx_j/dt| <= `steady_atol` s_j + `steady_rtol` |x_j| for every j. The
      trajectory then goes on with all four tolerances a hundred times tighter, down to
      what the dtype can resolve, until the fixed point behind it has passed its verdict;
    - *growing without bound*: max_j |x_j| has exceeded `divergence` times the largest s_j at the
      start, doubled 24 times beyond, and 24 times more without taking longer;
    - the phase's time, `t1` or `max_steps` is reached. After the first two phases those that
      move fast for their size are watched for a limit cycle, and after the last all that have
      not settled; growth without bound is sought to be proven at the same times.

    s_j is the scale of the component j: what the terms of its equation add up to where a phase
    begins, or a hundredth of what they did in the phase before (`AbstractDynamics.scale`). Scaling
    the unit of all components scales the answer, and no large component can hide a small one.

    **Arguments:**

    - `solver`: any adaptive Diffrax solver for ordinary differential equations; an implicit
      one for stiff networks. If absent, the steps of `diffrax.Tsit5`, written out for many
      lanes at once, which is many times faster.
    - `rtol`, `atol`: of the adaptive step size (`diffrax.PIDController`), `atol` in units of
      s_j. They decide on which side of a basin's boundary a trajectory falls, not how exact
      the fixed point is: that is polished. Tolerances below ten roundings are raised to them.
    - `steady_rtol`, `steady_atol`: of the residual, as above; ten times `rtol` and
      `atol` if absent. An explicit solver bounces for ever above tighter ones.
    - `t1`: end of time, in the units of tau; 200 times the largest tau if absent, or `max_steps`
      for a map, whose steps are the unit.
    - `max_steps`: solver steps for one trajectory.
    - `divergence`: the divergence bound, as above.
    - `marginal`: an abscissa within `marginal` / max(tau) of zero counts as zero; the
      square root of the dtype's rounding unit if absent.
    - `evidence`: what a stable verdict may rest on, cheapest first if absent: a table of all
      chambers for threshold-linear networks up to n = 8, a proof by matrix products up to n = 128,
      and random probes beyond. `"proof"`, `"probe"` and `"spectrum"` (eigenvalues alone) ask for
      one of them. `Evidence` says what each is worth; where it is not reached, the spectrum
      decides.
    - `abscissa`: whether the abscissa of every fixed point is wanted. Without it, it is NaN where
      n > 8 and no verdict needed it.
    - `lanes`: how many trajectories are in flight at once, on each core or accelerator. No
      answer depends on it. If absent, what was fastest for networks and batches of this size:
      at n = 5 64, or 1,024 for a large batch.

    **Raises:** `ValueError` for a number that is not positive or an unknown kind of evidence;
    `TypeError` for another kind of solver, or an `abscissa` that is not bool.

    **Example:**

    ```python
    def slow(t, x, i):
        return (i - x) / 1000

    found = eqb.find_fixed_points(slow, jnp.asarray([2.0]), method=eqb.Flow(t1=1e4))
    print(found.stable, found.time > 200, f"{found.state[0]:.2f}")
    # > True True 2.00
    ```
    """

    solver: diffrax.AbstractSolver | None = None
    rtol: float = eqx.field(default=1e-5, converter=_as(float), static=True)
    atol: float = eqx.field(default=1e-6, converter=_as(float), static=True)
    steady_rtol: float | None = eqx.field(default=None, converter=_as(float), static=True)
    steady_atol: float | None = eqx.field(default=None, converter=_as(float), static=True)
    t1: float | None = eqx.field(default=None, converter=_as(float), static=True)
    max_steps: int = eqx.field(default=4096, converter=_as(int), static=True)
    divergence: float = eqx.field(default=1e4, converter=_as(float), static=True)
    marginal: float | None = eqx.field(default=None, converter=_as(float), static=True)
    evidence: EvidenceLevel | None = eqx.field(default=None, static=True)
    abscissa: bool = eqx.field(default=False, static=True)
    lanes: int | None = eqx.field(default=None, converter=_as(int), static=True)

    def __check_init__(self):
        if self.solver is not None and not isinstance(self.solver, diffrax.AbstractAdaptiveSolver):
            must = "be an adaptive Diffrax solver such as diffrax.Tsit5()"
            _checks.fail("solver", must, f"is {self.solver!r}", TypeError, page="how-to/solver")
        optional = ("steady_rtol", "steady_atol", "t1", "marginal", "lanes")
        for name in ("rtol", "atol", "divergence", *optional[:-1]):
            if getattr(self, name) is not None or name not in optional:
                _checks.number(name, getattr(self, name), above=0.0)
        if self.evidence not in (None, *get_args(EvidenceLevel)):
            must = "be one of " + ", ".join(map(repr, get_args(EvidenceLevel))) + ", or None"
            _checks.fail("evidence", must, f"is {self.evidence!r}", page="explanation/certificates")
        if not isinstance(self.abscissa, bool):
            _checks.fail("abscissa", "be True or False", f"is {self.abscissa!r}", TypeError)
        for name in ("max_steps", "lanes"):
            if getattr(self, name) is not None or name not in optional:
                _checks.integer(name, getattr(self, name))

    def stepper(self, network: AbstractDynamics) -> Stepper:
        """The solver step, or the map's, of many lanes."""
        if is_map(network):
            if self.solver is not None:
                _checks.fail(
                    "solver",
                    "be None for a map, which is iterated",
                    f"is {self.solver}",
                    page="how-to/solver",
                )
            return Iteration(network)
        if self.solver is None:
            return UnrolledStepper(in_lanes(network), diffrax.Tsit5())
        return DiffraxStepper(network, self.solver)

    @property
    def is_implicit(self) -> bool:
        """Whether a solver step factorises matrices."""
        return isinstance(self.solver, diffrax.AbstractImplicitSolver)

    def num_lanes(self, network: AbstractDynamics, m: int) -> int:
        """`lanes`, or its default for m trajectories of this network."""
        return self.lanes or num_lanes(network.num_neurons, m)

    def horizon(self, network: AbstractDynamics, tau: Any, xp: Any = jnp) -> Any:
        """`t1`, or its default for these time constants, by the array library `xp`."""
        longest = xp.max(tau)
        default = self.max_steps if is_map(network) else 200
        return default * longest if self.t1 is None else xp.full_like(longest, self.t1)[()]

    def marginal_abscissa(self, network: AbstractDynamics) -> Scalar:
        """Largest |abscissa| that counts as zero, in 1/time."""
        unit = math.sqrt(jnp.finfo(network.dtype).eps)
        return (unit if self.marginal is None else self.marginal) / jnp.max(network.tau)

    def tolerances(self, level: int, dtype) -> list[float]:
        """The four tolerances at a level, floored by the dtype: those of the step size, and of a
        trajectory at rest."""
        floor = FLOOR * float(jnp.finfo(dtype).eps)
        tighter = TIGHTER**-level
        steps = [max(tighter * t, floor) for t in (self.rtol, self.atol)]
        steady = [
            10 * step if wished is None else max(tighter * wished, floor)
            for step, wished in zip(steps, (self.steady_rtol, self.steady_atol), strict=True)
        ]
        return steps + steady

    def last_level(self, dtype) -> int:
        """The level at which the tightest of the solver's tolerances is at the floor."""
        floor = FLOOR * float(jnp.finfo(dtype).eps)
        return max(0, math.ceil(math.log(max(self.rtol, self.atol) / floor) / math.log(TIGHTER)))


DEFAULT = Flow()


def as_flow(method: Any) -> Flow:
    """The method of a public function: a `Flow`, or the default one for None."""
    method = DEFAULT if method is None else method
    if not isinstance(method, Flow):
        _checks.fail("method", "be a Flow", f"is {method!r}", TypeError)
    return method
