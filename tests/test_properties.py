"""Symmetries of the equations, which answers must have too, on networks drawn by Hypothesis."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import equilibrax as eqb

N, M = 4, 16


@st.composite
def networks(draw, transfer=eqb.threshold_linear):
    """Random weights, thresholds and time constants, and inputs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    strength = draw(st.floats(0.1, 1.5))
    network = eqb.RateNetwork(
        strength * rng.normal(size=(N, N)) - 0.2, bias=0.3 * rng.normal(size=N),
        tau=rng.uniform(0.5, 2.0, N), transfer=transfer,
    )  # fmt: skip
    return network, jnp.asarray(rng.uniform(-1, 1, (M, N))), rng


def agree(ours, theirs, states):
    """The same outcomes, and the same states where they are stable, to rounding. Trajectories that
    pass a basin's boundary within the solver's tolerance may go either way: at most one does."""
    same = (ours.outcome == theirs.outcome) & ours.stable
    different = np.abs(ours.state - states).max(axis=1) > 1e-9
    assert int(np.sum(np.asarray(ours.stable) & (different | ~np.asarray(same)))) <= 1


few = settings(max_examples=8, deadline=None)


@few
@given(networks())
def test_permuting_neurons_permutes_the_answer(problem):
    network, inputs, rng = problem
    order = rng.permutation(N)
    shuffled = eqb.RateNetwork(
        network.weights[order][:, order], network.bias[order], network.tau[order]
    )
    theirs = eqb.find_fixed_points(shuffled, inputs[:, order])
    agree(eqb.find_fixed_points(network, inputs), theirs, theirs.state[:, np.argsort(order)])


@few
@given(networks(), st.floats(0.1, 10))
def test_slower_neurons_have_the_same_fixed_points(problem, factor):
    network, inputs, _ = problem
    slower = eqb.RateNetwork(network.weights, network.bias, factor * network.tau)
    ours, theirs = (eqb.find_fixed_points(net, inputs) for net in (network, slower))
    agree(ours, theirs, theirs.state)
    stable = np.asarray(ours.stable & theirs.stable)
    np.testing.assert_allclose(ours.abscissa[stable], factor * theirs.abscissa[stable], rtol=1e-6)


@few
@given(networks(), st.floats(1e-3, 1e3))
def test_larger_inputs_have_larger_fixed_points(problem, factor):
    network, inputs, _ = problem
    larger = eqb.RateNetwork(network.weights, factor * network.bias, network.tau)
    theirs = eqb.find_fixed_points(larger, factor * inputs)
    agree(eqb.find_fixed_points(network, inputs), theirs, theirs.state / factor)


@few
@given(networks(), st.floats(-1, 1))
def test_a_neuron_that_none_listens_to_changes_nothing(problem, alone):
    network, inputs, _ = problem
    weights = jnp.zeros((N + 1, N + 1)).at[:N, :N].set(network.weights)
    wider = eqb.RateNetwork(weights, jnp.append(network.bias, 5.0), jnp.append(network.tau, 1.0))
    # Its threshold may be the nearest: where all is slow, that takes longer to prove.
    patient = eqb.Flow(t1=1e4, max_steps=20_000)
    padded = jnp.pad(inputs, ((0, 0), (0, 1)), constant_values=alone)
    theirs = eqb.find_fixed_points(wider, padded, method=patient)
    ours = eqb.find_fixed_points(network, inputs, method=patient)
    agree(ours, theirs, theirs.state[:, :N])


@pytest.mark.parametrize(("width", "n"), [(0.4, 200), (1.0, 200), (1.0, 4096)])
def test_the_bump_of_a_ring_in_closed_form(width, n):
    """x(theta) = a + b cos theta, active where cos theta > cos theta_c = -a / b, with
    a = i_0 + w_0 b / pi (sin t - t cos t), b = i_1 + w_1 b / (2 pi) (t - sin 2t / 2), t = theta_c:
    Ben-Yishai et al. (1995), for infinitely many neurons. From theta_c and b to the input."""
    w_0, w_1, b, t = -4.0, 3.0, 1.0, width
    a = -b * np.cos(t)
    i_0 = a - w_0 * b / np.pi * (np.sin(t) - t * np.cos(t))
    i_1 = b - w_1 * b / (2 * np.pi) * (t - np.sin(2 * t) / 2)
    theta = 2 * np.pi * np.arange(n) / n
    network = eqb.ring(n, w_0, w_1)
    if n > 200:
        network = eqb.RateNetwork(eqb.convolution((w_0 + w_1 * np.cos(theta)) / n))
    found = eqb.find_fixed_points(network, jnp.asarray(i_0 + i_1 * np.cos(theta)))
    assert bool(found.stable)
    # The sum over n neurons differs from the integral by O(1 / n^2), at the two corners.
    np.testing.assert_allclose(found.state, a + b * np.cos(theta), atol=40 / n**2)
