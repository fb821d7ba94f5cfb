"""Figures of measurements: times, losses, errors, boundaries, noise."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike

from ..approximation import DecisionBoundary, NoiseRejection
from ._style import BLUE, GREEN, GREY, ORANGE, RED, axes_of


def solve_against_forward(cells: list[dict], ax: Axes | None = None) -> Axes:
    """Draw the time per input to settle and for the forward pass, against batch size.

    **Arguments:**

    - `cells`: the entry "cells" of a file `solve_vs_forward_*.json` from `equilibrax benchmark`: a
      dictionary for each size n and batch, with the median times in seconds.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes, both logarithmic, with the time in microseconds.

    **Example:**

    ```python
    cells = [
        {"n": 5, "batch": size, "solve": {"median_s": 4e-6 * size}, "forward": {"median_s": 1e-4}}
        for size in (100, 10_000)
    ]
    ax = eqb.figures.solve_against_forward(cells)
    print([float(time) for time in ax.get_lines()[0].get_ydata().round(3)])
    # > [4.0, 4.0]
    ```
    """
    ax = axes_of(ax, (6.0, 4.2))
    colours = dict(zip(sorted({cell["n"] for cell in cells}), (BLUE, RED, GREEN, ORANGE, GREY)))  # noqa: B905
    for n, colour in colours.items():
        mine = sorted((c for c in cells if c["n"] == n), key=lambda c: c["batch"])
        for what, style in (("solve", "o-"), ("forward", "s--")):
            times = [1e6 * c[what]["median_s"] / c["batch"] for c in mine]
            ax.plot([c["batch"] for c in mine], times, style, color=colour, ms=4, lw=1.4)
    handles = [Line2D([], [], color=c, label=f"n = {n}") for n, c in colours.items()]
    handles += [
        Line2D([], [], color="k", marker="o", ms=4, label="settle"),
        Line2D([], [], color="k", marker="s", ms=4, ls="--", label="forward pass"),
    ]
    ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel="time per input (microseconds)")
    ax.legend(handles=handles, frameon=False, fontsize=8, ncols=2)
    return ax


def training_curves(losses: Float[Array, "restarts steps"], ax: Axes | None = None) -> Axes:
    """Draw the loss of every restart against the step, smoothed over a hundredth of the steps.

    **Arguments:**

    - `losses`: mean squared errors, shape `(restarts, steps)` or `(steps,)`.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Example:**

    ```python
    losses = 0.9 ** jnp.arange(400.0) + jnp.asarray([[0.1], [0.2]])  # of two restarts
    ax = eqb.figures.training_curves(losses)
    print(len(ax.get_lines()), ax.get_yscale())
    # > 2 log
    ```
    """
    ax = axes_of(ax, (5.0, 3.4))
    losses = jnp.atleast_2d(losses)
    width = max(1, losses.shape[1] // 100)
    smooth = jax.vmap(lambda row: jnp.convolve(row, jnp.ones(width) / width, "valid"))(losses)
    ax.plot(np.asarray(smooth).T, color=BLUE, lw=0.7, alpha=0.7)
    ax.set(yscale="log", xlabel="step", ylabel="mean squared error")
    return ax


SERIES = tuple(zip((BLUE, RED, GREEN, ORANGE, GREY), ("o-", "s--", "^-.", "D:", "v-"), strict=True))
"""Colour and style of each curve, distinguishable also without colours."""

SUBS, PLAIN = (1.0, 2.0, 5.0), FuncFormatter(lambda value, _: f"{value:.3g}")
"""Ticks of a decade, and their format."""

EXACT = 1e-4
"""Errors below this have the same colour."""


def error_map(
    errors: ArrayLike,
    share: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    labels: tuple[str, str] = ("parameter", "second parameter"),
    ax: Axes | None = None,
) -> Axes:
    """Draw the normalised error of approximations over two parameters of the network.

    Contours separate the networks of which all inputs, and of which half of the inputs, have a
    stable fixed point. Networks without an approximation are hatched.

    **Arguments:**

    - `errors`: normalised errors, shape `(nx, ny)`; NaN without an approximation.
    - `share`: share of inputs with a stable fixed point, shape `(nx, ny)`.
    - `x`, `y`: the two parameters, shapes `(nx,)` and `(ny,)`.
    - `labels`: names of the two parameters.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes, with a colour bar beside them.

    **Example:**

    ```python
    x, y = jnp.linspace(0.5, 3.0, 4), jnp.linspace(0.0, 8.0, 3)
    errors = 0.01 * (1 + x[:, None] + y)
    share = jnp.minimum(1.0, 0.2 + y / 8) * jnp.ones((4, 1))
    ax = eqb.figures.error_map(errors, share, x, y, labels=("w_E", "w_II"))
    print(ax.get_xlabel(), ax.get_ylabel(), len(ax.figure.axes))
    # > w_E w_II 2
    ```
    """
    ax = axes_of(ax, (5.4, 4.0))
    x, y, errors, share = np.asarray(x), np.asarray(y), np.asarray(errors).T, np.asarray(share).T
    # Without a lower limit, errors at the level of rounding would use up the colour scale.
    norm = LogNorm(max(float(np.nanmin(errors)), EXACT), float(np.nanmax(errors)))
    image = ax.pcolormesh(x, y, errors, cmap="cividis", shading="nearest", norm=norm)
    ax.figure.colorbar(
        image, ax=ax, label="normalised error", ticks=LogLocator(subs=SUBS), format=PLAIN,
        extend="min" if np.nanmin(errors) < EXACT else "neither",
    )  # fmt: skip
    ax.patch.set(hatch="////", edgecolor="0.6")
    levels = [level for level in (0.5, 0.995) if share.min() < level < share.max()]
    if levels:
        lines = ax.contour(x, y, share, levels=levels, colors=[RED, "white"][-len(levels) :])
        ax.clabel(lines, fmt={0.5: "half stable", 0.995: "all stable"}, fontsize=8)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    return ax


def error_against(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    xlabel: str = "hidden units",
    ylabel: str = "normalised error",
    ax: Axes | None = None,
) -> Axes:
    """Draw the least error of all restarts against a size, shaded up to the median.

    **Arguments:**

    - `curves`: for each name, the sizes, shape `(k,)`, and the errors, shape `(k, restarts)`.
    - `xlabel`, `ylabel`: labels of the axes.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes, both logarithmic.

    **Example:**

    ```python
    errors = jnp.asarray([[0.10, 0.20], [0.04, 0.05]])  # of two restarts
    ax = eqb.figures.error_against({"reference": (jnp.asarray([5, 64]), errors)})
    print([round(float(error), 2) for error in ax.get_lines()[0].get_ydata()])
    # > [0.1, 0.04]
    ```
    """
    ax = axes_of(ax, (5.0, 3.6))
    for (name, (sizes, errors)), (colour, style) in zip(curves.items(), SERIES, strict=False):
        sizes, errors = np.asarray(sizes), np.asarray(errors)
        least, middle = np.nanmin(errors, axis=1), np.nanmedian(errors, axis=1)
        ax.fill_between(sizes, least, middle, color=colour, alpha=0.2, lw=0)
        ax.plot(sizes, least, style, color=colour, ms=4.5, lw=1.5, label=name)
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    ticks = sorted({int(size) for sizes, _ in curves.values() for size in np.asarray(sizes)})
    ax.set_xticks(ticks, labels=[str(tick) for tick in ticks], minor=False)
    ax.xaxis.set_minor_locator(NullLocator())
    _plain_ticks(ax.yaxis)
    if len(curves) > 1:
        ax.legend(frameon=False, fontsize=8)
    return ax


def _plain_ticks(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade as plain numbers."""
    axis.set_major_locator(LogLocator(subs=SUBS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(PLAIN)


def noise_rejection(found: NoiseRejection, ax: Axes | None = None) -> Axes:
    """Draw the signal-to-noise ratio of output over input against the noise, with standard errors.

    **Arguments:**

    - `found`: the result of `eqb.metrics.noise_rejection`.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Example:**

    ```python
    network, model = eqb.partitioned(), eqb.FeedForward(5, 8, 5, key=jax.random.key(0))
    signals = jax.random.uniform(jax.random.key(1), (8, 5))
    found = eqb.metrics.noise_rejection(
        network, model, signals, jnp.asarray([0.1, 0.3]), repeats=8, key=jax.random.key(2)
    )
    ax = eqb.figures.noise_rejection(found)
    print([text.get_text() for text in ax.get_legend().get_texts()])
    # > ['recurrent', 'feed-forward', 'best linear map']
    ```
    """
    ax = axes_of(ax, (5.0, 3.6))
    series = {
        "recurrent": (BLUE, "o-"), "feedforward": (RED, "s--"), "linear": (GREY, "^:"),
    }  # fmt: skip
    names = {"feedforward": "feed-forward", "linear": "best linear map"}
    for name, (colour, style) in series.items():
        error = None if found.standard_error is None else getattr(found.standard_error, name)
        ax.errorbar(
            found.std, getattr(found, name), error, fmt=style, color=colour, ms=4.5, lw=1.5,
            capsize=2, label=names.get(name, name),
        )  # fmt: skip
    ax.axhline(1, color="0.6", lw=0.8, zorder=0)
    ax.set(
        xscale="log", xlabel="standard deviation of the noise (units of the input)",
        ylabel="SNR of the output / SNR of the input",
    )  # fmt: skip
    ax.set_xticks(np.asarray(found.std), labels=[PLAIN(float(level)) for level in found.std])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8)
    return ax


def misclassified(
    found: Mapping[str, tuple[DecisionBoundary, DecisionBoundary]], ax: Axes | None = None
) -> Axes:
    """Draw the share of misclassified inputs against the distance from the recurrent boundary.

    **Arguments:**

    - `found`: for each name, value and standard error from `eqb.metrics.jackknife` of
      `eqb.metrics.decision_boundary`.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes, with the distance in units of the input.

    **Example:**

    ```python
    cube = eqb.UniformCube(-1, 1)
    samples = eqb.sample_fixed_points(eqb.partitioned(), cube, 4096, key=jax.random.key(0))
    model = eqb.FeedForward(5, 8, 5, key=jax.random.key(1))
    found = eqb.metrics.jackknife(lambda s: eqb.metrics.decision_boundary(s, model), samples)
    ax = eqb.figures.misclassified({"untrained": found})
    print(ax.get_ylabel())
    # > other winner (% of inputs)
    ```
    """
    ax = axes_of(ax, (5.0, 3.6))
    for (name, (value, error)), (colour, style) in zip(found.items(), SERIES, strict=False):
        middle = np.asarray(value.edges[1:] + value.edges[:-1]) / 2
        ax.errorbar(
            middle, 100 * np.asarray(value.misclassified), 100 * np.asarray(error.misclassified),
            fmt=style, color=colour, ms=4.5, lw=1.5, capsize=2, label=name,
        )  # fmt: skip
    ax.set(
        xlabel="distance from the recurrent boundary (units of the input)",
        ylabel="other winner (% of inputs)",
    )
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8)
    return ax
