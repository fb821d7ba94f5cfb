"""Sources of training batches: arrays in device memory, a store on disk, or the recurrent network.

Batch t is a function of the key and t alone. Training takes the batches chunk by chunk: a chunk is
in device memory, and holds the batches of some consecutive steps for a compiled loop.
"""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt32

from .. import _checks
from .._devices import on_all_of
from .._settings import described, digest_of
from ..fixed_points import FixedPoints, Outcome, find_fixed_points
from ..fixed_points._result import add_counts, in_words
from ..sampling import LiveSamples, Samples, SampleStore
from ..sampling._header import settings_of_inputs, settings_of_network
from ..sampling._inputs import draw_inputs
from ._chunks import Batch, BatchedChunk, RandomChunk, Span, split_steps, to_devices

MAX_STEPS = 1000
"""Upper limit on the steps of one dispatch, for data in memory."""

BUFFER = 2**23
"""Size of a chunk: numbers read from a store at a time (the next chunk is read meanwhile), or row
numbers drawn at a time."""

SETTLED = 2**16
"""Inputs of `LiveSamples` settled at a time: enough to keep all lanes busy."""


class FromMemory:
    """Batches drawn from pairs that are in the memory of every device of the mesh."""

    def __init__(
        self, inputs: Array, targets: Array, batch_size: int, key: Array, mesh: Mesh | None
    ):
        self.inputs, self.targets = inputs, targets
        inputs, targets, key = on_all_of(mesh, (inputs, targets, key))
        max_steps = max(1, min(MAX_STEPS, BUFFER // batch_size))
        self.chunk = RandomChunk(inputs, targets, key, batch_size, max_steps, mesh)

    def probe(self, count: int) -> Batch:
        """The first `count` pairs, or all if there are fewer."""
        return Batch(self.inputs[:count], self.targets[:count])

    def settings(self) -> dict[str, Any]:
        """Settings that determine the batches, by name."""
        digest = digest_of_pairs(self.inputs, self.targets)
        return {"data": digest, "data.shape": list(self.inputs.shape)}

    def spans(self, first: int, stop: int, every: Sequence[int]) -> Iterator[Span]:
        """Steps from `first` to `stop`, split at the multiples of each number in `every`."""
        for low, high in split_steps(first, stop, self.chunk.max_steps, every):
            yield Span(self.chunk, low, high)


class FromStore:
    """The stable pairs of a store, each once in every epoch, shuffled in two levels.

    Each epoch permutes the shards; the epochs together are an endless sequence of pairs. The
    sequence is split into chunks of equal length, and the pairs within each chunk are permuted. A
    thread reads the next chunk while the devices train on the current one.
    """

    def __init__(self, store: SampleStore, batch_size: int, key: Array, mesh: Mesh | None):
        self.store, self.batch_size, self.mesh = store, batch_size, mesh
        self.stable = np.asarray([shard.counts[Outcome.STABLE] for shard in store.shards])
        self.total = int(self.stable.sum())
        if self.total == 0:
            but = f"holds none ({store.describe()})"
            _checks.fail("data", "hold a stable fixed point", but)
        self.seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
        first = self.probe(1)
        numbers = first.inputs.shape[1] + first.targets.shape[1]
        self.length = max(1, min(BUFFER // numbers, self.total) // batch_size)

    def probe(self, count: int) -> Batch:
        """The first `count` pairs, or all if there are fewer."""
        first = self.store[:count].only_stable()
        return Batch(first.inputs, first.rates)

    def settings(self) -> dict[str, Any]:
        """Settings that determine the batches, by name."""
        missing = self.store.missing
        return {"data": self.store.identity, "data.missing": missing, "data.piece": self.length}

    def spans(self, first: int, stop: int, every: Sequence[int]) -> Iterator[Span]:
        """Steps from `first` to `stop`, split at the multiples of each number in `every`."""
        chunks = range(first // self.length, -(-stop // self.length))
        with ThreadPoolExecutor(1) as reader:
            pending = [reader.submit(self.chunk, chunks.start)] if chunks else []
            for c in chunks:
                chunk = pending.pop().result()
                if c + 1 < chunks.stop:
                    pending.append(reader.submit(self.chunk, c + 1))
                end = min(stop, (c + 1) * self.length)
                for low, high in split_steps(first, end, self.length, every):
                    yield Span(chunk, low, high)
                first = end

    def chunk(self, c: int) -> BatchedChunk:
        """The c-th chunk, on the devices."""
        count = self.length * self.batch_size
        parts = [self._stable_rows(k, low, high) for k, low, high in self.located(c * count, count)]
        order = self._order("rows", c, count)
        shape = (self.length, self.batch_size, -1)
        inputs, targets = (
            to_devices(np.concatenate(columns)[order].reshape(shape), self.mesh)
            for columns in zip(*parts, strict=True)
        )
        return BatchedChunk(inputs, targets, on_all_of(self.mesh, jnp.asarray(c * self.length)))

    def located(self, position: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Location of `count` pairs of the endless sequence, from `position` on: shard, and first
        and last (exclusive) row among its stable pairs."""
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


class FromNetwork:
    """Inputs drawn and settled on all devices, a chunk of steps at a time, just before training.

    Input j of step t depends on the key, t and j alone. An input without a stable fixed point has
    weight 0 in its batch, and is counted.
    """

    def __init__(
        self, live: LiveSamples, batch_size: int, steps: int, key: Array, mesh: Mesh | None
    ):
        self.live, self.batch_size, self.key, self.mesh = live, batch_size, key, mesh
        self.length = min(steps, max(1, SETTLED // batch_size))
        self.counts = add_counts()

    def settings(self) -> dict[str, Any]:
        """Settings that determine the batches, by name."""
        live = self.live
        return {
            **settings_of_network(live.network),
            **settings_of_inputs(live.inputs, live.network),
            **described(live.method, "method"),
        }

    def probe(self, count: int) -> Batch:
        """The first `count` stable pairs of the first chunk, or all if there are fewer."""
        (inputs, targets, weights), _ = self.first
        rows = np.flatnonzero(weights.ravel())[:count]
        return Batch(*(a.reshape(-1, a.shape[-1])[rows] for a in (inputs, targets)))

    @functools.cached_property
    def first(self) -> tuple[tuple[Array, Array, Array], dict[Outcome, int]]:
        """The first chunk, settled once for the probe and for training."""
        columns, counts = self._settled(0)
        if not counts[Outcome.STABLE]:
            but = f"settles none of the first {in_words(counts)}"
            _checks.fail("data", "have stable fixed points", but)
        return columns, counts

    def spans(self, first: int, stop: int, every: Sequence[int]) -> Iterator[Span]:
        """Steps from `first` to `stop`, split at the multiples of each number in `every`."""
        while first < stop:
            # A chunk always has `length` steps, so that one compiled program serves.
            chunk, end = self.chunk(first), min(stop, first + self.length)
            for low, high in split_steps(first, end, self.length, every):
                yield Span(chunk, low, high)
            first = end

    def chunk(self, first: int) -> BatchedChunk:
        """The batches from step `first` on, on the devices."""
        (inputs, targets, weights), counts = self._settled(first) if first else self.first
        self.counts = add_counts(self.counts, counts)
        if self.mesh is not None:
            columns = (inputs, targets, weights)
            inputs, targets, weights = (to_devices(np.asarray(a), self.mesh) for a in columns)
        first_step = on_all_of(self.mesh, jnp.asarray(first))
        return BatchedChunk(inputs, targets, first_step, weights)

    def _settled(self, first: int) -> tuple[tuple[Array, Array, Array], dict[Outcome, int]]:
        """Inputs, targets and weights from step `first` on, on one device, and the counts of
        outcomes."""
        inputs = _draw(self.live, self.key, jnp.uint32(first), self.batch_size, self.length)
        found = find_fixed_points(self.live.network, inputs, method=self.live.method)
        return _masked(inputs, found, self.batch_size), found.counts


@eqx.filter_jit
def _draw(
    live: LiveSamples, key: Array, first: UInt32[Array, ""], batch_size: int, length: int
) -> Float[Array, "m k"]:
    """The inputs of `length` steps from step `first` on, one batch after the other."""
    network, rows = live.network, jnp.arange(batch_size, dtype=jnp.uint32)

    def batch(t):
        key_t = jax.random.fold_in(key, t)
        return draw_inputs(live.inputs, key_t, rows, network.num_inputs, network.dtype)

    steps = first + jnp.arange(length, dtype=jnp.uint32)
    return jax.vmap(batch)(steps).reshape(-1, network.num_inputs)


@eqx.filter_jit
def _masked(inputs: Array, found: FixedPoints, batch_size: int) -> tuple[Array, Array, Array]:
    """Batches of inputs, rates and weights; all three are 0 without a stable fixed point."""
    stable = found.stable
    inputs = jnp.where(stable[:, None], inputs, 0)
    rates = jnp.where(stable[:, None], found.rates, 0)
    columns = (inputs, rates, stable.astype(rates.dtype))
    inputs, rates, weights = (a.reshape(-1, batch_size, *a.shape[1:]) for a in columns)
    return inputs, rates, weights


Source = FromMemory | FromStore | FromNetwork


def batches_of(data: Any, batch_size: int, steps: int, key: Array, mesh: Mesh | None) -> Source:
    """The source of batches for these data.

    **Raises:** `TypeError` or `ValueError` for data that cannot be trained on.
    """
    if isinstance(data, SampleStore):
        return FromStore(data, batch_size, key, mesh)
    if isinstance(data, LiveSamples):
        return FromNetwork(data, batch_size, steps, key, mesh)
    return FromMemory(*as_pairs(data), batch_size, key, mesh)


def digest_of_pairs(inputs: Array, targets: Array) -> str:
    """Digest of the pairs' bytes."""
    return digest_of(*(np.ascontiguousarray(array) for array in (inputs, targets)))


def require_stable(name: str, samples: Samples) -> Samples:
    """The stable samples.

    **Raises:** `ValueError` if no sample is stable, with the counts.
    """
    stable = samples.only_stable()
    if len(stable) == 0:
        _checks.fail(name, "hold a stable fixed point", f"holds none ({samples.describe()})")
    return stable


def as_pairs(data: Samples | tuple[Array, Array], name: str = "data") -> tuple[Array, Array]:
    """Inputs and targets, checked; of `Samples`, the stable pairs."""
    if isinstance(data, Samples):
        stable = require_stable(name, data)
        return stable.inputs, stable.rates
    if not isinstance(data, tuple) or len(data) != 2:
        kinds = "Samples" if name != "data" else "Samples, a SampleStore, LiveSamples"
        must = f"be {kinds} or a pair of arrays (inputs, targets)"
        _checks.fail(name, must, f"is {type(data).__name__}", TypeError)
    inputs, targets = (_checks.floating(name, array) for array in data)
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets) or not len(inputs):
        must = "hold two arrays of shapes (m, n) and (m, n_out) with m at least 1"
        _checks.fail(name, must, f"has shapes {inputs.shape} and {targets.shape}")
    _checks.finite(name, inputs)
    _checks.finite(name, targets)
    return inputs, targets
