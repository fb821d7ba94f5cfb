"""Batches cut into chunks of one shape, and put together again.

Rows that live on a CPU are cut and joined by NumPy, since JAX would compile a program for each size
of batch; rows on an accelerator never leave it.
"""

import functools
import itertools
import threading
from collections.abc import Sequence
from typing import Any

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


def filled(rows: np.ndarray, value: np.ndarray, size: int, device: Device) -> Array:
    """The rows on this device, filled up to `size` rows with one value."""
    if device.platform == "cpu":
        column = np.empty((size, *rows.shape[1:]), rows.dtype)
        column[: len(rows)], column[len(rows) :] = rows, value
        return jax.device_put(column, device)
    with jax.default_device(device):
        return _filled(_padded(rows, value), value, size)


@functools.partial(jax.jit, static_argnums=2)
def _filled(rows: Array, value: Array, size: int) -> Array:
    whole = jnp.broadcast_to(value, (size, *rows.shape[1:]))
    return jax.lax.dynamic_update_slice_in_dim(whole, rows[:size], 0, 0)


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
        self.replace(slice(*span), part)

    def replace(self, rows: slice | np.ndarray, part: PyTree) -> None:
        """Write these rows, of which all have been written before or are being so."""
        for column, leaf in zip(self.columns, jax.tree.leaves(part), strict=True):
            column[rows] = leaf

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
        """Put other, few rows in the place of these, which are in order."""
        self.replaced.append((rows, jax.tree.map(np.asarray, part)))

    @property
    def whole(self) -> Any:
        """All rows."""
        return concatenated([self._mended(span) for span in sorted(self.parts)])

    def _mended(self, span: tuple[int, int]) -> PyTree:
        part, (first, stop) = self.parts.pop(span), span
        for rows, new in self.replaced:
            inside = slice(*np.searchsorted(rows, span))
            if len(rows[inside]):
                here = _padded(rows[inside] - first, stop - first)
                few = [_padded(column[inside], 0) for column in jax.tree.leaves(new)]
                part = _with_rows(part, here, jax.tree.unflatten(jax.tree.structure(new), few))
        return part


def taken(
    columns: Sequence[Array], mask: UInt8[Array, " m"], bit: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The rows whose mask has the bit, and these rows of every column; on the host."""
    wanted = at_home(mask)
    if isinstance(wanted, np.ndarray):
        rows = np.flatnonzero(wanted & bit)
        return rows, [np.asarray(column)[rows] for column in columns]
    count = int(_count(wanted, bit))
    size = min(len(wanted), _round_number(count))
    first, *columns = _taken(columns, wanted, bit, size)
    return np.asarray(first)[:count], [np.asarray(column)[:count] for column in columns]


def _round_number(count: int) -> int:
    """The next power of two, so that few programs are compiled."""
    return 2 ** max(5, (count - 1).bit_length())


def _padded(rows: np.ndarray, value: Any) -> np.ndarray:
    """The rows, and so many of one value that their number is round."""
    padded = np.full((_round_number(len(rows)), *rows.shape[1:]), value, rows.dtype)
    padded[: len(rows)] = rows
    return padded


@jax.jit
def _count(mask: UInt8[Array, " m"], bit: int) -> Int[Array, ""]:
    return jnp.sum((mask & jnp.uint8(bit)) != 0)


@functools.partial(jax.jit, static_argnums=3)
def _taken(
    columns: Sequence[Array], mask: UInt8[Array, " m"], bit: int, size: int
) -> Sequence[Array]:
    rows = jnp.nonzero((mask & jnp.uint8(bit)) != 0, size=size)[0]
    return [rows, *(column[rows] for column in columns)]


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


def first_rows(tree: PyTree, count: int) -> Any:
    """The first rows of every array; as NumPy arrays, without a copy, if they live on a CPU."""
    return jax.tree.map(lambda a: at_home(a)[:count], tree)


def at_home(rows: Array) -> Any:
    """The array as NumPy's, without a copy, if it lives on a CPU; otherwise itself."""
    return np.asarray(rows) if next(iter(rows.devices())).platform == "cpu" else rows
