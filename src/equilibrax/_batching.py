"""Batches cut into chunks of one shape, and put together again.

Rows that live on a CPU are cut and joined by NumPy, since JAX would compile a program for each size
of batch; rows on an accelerator never leave it.
"""

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

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

    def store(self, rows: slice | np.ndarray, part: PyTree) -> None:
        """Write these rows."""
        leaves, structure = jax.tree.flatten(part)
        with self._beginning:
            if self.structure is None:
                self.columns = [np.empty((self.count, *a.shape[1:]), a.dtype) for a in leaves]
                self.structure = structure
        for column, leaf in zip(self.columns, leaves, strict=True):
            column[rows] = leaf

    @property
    def whole(self) -> Any:
        """All rows."""
        return jax.tree.unflatten(self.structure, self.columns)


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
