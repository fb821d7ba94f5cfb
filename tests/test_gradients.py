"""Derivatives of fixed points against central differences, forward and reverse."""

import warnings

import diffrax
import equinox as eqx
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


def leaky_network():
    rng = np.random.default_rng(3)
    return eqb.LeakyRNN(0.3 * rng.normal(size=(5, 5)), np.eye(5), tau=rng.uniform(1, 2, 5))


def with_hidden_feedback():
    return eqb.random_ei(12, key=jax.random.key(4), gain=0.6, bias=0.05)


SHIPPED = {
    "partitioned": (eqb.partitioned, INPUTS),
    "activity": (lambda: eqb.partitioned(w_e=1.25, convention="activity"), INPUTS),
    "recurrent": (lambda: eqb.partitioned(w_e=1.25, convention="recurrent"), INPUTS),
    "two neurons": (eqb.two_neuron, INPUTS[:, :2]),
    "ring": (lambda: eqb.ring(12), 1 + 0.3 * jnp.cos(jnp.arange(24.0).reshape(2, 12))),
    "random E/I": (with_hidden_feedback, jnp.cos(jnp.arange(24.0).reshape(2, 12))),
    "graph": (lambda: eqb.from_graph(np.ones((5, 5)) - np.eye(5)), 1 + 0.1 * INPUTS),
    "tanh": (tanh_network, INPUTS),
    "supralinear": (eqb.supralinear, jnp.asarray([[20.0, 20.0], [2.0, 1.0]])),
    "hopfield": (lambda: eqb.hopfield([[1, -1, 1, 1, -1]], 2.0), INPUTS),
    "Wilson-Cowan": (lambda: eqb.WilsonCowan(), jnp.asarray([[0.5, 0.0], [0.2, 0.1]])),
    "leaky": (leaky_network, INPUTS),
}


def weighted(found):
    """A number that depends on all that carries derivatives."""
    cost = jnp.cos(jnp.arange(found.rates.shape[-1]))
    return jnp.sum(found.rates @ cost) + jnp.sum(found.state @ cost**2) + jnp.sum(found.abscissa)


@pytest.mark.parametrize("name", SHIPPED)
def test_reverse_and_forward_mode_agree_with_central_differences(name):
    build, inputs = SHIPPED[name]
    network = build()
    # Of different time constants, so that the leading eigenvalue is simple.
    tau = network.tau * jnp.linspace(1.0, 1.5, len(network.tau))
    network = eqx.tree_at(lambda network: network.tau, network, tau)
    flat, unravel = jax.flatten_util.ravel_pytree((network, inputs))

    # Not under `jax.jit`: the one program that settles serves all of what follows.
    def loss(flat):
        found = eqb.find_fixed_points(*unravel(flat), method=eqb.Flow(abscissa=True))
        return weighted(found), found.stable

    gradient, stable = jax.grad(loss, has_aux=True)(flat)
    assert bool(stable.all())
    rng = np.random.default_rng(1)
    # Numbers of about 1e3 are differenced for the ring's abscissa: rounding limits the step.
    step = 1e-5
    for _ in range(3):
        direction = jnp.asarray(rng.normal(size=flat.shape))
        high, low = loss(flat + step * direction)[0], loss(flat - step * direction)[0]
        difference = float(high - low) / (2 * step)
        assert float(gradient @ direction) == pytest.approx(difference, rel=1e-6, abs=1e-7)
    along = jax.jvp(lambda f: loss(f)[0], (flat,), (direction,))[1]
    assert float(along) == pytest.approx(float(gradient @ direction), rel=1e-9)


def test_diffrax_adjoints_give_the_same_gradients():
    network, inputs = tanh_network(), INPUTS

    def with_diffrax(network, adjoint):
        def one(i):
            event = None
            if isinstance(adjoint, diffrax.ImplicitAdjoint):
                event = diffrax.Event(diffrax.steady_state_event(rtol=1e-10, atol=1e-12))
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(network.vector_field), diffrax.Tsit5(), 0.0, 200.0, None,
                jnp.zeros(5), args=i, adjoint=adjoint, event=event,
                stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12),
            )  # fmt: skip
            return network.rates(solution.ys[-1]) @ COST

        return jnp.sum(jax.vmap(one)(inputs))

    ours = jax.grad(loss)(network, inputs).weights
    for adjoint in (diffrax.ImplicitAdjoint(), diffrax.RecursiveCheckpointAdjoint()):
        theirs = jax.grad(with_diffrax)(network, adjoint).weights
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


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


def test_second_derivatives_in_the_weights():
    """Of a network with chambers and of a smooth one, against differences of gradients."""
    for build in (eqb.partitioned, tanh_network):
        network = build()
        rng = np.random.default_rng(2)
        direction = jnp.asarray(rng.normal(size=(5, 5)))

        def along(s, network=network, direction=direction):
            moved = jax.tree.map(lambda a: a, network)
            moved = eqx.tree_at(lambda n: n.weights, moved, network.weights + s * direction)
            return loss(moved, INPUTS)

        gradient = jax.grad(along)
        step = 1e-4
        difference = float(gradient(step) - gradient(-step)) / (2 * step)
        assert float(jax.grad(jax.grad(along))(0.0)) == pytest.approx(difference, rel=1e-6)
        assert float(jax.jacfwd(jax.jacrev(along))(0.0)) == pytest.approx(difference, rel=1e-6)


def test_gradients_under_vmap_are_those_of_the_batch():
    network = tanh_network()
    by_row = jax.vmap(jax.grad(lambda i: loss(network, i)))(INPUTS)
    np.testing.assert_allclose(by_row, jax.grad(loss, argnums=1)(network, INPUTS), atol=1e-12)


def test_second_derivatives_of_the_abscissa_are_not_made_up():
    network = tanh_network()

    def abscissa(s):
        return eqb.find_fixed_points(network, s * INPUTS[0]).abscissa

    assert np.isnan(jax.grad(jax.grad(abscissa))(1.0))


def test_a_gradient_of_nothing_settled_warns_with_the_counts():
    network = eqb.two_neuron(1.5, 0.0)
    with pytest.warns(UserWarning, match="every derivative is zero: 2 DIVERGED"):
        gradient = jax.grad(lambda i: eqb.find_fixed_points(network, i).state.sum())(
            jnp.ones((2, 2))
        )
    np.testing.assert_array_equal(gradient, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.grad(lambda i: eqb.find_fixed_points(network, i).state.sum())(-jnp.ones((2, 2)))
