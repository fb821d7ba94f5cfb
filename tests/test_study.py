"""The study of the paper's programme, small; and the pictures of what it measures."""

import json
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import equilibrax as eqb
from equilibrax import figures
from equilibrax.commands import study as programme

PLAN = {"inputs": 1000, "steps": 60, "restarts": 2}


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_parts_write_their_figures_and_one_report(tmp_path, monkeypatch):
    monkeypatch.setattr(programme, "WIDTHS", (2, 6))
    report = programme.study(tmp_path / "out", only=("width",), **PLAN)
    assert sorted(os.listdir(tmp_path / "out")) == ["study.json", "study_width.png"]
    written = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [row["hidden"] for row in written["width"]["rows"]] == [2, 6]
    for row in written["width"]["rows"]:
        assert 0 < row["error"] < 1.5
        assert 0 < row["error_se"] < row["error"]
        assert len(row["restarts"]) == 2
    assert written["settings"] == {**PLAN, "seed": 0}
    assert report["hardware"]["jax"] == jax.__version__
    with pytest.raises(FileExistsError):
        programme.study(tmp_path / "out", only=("width",), **PLAN)
    with pytest.raises(ValueError, match="`only` must hold names among map, partitions"):
        programme.study(tmp_path / "new", only=("breadth",), **PLAN)
    assert os.listdir(tmp_path) == ["out"]


def test_the_map_follows_stability(tmp_path, monkeypatch):
    """A coarser map: where both weights are small all inputs settle; a weight above 1 runs away."""
    spaces = {11: 3, 15: 2}
    linspace = np.linspace
    monkeypatch.setattr(programme.np, "linspace", lambda a, b, n: linspace(a, b, spaces.get(n, n)))
    part = programme.weight_space(tmp_path, jax.random.key(0), 2000, {"steps": 60, "restarts": 2})
    stable, error = np.asarray(part["stable"]), np.asarray(part["error"])
    np.testing.assert_array_equal(part["w_self"], [-1.0, 0.25, 1.5])
    # W + W' below 2: inhibition settles everything; a self-weight of 1.5 leaves the silent quarter.
    assert (stable[:2, 0] == 1).all()
    assert stable[2, 0] == pytest.approx(0.25, abs=0.1) or stable[2, 0] < 0.25
    assert np.isnan(error[stable < programme.FEWEST]).all()
    assert np.isfinite(error[:2]).all()
    assert os.listdir(tmp_path) == ["study_map.png"]


def test_a_trained_cell_is_approximated(tmp_path, monkeypatch):
    monkeypatch.setattr(programme, "WIDTHS", (1, 16))
    plan = {"steps": 400, "restarts": 2}
    narrow, wide = programme.trained_cell(tmp_path, jax.random.key(0), 2000, plan)["rows"]
    assert os.listdir(tmp_path) == ["study_cell.png"]
    assert (narrow["n"], wide["hidden"]) == (16, 16)
    assert wide["error"] < 0.5 * narrow["error"]
    # One unit gives one direction, so that of three independent bits it knows one at most.
    assert narrow["bits_agree"] < 0.5 < 0.75 < wide["bits_agree"] < 1
    assert wide["bits_agree_se"] < 0.02


def test_a_map_shows_errors_and_where_half_is_stable():
    errors = np.asarray([[0.01, 0.1, 1.0], [0.02, np.nan, np.nan]])
    share = np.asarray([[1.0, 0.9, 0.6], [1.0, 0.1, 0.0]])
    ax = figures.error_map(errors, share, [0.0, 1.0], [0.0, 1.0, 2.0], labels=("a", "b"))
    image = ax.collections[0].get_array().reshape(3, 2)
    np.testing.assert_allclose(image[0], [0.01, 0.02])
    assert np.ma.getmaskarray(image)[1, 1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")


def test_curves_of_errors_show_the_best_of_the_restarts():
    restarts = np.asarray([[0.2, 0.3, 0.9], [0.1, 0.15, 0.4]])
    ax = figures.error_against({"one": ([5, 50], restarts), "two": ([5, 50], 2 * restarts)})
    for line, factor in zip(ax.get_lines(), (1, 2), strict=True):
        np.testing.assert_allclose(line.get_ydata(), factor * restarts.min(1))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["5", "50"]


def test_noise_and_boundaries_are_drawn_with_their_error_bars(samples):
    levels = jnp.asarray([0.1, 0.2])
    errors = eqb.metrics.NoiseRejection(levels, *([0.1 * levels] * 5))
    found = eqb.metrics.NoiseRejection(levels, *([levels] * 5), standard_error=errors)
    ax = figures.noise_rejection(found)
    assert len(ax.containers) == 3
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata().astype(float), levels)
    model = eqb.FeedForward(5, 6, 5, key=jax.random.key(0))
    value, error = eqb.metrics.jackknife(
        lambda s: eqb.metrics.decision_boundary(s, model), samples, groups=4
    )
    ax = figures.misclassified({"six": (value, error)})
    x, y = (np.asarray(a, float) for a in ax.containers[0].lines[0].get_data())
    np.testing.assert_allclose(x, np.arange(0.05, 1, 0.1), atol=1e-7)
    np.testing.assert_allclose(y, 100 * np.asarray(value.misclassified))
    assert ax.get_ylabel().startswith("other winner")
