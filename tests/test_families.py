"""Families: sweeps over networks, basins over starts, branches over a parameter."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import fsolve

import equilibrax as eqb
from equilibrax import Outcome

W_E = jnp.asarray([0.3, 1.0, 2.5, jnp.nan, 2.0])
INPUTS = jax.random.uniform(jax.random.key(0), (300, 5), minval=-1.0)


def network_of(w_e):
    return eqb.partitioned(w_e=w_e)


@pytest.fixture(scope="module")
def swept():
    return eqb.sweep(network_of, W_E, INPUTS)


def test_a_sweep_is_the_loop_over_its_networks(swept):
    assert swept.found.state.shape == (5, 300, 5)
    for row in (0, 2, 4):
        alone = eqb.find_fixed_points(network_of(W_E[row]), INPUTS)
        np.testing.assert_array_equal(swept.found.outcome[row], alone.outcome)
        np.testing.assert_allclose(swept.found.state[row], alone.state, atol=1e-12)
    assert swept.counts.sum(axis=1).tolist() == [300] * 5


def test_a_network_that_is_not_finite_leaves_its_neighbours_alone(swept):
    np.testing.assert_array_equal(swept.share(Outcome.INVALID), [0, 0, 0, 1, 0])


def test_a_sweep_of_one_input_has_the_shape_of_the_family(swept):
    alone = eqb.sweep(network_of, W_E, INPUTS[0])
    assert alone.found.state.shape == (5, 5)
    np.testing.assert_array_equal(alone.found.outcome, swept.found.outcome[:, 0])


def test_a_sweep_over_two_axes_and_its_gradient():
    grid = jnp.meshgrid(jnp.asarray([1.0, 2.0]), jnp.asarray([6.0, 8.0, 9.0]), indexing="ij")

    def build(w):
        return eqb.partitioned(w_e=w[0], w_i=w[1])

    def loss(w):
        return jnp.sum(eqb.sweep(build, w, INPUTS, axes=2).found.rates[0, 1])

    slope = jax.grad(loss)(grid)
    step = 1e-5
    for axis in (0, 1):
        shift = [step * (k == axis) for k in (0, 1)]
        high = loss([g + s for g, s in zip(grid, shift, strict=True)])
        low = loss([g - s for g, s in zip(grid, shift, strict=True)])
        expected = float(high - low) / (2 * step)
        assert float(slope[axis][0, 1]) == pytest.approx(expected, rel=1e-6)
        others = slope[axis].at[0, 1].set(0)
        np.testing.assert_array_equal(others, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eqb.sweep(network_of, jnp.asarray([1.0, -2.0]), INPUTS), "`w_e` must be finite"),
        (lambda: eqb.sweep(network_of, jnp.zeros((0,)), INPUTS), "must hold at least one"),
        (
            lambda: eqb.sweep(network_of, [jnp.zeros(2), jnp.zeros(3)], INPUTS),
            "same 1 leading axes",
        ),
        (lambda: eqb.sweep(network_of, (), INPUTS), "must hold an array"),
        (lambda: eqb.sweep(network_of, W_E, INPUTS[:, :4]), r"must have shape \(..., 5\)"),
        (lambda: eqb.basins(eqb.two_neuron(), jnp.ones((2, 2)), jnp.ones(2)), "be one input"),
        (lambda: eqb.basins(eqb.two_neuron(), jnp.ones(2), jnp.ones((0, 2))), "at least one start"),
        (lambda: eqb.follow_branch(ring_of, jnp.ones(2), 1.0, 1.0), "differ from `start`"),
    ],
)
def test_bad_families(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_family_of_plain_functions_is_refused():
    with pytest.raises(TypeError, match="`network_of` must return a RateNetwork or other"):
        eqb.sweep(lambda w: lambda t, x, i: -x + w * i, W_E, INPUTS)


NUMPYS = "must be written with jax.numpy and jax.lax, .* asks for the value of a traced array"
PAIR = jnp.ones(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eqb.sweep(lambda w: ring_of(float(w)), W_E, PAIR), f"`network_of` {NUMPYS}"),
        (
            lambda: eqb.follow_branch(ring_of, lambda p: PAIR * np.asarray(p), 0.1, 0.2),
            f"`input` {NUMPYS}",
        ),
        (
            lambda: eqb.find_fixed_points(lambda t, x, i: i - np.tanh(x), PAIR),
            f"`network.vector_field` {NUMPYS}",
        ),
        (
            lambda: eqb.follow_branch(eqb.two_neuron(), lambda p: p * PAIR, 0.1, 0.2),
            "`network_of` must be a function from the parameter .* is RateNetwork",
        ),
        (lambda: eqb.sweep(ring_of(1.0), W_E, PAIR), "`network_of` must be a function"),
    ],
)
def test_functions_that_jax_cannot_trace_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_results_print_as_one_line():
    network, starts = eqb.two_neuron(), jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    swept = eqb.sweep(ring_of, jnp.asarray([0.2, 1.0]), jnp.asarray([[0.3, 0.3], [0.3, 0.2]]))
    points = eqb.enumerate_fixed_points(network, jnp.asarray([[0.3, 0.2], [0.3, -0.2]]))
    branch = eqb.follow_branch(lambda p: network, lambda p: jnp.stack([p, 1 - p]), 0.9, 0.1)
    evidence = "evidence: 3 PROVEN, 1 SPECTRUM"
    assert str(swept) == f"Sweep: 2 networks, 4 inputs: 3 STABLE, 1 UNSTABLE; {evidence}"
    assert str(points) == "Enumeration: 4 fixed points, 3 stable, of 2 inputs"
    assert str(eqb.basins(network, PAIR, starts)) == (
        "Basins: 2 stable fixed points from 3 starts, of shares 0.333, 0.333; 2 STABLE, 1 UNSTABLE"
    )
    assert re.fullmatch(
        r"Branch: \d+ points from 0.9 to 0.1, with border 0.3333, .*fold 0.6667; end: left",
        str(branch),
    )


def ring_of(w):
    return eqb.two_neuron(w_self=0.5, w_cross=-w)


def test_basins_of_a_winner_take_all_network():
    """x1 = x2 divides the two basins where the inputs are the same."""
    network = eqb.two_neuron(0.5, -1.5)
    axis = jnp.linspace(-0.95, 1.05, 30)
    grid = jnp.stack(jnp.meshgrid(axis, axis + 0.01, indexing="ij"), axis=-1)
    reached = eqb.basins(network, jnp.ones(2), grid)
    every = eqb.enumerate_fixed_points(network, jnp.ones(2))
    stable = np.asarray(every.state)[np.asarray(every.stable)]
    assert len(reached.state) == len(stable) == 2
    for state in reached.state:
        assert np.abs(stable - np.asarray(state)).max(axis=1).min() < 1e-12
    first_wins = np.asarray(reached.rates[:, 0]) > 0
    np.testing.assert_array_equal(first_wins[reached.label], grid[..., 0] > grid[..., 1])
    share = np.mean(np.asarray(grid[..., 0] > grid[..., 1]))
    assert float(reached.share[np.argmax(first_wins)]) == pytest.approx(share)


def test_starts_that_settle_nowhere_have_no_basin():
    network = eqb.two_neuron(1.5, 0.0)
    reached = eqb.basins(network, -0.1 * jnp.ones(2), jnp.asarray([[0.0, 0.0], [3.0, 0.0]]))
    assert reached.label.tolist() == [0, -1]
    assert float(reached.share[0]) == 0.5
    assert reached.found.counts[Outcome.DIVERGED] == 1
    # Nor has one that is not a number, which takes no part in what counts as the same.
    step = eqb.as_map(lambda x, i: jnp.tanh(2 * x) + i)
    reached = eqb.basins(step, jnp.zeros(1), jnp.asarray([[jnp.nan], [0.5], [-0.5]]))
    assert reached.label.tolist() == [-1, 0, 1]
    # tanh(2 x) = x
    np.testing.assert_allclose(reached.state[:, 0], [0.95750402407727, -0.95750402407727])


def test_folds_and_the_hopf_point_of_wilson_and_cowan():
    model, drive = eqb.WilsonCowan(), jnp.asarray([1.0, 0.0])
    branch = eqb.follow_branch(lambda p: model, lambda p: p * drive, 0.0, 3.0)
    assert [point.kind for point in branch.points] == ["fold", "fold", "hopf"]
    assert branch.end == "left"
    field = jax.jit(lambda x, p: model.vector_field(0.0, x, p * drive))
    jacobian = jax.jit(lambda x, p: model.jacobian(x, p * drive))

    def there(test, point):
        """The exact place nearby, as a root of the equations themselves."""

        def equations(z):
            return [*np.asarray(field(z[:2], z[2])), test(np.asarray(jacobian(z[:2], z[2])))]

        return fsolve(equations, [*point.state, point.parameter], xtol=1e-13)

    first, second, hopf = branch.points
    for point in (first, second):
        exact = there(np.linalg.det, point)
        assert point.parameter == pytest.approx(exact[2], abs=1e-9)
        np.testing.assert_allclose(point.state, exact[:2], atol=1e-6)
    exact = there(np.trace, hopf)
    assert hopf.parameter == pytest.approx(exact[2], abs=1e-9)
    det = np.linalg.det(jacobian(exact[:2], exact[2]))
    assert hopf.period == pytest.approx(2 * np.pi / np.sqrt(det), rel=1e-8)
    rows = np.arange(len(branch.parameter))
    np.testing.assert_array_equal(branch.stable, (rows < first.index) | (rows >= hopf.index))


def test_folds_of_a_bistable_unit():
    """x = tanh(2 x) + p folds where 2 sech^2(2x) = 1, at p = x - tanh(2x)."""

    def unit(p):
        return lambda t, x, i: -x + jnp.tanh(2 * x) + i

    branch = eqb.follow_branch(unit, lambda p: p[None], -1.0, 1.0)
    folds = [point.parameter for point in branch.points]
    x = np.arccosh(np.sqrt(2)) / 2
    exact = x - np.tanh(2 * x)
    assert [point.kind for point in branch.points] == ["fold", "fold"]
    np.testing.assert_allclose(folds, [-exact, exact], atol=1e-8)
    residual = branch.state[:, 0] - np.tanh(2 * branch.state[:, 0]) - branch.parameter
    np.testing.assert_allclose(residual, 0, atol=1e-12)
    np.testing.assert_array_equal(branch.stable, 2 / np.cosh(2 * branch.state[:, 0]) ** 2 < 1)
    assert float(branch.parameter[-1]) == pytest.approx(1.0, abs=1e-9)


def test_a_branch_point_of_a_symmetric_unit():
    """x = tanh(p x) loses the stability of x = 0 at p = 1, a pitchfork."""
    branch = eqb.follow_branch(
        lambda p: lambda t, x, i: -x + jnp.tanh(p * x) + i, jnp.zeros(1), 0.5, 2.0
    )
    assert [point.kind for point in branch.points] == ["branch"]
    assert branch.points[0].parameter == pytest.approx(1.0, abs=1e-8)
    np.testing.assert_allclose(branch.state, 0, atol=1e-12)


def test_a_branch_point_of_a_symmetric_ring():
    """n tanh units with cosine weights 2 p / n cos(a - b): two eigenvalues p - 1 cross at once."""
    n = 12
    angle = 2 * np.pi * np.arange(n) / n
    weights = jnp.asarray(2 / n * np.cos(angle[:, None] - angle))
    branch = eqb.follow_branch(
        lambda p: eqb.RateNetwork(p * weights, transfer=eqb.tanh), jnp.zeros(n), 0.5, 1.5
    )
    assert [point.kind for point in branch.points] == ["branch"]
    assert branch.points[0].parameter == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (lambda p: lambda t, x, i: p * x - x**3, "branch"),
        (lambda p: lambda t, x, i: p - x**2, "fold"),
    ],
)
def test_a_pitchfork_met_from_its_side_is_not_a_fold(field, kind):
    """Both curves turn at p = 0; through that of the pitchfork another one passes."""
    branch = eqb.follow_branch(field, jnp.zeros(1), 1.0, -1.0, x0=jnp.ones(1))
    assert [point.kind for point in branch.points] == [kind]
    assert branch.points[0].parameter == pytest.approx(0.0, abs=1e-6)


def test_a_conserved_sum_is_named():
    """x1 + x2 never changes: there is a line of fixed points, to which any `x0` may belong."""

    def field(p):
        return lambda t, x, i: jnp.stack([x[1] - p * x[0], p * x[0] - x[1]])

    with pytest.raises(ValueError, match="where a sum is conserved, leave one component out"):
        eqb.follow_branch(field, jnp.zeros(2), 1.0, 2.0, x0=jnp.asarray([0.5, 0.5]))


def test_borders_of_a_threshold_linear_network():
    """Two neurons, x1 = i1 - w x2+, x2 = p - w x1+ with w = 1/2, i1 = 1: neuron 2 comes in at
    p = 1/2 with slope 1 / (1 - w^2), and neuron 1 leaves where its state is 1 - p / 2 = 0."""

    def of(p):
        return eqb.two_neuron(0.0, -0.5)

    branch = eqb.follow_branch(of, lambda p: jnp.stack([1.0 + 0 * p, p]), 0.0, 3.0)
    assert [(point.kind, point.neuron) for point in branch.points] == [("border", 1), ("border", 0)]
    np.testing.assert_allclose([p.parameter for p in branch.points], [0.5, 2.0], atol=1e-9)
    p, x = branch.parameter, branch.state
    first = np.where(p < 0.5, 1.0, np.where(p < 2, (1 - p / 2) / 0.75, 1 - p / 2))
    np.testing.assert_allclose(x[:, 0], first, atol=1e-9)


@pytest.mark.parametrize("stop", [0.49, 0.55])
def test_steps_that_leave_the_interval_meet_only_the_borders_in_it(stop):
    """The border at p = 1/2, of the test before, and one step over it and over the end."""

    def of(p):
        return eqb.two_neuron(0.0, -0.5)

    def drive(p):
        return jnp.stack([1.0 + 0 * p, p])

    branch = eqb.follow_branch(of, drive, 0.0, stop, step=0.8, max_step=0.8, max_points=9)
    assert branch.end == "left"
    assert [point.kind for point in branch.points] == ["border"] * (stop > 0.5)
    np.testing.assert_allclose(branch.parameter[-1], stop, atol=1e-9)
    drift = [of(p).drift(x, drive(p)) for x, p in zip(branch.state, branch.parameter, strict=True)]
    np.testing.assert_allclose(drift, 0, atol=1e-9)


def test_a_nonsmooth_fold():
    """Two neurons that inhibit each other by more than 1: as p grows, the state in which 1 wins
    ends where neuron 2 reaches its threshold, on an unstable one that leads back."""

    def of(p):
        return eqb.two_neuron(0.0, -2.0)

    branch = eqb.follow_branch(of, lambda p: jnp.stack([1.0 + 0 * p, p]), 0.0, 5.0)
    kinds = [point.kind for point in branch.points]
    # Back at p = 1/2, where neuron 1 falls silent and neuron 2 has won.
    assert kinds == ["border", "fold", "border", "fold"]
    np.testing.assert_allclose([p.parameter for p in branch.points], [2, 2, 0.5, 0.5], atol=1e-9)
    assert branch.end == "left"
    middle = np.asarray((branch.state > 0).all(axis=1))
    np.testing.assert_array_equal(np.asarray(branch.abscissa[middle]) > 0, True)


def test_a_branch_needs_a_fixed_point():
    with pytest.raises(ValueError, match="`x0` must be given where there is no stable"):
        eqb.follow_branch(lambda p: eqb.two_neuron(1.5, 0.0), jnp.ones(2), 0.0, 1.0)


def test_starts_methods_tolerances_and_limits_are_heeded():
    by_spectrum = eqb.Flow(evidence="spectrum")
    start, both = jnp.asarray([0.0, 1.0]), jnp.ones(2)
    swept = eqb.sweep(
        lambda w: eqb.two_neuron(w), jnp.asarray([0.5]), both, x0=start, method=by_spectrum
    )
    assert swept.found.rates[0, 1] > 0 == swept.found.rates[0, 0]
    assert swept.found.evidence[0] == eqb.Evidence.SPECTRUM
    starts = jnp.stack([start, start[::-1]])
    network, drive = eqb.two_neuron(0.5), jnp.asarray([1.0, 0.5])
    assert len(eqb.basins(network, both, starts).found.state) == 2
    merged = eqb.basins(network, both, starts, tolerance=10.0, method=by_spectrum)
    assert merged.label.tolist() == [0, 0]
    assert (merged.found.evidence == eqb.Evidence.SPECTRUM).all()
    sequence = eqb.settle_sequence(network, starts, x0=start, method=by_spectrum)
    assert (sequence.evidence == eqb.Evidence.SPECTRUM).all()
    branch = eqb.follow_branch(lambda p: network, lambda p: p * drive, 1.0, 9.0, max_points=4)
    assert (branch.end, len(branch.parameter)) == ("max_points", 4)
    rates = jnp.asarray([[0.5, 0.2], [0.05, 0.0]])
    assert eqb.metrics.winner(rates, (1, 1), threshold=0.1).tolist() == [0, -1]
