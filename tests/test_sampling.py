"""Input k is a function of (key, k); what does not settle is discarded and counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import equilibrax as eqb
from equilibrax import Outcome
from equilibrax.sampling import _sample
from equilibrax.sampling._inputs import draw_inputs

KEY = jax.random.key(7)


def test_input_k_depends_on_key_and_k_alone(samples, reference):
    cube = eqb.UniformCube(-1.0, 1.0)
    indices = jnp.asarray([0, 17, 20_000, 49_999], jnp.uint32)
    alone = draw_inputs(cube, jax.random.key(0), indices, 5, jnp.float64)
    np.testing.assert_array_equal(alone, samples.inputs[indices])
    other = draw_inputs(cube, jax.random.key(1), indices, 5, jnp.float64)
    assert not np.isclose(alone, other).any()


def test_chunks_and_rounds_change_nothing(reference, monkeypatch):
    cube = eqb.UniformCube(-1.0, 1.0)
    whole = eqb.sample_fixed_points(reference, cube, 1500, key=KEY)
    monkeypatch.setattr(_sample, "ROUND", 1)
    small = eqb.sample_fixed_points(reference, cube, 1500, key=KEY)
    np.testing.assert_array_equal(small.inputs, whole.inputs)
    np.testing.assert_array_equal(small.state, whole.state)
    assert small.counts == whole.counts
    assert len(small) == small.drawn == 1500


def test_distributions():
    indices = jnp.arange(20_000, dtype=jnp.uint32)
    cube = draw_inputs(eqb.UniformCube(-1.0, 3.0), KEY, indices, 2, jnp.float64)
    assert stats.kstest(np.asarray(cube).ravel(), stats.uniform(-1, 4).cdf).pvalue > 1e-3
    normal = draw_inputs(eqb.Gaussian(1.0, 2.0), KEY, indices, 2, jnp.float64)
    assert stats.kstest(np.asarray(normal).ravel(), stats.norm(1, 2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(np.asarray(cube).T)[0, 1]) < 0.03
    held = eqb.UniformCube(jnp.asarray([0.0, 0.5]), jnp.asarray([1.0, 0.5]))
    assert (draw_inputs(held, KEY, indices[:9], 2, jnp.float64)[:, 1] == 0.5).all()


def test_what_does_not_settle_is_discarded_and_counted():
    network = eqb.two_neuron(1.5, 0.0)
    cube = eqb.UniformCube(-1.0, 1.0)
    kept = eqb.sample_fixed_points(network, cube, 400, key=KEY)
    every = eqb.sample_fixed_points(network, cube, 400, key=KEY, keep="all")
    # Each neuron runs away on its own when its input is positive: a quarter stays.
    inputs = np.asarray(every.inputs)
    settles = (inputs < 0).all(axis=1)
    np.testing.assert_array_equal(np.asarray(every.outcome) == Outcome.STABLE, settles)
    np.testing.assert_array_equal(np.asarray(every.outcome)[~settles], Outcome.DIVERGED)
    np.testing.assert_array_equal(kept.inputs, inputs[settles])
    assert kept.counts == every.counts
    assert kept.counts[Outcome.STABLE] == settles.sum() == len(kept)
    assert kept.counts[Outcome.DIVERGED] == 400 - settles.sum()
    assert kept.discarded == pytest.approx(1 - settles.mean())
    assert set(kept.counts) == set(Outcome)
    assert "DIVERGED" in kept.describe()
    np.testing.assert_array_equal(every.only_stable().inputs, kept.inputs)


def test_nothing_stable_gives_no_samples_and_a_clear_refusal_to_train():
    network = eqb.two_neuron(1.5, 0.0)
    samples = eqb.sample_fixed_points(network, eqb.UniformCube(0.5, 1.0), 40, key=KEY)
    assert samples.inputs.shape == (0, 2)
    assert samples.counts[Outcome.DIVERGED] == 40
    model = eqb.FeedForward(2, 2, 2, key=KEY)
    with pytest.raises(ValueError, match="40 DIVERGED"):
        eqb.train(model, samples, steps=1, key=KEY)
    with pytest.raises(ValueError, match="40 DIVERGED"):
        eqb.approximate(samples, key=KEY)


def test_mixture_line():
    line = eqb.mixture_line((2, 2), 5, jnp.asarray([0.0, 0.25]))
    np.testing.assert_array_equal(line, [[1, 1, 0, 0, 0], [0.75, 0.75, 0.25, 0.25, 0]])
