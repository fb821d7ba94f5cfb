"""How far every input of a batch is: where its trajectory is, why it stopped, how it ended."""

import enum
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear
from ._result import Evidence, FixedPoints, Outcome
from .stepping import in_lanes

PENDING = -1
"""The outcome of a trajectory that has not ended yet."""


class StopReason(enum.IntEnum):
    """Why integration stopped."""

    NONE = 0
    AT_REST = 1
    PHASE_END = 2  # before `t1`
    ESCAPED = 3
    EXHAUSTED = 4  # of time or of steps


class State(eqx.Module):
    """All trajectories of a batch, one row for each.

    - `x`: where it is; the fixed point once it has settled.
    - `scale`: of each component, the unit of its absolute tolerances.
    - `growth`: the largest of these at the start, the extent; then the doublings beyond the
      divergence bound and the time at which its growth was first watched, and again half-way to
      what is called growth without bound; NaN until then.
    - `time`, `dt`, `num_steps`: of the solver.
    - `speed`: the root mean square of tau_j dx_j/dt where integration stopped, in units of |x_j|
      or the component's scale.
    - `stop`: a `StopReason`.
    - `outcome`: an `Outcome`, or `PENDING`.
    - `abscissa`: NaN until it is known.
    - `evidence`: an `Evidence` for the outcome.
    - `abscissa_bound`: NaN unless the trajectory has settled on a stable point.
    - `period`: NaN unless the trajectory lies on a cycle.
    """

    x: Float[Array, "m n"]
    scale: Float[Array, "m n"]
    growth: Float[Array, "m 5"]
    time: Float[Array, " m"]
    dt: Float[Array, " m"]
    num_steps: Int[Array, " m"]
    speed: Float[Array, " m"]
    stop: Int[Array, " m"]
    outcome: Int[Array, " m"]
    abscissa: Float[Array, " m"]
    evidence: Int[Array, " m"]
    abscissa_bound: Float[Array, " m"]
    period: Float[Array, " m"]

    @property
    def pending(self) -> Bool[Array, " m"]:
        """Trajectories without an outcome."""
        return self.outcome == PENDING

    @property
    def moving(self) -> Bool[Array, " m"]:
        """Trajectories that time, steps and the divergence bound allow to go on."""
        return self.pending & (self.stop < StopReason.ESCAPED)

    @property
    def unsettled(self) -> Bool[Array, " m"]:
        """Trajectories that have not settled: pending ones, and those that ran out of time."""
        return self.pending | (self.outcome == Outcome.NOT_SETTLED)

    @property
    def extent(self) -> Float[Array, " m"]:
        """The largest scale at the start, by which growth is measured."""
        return self.growth[:, 0]

    @property
    def size(self) -> Float[Array, " m"]:
        """The largest component where the trajectory is."""
        return jnp.max(jnp.abs(self.x), axis=1)

    def ended(
        self, where: Bool[Array, " m"], outcome: Outcome | Int[Array, " m"], **fields: Array
    ) -> "State":
        """The state with an outcome, and other fields, of some rows."""
        fields = {"outcome": jnp.asarray(outcome, jnp.int8), **fields}

        def replaced(old, new):
            rows = where.reshape(*where.shape, *[1] * (old.ndim - where.ndim))
            return jnp.where(rows, jnp.asarray(new, old.dtype), old)

        return eqx.tree_at(
            lambda state: [getattr(state, name) for name in fields],
            self,
            [replaced(getattr(self, name), new) for name, new in fields.items()],
        )


def blank_state(m: int, n: int, dtype: Any) -> Any:
    """The state of m trajectories at zero, of NumPy's arrays: nothing is compiled."""

    def filled(value, kind=dtype):
        return np.full(m, value, kind)

    numbers: Any = State
    return numbers(
        x=np.zeros((m, n), dtype), scale=np.zeros((m, n), dtype),
        growth=np.full((m, 5), np.nan, dtype), time=filled(0), dt=filled(0),
        num_steps=filled(0, np.int32), speed=filled(0), stop=filled(StopReason.NONE, np.int8),
        outcome=filled(PENDING, np.int8), abscissa=filled(np.nan),
        evidence=filled(Evidence.NONE, np.int8), abscissa_bound=filled(np.nan),
        period=filled(np.nan),
    )  # fmt: skip


def initial_state(network: AbstractDynamics, inputs: Float[Array, "m k"], state: State) -> State:
    """Trajectories about to start: their scales and extents, and `INVALID` where the input, the
    start, the network or the vector field there is not finite, or a time constant not positive."""
    x0 = state.x
    valid = is_finite(network) & jnp.all(network.tau > 0) & is_finite((inputs, x0), axis=1)
    if not is_threshold_linear(network):
        # Element by element: XLA's maximum of NaN is undefined on a CPU.
        valid &= is_finite(in_lanes(network).drift(x0.T, inputs.T), axis=0)
    scale = scales(network, x0, inputs)
    extent = jnp.max(scale, axis=1)
    # What is smooth may be linear near zero, and show its own scale only far from it.
    least = extent == 0 if is_threshold_linear(network) else extent < 1
    extent = jnp.where(least, 1, extent)
    outcome = jnp.where(valid, state.outcome, int(Outcome.INVALID)).astype(jnp.int8)
    new = (scale, state.growth.at[:, 0].set(extent), outcome)
    return eqx.tree_at(lambda state: (state.scale, state.growth, state.outcome), state, new)


def scales(
    network: AbstractDynamics, x: Float[Array, "m n"], inputs: Float[Array, "m k"]
) -> Float[Array, "m n"]:
    """The network's scale, of every row and component; that of the largest one where nothing is
    known of a component yet."""
    scale = jnp.broadcast_to(jax.vmap(network.scale)(x, inputs).reshape(len(x), -1), x.shape)
    return jnp.where(scale > 0, scale, jnp.max(scale, axis=1, keepdims=True))


def result(network: AbstractDynamics, inputs: Float[Array, "m k"], state: State) -> FixedPoints:
    """The state as its user sees it, with the residual recomputed."""
    valid = state.outcome != Outcome.INVALID

    def known(values):
        return jnp.where(valid.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan)

    rates = network.rates if isinstance(network, RateNetwork) else jax.vmap(network.rates)
    residual = jnp.max(jnp.abs(in_lanes(network).drift(state.x.T, inputs.T)), axis=0)
    return FixedPoints(
        state=known(state.x),
        rates=known(rates(state.x)),
        outcome=state.outcome,
        evidence=state.evidence,
        residual=known(residual),
        abscissa=known(state.abscissa),
        abscissa_bound=known(state.abscissa_bound),
        time=state.time,
        num_steps=state.num_steps,
        period=state.period,
    )


def is_finite(tree: PyTree[Array], axis: int | None = None) -> Bool[Array, "..."]:
    """Whether no number in these arrays is NaN or infinite, along an axis if one is given."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    whole = [jnp.all(jnp.isfinite(leaf), axis=axis) for leaf in leaves]
    return functools.reduce(jnp.logical_and, whole, jnp.ones((), bool))
