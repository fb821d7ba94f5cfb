"""Equations of motion, weight matrices, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from oracles import velocity

import equilibrax as eqb

REFERENCE = [
    [2.5, 2.5, 0, 0, -8],
    [2.5, 2.5, 0, 0, -8],
    [0, 0, 2.5, 2.5, -8],
    [0, 0, 2.5, 2.5, -8],
    [2.5, 2.5, 2.5, 2.5, -8],
]


def random_network(convention, transfer, seed=0, n=4):
    rng = np.random.default_rng(seed)
    return eqb.RateNetwork(
        rng.normal(size=(n, n)),
        bias=rng.normal(size=n),
        tau=rng.uniform(0.5, 2, n),
        transfer=transfer,
        convention=convention,
    )


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
@pytest.mark.parametrize("transfer", [eqb.threshold_linear, eqb.tanh, eqb.sigmoid])
def test_equations_and_jacobians(convention, transfer):
    network = random_network(convention, transfer)
    f = velocity(network)
    rng = np.random.default_rng(1)
    for _ in range(5):
        x, i = rng.normal(size=(2, 4))
        np.testing.assert_allclose(network.vector_field(0.0, x, i), f(0, x, i), atol=1e-13)
        np.testing.assert_allclose(network.drift(x, i), network.tau * f(0, x, i), atol=1e-13)
        step = 1e-6
        columns = [(f(0, x + step * e, i) - f(0, x - step * e, i)) / (2 * step) for e in np.eye(4)]
        np.testing.assert_allclose(network.jacobian(x, i), np.stack(columns, 1), atol=1e-7)
        automatic = jax.jacobian(lambda y, i=i: network.vector_field(0.0, y, i))(x)
        np.testing.assert_allclose(network.jacobian(x, i), automatic, atol=1e-12)


def test_output_rates_of_each_convention():
    x = np.asarray([-1.0, 0.5, 2.0])
    rates = {
        c: eqb.RateNetwork(np.zeros((3, 3)), bias=1.0, convention=c).rates(x)
        for c in ("voltage", "activity", "recurrent")
    }
    np.testing.assert_array_equal(rates["voltage"], [0, 0, 1])
    np.testing.assert_array_equal(rates["activity"], x)
    np.testing.assert_array_equal(rates["recurrent"], [0, 0.5, 2])


def test_a_neuron_at_its_threshold_is_silent():
    assert float(eqb.threshold_linear(jnp.asarray(0.0))) == 0.0
    assert float(jax.grad(eqb.threshold_linear)(0.0)) == 0.0


@given(st.floats(1.0, 4.0), st.floats(0.01, 3.0), st.floats(-5.0, 5.0))
@settings(deadline=None, max_examples=30)
def test_power_law_and_its_slope(exponent, gain, u):
    phi = eqb.power_law(gain, exponent)
    assert float(phi(jnp.asarray(u))) == pytest.approx(gain * max(u, 0.0) ** exponent)
    slope = gain * exponent * max(u, 0.0) ** (exponent - 1) if u > 0 else 0.0
    assert float(phi.derivative(jnp.asarray(u))) == pytest.approx(slope)


def test_the_parameters_of_a_callable_module_are_leaves():
    class Scaled(eqx.Module):
        gain: jax.Array

        def __call__(self, u):
            return self.gain * jnp.tanh(u)

    def drift(gain):
        network = eqb.RateNetwork(np.eye(2), transfer=Scaled(gain))
        return network.drift(jnp.ones(2), jnp.zeros(2)).sum()

    network = eqb.RateNetwork(np.eye(2), transfer=Scaled(jnp.asarray(0.5)))
    assert network.astype(jnp.float32).transfer.function.gain.dtype == jnp.float32
    assert float(jax.grad(drift)(0.5)) == pytest.approx(2 * np.tanh(1))
    plain = eqb.RateNetwork(np.eye(2), transfer=jnp.tanh)
    assert len(jax.tree.leaves(plain)) == 3
    assert jax.tree.structure(plain) == jax.tree.structure(
        eqb.RateNetwork(np.eye(2), transfer=jnp.tanh)
    )


def test_partitioned_is_the_reference_network():
    network = eqb.partitioned()
    np.testing.assert_array_equal(network.weights, REFERENCE)
    assert network.partitions == (2, 2)
    assert network.convention == "voltage"
    without = eqb.partitioned(w_ii=0.0)
    np.testing.assert_array_equal(without.weights[:, :4], np.asarray(REFERENCE)[:, :4])
    assert float(without.weights[4, 4]) == 0.0
    assert eqb.partitioned((3, 1, 2)).num_neurons == 7


def test_the_other_builders():
    np.testing.assert_array_equal(eqb.two_neuron((1.0, 2.0), (3.0, 4.0)).weights, [[1, 3], [4, 2]])
    ring = np.asarray(eqb.ring(12, -4.0, 3.0).weights)
    assert ring[0, 0] == pytest.approx(-1 / 12)
    assert ring[0, 6] == pytest.approx(-7 / 12)
    np.testing.assert_allclose(np.roll(ring, (1, 1), (0, 1)), ring, atol=1e-15)
    graph = eqb.from_graph([[0, 0, 1], [1, 0, 0], [0, 1, 0]], epsilon=0.25, delta=0.5)
    expected = [[0, -1.5, -0.75], [-0.75, 0, -1.5], [-1.5, -0.75, 0]]
    np.testing.assert_allclose(graph.weights, expected)
    assert graph.convention == "activity"


def test_random_ei_obeys_dale_and_fills_the_disc():
    n = 400
    weights = np.asarray(eqb.random_ei(n, key=jax.random.key(0), gain=0.8).weights)
    assert (weights[:, :320] >= 0).all()
    assert (weights[:, 320:] <= 0).all()
    assert (np.diag(weights) == 0).all()
    assert (weights != 0).mean() == pytest.approx(0.2, abs=0.01)
    assert np.abs(weights.sum(axis=1)).mean() < np.abs(weights).sum(axis=1).mean() / 5
    radii = np.sort(np.abs(np.linalg.eigvals(weights)))
    # The bulk fills the disc; a few outliers come from the rows' fluctuating sums.
    assert radii[int(0.98 * n)] == pytest.approx(0.8, abs=0.08)
    again = eqb.random_ei(n, key=jax.random.key(0), gain=0.8).weights
    np.testing.assert_array_equal(weights, again)


def test_networks_are_built_inside_jit_and_differentiated():
    def total(weights):
        network = eqb.RateNetwork(weights, tau=2.0)
        return network.drift(jnp.ones(2), jnp.zeros(2)).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(total))(jnp.eye(2)), np.ones((2, 2)))


def test_the_scale_of_a_saturated_neuron_is_that_of_its_own_side():
    """At x = -30 a sigmoid gives nothing, at 30 it gives 1: what its target hears is W / 2."""
    network = eqb.RateNetwork(np.asarray([[0.0, 4.0], [0.0, 0.0]]), transfer=eqb.sigmoid)
    silent, active = (network.scale(jnp.asarray([0.1, x]), jnp.zeros(2)) for x in (-30.0, 30.0))
    np.testing.assert_allclose(silent, [0.1, 30.0], rtol=1e-9)
    np.testing.assert_allclose(active, [2.0, 30.0], rtol=1e-9)
