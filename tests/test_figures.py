"""What the pictures show, read back from Matplotlib's objects."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import equilibrax as eqb
from equilibrax import figures

MODEL = eqb.FeedForward(5, 6, 5, key=jax.random.key(0))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_the_mixture_picture_shows_both_networks(reference):
    ax = figures.mixture_response(reference, MODEL, num_points=101)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"A, recurrent", "B, recurrent", "A, feed-forward", "B, feed-forward"}
    m, rate = lines["A, recurrent"].get_data()
    np.testing.assert_allclose(rate[m < 0.5], 2.25 * (2 - 2 * m[m < 0.5]), atol=1e-9)
    assert lines["A, recurrent"].get_linestyle() == "-"
    assert lines["A, feed-forward"].get_linestyle() == "--"
    point = jnp.asarray([0.75, 0.75, 0.25, 0.25, 0.0])
    dashed = lines["B, feed-forward"].get_ydata()[25]
    assert dashed == pytest.approx(float(MODEL(point)[2:4].sum()))
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_the_decision_picture_counts_its_dots(samples):
    ax = figures.decision_boundary(samples.network, MODEL, samples, num_points=1000)
    right, wrong = (dots.get_offsets() for dots in ax.collections)
    recurrent = np.asarray(eqb.metrics.winner(samples.rates[:1000], (2, 2)))
    guess = np.asarray(eqb.metrics.winner(jax.vmap(MODEL)(samples.inputs[:1000]), (2, 2)))
    assert len(right) == ((recurrent >= 0) & (recurrent == guess)).sum()
    assert len(wrong) == ((recurrent >= 0) & (recurrent != guess)).sum()
    (boundary,) = ax.get_lines()
    np.testing.assert_array_equal(*boundary.get_data())


def test_the_decisions_close_to_the_boundary_are_those_of_its_first_bin(samples):
    """Two routes to one share: the legend of the picture, and the metric's bin of distances."""
    figure = figures.decision_boundaries(
        samples.network, {"a": MODEL, "b": MODEL}, samples, within=0.2, num_points=500
    )
    assert len(figure.axes) == 5
    edges = jax.numpy.asarray([0.0, 0.2, 9.0])
    share = eqb.metrics.decision_boundary(samples, MODEL, edges).misclassified[0]
    close = [ax for ax in figure.axes if "within 0.2" in ax.get_title(loc="left")]
    assert len(close) == 2
    for ax in close:
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert f"other winner ({100 * share:.1f} %)" in labels
        assert sum(len(dots.get_offsets()) for dots in ax.collections) <= 500
    with pytest.raises(ValueError, match="`models` must hold at least one"):
        figures.decision_boundaries(samples.network, {}, samples)


@pytest.mark.parametrize("n", [5, 8])
def test_architectures_draw_every_neuron(n):
    network = eqb.partitioned() if n == 5 else eqb.ring(8)
    model = eqb.FeedForward(n, 3, n, key=jax.random.key(0))
    figure = figures.architectures(network, model)
    recurrent, feedforward = figure.axes
    texts = [t.get_text() for ax in (recurrent, feedforward) for t in ax.texts]
    assert sum(t.startswith("$") for t in texts) == n + (n + 3 + n)


def test_drawing_into_given_axes_and_saving(reference, tmp_path):
    _, (ax, other) = plt.subplots(1, 2)
    assert figures.mixture_response(reference, MODEL, ax, num_points=101) is ax
    assert figures.training_curves(jnp.ones((2, 300)), other) is other
    figures.save(ax, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").stat().st_size > 5000
    assert plt.get_fignums() == []


def test_networks_without_partitions_are_refused():
    with pytest.raises(ValueError, match="`network` must have two partitions"):
        figures.mixture_response(eqb.ring(5), MODEL)


@pytest.fixture(scope="module")
def family():
    w_e, w_ii = jnp.linspace(0.5, 2.5, 3), jnp.linspace(0.0, 8.0, 2)
    grid = jnp.meshgrid(w_e, w_ii, indexing="ij")
    inputs = jax.random.uniform(jax.random.key(0), (40, 5), minval=-1.0)

    def build(w):
        return eqb.partitioned(w_e=w[0], w_ii=w[1])

    return w_e, w_ii, eqb.sweep(build, grid, inputs, axes=2)


def test_an_outcome_map_of_two_parameters_has_the_commonest_outcomes_colour(family):
    w_e, w_ii, swept = family
    ax = figures.outcome_map(swept, w_e, w_ii, labels=("w_E", "w_II"))
    image = ax.collections[0].get_array().reshape(2, 3, 3)
    commonest = np.argmax(swept.counts, axis=-1)
    for j in range(3):
        for k in range(2):
            share = float(swept.share(eqb.Outcome(commonest[j, k]))[j, k])
            colour = np.asarray(to_rgb(figures.OUTCOMES[eqb.Outcome(commonest[j, k])]))
            np.testing.assert_allclose(image[k, j], share * colour + 1 - share, atol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("w_E", "w_II")
    with pytest.raises(ValueError, match="must have a family of one axis"):
        figures.outcome_map(swept, w_e)


def test_an_outcome_map_of_one_parameter_stacks_the_shares(family):
    w_e, _, swept = family
    line = eqb.results.Sweep(w_e, jax.tree.map(lambda a: a[:, 0], swept.found), (3,))
    ax = figures.outcome_map(line, w_e)
    top = max(path.vertices[:, 1].max() for c in ax.collections for path in c.get_paths())
    assert top == pytest.approx(1.0)


def test_basins_and_branches_are_drawn():
    network = eqb.two_neuron(0.5, -1.5)
    axis = jnp.linspace(0, 1, 4)
    starts = jnp.stack(jnp.meshgrid(axis, axis + 0.1), axis=-1)
    reached = eqb.basins(network, jnp.ones(2), starts)
    ax = figures.basins(reached)
    colours = ax.collections[0].get_array().reshape(16, 3)
    first = np.asarray(reached.label).ravel() == 0
    assert len(np.unique(colours, axis=0)) == 2
    assert len(np.unique(colours[first], axis=0)) == 1
    marks = {tuple(np.round(line.get_xydata()[0], 6)) for line in ax.lines}
    assert marks == {(2.0, -2.0), (-2.0, 2.0)}

    def of(p):
        return eqb.two_neuron(0.0, -2.0)

    branch = eqb.follow_branch(of, lambda p: jnp.stack([1.0 + 0 * p, p]), 0.0, 5.0)
    ax = figures.branch(branch)
    solid = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert len(solid) == 2
    assert len(dashed) == 1
    texts = {text.get_text() for text in ax.get_legend().get_texts()}
    assert texts == {"stable", "unstable", "fold", "border"}
