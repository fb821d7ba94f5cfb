"""A store survives what ends its writer, and never gives back what was not written."""

import errno
import json
import os
import shutil

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import equilibrax as eqb
from equilibrax import Outcome
from equilibrax.commands import cli
from equilibrax.sampling._inputs import draw_inputs, key_of_block
from equilibrax.sampling._sampler import Sampler

KEY = jax.random.key(7)
CUBE = eqb.UniformCube(-1.0, 1.0)
NETWORK = eqb.two_neuron(1.5, 0.0)
"""Each neuron runs away on its own when its input is positive: a quarter of the inputs settles."""

SETTINGS = {"network": NETWORK, "inputs": CUBE, "n": 1900, "key": KEY, "shard_size": 256}


def sample(path, **other):
    return eqb.sample_to_store(path, **{**SETTINGS, **other})


def listing(path):
    """The shards' names, which hold the digests of their content."""
    return sorted(name for name in os.listdir(path) if name.startswith("shard-"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "store"
    sample(path)
    return path


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_a_store_holds_what_sampling_in_memory_gives(finished):
    store = eqb.open_samples(finished)
    whole = eqb.sample_fixed_points(NETWORK, CUBE, 1900, key=KEY)
    np.testing.assert_array_equal(store[:].inputs, whole.inputs)
    np.testing.assert_allclose(store[:].state, whole.state, rtol=0, atol=1e-13)
    np.testing.assert_allclose(store[:].rates, whole.rates, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(store[:].outcome, whole.outcome)
    assert store.counts == store[:].counts == whole.counts
    assert store.drawn == 1900
    assert len(store) == whole.counts[Outcome.STABLE] < 600
    assert store.describe() == whole.describe()
    assert len(listing(finished)) == 8


def test_the_network_comes_back(finished):
    network = eqb.open_samples(finished).network
    assert jax.tree.structure(network) == jax.tree.structure(NETWORK)
    np.testing.assert_array_equal(network.weights, NETWORK.weights)
    assert network.partitions == (1, 1)


def test_slices_are_read_and_nothing_else(finished, monkeypatch):
    whole = eqb.open_samples(finished)[:].inputs
    store = eqb.open_samples(finished)
    m = len(store)
    for rows in (slice(3, 5), slice(50, 300), slice(m - 2, None), slice(-7, -1), slice(5, 5)):
        part = store[rows]
        np.testing.assert_array_equal(part.inputs, whole[rows])
        assert part.outcome.shape == part.inputs.shape[:1]
        assert isinstance(part.inputs, jax.Array)
    assert store[9:3].inputs.shape == (0, 2)
    for wrong in (4, slice(0, 9, 2), [1, 2]):
        with pytest.raises(TypeError, match="slice without a step"):
            store[wrong]
    # What lies outside the slice may be gone.
    rest = [shard.path for shard in store.shards[1:]]
    fresh = eqb.open_samples(finished)
    hidden = [path.rename(path.with_suffix(".hidden")) for path in rest]
    np.testing.assert_array_equal(fresh[:5].inputs, whole[:5])
    with pytest.raises(ValueError, match="damaged"):
        fresh[:m]
    for path in hidden:
        path.rename(path.with_suffix(".parquet"))


def test_any_reader_of_parquet_reads_it(finished):
    table = pq.read_table(finished)
    np.testing.assert_array_equal(
        np.asarray(table.column("rates").to_pylist()), eqb.open_samples(finished)[:].rates
    )


def test_all_outcomes_are_kept_on_request(tmp_path):
    store = sample(tmp_path / "all", n=300, keep="all")
    assert len(store) == store.drawn == 300
    outcome = np.asarray(store[:].outcome)
    assert (outcome == Outcome.DIVERGED).sum() == store.counts[Outcome.DIVERGED] > 200
    np.testing.assert_array_equal(outcome == Outcome.STABLE, (store[:].inputs < 0).all(axis=1))


def test_it_goes_on_with_what_is_missing_and_no_more(finished, copy):
    names = listing(copy)
    times = {name: (copy / name).stat().st_mtime_ns for name in names}
    lost = [names[2], names[7]]
    for name in lost:
        (copy / name).unlink()
    # A write that was cut off, too.
    (copy / f".{lost[0]}.77.unfinished").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"2 of 8 shards are missing \(2, 7\)"):
        eqb.open_samples(copy)
    part = eqb.open_samples(copy, partial=True)
    assert part.missing == [2, 7]
    assert part.drawn == 1900 - 256 - (1900 - 7 * 256)
    assert len(part[:]) == len(part) == part.counts[Outcome.STABLE]
    sample(copy)
    assert listing(copy) == listing(finished)
    assert not list(copy.glob("*.unfinished"))
    for name in set(names) - set(lost):
        assert (copy / name).stat().st_mtime_ns == times[name]


OTHERS = {
    "draws": {"n": 1901},
    "shard_size": {"shard_size": 512},
    "keep": {"keep": "all"},
    "key": {"key": jax.random.key(8)},
    "network.weights": {"network": eqb.two_neuron(1.4, 0.0)},
    "network.convention": {"network": eqb.two_neuron(1.5, 0.0, convention="activity")},
    "network.transfer.class": {"network": eqb.two_neuron(1.5, 0.0, transfer=eqb.tanh)},
    "network.class": {"network": eqb.WilsonCowan()},
    "inputs.low": {"inputs": eqb.UniformCube(-2.0, 1.0)},
    "inputs.class": {"inputs": eqb.Gaussian()},
    "method.rtol": {"method": eqb.Flow(rtol=1e-4)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_are_refused_by_name(name, copy):
    before = listing(copy)
    with pytest.raises(ValueError, match=f"was made with other settings: {name}"):
        sample(copy, **OTHERS[name])
    assert listing(copy) == before


def test_another_version_is_refused_by_name(copy, monkeypatch):
    from equilibrax import _settings

    monkeypatch.setattr(_settings, "version", lambda package: "9.9")
    with pytest.raises(ValueError, match=r"version of equilibrax is 0\.1\.0 there, 9\.9 here"):
        sample(copy)


class Cold(eqb.AbstractInputs):
    """A distribution of one's own."""

    def draw(self, key, n, dtype):
        return -jax.random.uniform(key, (n,), dtype)


def test_functions_of_ones_own_are_compared_by_what_they_compute(tmp_path):
    def own(strength):
        return eqb.RateNetwork(np.zeros((2, 2)), transfer=lambda u: strength * jax.nn.relu(u))

    path = tmp_path / "own"
    settings = {"inputs": Cold(), "n": 256, "key": KEY}
    eqb.sample_to_store(path, own(1.0), **settings)
    eqb.sample_to_store(path, own(1.0), **settings)
    with pytest.raises(ValueError, match="equation"):
        eqb.sample_to_store(path, own(2.0), **settings)
    with pytest.raises(ValueError, match="pass it as `network`"):
        eqb.open_samples(path)
    with pytest.raises(ValueError, match="equation"):
        eqb.open_samples(path, network=own(2.0))
    assert len(eqb.open_samples(path, network=own(1.0))) == 256


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 0x10
    file.write_bytes(content)


DAMAGE = {
    "a byte of the first page": lambda file: flip(file, 40),
    "a byte in the middle": lambda file: flip(file, file.stat().st_size // 2),
    "a byte of the footer": lambda file: flip(file, file.stat().st_size - 300),
    "the footer's length": lambda file: flip(file, file.stat().st_size - 8),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "cut to nothing": lambda file: file.write_bytes(b""),
    "another shard": lambda file: shutil.copy(sorted(file.parent.glob("shard-*"))[5], file),
    "something else": lambda file: file.write_text("not a shard"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_shard_is_named_and_made_again(how, finished, copy):
    name = listing(copy)[3]
    DAMAGE[how](copy / name)
    with pytest.raises(ValueError, match=f"{name} is damaged.*--repair"):
        eqb.open_samples(copy)[:]
    cli.main(["sample", "--out", str(copy), "--repair"])
    assert listing(copy) == listing(finished)
    for shard in listing(copy):
        assert (copy / shard).read_bytes() == (finished / shard).read_bytes()


def test_every_flipped_byte_of_a_shard_is_found(copy):
    """Read again, and opened again: each byte is in what the digest covers."""
    file = copy / listing(copy)[0]
    sound = file.read_bytes()
    for position in np.random.default_rng(0).choice(len(sound), 200, replace=False):
        flip(file, position)
        with pytest.raises(ValueError, match="is damaged"):
            eqb.open_samples(copy)[:1]
        file.write_bytes(sound)


def test_damaged_settings_are_named_and_written_again(copy):
    header, arrays = copy / "_settings.json", copy / "_settings.safetensors"
    sound = header.read_bytes(), arrays.read_bytes()
    header.write_bytes(sound[0].replace(b'"draws": 1900', b'"draws": 1800'))
    for attempt in (lambda: eqb.open_samples(copy), lambda: sample(copy)):
        with pytest.raises(ValueError, match=r"_settings\.json is damaged"):
            attempt()
    flip(arrays, -1)
    sample(copy, repair=True)
    assert (header.read_bytes(), arrays.read_bytes()) == sound
    flip(arrays, -1)
    with pytest.raises(ValueError, match=r"_settings\.safetensors is damaged"):
        eqb.open_samples(copy)
    arrays.unlink()
    with pytest.raises(ValueError, match=r"_settings\.safetensors is damaged"):
        eqb.open_samples(copy)


def test_shards_that_do_not_belong_here(finished, copy, tmp_path):
    other = tmp_path / "other"
    sample(other, key=jax.random.key(9), n=300)
    shutil.copy(other / listing(other)[0], copy)
    with pytest.raises(ValueError, match="is there, too"):
        eqb.open_samples(copy)
    (copy / listing(finished)[0]).unlink()
    with pytest.raises(ValueError, match="of the store"):
        eqb.open_samples(copy)


def test_a_newer_version_is_refused(copy):
    from equilibrax._settings import dump_with_digest, load_with_digest

    content = load_with_digest((copy / "_settings.json").read_text())
    (copy / "_settings.json").write_text(dump_with_digest({**content, "version": 2}))
    for attempt in (lambda: eqb.open_samples(copy), lambda: sample(copy)):
        with pytest.raises(ValueError, match="format equilibrax-store 2, and this version reads"):
            attempt()


def test_places_that_are_none(tmp_path):
    (tmp_path / "file").write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="not a folder"):
        sample(tmp_path / "file")
    with pytest.raises(FileExistsError, match=r"folder of another kind: it holds thesis\.tex"):
        sample(folder)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        sample(tmp_path / "no" / "such" / "folder")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        eqb.open_samples(tmp_path / "absent")
    for path in (tmp_path / "file", folder):
        with pytest.raises(ValueError, match="is not a store of samples"):
            eqb.open_samples(path)
    with pytest.raises(ValueError, match="is not UTF-8"):
        sample(tmp_path / os.fsdecode(b"\xff\xfe"))
    with pytest.raises(ValueError, match="`n`"):
        sample(tmp_path / "empty", n=0)
    with pytest.raises(ValueError, match="power of two"):
        sample(tmp_path / "empty", shard_size=300)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(folder) == ["thesis.tex"]


def test_a_disk_that_fills_in_the_middle(finished, tmp_path, monkeypatch):
    path, sync, calls = tmp_path / "store", os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*goes on from there") as caught:
        sample(path)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    kept = listing(path)
    assert 0 < len(kept) < 8
    assert set(kept) <= set(listing(finished))
    assert not list(path.glob("*.unfinished"))
    sample(path)
    assert listing(path) == listing(finished)


def test_a_second_writer_is_refused(copy):
    with (
        filelock.FileLock(copy / ".lock-0"),
        pytest.raises(BlockingIOError, match="another process is writing there"),
    ):
        sample(copy)
    # A process of a larger job that still writes, too.
    with (
        filelock.FileLock(copy / ".lock-3"),
        pytest.raises(BlockingIOError, match="another process is writing there"),
    ):
        sample(copy)
    sample(copy)


def test_past_four_billion_inputs():
    """Input k is numbered within its block of 2**32, and every block has a key of its own."""
    sampler = Sampler(NETWORK, CUBE, KEY, eqb.Flow(abscissa=False), 256)
    last, next_ = (sampler(first, 256, jax.devices()[:1]) for first in (2**32 - 256, 2**32))
    indices = jnp.arange(256, dtype=jnp.uint32)
    expected = draw_inputs(CUBE, KEY, indices + jnp.uint32(2**32 - 256), 2, jnp.float64)
    np.testing.assert_array_equal(last["inputs"], expected)
    expected = draw_inputs(CUBE, key_of_block(KEY, 1), indices, 2, jnp.float64)
    np.testing.assert_array_equal(next_["inputs"], expected)
    first = draw_inputs(CUBE, KEY, indices, 2, jnp.float64)
    assert not np.isin(expected, first).any()


def test_settings_are_readable(finished):
    settings = json.loads((finished / "_settings.json").read_text())["settings"]
    assert settings["draws"] == 1900
    assert settings["network.convention"] == "voltage"
    assert settings["version of jax"] == jax.__version__
