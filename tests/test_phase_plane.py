"""The phase portrait against independent routes: mathematics, enumeration, SciPy."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.integrate import solve_ivp

import equilibrax as eqb
from equilibrax import figures
from equilibrax.figures import _portrait

COMPETING = eqb.two_neuron(0.5, -1.0)
INPUT = jnp.asarray([1.0, 1.2])


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def portrait(network=COMPETING, input=INPUT, **rest):
    rest = {"x0": None, "limits": None, "components": (0, 1), "at": None, "ellipsoids": False,
            "method": None} | rest  # fmt: skip
    return _portrait.portrait(network, input, **rest)


@pytest.fixture(scope="module")
def competing():
    return portrait(ellipsoids=True)


def test_its_points_are_those_of_algebra_and_its_nullclines_cross_there(competing):
    # Either neuron alone: x = i / (1 - 0.5), the other at i - x; both: (I - W)^-1 i.
    both = np.linalg.solve([[0.5, 1.0], [1.0, 0.5]], INPUT)
    expected = np.asarray([[2.0, 1.2 - 2.0], [1.0 - 2.4, 2.4], both])
    stable = np.asarray(competing.points.outcome) == eqb.Outcome.STABLE
    found = np.asarray(competing.points.state)
    np.testing.assert_allclose(found[stable], expected[:2], atol=1e-12)
    np.testing.assert_allclose(found[~stable], expected[2:], atol=1e-12)
    section = competing.section
    for x in expected:
        column = np.argmin(np.abs(section.first - x[0]))
        row = np.argmin(np.abs(section.second - x[1]))
        cell = max(np.ptp(section.first), np.ptp(section.second)) / (len(section.first) - 1)
        # |dF/dx| <= 2.5 in this network.
        assert np.abs(section.drift[row, column]).max() <= 2.5 * cell


def test_its_section_is_the_equation(competing):
    section = competing.section
    for row, column in ((0, 0), (30, 80), (100, 50)):
        x = np.asarray([section.first[column], section.second[row]])
        phi = np.maximum(x, 0)
        drift = -x + np.asarray([[0.5, -1.0], [-1.0, 0.5]]) @ phi + np.asarray(INPUT)
        np.testing.assert_allclose(section.drift[row, column], drift, atol=1e-12)
        slopes = np.asarray([[0.5, -1.0], [-1.0, 0.5]]) * (x > 0) - np.eye(2)
        assert section.stable[row, column] == (np.linalg.eigvals(slopes).real.max() < 0)


def test_its_paths_are_scipys(competing):
    for path in np.asarray(competing.paths)[::3]:
        times = _portrait.DURATION * np.linspace(0, 1, _portrait.PATH) ** 2
        truth = solve_ivp(
            lambda t, x: COMPETING.vector_field(t, x, INPUT), (0, times[-1]), path[0],
            t_eval=times, rtol=1e-8, atol=1e-10,
        )  # fmt: skip
        np.testing.assert_allclose(path, truth.y.T, atol=5e-3)


def test_from_inside_an_ellipse_the_flow_never_leaves_its_chamber(competing):
    stable = np.asarray(competing.points.state)[np.asarray(competing.points.outcome) == 0]
    assert len(competing.ellipses) == len(stable) == 2
    for x, ellipse in zip(stable, np.asarray(competing.ellipses), strict=True):
        sides = np.sign(x)
        # The border lies in the chamber, and touches it: no larger one of this shape would do.
        reach = (ellipse * sides).min(axis=0)
        assert reach.min() >= -1e-9
        assert reach.min() == pytest.approx(0, abs=1e-3)
        for start in x + 0.999 * (ellipse[::30] - x):
            path = solve_ivp(
                lambda t, x: COMPETING.vector_field(t, x, INPUT),
                (0, 40),
                start,
                rtol=1e-8,
                atol=1e-9,
            ).y
            assert (np.sign(path) == sides[:, None]).all()
            np.testing.assert_allclose(path[:, -1], x, atol=1e-6)


def test_what_is_drawn_is_what_was_computed(competing):
    ax = figures.phase_plane(COMPETING, INPUT, ellipsoids=True)
    points = {
        line.get_label(): line.get_xydata()
        for line in ax.get_lines()
        if str(line.get_label()).startswith("point")
    }
    assert set(points) == {"point: STABLE", "point: UNSTABLE"}
    assert len(points["point: STABLE"]) == 2
    colours = {to_hex(line.get_color()) for line in ax.get_lines() if len(line.get_xdata()) == 400}
    assert colours == {figures.OUTCOMES[eqb.Outcome.STABLE].lower()}
    low, high = np.asarray(ax.axis()).reshape(2, 2).T
    assert (np.asarray(competing.ellipses) > low).all()
    assert (np.asarray(competing.ellipses) < high).all()
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["x₁ at rest", "x₂ at rest", "path: STABLE", "traps, proven", "point: STABLE",
                     "point: UNSTABLE"]  # fmt: skip
    assert figures.phase_plane(COMPETING, INPUT, ax=ax) is ax


def test_a_limit_cycle_and_the_point_inside_it():
    """Wilson and Cowan's oscillator: Newton's method finds the unstable point; SciPy's root too."""
    model, drive = eqb.WilsonCowan(), jnp.asarray([1.25, 0.0])
    seen = portrait(model, drive, x0=jnp.asarray([[0.0, 0.0], [0.4, 0.1]]))
    (point,) = np.asarray(seen.points.state)
    assert seen.points.outcome.tolist() == [eqb.Outcome.UNSTABLE]
    assert float(jnp.abs(model.drift(point, drive)).max()) < 1e-9
    assert set(seen.found.outcome.tolist()) == {eqb.Outcome.OSCILLATING}
    # Three turns of the cycle are followed.
    end = _portrait.TURNS * float(seen.found.period[0])
    truth = solve_ivp(
        lambda t, x: np.asarray(model.vector_field(t, x, drive)), (0, end), [0.0, 0.0],
        rtol=1e-8, atol=1e-10,
    )  # fmt: skip
    np.testing.assert_allclose(seen.paths[0, -1], truth.y[:, -1], atol=5e-3)
    assert seen.section.stable is None
    assert seen.section.drive is None


def test_a_plane_through_a_larger_network(reference):
    drive = jnp.asarray([1.0, 1.0, 0.9, 0.9, 0.0])
    seen = portrait(reference, drive, components=(0, 2))
    every = eqb.enumerate_fixed_points(reference, drive)
    assert len(seen.points.state) == int(every.valid.sum())
    rest = eqb.find_fixed_points(reference, drive).state
    section = seen.section
    elsewhere = portrait(reference, drive, components=(0, 2), at=rest + 1.0).section
    assert not np.allclose(elsewhere.drift, section.drift)
    x = rest.at[0].set(section.first[20]).at[2].set(section.second[70])
    expected = reference.drift(x, drive)[jnp.asarray([0, 2])]
    np.testing.assert_allclose(section.drift[70, 20], expected, atol=1e-9)


def test_on_a_threshold_nothing_is_stable():
    """Without input the origin is where all chambers meet; one of them runs away."""
    seen = portrait(eqb.two_neuron(2.0, 0.0), jnp.zeros(2))
    np.testing.assert_array_equal(seen.points.state, [[0, 0]])
    assert seen.points.outcome.tolist() == [eqb.Outcome.MARGINAL]
    # Nothing else to be seen: the plane is still wide enough to see it.
    assert np.ptp(seen.section.first) == pytest.approx(2.0)


def test_a_valley_is_not_a_root_and_roots_are_found_where_trajectories_lead():
    """dx/dt = x^2 + e has no root; x - x^3 / 100 has 0 and, where the paths end, 10 and -10."""
    without = portrait(lambda t, x, i: jnp.stack([x[0] ** 2 + 1e-9, -x[1]]), jnp.zeros(2),
                       limits=((-1, 1), (-1, 1)))  # fmt: skip
    assert len(without.points.state) == 0
    starts = jnp.asarray([[1.0, 0.5], [-1.0, 0.5]])
    far = portrait(lambda t, x, i: jnp.stack([x[0] - 0.01 * x[0] ** 3, -x[1]]), jnp.zeros(2),
                   x0=starts)  # fmt: skip
    order = np.argsort(far.points.state[:, 0])
    np.testing.assert_allclose(far.points.state[order], [[-10, 0], [0, 0], [10, 0]], atol=1e-6)
    stable, unstable = eqb.Outcome.STABLE, eqb.Outcome.UNSTABLE
    assert far.points.outcome[order].tolist() == [stable, unstable, stable]


def test_a_runaway_does_not_set_the_limits():
    network = eqb.RateNetwork(jnp.asarray([[2.0, 0.0], [0.0, 0.0]]))
    ax = figures.phase_plane(network, jnp.asarray([-1.0, 0.5]), x0=jnp.asarray([[3.0, 0.0]]))
    assert "path: DIVERGED" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert np.abs(ax.axis()).max() < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": jnp.ones((3, 2))}, "`input` must be one input"),
        ({"x0": jnp.ones((4, 3))}, "`x0` must have shape"),
        ({"x0": jnp.ones((0, 2))}, "`x0` must hold at least one start"),
        ({"components": (0, 2)}, "`components` must be two different components"),
        ({"components": (1, 1)}, "`components` must be two different components"),
        ({"components": 1}, "`components` must be two different components"),
        ({"limits": ((0, 1), (1, 0))}, "`limits` must be"),
        ({"limits": ((0, 1),)}, "`limits` must be"),
        ({"limits": "wide"}, "`limits` must be"),
        ({"at": jnp.ones(3)}, "`at` must have shape"),
        ({"at": jnp.ones((1, 2))}, "`at` must be one state"),
        ({"at": jnp.asarray([1.0, jnp.nan])}, "`at` must be finite"),
        ({"components": (0.0, 1.0)}, "`components` must be two different components"),
        ({"network": eqb.supralinear(), "ellipsoids": True}, "`ellipsoids` must"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(change, message):
    arguments = {"network": COMPETING, "input": INPUT} | change
    with pytest.raises(ValueError, match=message):
        figures.phase_plane(arguments.pop("network"), arguments.pop("input"), **arguments)


def test_tuning_curves_are_the_rates_and_stop_where_nothing_settles():
    network = eqb.two_neuron(0.5, -1.0)
    values = jnp.linspace(0, 2, 5)
    inputs = jnp.stack([jnp.ones(5), values], axis=-1)
    ax = figures.tuning(network, inputs, values, model=lambda i: 2 * i, neurons=[1])
    solid, dashed = ax.get_lines()[:2]
    # Alone, a neuron has the rate i / (1 - 0.5). The tie at 1 comes to rest on the saddle.
    np.testing.assert_allclose(solid.get_ydata(), [0, 0, np.nan, 3, 4], atol=1e-9)
    np.testing.assert_allclose(dashed.get_ydata(), 2 * np.asarray(values))
    with pytest.raises(ValueError, match="`neurons` must be from 0 to 1, but holds 2"):
        figures.tuning(network, inputs, values, neurons=[2])
    with pytest.raises(ValueError, match="`values` must have shape"):
        figures.tuning(network, inputs, values[:-1])


def test_a_picture_of_outcomes_shows_every_count(samples):
    network = eqb.two_neuron(0.5, -1.0)
    inputs = jnp.asarray([[1.0, 0.5], [0.2, 0.9], [1.0, 1.0], [jnp.nan, 0.0], [0.1, 0.0]])
    found = eqb.find_fixed_points(network, inputs)
    ax = figures.outcomes(found)
    whole, proven = (np.asarray([bar.get_width() for bar in bars]) for bars in ax.containers)
    np.testing.assert_allclose(whole, [3 / 5, 0, 1 / 5, 0, 0, 0, 1 / 5])
    assert proven.sum() == pytest.approx(int(found.certified.sum()) / 5)
    assert [text.get_text().strip() for text in ax.texts][:3] == ["3 (60 %)", "0", "1 (20 %)"]
    assert "50,000 (100 %)" in figures.outcomes(samples).texts[0].get_text()
    with pytest.raises(TypeError, match="`found` must be what"):
        figures.outcomes(inputs)
    with pytest.raises(ValueError, match="at least one"):
        figures.outcomes(eqb.find_fixed_points(network, jnp.zeros((0, 2))))


def test_float32_portraits():
    with jax.enable_x64(False):
        network = eqb.two_neuron(0.5, -1.0)
        seen = portrait(network, jnp.asarray([1.0, 1.2]))
        assert seen.paths.dtype == jnp.float32
        assert len(seen.points.state) == 3


def test_a_smooth_network_in_single_precision_beside_double_has_all_its_points():
    """x_j = tanh(2 x_j), j = 1, 2: three roots each, of which the outer ones are stable."""
    network = eqb.RateNetwork(2 * np.eye(2, dtype=np.float32), transfer=eqb.tanh)
    points = portrait(network, np.zeros(2, np.float32)).points
    assert points.state.dtype == np.float32
    assert len(points.state) == 9
    assert (points.outcome == eqb.Outcome.STABLE).sum() == 4
