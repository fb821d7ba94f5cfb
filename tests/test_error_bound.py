"""Proven bounds on an approximation's error."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import enumerate_voltage

import equilibrax as eqb
from equilibrax.approximation._bound import _Program

KEY = jax.random.key(5)
UNIQUE = eqb.two_neuron(0.3, -0.5)
"""One stable fixed point for every input."""


def test_rectified_units_are_encoded_exactly():
    """The largest of a small network's outputs over a box, against a fine grid."""
    rng = np.random.default_rng(3)
    w1, b1, w2, b2 = (
        rng.normal(size=(4, 2)),
        rng.normal(size=4),
        rng.normal(size=(2, 4)),
        np.zeros(2),
    )
    low, high = np.asarray([-1.0, -0.5]), np.asarray([0.7, 1.0])
    program = _Program(low, high)
    output = program.rectified(w2, program.rectified(w1, np.arange(2), -b1), -b2)
    axes = [np.linspace(a, b, 801) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    y = np.maximum(np.maximum(grid @ w1.T - b1, 0) @ w2.T - b2, 0)
    for j in range(2):
        cost = np.zeros(len(program.low))
        cost[output[j]] = 1
        bound, at = program.largest(cost)
        # A grid of this spacing misses the maximum by at most its slope times half a step.
        assert y[:, j].max() - 1e-6 <= bound <= y[:, j].max() + 0.02
        assert bound <= program.largest(cost, relaxed=True)[0] + 1e-6
        x = np.maximum(w1 @ at[:2] - b1, 0)
        assert max(w2[j] @ x, 0) == pytest.approx(bound, abs=1e-5)


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
def test_the_bound_is_met_where_there_is_one_fixed_point(convention):
    network = eqb.two_neuron(0.3, -0.5, bias=0.1, convention=convention)
    model = eqb.FeedForward(2, 4, 2, key=KEY)
    found = eqb.error_bound(network, model, key=KEY, search=2000)
    assert found.complete
    inputs = jax.random.uniform(KEY, (2000, 2), minval=-1.0)
    settled = eqb.find_fixed_points(network, inputs)
    assert settled.stable.all()
    error = np.abs(np.asarray(model.batch(inputs) - settled.rates)).max(0)
    assert (error <= np.asarray(found.bound)).all()
    assert (error <= np.asarray(found.searched) + 0.05).all()
    # Search and proof meet: the bound is no larger than it must be.
    np.testing.assert_allclose(found.bound, found.attained, rtol=1e-4)
    np.testing.assert_allclose(found.searched, found.bound, rtol=0.02)


def test_in_a_multistable_network_the_bound_holds_for_every_stable_point(reference):
    model = eqb.FeedForward(5, 3, 5, key=KEY)
    low, high = np.zeros(5), np.asarray([1.0, 1.0, 1.0, 1.0, 0.0])
    found = eqb.error_bound(reference, model, low, high, key=KEY, search=2000)
    assert found.complete
    rng = np.random.default_rng(0)
    largest = np.zeros(5)
    for i in rng.uniform(low, high, (60, 5)):
        for x, abscissa in enumerate_voltage(reference, i):
            if abscissa < 0:
                error = np.abs(np.asarray(model(jnp.asarray(i))) - np.maximum(x, 0))
                largest = np.maximum(largest, error)
    assert (largest <= np.asarray(found.bound)).all()
    # At the input that it names, some stable point is that far away.
    i = np.asarray(found.worst_input)
    y = np.asarray(model(jnp.asarray(i)))
    points = [np.maximum(x, 0) for x, a in enumerate_voltage(reference, i * (1 - 1e-9)) if a < 0]
    assert max(np.abs(y - r).max() for r in points) == pytest.approx(
        float(np.max(found.attained)), rel=1e-4
    )


def test_out_of_time_the_bound_is_larger_and_still_a_bound():
    model = eqb.FeedForward(2, 12, 2, key=KEY)
    whole = eqb.error_bound(UNIQUE, model, key=KEY, search=2000)
    hasty = eqb.error_bound(UNIQUE, model, key=KEY, search=2000, time_limit=1e-6)
    assert whole.complete
    assert not hasty.complete
    assert (np.asarray(hasty.bound) >= np.asarray(whole.bound) - 1e-6).all()
    assert np.isfinite(hasty.bound).all()


def test_what_the_solver_cannot_take_is_no_proof():
    """SciPy calls coefficients above 1e15 an error of the model, by the same number as infeasible."""
    model = eqb.FeedForward(2, 3, 2, key=KEY)
    huge = eqx.tree_at(lambda m: m.weights2, model, 1e16 * model.weights2)
    found = eqb.error_bound(UNIQUE, huge, key=KEY, search=2000)
    inputs = jax.random.uniform(KEY, (500, 2), minval=-1.0)
    error = np.abs(np.asarray(huge.batch(inputs) - eqb.find_fixed_points(UNIQUE, inputs).rates))
    assert (error.max(0) <= np.asarray(found.bound)).all()


def test_bad_bounds(reference):
    model = eqb.FeedForward(5, 3, 5, key=KEY)
    smooth = eqb.RateNetwork(np.zeros((5, 5)), transfer=eqb.tanh)
    mlp = eqx.nn.MLP(5, 5, 3, 1, key=KEY)
    cases = [
        (lambda: eqb.error_bound(smooth, model, key=KEY), "threshold-linear"),
        (lambda: eqb.error_bound(reference, mlp, key=KEY), "must be a FeedForward"),
        (lambda: eqb.error_bound(UNIQUE, model, key=KEY), "must map 2 inputs to 2 outputs"),
        (lambda: eqb.error_bound(reference, model, 1.0, 0.0, key=KEY), "`high` must be at least"),
        (lambda: eqb.error_bound(reference, model, np.nan, key=KEY), "`low` must be finite"),
    ]  # fmt: skip
    for call, words in cases:
        with pytest.raises((ValueError, TypeError), match=words):
            call()
