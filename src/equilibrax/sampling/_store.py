"""Samples on disk: a folder of shards that survives whatever ends the process that writes it.

    _settings.json           what was sampled, and with which versions and tolerances
    _settings.safetensors    the arrays among that: weights, bounds, the key
    shard-00000000-....parquet, shard-00000001-....parquet, ...

Shard k holds the inputs k * shard_size and on, and is a function of the settings and k alone.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import _checks
from .._devices import meet
from .._files import checked_path
from .._progress import progress_bar
from .._resumable import explained, read_settings, taken_up
from .._types import Device
from .._workers import in_parallel
from ..fixed_points import Flow, Outcome
from ..fixed_points._result import add_counts, counts_of, in_words
from ..networks import AbstractDynamics
from ._header import STORE, network_of, num_shards, settings_of
from ._inputs import AbstractInputs
from ._sample import Samples, as_count, as_plan
from ._sampler import Columns, Sampler, keep_stable
from ._shards import COLUMNS, DamagedShard, Shard, committed, look_at, read_shard, write_shard

SMALLEST_SHARD = 256

NUMBERS = 655_360
"""Numbers in the inputs of a shard, unless its size is given: some 8 MB in all."""


def sample_to_store(
    path: str | os.PathLike,
    network: AbstractDynamics,
    inputs: AbstractInputs,
    n: int,
    *,
    key: Array,
    method: Flow | None = None,
    keep: Literal["stable", "all"] = "stable",
    shard_size: int | None = None,
    repair: bool = False,
    progress: bool = False,
) -> "SampleStore":
    """Draw n inputs, settle them, and write what `sample_fixed_points` would return to a folder.

    Workers, one for each core or local accelerator, settle and write shard by shard. A shard is
    there whole or not at all. Called again with the same arguments, after a kill, a full disk or a
    power cut, this goes on with the shards that are missing, and the store is in the end the same
    to the last bit as one that was never interrupted. Nothing in it depends on how many workers or
    processes made it. Under `jax.distributed` every process calls this with the same arguments and
    a path that all of them see, and makes its own shards.

    **Arguments:**

    - `path`: of the folder; it is created if absent.
    - `network`, `inputs`, `key`, `method`, `keep`: as for `sample_fixed_points`.
    - `n`: how many inputs to draw.
    - `shard_size`: how many of them are drawn for each shard, a power of two of at least 256; if
      absent, some 8 MB of them, or an eighth of a small sample.
    - `repair`: read every shard that is there, and make those again that are damaged.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** the `SampleStore`.

    **Raises:** `ValueError` if the store at `path` was made with other settings (and says which
    one), is damaged, or of a newer version; `FileExistsError` if something else is at `path`;
    `BlockingIOError` if another process is writing there; any other `OSError` from the disk, after
    which the same call goes on.

    **Example:**

    ```python
    store = eqb.sample_to_store(
        "pairs", eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    print(store.describe())
    # > 4096 inputs: 4096 STABLE
    ```
    """
    network, method = as_plan(network, inputs, method)
    n, key = as_count("n", n, key, keep)
    size = _default_size(n, network) if shard_size is None else _shard_size(shard_size)
    settings = settings_of(network, inputs, n, key, method, keep, size)
    folder = checked_path(path)
    sampler = Sampler(network, inputs, key, method, size)
    with taken_up(folder, STORE, settings, repair=repair) as store:
        there = {shard.index: shard for shard in _sound_shards(folder, store, repair)}
        mine = [index for index in range(num_shards(settings)) if is_mine(index)]
        missing = [index for index in mine if index not in there]
        drawn = {index: min(size, n - index * size) for index in mine}
        counts = add_counts(*(shard.counts for shard in there.values()))

        def work(index: int, device: Device) -> dict[Outcome, int]:
            # All of a shard's inputs, those past the last one included: shards are of one size.
            columns = sampler(index * size, size, [device])
            return _write(folder, store, index, columns, drawn[index], keep)

        bar = progress_bar(sum(drawn.values()), "settling", "inputs", progress)
        with explained(folder), bar:
            bar.initial = bar.n = sum(counts.values())

            def done(index: int, written: dict[Outcome, int]) -> None:
                counts.update(add_counts(counts, written))
                bar.set_postfix_str(in_words(counts), refresh=False)
                bar.update(drawn[index])

            in_parallel(work, missing, sampler.workers, done)
        meet("equilibrax: all shards are written")
        return open_samples(folder, network=network)


def open_samples(
    path: str | os.PathLike, *, network: AbstractDynamics | None = None, partial: bool = False
) -> "SampleStore":
    """Open what `sample_to_store` has written, without reading any of the samples.

    **Arguments:**

    - `path`: of the folder.
    - `network`: what was settled, where the store cannot hold it since a class or a function of
      your own is part of it.
    - `partial`: open a store some of whose shards are missing, too.

    **Returns:** a `SampleStore`.

    **Raises:** `FileNotFoundError`; `ValueError` for a folder that is not a store, is not complete,
    is damaged, or was written by a newer version, and for another network.

    **Example:**

    ```python
    network, cube = eqb.partitioned(), eqb.UniformCube(-1, 1)
    eqb.sample_to_store("pairs", network, cube, 4096, key=jax.random.key(0))
    store = eqb.open_samples("pairs")
    print((store.network.weights == network.weights).all(), len(store))
    # > True 4096
    ```
    """
    folder = Path(path)
    settings, store = read_settings(folder, STORE)
    network = network_of(folder, settings, network)
    shards = [look_at(file, store) for file in committed(folder).values()]
    found = SampleStore(folder, settings, store, network, shards)
    if not shards:
        raise ValueError(f"{folder} holds no samples yet: none of its shards is there.")
    if found.missing and not partial:
        first = ", ".join(map(str, found.missing[:5])) + (", ..." * (len(found.missing) > 5))
        raise ValueError(
            f"{folder} is not complete: {len(found.missing)} of {num_shards(settings)} shards are "
            f"missing ({first}). The command that began it makes them; partial=True opens it so."
        )
    return found


class SampleStore:
    """Samples on disk, which are read when they are asked for: `store[1000:2000]` is `Samples`.

    What is read is compared with its digest first.

    - `path`: of the folder.
    - `settings`: what it was made with, a flat dictionary by name.
    - `identity`: a digest of these.
    - `network`: what was settled.
    - `shards`: the files.
    - `drawn`: how many inputs were drawn; `len(store)` of them are held here.
    - `counts`: how many of the inputs drawn ended in each `Outcome`.
    - `missing`: the shards that are still to be made.

    **Example:**

    ```python
    store = eqb.sample_to_store(
        "pairs", eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    print(len(store), len(store.shards), store.missing)
    # > 4096 8 []
    print(store[4000:].inputs.shape)
    # > (96, 5)
    ```
    """

    path: Path
    settings: dict[str, Any]
    identity: str
    network: AbstractDynamics
    shards: list[Shard]
    drawn: int
    counts: dict[Outcome, int]
    missing: list[int]

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
        identity: str,
        network: AbstractDynamics,
        shards: list[Shard],
    ):
        self.path = path
        self.settings = settings
        self.identity = identity
        self.network = network
        self.shards = shards
        self.counts = add_counts(*(shard.counts for shard in shards))
        self.drawn = sum(self.counts.values())
        there = {shard.index for shard in shards}
        self.missing = [k for k in range(num_shards(settings)) if k not in there]
        self._ends = np.cumsum([0, *(shard.rows for shard in shards)])
        self._last: tuple[int, dict[str, np.ndarray]] = (-1, {})

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: slice) -> Samples:
        """These rows, on the device.

        **Raises:** `ValueError` if a shard does not hold what was written.
        """
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            _checks.fail("rows", "be a slice without a step", f"is {rows!r}", TypeError)
        low, high, _ = rows.indices(len(self))
        columns = [jnp.asarray(column) for column in self.read(low, max(low, high)).values()]
        return Samples(*columns, drawn=self.drawn, counts=self.counts, network=self.network)

    def __repr__(self) -> str:
        return f"SampleStore({str(self.path)!r}: {self.describe()})"

    def describe(self) -> str:
        """The counts in one line."""
        return f"{self.drawn} inputs: {in_words(self.counts)}"

    def read(self, low: int, high: int) -> dict[str, np.ndarray]:
        """The rows from `low` to `high`, by column, as NumPy arrays."""
        first = max(0, int(np.searchsorted(self._ends, low, side="right")) - 1)
        parts = []
        for k in range(min(first, len(self.shards) - 1), len(self.shards)):
            start = self._ends[k]
            if parts and start >= high:
                break
            columns = self.read_shard(k)
            here = slice(max(low - start, 0), max(high - start, 0))
            parts.append({name: column[here] for name, column in columns.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}

    def read_shard(self, k: int) -> dict[str, np.ndarray]:
        """All rows of the k-th shard that is there; the last one read is kept at hand."""
        # Another thread may read another shard meanwhile.
        held, columns = self._last
        if held != k:
            columns = read_shard(self.shards[k])
            self._last = (k, columns)
        return columns


def _default_size(n: int, network: AbstractDynamics) -> int:
    wanted = max(1, min(NUMBERS // network.num_neurons, n // 8))
    return max(SMALLEST_SHARD, 2 ** (wanted.bit_length() - 1))


def _shard_size(size: Any) -> int:
    size = _checks.integer("shard_size", size, minimum=SMALLEST_SHARD)
    if size & (size - 1) or size > 2**32:
        _checks.fail("shard_size", "be a power of two of at most 2**32", f"is {size}")
    return size


def _sound_shards(folder: Path, store: str, repair: bool) -> Iterator[Shard]:
    """This process's shards that are there; to repair, each is read, and removed if damaged."""
    for index, file in committed(folder).items():
        if is_mine(index):
            try:
                shard = look_at(file, store)
                if repair:
                    read_shard(shard)
            except DamagedShard:
                if not repair:
                    raise
                file.unlink()
            else:
                yield shard


def _write(
    folder: Path, store: str, index: int, columns: Columns, drawn: int, keep: str
) -> dict[Outcome, int]:
    """Commit one shard; how its inputs ended."""
    columns = {name: column[:drawn] for name, column in columns.items()}
    counts = counts_of(columns["outcome"])
    if keep == "stable":
        columns = keep_stable(columns)
    write_shard(folder, store, index, columns, {o.name: c for o, c in counts.items() if c})
    return counts


def is_mine(shard: int) -> bool:
    """Whether this process owns the shard of this index: processes take turns."""
    return shard % jax.process_count() == jax.process_index()
