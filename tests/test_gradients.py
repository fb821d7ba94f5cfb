"""Derivatives of fixed points against central differences, forward and reverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equilibrax as eqb

INPUTS = jnp.asarray([[0.3, 0.5, 0.1, -0.2, 0.1], [-0.4, 0.2, 0.6, 0.5, -0.1]])
COST = jnp.asarray([1.0, -2.0, 0.5, 3.0, -1.0])


def loss(network, inputs):
    return jnp.sum(eqb.find_fixed_points(network, inputs).rates @ COST)


def tanh_network():
    rng = np.random.default_rng(0)
    return eqb.RateNetwork(
        0.4 * rng.normal(size=(5, 5)), bias=0.1, tau=rng.uniform(1, 2, 5), transfer=eqb.tanh,
        convention="activity",
    )  # fmt: skip


@pytest.mark.parametrize("build", [eqb.partitioned, tanh_network])
def test_reverse_mode_agrees_with_central_differences(build):
    network = build()
    by_network, by_input = jax.grad(loss, argnums=(0, 1))(network, INPUTS)
    step = 1e-5
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    gradient = jax.flatten_util.ravel_pytree(by_network)[0]
    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = jnp.asarray(rng.normal(size=flat.shape))
        # tau does not move a fixed point: its derivative is zero, and differences agree.
        high = loss(unravel(flat + step * direction), INPUTS)
        low = loss(unravel(flat - step * direction), INPUTS)
        assert float(gradient @ direction) == pytest.approx(
            float(high - low) / (2 * step), rel=1e-6
        )
        nudge = jnp.asarray(rng.normal(size=INPUTS.shape))
        high, low = (loss(network, INPUTS + s * step * nudge) for s in (1, -1))
        difference = float(high - low) / (2 * step)
        assert float(jnp.sum(by_input * nudge)) == pytest.approx(difference, rel=1e-6)
    np.testing.assert_array_equal(by_network.tau, 0)


def test_forward_mode_and_second_derivatives():
    network = tanh_network()
    i = INPUTS[0]

    def state(i):
        return eqb.find_fixed_points(network, i).state

    jacobian = jax.jacfwd(state)(i)
    slope = network.transfer.derivative(network.drive(state(i), i))
    # x = phi(W x + i - b): dx/di = (I - D W)^-1 D.
    exact = np.linalg.solve(np.eye(5) - slope[:, None] * network.weights, np.diag(slope))
    np.testing.assert_allclose(jacobian, exact, atol=1e-12)

    def cost(s):
        return state(s * i) @ COST

    second = float(jax.grad(jax.grad(cost))(1.0))
    step = 1e-4
    gradient = jax.jit(jax.grad(cost))
    difference = (gradient(1.0 + step) - gradient(1.0 - step)) / (2 * step)
    assert second == pytest.approx(float(difference), rel=1e-6)


def test_lanes_without_a_stable_point_have_zero_gradient():
    network = eqb.two_neuron(1.5, 0.0)
    inputs = jnp.asarray([[1.0, 1.0], [-1.0, -1.0], [jnp.nan, 0.0]])

    def total(network, inputs):
        found = eqb.find_fixed_points(network, inputs)
        return jnp.sum(jnp.where(found.stable[:, None], found.state, 0.0)), found

    (by_network, by_input), found = jax.grad(total, argnums=(0, 1), has_aux=True)(network, inputs)
    np.testing.assert_array_equal(found.stable, [False, True, False])
    np.testing.assert_array_equal(by_input, [[0, 0], [1, 1], [0, 0]])
    assert np.isfinite(by_network.weights).all()
    plain = jax.grad(lambda i: eqb.find_fixed_points(network, i).state[0].sum())(inputs[:2])
    np.testing.assert_array_equal(plain, 0)
