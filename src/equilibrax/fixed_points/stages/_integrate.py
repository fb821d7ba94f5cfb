"""Integration: every moving trajectory, until it is slow, escapes or the phase ends."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...networks import is_threshold_linear
from .._accuracy import FORGOTTEN
from .._phases import Phase
from .._result import Outcome
from .._speed import STEPS_PER_VISIT
from .._state import State, StopReason, scales
from ..stepping import Queue, StepperState, in_lanes, masked_step, run_lanes
from ._fused import is_fused, run_fused
from ._stage import Problem, Stage, steps_use_lapack
from ._stopping import followed, reason_to_stop


class Packed(eqx.Module):
    """The numbers that integration reads and changes, in one array, so that a row moves in one
    piece: the state's components, their scales, its growth, then the named numbers."""

    rows: Float[Array, "m columns"]

    NAMES = ("time", "dt", "num_steps", "stop", "speed")

    @classmethod
    def of(cls, x: Array, scale: Array, growth: Array, **named: Array) -> "Packed":
        """Pack these columns, and the numbers of these names."""
        numbers = [named[name].astype(x.dtype) for name in cls.NAMES]
        return cls(jnp.column_stack([x, scale, growth, *numbers]))

    @property
    def parts(self) -> tuple[Float[Array, "m n"], Float[Array, "m n"], Float[Array, "m 5"]]:
        """The state's components, their scales, and its growth."""
        n = (self.rows.shape[1] - 5 - len(self.NAMES)) // 2
        return self.rows[:, :n], self.rows[:, n : 2 * n], self.rows[:, 2 * n : 2 * n + 5]

    def __getitem__(self, name: str) -> Float[Array, " m"]:
        return self.rows[:, self.NAMES.index(name) - len(self.NAMES)]


class InFlight(eqx.Module):
    """The trajectories in all lanes, how far they have grown, and why those that have stopped
    did."""

    lanes: StepperState
    growth: Float[Array, "5 lanes"]
    stop: Int[Array, " lanes"]


def wants(problem: Problem, state: State, phase: Phase) -> Bool[Array, " m"]:
    """Pending trajectories, unless they have escaped or are out of time or steps, or need not be
    followed in this phase."""
    del problem
    return state.moving & ~phase.spared


def run(problem: Problem, state: State, phase: Phase, queue: Queue) -> State:
    """Take the trajectories of the queue to the end of the phase, or to where they stop."""
    network, flow, inputs = problem.network, problem.flow, problem.inputs
    stepper, lanewise = flow.stepper(network), in_lanes(network)
    tolerances = phase.tolerances

    def load(rows_of: Float[Array, "m columns"], rows) -> InFlight:
        packed = Packed(rows_of.at[rows].get(mode="clip"))
        x, scale, growth = (part.T for part in packed.parts)
        i = inputs.at[rows].get(mode="clip").T
        first, memory = stepper.init(x, i, tolerances.of_steps(scale))
        dt = jnp.where(packed["dt"] > 0, packed["dt"], first)
        num_steps = packed["num_steps"].astype(jnp.int32)
        lanes = StepperState(x, i, scale, packed["time"], dt, num_steps, memory)
        return InFlight(lanes, growth, jnp.full(len(rows), StopReason.NONE, jnp.int32))

    def step(carry, inverse):
        lanes, running, stop = carry
        lanes = masked_step(stepper, lanes, running, tolerances, phase.horizon)[0]
        speed = speed_of(lanes)
        at_rest = jnp.all(speed <= tolerances.at_rest(lanes.x, lanes.scale), axis=0)
        if is_threshold_linear(lanewise):
            sizes = jnp.abs(lanewise.drive(lanes.x, lanes.i)) * inverse
            distance = problem.certificate.distance(sizes)
            at_rest |= jnp.max(speed * inverse, axis=0) < phase.settling * distance
        reason = reason_to_stop(
            at_rest, lanes.time, lanes.num_steps, phase.end, phase.t1, flow.max_steps
        )
        stop = jnp.where(running, reason.astype(stop.dtype), stop)
        return lanes, running & (stop == StopReason.NONE), stop

    def speed_of(lanes: StepperState):
        return jnp.abs(lanewise.tau * stepper.velocity(lanes.memory, lanes.x, lanes.i))

    def advance(flying: InFlight, running):
        start, inverse = (flying.lanes, running, flying.stop), 1 / flying.lanes.scale
        lanes, running, stop = jax.lax.fori_loop(
            0, STEPS_PER_VISIT, lambda _, carry: step(carry, inverse), start
        )
        size = jnp.max(jnp.abs(lanes.x), axis=0)
        growth, escaped = followed([*flying.growth], size, lanes.time, flow.divergence)
        stop = jnp.where(running & escaped, StopReason.ESCAPED, stop)
        return InFlight(lanes, jnp.stack(growth), stop), running & ~escaped

    def store(rows_of, rows, flying: InFlight):
        lanes = flying.lanes
        packed = Packed.of(
            lanes.x.T, lanes.scale.T, flying.growth.T, time=lanes.time, dt=lanes.dt,
            num_steps=lanes.num_steps, stop=flying.stop,
            speed=jnp.sqrt(jnp.mean(jnp.square(speed_of(lanes) / lanes.unit), axis=0)),
        )  # fmt: skip
        return rows_of.at[rows].set(packed.rows, mode="drop")

    scale = jnp.maximum(scales(network, state.x, inputs), state.scale / FORGOTTEN)
    numbers = {name: getattr(state, name) for name in Packed.NAMES}
    packed = Packed.of(state.x, scale, state.growth, **numbers)
    if is_fused(problem):
        packed = Packed(run_fused(problem, packed.rows, queue, phase))
    else:
        lanes = flow.num_lanes(network, len(inputs))
        packed = Packed(run_lanes(queue, lanes, load, advance, store, packed.rows))
    new = [packed[name].astype(number.dtype) for name, number in numbers.items()]
    names = ("x", "scale", "growth", *Packed.NAMES)
    state = eqx.tree_at(
        lambda state: [getattr(state, name) for name in names], state, [*packed.parts, *new]
    )
    escaped = state.pending & (state.stop == StopReason.ESCAPED)
    return state.ended(escaped, Outcome.DIVERGED)


INTEGRATE = Stage("integrate", wants, run, uses_lapack=steps_use_lapack)
