"""Where the batches of a training come from: device memory, or a store that does not fit in there.

Batch t is a function of the key and t alone. A training takes its batches piece by piece: a piece
is in device memory and gives the batches of some consecutive steps to a compiled loop.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from .. import _checks
from .._devices import on_all_of, rows_over
from .._settings import digest_of
from ..fixed_points import Outcome
from ..sampling import Samples, SampleStore

Batch = tuple[Float[Array, "batch k"], Float[Array, "batch outputs"]]

STRETCH = 1000
"""Steps of one dispatch, where the data are in memory."""

BUFFER = 2**23
"""Numbers that are in device memory at a time, where they are not; another such piece is read
meanwhile."""


class Drawn(eqx.Module):
    """Batches drawn with replacement from data in device memory."""

    inputs: Float[Array, "m k"]
    targets: Float[Array, "m outputs"]
    key: Array
    batch_size: int = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True)

    @property
    def longest(self) -> int:
        """Steps of one dispatch, at most."""
        return STRETCH

    def batch(self, t: Int[Array, ""]) -> Batch:
        """The batch of step t."""
        key = jax.random.fold_in(self.key, t)
        rows = jax.random.randint(key, (self.batch_size,), 0, len(self.inputs))
        batch = self.inputs[rows], self.targets[rows]
        if self.mesh is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, rows_over(self.mesh))


class Cut(eqx.Module):
    """The batches of the steps from `first` on, already cut from a store."""

    inputs: Float[Array, "steps batch k"]
    targets: Float[Array, "steps batch outputs"]
    first: Int[Array, ""]

    @property
    def longest(self) -> int:
        """Steps of one dispatch, at most."""
        return len(self.inputs)

    def batch(self, t: Int[Array, ""]) -> Batch:
        """The batch of step t."""
        return self.inputs[t - self.first], self.targets[t - self.first]


class Stretch(NamedTuple):
    """A piece, and the steps from `first` to `stop` that it is good for."""

    piece: Drawn | Cut
    first: int
    stop: int


def next_multiple(step: int, every: int) -> int:
    """The first multiple of `every` after this step."""
    return (step // every + 1) * every


class FromMemory:
    """Pairs in device memory, on every device of the mesh."""

    def __init__(
        self, inputs: Array, targets: Array, batch_size: int, key: Array, mesh: Mesh | None
    ):
        self.inputs, self.targets = inputs, targets
        inputs, targets, key = on_all_of(mesh, (inputs, targets, key))
        self.piece = Drawn(inputs, targets, key, batch_size, mesh)

    @property
    def example(self) -> Batch:
        """The first pair, as a batch of one."""
        return self.inputs[:1], self.targets[:1]

    def settings(self) -> dict[str, Any]:
        """What the batches depend on."""
        parts = [np.ascontiguousarray(array) for array in (self.inputs, self.targets)]
        return {"data": digest_of(*parts), "data.shape": list(self.inputs.shape)}

    def stretches(self, first: int, stop: int, every: int) -> Iterator[Stretch]:
        """All steps from `first` to `stop`, some at a time, that end at multiples of `every`."""
        while first < stop:
            last = min(stop, first + STRETCH, next_multiple(first, every))
            yield Stretch(self.piece, first, last)
            first = last


class FromStore:
    """The stable pairs of a store, every one once in each epoch, shuffled in two levels.

    In epoch e the shards stand in an order of that epoch; one epoch after another makes an endless
    row of pairs. It is cut into pieces, and the pairs of each piece are put in an order of that
    piece. A thread reads the next piece while the devices work on one.
    """

    def __init__(self, store: SampleStore, batch_size: int, key: Array, mesh: Mesh | None):
        self.store, self.batch_size, self.mesh = store, batch_size, mesh
        self.stable = np.asarray([shard.counts[Outcome.STABLE] for shard in store.shards])
        self.total = int(self.stable.sum())
        if self.total == 0:
            but = f"holds none ({store.describe()})"
            _checks.fail("data", "hold a stable fixed point", but)
        self.seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
        first = store[:1]
        self.example = first.inputs, first.rates
        numbers = first.inputs.shape[1] + first.rates.shape[1]
        self.length = max(1, min(BUFFER // numbers, self.total) // batch_size)

    def settings(self) -> dict[str, Any]:
        """What the batches depend on."""
        missing = self.store.missing
        return {"data": self.store.identity, "data.missing": missing, "data.piece": self.length}

    def stretches(self, first: int, stop: int, every: int) -> Iterator[Stretch]:
        """All steps from `first` to `stop`, piece by piece, that end at multiples of `every`."""
        pieces = range(first // self.length, -(-stop // self.length))
        with ThreadPoolExecutor(1) as reader:
            coming = [reader.submit(self.piece, pieces.start)] if pieces else []
            for c in pieces:
                piece = coming.pop().result()
                if c + 1 < pieces.stop:
                    coming.append(reader.submit(self.piece, c + 1))
                end = min(stop, (c + 1) * self.length)
                while first < end:
                    last = min(end, next_multiple(first, every))
                    yield Stretch(piece, first, last)
                    first = last

    def piece(self, c: int) -> Cut:
        """The c-th piece, on the devices."""
        count = self.length * self.batch_size
        parts = [self._stable_rows(k, low, high) for k, low, high in self.located(c * count, count)]
        order = self._order("rows", c, count)
        shape = (self.length, self.batch_size, -1)
        inputs, targets = (
            self._placed(np.concatenate(columns)[order].reshape(shape))
            for columns in zip(*parts, strict=True)
        )
        return Cut(inputs, targets, on_all_of(self.mesh, jnp.asarray(c * self.length)))

    def located(self, position: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Where so many pairs from this position of the endless row on are: shard, from, to."""
        while count > 0:
            epoch, offset = divmod(position, self.total)
            order = self._order("shards", epoch, len(self.stable))
            ends = np.cumsum(self.stable[order])
            place = int(np.searchsorted(ends, offset, side="right"))
            shard = int(order[place])
            low = offset - int(ends[place] - self.stable[shard])
            taken = min(count, int(self.stable[shard]) - low)
            yield shard, low, low + taken
            position, count = position + taken, count - taken

    def _order(self, what: str, k: int, count: int) -> np.ndarray:
        level = {"shards": 0, "rows": 1}[what]
        return np.random.default_rng([*self.seed, level, k]).permutation(count)

    def _stable_rows(self, shard: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        columns = self.store.read_shard(shard)
        inputs, rates = columns["inputs"], columns["rates"]
        if len(inputs) > self.stable[shard]:
            stable = columns["outcome"] == Outcome.STABLE
            inputs, rates = inputs[stable], rates[stable]
        return inputs[low:high], rates[low:high]

    def _placed(self, column: np.ndarray) -> Array:
        """On the device; or every device's share of each batch on that device."""
        if self.mesh is None:
            return jnp.asarray(column)
        sharding = NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names))
        column = column.astype(jax.dtypes.canonicalize_dtype(column.dtype))
        return jax.make_array_from_callback(column.shape, sharding, lambda where: column[where])


def batches_of(data: Any, batch_size: int, key: Array, mesh: Mesh | None) -> FromMemory | FromStore:
    """Where the batches of these data come from, or an error that says what is wrong with them."""
    if isinstance(data, SampleStore):
        return FromStore(data, batch_size, key, mesh)
    return FromMemory(*as_pairs(data), batch_size, key, mesh)


def as_pairs(data: Samples | tuple[Array, Array]) -> tuple[Array, Array]:
    """Inputs and targets, checked; the stable ones of samples."""
    if isinstance(data, Samples):
        stable = data.only_stable()
        if len(stable) == 0:
            _checks.fail("data", "hold a stable fixed point", f"holds none ({data.describe()})")
        return stable.inputs, stable.rates
    if not isinstance(data, tuple) or len(data) != 2:
        must = "be Samples, a SampleStore or a pair of arrays (inputs, targets)"
        _checks.fail("data", must, f"is {type(data).__name__}", TypeError)
    inputs, targets = (_checks.floating("data", array) for array in data)
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets) or not len(inputs):
        must = "hold two arrays of shapes (m, n) and (m, n_out) with m at least 1"
        _checks.fail("data", must, f"has shapes {inputs.shape} and {targets.shape}")
    _checks.finite("data", inputs)
    _checks.finite("data", targets)
    return inputs, targets
