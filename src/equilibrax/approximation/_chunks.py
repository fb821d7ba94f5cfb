"""Chunks: the batches of some consecutive steps, in device memory.

A compiled loop runs a span of steps on one chunk in a single dispatch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from .._devices import rows_over


class Batch(NamedTuple):
    """The pairs of one step; rows of weight 0 do not count, and None weighs all rows alike."""

    inputs: Float[Array, "batch k"]
    targets: Float[Array, "batch outputs"]
    weights: Float[Array, " batch"] | None = None


class RandomChunk(eqx.Module):
    """All data in device memory, from which batches are drawn with replacement."""

    inputs: Float[Array, "m k"]
    targets: Float[Array, "m outputs"]
    key: Array
    batch_size: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True)

    def batches_from(self, first: Int[Array, ""]) -> "RandomBatches":
        """Draw the rows of `max_steps` batches. Drawing them together, before the loop, halves the
        time of a step."""

        def rows(t):
            key = jax.random.fold_in(self.key, t)
            return jax.random.randint(key, (self.batch_size,), 0, len(self.inputs))

        return RandomBatches(self, jax.vmap(rows)(first + jnp.arange(self.max_steps)), first)


class RandomBatches(eqx.Module):
    """Batches from step `first` on, as row numbers of a chunk."""

    chunk: RandomChunk
    rows: Int[Array, "steps batch"]
    first: Int[Array, ""]

    def batch(self, t: Int[Array, ""]) -> Batch:
        """The batch of step t."""
        rows = self.rows[t - self.first]
        batch = Batch(self.chunk.inputs[rows], self.chunk.targets[rows])
        if self.chunk.mesh is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, rows_over(self.chunk.mesh))


class BatchedChunk(eqx.Module):
    """Batches from step `first` on, one after the other."""

    inputs: Float[Array, "steps batch k"]
    targets: Float[Array, "steps batch outputs"]
    first: Int[Array, ""]
    weights: Float[Array, "steps batch"] | None = None

    @property
    def max_steps(self) -> int:
        """Upper limit on the steps of one dispatch."""
        return len(self.inputs)

    def batches_from(self, first: Int[Array, ""]) -> "BatchedChunk":
        """Return the chunk itself, which holds its batches already."""
        del first
        return self

    def batch(self, t: Int[Array, ""]) -> Batch:
        """The batch of step t."""
        t = t - self.first
        weights = None if self.weights is None else self.weights[t]
        return Batch(self.inputs[t], self.targets[t], weights)


class Span(NamedTuple):
    """A chunk and the steps of one dispatch, from `first` up to but without `stop`."""

    chunk: RandomChunk | BatchedChunk
    first: int
    stop: int


def split_steps(
    first: int, stop: int, max_steps: int, every: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Split the steps from `first` to `stop` into dispatches of at most `max_steps` each; no
    dispatch crosses a multiple of a number in `every`."""
    while first < stop:
        last = min(stop, first + max_steps, *((first // k + 1) * k for k in every))
        yield first, last
        first = last


def to_devices(column: np.ndarray, mesh: Mesh | None) -> Array:
    """Copy batches to the device, or spread each batch (the second axis) over the mesh."""
    if mesh is None:
        return jnp.asarray(column)
    sharding = NamedSharding(mesh, PartitionSpec(None, mesh.axis_names))
    column = column.astype(jax.dtypes.canonicalize_dtype(column.dtype))
    return jax.make_array_from_callback(column.shape, sharding, lambda where: column[where])
