r"""Cycles of maps: after how many steps does a trajectory return, exactly?

Let x_1, x_2, ... follow a state x_0. The period is the smallest k with x_k = x_0, to some roundings
of each component's size, as long as x_2k, x_3k and x_4k are x_0 as well, and the orbit attracts: in
each turn a deviation d, carried along by d <- dF/dx d, shrinks by a factor mu < 1. A chaotic orbit
that comes back by chance fails both. So may one that spirals slowly into a fixed point: the cycle
is |x_k - x_0| / (1 - mu) from x_0, which must be far less than its own diameter. So may one that
alternates on its way to a shorter cycle: the orbit must not come near x_0 after a part of k steps.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._accuracy import LONGEST_CYCLE, NEARNESS, RETURNED, TURNS
from .._speed import watched_rows
from .._state import State
from ..stepping import Queue, in_blocks
from ._stage import Problem


def find_map_periods(problem: Problem, state: State, queue: Queue) -> Float[Array, " m"]:
    """The periods, in steps, of the trajectories in the queue that lie on an attracting cycle, and
    0 for all others."""
    network = problem.network

    def step(x, i):
        return jax.vmap(network.step)(x, i)

    def treat(period, x, scale, i, valid):
        del period
        unit = jnp.maximum(jnp.abs(x), scale)
        close = RETURNED * jnp.finfo(x.dtype).eps * jnp.where(unit > 0, unit, 1)

        def is_back(there):
            return jnp.all(jnp.abs(there - x) <= close, axis=1)

        def look(k, carry):
            there, period = carry
            there = step(there, i)
            first = is_back(there) & (period == 0)
            return there, jnp.where(first, k + 1, period)

        none = jnp.zeros(len(x), jnp.int32)
        period = jax.lax.fori_loop(0, LONGEST_CYCLE, look, (x, none))[1]

        def distance(there):
            return jnp.max(jnp.abs(there - x) / close, axis=1)

        def follow(k, carry):
            there, d, growth, diameter, off, nearest = carry
            there, d = jax.jvp(lambda x: step(x, i), (there,), (d,))
            size = jnp.sqrt(jnp.sum(jnp.square(d), axis=1))
            due = (k + 1) % jnp.maximum(period, 1) == 0
            within, part = k < TURNS * period, (k + 1 < period) & (period % (k + 1) == 0)
            # In the turns after these, when the deviation points where it shrinks least.
            counts = ~within & (k < 2 * TURNS * period)
            growth = growth + jnp.where(counts, jnp.log(size), 0)
            d = d / jnp.where(size > 0, size, 1)[:, None]
            off_now = distance(there)
            nearest = jnp.where(part, jnp.minimum(nearest, off_now), nearest)
            far = jnp.where(within, off_now, 0)
            diameter, off = jnp.maximum(diameter, far), jnp.where(due, far, 0) + off
            return there, d, growth, diameter, off, nearest

        d = jax.random.normal(jax.random.key(0), x.shape, x.dtype)
        d = d / jnp.linalg.norm(d, axis=1, keepdims=True)
        zero = jnp.zeros(len(x), x.dtype)
        longest = 2 * TURNS * jnp.max(jnp.where(valid, period, 0))
        start = (x, d, zero, zero, zero, zero + jnp.inf)
        _, _, growth, diameter, off, nearest = jax.lax.fori_loop(0, longest, follow, start)
        # Distances are in units of what rounding may leave; a period of one is a fixed point.
        shrinks = -jnp.expm1(growth / TURNS)
        near = (off / TURNS + 1 / RETURNED) / shrinks < NEARNESS * diameter
        near &= nearest > NEARNESS * diameter
        cycle = (period > 1) & (shrinks > 0) & (off <= TURNS) & near
        return jnp.where(cycle, period, 0).astype(x.dtype)

    size = watched_rows(network.num_neurons)
    unknown = jnp.zeros_like(state.period)
    return in_blocks(queue, size, treat, unknown, state.x, state.scale, problem.inputs)
