"""Many journeys through few lanes.

A batch in lockstep runs until its slowest member is done. Here a fixed number of lanes is
kept in flight instead: all of them advance a few steps, those that have ended are stored,
and the next ones from a queue take their places.

Everything in a lane has the lane as its *last* axis: n short, contiguous rows are what a
CPU's vector units want.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

Buffers = TypeVar("Buffers")


class Lanes(eqx.Module):
    """What is in flight.

    - `row`: which row of the buffers each lane works on; the number of rows if on none.
    - `cargo`: whatever is carried, any pytree of arrays (..., lanes).
    """

    row: Int[Array, " lanes"]
    cargo: Any


class Queue(eqx.Module):
    """The first `count` of these rows are to be worked on; m is the number of all rows."""

    rows: Int[Array, " m"]
    count: Int[Array, ""]

    @classmethod
    def where(cls, mask: Bool[Array, " m"]) -> "Queue":
        """The rows where `mask` holds, in order."""
        m = mask.shape[0]
        rows = jnp.nonzero(mask, size=m, fill_value=m)[0].astype(jnp.int32)
        return cls(rows, jnp.sum(mask, dtype=jnp.int32))

    def only(self, mask: Bool[Array, " m"]) -> "Queue":
        """Those of the queue where `mask` holds, in the same order."""
        m = len(self.rows)
        kept = Queue.where(mask.at[self.rows].get(mode="fill", fill_value=False))
        return Queue(self.rows.at[kept.rows].get(mode="fill", fill_value=m), kept.count)

    def __getitem__(self, place: Int[Array, " k"]) -> Int[Array, " k"]:
        """The rows at these places; the number of all rows for a place past the count."""
        rows = self.rows.at[place].get(mode="clip")
        return jnp.where(place < self.count, rows, len(self.rows))


def pool(
    queue: Queue,
    num_lanes: int,
    load: Callable[[Buffers, Int[Array, " lanes"]], Any],
    advance: Callable[[Any, Bool[Array, " lanes"]], tuple[Any, Bool[Array, " lanes"]]],
    store: Callable[[Buffers, Int[Array, " lanes"], Any], Buffers],
    buffers: Buffers,
    few: int = 0,
) -> Buffers:
    """Work through the rows of the queue, `num_lanes` of them at a time.

    - `load(buffers, rows)`: the cargo of lanes that begin on these rows.
    - `advance(cargo, running)`: all lanes some steps on, and which are still running; a lane
      that is not running may be changed no more.
    - `store(buffers, rows, cargo)`: write ended lanes back; a row past the end is to be
      dropped.

    The last `few` rows, if any, move on to so many lanes: a step of all takes longer.
    """
    m = len(queue.rows)

    def left(carry):
        _, lanes, head = carry
        return queue.count - head + jnp.sum(lanes.row < m, dtype=jnp.int32)

    def turn(carry):
        buffers, lanes, head = carry
        free = lanes.row == m
        place = head + jnp.cumsum(free, dtype=jnp.int32) - 1
        rows = jnp.where(free, queue[place], m)
        fresh = rows < m
        loaded = load(buffers, rows)
        cargo = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), loaded, lanes.cargo)
        row = jnp.where(fresh, rows, lanes.row)
        cargo, running = advance(cargo, row < m)
        ended = (row < m) & ~running
        buffers = store(buffers, jnp.where(ended, row, m), cargo)
        return (
            buffers,
            Lanes(jnp.where(ended, m, row), cargo),
            head + jnp.sum(fresh, dtype=jnp.int32),
        )

    empty = jnp.full(num_lanes, m, jnp.int32)
    blank = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eqx.filter_eval_shape(load, buffers, empty)
    )
    carry = (buffers, Lanes(empty, blank), jnp.zeros((), jnp.int32))
    buffers, lanes, head = jax.lax.while_loop(lambda carry: left(carry) > few, turn, carry)
    if few == 0:
        return buffers
    taken = jnp.nonzero(lanes.row < m, size=few, fill_value=num_lanes)[0]
    lanes = Lanes(
        lanes.row.at[taken].get(mode="fill", fill_value=m),
        jax.tree.map(lambda leaf: leaf.at[..., taken].get(mode="clip"), lanes.cargo),
    )
    return jax.lax.while_loop(lambda carry: left(carry) > 0, turn, (buffers, lanes, head))[0]


def in_blocks(
    queue: Queue,
    size: int,
    treat: Callable[[Buffers, Int[Array, " block"]], Buffers],
    buffers: Buffers,
) -> Buffers:
    """`treat` the rows of the queue, about `size` at a time; a row past the end is none."""
    size = max(1, min(size, len(queue.rows)))

    def block(carry):
        k, buffers = carry
        place = k * size + jnp.arange(size, dtype=jnp.int32)
        return k + 1, treat(buffers, queue[place])

    start = (jnp.zeros((), jnp.int32), buffers)
    return jax.lax.while_loop(lambda carry: carry[0] * size < queue.count, block, start)[1]
