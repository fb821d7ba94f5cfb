"""What rounding hides is not proven: points, sides of thresholds and sums in single precision."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

import equilibrax as eqb
from equilibrax import Evidence, Flow, Outcome
from equilibrax.fixed_points.certificates._powers import Powers

PROOF = Flow(evidence="proof")


def settle(weights, inputs, x0, method=PROOF, **of_network):
    network = eqb.RateNetwork(np.asarray(weights, np.float32), **of_network)
    inputs, x0 = (np.asarray(a, np.float32) for a in (inputs, x0))
    return eqb.find_fixed_points(network, inputs, x0=x0, method=method)


def cancelling():
    """Two neurons read 10^6, and single precision shifts them up and down by 0.016; a third one reads
    their difference, and would run away."""
    large, ulp = np.float32(1e6), 2.0**-26

    def shift(w):
        return float(Fraction(float(w)) * Fraction(float(large)) - Fraction(float(w * large)))

    near = np.float32(0.3) + np.arange(-3000, 3000).astype(np.float32) * np.float32(ulp)
    up, down = max(near, key=shift), min(near, key=shift)
    weights, inputs = np.zeros((9, 9), np.float32), np.full(9, -1.0, np.float32)
    weights[1, 0], weights[2, 0] = up, down
    weights[3, 1:4] = 1, -1, 3
    inputs[:4] = large, 1 - up * large, 1 - down * large, -(shift(up) - shift(down)) / 2
    start = inputs.copy()
    start[1:3] = 1.001
    return weights, inputs, start


@pytest.mark.rounding
@pytest.mark.parametrize("evidence", ["proof", None])
def test_errors_of_one_neuron_are_errors_of_those_that_read_it(evidence):
    # The drive of the third neuron is 0.0156, and is computed to be -0.0156.
    found = settle(*cancelling(), Flow(evidence=evidence))
    assert not bool(found.certified)
    assert Outcome(int(found.outcome)) is not Outcome.STABLE


@pytest.mark.rounding
def test_long_sums_lose_more_than_short_ones():
    # One, and many terms of 0.49 of its last place, which vanish one by one.
    n, last = 64, 2.0**-23
    weights, inputs = np.zeros((n, n), np.float32), np.ones(n, np.float32)
    weights[-2, 0], weights[-2, 1:-2], weights[-2, -2] = 1, 0.49 * last, 3
    lost = float((n - 3) * Fraction(float(np.float32(0.49 * last))))
    inputs[-1], inputs[-2] = -1, -(1 + lost / 2)
    start = inputs.copy()
    start[-2] = -1e-6
    assert not bool(settle(weights, inputs, start).stable)


@pytest.mark.rounding
def test_a_slow_mode_beside_a_fast_one_is_followed_to_its_end():
    # x_0 = 1 is reached at a rate of 0.002, where others take a fiftieth of a time constant.
    weights, inputs = np.zeros((9, 9), np.float32), np.full(9, -1.0, np.float32)
    weights[0, 0], weights[1, 1] = 0.998, -49
    inputs[:2] = 1 - weights[0, 0], 50
    start = inputs.copy()
    start[:2] = 0.9, 1
    early = settle(weights, inputs, start)
    assert not bool(early.stable)
    late = settle(weights, inputs, start, Flow(evidence="proof", t1=8000.0))
    assert bool(late.stable)
    assert float(late.state[0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1.07e-19])
def test_squares_that_vanish_prove_nothing(unit):
    # A weakly damped rotation takes the fourth neuron across its threshold, from which it runs away.
    weights, inputs, start = np.zeros((9, 9)), np.full(9, -1.0), np.full(9, -1.0)
    weights[:2, :2] = [[1 - 0.0012, 0.01], [-0.01, 1 - 0.0012]]
    weights[3, 0], weights[3, 3] = -1, 3
    point = np.asarray([1.0, 3.0])
    inputs[:2], inputs[3] = (np.eye(2) - weights[:2, :2]) @ point, 1 - 0.75
    start[:2], start[3] = point + np.asarray([0.3, -1.0]), -0.75 - 0.3
    found = settle(weights, inputs * unit, start * unit)
    assert Outcome(int(found.outcome)) is Outcome.DIVERGED


@pytest.mark.rounding
@pytest.mark.parametrize("evidence", ["proof", "probe", "spectrum"])
@pytest.mark.parametrize("weight", [300.0, 30_000.0])
def test_ghosts_of_a_steep_neuron_are_no_fixed_points(weight, evidence):
    # Just below the fold of -x + w tanh(x) + i there is no fixed point above zero.
    fold = np.arccosh(np.sqrt(weight))
    critical = fold - weight * np.tanh(fold)
    inputs = np.float32(critical)
    while inputs >= critical:
        inputs = np.nextafter(inputs, np.float32(-np.inf))
    starts = np.linspace(fold + 0.05, fold + 2, 64)[:, None]
    found = settle(
        [[weight]], np.broadcast_to(inputs, starts.shape), starts, Flow(evidence=evidence),
        transfer=eqb.tanh,
    )  # fmt: skip
    above = np.asarray(found.state)[:, 0] > 0
    assert not np.asarray(found.stable)[above].any()


@pytest.mark.rounding
def test_chaos_is_not_held_by_a_point_that_it_comes_close_to():
    logistic = eqb.as_map(lambda x, r: r * x * (1 - x))
    starts = np.random.default_rng(0).uniform(0.05, 0.95, (2000, 1)).astype(np.float32)
    found = eqb.find_fixed_points(logistic, np.full((2000, 1), 3.7, np.float32), x0=starts)
    assert found.counts[Outcome.NOT_SETTLED] == 2000


def test_two_thresholds_within_rounding_are_probed_on_all_sides():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(12, 12)) * 0.5 / np.sqrt(12)
    point = rng.uniform(0.5, 1.5, 12) * np.sign(rng.normal(size=12))
    point[[2, 7]] = 4e-8, -4e-8
    inputs = point - weights @ np.maximum(point, 0)
    found = settle(weights, inputs, np.zeros(12), Flow(evidence="probe"))
    assert Evidence(int(found.evidence)) is Evidence.PROBED
    np.testing.assert_allclose(found.state, point, atol=2e-6)
    # In another unit of time the same bound.
    for tau in (100.0, 1e-3):
        other = settle(weights, inputs, np.zeros(12), Flow(evidence="probe"), tau=tau)
        bound = float(other.abscissa_bound) * tau
        assert bound == pytest.approx(float(found.abscissa_bound), rel=1e-4)
    # A self-excitation that would run away on one of the four sides.
    weights[7, 7] = 1.5
    found = settle(weights, inputs, np.zeros(12), Flow(evidence="probe"))
    assert not bool(found.stable)


def test_bounds_on_all_powers_hold_for_each():
    rng = np.random.default_rng(0)
    jacobians = jnp.asarray(rng.normal(size=(20, 9, 9)) / 5 - np.eye(9))
    step = jnp.asarray(0.5)
    found = Powers(step * jacobians, step, jnp.inf, jnp.ones(20, bool))
    for j, highest, total, q, slip, norm in zip(
        jacobians, found.highest, found.total, found.inverse, found.slip, found.norm, strict=True
    ):
        power, norms = np.eye(9), []
        for _ in range(2000):
            norms.append(np.linalg.norm(power, 2))
            power = power @ (np.eye(9) + 0.5 * np.asarray(j))
        assert max(norms) <= float(highest)
        assert sum(norms) <= float(total)
        rest = np.linalg.norm(np.asarray(q) @ np.asarray(j) + np.eye(9), 2)
        assert rest <= float(norm) ** 2 + float(slip) * np.linalg.norm(j, 2) + 1e-12
