"""Approximations on disk, and the same answers in other frameworks."""

import json
import os

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import equilibrax as eqb

KEY = jax.random.key(3)
SINGLE = eqb.FeedForward(5, 7, 5, key=KEY, dtype=np.float32)
INPUTS = np.random.default_rng(0).uniform(-1, 1, (64, 5)).astype(np.float32)


def by_hand(model, inputs):
    w1, b1, w2, b2 = (np.asarray(a, np.float64) for a in jax.tree.leaves(model))
    u = np.maximum(inputs @ w1.T - b1, 0) @ w2.T - b2
    return np.maximum(u, 0) if model.rectified else u


@pytest.fixture(scope="module")
def approximation(samples):
    return eqb.approximate(samples, key=KEY, restarts=3, steps=40, test_share=0.1)


def test_an_approximation_comes_back_whole(approximation, tmp_path):
    approximation.save(tmp_path / "a.safetensors")
    back = eqb.load_approximation(tmp_path / "a.safetensors")
    assert jax.tree.structure(back) == jax.tree.structure(approximation)
    for left, right in zip(jax.tree.leaves(back), jax.tree.leaves(approximation), strict=True):
        np.testing.assert_array_equal(left, right)
        assert getattr(left, "dtype", None) == getattr(right, "dtype", None)
    np.testing.assert_array_equal(back(INPUTS[0]), approximation(INPUTS[0]))
    # What is no array is readable JSON.
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        header = json.loads(file.metadata()["equilibrax"])["content"]
    assert header["network.convention"] == "voltage"
    assert header["counts.STABLE"] == 50_000


def test_numbers_come_back_as_numbers(approximation, tmp_path):
    """A transfer function's gain is an array without axes."""
    import equinox as eqx

    network = eqb.RateNetwork(np.eye(5) * 0.1, transfer=eqb.power_law(0.3, 2.0))
    own = eqx.tree_at(lambda a: a.network, approximation, network)
    own.save(tmp_path / "a.safetensors")
    back = eqb.load_approximation(tmp_path / "a.safetensors")
    for left, right in zip(jax.tree.leaves(back), jax.tree.leaves(own), strict=True):
        np.testing.assert_array_equal(left, right)
        assert np.shape(left) == np.shape(right)


def test_a_network_of_ones_own_is_refused_with_the_way_out(approximation, tmp_path):
    import equinox as eqx

    network = eqb.RateNetwork(np.eye(5) * 0.1, transfer=lambda u: u**3)
    own = eqx.tree_at(lambda a: a.network, approximation, network)
    with pytest.raises(ValueError, match="save_model"):
        own.save(tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.interop
def test_pytorch_reads_the_weights_and_answers_alike(tmp_path):
    import torch
    from safetensors.torch import load_file

    eqb.save_model(tmp_path / "m.safetensors", SINGLE)
    state = load_file(tmp_path / "m.safetensors")
    x1 = torch.relu(
        torch.nn.functional.linear(torch.from_numpy(INPUTS), state["weights1"], -state["bias1"])
    )
    rates = torch.relu(torch.nn.functional.linear(x1, state["weights2"], -state["bias2"]))
    np.testing.assert_allclose(rates.numpy(), SINGLE.batch(INPUTS), rtol=0, atol=1e-6)
    np.testing.assert_allclose(rates.numpy(), by_hand(SINGLE, INPUTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "rectified"), [(np.float32, True), (np.float64, True), (np.float64, False)]
)
def test_onnxruntime_answers_alike(dtype, rectified, tmp_path):
    import onnxruntime

    model = eqb.FeedForward(5, 7, 5, key=KEY, dtype=dtype, rectified=rectified)
    eqb.export_onnx(tmp_path / "m.onnx", model)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    for rows in (1, 64):
        (rates,) = session.run(None, {"inputs": INPUTS[:rows].astype(dtype)})
        assert rates.dtype == dtype
        np.testing.assert_allclose(rates, by_hand(model, INPUTS[:rows]), rtol=0, atol=1e-6)


def test_stablehlo_answers_alike_for_batches_of_any_size(approximation, tmp_path):
    for name, model in (("single", SINGLE), ("approximation", approximation)):
        path = tmp_path / name
        eqb.export_stablehlo(path, model)
        exported = jax.export.deserialize(bytearray(path.read_bytes()))
        inner = getattr(model, "model", model)
        for rows in (1, 64):
            inputs = INPUTS[:rows].astype(inner.weights1.dtype)
            np.testing.assert_allclose(
                exported.call(inputs), by_hand(inner, inputs), rtol=0, atol=1e-6
            )


WRITERS = {
    "model": eqb.save_model, "onnx": eqb.export_onnx, "stablehlo": eqb.export_stablehlo,
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_a_path_that_exists_is_refused_and_left_alone(kind, tmp_path):
    path = tmp_path / "old"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="exists"):
        WRITERS[kind](path, SINGLE)
    assert path.read_text() == "precious"
    WRITERS[kind](path, SINGLE, overwrite=True)
    assert path.read_bytes() != b"precious"
    with pytest.raises(TypeError, match="`model` must be a FeedForward or an Approximation"):
        WRITERS[kind](tmp_path / "new", jax.nn.relu)
    assert os.listdir(tmp_path) == ["old"]


def test_files_of_another_shape_version_or_kind_are_named(approximation, tmp_path):
    from equilibrax.approximation._approximation import FORMAT
    from equilibrax.approximation._export import MODEL, arrays_of, write_tensors

    path = tmp_path / "m"

    def write(format, arrays, plain=()):
        write_tensors(path, format, arrays, dict(plain), overwrite=True)

    arrays = {name: np.asarray(a) for name, a in arrays_of(SINGLE).items()}
    write(MODEL._replace(version=99), arrays)
    with pytest.raises(ValueError, match="version 99; this version of equilibrax reads up to 2"):
        eqb.load_model(path)
    write(MODEL, {**arrays, "weights2": arrays["weights2"][:, :3]})
    with pytest.raises(ValueError, match="not those of two layers"):
        eqb.load_model(path)
    write(MODEL, {"weights1": arrays["weights1"]})
    with pytest.raises(ValueError, match="and not"):
        eqb.load_model(path)
    eqb.save_model(path, SINGLE, overwrite=True)
    with pytest.raises(ValueError, match="holds equilibrax-feedforward, not equilibrax-approx"):
        eqb.load_approximation(path)
    # One number changed: the digest tells.
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its content is not what was written"):
        eqb.load_model(path)
    # A model of another width than the network that it is saved with; and parts missing.
    approximation.save(path, overwrite=True)
    from equilibrax.approximation._export import read_tensors

    tensors, plain = read_tensors(path, FORMAT)
    other = eqb.FeedForward(4, 7, 4, key=KEY)
    write(FORMAT, {**tensors, **arrays_of(other)}, plain)
    with pytest.raises(ValueError, match="a model of 4 inputs for 5"):
        eqb.load_approximation(path)
    del tensors["network.weights"]
    write(FORMAT, tensors, plain)
    with pytest.raises(ValueError, match="does not hold a whole approximation"):
        eqb.load_approximation(path)
