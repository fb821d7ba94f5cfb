"""Slow points, linearisation, orbits and sequences, against closed forms and SciPy."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import equilibrax as eqb
from equilibrax import Outcome
from equilibrax.results import PointKind

FLIP_FLOP = eqb.RateNetwork(2 * np.eye(3), transfer=eqb.tanh, convention="activity")
STARTS = jr.uniform(jr.key(0), (600, 3), minval=-1.5, maxval=1.5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("kind", ["dynamics", "map"])
def test_three_bistable_units_have_27_points(kind, dtype):
    network = eqb.as_map(lambda x, i: jnp.tanh(2 * x) + i) if kind == "map" else FLIP_FLOP
    if kind == "dynamics":
        network = network.astype(dtype)
    points = eqb.find_slow_points(network, jnp.zeros(3, dtype), STARTS.astype(dtype))
    assert [points.counts[kind] for kind in PointKind] == [8, 19, 0, 0]
    assert np.bincount(points.num_unstable).tolist() == [8, 12, 6, 1]
    assert int(points.count.sum()) == 600
    # tanh(2 x) = x has the roots 0 and +-0.9575040241.
    eps = jnp.finfo(dtype).eps
    roots = np.asarray([-0.9575040240772688, 0.0, 0.9575040240772688])
    off = np.abs(np.asarray(points.state)[..., None] - roots).min(axis=-1)
    assert off.max() < 8 * eps
    assert len({tuple(np.rint(row).astype(int)) for row in np.asarray(points.state)}) == 27


def test_points_of_a_gru_are_fixed_and_their_spectra_right():
    cell = eqx.nn.GRUCell(2, 8, key=jr.key(3))
    cell = eqx.tree_at(lambda cell: cell.weight_hh, cell, 6 * cell.weight_hh)
    step = eqb.from_cell(cell)
    points = eqb.find_slow_points(step, jnp.zeros(2), jr.uniform(jr.key(1), (300, 8), minval=-1))
    fixed = np.asarray(points.kind) != PointKind.SLOW
    assert fixed.sum() >= 1
    for x, kind, unstable, values in zip(
        points.state, points.kind, points.num_unstable, points.eigenvalues, strict=True
    ):
        a = np.asarray(jax.jacobian(step.step)(x, jnp.zeros(2)))
        sizes = np.sort(np.abs(np.linalg.eigvals(a)))[::-1]
        np.testing.assert_allclose(np.abs(values), sizes, rtol=0, atol=1e-10)
        assert int(unstable) == (sizes > 1).sum()
        if kind != PointKind.SLOW:
            np.testing.assert_allclose(step.step(x, jnp.zeros(2)), x, rtol=0, atol=1e-14)
            assert (kind == PointKind.STABLE) == (sizes[0] < 1)


def test_a_ghost_is_slow_and_a_far_point_is_left_out():
    # dx/dt = 1e-4 + x^2 has no fixed point, and is slowest at zero; with -x^3 there is one far off.
    def ghost(t, x, i):
        return 1e-4 + x**2 - i * x**3

    starts = jnp.linspace(-0.3, 0.3, 20)[:, None]
    points = eqb.find_slow_points(ghost, jnp.zeros(1), starts)
    assert points.counts[PointKind.SLOW] == 1
    assert abs(float(points.state[0, 0])) < 1e-3
    assert abs(float(points.q[0]) - 0.5e-8) < 1e-10
    faster = eqb.find_slow_points(ghost, jnp.zeros(1), starts, slowest=1e-5)
    assert not len(faster.state)
    assert (np.asarray(faster.label) == -1).all()
    both = eqb.find_slow_points(ghost, jnp.ones(1), jnp.linspace(-0.3, 1.2, 40)[:, None])
    near = eqb.find_slow_points(
        ghost, jnp.ones(1), jnp.linspace(-0.3, 1.2, 40)[:, None], within=0.9
    )
    assert both.counts[PointKind.STABLE] == 1
    assert [near.counts[kind] for kind in PointKind] == [1, 0, 1, 0]
    tight = eqb.find_slow_points(
        ghost, jnp.ones(1), jnp.linspace(-0.3, 1.2, 40)[:, None], within=0.5
    )
    assert tight.counts[PointKind.STABLE] == 0
    # A start that is not a number, or one alone, is no cloud to be within.
    lost = eqb.find_slow_points(ghost, jnp.zeros(1), starts.at[0].set(jnp.nan), within=0.5)
    alone = eqb.find_slow_points(ghost, jnp.zeros(1), starts[:1], within=0.5)
    assert lost.describe() == "1 points from 20 starts: 1 SLOW; 1 starts led to none"
    assert alone.counts[PointKind.SLOW] == 1


def test_a_ghost_is_slow_however_slow():
    starts = jnp.linspace(-1, 1, 21, dtype=jnp.float32)[:, None]
    i = jnp.full(1, 1e-6, jnp.float32)
    points = eqb.find_slow_points(lambda t, x, i: i + x**2, i, starts)
    assert points.describe() == "1 points from 21 starts: 1 SLOW"
    assert abs(points.state[0, 0]) < 1e-6


def test_points_do_not_depend_on_units():
    step = eqb.as_map(lambda x, i: i * jnp.tanh(2 * x / i))
    for unit in (1e-9, 1e3):
        i = jnp.asarray([1, unit], jnp.float32)
        points = eqb.find_slow_points(step, i, i * STARTS[:100, :2].astype(jnp.float32))
        assert points.describe() == "9 points from 100 starts: 4 STABLE, 5 SADDLE"
        assert np.bincount(points.num_unstable).tolist() == [4, 4, 1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_neutral_points_are_marginal(dtype):
    # A circle of fixed points around a source; and a pitchfork where it is born.
    def circle(t, x, i):
        return x * (1 - x @ x)

    points = eqb.find_slow_points(circle, jnp.zeros(1, dtype), STARTS[:50, :2].astype(dtype))
    kinds, radius = np.asarray(points.kind), np.linalg.norm(points.state, axis=1)
    np.testing.assert_array_equal(kinds[radius > 0.5], PointKind.MARGINAL)
    np.testing.assert_array_equal(points.num_unstable, np.where(radius > 0.5, 0, 2))
    assert (radius > 0.5).sum() > 20
    labels = [text.get_text() for text in eqb.figures.slow_points(points).get_legend().get_texts()]
    assert labels[-1] == f"{(radius > 0.5).sum()} MARGINAL"
    starts = jnp.linspace(-1, 1, 20, dtype=dtype)[:, None]
    pitchfork = eqb.find_slow_points(lambda t, x, i: -(x**3), jnp.zeros(1, dtype), starts)
    assert set(np.asarray(pitchfork.kind)) == {PointKind.MARGINAL}


def test_one_input_for_each_start_keeps_their_points_apart():
    inputs = jnp.asarray([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]])
    which = jnp.arange(600) % 2
    points = eqb.find_slow_points(FLIP_FLOP, inputs[which], STARTS)
    assert set(np.asarray(points.inputs)[:, 0].tolist()) == {0.0, 0.3}
    own = np.asarray(points.inputs)[np.asarray(points.label), 0]
    np.testing.assert_array_equal(own, np.asarray(inputs[which, 0]))


BAD = {
    "no start": (lambda: eqb.find_slow_points(FLIP_FLOP, jnp.zeros(3), jnp.zeros((0, 3))), "at least one start"),
    "one start": (lambda: eqb.find_slow_points(FLIP_FLOP, jnp.zeros(3), jnp.zeros(3)), "shape (m, n)"),
    "wide starts": (lambda: eqb.find_slow_points(FLIP_FLOP, jnp.zeros(3), jnp.zeros((2, 4))), "(..., 3)"),
    "inputs": (lambda: eqb.find_slow_points(FLIP_FLOP, jnp.zeros((3, 3)), jnp.zeros((2, 3))), "one for each of 2"),
    "period": (lambda: eqb.find_cycles(FLIP_FLOP, jnp.zeros(3), period=-1.0), "be positive"),
    "half a step": (lambda: eqb.find_cycles(eqb.as_map(lambda x, i: -x), jnp.ones(1), period=2.5), "`period` must hold whole numbers"),
    "steps": (lambda: eqb.settle_sequence(FLIP_FLOP, jnp.zeros(3)), "(steps, ..., k)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_what_works_on_the_host_says_so():
    def traced(x):
        return eqb.find_slow_points(FLIP_FLOP, jnp.zeros(3), x).state

    with pytest.raises(TypeError, match="`starts` must be known: this works outside"):
        jax.jit(traced)(STARTS)
    with pytest.raises(TypeError, match="`found` must be known"):
        jax.jit(lambda x: eqb.linearise(FLIP_FLOP, x, x).gain)(jnp.zeros(3))


def test_searches_that_meet_nan_are_counted():
    points = eqb.find_slow_points(
        eqb.as_map(lambda x, i: x * jnp.nan), jnp.zeros(2), jnp.ones((5, 2))
    )
    assert points.describe() == "0 points from 5 starts: -; 5 starts led to none"


def test_linearised_networks_are_those_of_finite_differences():
    network = eqb.random_ei(12, key=jr.key(0))
    network = eqb.RateNetwork(
        network.weights, 0.1, jr.uniform(jr.key(2), (12,), minval=0.5), eqb.tanh
    )
    inputs = jr.normal(jr.key(1), (4, 12))
    found = eqb.find_fixed_points(network, inputs)
    near = eqb.linearise(network, found, inputs)
    for k in range(4):
        jacobian = np.asarray(network.jacobian(found.state[k], inputs[k]))
        values = np.linalg.eigvals(jacobian)
        np.testing.assert_allclose(
            np.sort(values.real)[::-1], near.eigenvalues[k].real, rtol=0, atol=1e-12
        )
        left, right, own = near.left[k], near.right[k], near.eigenvalues[k]
        np.testing.assert_allclose(left @ right, np.eye(12), rtol=0, atol=1e-10)
        np.testing.assert_allclose(right @ np.diag(own) @ left, jacobian, rtol=0, atol=1e-10)
        np.testing.assert_allclose(near.time_constants[k], -1 / own.real, rtol=1e-12)
        growth = np.linalg.eigvalsh((jacobian + jacobian.T) / 2).max()
        assert abs(near.numerical_abscissa[k] - growth) < 1e-12
        # Schur's triangle above the diagonal is what is not normal.
        from scipy.linalg import schur

        triangle = schur(jacobian, output="complex")[0]
        part = np.linalg.norm(np.triu(triangle, 1)) / np.linalg.norm(jacobian)
        assert abs(near.henrici[k] - part) < 1e-7
    gain = jax.jacobian(lambda i: eqb.find_fixed_points(network, i).rates)(inputs[0])
    np.testing.assert_allclose(near.gain[0], gain, rtol=0, atol=1e-10)
    alone = eqb.linearise(network, found.state[0], inputs[0])
    np.testing.assert_allclose(alone.gain, gain, rtol=0, atol=1e-10)


def test_linearised_maps_count_steps():
    step = eqb.as_map(lambda x, i: jnp.asarray([[0.5, 3.0], [0.0, -0.25]]) @ x + i)
    near = eqb.linearise(step, jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(near.eigenvalues, [0.5, -0.25])
    np.testing.assert_allclose(near.time_constants, -1 / np.log([0.5, 0.25]))
    np.testing.assert_allclose(near.gain, np.linalg.inv([[0.5, -3.0], [0.0, 1.25]]))
    assert (
        abs(near.numerical_abscissa - np.log(np.linalg.norm([[0.5, 3.0], [0.0, -0.25]], 2))) < 1e-12
    )
    assert near.num_unstable == 0


def hopf(t, x, i):
    """Radius sqrt(i), angular velocity 1 + r^2."""
    square = x @ x
    return (i[0] - square) * x + (1 + square) * jnp.asarray([-x[1], x[0]])


def test_the_hopf_normal_form():
    inputs = jnp.asarray([[1.0], [0.25], [-1.0]])
    cycles = eqb.find_cycles(hopf, inputs, jnp.asarray([0.2, 0.0]), points=16)
    period = 2 * np.pi / (1 + inputs[:2, 0])
    np.testing.assert_allclose(cycles.period[:2], period, rtol=0, atol=1e-9)
    assert cycles.found.tolist() == cycles.stable.tolist() == [True, True, False]
    np.testing.assert_allclose(cycles.multipliers[:2, 0], 1, atol=1e-9)
    np.testing.assert_allclose(
        cycles.multipliers[:2, 1], np.exp(-2 * inputs[:2, 0] * period), rtol=0, atol=1e-8
    )
    radius = jnp.linalg.norm(cycles.orbit[:2], axis=-1)
    np.testing.assert_allclose(radius, jnp.sqrt(inputs[:2]) * np.ones(16), rtol=0, atol=1e-9)
    assert np.isnan(cycles.period[2])
    assert np.isnan(cycles.orbit[2]).all()


def test_an_unstable_orbit_is_found_from_a_guess():
    backwards = lambda t, x, i: -hopf(t, x, i)  # noqa: E731
    guess = jnp.asarray([1.02, 0.01])
    cycle = eqb.find_cycles(backwards, jnp.ones(1), guess, period=3.0)
    assert abs(cycle.period - np.pi) < 1e-9
    assert bool(cycle.found)
    assert not bool(cycle.stable)
    assert abs(cycle.multipliers[0] - np.exp(2 * np.pi)) < 1e-4


def test_a_stiff_orbit_takes_the_methods_steps():
    def stiff(t, x, i):
        return jnp.append(hopf(t, x[:2], i), 5e3 * (x[0] - x[2]))

    guess, method = jnp.asarray([1.1, 0.0, 1.0]), eqb.Flow(max_steps=20_000)
    cycle = eqb.find_cycles(stiff, jnp.ones(1), guess, period=3.0, points=4, method=method)
    assert abs(cycle.period - np.pi) < 1e-9


def test_a_cycle_is_sought_where_the_method_finds_one():
    # Everything counts as steady from 1,000 on, so that nothing oscillates.
    for steady, found in ((1e3, False), (1e-7, True)):
        method = eqb.Flow(steady_atol=steady)
        cycle = eqb.find_cycles(hopf, jnp.ones(1), jnp.asarray([0.2, 0.0]), method=method)
        assert bool(cycle.found) == found


def test_a_point_at_rest_is_no_cycle():
    cycle = eqb.find_cycles(hopf, jnp.ones(1), jnp.zeros(2), period=1.0)
    assert not bool(cycle.found)


def test_derivatives_of_a_period_are_right_to_second_order_and_zero_without_an_orbit():
    def total(i):
        cycles = eqb.find_cycles(hopf, i, jnp.asarray([1.0, 0.0]), period=3.0, points=4)
        return jnp.sum(jnp.where(cycles.found, cycles.period, 0))

    def slope(i):
        first = jax.grad(total)(i)
        return first, first

    second, first = jax.jacfwd(slope, has_aux=True)(jnp.asarray([[1.0], [-1.0]]))
    # Of 2 pi / (1 + i): -2 pi / (1 + i)^2 and 4 pi / (1 + i)^3.
    np.testing.assert_allclose(first[:, 0], [-np.pi / 2, 0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(second[0, 0, :, 0], [np.pi / 2, 0], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(second[1], 0)


def test_derivatives_of_a_maps_cycle_through_what_its_function_closes_over():
    def point(r):
        step = eqb.as_map(lambda x, i: r * x * (1 - x))
        return eqb.find_cycles(step, jnp.zeros(1), jnp.asarray([0.3]), points=4).state[0]

    def exact(r, sign):
        return (r + 1 + sign * jnp.sqrt((r - 3) * (r + 1))) / (2 * r)

    derivatives = [function(point)(3.2) for function in (lambda f: f, jax.grad, jax.hessian)]
    sign = jnp.sign(derivatives[0] - 0.65)
    expected = [function(exact)(3.2, sign) for function in (lambda f: f, jax.grad, jax.hessian)]
    np.testing.assert_allclose(derivatives, expected, rtol=1e-10)


def test_cycles_do_not_depend_on_units_nor_on_the_default_precision():
    def in_units(t, x, i):
        return i[1:] * hopf(t, x / i[1:], i)

    units = np.asarray([[1.0, 1.0], [1.0, 1e-9], [1e-9, 1e-9]])
    for dtype, exact in ((jnp.float64, 1e-9), (jnp.float32, 1e-4)):
        inputs = jnp.asarray(np.column_stack([np.ones(3), units]), dtype)
        guess = jnp.asarray(1.1 * units * np.asarray([1, 0]), dtype)
        cycles = eqb.find_cycles(in_units, inputs, guess, period=3.0, points=8)
        np.testing.assert_allclose(cycles.period, np.full(3, np.pi), rtol=0, atol=exact)
        assert cycles.period.dtype == cycles.orbit.dtype == dtype
        radius = np.linalg.norm(cycles.orbit / units[:, None], axis=-1)
        np.testing.assert_allclose(radius, 1, rtol=0, atol=exact)


def test_van_der_pol_and_wilson_cowan_by_scipy():
    def van_der_pol(t, u, i):
        return jnp.stack([u[1], i[0] * (1 - u[0] ** 2) * u[1] - u[0]])

    cycles = eqb.find_cycles(van_der_pol, jnp.asarray([[1.0], [2.0]]), jnp.asarray([1.0, 0.0]))
    np.testing.assert_allclose(cycles.period, [6.66328686, 7.62987448], rtol=0, atol=1e-7)
    network = eqb.WilsonCowan()
    i = jnp.asarray([1.25, 0.0])
    cycle = eqb.find_cycles(network, i, jnp.asarray([0.1, 0.05]))
    assert bool(cycle.stable)

    def field(t, x):
        return np.asarray(network.vector_field(0.0, jnp.asarray(x), i))

    end = solve_ivp(
        field, (0, float(cycle.period)), np.asarray(cycle.state), rtol=1e-10, atol=1e-12
    ).y[:, -1]
    np.testing.assert_allclose(end, cycle.state, rtol=0, atol=1e-8)


def test_cycles_of_maps_have_multipliers():
    step = eqb.as_map(lambda x, i: i * x * (1 - x))
    cycles = eqb.find_cycles(step, jnp.asarray([[3.2], [3.5], [2.8]]), jnp.asarray([0.3]), points=4)
    assert cycles.period.tolist()[:2] == [2, 4]
    assert abs(cycles.multipliers[0, 0] - (4 + 2 * 3.2 - 3.2**2)) < 1e-12
    np.testing.assert_allclose(cycles.orbit[0, :2], cycles.orbit[0, 2:], rtol=0, atol=1e-15)
    assert cycles.found.tolist() == [True, True, False]
    # A length that is a literal is known inside of jit, too.
    guessed = jax.jit(lambda i: eqb.find_cycles(step, i, jnp.asarray([0.5]), period=2, points=4))
    np.testing.assert_allclose(guessed(jnp.asarray([3.2])).multipliers, cycles.multipliers[0])


def test_sequences_remember():
    network = eqb.RateNetwork([[2.0]], transfer=eqb.tanh, convention="activity")
    drive = jnp.asarray([0.0, 1.0, 0.0, -1.0, 0.0])[:, None]
    found = eqb.settle_sequence(network, drive, jnp.asarray([-1.0]))
    assert jnp.sign(found.state[:, 0]).tolist() == [-1, 1, 1, -1, -1]
    x = jnp.asarray([-1.0])
    for k, i in enumerate(drive):
        one = eqb.find_fixed_points(network, i, x0=x)
        x = one.state
        np.testing.assert_allclose(found.state[k], x, rtol=0, atol=1e-14)
    batch = eqb.settle_sequence(network, jnp.stack([drive, -drive], axis=1), jnp.asarray([-1.0]))
    np.testing.assert_allclose(batch.state[:, 0], found.state, rtol=0, atol=1e-14)
    assert batch.outcome.shape == (5, 2)

    def last(i):
        return eqb.settle_sequence(network, i, jnp.asarray([-1.0])).state[-1, 0]

    gradient = jax.grad(last)(drive)
    slope = 2 * (1 - found.state[-1, 0] ** 2)
    np.testing.assert_allclose(gradient[:, 0], [0, 0, 0, 0, (slope / 2) / (1 - slope)], atol=1e-12)
    assert eqb.settle_sequence(network, jnp.zeros((0, 1))).outcome.shape == (0,)


def test_sequences_go_on_after_what_does_not_settle():
    step = eqb.as_map(lambda x, i: i * x * (1 - x))
    found = eqb.settle_sequence(step, jnp.asarray([[2.8], [3.9], [2.8]]), jnp.asarray([0.3]))
    assert found.outcome.tolist() == [Outcome.STABLE, Outcome.NOT_SETTLED, Outcome.STABLE]
    assert found.state[0] == found.state[2]
