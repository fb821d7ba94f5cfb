r"""Limit cycles: does a trajectory return to where it was?

From a point a on the trajectory, with velocity f_a, the section is the hyperplane
f_a . (x - a) = 0. The trajectory crosses it again, in the same direction, once or
more in each period. A crossing near a is a return. Two returns, the second after twice
the time of the first, make a cycle, unless the distance from a keeps growing from one
to the next as it does on a spiral towards a fixed point or away from it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._types import Count
from ..networks import RateNetwork
from ._flow import Flow
from ._journey import STEPS_PER_TURN, Log
from ._lanes import pool

NEAR = 1e-2
"""Largest distance of a return from its start, as a share of the orbit's diameter."""

EXACT = 1000.0
"""Returns within this many relative tolerances of the diameter make a cycle even where the
distance grows: a smaller drift in a period is below what the solver can tell from none."""

STEPS = 512
"""Solver steps that are watched for two returns."""

LEAD = 64
"""Steps that let the trajectory shed what the looser tolerances before left of it."""


class Watch(eqx.Module):
    """A lane that is watched for returns; times count from the start of the watch."""

    x: Float[Array, "n lanes"]
    i: Float[Array, "n lanes"]
    scale: Float[Array, " lanes"]
    time: Float[Array, " lanes"]
    dt: Float[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    memory: Any
    start: Float[Array, "n lanes"]  # a
    normal: Float[Array, "n lanes"]  # f_a
    since: Float[Array, " lanes"]  # the time at a
    diameter: Float[Array, " lanes"]
    returns: Float[Array, "2 lanes"]  # the times of the two returns after that at a
    distances: Float[Array, "2 lanes"]  # and how far from a they were


def find_periods(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    log: Log,
    queue: Int[Array, " m"],
    count: Count,
    flow: Flow,
) -> Log:
    """The log, with the `period` of those in the queue that lie on a cycle, and 0 for the
    others. The journeys themselves do not go on."""
    steps = flow.steps(network)
    tight = flow.tolerances(jnp.asarray(1), inputs.dtype)

    def load(log: Log, rows) -> Watch:
        part = log.take(rows)
        x, i = part.x.T, inputs.at[rows].get(mode="clip").T
        dt, memory = steps.init(x, i, tight.of_solver(part["scale"]))
        zero = jnp.zeros_like(dt)
        never = jnp.full((2, *zero.shape), jnp.inf, x.dtype)
        begun = jnp.zeros(zero.shape, jnp.int32)
        return Watch(
            x, i, part["scale"], zero, dt, begun, memory, x, jnp.zeros_like(x), zero, zero, never,
            never,
        )  # fmt: skip

    def step(w: Watch, running):
        before = steps.velocity(w.memory, w.x, w.i)
        # From the lead's last step on, a is the present state.
        here = w.num_steps == LEAD
        anchor = jnp.where(here, w.x, w.start)
        normal = jnp.where(here, before, w.normal)
        since = jnp.where(here, w.time, w.since)

        new, accepted, dt, memory = steps.step(w.x, w.i, w.dt, w.memory, tight.of_solver(w.scale))
        moved = running & accepted
        x = jnp.where(moved, new, w.x)
        memory = jax.tree.map(lambda a, b: jnp.where(running, a, b), memory, w.memory)
        after = steps.velocity(memory, x, w.i)
        watched = moved & (w.num_steps >= LEAD)
        diameter = jnp.where(watched, jnp.maximum(w.diameter, _norm(x - anchor)), w.diameter)

        # Does this step cross the section upwards? Each step is the cubic through its ends.
        def height(v):
            return jnp.sum(normal * v, axis=0)

        low, high = height(w.x - anchor), height(x - anchor)
        rise, climb = w.dt * height(before), w.dt * height(after)

        def bisect(_, ends):
            first, last = ends
            middle = (first + last) / 2
            below = hermite(middle, low, high, rise, climb) < 0
            return jnp.where(below, middle, first), jnp.where(below, last, middle)

        ends = (jnp.zeros_like(dt), jnp.ones_like(dt))
        share = sum(jax.lax.fori_loop(0, 20, bisect, ends)) / 2
        place = hermite(share, w.x, x, w.dt * before, w.dt * after)
        time = w.time + share * w.dt - since
        distance = _norm(place - anchor) / diameter
        near = watched & (low < 0) & (high >= 0) & (distance <= NEAR)
        first = near & jnp.isinf(w.returns[0])
        second = near & jnp.isinf(w.returns[1]) & (time > 1.5 * w.returns[0])
        arrived = jnp.stack([first, second])
        w = Watch(
            x, w.i, w.scale, jnp.where(moved, w.time + w.dt, w.time),
            jnp.where(running, dt, w.dt), w.num_steps + running, memory,
            anchor, normal, since, diameter,
            jnp.where(arrived, time, w.returns), jnp.where(arrived, distance, w.distances),
        )  # fmt: skip
        return w, running & (w.num_steps < STEPS) & jnp.isinf(w.returns[1])

    def advance(watch, running):
        return jax.lax.fori_loop(0, STEPS_PER_TURN, lambda _, c: step(*c), (watch, running))

    def store(log: Log, rows, w: Watch) -> Log:
        first, second = w.returns
        drift = w.distances[1] <= jnp.maximum(EXACT * tight.rtol, 1.5 * w.distances[0])
        rest = tight.steady_atol * w.scale + tight.steady_rtol * jnp.max(jnp.abs(w.start), axis=0)
        cycle = (w.diameter > 10 * rest) & (jnp.abs(second / first - 2) < 0.02) & drift
        part = log.take(rows)
        return log.put(rows, part.replace(period=jnp.where(cycle, second / 2, 0)))

    return pool(queue, count, flow.num_lanes(network, queue.shape[0]), load, advance, store, log)


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
