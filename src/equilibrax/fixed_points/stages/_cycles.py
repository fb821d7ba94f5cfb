r"""Limit cycles: does a trajectory return to where it was?

From a point a on the trajectory, with velocity f_a, the section is the hyperplane
f_a . (x - a) = 0. The trajectory crosses it again, in the same direction, once or
more in each period. A crossing near a is a return. Two returns, the second after twice
the time of the first, and both as near to a as the solver's errors allow, make a cycle if the
orbit is still there some turns later: chaos leaves, and a torus or a spiral drifts away. Where it
is farther off by then, looser steps must take it farther still, so that the drift is the solver's.
And they must leave the period alone: an orbit that passes a saddle closely lasts as long as errors
let it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...networks import is_map, is_threshold_linear
from .._accuracy import (
    ALIKE,
    AT_CORNERS,
    ATTEMPTS,
    AWAITED_SHARE,
    AWAITED_STEPS,
    CONVERGING,
    DRIFT,
    ERRORS,
    EXACT_RETURN,
    LATE_TURN,
    LEAD,
    LOOSER,
    MISSED,
    MORE_ATTEMPTS,
    NO_FARTHER,
    PERIODS_ALIKE,
    QUICK,
    RETURN,
    TURNS_ALIKE,
    UNTURNED,
)
from .._phases import Phase, tolerances_at
from .._result import Outcome
from .._speed import STEPS_PER_VISIT, watched_lanes
from .._state import State, StopReason
from ..stepping import Queue, StepperState, Tolerances, in_lanes, init, masked_step, run_lanes
from ._map_cycles import find_map_periods
from ._stage import Problem, Stage, steps_use_lapack


def wants(problem: Problem, state: State, phase: Phase) -> Bool[Array, " m"]:
    """Trajectories that still move, or did at the end; before the last phase only where they are
    so quick that they hardly are about to settle."""
    del problem
    quick = phase.final | (state.speed > QUICK)
    moving = state.pending & (state.stop == StopReason.PHASE_END) & quick
    moved = (state.outcome == Outcome.NOT_SETTLED) & (state.stop != StopReason.AT_REST)
    return phase.watched & (moving | moved)


def run(problem: Problem, state: State, phase: Phase, queue: Queue) -> State:
    """Trajectories of the queue that lie on a cycle oscillate; they stay where they are."""
    if is_map(problem.network):
        period = find_map_periods(problem, state, queue)
    else:
        period = find_periods(problem, state, phase, queue)
    unknown = jnp.full_like(period, jnp.nan)
    return state.ended(period > 0, Outcome.OSCILLATING, period=period, abscissa=unknown)


CYCLES = Stage("cycles", wants, run, uses_lapack=steps_use_lapack)


class Watch(eqx.Module):
    """A lane that is watched for returns; times count from the start of the watch, and distances
    are in units of each component's size."""

    stepper: StepperState
    unit: Float[Array, "n lanes"]
    start: Float[Array, "n lanes"]  # a
    normal: Float[Array, "n lanes"]  # f_a
    since: Float[Array, " lanes"]  # the time at a
    first_step: Int[Array, " lanes"]  # and the number of steps
    turned: Bool[Array, " lanes"]  # whether the velocity has pointed against f_a since
    attempt: Int[Array, " lanes"]
    diameter: Float[Array, " lanes"]
    last_diameter: Float[Array, " lanes"]
    last_distance: Float[Array, " lanes"]
    returns: Float[Array, "3 lanes"]  # the times of the next two returns to a, and of a late one
    distances: Float[Array, "3 lanes"]  # and how far from a they were

    @property
    def early(self) -> Float[Array, " lanes"]:
        """The larger distance of the first two returns."""
        return jnp.max(self.distances[:2], axis=0)

    def closes(self, rtol: Float[Array, ""], corners: bool) -> Bool[Array, " lanes"]:
        """Whether the returns so far are those of a cycle, of dynamics with or without corners."""
        turns = self.returns / self.returns[0]
        due = jnp.asarray([1, 2, LATE_TURN], rtol.dtype)[:, None]
        alike = jnp.abs(turns - due) < TURNS_ALIKE * due
        # The solver's errors are shares of the state's size, and distances of the orbit's.
        error = rtol * jnp.maximum(1, 1 / self.diameter)
        early = (AT_CORNERS if corners else EXACT_RETURN) * error
        late = jnp.maximum(EXACT_RETURN * error, NO_FARTHER * self.early)
        near = self.distances <= jnp.stack([early, early, late])
        return jnp.all((alike & near) | ~jnp.isfinite(self.returns), axis=0)

    def is_late(self, time: Float[Array, " lanes"]) -> Bool[Array, " lanes"]:
        """Whether the late return should have come by now."""
        return time > (LATE_TURN + 0.5) * self.returns[0]

    def anew(self, again: Bool[Array, " lanes"]) -> "Watch":
        """With a new attempt, from the next step on, in these lanes."""
        fresh = Watch(
            self.stepper, self.unit, self.start, self.normal, self.since,
            first_step=self.stepper.num_steps, turned=jnp.zeros_like(self.turned),
            attempt=self.attempt + 1, diameter=jnp.zeros_like(self.diameter),
            last_diameter=self.diameter, last_distance=self.early,
            returns=jnp.full_like(self.returns, jnp.inf),
            distances=jnp.full_like(self.distances, jnp.inf),
        )  # fmt: skip
        return jax.tree.map(lambda a, b: jnp.where(again, a, b), fresh, self)


def find_periods(problem: Problem, state: State, phase: Phase, queue: Queue) -> Float[Array, " m"]:
    """The periods of the trajectories in the queue that lie on a cycle, and 0 for all others: at
    the second level's tolerances, unless steps ten times looser find another period."""
    tight = tolerances_at(problem.flow, 1, state.x.dtype)

    def look(k, carry):
        period, before, queue = carry
        looser = jnp.where(k == 0, 1, jnp.asarray(LOOSER, state.x.dtype))
        rest = (tight.steady_rtol, tight.steady_atol)
        tolerances = Tolerances(looser * tight.rtol, looser * tight.atol, *rest)
        found, early, late = periods_at(tolerances, problem, state, phase, queue)
        # One of them may have missed a turn or two.
        turns = jnp.maximum(found, period) / jnp.minimum(found, period)
        alike = (jnp.abs(turns - jnp.round(turns)) < PERIODS_ALIKE) & (turns < MISSED)
        # Loose steps over the corners of threshold-linear dynamics may find none, which says
        # nothing; on smooth ones it does.
        silent = (found == 0) & is_threshold_linear(problem.network)
        drifts = (before > 0) & ~silent & ~(late > ERRORS * before)
        kept = jnp.where((alike | silent) & ~drifts, period, 0)
        period = jnp.where(k == 0, found, kept)
        far = late > jnp.maximum(DRIFT * early, EXACT_RETURN / 3 * tight.rtol)
        return period, jnp.where(far & jnp.isfinite(late), late, 0), Queue.where(period > 0)

    start = (jnp.zeros_like(state.period), jnp.zeros_like(state.period), queue)
    return jax.lax.fori_loop(0, 2, look, start)[0]


def periods_at(
    tolerances: Tolerances, problem: Problem, state: State, phase: Phase, queue: Queue
) -> Float[Array, "3 m"]:
    """The same by these tolerances alone; and the distances of the first returns and of the late
    one, as shares of the diameter."""
    inputs, flow = problem.inputs, problem.flow
    stepper, lanewise = flow.stepper(problem.network), in_lanes(problem.network)
    corners = is_threshold_linear(problem.network)
    awaited = AWAITED_STEPS * jnp.maximum(1.0, 1e-7 / tolerances.rtol) ** 0.2

    def load(period, rows) -> Watch:
        del period
        x, i, scale = (a.at[rows].get(mode="clip") for a in (state.x, inputs, state.scale))
        lanes = init(stepper, x.T, i.T, scale.T, tolerances)
        zero, none = jnp.zeros_like(lanes.time), jnp.zeros_like(lanes.num_steps)
        never = jnp.full((3, *zero.shape), jnp.inf, zero.dtype)
        return Watch(
            lanes, lanes.unit, start=lanes.x, normal=jnp.zeros_like(lanes.x),
            since=zero, first_step=none + LEAD, turned=none > 0, attempt=none, diameter=zero,
            last_diameter=zero, last_distance=never[0], returns=never, distances=never,
        )  # fmt: skip

    def step(watch: Watch, running):
        old = watch.stepper
        before = stepper.velocity(old.memory, old.x, old.i)
        # a is where the lead ends, or where a new attempt begins.
        here = (old.num_steps == watch.first_step) & ~jnp.isfinite(watch.returns[0])
        start = jnp.where(here, old.x, watch.start)
        normal = jnp.where(here, before / watch.unit**2, watch.normal)
        since = jnp.where(here, old.time, watch.since)

        new, moved, dt = masked_step(stepper, old, running, tolerances)
        after = stepper.velocity(new.memory, new.x, new.i)
        watched = moved & (old.num_steps >= watch.first_step)
        far = jnp.maximum(watch.diameter, _norm((new.x - start) / watch.unit))
        diameter = jnp.where(watched, far, watch.diameter)

        # Does this step cross the section upwards?
        def height(vectors):
            return jnp.sum(normal * vectors, axis=0)

        low, high = height(old.x - start), height(new.x - start)
        rise, climb = dt * height(before), dt * height(after)

        def find_crossing():
            """Where the cubic through the step's ends crosses it, by a step that ends there, and on
            along the velocity."""

            def bisect(_, ends):
                first, last = ends
                middle = (first + last) / 2
                below = hermite(middle, low, high, rise, climb) < 0
                return jnp.where(below, middle, first), jnp.where(below, last, middle)

            ends = (jnp.zeros_like(dt), jnp.ones_like(dt))
            part = sum(jax.lax.fori_loop(0, 20, bisect, ends)) / 2 * dt
            sizes = tolerances.of_steps(old.scale)
            place = stepper.step(old.x, old.i, part, old.memory, sizes)[0]
            velocity = lanewise.vector_field(jnp.zeros((), place.dtype), place, old.i)
            left = height(start - place) / height(velocity)
            return place + left * velocity, part + left

        crossing = watched & (low < 0) & (high >= 0)
        # No lane is spared by a `cond`, but most steps of a few lanes are.
        place, part = jax.lax.cond(jnp.any(crossing), find_crossing, lambda: (new.x, dt))
        time = old.time + part - since
        distance = _norm((place - start) / watch.unit) / diameter
        near = crossing & (distance <= RETURN)
        known = jnp.isfinite(watch.returns)
        late = time > (LATE_TURN - 0.5) * watch.returns[0]
        arrived = jnp.stack([
            near & ~known[0], near & ~known[1] & (time > 1.5 * watch.returns[0]),
            near & known[1] & ~known[2] & late,
        ])  # fmt: skip
        watch = Watch(
            new, watch.unit, start, normal, since, watch.first_step,
            turned=watch.turned | (watched & (climb < 0)),
            attempt=watch.attempt, diameter=diameter, last_diameter=watch.last_diameter,
            last_distance=watch.last_distance,
            returns=jnp.where(arrived, time, watch.returns),
            distances=jnp.where(arrived, distance, watch.distances),
        )  # fmt: skip

        _, returned, whole = jnp.isfinite(watch.returns)
        overdue = ~whole & watch.is_late(new.time - since)
        left = returned & (overdue | ~watch.closes(tolerances.rtol, corners))
        alike = jnp.abs(diameter - watch.last_diameter) < ALIKE * diameter
        converging = watch.early < CONVERGING * watch.last_distance
        attempts = jnp.where(converging, MORE_ATTEMPTS, ATTEMPTS)
        again = left & (watch.attempt < attempts) & (alike | (watch.attempt == 0))
        watch = watch.anew(again)
        waited = new.num_steps - watch.first_step
        # For the late return as long in proportion.
        turns = jnp.where(returned & ~again, LATE_TURN / 2, 1)
        patient = waited < jnp.where(watch.turned, turns, UNTURNED) * awaited
        # In the end, long periods and many steps a turn are waited for, too.
        early = new.time - since < AWAITED_SHARE * phase.t1
        patient |= phase.final & early & (waited < flow.max_steps)
        # Before the end, what has come to rest by now is left to the next phase.
        slow = jnp.abs(lanewise.tau * after) <= tolerances.at_rest(new.x, new.scale)
        patient &= phase.final | ~jnp.all(slow, axis=0)
        return watch, running & patient & (again | ~(left | whole))

    def advance(watch, running):
        return jax.lax.fori_loop(0, STEPS_PER_VISIT, lambda _, c: step(*c), (watch, running))

    def store(period, rows, watch: Watch):
        rest = _norm(tolerances.at_rest(watch.start, watch.stepper.scale) / watch.unit)
        # Where time ran out before, the late return is missing.
        time = watch.stepper.time - watch.since
        there = jnp.isfinite(watch.returns[2]) | ~watch.is_late(time)
        cycle = jnp.isfinite(watch.returns[1]) & watch.closes(tolerances.rtol, corners) & there
        # The later turns' mean: the first ones may still approach the cycle.
        _, second, late = watch.returns
        mean = jnp.where(jnp.isfinite(late), (late - second) / (LATE_TURN - 2), second / 2)
        found = jnp.where(cycle & (watch.diameter > 10 * rest), mean, 0)
        columns = jnp.stack([found, watch.early, watch.distances[2]])
        return period.at[:, rows].set(columns, mode="drop")

    lanes = watched_lanes(flow.num_lanes(problem.network, len(inputs)))
    nothing = jnp.zeros((3, len(state.period)), state.period.dtype)
    return run_lanes(queue, lanes, load, advance, store, nothing)


def _norm(lanes: Float[Array, "n lanes"]) -> Float[Array, " lanes"]:
    return jnp.sqrt(jnp.sum(jnp.square(lanes), axis=0))


def hermite(s, start, end, start_slope, end_slope):
    """The cubic on 0 <= s <= 1 with these values and slopes at its ends."""
    rising = s**2 * (3 - 2 * s)
    return (
        (1 - rising) * start
        + rising * end
        + s * (1 - s) ** 2 * start_slope
        + s**2 * (s - 1) * end_slope
    )
