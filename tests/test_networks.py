"""Equations of motion, weight matrices, and what is refused."""

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


EYE = np.eye(2)
BAD_NETWORKS = {
    "not square": (lambda: eqb.RateNetwork(np.zeros((5, 4))), "`weights` must have shape (n, n), but has shape (5, 4)"),
    "a vector": (lambda: eqb.RateNetwork(np.zeros(3)), "`weights` must have shape (n, n)"),
    "no neurons": (lambda: eqb.RateNetwork(np.zeros((0, 0))), "`weights` must have shape (n, n)"),
    "ragged": (lambda: eqb.RateNetwork([[1.0], [1.0, 2.0]]), "`weights` must be a rectangular array"),
    "nan weight": (lambda: eqb.RateNetwork(EYE * np.nan), "`weights` must be finite, but holds nan at index (0, 0)"),
    "infinite weight": (lambda: eqb.RateNetwork(np.asarray([[0, np.inf], [0, 0]])), "index (0, 1)"),
    "integers": (lambda: eqb.RateNetwork(np.eye(2, dtype=int)), "`weights` must have dtype float32 or float64, but has dtype int64"),
    "complex": (lambda: eqb.RateNetwork(EYE * 1j), "has dtype complex128"),
    "half precision": (lambda: eqb.RateNetwork(EYE.astype(np.float16)), "has dtype float16"),
    "bias shape": (lambda: eqb.RateNetwork(EYE, bias=np.zeros(3)), "`bias` must have shape () or (2,), but has shape (3,)"),
    "bias nan": (lambda: eqb.RateNetwork(EYE, bias=np.nan), "`bias` must be finite"),
    "tau zero": (lambda: eqb.RateNetwork(EYE, tau=0), "`tau` must be positive and finite, but holds 0.0"),
    "tau negative": (lambda: eqb.RateNetwork(EYE, tau=np.asarray([1.0, -1.0])), "holds -1.0 at index (1,)"),
    "convention": (lambda: eqb.RateNetwork(EYE, convention="current"), "`convention` must be one of 'voltage', 'activity', 'recurrent', but is 'current'"),
    "transfer name": (lambda: eqb.RateNetwork(EYE, transfer="relu"), "`transfer` must be a transfer function"),
    "transfer shape": (lambda: eqb.RateNetwork(EYE, transfer=jnp.sum), "`transfer` must be elementwise"),
    "partitions": (lambda: eqb.RateNetwork(EYE, partitions=(2, 2)), "`partitions` must hold at most 2 neurons"),
    "empty partition": (lambda: eqb.partitioned((2, 0)), "`partitions` must be a positive integer"),
    "negative weight": (lambda: eqb.partitioned(w_i=-8.0), "`w_i` must be finite and not negative"),
    "three weights": (lambda: eqb.two_neuron((1.0, 2.0, 3.0)), "`w_self` must be one number or two"),
    "small ring": (lambda: eqb.ring(2), "`n` must be an integer of at least 3, but is 2"),
    "no key": (lambda: eqb.random_ei(10, key=3), "`key` must be one PRNG key"),
    "density": (lambda: eqb.random_ei(10, key=jax.random.key(0), density=1.5), "`density` must be a number above 0 and below 1"),
    "graph values": (lambda: eqb.from_graph([[0, 2], [0, 0]]), "`adjacency` must hold only 0 and 1"),
    "self edges": (lambda: eqb.from_graph([[1, 0], [0, 0]]), "`adjacency` must have a zero diagonal"),
    "epsilon": (lambda: eqb.from_graph([[0, 1], [1, 0]], epsilon=0.4), "`epsilon` must be a number above 0 and below 0.333333"),
    "exponent": (lambda: eqb.power_law(1.0, 0.5), "`exponent` must be at least 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_bad_networks_get_one_clear_error(case):
    build, words = BAD_NETWORKS[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        build()
    assert str(caught.value).startswith("Argument `")
    assert words in str(caught.value)


def test_networks_are_built_inside_jit_and_differentiated():
    def total(weights):
        network = eqb.RateNetwork(weights, tau=2.0)
        return network.drift(jnp.ones(2), jnp.zeros(2)).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(total))(jnp.asarray(EYE)), np.ones((2, 2)))
