"""Where the batches of a training come from: device memory, a store that does not fit in there, or
the recurrent network itself.

Batch t is a function of the key and t alone. A training takes its batches piece by piece: a piece
is in device memory and gives the batches of some consecutive steps to a compiled loop.
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
from ..fixed_points._outcome import in_words
from ..sampling import LiveSamples, Samples, SampleStore
from ..sampling._header import settings_of_inputs, settings_of_network
from ..sampling._inputs import draw_inputs
from ._pieces import Batch, Cut, Drawn, Stretch, placed, stops

STRETCH = 1000
"""Steps of one dispatch, where the data are in memory, at most."""

BUFFER = 2**23
"""Numbers that are in device memory at a time, where they are not; another such piece is read
meanwhile. And row numbers that are drawn at a time."""

SETTLED = 2**16
"""Inputs that are settled at a time, where they are live: enough to keep all lanes busy."""


class FromMemory:
    """Pairs in device memory, on every device of the mesh."""

    def __init__(
        self, inputs: Array, targets: Array, batch_size: int, key: Array, mesh: Mesh | None
    ):
        self.inputs, self.targets = inputs, targets
        inputs, targets, key = on_all_of(mesh, (inputs, targets, key))
        longest = max(1, min(STRETCH, BUFFER // batch_size))
        self.piece = Drawn(inputs, targets, key, batch_size, longest, mesh)

    def probe(self, count: int) -> Batch:
        """The first pairs, so many at most."""
        return Batch(self.inputs[:count], self.targets[:count])

    def settings(self) -> dict[str, Any]:
        """What the batches depend on."""
        digest = digest_of_pairs(self.inputs, self.targets)
        return {"data": digest, "data.shape": list(self.inputs.shape)}

    def stretches(self, first: int, stop: int, every: Sequence[int]) -> Iterator[Stretch]:
        """All steps from `first` to `stop`, some at a time; some end at multiples of `every`."""
        for low, high in stops(first, stop, self.piece.longest, every):
            yield Stretch(self.piece, low, high)


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
        first = self.probe(1)
        numbers = first.inputs.shape[1] + first.targets.shape[1]
        self.length = max(1, min(BUFFER // numbers, self.total) // batch_size)

    def probe(self, count: int) -> Batch:
        """The first pairs, so many at most."""
        first = self.store[:count].only_stable()
        return Batch(first.inputs, first.rates)

    def settings(self) -> dict[str, Any]:
        """What the batches depend on."""
        missing = self.store.missing
        return {"data": self.store.identity, "data.missing": missing, "data.piece": self.length}

    def stretches(self, first: int, stop: int, every: Sequence[int]) -> Iterator[Stretch]:
        """All steps from `first` to `stop`, piece by piece; some end at multiples of `every`."""
        pieces = range(first // self.length, -(-stop // self.length))
        with ThreadPoolExecutor(1) as reader:
            coming = [reader.submit(self.piece, pieces.start)] if pieces else []
            for c in pieces:
                piece = coming.pop().result()
                if c + 1 < pieces.stop:
                    coming.append(reader.submit(self.piece, c + 1))
                end = min(stop, (c + 1) * self.length)
                for low, high in stops(first, end, self.length, every):
                    yield Stretch(piece, low, high)
                first = end

    def piece(self, c: int) -> Cut:
        """The c-th piece, on the devices."""
        count = self.length * self.batch_size
        parts = [self._stable_rows(k, low, high) for k, low, high in self.located(c * count, count)]
        order = self._order("rows", c, count)
        shape = (self.length, self.batch_size, -1)
        inputs, targets = (
            placed(np.concatenate(columns)[order].reshape(shape), self.mesh)
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


class FromNetwork:
    """Inputs drawn and settled some steps ahead of those that learn from them, on all devices.

    Input j of step t depends on the key, t and j alone. An input without a stable fixed point has
    weight 0 in its batch, and is counted.
    """

    def __init__(
        self, live: LiveSamples, batch_size: int, steps: int, key: Array, mesh: Mesh | None
    ):
        self.live, self.batch_size, self.key, self.mesh = live, batch_size, key, mesh
        self.length = min(steps, max(1, SETTLED // batch_size))
        self.counts = {outcome: 0 for outcome in Outcome}

    def settings(self) -> dict[str, Any]:
        """What the batches depend on."""
        live = self.live
        return {
            **settings_of_network(live.network),
            **settings_of_inputs(live.inputs, live.network),
            **described(live.method, "method"),
        }

    def probe(self, count: int) -> Batch:
        """The stable ones of the first piece's pairs, so many at most."""
        (inputs, targets, weights), _ = self.first
        rows = np.flatnonzero(weights.ravel())[:count]
        return Batch(*(a.reshape(-1, a.shape[-1])[rows] for a in (inputs, targets)))

    @functools.cached_property
    def first(self) -> tuple[tuple[Array, Array, Array], dict[Outcome, int]]:
        """The first piece, settled once for the probe and for its steps."""
        columns, counts = self._settled(0)
        if not counts[Outcome.STABLE]:
            but = f"settles none of the first {in_words(counts)}"
            _checks.fail("data", "have stable fixed points", but)
        return columns, counts

    def stretches(self, first: int, stop: int, every: Sequence[int]) -> Iterator[Stretch]:
        """All steps from `first` to `stop`, piece by piece; some end at multiples of `every`."""
        while first < stop:
            # Always the same number, so that one compiled program serves.
            piece, end = self.piece(first), min(stop, first + self.length)
            for low, high in stops(first, end, self.length, every):
                yield Stretch(piece, low, high)
            first = end

    def piece(self, first: int) -> Cut:
        """The batches from step `first` on, on the devices."""
        (inputs, targets, weights), counts = self._settled(first) if first else self.first
        self.counts = {outcome: self.counts[outcome] + n for outcome, n in counts.items()}
        if self.mesh is not None:
            columns = (inputs, targets, weights)
            inputs, targets, weights = (placed(np.asarray(a), self.mesh) for a in columns)
        return Cut(inputs, targets, on_all_of(self.mesh, jnp.asarray(first)), weights)

    def _settled(self, first: int) -> tuple[tuple[Array, Array, Array], dict[Outcome, int]]:
        """Inputs, targets and weights from step `first` on, on one device; and how all ended."""
        inputs = _draw(self.live, self.key, jnp.uint32(first), self.batch_size, self.length)
        found = find_fixed_points(self.live.network, inputs, method=self.live.method)
        return _masked(inputs, found, self.batch_size), found.counts


@eqx.filter_jit
def _draw(
    live: LiveSamples, key: Array, first: UInt32[Array, ""], batch_size: int, length: int
) -> Float[Array, "m k"]:
    """The inputs of so many steps from the first on, one batch after the other."""
    network, rows = live.network, jnp.arange(batch_size, dtype=jnp.uint32)

    def batch(t):
        key_t = jax.random.fold_in(key, t)
        return draw_inputs(live.inputs, key_t, rows, network.num_inputs, network.dtype)

    steps = first + jnp.arange(length, dtype=jnp.uint32)
    return jax.vmap(batch)(steps).reshape(-1, network.num_inputs)


@eqx.filter_jit
def _masked(inputs: Array, found: FixedPoints, batch_size: int) -> tuple[Array, Array, Array]:
    """Batches of inputs, rates, and weights: all 0 where there is no stable fixed point."""
    stable = found.stable
    inputs = jnp.where(stable[:, None], inputs, 0)
    rates = jnp.where(stable[:, None], found.rates, 0)
    columns = (inputs, rates, stable.astype(rates.dtype))
    inputs, rates, weights = (a.reshape(-1, batch_size, *a.shape[1:]) for a in columns)
    return inputs, rates, weights


Source = FromMemory | FromStore | FromNetwork


def batches_of(data: Any, batch_size: int, steps: int, key: Array, mesh: Mesh | None) -> Source:
    """Where the batches of these data come from, or an error that says what is wrong with them."""
    if isinstance(data, SampleStore):
        return FromStore(data, batch_size, key, mesh)
    if isinstance(data, LiveSamples):
        return FromNetwork(data, batch_size, steps, key, mesh)
    return FromMemory(*as_pairs(data), batch_size, key, mesh)


def digest_of_pairs(inputs: Array, targets: Array) -> str:
    """What tells these pairs from others."""
    return digest_of(*(np.ascontiguousarray(array) for array in (inputs, targets)))


def stable_ones(name: str, samples: Samples) -> Samples:
    """The stable ones of the samples; there is one at least."""
    stable = samples.only_stable()
    if len(stable) == 0:
        _checks.fail(name, "hold a stable fixed point", f"holds none ({samples.describe()})")
    return stable


def as_pairs(data: Samples | tuple[Array, Array], name: str = "data") -> tuple[Array, Array]:
    """Inputs and targets, checked; the stable ones of samples."""
    if isinstance(data, Samples):
        stable = stable_ones(name, data)
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
