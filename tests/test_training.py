"""Training from a store, over devices, and after a kill: the same weights."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import equilibrax as eqb
from equilibrax.approximation import _batches
from equilibrax.approximation._batches import FromStore

KEY = jax.random.key(3)
NETWORK = eqb.two_neuron(1.5, 0.0)
MODEL = eqb.FeedForward(2, 6, 2, key=KEY)
PLAN = {"optimizer": optax.adam(0.01), "steps": 90, "batch_size": 32, "key": KEY}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same stable pairs, alone and among all the others."""
    folder = tmp_path_factory.mktemp("stores")
    cube = eqb.UniformCube(-1.0, 1.0)
    return {
        keep: eqb.sample_to_store(
            folder / keep, NETWORK, cube, 1900, key=KEY, keep=keep, shard_size=256
        )
        for keep in ("stable", "all")
    }


@pytest.fixture
def small_chunks(monkeypatch):
    """Three batches in memory at a time: chunks, and epochs of some 15 steps, end everywhere."""
    monkeypatch.setattr(_batches, "BUFFER", 4 * 96)


def same_weights(left, right, **tolerance):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 0, **tolerance})


def test_each_epoch_gives_every_stable_pair_once_in_another_order(stores, small_chunks):
    store = stores["all"]
    source = FromStore(store, 32, KEY, None)
    assert source.length == 3
    total = len(store[:].only_stable())
    chunks = [source.chunk(c) for c in range(2 * total // 96 + 1)]
    inputs, targets = (
        np.concatenate([np.asarray(getattr(c, name)).reshape(-1, 2) for c in chunks])
        for name in ("inputs", "targets")
    )
    known = {
        tuple(i): tuple(r)
        for i, r in zip(*map(np.asarray, (store[:].inputs, store[:].rates)), strict=True)
    }
    assert all(known[tuple(i)] == tuple(r) for i, r in zip(inputs, targets, strict=True))
    # The chunks of an epoch's end hold the beginning of the next: count where they are drawn.
    places = [place for place in source.located(0, 2 * total)]
    rows = [(shard, row) for shard, low, high in places for row in range(low, high)]
    assert len(set(rows[:total])) == len(set(rows[total:])) == total
    assert rows[:total] != rows[total:]
    drawn = {tuple(i) for i in inputs}
    assert len(drawn) == total
    assert (inputs[:96] != inputs[96:192]).any()


def test_a_store_trains_alike_whatever_else_it_keeps(stores, small_chunks):
    runs = [eqb.train(MODEL, store, **PLAN) for store in stores.values()]
    np.testing.assert_array_equal(runs[0].losses, runs[1].losses)
    same_weights(runs[0].model, runs[1].model)
    assert runs[0].losses.shape == (90,)
    assert float(runs[0].losses[-9:].mean()) < float(runs[0].losses[:9].mean())


def test_batches_of_a_store_are_trained_on_by_plain_steps(stores, small_chunks):
    """Against Optax, step by step, on the batches that the chunks hold."""
    run = eqb.train(MODEL, stores["stable"], **{**PLAN, "steps": 7})
    source = FromStore(stores["stable"], 32, KEY, None)
    batches = [
        (chunk.inputs[j], chunk.targets[j])
        for c in range(3)
        for chunk in [source.chunk(c)]
        for j in range(3)
    ]
    model, optimizer = MODEL, PLAN["optimizer"]
    state, losses = optimizer.init(model), []
    for inputs, targets in batches[:7]:

        def loss(model, inputs=inputs, targets=targets):
            return ((jax.vmap(model)(inputs) - targets) ** 2).mean()

        value, gradient = jax.value_and_grad(loss)(model)
        updates, state = optimizer.update(gradient, state)
        model = optax.apply_updates(model, updates)
        losses.append(float(value))
    np.testing.assert_allclose(run.losses, losses, rtol=1e-10)
    same_weights(run.model, model, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["store", "memory"])
def test_devices_change_nothing_but_rounding(kind, stores, small_chunks):
    data = stores["stable"] if kind == "store" else stores["stable"][:]
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("data",))
    alone = eqb.train(MODEL, data, **PLAN)
    spread = eqb.train(MODEL, data, mesh=mesh, **PLAN)
    np.testing.assert_allclose(spread.losses, alone.losses, rtol=1e-9)
    same_weights(spread.model, alone.model, rtol=1e-7, atol=1e-10)
    assert len(jax.tree.leaves(spread.model)[0].devices()) == 1


class Killed(Exception):
    """What ends a training in these tests."""


@pytest.mark.parametrize("kind", ["store", "memory"])
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    kind, stores, small_chunks, tmp_path, monkeypatch
):
    data = stores["stable"] if kind == "store" else stores["stable"][:]
    whole = eqb.train(MODEL, data, checkpoints=tmp_path / "whole", every=20, **PLAN)
    bare = eqb.train(MODEL, data, **PLAN)
    same_weights(whole, bare)
    advance, calls = eqb.approximation._train._advance, []

    def cut_off(*args):
        calls.append(args)
        if len(calls) > (9 if kind == "store" else 2):
            raise Killed
        return advance(*args)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(eqb.approximation._train, "_advance", cut_off)
            with pytest.raises(Killed):
                eqb.train(MODEL, data, checkpoints=tmp_path / "cut", every=20, **PLAN)
        del calls[:]
    resumed = eqb.train(MODEL, data, checkpoints=tmp_path / "cut", every=20, **PLAN)
    same_weights(resumed, whole)
    # Nothing is left to do; and further steps may be asked for.
    again = eqb.train(MODEL, data, checkpoints=tmp_path / "cut", every=20, **PLAN)
    same_weights(again, whole)


def test_a_training_with_other_arguments_is_refused_by_name(stores, tmp_path):
    data, path = stores["stable"], tmp_path / "steps"
    plan = {**PLAN, "steps": 3}
    eqb.train(MODEL, data, checkpoints=path, **plan)
    others = {
        "key": {"key": jax.random.key(4)},
        "batch_size": {"batch_size": 16},
        "model.weights1": {"model": eqb.FeedForward(2, 6, 2, key=jax.random.key(8))},
        "data, by content": {"data": data[:]},
        "model and optimizer, by content": {"optimizer": optax.adam(0.02)},
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"was made with other settings: {name}"):
            eqb.train(**{"model": MODEL, "data": data, "checkpoints": path, **plan, **other})
    with pytest.raises(ValueError, match="`steps` must be at least 3"):
        eqb.train(MODEL, data, checkpoints=path, **{**plan, "steps": 2})
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(FileExistsError, match=r"another kind: it holds chapter\.tex"):
        eqb.train(MODEL, data, checkpoints=tmp_path / "thesis", **plan)


def test_bad_arguments(stores, tmp_path):
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("data",))
    with pytest.raises(ValueError, match="multiple of the mesh's 2 devices"):
        eqb.train(MODEL, stores["stable"], mesh=mesh, **{**PLAN, "batch_size": 33})
    with pytest.raises(ValueError, match=r"Argument `i` must have shape \(3,\)"):
        eqb.train(eqb.FeedForward(3, 6, 3, key=KEY), stores["stable"], **PLAN)
    none = eqb.sample_to_store(
        tmp_path / "none", NETWORK, eqb.UniformCube(0.5, 1.0), 256, key=KEY, shard_size=256
    )
    with pytest.raises(ValueError, match="256 DIVERGED"):
        eqb.train(MODEL, none, **PLAN)
