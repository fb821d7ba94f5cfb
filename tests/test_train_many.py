"""Many networks at once, live pairs, early stopping and divergence: all the same training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import equilibrax as eqb
from equilibrax import Outcome

KEY = jax.random.key(7)
RNG = np.random.default_rng(7)
TEACHER = eqb.FeedForward(3, 3, 2, key=jax.random.key(5))
INPUTS = jnp.asarray(RNG.normal(size=(500, 3)))
PAIRS = (INPUTS, jax.vmap(TEACHER)(INPUTS))
TRAIN, HELD_OUT = ((a[:400] for a in PAIRS), (a[400:] for a in PAIRS))
TRAIN, HELD_OUT = tuple(TRAIN), tuple(HELD_OUT)
MODEL = eqb.FeedForward(3, 4, 2, key=KEY)


def error_of(model, pairs):
    """Normalised error in NumPy."""
    inputs, targets = map(np.asarray, pairs)
    w1, b1, w2, b2 = (np.asarray(a) for a in jax.tree.leaves(model))
    output = np.maximum(np.maximum(inputs @ w1.T - b1, 0) @ w2.T - b2, 0)
    return ((output - targets) ** 2).sum() / ((targets - targets.mean(0)) ** 2).sum()


@pytest.fixture(scope="module")
def runs():
    return eqb.train_many(
        PAIRS, hidden=(2, 4), restarts=3, learning_rates=(0.01, 0.03), steps=300, batch_size=32,
        key=KEY, optimizer=optax.adam,
    )  # fmt: skip


def test_each_of_many_is_what_training_it_alone_gives(runs):
    key_batches, key_models = jax.random.split(KEY)
    for j, size, rate in ((4, 2, 0.03), (8, 4, 0.01)):
        member = jax.random.split(jax.random.fold_in(key_models, size), 6)[j % 6]
        alone = eqb.train(
            eqb.FeedForward(3, size, 2, key=member), TRAIN, optimizer=optax.adam(rate), steps=300,
            batch_size=32, key=key_batches,
        )  # fmt: skip
        np.testing.assert_allclose(runs.losses[j], alone.losses, rtol=1e-6)
        assert (runs.hidden_size[j], float(runs.learning_rate[j])) == (size, rate)
        for a, b in zip(jax.tree.leaves(runs[j]), jax.tree.leaves(alone.model), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_the_best_is_the_one_with_the_least_error_on_what_was_held_out(runs):
    assert len(runs) == 12
    errors = [error_of(runs[j], HELD_OUT) for j in range(12)]
    np.testing.assert_allclose(runs.errors, errors, rtol=1e-9)
    assert runs.best == int(np.argmin(errors))
    assert error_of(runs.model, HELD_OUT) == pytest.approx(min(errors))
    assert f"12 networks: least error {min(errors):.4f}" in runs.describe()
    with pytest.raises(IndexError, match="12 networks"):
        runs[12]


def test_close_errors_are_told_apart_by_their_winners():
    from equilibrax.approximation._train_many import choose

    errors = np.asarray([0.081, 0.080, 0.0835, 0.082, np.nan])
    assert choose(errors, np.asarray([0.86, 0.84, 0.99, 0.85, 1.0])) == 0
    assert choose(errors, np.full(5, np.nan)) == 1


def test_diverged_networks_are_marked_and_keep_the_weights_they_had():
    runs = eqb.train_many(
        PAIRS, hidden=4, restarts=4, learning_rates=(0.01, 1e3), optimizer=optax.sgd, steps=20,
        batch_size=32, key=KEY,
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        fine = (runs.losses <= 1e3 * runs.losses[:, :1]).all(axis=1)
    np.testing.assert_array_equal(runs.diverged, ~fine)
    assert 0 < runs.diverged[4:].sum() == runs.diverged.sum()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(runs.models))
    assert runs.best < 4
    with pytest.warns(RuntimeWarning, match="all networks diverged"):
        eqb.train_many(
            PAIRS, hidden=4, restarts=1, learning_rates=(1e30,), optimizer=optax.sgd, steps=20,
            batch_size=32, key=KEY,
        )  # fmt: skip


def test_dead_units_are_counted():
    silent = eqb.FeedForward(3, 4, 2, key=KEY)
    # Silent for every input within the cube.
    silent = jax.tree.map(lambda a: a, silent)
    bias = silent.bias1.at[1].set(1e3)
    import equinox as eqx

    silent = eqx.tree_at(lambda m: m.bias1, silent, bias)
    run = eqb.train(silent, TRAIN, steps=1, batch_size=8, key=KEY)
    hidden = np.asarray(TRAIN[0]) @ np.asarray(run.model.weights1).T - np.asarray(run.model.bias1)
    assert run.dead_units == (hidden <= 0).all(axis=0).sum() == 1
    assert "1 hidden units are dead" in run.describe()


def test_a_rate_too_large_is_stopped_reported_and_the_best_weights_kept():
    with pytest.warns(RuntimeWarning, match="the loss diverged"):
        run = eqb.train(MODEL, TRAIN, optimizer=optax.sgd(1e6), steps=50, batch_size=32, key=KEY)
    assert run.ended == "diverged"
    assert run.best_step == 0
    assert 1 <= len(run.losses) < 50
    assert np.isfinite(run.losses).all()
    for a, b in zip(jax.tree.leaves(run.model), jax.tree.leaves(MODEL), strict=True):
        np.testing.assert_array_equal(a, b)

    # A rate that turns too large on the way: what was learnt before is kept.
    rate = optax.piecewise_constant_schedule(0.05, {1500: 1e8})
    with pytest.warns(RuntimeWarning, match="the model is that of step 1000"):
        run = eqb.train(MODEL, TRAIN, optimizer=optax.sgd(rate), steps=2500, batch_size=32, key=KEY)
    assert len(run.losses) > 1400
    assert error_of(run.model, HELD_OUT) < 0.5 * error_of(MODEL, HELD_OUT)


def test_early_stopping_keeps_the_least_validation_error(tmp_path):
    few = tuple(a[:24] for a in TRAIN)
    plan = {
        "optimizer": optax.adam(0.02), "steps": 3000, "batch_size": 8, "key": KEY,
        "validation": HELD_OUT, "validate_every": 50,
    }  # fmt: skip
    noisy = (few[0], few[1] + RNG.normal(size=few[1].shape))
    model = eqb.FeedForward(3, 24, 2, key=KEY)
    run = eqb.train(model, noisy, patience=3, **plan)
    assert run.ended == "patience"
    least = int(np.argmin(run.validation_losses))
    assert len(run.validation_losses) == least + 4
    assert run.best_step == run.validated[least] == 50 * (least + 1)
    output = jax.vmap(run.model)(HELD_OUT[0])
    expected = float(np.mean((np.asarray(output) - np.asarray(HELD_OUT[1])) ** 2))
    assert run.validation_losses[least] == pytest.approx(expected)
    # The same by way of checkpoints, also when there is nothing left to do.
    for _ in range(2):
        again = eqb.train(
            model, noisy, patience=3, checkpoints=tmp_path / "steps", every=100, **plan
        )
        np.testing.assert_array_equal(again.losses, run.losses)
        assert (again.ended, again.best_step) == (run.ended, run.best_step)
        for a, b in zip(jax.tree.leaves(again.model), jax.tree.leaves(run.model), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def small_chunks(monkeypatch):
    from equilibrax.approximation import _batches

    monkeypatch.setattr(_batches, "SETTLED", 4 * 16)


def test_live_batches_are_fresh_stable_and_counted(small_chunks):
    network = eqb.two_neuron(1.5, 0.0)
    live = eqb.LiveSamples(network, eqb.UniformCube(-1.0, 1.0))
    model = eqb.FeedForward(2, 4, 2, key=KEY)
    optimizer = optax.adam(0.01)
    run = eqb.train(model, live, optimizer=optimizer, steps=10, batch_size=16, key=KEY)
    # The same steps written out: what does not settle has no part in its batch's mean.
    state, losses, counts = optimizer.init(model), [], dict.fromkeys(Outcome, 0)
    for t in range(10):
        keys = jax.vmap(lambda j, t=t: jax.random.fold_in(jax.random.fold_in(KEY, t), j))(
            jnp.arange(16)
        )
        inputs = jax.vmap(lambda k: jax.random.uniform(k, (2,), minval=-1.0, maxval=1.0))(keys)
        found = eqb.find_fixed_points(network, inputs, method=live.method)
        stable = np.asarray(found.stable)
        for outcome, count in found.counts.items():
            counts[outcome] += count if t < 12 else 0

        def loss(model, rows=inputs[stable], rates=found.rates[stable]):
            return jnp.mean((jax.vmap(model)(rows) - rates) ** 2)

        value, gradient = jax.value_and_grad(loss)(model)
        updates, state = optimizer.update(gradient, state)
        model = optax.apply_updates(model, updates)
        losses.append(float(value))
    np.testing.assert_allclose(run.losses, losses, rtol=1e-9)
    for a, b in zip(jax.tree.leaves(run.model), jax.tree.leaves(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    # Chunks of four steps: the last one is settled whole, and two of its steps are not used.
    assert sum(run.counts.values()) == 12 * 16
    assert run.counts[Outcome.DIVERGED] >= counts[Outcome.DIVERGED] > 0


class Faulty(eqb.UniformCube):
    """Every other input is not a number."""

    def draw(self, key, n, dtype):
        i = super().draw(key, n, dtype)
        return jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 1)), jnp.nan, i)


def test_live_inputs_that_are_not_finite_are_left_out(small_chunks):
    live = eqb.LiveSamples(eqb.two_neuron(1.5, 0.0), Faulty(-1.0, 1.0))
    model = eqb.FeedForward(2, 4, 2, key=KEY)
    run = eqb.train(model, live, steps=12, batch_size=16, key=KEY)
    assert run.ended == "steps"
    assert np.isfinite(run.losses).all()
    assert run.counts[Outcome.INVALID] > 50


def test_bad_arguments(tmp_path):
    live = eqb.LiveSamples(eqb.two_neuron(1.5, 0.0), eqb.UniformCube(0.5, 1.0))
    model = eqb.FeedForward(2, 4, 2, key=KEY)
    cases = [
        (lambda: eqb.train(model, live, steps=3, batch_size=8, key=KEY), "settles none of the first 24 DIVERGED"),
        (lambda: eqb.train(MODEL, TRAIN, patience=3, key=KEY), "`patience` must come with validation data"),
        (lambda: eqb.train(MODEL, TRAIN, validation=(INPUTS, INPUTS), key=KEY), "`model` must answer"),
        (lambda: eqb.train(MODEL, TRAIN, validation=3, key=KEY), "`validation` must be Samples or a pair"),
        (lambda: eqb.train_many(live, hidden=3, key=KEY), "`validation` must be given where data is a LiveSamples"),
        (lambda: eqb.train_many(PAIRS, hidden=np.int64(2), validation=(INPUTS, INPUTS[:, :1]), key=KEY), "`model` must answer an input of shape (3,) with shape (1,)"),
        (lambda: eqb.train_many(PAIRS, hidden=(), key=KEY), "`hidden` must hold at least one number"),
        (lambda: eqb.train_many(PAIRS, hidden=3, learning_rates=(-1.0,), key=KEY), "`learning_rates` must be positive"),
        (lambda: eqb.train_many(PAIRS, hidden=3, optimizer="adam", key=KEY), "`optimizer` must be an Optax optimiser, or a function"),
        (lambda: eqb.LiveSamples(eqb.two_neuron(), (-1, 1)), "`inputs` must be a distribution"),
    ]  # fmt: skip
    for call, words in cases:
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
        assert words in str(caught.value)
