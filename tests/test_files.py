"""Weights and folders on disk: whole or not at all."""

import errno
import os

import jax
import numpy as np
import pytest
import safetensors.numpy

import equilibrax as eqb
from equilibrax._files import atomic_folder

KEY = jax.random.key(3)
MODEL = eqb.FeedForward(2, 3, 2, key=KEY)


def test_a_model_comes_back_and_any_framework_reads_it(tmp_path):
    eqb.save_model(tmp_path / "m.safetensors", MODEL)
    back = eqb.load_model(tmp_path / "m.safetensors")
    assert jax.tree.structure(back) == jax.tree.structure(MODEL)
    for left, right in zip(jax.tree.leaves(back), jax.tree.leaves(MODEL), strict=True):
        np.testing.assert_array_equal(left, right)
    arrays = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert set(arrays) == {"weights1", "bias1", "weights2", "bias2"}


def test_nothing_is_written_over_unasked(tmp_path):
    path = tmp_path / "old"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="exists"):
        eqb.save_model(path, MODEL)
    assert path.read_text() == "precious"
    eqb.save_model(path, MODEL, overwrite=True)
    assert eqb.load_model(path).hidden_size == 3
    assert os.listdir(tmp_path) == ["old"]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_text("precious")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        eqb.save_model(path, MODEL, overwrite=True)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "m.safetensors"
    eqb.save_model(path, MODEL)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"m\.safetensors is not a readable safetensors file"):
        eqb.load_model(path)
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="holds other tensors, not equilibrax-feedforward"):
        eqb.load_model(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        eqb.load_model(tmp_path / "absent")


def test_a_folder_appears_whole(tmp_path):
    out = tmp_path / "out"

    def fill(path, name, *, overwrite, error=None):
        with atomic_folder(path, overwrite=overwrite) as folder:
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
