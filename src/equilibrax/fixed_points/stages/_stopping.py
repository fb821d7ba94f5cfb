"""When integration stops, lane by lane."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._accuracy import DOUBLINGS, NO_SLOWER
from .._state import StopReason

PerLane = Float[Array, " lanes"]


def reason_to_stop(
    at_rest: Bool[Array, " lanes"],
    time: PerLane,
    num_steps: Int[Array, " lanes"],
    end: Float[Array, ""],
    t1: Float[Array, ""],
    max_steps: int,
) -> Int[Array, " lanes"]:
    """The first `StopReason` of trajectories that have got so far, in a phase that ends at `end`;
    `NONE` where they go on."""
    reason = jnp.where(time >= end, int(StopReason.PHASE_END), int(StopReason.NONE))
    exhausted = (time >= t1) | (num_steps >= max_steps)
    reason = jnp.where(exhausted, int(StopReason.EXHAUSTED), reason)
    return jnp.where(at_rest, int(StopReason.AT_REST), reason)


def followed(
    growth: Sequence[PerLane], size: PerLane, time: PerLane, divergence: float
) -> tuple[list[PerLane], Bool[Array, " lanes"]]:
    """The `growth` of trajectories that are so large by now, five numbers each, and whether they
    are growing without bound: they have doubled `DOUBLINGS` times beyond the divergence bound, and
    as many times again no slower. What is too large for the dtype is, too."""
    extent, first, since, half, then = growth
    doublings = jnp.log2(size / (divergence * extent))
    begins = jnp.isnan(first) & (doublings > 0)
    first, since = jnp.where(begins, doublings, first), jnp.where(begins, time, since)
    midway = jnp.isnan(half) & (doublings >= DOUBLINGS)
    half, then = jnp.where(midway, doublings, half), jnp.where(midway, time, then)
    lately, before = (time - then) * (half - first), (then - since) * (doublings - half)
    steady = (doublings >= 2 * DOUBLINGS) & (lately <= NO_SLOWER * before)
    largest = jnp.maximum(float(jnp.finfo(size.dtype).max) ** 0.75, divergence * extent)
    escaped = steady | (size > largest)
    return [extent, first, since, half, then], escaped
