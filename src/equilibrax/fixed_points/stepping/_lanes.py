"""Many trajectories through few lanes.

A batch in lockstep runs until its slowest member is done. Here a fixed number of lanes is
kept in flight instead: all of them advance a few steps, those that have ended are stored,
and the next rows of a queue take their places.

Arrays of lanes have the lane as their *last* axis: a CPU's vector units want n short, contiguous
rows.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

Buffers = TypeVar("Buffers")


class Lanes(eqx.Module):
    """The trajectories in flight.

    - `row`: which row of the buffers each lane works on; the number of rows if idle.
    - `state`: any pytree of arrays (..., lanes).
    """

    row: Int[Array, " lanes"]
    state: Any


class Queue(eqx.Module):
    """Rows to be worked on, of m in all: the first `count` of `rows`."""

    rows: Any  # int32, shape (m,); m itself beyond the count
    count: Any  # int32

    @classmethod
    def where(cls, mask: Bool[Array, " m"]) -> "Queue":
        """The rows where `mask` holds, in order."""
        m = mask.shape[0]
        rows = jnp.nonzero(mask, size=m, fill_value=m)[0].astype(jnp.int32)
        return cls(rows, jnp.sum(mask, dtype=jnp.int32))

    def at(self, place: Int[Array, " k"]) -> Int[Array, " k"]:
        """The rows at these places; the number of all rows for a place past the count."""
        rows = self.rows.at[place].get(mode="clip")
        return jnp.where(place < self.count, rows, len(self.rows))


def run_lanes(
    queue: Queue,
    num_lanes: int,
    load: Callable[[Buffers, Int[Array, " lanes"]], Any],
    advance: Callable[[Any, Bool[Array, " lanes"]], tuple[Any, Bool[Array, " lanes"]]],
    store: Callable[[Buffers, Int[Array, " lanes"], Any], Buffers],
    buffers: Buffers,
) -> Buffers:
    """Work through the rows of the queue, `num_lanes` of them at a time.

    - `load(buffers, rows)`: the state of lanes that begin on these rows.
    - `advance(state, running)`: all lanes some steps on, and which are still running; a lane
      that is not running must not change.
    - `store(buffers, rows, state)`: write ended lanes back; out-of-range rows are dropped.
    """
    m = len(queue.rows)

    def unfinished(carry):
        _, lanes, head = carry
        return (head < queue.count) | jnp.any(lanes.row < m)

    def turn(carry):
        buffers, lanes, head = carry
        free = lanes.row == m
        place = head + jnp.cumsum(free, dtype=jnp.int32) - 1
        rows = jnp.where(free, queue.at(place), m)
        fresh = rows < m
        loaded = load(buffers, rows)
        state = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), loaded, lanes.state)
        row = jnp.where(fresh, rows, lanes.row)
        state, running = advance(state, row < m)
        ended = (row < m) & ~running
        buffers = store(buffers, jnp.where(ended, row, m), state)
        return (
            buffers,
            Lanes(jnp.where(ended, m, row), state),
            head + jnp.sum(fresh, dtype=jnp.int32),
        )

    empty = jnp.full(num_lanes, m, jnp.int32)
    blank = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eqx.filter_eval_shape(load, buffers, empty)
    )
    carry = (buffers, Lanes(empty, blank), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, turn, carry)[0]


def in_blocks(
    queue: Queue,
    size: int,
    treat: Callable[..., Any],
    state: Any,
    *shared: Array,
) -> Any:
    """`treat(block, *rows of the shared arrays)` for the queue's rows, `size` at a time.

    A block holds these rows of every array in `state`, and `treat` returns it changed; arrays that
    it passes on are not written back. Blocks are of one shape: the last one is padded with copies
    that are not written back.
    """
    m = len(queue.rows)
    size = min(size, m)

    def block(carry):
        k, state = carry
        rows = queue.at(k * size + jnp.arange(size, dtype=jnp.int32))
        old, *others = jax.tree.map(lambda a: a.at[rows].get(mode="clip"), (state, *shared))

        def write(column, old, new):
            return column if new is old else column.at[rows].set(new, mode="drop")

        return k + 1, jax.tree.map(write, state, old, treat(old, *others, rows < m))

    start = (jnp.zeros((), jnp.int32), state)
    return jax.lax.while_loop(lambda carry: carry[0] * size < queue.count, block, start)[1]
