"""Samples and weights on disk: whole or not at all."""

import errno
import os

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import equilibrax as eqb
from equilibrax._files import whole_folder

KEY = jax.random.key(3)
MODEL = eqb.FeedForward(2, 3, 2, key=KEY)


@pytest.fixture(scope="module")
def few():
    network = eqb.two_neuron(
        bias=np.asarray([0.1, 0.2]), transfer=eqb.power_law(0.3, 1.5), convention="activity"
    )
    return eqb.sample_fixed_points(network, eqb.UniformCube(-1.0, 1.0), 30, key=KEY)


def test_samples_come_back_bit_for_bit(few, tmp_path):
    eqb.save_samples(tmp_path / "s.parquet", few)
    back = eqb.load_samples(tmp_path / "s.parquet")
    for name in ("inputs", "rates", "state", "outcome"):
        np.testing.assert_array_equal(getattr(back, name), getattr(few, name))
    assert back.drawn == few.drawn
    assert back.counts == few.counts
    assert back.network.convention == "activity"
    assert back.network.partitions == (1, 1)
    for left, right in zip(
        jax.tree.leaves(back.network), jax.tree.leaves(few.network), strict=True
    ):
        np.testing.assert_array_equal(left, right)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column("inputs").type.list_size == 2
    np.testing.assert_array_equal(table.column("rates").to_pylist()[3], few.rates[3])


def test_a_model_comes_back_and_any_framework_reads_it(tmp_path):
    eqb.save_model(tmp_path / "m.safetensors", MODEL)
    back = eqb.load_model(tmp_path / "m.safetensors")
    assert jax.tree.structure(back) == jax.tree.structure(MODEL)
    for left, right in zip(jax.tree.leaves(back), jax.tree.leaves(MODEL), strict=True):
        np.testing.assert_array_equal(left, right)
    arrays = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert set(arrays) == {"weights1", "bias1", "weights2", "bias2"}


def test_nothing_is_written_over_unasked(few, tmp_path):
    path = tmp_path / "old"
    path.write_text("precious")
    for write in (
        lambda **o: eqb.save_samples(path, few, **o),
        lambda **o: eqb.save_model(path, MODEL, **o),
    ):
        with pytest.raises(FileExistsError, match="exists"):
            write()
        assert path.read_text() == "precious"
    eqb.save_model(path, MODEL, overwrite=True)
    assert eqb.load_model(path).hidden_size == 3
    assert os.listdir(tmp_path) == ["old"]


def test_a_full_disk_leaves_the_old_file_and_no_litter(few, tmp_path, monkeypatch):
    path = tmp_path / "s.parquet"
    path.write_text("precious")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        eqb.save_samples(path, few, overwrite=True)
    with pytest.raises(OSError, match="No space left"):
        eqb.save_model(path, MODEL, overwrite=True)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["s.parquet"]


def test_damaged_and_foreign_files_are_named(few, tmp_path):
    path = tmp_path / "s.parquet"
    eqb.save_samples(path, few)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"s\.parquet is not a readable Parquet file"):
        eqb.load_samples(path)
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(ValueError, match="was not written by equilibrax"):
        eqb.load_samples(foreign)
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        eqb.load_model(foreign)
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="holds no model"):
        eqb.load_model(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        eqb.load_samples(tmp_path / "absent")


def test_a_function_of_ones_own_cannot_be_stored(tmp_path):
    network = eqb.RateNetwork(np.zeros((2, 2)), transfer=lambda u: u)
    samples = eqb.sample_fixed_points(network, eqb.UniformCube(), 3, key=KEY)
    with pytest.raises(ValueError, match="transfer function is one of"):
        eqb.save_samples(tmp_path / "s.parquet", samples)
    assert os.listdir(tmp_path) == []


def test_a_folder_appears_whole(tmp_path):
    out = tmp_path / "out"

    def fill(path, name, *, overwrite, error=None):
        with whole_folder(path, overwrite=overwrite) as folder:
            (folder / name).write_text(name)
            if error is not None:
                raise error

    with pytest.raises(RuntimeError):
        fill(out, "a", overwrite=False, error=RuntimeError())
    assert os.listdir(tmp_path) == []
    fill(out, "a", overwrite=False)
    with pytest.raises(FileExistsError):
        fill(out, "b", overwrite=False)
    assert os.listdir(out) == ["a"]
    fill(out, "b", overwrite=True)
    assert sorted(os.listdir(out)) == ["a", "b"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        fill(tmp_path / "file", "a", overwrite=True)
    with pytest.raises(FileNotFoundError):
        fill(tmp_path / "no" / "such", "a", overwrite=True)
