"""Figures of families of networks, basins and branches."""

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .. import _checks
from ..families import Basins, Branch, Sweep
from ..fixed_points import Outcome
from ._style import BLUE, GREEN, GREY, ORANGE, OUTCOMES, PURPLE, RED, SKY, YELLOW, axes_of


def outcome_map(
    sweep: Sweep,
    values: Float[Array, "..."],
    others: Float[Array, "..."] | None = None,
    *,
    labels: tuple[str, str] = ("parameter", "second parameter"),
    ax: Axes | None = None,
) -> Axes:
    """Draw the outcomes of a sweep against one or two parameters.

    Over one parameter, the shares of all outcomes are stacked. Over two parameters, `values` along
    the family's first axis and `others` along the second, the colour is that of the most frequent
    outcome, and paler for a smaller share.

    **Arguments:**

    - `sweep`: a `Sweep` over a family with one or two axes.
    - `values`: the parameter along the first axis, shape `(a,)`, in its own unit.
    - `others`: the parameter along the second axis, shape `(b,)`.
    - `labels`: names of the two parameters.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Raises:** `ValueError` unless the family has one axis, or two axes and `others` is given.

    **Example:**

    ```python
    values = jnp.asarray([0.5, 2.0, 3.5])
    inputs = jax.random.uniform(jax.random.key(0), (8, 5), minval=-1, maxval=1)
    swept = eqb.sweep(lambda w: eqb.partitioned(w_e=w, w_ii=0.0), values, inputs)
    ax = eqb.figures.outcome_map(swept, values, labels=("w_E", ""))
    print(ax.get_xlabel(), [text.get_text() for text in ax.get_legend().get_texts()][0])
    # > w_E STABLE
    ```
    """
    ax = axes_of(ax, (5.4, 3.6))
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
    """Draw the basins of attraction over two components of the start.

    Starts, on a grid or anywhere, have the colour of the fixed point that they reach; starts that
    reach no stable fixed point are grey. The stable fixed points are marked, with their shares in
    the legend.

    **Arguments:**

    - `basins`: the result of `eqb.basins`.
    - `components`: the two components of the start that span the plane, counted from 0.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Example:**

    ```python
    axis = jnp.linspace(-1.0, 3.0, 8)
    starts = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    reached = eqb.basins(eqb.two_neuron(0.5, -1.0), jnp.asarray([1.0, 1.2]), starts)
    ax = eqb.figures.basins(reached)
    print(len(ax.get_lines()), "stable points")
    # > 2 stable points
    ```
    """
    _checks.returned_by("basins", basins, Basins, "basins")
    ax = axes_of(ax, (5.4, 3.8))
    first, second = components
    across, up = (np.asarray(basins.x0[..., k]) for k in components)
    palette = np.asarray([to_rgb(colour) for colour in BASINS])[
        np.arange(len(basins.state)) % len(BASINS)
    ]
    # Pale, so that the points stand out; the last colour is for label -1.
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
    ax.set(xlabel=f"start, component {first}", ylabel=f"start, component {second}")
    ax.legend(frameon=False, title="stable points", loc="upper left", bbox_to_anchor=(1, 1))
    return ax


MARKS = {
    "fold": ("s", RED), "hopf": ("o", GREEN), "branch": ("^", ORANGE), "border": ("|", GREY),
    "flip": ("D", GREEN), "neimark-sacker": ("o", GREEN),
}  # fmt: skip


def branch(branch: Branch, *, component: int = 0, ax: Axes | None = None) -> Axes:
    """Draw one component of a branch of fixed points against the parameter.

    Stable parts are solid, unstable parts dashed. Folds, Hopf points, branch points and borders are
    marked.

    **Arguments:**

    - `branch`: the result of `eqb.follow_branch`.
    - `component`: the component of the state, counted from 0.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Example:**

    ```python
    model, drive = eqb.WilsonCowan(), jnp.asarray([1.0, 0.0])
    branch = eqb.follow_branch(lambda p: model, lambda p: p * drive, 0.0, 3.0)
    ax = eqb.figures.branch(branch)
    print([text.get_text() for text in ax.get_legend().get_texts()])
    # > ['stable', 'unstable', 'fold', 'hopf']
    ```
    """
    _checks.returned_by("branch", branch, Branch, "follow_branch")
    ax = axes_of(ax, (5.4, 3.6))
    p, x = np.asarray(branch.parameter), np.asarray(branch.state[:, component])
    stable = np.asarray(branch.stable)
    cuts = np.flatnonzero(stable[1:] != stable[:-1]) + 1
    for part in np.split(np.arange(len(p)), cuts):
        # Each part is extended to the first point of the next, so that the curve has no gaps.
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
    ax.set(xlabel="parameter", ylabel=f"fixed point, component {component}")
    handles = [
        Line2D([], [], color=BLUE, label="stable"),
        Line2D([], [], color=BLUE, ls=(0, (3, 2)), label="unstable"),
        *ax.get_legend_handles_labels()[0],
    ]
    ax.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax
