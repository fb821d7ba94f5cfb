"""Integration: every moving trajectory, until it is slow, escapes or the phase ends."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...networks import is_threshold_linear
from .._phases import Phase
from .._speed import STEPS_PER_VISIT
from .._state import State, StopReason
from ..stepping import Queue, StepperState, in_lanes, masked_step, run_lanes
from ._stage import Problem, Stage, steps_use_lapack


class Packed(eqx.Module):
    """The numbers that integration changes, in one array, so that a row moves in one piece: the
    state's components, then the named numbers."""

    rows: Float[Array, "m columns"]

    NAMES = ("scale", "time", "dt", "num_steps", "stop", "speed")

    @classmethod
    def of(cls, x: Float[Array, "m n"], **named: Array) -> "Packed":
        """Pack the state's components and the numbers of these names."""
        return cls(jnp.column_stack([x, *[named[name].astype(x.dtype) for name in cls.NAMES]]))

    @property
    def x(self) -> Float[Array, "m n"]:
        """The state's components."""
        return self.rows[:, : -len(self.NAMES)]

    def __getitem__(self, name: str) -> Float[Array, " m"]:
        return self.rows[:, self.NAMES.index(name) - len(self.NAMES)]


class InFlight(eqx.Module):
    """The trajectories in all lanes, and why those that have stopped did."""

    lanes: StepperState
    stop: Int[Array, " lanes"]


def wants(problem: Problem, state: State, phase: Phase) -> Bool[Array, " m"]:
    """Pending trajectories, unless they have escaped or are out of time or steps."""
    del problem, phase
    return state.moving


def run(problem: Problem, state: State, phase: Phase, queue: Queue) -> State:
    """Take the trajectories of the queue to the end of the phase, or to where they stop."""
    network, flow, inputs = problem.network, problem.flow, problem.inputs
    stepper, lanewise = flow.stepper(network), in_lanes(network)
    tolerances = phase.tolerances

    def load(rows_of: Float[Array, "m columns"], rows) -> InFlight:
        packed = Packed(rows_of.at[rows].get(mode="clip"))
        x, scale, i = packed.x.T, packed["scale"], inputs.at[rows].get(mode="clip").T
        first, memory = stepper.init(x, i, tolerances.of_steps(scale))
        dt = jnp.where(packed["dt"] > 0, packed["dt"], first)
        num_steps = packed["num_steps"].astype(jnp.int32)
        lanes = StepperState(x, i, scale, packed["time"], dt, num_steps, memory)
        return InFlight(lanes, jnp.full(len(rows), StopReason.NONE, jnp.int32))

    def step(_, carry):
        lanes, running, stop = carry
        lanes = masked_step(stepper, lanes, running, tolerances, phase.horizon)[0]
        speed = speed_of(lanes)
        at_rest = jnp.all(speed <= tolerances.at_rest(lanes.x, lanes.scale), axis=0)
        if is_threshold_linear(lanewise):
            distance = jnp.min(jnp.abs(lanewise.drive(lanes.x, lanes.i)), axis=0)
            at_rest |= jnp.max(speed, axis=0) < phase.settling * distance
        escaped = jnp.max(jnp.abs(lanes.x), axis=0) > flow.divergence * lanes.scale
        exhausted = (lanes.time >= phase.t1) | (lanes.num_steps >= flow.max_steps)
        reason = jnp.select(
            [escaped, at_rest, exhausted, lanes.time >= phase.end],
            [StopReason.ESCAPED, StopReason.AT_REST, StopReason.EXHAUSTED, StopReason.PHASE_END],
            StopReason.NONE,
        )
        stop = jnp.where(running, reason.astype(stop.dtype), stop)
        return lanes, running & (stop == StopReason.NONE), stop

    def speed_of(lanes: StepperState):
        return jnp.abs(lanewise.tau * stepper.velocity(lanes.memory, lanes.x, lanes.i))

    def advance(flying: InFlight, running):
        start = (flying.lanes, running, flying.stop)
        lanes, running, stop = jax.lax.fori_loop(0, STEPS_PER_VISIT, step, start)
        return InFlight(lanes, stop), running

    def store(rows_of, rows, flying: InFlight):
        lanes = flying.lanes
        packed = Packed.of(
            lanes.x.T, scale=lanes.scale, time=lanes.time, dt=lanes.dt, num_steps=lanes.num_steps,
            stop=flying.stop, speed=jnp.max(speed_of(lanes), axis=0),
        )  # fmt: skip
        return rows_of.at[rows].set(packed.rows, mode="drop")

    packed = Packed.of(state.x, **{name: getattr(state, name) for name in Packed.NAMES})
    lanes = flow.num_lanes(network, len(inputs))
    packed = Packed(run_lanes(queue, lanes, load, advance, store, packed.rows))
    changed = Packed.NAMES[1:]
    return eqx.tree_at(
        lambda state: [state.x, *[getattr(state, name) for name in changed]],
        state,
        [packed.x, *[packed[name].astype(getattr(state, name).dtype) for name in changed]],
    )


INTEGRATE = Stage("integrate", wants, run, uses_lapack=steps_use_lapack)
