"""Dynamics of any kind: a user's own, and the models of the literature with what is known of them."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import fsolve

import equilibrax as eqb
from equilibrax import Outcome
from equilibrax.networks import as_dynamics


class VanDerPol(eqb.AbstractDynamics):
    damping: jax.Array
    tau: jax.Array = eqx.field(default_factory=lambda: jnp.ones(2))

    def vector_field(self, t, x, i):
        return jnp.stack([x[1], self.damping * (1 - x[0] ** 2) * x[1] - x[0] + i[0]])

    def rates(self, x):
        return x[:1]


def scipy_field(dynamics, i):
    field = jax.jit(lambda x: dynamics.vector_field(0.0, x, i))
    return lambda t, x: np.asarray(field(jnp.asarray(x)))


def scipy_period(dynamics, i, x0):
    """From LSODA's own crossings of a section, long after the start."""

    def section(t, x):
        return x[0] - middle

    settled = solve_ivp(scipy_field(dynamics, i), (0, 300), x0, "LSODA", rtol=1e-9, atol=1e-11)
    middle = settled.y[0, settled.t > 200].mean()
    section.direction = 1
    cycle = solve_ivp(
        scipy_field(dynamics, i), (0, 60), settled.y[:, -1], "LSODA", events=section, rtol=1e-9,
        atol=1e-11,
    )  # fmt: skip
    return np.diff(cycle.t_events[0]).mean()


@pytest.fixture(scope="module")
def van_der_pol():
    dynamics = VanDerPol(jnp.asarray(1.0))
    inputs = jnp.asarray([[0.1], [0.5], [1.5], [jnp.nan]])
    return dynamics, inputs, eqb.find_fixed_points(dynamics, inputs, x0=jnp.asarray([0.3, 0.2]))


def test_dynamics_of_ones_own(van_der_pol):
    dynamics, inputs, found = van_der_pol
    expected = [Outcome.OSCILLATING, Outcome.OSCILLATING, Outcome.STABLE, Outcome.INVALID]
    assert found.outcome.tolist() == expected
    for row in (0, 1):
        period = scipy_period(dynamics, inputs[row], [0.3, 0.2])
        assert float(found.period[row]) == pytest.approx(period, rel=0.01)
    # x* = (i, 0), J = [[0, 1], [-1, mu (1 - i^2)]].
    np.testing.assert_allclose(found.state[2], [1.5, 0.0], atol=1e-12)
    assert found.rates.shape == (4, 1)
    exact = np.linalg.eigvals([[0, 1], [-1, 1 - 1.5**2]]).real.max()
    assert float(found.abscissa[2]) == pytest.approx(exact, abs=1e-12)


def test_a_plain_function_and_one_time_constant():
    class Slow(eqb.AbstractDynamics):
        tau: float = 3.0

        def vector_field(self, t, x, i):
            return (-x + jnp.tanh(2 * x + i)) / self.tau

    inputs = jnp.asarray([[0.1, -0.2], [0.5, 1.0]])
    plain = eqb.find_fixed_points(lambda t, x, i: -x + jnp.tanh(2 * x + i), inputs)
    slow = eqb.find_fixed_points(Slow(), inputs)
    assert bool(plain.stable.all() & slow.stable.all())
    np.testing.assert_allclose(plain.state, slow.state, atol=1e-12)
    np.testing.assert_allclose(plain.state, np.tanh(2 * plain.state + inputs), atol=1e-12)
    # The same equation, three times slower.
    np.testing.assert_allclose(slow.abscissa, plain.abscissa / 3, rtol=1e-9)


def test_one_time_constant_or_no_size_keeps_methods_of_ones_own():
    class Own(eqb.AbstractDynamics):
        tau: float = 2.0
        num_inputs = 3  # pyright: ignore

        def vector_field(self, t, x, i):
            return (i[:2] - x) / self.tau

        def scale(self, x, i):
            return 7 * jnp.ones_like(x)

        def jacobian(self, x, i):
            return -jnp.eye(len(x)) / self.tau

    class OwnMap(eqb.AbstractMap):
        num_inputs = 3  # pyright: ignore

        def step(self, x, i):
            return x / 2 + i[:2]

        def magnitude(self, x, i):
            return 5 * jnp.ones_like(x)

    x, i = jnp.ones(2), jnp.ones(3)
    for own in (as_dynamics("own", Own(), 2), as_dynamics("own", OwnMap(), 2)):
        assert (own.num_neurons, own.num_inputs) == (2, 3)
        matrix = jax.jacfwd(own.vector_field, argnums=1)(0.0, x, i)
        np.testing.assert_array_equal(own.jacobian(x, i), matrix)
        assert eqb.find_fixed_points(own, i, x0=x).stable
    assert as_dynamics("own", Own(), 2).scale(x, i).tolist() == [7, 7]
    assert as_dynamics("own", OwnMap(), 2).magnitude(x, i).tolist() == [5, 5]


def test_stiff_dynamics_take_an_implicit_solver():
    """A component ten thousand times faster than the other: x2 = tanh(x1), x1 = i - x2 / 2."""

    class Stiff(eqb.AbstractDynamics):
        tau: jax.Array

        def vector_field(self, t, x, i):
            return jnp.stack([-x[0] - x[1] / 2 + i[0], jnp.tanh(x[0]) - x[1]]) / self.tau

    network, inputs = Stiff(jnp.asarray([1.0, 1e-4])), jnp.asarray([[0.4], [-1.0]])
    found = eqb.find_fixed_points(
        network, inputs, x0=jnp.zeros(2), method=eqb.Flow(solver=diffrax.Kvaerno3())
    )
    assert bool(found.stable.all())
    assert int(found.num_steps.max()) < 200
    x = np.asarray(found.state)
    np.testing.assert_allclose(x[:, 1], np.tanh(x[:, 0]), atol=1e-12)
    np.testing.assert_allclose(x[:, 0] + x[:, 1] / 2, inputs[:, 0], atol=1e-12)


def test_a_field_that_is_not_finite_at_the_start_is_invalid():
    found = eqb.find_fixed_points(lambda t, x, i: jnp.log(x) + i, jnp.ones((3, 2)))
    assert found.counts[Outcome.INVALID] == 3


@pytest.mark.parametrize(
    ("field", "error", "message"),
    [
        (lambda t, x, i: x[:1], ValueError, r"must return an array of shape \(2,\), but returns"),
        (lambda t, x, i: (x, x), ValueError, r"must return an array of shape \(2,\)"),
        (lambda t, x, i: x.astype(jnp.float32), TypeError, "must keep the dtype float64"),
        (lambda x: x, ValueError, "calling it failed"),
        (3, TypeError, "must be a RateNetwork or other AbstractDynamics, or a function"),
    ],
)
def test_what_is_no_vector_field_is_refused(field, error, message):
    with pytest.raises(error, match=message):
        eqb.find_fixed_points(field, jnp.ones((4, 2)))


def test_starts_of_another_width_are_refused(van_der_pol):
    with pytest.raises(ValueError, match=r"`x0` must have shape \(..., 2\)"):
        eqb.find_fixed_points(van_der_pol[0], jnp.ones((4, 1)), x0=jnp.ones(3))


def test_wilson_and_cowans_limit_cycle():
    """Wilson and Cowan (1972), Fig. 11: P = 1.25 drives a limit cycle, P = 0 does not."""
    model = eqb.WilsonCowan()
    inputs = jnp.asarray([[1.25, 0.0], [0.0, 0.0], [1.7, 0.0], [3.0, 0.0]])
    found = eqb.find_fixed_points(model, inputs)
    expected = [Outcome.OSCILLATING, Outcome.STABLE, Outcome.OSCILLATING, Outcome.STABLE]
    assert found.outcome.tolist() == expected
    for row in (0, 2):
        period = scipy_period(model, inputs[row], [0.0, 0.0])
        assert float(found.period[row]) == pytest.approx(period, rel=0.01)
    np.testing.assert_allclose(found.state[1], 0, atol=1e-12)


def test_a_weakly_damped_spiral_is_stable():
    """The solver's own errors keep it from rest at the tolerances that it is followed with."""
    model = eqb.WilsonCowan()
    inputs = np.asarray([[2.4988, 0.1085], [1.5902, 0.6668], [2.9709, 1.0562], [2.0249, 0.2370]])
    found = eqb.find_fixed_points(model, inputs)
    np.testing.assert_array_equal(found.outcome, Outcome.STABLE)
    for i, state, abscissa in zip(inputs, found.state, found.abscissa, strict=True):
        end = solve_ivp(
            scipy_field(model, i), (0, 1500), np.zeros(2), "LSODA", rtol=1e-10, atol=1e-12
        )
        np.testing.assert_allclose(state, end.y[:, -1], atol=1e-8)
        assert -0.21 < float(abscissa) < 0


def test_wilson_and_cowans_hysteresis():
    """Wilson and Cowan (1972), Fig. 4: with no input a quiet state and an excited one."""
    model = eqb.WilsonCowan((12.0, 4.0, 13.0, 11.0), (1.2, 1.0), (2.8, 4.0))
    starts = jnp.asarray([[0.0, 0.1], [0.3, 0.2], [0.1, 0.05], [0.5, 0.1]])
    reached = eqb.basins(model, jnp.zeros(2), starts)
    assert len(reached.state) == 2
    assert float(reached.share.sum()) == 1.0
    excited = fsolve(lambda x: scipy_field(model, jnp.zeros(2))(0, x), [0.45, 0.25], xtol=1e-13)
    quiet = np.argmin(np.linalg.norm(reached.state, axis=1))
    np.testing.assert_allclose(reached.state[quiet], 0, atol=1e-12)
    np.testing.assert_allclose(reached.state[1 - quiet], excited, atol=1e-10)


def test_a_supralinear_network_is_stabilised_by_inhibition():
    """Where excitation alone is unstable, more input to the inhibitory population lowers its
    rate: the paradoxical response, Tsodyks et al., J. Neurosci. 17:4382 (1997)."""
    network = eqb.supralinear()
    base = jnp.asarray([[1.0, 1.0], [20.0, 20.0]])
    found = eqb.find_fixed_points(network, base)
    assert bool(found.stable.all())
    # The excitatory population's own feedback, k p u^(p-1) w_ee.
    drive = jax.vmap(network.drive)(found.state, base)[:, 0]
    alone = 0.04 * 2 * drive * 1.25
    assert float(alone[0]) < 1 < float(alone[1])
    more = eqb.find_fixed_points(network, base + jnp.asarray([0.0, 0.5]))
    change = more.rates[:, 1] - found.rates[:, 1]
    assert float(change[0]) > 0 > float(change[1])
    x = found.state
    exact = 0.04 * np.maximum(x @ np.array([[1.25, 1.2], [-0.65, -0.5]]) + base, 0) ** 2
    np.testing.assert_allclose(x, exact, rtol=1e-11)


def test_a_hopfield_network_recalls_its_patterns():
    xi = np.sign(np.random.default_rng(0).normal(size=(3, 100)))
    network = eqb.hopfield(xi, gain=3.0)
    noisy = np.where(np.random.default_rng(1).random(xi.shape) < 0.1, -xi, xi)
    found = eqb.find_fixed_points(network, jnp.zeros((3, 100)), x0=jnp.asarray(noisy))
    assert bool(found.stable.all())
    np.testing.assert_array_equal(np.sign(found.rates), xi)


def test_a_leaky_recurrent_network_with_inputs_of_another_width():
    rng = np.random.default_rng(0)
    weights, into = 0.8 * rng.normal(size=(6, 6)) / np.sqrt(6), rng.normal(size=(6, 2))
    network = eqb.LeakyRNN(weights, into, bias=0.1, tau=rng.uniform(1, 2, 6))
    inputs = jax.random.normal(jax.random.key(0), (5, 2))
    found = eqb.find_fixed_points(network, inputs)
    assert bool(found.stable.all())
    for i, x in zip(inputs, found.state, strict=True):
        end = solve_ivp(scipy_field(network, i), (0, 200), np.zeros(6), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(x, end.y[:, -1], atol=1e-8)
    drawn = eqb.sample_fixed_points(network, eqb.UniformCube(-1, 1), 100, key=jax.random.key(1))
    assert drawn.inputs.shape == (100, 2)
    assert drawn.state.shape == (100, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eqb.WilsonCowan(c=(1.0, 2.0)), r"`c` must have shape \(4,\)"),
        (lambda: eqb.WilsonCowan(tau=(1.0, 0.0)), "`tau` must be positive"),
        (lambda: eqb.supralinear(w_ee=-1.0), "`w_ee` must be finite and not negative"),
        (lambda: eqb.hopfield([[1, 0, 1]]), "must hold only -1 and 1"),
        (lambda: eqb.hopfield([1, -1]), r"must have shape \(P, n\)"),
        (lambda: eqb.LeakyRNN(np.eye(3), np.ones((2, 2))), r"must have shape \(3, k\)"),
    ],
)
def test_models_outside_their_legal_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rows_that_are_not_finite_leave_their_neighbours_alone_in_single_precision():
    """XLA's maximum of what is not a number is undefined on a CPU: once it spoilt whole vectors."""
    weights = 0.2 * np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    network = eqb.RateNetwork(weights, transfer=eqb.tanh, convention="activity")
    inputs = jax.random.uniform(jax.random.key(0), (64, 20), jnp.float32, -1.0, 1.0)
    bad = inputs.at[jnp.asarray([3, 17, 40])].set(jnp.nan)
    whole, found = (eqb.find_fixed_points(network, i) for i in (inputs, bad))
    assert bool(whole.stable.all())
    invalid = np.isin(np.arange(64), [3, 17, 40])
    np.testing.assert_array_equal(found.outcome == Outcome.INVALID, invalid)
    np.testing.assert_array_equal(found.state[~invalid], whole.state[~invalid])
