"""`phase_plane`: the flow for one input, on a plane of the state space."""

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
STABLE_FLOW, UNSTABLE_FLOW = "#EAF2F8", "#FBF3E6"


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
    r"""Draw the phase portrait of $\tau \dot x = F(x, i)$ for one input.

    The nullclines are black, F_1 = 0 solid and F_2 = 0 dashed. Grey arrows point along the flow,
    and are darker where it is faster. Each trajectory starts at a small dot and has the colour of
    its `Outcome`. Stable fixed points are filled, unstable ones open, marginal ones half filled.

    For threshold-linear networks, the borders of the chambers, u_j(x) = 0, are dotted. Up to 16
    neurons all fixed points are enumerated; up to 8 neurons, chambers with a stable linear flow
    are blue and the others sand. For other dynamics the fixed points are those found by Newton's
    method from a grid of 81 states on the plane, and those at which trajectories come to rest.

    **Arguments:**

    - `network`: any dynamics in continuous time that `find_fixed_points` accepts.
    - `input`: i, shape `(k,)`.
    - `x0`: starts of the trajectories, shape `(..., n)`; eight around the border if absent.
    - `limits`: ((low, high), (low, high)) of the two components, in units of x; around all
      fixed points and starts if absent.
    - `components`: the two components of the state that span the plane, counted from 0.
    - `at`: a state that fixes the other components, shape `(n,)`: flow, nullclines and chambers are
      drawn on the plane through it, trajectories and fixed points are projected. If absent, the
      end of the trajectory from 0.
    - `ellipsoids`: draw the trapping ellipse of each stable point, from inside which convergence
      is proven. For threshold-linear networks of two neurons.
    - `method`: a `Flow`.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Raises:** as `find_fixed_points`; `ValueError` for more than one input, invalid components or
    limits, or ellipsoids of another network; `TypeError` for a map.

    **Example:**

    ```python
    network = eqb.two_neuron(w_self=0.5, w_cross=-1.0)
    ax = eqb.figures.phase_plane(network, jnp.asarray([1.0, 1.2]), ellipsoids=True)
    print(ax.get_xlabel(), [text.get_text() for text in ax.get_legend().get_texts()][:2])
    # > x₁ ['x₁ at rest', 'x₂ at rest']
    ```
    """
    computed = portrait(
        network, input, x0=x0, limits=limits, components=components, at=at, ellipsoids=ellipsoids,
        method=method,
    )  # fmt: skip
    ax = axes_of(ax, (6.4, 4.4))
    handles = draw(computed, ax)
    ax.legend(handles=handles, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def draw(portrait: Portrait, ax: Axes) -> list[Artist]:
    """Draw a computed portrait, and return the entries of its legend."""
    components = list(portrait.components)
    names = [f"x{_subscript(k + 1)}" for k in components]
    _draw_section(ax, portrait.section)
    handles: list[Artist] = [
        Line2D([], [], color=NULLCLINE, ls=dash, lw=1.2, label=f"{name} at rest")
        for name, dash in zip(names, DASHES, strict=True)
    ]
    paths = np.asarray(portrait.paths)[..., components]
    outcomes = np.asarray(portrait.found.outcome)
    for path, outcome in zip(paths, outcomes, strict=True):
        colour = OUTCOMES[Outcome(outcome)]
        _line(ax, path, color=colour, lw=1.1, alpha=0.85, zorder=2.5)
        _line(ax, path[:1], color=colour, marker=".", ms=5, zorder=2.6)
    handles += [
        Line2D([], [], color=OUTCOMES[kind], lw=1.4, label=f"path: {kind.name}")
        for kind in Outcome
        if kind in outcomes
    ]
    if portrait.ellipses is not None and np.isfinite(portrait.ellipses).any():
        colour = OUTCOMES[Outcome.STABLE]
        for ellipse in np.asarray(portrait.ellipses):
            face = to_rgba(colour, 0.18)
            ax.add_artist(Polygon(ellipse, facecolor=face, edgecolor=colour, lw=1.2, zorder=2.2))
        handles.append(Patch(fc=OUTCOMES[Outcome.STABLE], alpha=0.3, label="traps, proven"))
    for kind in (Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE):
        points = portrait.points.state[portrait.points.outcome == kind]
        if len(points):
            style = {
                "marker": "o", "ms": 8, "ls": "", "mec": "black", "mew": 1.1, "zorder": 4,
                "mfc": "white" if kind == Outcome.UNSTABLE else OUTCOMES[kind],
                "fillstyle": "left" if kind == Outcome.MARGINAL else "full",
            }  # fmt: skip
            _line(ax, points[:, components], label=f"point: {kind.name}", **style)
            handles.append(Line2D([], [], label=f"point: {kind.name}", **style))
    first, second = np.asarray(portrait.section.first), np.asarray(portrait.section.second)
    ax.set(
        xlabel=names[0], ylabel=names[1], xlim=(first[0], first[-1]), ylim=(second[0], second[-1])
    )
    return handles


def _subscript(k: int) -> str:
    return str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _draw_section(ax: Axes, section: Section):
    first, second, drift = (np.asarray(a) for a in (section.first, section.second, section.drift))
    if section.stable is not None:
        whole = np.asarray([[first[0], second[0]], [first[-1], second[0]],
                            [first[-1], second[-1]], [first[0], second[-1]]])  # fmt: skip
        ax.add_artist(Polygon(whole, color=UNSTABLE_FLOW, lw=0, zorder=0))
        stable = contour_generator(first, second, np.asarray(section.stable, float))
        for points, ends in zip(*stable.filled(0.5, np.inf), strict=True):
            # Contours of holes have the opposite orientation, so that holes are not filled.
            parts = [Path(part, closed=True) for part in np.split(points, ends[1:-1])]
            path = Path.make_compound_path(*parts)
            ax.add_artist(PathPatch(path, color=STABLE_FLOW, lw=0, zorder=0.1))
    if section.drive is not None:
        for u in np.moveaxis(np.asarray(section.drive), -1, 0):
            _zero(ax, first, second, u, "0.55", ":", 1.0)
    steps = slice(2, None, max(1, len(first) // ARROWS))
    arrows = drift[steps, steps]
    speed = np.linalg.norm(arrows, axis=-1)
    heading = arrows / np.where(speed > 0, speed, 1)[..., None]
    # In units of the axes, so that arrows are parallel to the curves as drawn.
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
    """Add points or a line as an artist: `plot` would also recompute the limits, which is slow."""
    ax.add_artist(Line2D(*points.T, **style))


def _zero(ax: Axes, first, second, values, colour, dash, width: float):
    """Draw the zero contour of the values, if there is one."""
    lines = contour_generator(first, second, values).lines(0.0)
    if lines:
        # One line with gaps for all parts, far faster to draw than Matplotlib's contours.
        gap = np.full((1, 2), np.nan)
        whole = np.concatenate([part for line in lines for part in (np.asarray(line), gap)])
        _line(ax, whole, color=colour, ls=dash, lw=width, zorder=2)
