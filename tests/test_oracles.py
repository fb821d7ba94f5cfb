"""The reference network's oracles, and settled states against LSODA and enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import enumerate_voltage, lsoda, velocity
from problems import SETTLING

import equilibrax as eqb
from equilibrax import Outcome


@pytest.mark.parametrize("name", SETTLING)
def test_settled_states_agree_with_lsoda(name):
    network = SETTLING[name]()
    n = network.num_neurons
    inputs = np.random.default_rng(5).uniform(-1, 1, (200, n))
    t1 = 400.0 * float(network.tau.max())
    expected = np.stack([lsoda(network, i, t1=t1).y[:, -1] for i in inputs])
    # In single precision one of each kind: every program takes ten seconds to compile.
    precisions = {jnp.float64: 1e-6}
    if name in ("reference", "random-ei-20", "tanh-20"):
        precisions[jnp.float32] = 1e-4
    for dtype, tolerance in precisions.items():
        found = eqb.find_fixed_points(network.astype(dtype), inputs.astype(dtype))
        assert found.state.dtype == dtype
        stable = np.asarray(found.stable)
        assert stable.mean() > 0.97, found.counts
        error = np.abs(np.asarray(found.state)[stable] - expected[stable])
        assert error.max() < tolerance
        # Threshold-linear networks have certificates in every convention, for any tau and size.
        assert (float(found.certified.mean()) > 0.9) == network.is_threshold_linear


def test_evidence_is_true_of_the_state(reference):
    inputs = jax.random.uniform(jax.random.key(1), (300, 5), minval=-1.0)
    found = eqb.find_fixed_points(reference, inputs)
    f = velocity(reference)
    for k in range(300):
        state = np.asarray(found.state[k])
        residual = np.abs(f(0.0, state, np.asarray(inputs[k]))).max()
        assert float(found.residual[k]) == pytest.approx(residual, abs=1e-14)
        points = enumerate_voltage(reference, inputs[k])
        distance, abscissa = min((np.abs(x - state).max(), a) for x, a in points)
        assert distance < 1e-12
        assert float(found.abscissa[k]) == pytest.approx(abscissa, abs=1e-6)
        assert abscissa < 0
    np.testing.assert_allclose(found.rates, np.maximum(found.state, 0))
    assert float(found.certified.mean()) > 0.99
    assert bool((found.time > 0).all())
    assert bool((found.num_steps > 0).all())
    assert bool(jnp.isnan(found.period).all())


def test_oracles_of_the_reference_network(samples):
    assert samples.counts[Outcome.STABLE] == samples.drawn == 50_000
    figures = eqb.metrics.competition(samples)
    known = {
        "one_active": 0.808, "none_active": 0.192, "partly_active": 0.150,
        "rectified_sum": 0.971, "raw_sum": 0.884,
    }  # fmt: skip
    for name, value in known.items():
        # Five standard errors of a share of 50,000 inputs, and the rounding of the oracle.
        assert figures[name] == pytest.approx(
            value, abs=5 * np.sqrt(value * (1 - value) / 5e4) + 5e-4
        )
    assert figures["several_active"] == 0.0


def test_positive_inputs_always_have_a_winner(reference):
    cube = eqb.UniformCube(jnp.zeros(5), jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0]))
    found = eqb.metrics.competition(
        eqb.sample_fixed_points(reference, cube, 20_000, key=jax.random.key(2))
    )
    assert found["one_active"] == 1.0
    assert found["raw_sum"] == pytest.approx(0.969, abs=0.006)


def test_switch_and_gain_on_the_mixture_line(reference):
    mixture = jnp.linspace(0, 1, 201)
    inputs = eqb.mixture_line((2, 2), 5, mixture)
    found = eqb.find_fixed_points(reference, inputs)
    sums = np.asarray(eqb.metrics.partition_sums(found.rates, (2, 2)))
    m = np.asarray(mixture)
    low, high = m < 0.5, m > 0.5
    np.testing.assert_allclose(sums[low, 0], 2.25 * (1 - 2 * m[low]) + 2.25, atol=1e-12)
    np.testing.assert_allclose(sums[high, 1], 2.25 * (2 * m[high] - 1) + 2.25, atol=1e-12)
    assert (sums[low, 1] == 0).all()
    assert (sums[high, 0] == 0).all()
    assert float(eqb.metrics.switch_point(found.rates, mixture, (2, 2))) == pytest.approx(
        0.5, abs=1e-9
    )


def test_eigenvalues_of_the_reference_network(reference):
    def spectrum(active):
        state = jnp.where(jnp.asarray(active), 1.0, -1.0)
        return np.linalg.eigvals(np.asarray(reference.jacobian(state, jnp.zeros(5))))

    leading = np.sort(spectrum([True, True, False, False, True]).real)
    np.testing.assert_allclose(leading[-1], -1, atol=1e-9)
    assert np.isclose(leading, -4, atol=1e-9).any()
    everything = spectrum([True] * 5)
    assert np.isclose(everything, 4, atol=1e-9).any()
    pair = everything[np.abs(everything.imag) > 1]
    np.testing.assert_allclose(np.sort(pair.imag), [-6.14, 6.14], atol=0.005)
    np.testing.assert_allclose(pair.real, -2.5, atol=1e-9)


def test_half_of_the_inputs_have_no_stable_point_without_inhibitory_self_connection():
    network = eqb.partitioned(w_ii=0.0)
    inputs = jax.random.uniform(jax.random.key(3), (256, 5), minval=-1.0)
    found = eqb.find_fixed_points(network, inputs)
    can_settle = np.zeros(256, bool)
    for k in range(256):
        stable = [x for x, abscissa in enumerate_voltage(network, inputs[k]) if abscissa < 0]
        can_settle[k] = bool(stable)
        if bool(found.stable[k]):
            assert min(np.abs(x - np.asarray(found.state[k])).max() for x in stable) < 1e-10
    assert not np.asarray(found.stable)[~can_settle].any()
    assert 0.4 < can_settle.mean() < 0.6
    ended = set(np.asarray(found.outcome)[~can_settle].tolist())
    assert ended <= {Outcome.OSCILLATING, Outcome.NOT_SETTLED, Outcome.UNSTABLE}
    assert found.counts[Outcome.OSCILLATING] > 0.9 * (~can_settle).sum()


def test_losers_fall_silent_under_voltage_and_cannot_under_recurrent():
    inputs = jax.random.uniform(jax.random.key(4), (128, 5)).at[:, 4].set(0.0)
    voltage = eqb.find_fixed_points(eqb.partitioned(), inputs)
    assert bool(((eqb.metrics.partition_sums(voltage.rates, (2, 2)) == 0).sum(axis=1) == 1).all())
    recurrent = eqb.find_fixed_points(eqb.partitioned(convention="recurrent"), inputs)
    assert bool(recurrent.stable.any())
    settled = np.asarray(recurrent.stable)
    assert (np.asarray(recurrent.state)[settled] >= np.asarray(inputs)[settled]).all()
    assert (np.asarray(eqb.metrics.partition_sums(recurrent.rates, (2, 2)))[settled] > 0).all()
