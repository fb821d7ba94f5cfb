"""What the pictures show, read back from Matplotlib's objects."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

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
    recurrent = np.asarray(eqb.winner(samples.rates[:1000], (2, 2)))
    guess = np.asarray(eqb.winner(jax.vmap(MODEL)(samples.inputs[:1000]), (2, 2)))
    assert len(right) == ((recurrent >= 0) & (recurrent == guess)).sum()
    assert len(wrong) == ((recurrent >= 0) & (recurrent != guess)).sum()
    (boundary,) = ax.get_lines()
    np.testing.assert_array_equal(*boundary.get_data())


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
    figures.save(ax, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert plt.get_fignums() == []


def test_networks_without_partitions_are_refused():
    with pytest.raises(ValueError, match="`network` must have two partitions"):
        figures.mixture_response(eqb.ring(5), MODEL)
