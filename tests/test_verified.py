"""A verified answer is a stable fixed point, whatever proposed it; the rest is the trajectory's."""

import jax
import numpy as np
import pytest
from oracles import enumerate_voltage

import equilibrax as eqb
from equilibrax import Outcome
from equilibrax.approximation._verified import verified

KEY = jax.random.key(4)


def propose(monkeypatch, rates):
    from equilibrax.approximation import _verified

    monkeypatch.setattr(_verified, "forward", lambda model, inputs: rates)


NETWORKS = {
    "voltage": lambda: eqb.partitioned(),
    "activity": lambda: eqb.partitioned(convention="activity"),
    "recurrent": lambda: eqb.partitioned(w_e=0.8, w_i=2.0, convention="recurrent"),
    "larger": lambda: eqb.random_ei(12, key=jax.random.key(2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_right_proposals_are_verified_and_wrong_ones_fall_back(name, monkeypatch):
    network = NETWORKS[name]()
    n = network.num_neurons
    inputs = jax.random.uniform(KEY, (1024, n), minval=-1.0)
    found = eqb.find_fixed_points(network, inputs)
    rates = np.asarray(found.rates).copy()
    propose(monkeypatch, jax.numpy.asarray(rates))
    right = verified(network, None, inputs)
    # Under "recurrent" rates do not tell a silent neuron's state.
    assert right.verified.mean() > (0.999 if name != "recurrent" else 0.9)
    np.testing.assert_allclose(right.state, found.state, rtol=0, atol=1e-12)
    np.testing.assert_allclose(right.rates, found.rates, rtol=0, atol=1e-12)

    rates[:200] = np.random.default_rng(0).uniform(-1, 1, (200, n)).clip(0)
    propose(monkeypatch, jax.numpy.asarray(rates))
    mixed = verified(network, None, inputs)
    assert 0 < mixed.fallen_back <= 200 + right.fallen_back
    away = ~np.asarray(mixed.verified)
    np.testing.assert_allclose(mixed.state[away], found.state[away], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(mixed.outcome[away], found.outcome[away])
    # Whatever was proposed: at rest, and stable.
    residual = jax.vmap(network.drift)(mixed.state, inputs)
    assert float(np.abs(residual).max()) < 1e-12
    abscissa = [
        np.linalg.eigvals(j).real.max() for j in jax.vmap(network.jacobian)(mixed.state, inputs)
    ]
    assert max(abscissa) < 0
    assert f"{mixed.fallen_back} fallen back" in mixed.describe()


def test_a_verified_point_is_one_of_the_stable_ones_not_always_the_trajectorys(
    reference, monkeypatch
):
    """All active sets are proposed to one bistable input: exactly the stable points pass."""
    i = np.asarray([0.6, 0.6, 0.4, 0.4, 0.0])
    sets = (np.arange(32)[:, None] >> np.arange(5) & 1).astype(float)
    propose(monkeypatch, jax.numpy.asarray(sets))
    answers = verified(reference, None, np.tile(i, (32, 1)))
    stable = [x for x, abscissa in enumerate_voltage(reference, i) if abscissa < 0]
    assert len(stable) == 2
    passed = np.asarray(answers.state)[np.asarray(answers.verified)]
    assert len(passed) == 2
    for x in stable:
        assert np.abs(passed - x).max(axis=1).min() < 1e-12
    reached = np.asarray(eqb.find_fixed_points(reference, i[None]).state[0])
    assert (np.abs(passed - reached).max(axis=1) > 0.1).sum() == 1


def test_what_does_not_settle_says_so(monkeypatch):
    network = eqb.two_neuron(1.5, 0.0)
    inputs = np.asarray([[-0.5, -0.5], [0.5, -0.5], [np.nan, 0.1]])
    propose(monkeypatch, jax.numpy.zeros((3, 2)))
    answers = verified(network, None, inputs)
    np.testing.assert_array_equal(answers.verified, [True, False, False])
    outcomes = [Outcome.STABLE, Outcome.DIVERGED, Outcome.INVALID]
    np.testing.assert_array_equal(answers.outcome, outcomes)
    assert answers.describe() == "1 of 3 verified, 2 fallen back (1 DIVERGED, 1 INVALID)"


def test_bad_arguments(reference):
    model = eqb.FeedForward(5, 5, 5, key=KEY)
    inputs = np.zeros((3, 5))
    smooth = eqb.RateNetwork(np.zeros((5, 5)), transfer=eqb.tanh)
    with pytest.raises(ValueError, match="threshold-linear"):
        verified(smooth, model, inputs)
    with pytest.raises(ValueError, match=r"shape \(m, 5\)"):
        verified(reference, model, inputs[0])
    with pytest.raises(ValueError, match="must be known"):
        jax.jit(lambda i: verified(reference, model, i).state)(inputs)
