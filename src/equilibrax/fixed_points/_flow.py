"""One trajectory, on Diffrax, from its start to rest, escape or the end of time."""

import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from .._types import Count, Flag, Scalar, Vector
from ..networks import RateNetwork
from ._chambers import LARGEST_TABLE, Chambers


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

    A trajectory halts at the first step after which one of these holds:

    - *trapped*: x lies in the trapping ellipsoid of its chamber (threshold-linear
      networks of at most 8 neurons): convergence is proven;
    - *resting*: |tau_j dx_j/dt| <= `steady_atol` s + `steady_rtol` |x_j| for every j. The
      trajectory then goes on with all four tolerances a hundred times tighter, down to
      what the dtype can resolve, until the fixed point behind it has passed its verdict;
    - *escaping*: max_j |x_j| exceeds `divergence` times s;
    - `t1` or `max_steps` is reached.

    s = max(|i|, |b|, |x_0|), the problem's scale (1 if that is zero), makes the absolute
    tolerances relative to it: scaling inputs, thresholds and start scales the answer.

    **Arguments:**

    - `solver`: any Diffrax solver for ordinary differential equations; an implicit one
      for stiff networks.
    - `rtol`, `atol`: of the adaptive step size (`diffrax.PIDController`), `atol` in units of
      s. They decide on which side of a basin's boundary a trajectory falls, not how exact
      the fixed point is: that is polished. Tolerances below ten roundings are raised to them.
    - `steady_rtol`, `steady_atol`: of the residual, as above; ten times `rtol` and
      `atol` if absent. An explicit solver bounces for ever above tighter ones.
    - `t1`: end of time, in the units of tau; 200 times the largest tau if absent.
    - `max_steps`: solver steps, for one trajectory; one that has halted with fewer, and goes
      on with tighter tolerances, may take as many again.
    - `divergence`: the divergence bound, as above.
    - `marginal`: an abscissa within `marginal` / max(tau) of zero counts as zero; the
      square root of the dtype's rounding unit if absent.
    - `batch_size`: how many trajectories run in lockstep; a batch ends when its slowest
      member does. If absent, 4096 for networks of up to 5 neurons and fewer for larger
      ones, so that memory stays bounded.

    **Raises:** `ValueError` for a number that is not positive; `TypeError` for another
    kind of solver.
    """

    solver: diffrax.AbstractSolver = eqx.field(default_factory=diffrax.Tsit5)
    rtol: float = eqx.field(default=1e-5, converter=_as(float), static=True)
    atol: float = eqx.field(default=1e-6, converter=_as(float), static=True)
    steady_rtol: float | None = eqx.field(default=None, converter=_as(float), static=True)
    steady_atol: float | None = eqx.field(default=None, converter=_as(float), static=True)
    t1: float | None = eqx.field(default=None, converter=_as(float), static=True)
    max_steps: int = eqx.field(default=4096, converter=_as(int), static=True)
    divergence: float = eqx.field(default=1e4, converter=_as(float), static=True)
    marginal: float | None = eqx.field(default=None, converter=_as(float), static=True)
    batch_size: int | None = eqx.field(default=None, converter=_as(int), static=True)

    def __check_init__(self):
        if not isinstance(self.solver, diffrax.AbstractSolver):
            must = "be a Diffrax solver such as diffrax.Tsit5()"
            _checks.fail("solver", must, f"is {self.solver!r}", TypeError)
        optional = ("steady_rtol", "steady_atol", "t1", "marginal", "batch_size")
        for name in ("rtol", "atol", "divergence", *optional[:-1]):
            if getattr(self, name) is not None or name not in optional:
                _checks.number(name, getattr(self, name), above=0.0)
        for name in ("max_steps", "batch_size"):
            if getattr(self, name) is not None or name not in optional:
                _checks.integer(name, getattr(self, name))

    def lockstep(self, network: RateNetwork) -> int:
        """`batch_size`, or its default for this network."""
        return self.batch_size or max(64, 4096 * 5 // max(5, network.num_neurons))

    def horizon(self, network: RateNetwork) -> Scalar:
        """`t1`, or its default for this network."""
        longest = jnp.max(network.tau)
        return 200 * longest if self.t1 is None else jnp.full_like(longest, self.t1)

    def marginal_abscissa(self, network: RateNetwork) -> Scalar:
        """Largest |abscissa| that counts as zero, in 1/time."""
        unit = math.sqrt(jnp.finfo(network.weights.dtype).eps)
        return (unit if self.marginal is None else self.marginal) / jnp.max(network.tau)

    def tolerances(self, level: Count, scale: Scalar) -> "Tolerances":
        """The four tolerances at a level of tightness, floored by the dtype of `scale`."""
        dtype = scale.dtype
        floor = 10 * float(jnp.finfo(dtype).eps)
        tightness = jnp.power(jnp.asarray(TIGHTER, dtype), -level)
        solver = [jnp.maximum(tightness * t, floor) for t in (self.rtol, self.atol)]
        steady = [
            slack * 10 if wished is None else jnp.maximum(tightness * wished, floor)
            for slack, wished in zip(solver, (self.steady_rtol, self.steady_atol), strict=True)
        ]
        (rtol, atol), (steady_rtol, steady_atol) = solver, steady
        return Tolerances(rtol, atol * scale, steady_rtol, steady_atol * scale)

    def last_level(self, dtype) -> int:
        """The level at which the tightest of the solver's tolerances is at the floor."""
        floor = 10 * float(jnp.finfo(dtype).eps)
        return max(0, math.ceil(math.log(max(self.rtol, self.atol) / floor) / math.log(TIGHTER)))


def as_flow(method: Any) -> Flow:
    """The method of a public function: a `Flow`, or the default one for None."""
    method = Flow() if method is None else method
    if not isinstance(method, Flow):
        _checks.fail("method", "be a Flow", f"is {method!r}", TypeError)
    return method


TIGHTER = 100.0
"""How much tighter the tolerances get where a verdict fails."""


class Tolerances(eqx.Module):
    """What the solver, and the event of rest, are held to."""

    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    steady_rtol: Float[Array, ""]
    steady_atol: Float[Array, ""]


class Journey(eqx.Module):
    """A trajectory so far: where it is, and why it halted there."""

    x: Float[Array, " n"]
    time: Float[Array, ""]
    num_steps: Int[Array, ""]
    trapped: Bool[Array, ""]
    resting: Bool[Array, ""]
    escaping: Bool[Array, ""]
    exhausted: Bool[Array, ""]  # of time, of steps, or of step size


class Trapped(eqx.Module):
    """Event: in the trapping ellipsoid of the chamber."""

    network: RateNetwork
    chambers: Chambers | None

    def __call__(self, t, y, args, **kwargs) -> Flag:
        """Diffrax's signature; `args` is the input."""
        if self.chambers is None:
            return jnp.array(False)
        return self.chambers.trapped(self.network, y, args)


class Resting(eqx.Module):
    """Event: every component's residual, scaled by its time constant, is small."""

    network: RateNetwork
    tolerances: Tolerances

    def __call__(self, t, y, args, **kwargs) -> Flag:
        """Diffrax's signature; `args` is the input."""
        return is_resting(self.network, y, args, self.tolerances)


def is_resting(network: RateNetwork, x: Vector, i: Vector, tolerances: Tolerances) -> Flag:
    """|tau_j dx_j/dt| <= steady_atol + steady_rtol |x_j| for every j."""
    limit = tolerances.steady_atol + tolerances.steady_rtol * jnp.abs(x)
    return jnp.all(jnp.abs(network.drift(x, i)) <= limit)


class Escaping(eqx.Module):
    """Event: past the divergence bound."""

    bound: Float[Array, ""]

    def __call__(self, t, y, args, **kwargs) -> Flag:
        """Diffrax's signature."""
        return jnp.max(jnp.abs(y)) > self.bound


def tabulate(network: RateNetwork, flow: Flow) -> Chambers | None:
    """The table of chambers, where the network has one."""
    if network.is_threshold_linear and network.num_neurons <= LARGEST_TABLE:
        return Chambers(network, flow.marginal_abscissa(network))
    return None


def start(x0: Vector) -> Journey:
    """A trajectory that has not left yet."""
    no, zero = jnp.array(False), jnp.zeros((), x0.dtype)
    return Journey(x0, zero, jnp.zeros((), jnp.int32), no, no, no, no)


def advance(
    network: RateNetwork,
    i: Vector,
    journey: Journey,
    flow: Flow,
    chambers: Chambers | None,
    level: Count,
    scale: Scalar,
    wanted: Flag,
) -> Journey:
    """Integrate on from where the trajectory is, to the next end; not at all if unwanted."""
    t1 = flow.horizon(network)
    tolerances = flow.tolerances(level, scale)
    events = {
        "trapped": Trapped(network, chambers),
        "resting": Resting(network, tolerances),
        "escaping": Escaping(flow.divergence * scale),
    }
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(network.vector_field),
        flow.solver,
        t0=journey.time,
        t1=jnp.where(wanted, t1, journey.time),
        dt0=None,
        y0=journey.x,
        args=i,
        stepsize_controller=diffrax.PIDController(tolerances.rtol, tolerances.atol),
        event=diffrax.Event(events),
        max_steps=flow.max_steps,
        adjoint=diffrax.ForwardMode(),
        throw=False,
    )
    # Diffrax types these as optional, for solves that save or watch nothing.
    assert solution.ys is not None
    assert solution.ts is not None
    assert solution.event_mask is not None
    x, time, halted = solution.ys[-1], solution.ts[-1], solution.event_mask
    num_steps = journey.num_steps + solution.stats["num_steps"].astype(jnp.int32)
    exhausted = (time >= t1) | (num_steps >= flow.max_steps)
    exhausted |= ~diffrax.is_okay(solution.result)
    fresh = Journey(
        jnp.where(jnp.isfinite(x), x, journey.x),
        time,
        num_steps,
        halted["trapped"],
        halted["resting"],
        halted["escaping"],
        exhausted,
    )
    return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), fresh, journey)
