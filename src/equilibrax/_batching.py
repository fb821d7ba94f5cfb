"""Batches cut into chunks of one shape, and put together again.

Rows that live on a CPU are cut and joined by NumPy, since JAX would compile a program for each size
of batch; rows on an accelerator never leave it.
"""

import functools
import itertools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree, UInt8

from ._types import Device


def spans(count: int, size: int, least: int = 1) -> list[tuple[int, int]]:
    """Consecutive spans of at most `size` rows, of nearly the same length, that cover `count` rows;
    a single empty one for no row. A batch that fills an eighth of `size` or more has several, up
    to four, for several workers, as long as these have `least` rows."""
    parts = max(1, -(-count // size), min(4, 8 * count // size, count // least))
    ends = [count * k // parts for k in range(parts + 1)]
    return list(itertools.pairwise(ends))


def cut(rows: Any, span: tuple[int, int], size: int, device: Device) -> Any:
    """The rows of the span on this device, padded with NaN to `size` rows; None for no
    array at all."""
    if rows is None:
        return None
    first, stop = span
    if device.platform == "cpu":
        part = np.full((size, rows.shape[1]), np.nan, rows.dtype)
        part[: stop - first] = np.asarray(rows)[first:stop]
        return jax.device_put(part, device)
    fill = ((0, size - (stop - first)), (0, 0))
    return jax.device_put(jnp.pad(rows[first:stop], fill, constant_values=jnp.nan), device)


class Collected:
    """One pytree of NumPy's arrays of so many rows, which workers fill part by part: chunks give
    their memory back as they end."""

    def __init__(self, count: int):
        self.count = count
        self.columns: list[np.ndarray] = []
        self.structure: Any = None
        self._beginning = threading.Lock()

    def store(self, span: tuple[int, int], part: PyTree) -> None:
        """Write the rows of the span."""
        leaves, structure = jax.tree.flatten(part)
        with self._beginning:
            if self.structure is None:
                self.columns = [np.empty((self.count, *a.shape[1:]), a.dtype) for a in leaves]
                self.structure = structure
        for column, leaf in zip(self.columns, leaves, strict=True):
            column[slice(*span)] = leaf

    def replace(self, rows: np.ndarray, part: PyTree) -> None:
        """Write the first rows of the part to these, of which all have been written before."""
        for column, leaf in zip(self.columns, jax.tree.leaves(part), strict=True):
            column[rows] = leaf[: len(rows)]

    @property
    def whole(self) -> Any:
        """All rows."""
        return jax.tree.unflatten(self.structure, self.columns)


class CollectedThere:
    """The same of arrays that live on accelerators, and stay there."""

    def __init__(self):
        self.parts: dict[tuple[int, int], PyTree] = {}
        self.replaced: list[tuple[np.ndarray, PyTree]] = []

    def store(self, span: tuple[int, int], part: PyTree) -> None:
        """Keep the rows of the span."""
        self.parts[span] = part

    def replace(self, rows: np.ndarray, part: PyTree) -> None:
        """Put the first rows of the part in the place of these, which are in order."""
        self.replaced.append((rows, part))

    @property
    def whole(self) -> Any:
        """All rows."""
        return concatenated([self._mended(span) for span in sorted(self.parts)])

    def _mended(self, span: tuple[int, int]) -> PyTree:
        part, (first, stop) = self.parts.pop(span), span
        home = next(iter(jax.tree.leaves(part)[0].devices()))
        for rows, new in self.replaced:
            low, high = np.searchsorted(rows, span)
            if high > low:
                here = np.full(_round_number(high - low), stop - first, np.int32)
                here[: high - low] = rows[low:high] - first
                few = jax.device_put(_consecutive(new, np.int32(low), len(here)), home)
                part = _with_rows(part, here, few)
        return part


class Taken(NamedTuple):
    """Some rows of a chunk: their numbers, on the host, and these rows of every column, which are
    NumPy's on a CPU; on an accelerator they stay there, with others after them."""

    rows: np.ndarray
    columns: Sequence[Any]


def taken(columns: Sequence[Array], mask: UInt8[Array, " m"], bit: int, first: int) -> Taken:
    """The rows whose mask has the bit; their numbers count from `first` on."""
    wanted = at_home(mask)
    if isinstance(wanted, np.ndarray):
        rows = np.flatnonzero(wanted & bit)
        return Taken(first + rows, [np.asarray(column)[rows] for column in columns])
    count = int(_count(wanted, bit))
    rows, *columns = _taken(columns, wanted, bit, min(len(wanted), _round_number(count)))
    return Taken(first + np.asarray(rows)[:count], columns)


def regrouped(
    parts: Sequence[Taken],
    span: tuple[int, int],
    idle: Sequence[np.ndarray],
    size: int,
    device: Device,
) -> list[Array]:
    """The columns of the rows that the parts have in this span, counted through all of them; on
    this device, filled up to `size` rows with an idle one."""
    ends = np.cumsum([len(part.rows) for part in parts])
    places = [(part, end - len(part.rows) - span[0]) for part, end in zip(parts, ends, strict=True)]
    length, on_cpu = span[1] - span[0], device.platform == "cpu"
    if on_cpu:
        columns = [np.broadcast_to(row, (size, *row.shape[1:])).copy() for row in idle]
    else:
        idle = jax.device_put(list(idle), device)
        columns = [jnp.broadcast_to(row, (size, *row.shape[1:])) for row in idle]
    for part, first in places:
        low, high = max(first, 0), min(first + len(part.rows), length)
        if low >= high:
            continue
        if on_cpu:
            for column, new in zip(columns, part.columns, strict=True):
                column[low:high] = new[low - first : high - first]
        else:
            new = jax.device_put(part.columns, device)
            columns = _placed(columns, new, *np.asarray([first, low, high], np.int32))
    return jax.device_put(columns, device)


@functools.partial(jax.jit, donate_argnums=0)
def _placed(columns: list[Array], new: list[Array], first: int, low: int, high: int) -> list[Array]:
    """Write new rows, the first of them to row `first`, as far as they fall into these bounds."""
    row = first + jnp.arange(len(new[0]), dtype=jnp.int32)
    row = jnp.where((low <= row) & (row < high), row, len(columns[0]))
    return [a.at[row].set(b, mode="drop") for a, b in zip(columns, new, strict=True)]


def _round_number(count: int) -> int:
    """The next power of two, so that few programs are compiled."""
    return 2 ** max(5, (int(count) - 1).bit_length())


@jax.jit
def _count(mask: UInt8[Array, " m"], bit: int) -> Int[Array, ""]:
    return jnp.sum((mask & jnp.uint8(bit)) != 0)


@functools.partial(jax.jit, static_argnums=3)
def _taken(
    columns: Sequence[Array], mask: UInt8[Array, " m"], bit: int, size: int
) -> Sequence[Array]:
    rows = jnp.nonzero((mask & jnp.uint8(bit)) != 0, size=size)[0]
    return [rows, *(column[rows] for column in columns)]


@functools.partial(jax.jit, static_argnums=2)
def _consecutive(tree: PyTree, first: Any, count: int) -> PyTree:
    rows = first + jnp.arange(count, dtype=jnp.int32)
    return jax.tree.map(lambda a: a.at[rows].get(mode="clip"), tree)


@jax.jit
def _with_rows(tree: PyTree, rows: np.ndarray, new: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a.at[rows].set(b, mode="drop"), tree, new)


def concatenated(parts: Sequence[PyTree]) -> Any:
    """One pytree, from pytrees of consecutive rows; of NumPy's arrays, if theirs are."""

    def whole(*columns: Any) -> Any:
        if isinstance(columns[0], np.ndarray):
            return np.concatenate(columns)
        home = next(iter(columns[0].devices()))
        return jnp.concatenate([jax.device_put(column, home) for column in columns])

    return jax.tree.map(whole, *parts)


def joined(parts: Sequence[PyTree], device: Device, batch: tuple[int, ...] | None = None) -> PyTree:
    """One pytree of arrays on this device, from pytrees of consecutive rows; their first axis is
    reshaped to the batch, if one is given."""
    columns, structure = jax.tree.flatten(parts[0] if len(parts) == 1 else concatenated(parts))
    if batch is not None:
        columns = [a.reshape((*batch, *a.shape[1:])) for a in columns]
    return jax.tree.unflatten(structure, jax.device_put(columns, device))


def first_rows(tree: PyTree, count: int | None) -> Any:
    """The first rows of every array, or all; as NumPy arrays, without a copy, if they live on a
    CPU."""
    return jax.tree.map(lambda a: at_home(a)[:count], tree)


def at_home(rows: Array) -> Any:
    """The array as NumPy's, without a copy, if it lives on a CPU; otherwise itself."""
    return np.asarray(rows) if next(iter(rows.devices())).platform == "cpu" else rows
