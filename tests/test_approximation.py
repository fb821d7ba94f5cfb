"""The feed-forward network, its training, and the paper's claim for 5-5-5."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import equilibrax as eqb

KEY = jax.random.key(0)


def test_the_two_equations():
    model = eqb.FeedForward(3, 4, 2, key=KEY)
    i = np.asarray([0.3, -1.0, 2.0])
    w1, b1, w2, b2 = (np.asarray(a) for a in jax.tree.leaves(model))
    x1 = np.maximum(w1 @ i - b1, 0)
    np.testing.assert_allclose(model(i), np.maximum(w2 @ x1 - b2, 0), atol=1e-14)
    rows = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_allclose(model.batch(rows), jax.vmap(model)(rows), atol=1e-14)
    assert w1.shape == (4, 3)
    assert w2.shape == (2, 4)


def test_training_is_plain_adam_on_the_batches_of_the_key():
    """The scan against the same steps written out, with Adam's published update."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(40, 3)), rng.uniform(size=(40, 2))
    model = eqb.FeedForward(3, 4, 2, key=KEY)
    run = eqb.train(
        model, (inputs, targets), optimizer=optax.adam(0.01), steps=5, batch_size=8, key=KEY
    )
    parameters = [np.asarray(a) for a in jax.tree.leaves(model)]
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    treedef = jax.tree.structure(model)
    losses = []
    for t in range(5):
        rows = np.asarray(jax.random.randint(jax.random.fold_in(KEY, t), (8,), 0, 40))

        def loss(model, rows=rows):
            return jnp.mean((jax.vmap(model)(inputs[rows]) - targets[rows]) ** 2)

        value, gradient = jax.value_and_grad(loss)(jax.tree.unflatten(treedef, parameters))
        losses.append(float(value))
        for k, g in enumerate(np.asarray(a) for a in jax.tree.leaves(gradient)):
            first[k] = 0.9 * first[k] + 0.1 * g
            second[k] = 0.999 * second[k] + 0.001 * g**2
            mean, square = first[k] / (1 - 0.9 ** (t + 1)), second[k] / (1 - 0.999 ** (t + 1))
            parameters[k] = parameters[k] - 0.01 * mean / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(run.losses, losses, rtol=1e-10)
    for trained, expected in zip(jax.tree.leaves(run.model), parameters, strict=True):
        np.testing.assert_allclose(trained, expected, rtol=1e-8)


def test_training_recovers_a_network_of_its_own_kind():
    teacher = eqb.FeedForward(3, 3, 2, key=jax.random.key(5))
    inputs = jax.random.normal(KEY, (4000, 3))
    targets = jax.vmap(teacher)(inputs)
    student = eqb.FeedForward(3, 24, 2, key=jax.random.key(6))
    run = eqb.train(student, (inputs, targets), optimizer=optax.adam(0.01), steps=3000, key=KEY)
    assert float(eqb.metrics.normalised_error(jax.vmap(run.model)(inputs), targets)) < 0.01
    assert float(run.losses[-100:].mean()) < float(run.losses[:100].mean()) / 50


def test_only_stable_samples_train(reference):
    cube = eqb.UniformCube(-1.0, 1.0)
    every = eqb.sample_fixed_points(eqb.two_neuron(1.5, 0.0), cube, 400, key=KEY, keep="all")
    kept = eqb.sample_fixed_points(eqb.two_neuron(1.5, 0.0), cube, 400, key=KEY)
    model = eqb.FeedForward(2, 2, 2, key=KEY)
    runs = [eqb.train(model, data, steps=3, batch_size=16, key=KEY) for data in (every, kept)]
    np.testing.assert_array_equal(runs[0].losses, runs[1].losses)


def test_metrics_by_hand():
    target = np.asarray([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]])
    output = np.asarray([[1.0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    spread = ((target - target.mean(0)) ** 2).sum()
    assert float(eqb.metrics.normalised_error(output, target)) == pytest.approx(
        (4 + 4 + 1) / spread
    )
    assert float(
        eqb.metrics.normalised_error(target.mean(0) + 0 * target, target)
    ) == pytest.approx(1)
    np.testing.assert_array_equal(eqb.metrics.winner(target, (2, 2)), [0, 0, 1, -1])
    # Three inputs have a winner, and the second one is got wrong.
    assert float(eqb.metrics.winner_agreement(output, target, (2, 2))) == pytest.approx(2 / 3)
    silent = np.zeros((4, 4))
    assert float(eqb.metrics.winner_agreement(silent, target, (2, 2))) == 0
    mixture = jnp.asarray([0.0, 0.4, 0.6, 1.0])
    line = jnp.asarray([[4.0, 0], [1.0, 0], [0, 3.0], [0, 4.0]])
    # The lead falls from 1 at 0.4 to -3 at 0.6: zero a quarter of the way.
    assert float(eqb.metrics.switch_point(line, mixture, (1, 1))) == pytest.approx(0.45)
    assert np.isnan(eqb.metrics.switch_point(line[:2], mixture[:2], (1, 1)))


@pytest.fixture(scope="module")
def approximation(reference):
    return eqb.distill(reference, key=jax.random.key(1), n_draws=50_000, n_test=50_000)


def test_five_hidden_units_embody_the_reference_network(approximation, reference):
    found = approximation.evaluation
    assert approximation.model.hidden_size == 5
    assert found.num_inputs == 50_000
    # Evaluated again on inputs from another key, by NumPy.
    fresh = eqb.sample_fixed_points(
        reference, eqb.UniformCube(-1.0, 1.0), 50_000, key=jax.random.key(99)
    )
    w1, b1, w2, b2 = (np.asarray(a) for a in jax.tree.leaves(approximation.model))
    inputs, rates = np.asarray(fresh.inputs), np.asarray(fresh.rates)

    def network(i):
        return np.maximum(np.maximum(i @ w1.T - b1, 0) @ w2.T - b2, 0)

    output = network(inputs)
    error = ((output - rates) ** 2).sum() / ((rates - rates.mean(0)) ** 2).sum()
    assert error <= 0.09
    assert float(found.normalised_error) <= 0.09
    # The error of single inputs is heavy-tailed: two test sets differ by a few per cent.
    assert float(found.normalised_error) == pytest.approx(error, rel=0.06)
    sums = rates[:, :4].reshape(-1, 2, 2).sum(2)
    guess = output[:, :4].reshape(-1, 2, 2).sum(2)
    contested = sums.max(1) > 0
    agreement = (guess.argmax(1) == sums.argmax(1))[contested & (guess.max(1) > 0)].sum()
    assert agreement / contested.sum() >= 0.85
    assert float(found.winner_agreement) == pytest.approx(agreement / contested.sum(), abs=0.01)
    m = np.linspace(0, 1, 2001)
    line = network(np.stack([1 - m, 1 - m, m, m, 0 * m], 1))[:, :4].reshape(-1, 2, 2).sum(2)
    lead = line[:, 0] - line[:, 1]
    switches = m[1:][(lead[:-1] > 0) & (lead[1:] <= 0)]
    assert np.abs(switches - 0.5).min() <= 0.03
    assert float(found.switch) == pytest.approx(switches[np.abs(switches - 0.5).argmin()], abs=1e-3)


def test_the_approximation_is_callable_and_tells_its_restarts(approximation):
    i = jnp.asarray([0.9, 0.8, 0.1, 0.2, 0.0])
    np.testing.assert_array_equal(approximation(i), approximation.model(i))
    assert approximation.validation_errors.shape == (48,)
    assert approximation.losses.shape == (48, 8000)
    assert approximation.drawn == 100_000
    assert sum(approximation.counts.values()) == 100_000


def test_negative_targets_get_outputs_that_may_be_negative(tmp_path):
    """x -> x / 2 + i settles at 2 i, which is negative here."""
    halved = eqb.as_map(lambda x, i: x / 2 + i, 2)
    plan = {"hidden": 8, "restarts": 4, "steps": 1000, "n_draws": 1000, "n_test": 500}
    apx = eqb.distill(halved, eqb.UniformCube(-1.0, -0.1), key=jax.random.key(0), **plan)
    assert not apx.model.rectified
    assert apx.evaluation.normalised_error < 0.01
    inputs = jnp.asarray([[-0.5, -0.2], [-0.9, -0.4]])
    output = apx.model.batch(inputs)
    np.testing.assert_allclose(output, 2 * inputs, atol=0.2)
    np.testing.assert_allclose(jax.vmap(apx)(inputs), output, rtol=1e-5)
    eqb.save_model(tmp_path / "model", apx.model)
    np.testing.assert_array_equal(eqb.load_model(tmp_path / "model").batch(inputs), output)
    with pytest.raises(ValueError, match="`model` must have a rectified output"):
        eqb.error_bound(eqb.two_neuron(), apx.model, 0.0, 1.0, key=jax.random.key(0))
    samples = eqb.sample_fixed_points(
        halved, eqb.UniformCube(-1.0, 0.5), 400, key=jax.random.key(1)
    )
    model = eqb.FeedForward(2, 4, 2, key=jax.random.key(2))
    with pytest.warns(UserWarning, match="% of the targets are negative, .* rectified=False"):
        eqb.train(model, samples, steps=5, key=jax.random.key(3))
