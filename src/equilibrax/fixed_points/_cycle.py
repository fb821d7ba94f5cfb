r"""Limit cycles: does a trajectory return to where it was?

From a point a on the trajectory, with velocity f_a, the section is the hyperplane
f_a . (x - a) = 0. The trajectory crosses it again, in the same direction, once or
more in each period. A crossing near a is a return. Two returns, the second after twice
the time of the first, make a cycle, unless the distance from a keeps growing from one
to the next as it does on a spiral towards a fixed point or away from it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..networks import AbstractDynamics
from ._flow import Flow
from ._journey import STEPS_PER_TURN, Log
from ._lanes import Queue, pool
from ._steps import Ride, board, ride_on

NEAR = 1e-2
"""Largest distance of a return from its start, as a share of the orbit's diameter."""

EXACT = 1000.0
"""Returns within this many relative tolerances of the diameter make a cycle even where the
distance grows: a smaller drift in a period is below what the solver can tell from none."""

STEPS = 512
"""Solver steps from a within which two returns are awaited, at a relative tolerance of 1e-7; more
at tighter ones, in the proportion of a solver of order five."""

UNTURNED = 1 / 4
"""Share of these steps after which a trajectory that still goes its first way is given up: what
merely is slow goes straight on."""

LEAD = 64
"""Steps that let the trajectory shed what the looser tolerances before left of it."""

ATTEMPTS = 8
"""Times that the watch begins anew, from where it is, when the orbit did not close, but its
diameter is the same within `ALIKE`: it may still be approaching a cycle."""

ALIKE = 0.05


class Watch(eqx.Module):
    """A lane that is watched for returns; times count from the start of the watch."""

    ride: Ride
    start: Float[Array, "n lanes"]  # a
    normal: Float[Array, "n lanes"]  # f_a
    since: Float[Array, " lanes"]  # the time at a
    first_step: Int[Array, " lanes"]  # and the number of steps
    turned: Bool[Array, " lanes"]  # whether the velocity has pointed against f_a since
    attempt: Int[Array, " lanes"]
    diameter: Float[Array, " lanes"]
    last_diameter: Float[Array, " lanes"]
    returns: Float[Array, "2 lanes"]  # the times of the two returns after that at a
    distances: Float[Array, "2 lanes"]  # and how far from a they were

    def closed(self, rtol: Float[Array, ""]) -> Bool[Array, " lanes"]:
        """Whether two returns make a cycle."""
        first, second = self.returns
        near = self.distances[1] <= jnp.maximum(EXACT * rtol, 1.5 * self.distances[0])
        return (jnp.abs(second / first - 2) < 0.02) & near

    def anew(self, again: Bool[Array, " lanes"]) -> "Watch":
        """With a new attempt, from the next step on, in these lanes."""
        fresh = Watch(
            self.ride, self.start, self.normal, self.since,
            first_step=self.ride.num_steps, turned=jnp.zeros_like(self.turned),
            attempt=self.attempt + 1, diameter=jnp.zeros_like(self.diameter),
            last_diameter=self.diameter, returns=jnp.full_like(self.returns, jnp.inf),
            distances=jnp.full_like(self.distances, jnp.inf),
        )  # fmt: skip
        return jax.tree.map(lambda a, b: jnp.where(again, a, b), fresh, self)


def find_periods(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    log: Log,
    queue: Queue,
    flow: Flow,
) -> Log:
    """The log, with the `period` of those in the queue that lie on a cycle, and 0 for the
    others. The journeys themselves do not go on."""
    steps = flow.steps(network)
    tight = flow.tolerances(jnp.asarray(1), inputs.dtype)
    awaited = STEPS * jnp.maximum(1, 1e-7 / tight.rtol) ** 0.2

    def load(log: Log, rows) -> Watch:
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        ride = board(steps, part.x.T, i.T, part["scale"], tight)
        zero, none = jnp.zeros_like(ride.time), jnp.zeros_like(ride.num_steps)
        never = jnp.full((2, *zero.shape), jnp.inf, zero.dtype)
        return Watch(
            ride, start=ride.x, normal=jnp.zeros_like(ride.x), since=zero,
            first_step=none + LEAD, turned=none > 0, attempt=none, diameter=zero,
            last_diameter=zero, returns=never, distances=never,
        )  # fmt: skip

    def step(watch: Watch, running):
        old = watch.ride
        before = steps.velocity(old.memory, old.x, old.i)
        # a is where the lead ends, or where a new attempt begins.
        here = (old.num_steps == watch.first_step) & ~jnp.isfinite(watch.returns[0])
        start = jnp.where(here, old.x, watch.start)
        normal = jnp.where(here, before, watch.normal)
        since = jnp.where(here, old.time, watch.since)

        new, moved, dt = ride_on(steps, old, running, tight)
        after = steps.velocity(new.memory, new.x, new.i)
        watched = moved & (old.num_steps >= watch.first_step)
        far = jnp.maximum(watch.diameter, _norm(new.x - start))
        diameter = jnp.where(watched, far, watch.diameter)

        # Does this step cross the section upwards? Each step is the cubic through its ends.
        def height(vectors):
            return jnp.sum(normal * vectors, axis=0)

        low, high = height(old.x - start), height(new.x - start)
        rise, climb = dt * height(before), dt * height(after)

        def bisect(ends):
            first, last = ends
            middle = (first + last) / 2
            below = hermite(middle, low, high, rise, climb) < 0
            return jnp.where(below, middle, first), jnp.where(below, last, middle)

        crossing = watched & (low < 0) & (high >= 0)
        ends = (jnp.zeros_like(dt), jnp.ones_like(dt))
        # No lane is spared by a `cond`, but most steps of a few lanes are.
        first, last = jax.lax.cond(
            jnp.any(crossing),
            lambda ends: jax.lax.fori_loop(0, 20, lambda _, ends: bisect(ends), ends),
            lambda ends: ends,
            ends,
        )
        share = (first + last) / 2
        place = hermite(share, old.x, new.x, dt * before, dt * after)
        time = old.time + share * dt - since
        distance = _norm(place - start) / diameter
        near = crossing & (distance <= NEAR)
        known = jnp.isfinite(watch.returns)
        arrived = jnp.stack([near & ~known[0], near & ~known[1] & (time > 1.5 * watch.returns[0])])
        watch = Watch(
            new, start, normal, since, watch.first_step,
            turned=watch.turned | (watched & (climb < 0)),
            attempt=watch.attempt, diameter=diameter, last_diameter=watch.last_diameter,
            returns=jnp.where(arrived, time, watch.returns),
            distances=jnp.where(arrived, distance, watch.distances),
        )  # fmt: skip

        returned, closed = jnp.isfinite(watch.returns[1]), watch.closed(tight.rtol)
        alike = jnp.abs(diameter - watch.last_diameter) < ALIKE * diameter
        again = returned & ~closed & (watch.attempt < ATTEMPTS) & (alike | (watch.attempt == 0))
        watch = watch.anew(again)
        waited = new.num_steps - watch.first_step
        patient = waited < jnp.where(watch.turned, 1, UNTURNED) * awaited
        return watch, running & patient & (again | ~returned)

    def advance(watch, running):
        return jax.lax.fori_loop(0, STEPS_PER_TURN, lambda _, c: step(*c), (watch, running))

    def store(log: Log, rows, watch: Watch) -> Log:
        size = jnp.max(jnp.abs(watch.start), axis=0)
        rest = tight.steady_atol * watch.ride.scale + tight.steady_rtol * size
        cycle = (watch.diameter > 10 * rest) & watch.closed(tight.rtol)
        part = log.take(rows)
        return log.put(rows, part.replace(period=jnp.where(cycle, watch.returns[1] / 2, 0)))

    lanes = max(1, flow.num_lanes(network, len(queue.rows)) // 4)
    return pool(queue, lanes, load, advance, store, log)


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
