"""The paper's three figures."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch

from .. import _checks
from ..approximation import (
    FeedForward,
    decision_boundary as boundary_of,
    forward,
    jackknife,
    partition_sums,
    signed_distance,
    winner,
)
from ..fixed_points import Flow, find_fixed_points
from ..networks import RateNetwork
from ..sampling import Samples, mixture_line
from ._measured import misclassified
from ._style import BLUE, GREY, ORANGE, RED, axes_of


def _partitions(network: RateNetwork) -> tuple[int, ...]:
    """The sizes of at least two partitions, each of which has inputs of its own."""
    if len(network.partitions) < 2:
        _checks.fail("network", "have two partitions", f"has {len(network.partitions)}")
    for name in ("input_weights", "readout"):
        if getattr(network, name) is not None:
            must = f"have an input and an output for each neuron, without `{name}`"
            _checks.fail("network", must, "has it")
    return network.partitions


def architectures(network: RateNetwork, model: FeedForward) -> Figure:
    """Draw the recurrent network beside its approximation. Muir (2018), Figs 1 and 2a.

    Excitatory connections are blue, inhibitory connections orange. The width of a line grows with
    the weight; weights below 2 % of the strongest are left out.

    **Arguments:**

    - `network`: the recurrent network; its partitions are drawn as groups.
    - `model`: the approximation; with more than 40 units in a layer only the sizes are written.

    **Returns:** a figure of two axes.

    **Example:**

    ```python
    model = eqb.FeedForward(5, 5, 5, key=jax.random.key(0))
    figure = eqb.figures.architectures(eqb.partitioned(), model)
    print([ax.get_title(loc="left") for ax in figure.axes])
    # > ['(a) recurrent', '(b) feed-forward']
    ```
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
    weights = np.asarray(network.dense_weights)
    strongest = float(np.abs(weights).max()) or 1.0
    sizes = network.partitions
    if sum(sizes) == n - 1 and n <= 12:
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
    """Draw the responses of both networks along the mixture line. Muir (2018), Fig. 2b.

    The curves are the summed rates of each partition for the input 1 - m to partition A and m to
    partition B: solid for the recurrent network, dashed for the approximation. Gaps in the solid
    line are mixtures without a stable fixed point.

    **Arguments:**

    - `network`: a network with at least two partitions.
    - `model`: the approximation: a `FeedForward`, or a function of one input.
    - `ax`: the axes to draw into; new axes if absent.
    - `num_points`: number of mixtures from 0 to 1.
    - `method`: a `Flow`.

    **Returns:** the axes.

    **Raises:** `ValueError` for a network without partitions.

    **Example:**

    ```python
    model = eqb.FeedForward(5, 5, 5, key=jax.random.key(0))
    ax = eqb.figures.mixture_response(eqb.partitioned(), model, num_points=64)
    print([round(float(rate), 2) for rate in ax.get_lines()[0].get_ydata()[[0, -1]]])
    # > [4.5, 0.0]
    ```
    """
    partitions = _partitions(network)
    ax = axes_of(ax, (5.4, 3.8))
    mixture = jnp.linspace(0, 1, num_points, dtype=network.dtype)
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
    within: float | None = None,
    num_points: int = 4000,
) -> Axes:
    """Draw inputs in the plane of two partition sums. Muir (2018), Fig. 3.

    Inputs with the same winner in both networks are grey, inputs with different winners orange.
    Inputs without a winner in the recurrent network are left out. The dashed line is the ideal
    boundary of equal sums.

    **Arguments:**

    - `network`: a network with at least two partitions.
    - `model`: the approximation.
    - `samples`: samples of the network; the shares in the legend are of all samples, or of all
      within the distance.
    - `ax`: the axes to draw into; new axes if absent.
    - `within`: the largest distance from the recurrent network's boundary, of those drawn, in units
      of the input; all samples if absent.
    - `num_points`: number of inputs drawn.

    **Returns:** the axes, in units of the input.

    **Raises:** `ValueError` for a network without partitions.

    **Example:**

    ```python
    cube, network = eqb.UniformCube(-1, 1), eqb.partitioned()
    samples = eqb.sample_fixed_points(network, cube, 4096, key=jax.random.key(0))
    model = eqb.FeedForward(5, 8, 5, key=jax.random.key(1))
    ax = eqb.figures.decision_boundary(network, model, samples, num_points=500)
    drawn = sum(len(dots.get_offsets()) for dots in ax.collections)
    print(350 < drawn < 450)  # four fifths of the inputs have a winner
    # > True
    ```
    """
    partitions = _partitions(network)
    ax = axes_of(ax, (4.6, 4.6))
    output = forward(model, samples.inputs)
    sums = np.asarray(partition_sums(samples.inputs, partitions))[:, :2]
    recurrent, approximate = (np.asarray(winner(a, partitions)) for a in (samples.rates, output))
    near = np.ones(len(sums), bool)
    if within is not None:
        within = _checks.number("within", within, above=0)
        distance = signed_distance(boundary_of(samples, model), jnp.asarray(sums))
        near = np.abs(np.asarray(distance)) <= within
    won, wrong = recurrent >= 0, approximate != recurrent
    share = 100 * float(wrong[near & won].mean()) if (near & won).any() else 0.0
    rows = np.flatnonzero(near)[:num_points]
    points, wrong = sums[rows[won[rows]]], wrong[rows[won[rows]]]
    dots = {"s": 5, "lw": 0, "rasterized": True}
    ax.scatter(*points[~wrong].T, color="0.6", **dots, label=f"same winner ({100 - share:.1f} %)")
    ax.scatter(*points[wrong].T, color=ORANGE, **dots, label=f"other winner ({share:.1f} %)")
    limit = float(np.abs(sums).max())
    ax.plot([-limit, limit], [-limit, limit], "k--", lw=1.2, label="equal sums")
    ax.set(xlabel=r"summed input to A, $\iota_{A}$", ylabel=r"summed input to B, $\iota_{B}$")
    ax.set_aspect("equal")
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3,
              markerscale=2.5, handletextpad=0.3, columnspacing=0.9)  # fmt: skip
    return ax


def decision_boundaries(
    network: RateNetwork,
    models: Mapping[str, Any],
    samples: Samples,
    *,
    within: float = 0.2,
    num_points: int = 3000,
) -> Figure:
    """Draw the decisions of approximations: of all inputs, of those close to the boundary, and the
    share with another winner against the distance. Muir (2018), Fig. 3, whose caption is about
    inputs close to the boundary.

    **Arguments:**

    - `network`: a network with at least two partitions.
    - `models`: the approximations, by name; a row of two pictures for each.
    - `samples`: samples of the network.
    - `within`: the largest distance from the recurrent network's boundary that is close, in units
      of the input.
    - `num_points`: number of inputs drawn in each picture.

    **Returns:** a figure of two axes for each model, and one for the shares, with standard errors
    by the jackknife.

    **Raises:** `ValueError` for a network without partitions, or no model.

    **Example:**

    ```python
    cube, network = eqb.UniformCube(-1, 1), eqb.partitioned()
    samples = eqb.sample_fixed_points(network, cube, 4096, key=jax.random.key(0))
    models = {f"{k} units": eqb.FeedForward(5, k, 5, key=jax.random.key(k)) for k in (5, 64)}
    figure = eqb.figures.decision_boundaries(network, models, samples)
    print(len(figure.axes))
    # > 5
    ```
    """
    if not models:
        _checks.fail("models", "hold at least one approximation", "is empty")
    rows: Any = [[f"all {name}", f"close {name}", "shares"] for name in models]
    height = 4.6 * len(models) + 0.3
    figure = plt.figure(figsize=(12.5, height), layout="constrained")
    # Above the legends there is a title, which the layout does not count.
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.3 / height))
    axes = figure.subplot_mosaic(rows)
    for name, model in models.items():
        for part, limit in (("all", None), ("close", within)):
            ax = axes[f"{part} {name}"]
            decision_boundary(network, model, samples, ax, within=limit, num_points=num_points)
            which = "all inputs" if limit is None else f"within {within:g} of the boundary"
            ax.set_title(f"{name}: {which}", loc="left", y=1.15, fontsize=10)
    found = {
        name: jackknife(partial(boundary_of, model=model), samples)
        for name, model in models.items()
    }
    ax = misclassified(found, axes["shares"])
    ax.set_xlabel("distance from the recurrent boundary\n(units of the input)")
    return figure
