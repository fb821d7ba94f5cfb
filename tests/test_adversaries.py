"""Verdicts that are easy to get wrong, in both precisions; and in other units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adversaries import ADVERSARIES

import equilibrax as eqb
from equilibrax import Outcome

SINGLE_CANNOT = {"a-slow-reaction"}
"""Cases that single precision does not resolve: a tolerance of 1e-8 is below its rounding."""


# JAX's default precision, compiled as users' programs are.
single = pytest.param(np.float32, id="single", marks=pytest.mark.as_compiled)
double = pytest.param(np.float64, id="double")


@pytest.mark.parametrize("dtype", [single, double])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_no_adversary_wins(name, dtype):
    if dtype == np.float32 and name in SINGLE_CANNOT:
        pytest.skip("a tolerance of 1e-8 is below the rounding of single precision")
    case = ADVERSARIES[name]
    x0 = np.asarray(case.x0, dtype)
    inputs = np.zeros_like(x0) if case.input is None else np.asarray(case.input, dtype)
    found = eqb.find_fixed_points(case.dynamics(dtype), inputs, x0=x0, method=case.method)
    assert found.state.dtype == dtype
    right = case.outcome[dtype] if isinstance(case.outcome, dict) else case.outcome
    assert [Outcome(int(kind)).name for kind in found.outcome] == [right.name] * len(x0)
    if case.state is not None:
        error = np.abs(np.asarray(found.state, np.float64) - case.state) / case.unit
        size = np.maximum(1, np.abs(np.asarray(case.state)) / case.unit)
        assert (error / size).max() < case.within
    if case.period is not None:
        np.testing.assert_allclose(found.period, case.period, rtol=case.within)


def random_network(rng, convention, n=6):
    return eqb.RateNetwork(
        rng.normal(size=(n, n)), bias=rng.uniform(-0.2, 0.2, n), tau=rng.uniform(0.5, 2.0, n),
        convention=convention,
    )  # fmt: skip


@pytest.mark.as_compiled
@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
def test_verdicts_follow_the_units_of_single_neurons(convention):
    """x_j, i_j and b_j in units of c_j, W_jk in units of c_j / c_k: the same equations."""
    rng = np.random.default_rng(5)
    for _ in range(4):
        network = random_network(rng, convention)
        inputs = jnp.asarray(rng.uniform(-1, 1, (200, 6)))
        units = jnp.asarray(2.0 ** rng.integers(-6, 7, 6))
        other = eqb.RateNetwork(
            network.weights * units[:, None] / units, bias=network.bias * units,
            tau=network.tau, convention=convention,
        )  # fmt: skip
        here = eqb.find_fixed_points(network, inputs)
        there = eqb.find_fixed_points(other, inputs * units)
        # The first step is of another size: whether a return is exact may hang on the solver's errors.
        settled = (here.outcome != Outcome.NOT_SETTLED) & (there.outcome != Outcome.NOT_SETTLED)
        assert settled.mean() > 0.98
        assert here.outcome[settled].tolist() == there.outcome[settled].tolist()
        assert here.stable.tolist() == there.stable.tolist()
        stable = np.asarray(here.stable)
        assert stable.any()
        np.testing.assert_allclose(
            (there.state / units)[stable], here.state[stable], rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_verdicts_follow_the_units_of_inputs_to_the_last_bit(scale):
    rng = np.random.default_rng(6)
    for convention in ("voltage", "activity", "recurrent"):
        network = random_network(rng, convention)
        inputs = jnp.asarray(rng.uniform(-1, 1, (200, 6)))
        other = eqb.RateNetwork(
            network.weights, bias=network.bias * scale, tau=network.tau, convention=convention
        )
        here = eqb.find_fixed_points(network, inputs)
        there = eqb.find_fixed_points(other, inputs * scale)
        assert here.outcome.tolist() == there.outcome.tolist()
        assert here.num_steps.tolist() == there.num_steps.tolist()
        assert (there.state / scale).tolist() == here.state.tolist()


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
def test_attractors_are_told_apart_in_any_unit(scale):
    starts = scale * jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    reached = eqb.basins(eqb.two_neuron(), scale * jnp.ones(2), starts)
    assert len(reached.state) == 2
    assert sorted(reached.label.tolist()) == [0, 1]


@pytest.mark.parametrize(
    "field",
    [
        lambda t, u, i: -u + i + jnp.sin(t),
        lambda t, u, i: jnp.where(t > 5, -u, i - u),
        jax.jit(lambda t, u, i: -u + i * t),
        lambda t, u, i: jax.lax.fori_loop(0, 2, lambda _, u: u - t * u, u),
    ],
)
def test_a_field_that_depends_on_time_is_refused(field):
    with pytest.raises(ValueError, match="depends on t; fix the time"):
        eqb.find_fixed_points(field, jnp.ones(1))


def test_a_field_may_have_time_in_its_signature():
    found = eqb.find_fixed_points(lambda t, u, i: i - u, jnp.ones(1))
    assert bool(found.stable)


def test_gradients_reach_what_a_function_closes_over():
    """x = tanh(w x) + i, so that dx/dw = x s / (1 - w s) with s = 1 - tanh(w x)^2."""
    i = jnp.asarray([0.3])

    def settled(w):
        return eqb.find_fixed_points(lambda t, x, i: -x + jnp.tanh(w * x) + i, i).state[0]

    w, x = 0.5, float(settled(0.5))
    slope = 1 - np.tanh(w * x) ** 2
    exact = x * slope / (1 - w * slope)
    for gradient in (jax.grad(settled), jax.jit(jax.grad(settled)), jax.jacfwd(settled)):
        np.testing.assert_allclose(float(gradient(0.5)), exact, rtol=1e-10)
    by_rows = jax.vmap(jax.grad(settled))(jnp.asarray([0.5, 0.5]))
    np.testing.assert_allclose(by_rows, exact, rtol=1e-10)


def test_traced_arrays_of_a_class_must_be_its_fields():
    def loss(w):
        class Hidden(eqb.AbstractDynamics):
            tau: jax.Array

            def vector_field(self, t, x, i):
                return -x + jnp.tanh(w * x) + i

        return eqb.find_fixed_points(Hidden(jnp.ones(1)), jnp.asarray([0.3])).state[0]

    with pytest.raises(ValueError, match="have all traced arrays among the fields"):
        jax.grad(loss)(0.5)


def test_without_a_start_the_state_is_as_long_as_the_input():
    with pytest.raises(ValueError, match="pass `x0`"):
        eqb.find_fixed_points(lambda t, x, i: jnp.stack([i[0] - x[0], -x[0]]), jnp.ones(1))


def test_a_result_prints_its_counts():
    found = eqb.find_fixed_points(eqb.two_neuron(), jnp.asarray([[0.3, 0.2], [0.3, 0.3]]))
    assert str(found) == f"FixedPoints: {found.describe()}"
