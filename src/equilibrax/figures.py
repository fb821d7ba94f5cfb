"""Pictures of networks, responses and decisions, on Matplotlib.

Every function draws into the axes that it is given, or into new ones, and returns
them. Colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Patch

from . import _checks
from .approximation import FeedForward, forward, partition_sums, winner, winner_agreement
from .families import Basins, Branch, Sweep
from .fixed_points import Flow, Outcome, find_fixed_points
from .networks import RateNetwork
from .sampling import Samples, mixture_line

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8C8C8C"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"

OUTCOMES = {
    Outcome.STABLE: BLUE,
    Outcome.MARGINAL: SKY,
    Outcome.UNSTABLE: ORANGE,
    Outcome.OSCILLATING: GREEN,
    Outcome.DIVERGED: RED,
    Outcome.NOT_SETTLED: PURPLE,
    Outcome.INVALID: GREY,
}
"""The colour of each outcome, in every picture."""


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def save(picture: Figure | Axes, path: str | os.PathLike) -> None:
    """Write a picture, by the ending of its name, and close it."""
    figure = picture.get_figure(root=True) if isinstance(picture, Axes) else picture
    assert figure is not None
    figure.savefig(path, dpi=200)
    plt.close(figure)


def _partitions(network: RateNetwork) -> tuple[int, ...]:
    if len(network.partitions) < 2:
        _checks.fail("network", "have two partitions", f"has {len(network.partitions)}")
    return network.partitions


def architectures(network: RateNetwork, model: FeedForward) -> Figure:
    """The recurrent network beside its feed-forward approximation.

    Muir (2018), Figs 1 and 2a. Excitatory connections are blue, inhibitory ones orange;
    a line is the thicker the stronger the weight, and weights below 2 % of the strongest
    are left out.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.6), layout="constrained")
    for ax in (left, right):
        ax.set_aspect("equal")
        ax.axis("off")
    _draw_recurrent(left, network)
    _draw_feedforward(right, model)
    left.set_title("(a) recurrent", loc="left", pad=16)
    right.set_title("(b) feed-forward", loc="left", pad=16)
    handles = [
        Line2D([], [], color=BLUE, label="excitatory"),
        Line2D([], [], color=ORANGE, label="inhibitory"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _arrow(ax: Axes, start, end, weight: float, strongest: float, *, bend: float, gap: float):
    if abs(weight) < 0.02 * strongest:
        return
    width = 0.4 + 1.8 * abs(weight) / strongest
    style = "-|>" if weight > 0 else "|-|,widthA=0,widthB=2.5"
    ax.add_patch(
        FancyArrowPatch(
            start, end, connectionstyle=f"arc3,rad={bend}", arrowstyle=style,
            mutation_scale=4 + 2 * width if weight > 0 else 1.2, lw=width, alpha=0.85,
            color=BLUE if weight > 0 else ORANGE, shrinkA=gap, shrinkB=gap,
        )
    )  # fmt: skip


def _neuron(ax: Axes, place, label: str, colour: str, radius: float):
    ax.add_patch(Circle(place, radius, facecolor="white", edgecolor=colour, lw=1.8, zorder=3))
    ax.text(place[0], place[1], label, ha="center", va="center", fontsize=9, zorder=4)


def _draw_recurrent(ax: Axes, network: RateNetwork):
    n = network.num_neurons
    weights = np.asarray(network.weights)
    strongest = float(np.abs(weights).max()) or 1.0
    sizes = network.partitions
    if sum(sizes) == n - 1 and n <= 12:
        # Partitions along the top, the global inhibitory neuron below.
        gaps = np.repeat(np.arange(len(sizes)), sizes) * 0.7
        across = np.arange(n - 1) + gaps
        places = [(x - across.mean(), 0.6) for x in across] + [(0.0, -1.1)]
        for group in range(len(sizes)):
            inside = across[np.repeat(np.arange(len(sizes)), sizes) == group] - across.mean()
            name = chr(ord("A") + group)
            ax.text(inside.mean(), 1.35, f"partition {name}", ha="center", fontsize=10)
        ax.text(0.32, -1.42, "Inh", fontsize=10)
    else:
        angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
        scale = max(1.2, n / 8)
        places = [(scale * np.cos(a), scale * np.sin(a)) for a in angle]
    radius = 0.26
    for target in range(n):
        for source in range(n):
            weight = float(weights[target, source])
            if source != target:
                _arrow(ax, places[source], places[target], weight, strongest, bend=0.22, gap=13)
            elif abs(weight) >= 0.02 * strongest:
                x, y = places[source]
                up = 1 if y >= 0 else -1
                colour = BLUE if weight > 0 else ORANGE
                width = 0.4 + 1.8 * abs(weight) / strongest
                loop = Circle((x, y + up * 0.36), 0.17, fill=False, edgecolor=colour, lw=width)
                ax.add_patch(loop)
    for j, place in enumerate(places):
        inhibitory = bool((weights[:, j] < 0).any())
        _neuron(ax, place, f"$x_{{{j + 1}}}$", ORANGE if inhibitory else BLUE, radius)
    ax.autoscale_view()
    ax.margins(0.08)


def _draw_feedforward(ax: Axes, model: FeedForward):
    layers = [model.weights1.shape[1], model.weights1.shape[0], model.weights2.shape[0]]
    tallest = max(layers)
    if tallest > 40:
        ax.text(0.5, 0.5, "-".join(map(str, layers)), ha="center", transform=ax.transAxes)
        return
    height = 0.8 * (tallest - 1)
    places = [
        [(1.9 * k, height * (0.5 - (j + 0.5) / size)) for j in range(size)]
        for k, size in enumerate(layers)
    ]
    for k, weights in enumerate((np.asarray(model.weights1), np.asarray(model.weights2))):
        strongest = float(np.abs(weights).max()) or 1.0
        for target, source in np.ndindex(weights.shape):
            weight = float(weights[target, source])
            _arrow(ax, places[k][source], places[k + 1][target], weight, strongest, bend=0, gap=9)
    for k, name in enumerate(("i", "x^1", "x^2")):
        for j, place in enumerate(places[k]):
            base = name.replace("^", "^{") + "}" if "^" in name else name
            _neuron(ax, place, f"${base}_{{{j + 1}}}$", GREY if k == 0 else "black", 0.22)
    for x, name in zip((0, 1.9, 3.8), ("input", "layer 1", "layer 2"), strict=True):
        ax.text(x, height * 0.5 + 0.02, name, ha="center", fontsize=10)
    ax.autoscale_view()
    ax.margins(0.08)


def mixture_response(
    network: RateNetwork,
    model: Any,
    ax: Axes | None = None,
    *,
    num_points: int = 1001,
    method: Flow | None = None,
) -> Axes:
    """Responses of both networks along the mixture line. Muir (2018), Fig. 2b.

    The summed rate of each partition for i = 1 - m on partition A and i = m on
    partition B; solid, the recurrent network; dashed, the approximation. Where the
    recurrent network has no stable fixed point the solid line is interrupted.
    """
    partitions = _partitions(network)
    ax = _axes(ax, (5.4, 3.8))
    mixture = jnp.linspace(0, 1, num_points, dtype=network.weights.dtype)
    line = mixture_line(partitions, network.num_neurons, mixture)
    found = find_fixed_points(network, line, method=method)
    recurrent = jnp.where(found.stable[:, None], partition_sums(found.rates, partitions), jnp.nan)
    approximate = partition_sums(forward(model, line), partitions)
    peak = float(jnp.nanmax(jnp.concatenate([recurrent, approximate])))
    ax.fill_between(mixture, 0, (1 - mixture) * peak / 4, color="0.85", lw=0, zorder=0)
    ax.fill_between(mixture, 0, mixture * peak / 4, color="0.75", lw=0, alpha=0.6, zorder=0)
    for k, (colour, name) in enumerate(((BLUE, "A"), (RED, "B"))):
        ax.plot(mixture, recurrent[:, k], color=colour, lw=1.8, label=f"{name}, recurrent")
        ax.plot(
            mixture, approximate[:, k], color=colour, lw=1.6, ls=(0, (4, 2)),
            label=f"{name}, feed-forward",
        )  # fmt: skip
    ax.set(xlabel="mixture m (input 1 - m to A, m to B)", ylabel="summed rate of the partition")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.32 * peak)
    ax.text(0.02, 0.03 * peak, "input to A", fontsize=8, color="0.35")
    ax.text(0.98, 0.03 * peak, "input to B", fontsize=8, color="0.35", ha="right")
    ax.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    return ax


def decision_boundary(
    network: RateNetwork,
    model: Any,
    samples: Samples,
    ax: Axes | None = None,
    *,
    num_points: int = 4000,
) -> Axes:
    """Inputs projected onto the two partition sums. Muir (2018), Fig. 3.

    Grey: both networks have the same winner; orange: the approximation has another one.
    Inputs for which the recurrent network has no winner are left out. Dashed: the ideal
    boundary, equal sums. The first `num_points` inputs are drawn; the shares are of all.
    """
    partitions = _partitions(network)
    ax = _axes(ax, (4.6, 4.6))
    output = forward(model, samples.inputs)
    share = 100 * (1 - float(winner_agreement(output, samples.rates, partitions)))
    inputs, rates, output = (a[:num_points] for a in (samples.inputs, samples.rates, output))
    recurrent, approximate = (np.asarray(winner(a, partitions)) for a in (rates, output))
    sums = np.asarray(partition_sums(inputs, partitions))
    contested = recurrent >= 0
    wrong = contested & (approximate != recurrent)
    right = contested & ~wrong
    dots = {"s": 5, "lw": 0, "rasterized": True}
    ax.scatter(*sums[right, :2].T, color="0.6", **dots, label=f"same winner ({100 - share:.1f} %)")
    ax.scatter(*sums[wrong, :2].T, color=ORANGE, **dots, label=f"other winner ({share:.1f} %)")
    limit = float(np.abs(sums).max())
    ax.plot([-limit, limit], [-limit, limit], "k--", lw=1.2, label="equal sums")
    ax.set(xlabel=r"summed input to A, $\iota_{A}$", ylabel=r"summed input to B, $\iota_{B}$")
    ax.set_aspect("equal")
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3,
              markerscale=2.5, handletextpad=0.3, columnspacing=0.9)  # fmt: skip
    return ax


def solve_against_forward(cells: list[dict], ax: Axes | None = None) -> Axes:
    """Time per input to settle and to run the forward pass, against batch size.

    `cells` is what `equilibrax.benchmark.solve_vs_forward` returns.
    """
    ax = _axes(ax, (6.0, 4.2))
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
    """Loss of every restart against the step, smoothed over a hundredth of the steps."""
    ax = _axes(ax, (5.0, 3.4))
    losses = jnp.atleast_2d(losses)
    width = max(1, losses.shape[1] // 100)
    smooth = jax.vmap(lambda row: jnp.convolve(row, jnp.ones(width) / width, "valid"))(losses)
    ax.plot(np.asarray(smooth).T, color=BLUE, lw=0.7, alpha=0.7)
    ax.set(yscale="log", xlabel="step", ylabel="mean squared error")
    return ax


def outcome_map(
    sweep: Sweep,
    values: Float[Array, "..."],
    others: Float[Array, "..."] | None = None,
    *,
    labels: tuple[str, str] = ("parameter", "second parameter"),
    ax: Axes | None = None,
) -> Axes:
    """How the inputs of a sweep end, for each network.

    Over one parameter, the shares of all outcomes are stacked. Over two, `values` along the
    family's first axis and `others` along the second, the colour is that of the commonest
    outcome, the paler the smaller its share.
    """
    ax = _axes(ax, (5.4, 3.6))
    shares = {kind: np.asarray(sweep.share(kind)) for kind in Outcome}
    shares = {kind: share for kind, share in shares.items() if share.any()}
    if len(sweep.family) == 1:
        ax.stackplot(
            np.asarray(values), *shares.values(), colors=[OUTCOMES[kind] for kind in shares],
            labels=[kind.name for kind in shares], lw=0,
        )  # fmt: skip
        ax.set(xlabel=labels[0], ylabel="share of inputs", ylim=(0, 1))
        ax.margins(x=0)
    elif len(sweep.family) == 2 and others is not None:
        stack = np.stack(list(shares.values()))
        best = stack.argmax(axis=0)
        colours = np.asarray([to_rgb(OUTCOMES[kind]) for kind in shares])[best]
        weight = stack.max(axis=0)[..., None]
        image = weight * colours + (1 - weight)
        ax.pcolormesh(np.asarray(values), np.asarray(others), image.swapaxes(0, 1), rasterized=True)
        ax.set(xlabel=labels[0], ylabel=labels[1])
    else:
        must = "have a family of one axis, or of two with `others` given"
        _checks.fail("sweep", must, f"has a family of shape {sweep.family}")
    handles = [Patch(color=OUTCOMES[kind], label=kind.name) for kind in shares]
    ax.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


BASINS = (SKY, ORANGE, GREEN, YELLOW, PURPLE, BLUE, RED)


def basins(basins: Basins, *, components: tuple[int, int] = (0, 1), ax: Axes | None = None) -> Axes:
    """Which fixed point each start reaches, over two components of the start.

    Starts, on a grid or anywhere, are coloured by the fixed point that they reach, and grey where
    they reach none; the stable fixed points are marked, with their shares in the legend.
    """
    ax = _axes(ax, (5.4, 3.8))
    first, second = components
    across, up = (np.asarray(basins.x0[..., k]) for k in components)
    palette = np.asarray([to_rgb(colour) for colour in BASINS])[
        np.arange(len(basins.state)) % len(BASINS)
    ]
    # Pale, for the points to stand out; the last is grey, for starts that reach none.
    pale = np.concatenate([0.5 + 0.5 * palette, [to_rgb("#DDDDDD")]])
    colours = pale[np.asarray(basins.label)]
    if across.ndim == 2:
        ax.pcolormesh(across, up, colours, shading="nearest", rasterized=True)
    else:
        ax.scatter(across, up, s=8, c=colours.reshape(-1, 3), lw=0)
    for colour, state, share in zip(palette, basins.state, basins.share, strict=True):
        ax.plot(
            float(state[first]), float(state[second]), "o", mfc=colour, mec="black", ms=8, ls="",
            label=f"{100 * float(share):.1f} %", zorder=4,
        )  # fmt: skip
    ax.set(xlabel=f"start, component {first + 1}", ylabel=f"start, component {second + 1}")
    ax.legend(frameon=False, title="stable points", loc="upper left", bbox_to_anchor=(1, 1))
    return ax


MARKS = {"fold": ("s", RED), "hopf": ("o", GREEN), "branch": ("^", ORANGE), "border": ("|", GREY)}


def branch(branch: Branch, *, component: int = 0, ax: Axes | None = None) -> Axes:
    """One component of a branch of fixed points against the parameter: solid where it is stable,
    dashed where it is not, with folds, Hopf points, branch points and borders marked."""
    ax = _axes(ax, (5.4, 3.6))
    p, x = np.asarray(branch.parameter), np.asarray(branch.state[:, component])
    stable = np.asarray(branch.stable)
    cuts = np.flatnonzero(stable[1:] != stable[:-1]) + 1
    for part in np.split(np.arange(len(p)), cuts):
        # Each part reaches to the first point of the next.
        whole = np.append(part, part[-1] + 1) if part[-1] + 1 < len(p) else part
        ax.plot(p[whole], x[whole], color=BLUE, ls="-" if stable[part[0]] else (0, (3, 2)))
    for kind, (marker, colour) in MARKS.items():
        points = [point for point in branch.points if point.kind == kind]
        if points:
            ax.plot(
                [point.parameter for point in points],
                [point.state[component] for point in points],
                marker, color=colour, ms=7, mew=1.6 if marker == "|" else 0, label=kind, ls="",
            )  # fmt: skip
    ax.set(xlabel="parameter", ylabel=f"fixed point, component {component + 1}")
    handles = [
        Line2D([], [], color=BLUE, label="stable"),
        Line2D([], [], color=BLUE, ls=(0, (3, 2)), label="unstable"),
        *ax.get_legend_handles_labels()[0],
    ]
    ax.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax
