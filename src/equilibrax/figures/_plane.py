"""`phase_plane`: the flow of a network for one input, on a plane of its state space."""

import numpy as np
from contourpy import contour_generator
from jaxtyping import Array, Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Polygon
from matplotlib.path import Path

from ..fixed_points import Flow, Outcome
from ..networks import AbstractDynamics
from ._portrait import Portrait, Section, portrait
from ._style import OUTCOMES, axes_of

NULLCLINE = "#222222"
DASHES = ("-", (0, (5, 2)))
ARROWS = 16
CALM, RESTLESS = "#EAF2F8", "#FBF3E6"


def phase_plane(
    network: AbstractDynamics,
    input: Float[Array, " k"],
    *,
    x0: Float[Array, "*starts n"] | None = None,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    components: tuple[int, int] = (0, 1),
    at: Float[Array, " n"] | None = None,
    ellipsoids: bool = False,
    method: Flow | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""The phase portrait of $\tau \dot x = F(x, i)$ for one input.

    Black: where the first component rests, F_1 = 0 (solid), and the second, F_2 = 0 (dashed).
    Grey: arrows along the flow, the darker the faster. Each trajectory, from a small dot, has the
    colour of its `Outcome`. Fixed points are filled where they are stable, open where they are
    unstable, half filled where they are marginal.

    Of a threshold-linear network all fixed points are drawn, enumerated up to 16 neurons, and the
    borders of its chambers, u_j(x) = 0, dotted; where there are no more than 8 neurons, chambers
    with a stable linear flow are blue, the others sand. For other dynamics fixed points are those
    that Newton's method finds from a grid of 81 states on the plane, and those where trajectories
    come to rest.

    **Arguments:**

    - `network`: any that `find_fixed_points` takes.
    - `input`: i, shape `(k,)`.
    - `x0`: starts of the trajectories, shape `(..., n)`; eight around the border if absent.
    - `limits`: ((low, high), (low, high)) of the two components, in units of x; around all
      fixed points and starts if absent.
    - `components`: which two of the state's components span the plane, counted from 0.
    - `at`: the other components, shape `(n,)`: field, nullclines and chambers are those of the
      plane through it, trajectories and fixed points are projected. The state that the
      trajectory from 0 comes to, if absent.
    - `ellipsoids`: draw around each stable point the ellipse that traps: from inside it,
      convergence is proven. For threshold-linear networks of two neurons.
    - `method`: a `Flow`.
    - `ax`: the axes to draw into; new ones if absent.

    **Returns:** the axes.

    **Raises:** as `find_fixed_points`; `ValueError` for more than one input, components or limits
    other than these, or ellipsoids of another network.

    **Example:**

    ```python
    network = eqb.two_neuron(w_self=0.5, w_cross=-1.0)
    ax = eqb.figures.phase_plane(network, jnp.asarray([1.0, 1.2]), ellipsoids=True)
    print(ax.get_xlabel(), [text.get_text() for text in ax.get_legend().get_texts()][:2])
    # > x₁ ['x₁ at rest', 'x₂ at rest']
    ```
    """
    seen = portrait(
        network, input, x0=x0, limits=limits, components=components, at=at, ellipsoids=ellipsoids,
        method=method,
    )  # fmt: skip
    ax = axes_of(ax, (6.4, 4.4))
    handles = draw(seen, ax)
    ax.legend(handles=handles, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def draw(seen: Portrait, ax: Axes) -> list[Artist]:
    """A portrait that is computed already; what a legend would show."""
    place = list(seen.place)
    names = [f"x{_subscript(k + 1)}" for k in place]
    _draw_section(ax, seen.section)
    handles: list[Artist] = [
        Line2D([], [], color=NULLCLINE, ls=dash, lw=1.2, label=f"{name} at rest")
        for name, dash in zip(names, DASHES, strict=True)
    ]
    paths, outcomes = np.asarray(seen.paths)[..., place], np.asarray(seen.found.outcome)
    for path, outcome in zip(paths, outcomes, strict=True):
        colour = OUTCOMES[Outcome(outcome)]
        _line(ax, path, color=colour, lw=1.1, alpha=0.85, zorder=2.5)
        _line(ax, path[:1], color=colour, marker=".", ms=5, zorder=2.6)
    handles += [
        Line2D([], [], color=OUTCOMES[kind], lw=1.4, label=f"path: {kind.name}")
        for kind in Outcome
        if kind in outcomes
    ]
    if seen.ellipses is not None and np.isfinite(seen.ellipses).any():
        colour = OUTCOMES[Outcome.STABLE]
        for ellipse in np.asarray(seen.ellipses):
            face = to_rgba(colour, 0.18)
            ax.add_artist(Polygon(ellipse, facecolor=face, edgecolor=colour, lw=1.2, zorder=2.2))
        handles.append(Patch(fc=OUTCOMES[Outcome.STABLE], alpha=0.3, label="traps, proven"))
    for kind in (Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE):
        points = seen.points.state[seen.points.outcome == kind]
        if len(points):
            style = {
                "marker": "o", "ms": 8, "ls": "", "mec": "black", "mew": 1.1, "zorder": 4,
                "mfc": "white" if kind == Outcome.UNSTABLE else OUTCOMES[kind],
                "fillstyle": "left" if kind == Outcome.MARGINAL else "full",
            }  # fmt: skip
            _line(ax, points[:, place], label=f"point: {kind.name}", **style)
            handles.append(Line2D([], [], label=f"point: {kind.name}", **style))
    first, second = np.asarray(seen.section.first), np.asarray(seen.section.second)
    ax.set(
        xlabel=names[0], ylabel=names[1], xlim=(first[0], first[-1]), ylim=(second[0], second[-1])
    )
    return handles


def _subscript(k: int) -> str:
    return str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _draw_section(ax: Axes, section: Section):
    first, second, drift = (np.asarray(a) for a in (section.first, section.second, section.drift))
    if section.calm is not None:
        whole = np.asarray([[first[0], second[0]], [first[-1], second[0]],
                            [first[-1], second[-1]], [first[0], second[-1]]])  # fmt: skip
        ax.add_artist(Polygon(whole, color=RESTLESS, lw=0, zorder=0))
        calm = contour_generator(first, second, np.asarray(section.calm, float))
        for points, ends in zip(*calm.filled(0.5, np.inf), strict=True):
            # Holes turn the other way round, and so stay holes.
            parts = [Path(part, closed=True) for part in np.split(points, ends[1:-1])]
            ax.add_artist(PathPatch(Path.make_compound_path(*parts), color=CALM, lw=0, zorder=0.1))
    if section.drive is not None:
        for u in np.moveaxis(np.asarray(section.drive), -1, 0):
            _zero(ax, first, second, u, "0.55", ":", 1.0)
    steps = slice(2, None, max(1, len(first) // ARROWS))
    arrows = drift[steps, steps]
    speed = np.linalg.norm(arrows, axis=-1)
    heading = arrows / np.where(speed > 0, speed, 1)[..., None]
    # In units of the box, so that arrows point along the curves as they are drawn.
    scale = np.asarray([first[-1] - first[0], second[-1] - second[0]])
    heading = heading / scale
    heading = heading / np.maximum(np.linalg.norm(heading, axis=-1, keepdims=True), 1e-12)
    shade = 0.15 + 0.55 * np.sqrt(speed / max(speed.max(), 1e-12))
    ax.quiver(
        first[steps], second[steps], heading[..., 0], heading[..., 1], shade, cmap="Greys",
        clim=(0, 1), pivot="mid", scale=1.3 * ARROWS, width=0.0026, headwidth=4, zorder=1,
    )  # fmt: skip
    for k in (0, 1):
        _zero(ax, first, second, drift[..., k], NULLCLINE, DASHES[k], 1.2)


def _line(ax: Axes, points: np.ndarray, **style):
    """Points, joined or not, as an artist: `plot` would take the time to work out new limits."""
    ax.add_artist(Line2D(*points.T, **style))


def _zero(ax: Axes, first, second, values, colour, dash, width: float):
    """The curve on which the values are zero, if it crosses the plane."""
    lines = contour_generator(first, second, values).lines(0.0)
    if lines:
        # One curve for all of them, with gaps: far cheaper to draw than Matplotlib's contours.
        gap = np.full((1, 2), np.nan)
        whole = np.concatenate([part for line in lines for part in (np.asarray(line), gap)])
        _line(ax, whole, color=colour, ls=dash, lw=width, zorder=2)
