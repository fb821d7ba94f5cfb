"""What is proven of a network without any input, against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equilibrax as eqb


def logarithmic_norm(jacobian, norm, eta):
    """By its definition: (|I + h J| - 1) / h for a small h, in the weighted norm."""
    h = 1e-7
    step = np.eye(len(eta)) + h * jacobian
    if norm == "l1":
        scaled = eta[:, None] * step / eta
        return (np.abs(scaled).sum(axis=0).max() - 1) / h
    scaled = step / eta[:, None] * eta
    return (np.abs(scaled).sum(axis=1).max() - 1) / h


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
@pytest.mark.parametrize("transfer", [eqb.threshold_linear, eqb.tanh, eqb.sigmoid])
def test_contraction_holds_for_all_slopes(convention, transfer):
    rng = np.random.default_rng(0)
    gain = 0.8 if transfer is eqb.sigmoid else 0.2
    network = eqb.RateNetwork(
        gain * rng.normal(size=(6, 6)), tau=rng.uniform(1, 3, 6), transfer=transfer,
        convention=convention,
    )  # fmt: skip
    facts = eqb.analyse(network)
    assert facts.contraction > 0
    assert facts.unique
    assert facts.convergent
    assert facts.bounded
    assert facts.unstable_set is None
    largest = 0.25 if transfer is eqb.sigmoid else 1.0
    w, tau = np.asarray(network.weights), np.asarray(network.tau)
    worst = -np.inf
    for _ in range(300):
        slope = largest * np.where(rng.random(6) < 0.5, rng.random(6), rng.integers(0, 2, 6))
        gain = w * slope if convention == "voltage" else slope[:, None] * w
        jacobian = (gain - np.eye(6)) / tau[:, None]
        worst = max(worst, logarithmic_norm(jacobian, facts.norm, facts.norm_weights))
    assert worst <= -facts.contraction + 1e-6
    # And it is not far from the truth: the worst slopes are corners.
    assert worst >= -1.3 * facts.contraction


def test_the_reference_network_has_no_global_property():
    network = eqb.partitioned()
    facts = eqb.analyse(network)
    assert facts.unique is False
    assert facts.contraction == 0
    assert facts.norm is None
    sigma = facts.unstable_set
    jacobian = np.asarray(network.weights) * sigma - np.eye(5)
    assert np.linalg.eigvals(jacobian).real.max() > 0
    assert facts.bounded is not False


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
def test_runaway_excitation_has_an_unbounded_ray(convention):
    network = eqb.RateNetwork(
        jnp.asarray([[1.5, 0.2, 0.1], [0.1, 1.2, 0.0], [-1.0, -1.0, -2.0]]), convention=convention
    )
    facts = eqb.analyse(network)
    assert facts.bounded is False
    ray = jnp.asarray(facts.unbounded_ray)
    # Along the ray the flow is parallel to it, and outwards.
    drift = network.drift(ray, jnp.zeros(3))
    growth = float(drift @ ray / (ray @ ray))
    assert growth > 0
    np.testing.assert_allclose(drift, growth * ray, atol=1e-12)
    found = eqb.find_fixed_points(network, jnp.zeros(3), x0=ray)
    assert int(found.outcome) == eqb.Outcome.DIVERGED


def test_inhibition_alone_is_bounded():
    facts = eqb.analyse(eqb.two_neuron(0.0, -3.0))
    assert facts.bounded is True
    assert facts.unique is False
    assert facts.contraction == 0


def test_larger_networks():
    calm = eqb.analyse(eqb.RateNetwork(0.1 * jnp.ones((40, 40)) / 4 - 0.05))
    assert calm.contraction > 0
    assert calm.unique
    wild = eqb.analyse(eqb.random_ei(40, key=jax.random.key(0), gain=3.0))
    assert wild.unique is None
    assert wild.contraction == 0


def test_what_cannot_be_analysed():
    with pytest.raises(TypeError, match="must be a RateNetwork"):
        eqb.analyse(eqb.WilsonCowan())
    with pytest.raises(ValueError, match="must be known"):
        jax.jit(lambda w: eqb.analyse(eqb.RateNetwork(w)).contraction)(jnp.eye(2))
