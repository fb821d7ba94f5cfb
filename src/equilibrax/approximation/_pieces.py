"""Pieces: the batches of some consecutive steps, in device memory."""

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
    """Pairs of one step; `weights`, if there are any, are 0 for rows that are none."""

    inputs: Float[Array, "batch k"]
    targets: Float[Array, "batch outputs"]
    weights: Float[Array, " batch"] | None = None


class Drawn(eqx.Module):
    """Batches drawn with replacement from data in device memory."""

    inputs: Float[Array, "m k"]
    targets: Float[Array, "m outputs"]
    key: Array
    batch_size: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True)

    def cut(self, first: Int[Array, ""]) -> "Listed":
        """All batches of a dispatch, by the numbers of their rows. Drawing these beforehand, many
        at a time, halves the time of a step."""

        def rows(t):
            key = jax.random.fold_in(self.key, t)
            return jax.random.randint(key, (self.batch_size,), 0, len(self.inputs))

        return Listed(self, jax.vmap(rows)(first + jnp.arange(self.longest)), first)


class Listed(eqx.Module):
    """Batches from the step `first` on, as rows of what they were drawn from."""

    drawn: Drawn
    rows: Int[Array, "steps batch"]
    first: Int[Array, ""]

    def batch(self, t: Int[Array, ""]) -> Batch:
        """The batch of step t."""
        rows = self.rows[t - self.first]
        batch = Batch(self.drawn.inputs[rows], self.drawn.targets[rows])
        if self.drawn.mesh is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, rows_over(self.drawn.mesh))


class Cut(eqx.Module):
    """The batches of the steps from `first` on, already cut."""

    inputs: Float[Array, "steps batch k"]
    targets: Float[Array, "steps batch outputs"]
    first: Int[Array, ""]
    weights: Float[Array, "steps batch"] | None = None

    @property
    def longest(self) -> int:
        """Steps of one dispatch, at most."""
        return len(self.inputs)

    def cut(self, first: Int[Array, ""]) -> "Cut":
        """Itself."""
        del first
        return self

    def batch(self, t: Int[Array, ""]) -> Batch:
        """The batch of step t."""
        t = t - self.first
        weights = None if self.weights is None else self.weights[t]
        return Batch(self.inputs[t], self.targets[t], weights)


class Stretch(NamedTuple):
    """A piece, and the steps from `first` to `stop` that it is good for."""

    piece: Drawn | Cut
    first: int
    stop: int


def stops(first: int, stop: int, longest: int, every: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The steps from `first` to `stop` in dispatches that end at multiples of each of `every`."""
    while first < stop:
        last = min(stop, first + longest, *((first // k + 1) * k for k in every))
        yield first, last
        first = last


def placed(column: np.ndarray, mesh: Mesh | None) -> Array:
    """On the device; or every device's share of each batch, the second axis, on that device."""
    if mesh is None:
        return jnp.asarray(column)
    sharding = NamedSharding(mesh, PartitionSpec(None, mesh.axis_names))
    column = column.astype(jax.dtypes.canonicalize_dtype(column.dtype))
    return jax.make_array_from_callback(column.shape, sharding, lambda where: column[where])
