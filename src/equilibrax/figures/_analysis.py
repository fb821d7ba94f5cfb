"""Figures of slow points, spectra, cycles and sequences."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from .. import _checks
from ..analysis import Cycles, Linearisation, PointKind, SlowPoints
from ..fixed_points import FixedPoints, Outcome
from ._style import BLUE, GREY, ORANGE, OUTCOMES, PURPLE, SKY, axes_of

KINDS = {
    PointKind.STABLE: BLUE,
    PointKind.SADDLE: ORANGE,
    PointKind.SLOW: PURPLE,
    PointKind.MARGINAL: SKY,
}


def slow_points(
    points: SlowPoints,
    trajectories: Float[Array, "*batch n"] | None = None,
    *,
    modes: Linearisation | None = None,
    axes: Float[Array, "2 n"] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw slow points in the plane of the first two principal components.

    Stable points are filled, all others open. Trajectories are thin lines, and the
    real part of every unstable mode is a short line through its point.

    **Arguments:**

    - `points`: `SlowPoints` of at least two components.
    - `trajectories`: states, shape `(..., steps, n)`: they decide on the components, and are drawn
      along their second to last axis. If absent, the points decide.
    - `modes`: `linearise(network, points, points.inputs)`, for the lines.
    - `axes`: two directions in state space, shape `(2, n)`, in the place of principal components.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Raises:** `ValueError` for no point, or states of another length.

    **Example:**

    ```python
    step = eqb.as_map(lambda x, i: jnp.tanh(2 * x) + i)
    starts = jax.random.uniform(jax.random.key(0), (100, 2), minval=-1, maxval=1)
    points = eqb.find_slow_points(step, jnp.zeros(2), starts)
    ax = eqb.figures.slow_points(points, modes=eqb.linearise(step, points, points.inputs))
    print([text.get_text() for text in ax.get_legend().get_texts()])
    # > ['4 STABLE', '5 SADDLE']
    ```
    """
    _checks.returned_by("points", points, SlowPoints, "find_slow_points")
    state = np.asarray(points.state)
    if not len(state) or state.shape[1] < 2:
        _checks.fail("points", "hold points of two components or more", f"has shape {state.shape}")
    paths = None if trajectories is None else np.asarray(trajectories)
    if paths is not None and (paths.ndim < 2 or paths.shape[-1] != state.shape[1]):
        must = f"have shape (..., steps, {state.shape[1]})"
        _checks.fail("trajectories", must, f"has shape {paths.shape}")
    cloud = state if paths is None else paths.reshape(-1, state.shape[1])
    middle = cloud.mean(axis=0)
    if axes is None:
        plane = np.linalg.svd(cloud - middle, full_matrices=False)[2][:2]
        plane = np.resize(plane, (2, state.shape[1])) if len(plane) < 2 else plane
    else:
        plane = np.asarray(axes)

    def place(x: np.ndarray) -> np.ndarray:
        return (x - middle) @ plane.T

    ax = axes_of(ax, (4.6, 4.2))
    if paths is not None:
        for path in place(paths.reshape(-1, *paths.shape[-2:])):
            ax.plot(*path.T, color=GREY, lw=0.6, alpha=0.5)
    there = place(state)
    reach = 0.08 * np.ptp(place(cloud), axis=0).max(initial=0) or 0.1
    if modes is not None:
        constants = np.asarray(modes.time_constants)
        growing = (constants < 0) & np.isfinite(constants)
        for k, mode in np.argwhere(growing):
            line = np.real(np.asarray(modes.right)[k][:, mode]) @ plane.T
            ends = there[k] + reach * np.outer([-1, 1], line)
            ax.plot(*ends.T, color=ORANGE, lw=1)
    for kind, number in points.counts.items():
        if number:
            chosen = there[np.asarray(points.kind) == kind]
            face = KINDS[kind] if kind is PointKind.STABLE else "white"
            label = f"{number} {kind.name}"
            ax.scatter(*chosen.T, s=30, color=face, edgecolors=KINDS[kind], label=label, zorder=3)
    words = "principal component" if axes is None else "axis"
    ax.set(xlabel=f"{words} 1", ylabel=f"{words} 2")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def spectrum(near: Any, *, iterated: bool = False, ax: Axes | None = None) -> Axes:
    """Draw eigenvalues in the complex plane, with the border of stability.

    **Arguments:**

    - `near`: a `Linearisation`, `SlowPoints`, or `Cycles`, of which the multipliers are drawn.
    - `iterated`: whether the eigenvalues are a map's, so that the border is the unit circle and
      not the imaginary axis. Multipliers of cycles always are.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Raises:** `TypeError` for anything else.

    **Example:**

    ```python
    network = eqb.random_ei(50, key=jax.random.key(0))
    found = eqb.find_fixed_points(network, jnp.ones(50))
    ax = eqb.figures.spectrum(eqb.linearise(network, found, jnp.ones(50)))
    print(ax.get_xlabel())
    # > Re
    ```
    """
    makers = "linearise, find_slow_points or find_cycles"
    _checks.returned_by("near", near, Linearisation | SlowPoints | Cycles, makers)
    iterated |= isinstance(near, Cycles)
    values: Any = np.ravel(near.multipliers if isinstance(near, Cycles) else near.eigenvalues)
    values = values[np.isfinite(values)]
    ax = axes_of(ax, (4.0, 3.8))
    if iterated:
        ax.add_patch(Circle((0, 0), 1, fill=False, color=GREY, lw=1))
        ax.set(xlim=_around(values.real), ylim=_around(values.imag))
        unstable = np.abs(values) > 1 + 1e-6
    else:
        ax.axvline(0, color=GREY, lw=1)
        unstable = values.real > 0
    for mask, colour in ((~unstable, BLUE), (unstable, ORANGE)):
        ax.scatter(values[mask].real, values[mask].imag, s=14, color=colour, zorder=3)
    ax.set(xlabel="Re", ylabel="Im")
    if iterated:
        ax.set_aspect("equal")
    return ax


def _around(values: np.ndarray) -> tuple[float, float]:
    """Limits that show the unit circle and all values."""
    low, high = min(values.min(initial=-1), -1), max(values.max(initial=1), 1)
    return 1.08 * low, 1.08 * high


def cycle(cycles: Cycles, *, components: tuple[int, int] = (0, 1), ax: Axes | None = None) -> Axes:
    """Draw periodic orbits over two components: solid where stable, dashed where not.

    **Arguments:**

    - `cycles`: `Cycles`, one or a batch.
    - `components`: the components of the state to draw.
    - `ax`: the axes to draw into, such as those of a phase plane; new axes if absent.

    **Returns:** the axes.

    **Raises:** `ValueError` if no cycle was found.

    **Example:**

    ```python
    found = eqb.find_cycles(eqb.WilsonCowan(), jnp.asarray([1.25, 0.0]), jnp.asarray([0.1, 0.05]))
    ax = eqb.figures.cycle(found)
    print(ax.get_title())
    # > period 5
    ```
    """
    orbits = np.asarray(cycles.orbit).reshape(-1, *cycles.orbit.shape[-2:])
    parts = (cycles.found, cycles.stable, cycles.period)
    found, stable, period = (np.ravel(np.asarray(part)) for part in parts)
    if not found.any():
        _checks.fail("cycles", "hold at least one cycle", "holds none")
    ax = axes_of(ax, (4.2, 3.8))
    for k in np.flatnonzero(found):
        x = np.concatenate([orbits[k], orbits[k, :1]])[:, list(components)]
        colour, line = (OUTCOMES[Outcome.OSCILLATING], "-") if stable[k] else (GREY, "--")
        ax.plot(*x.T, color=colour, ls=line, lw=1.6)
    if found.sum() == 1:
        ax.set_title(f"period {period[found][0]:.3g}", fontsize="medium")
    ax.set(xlabel=f"x{components[0]}", ylabel=f"x{components[1]}")
    return ax


def hysteresis(
    found: FixedPoints,
    inputs: Float[Array, "steps k"],
    *,
    component: int = 0,
    output: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw an output against a component of the input along a sequence, there and back.

    **Arguments:**

    - `found`: what `settle_sequence` gives for one sequence.
    - `inputs`: the sequence, shape `(steps, k)`.
    - `component`, `output`: the component of the input, and of the rates.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes. Rising inputs are blue, falling ones orange; what has not settled is
    marked by the colour of its outcome.

    **Raises:** `ValueError` for anything but one sequence.

    **Example:**

    ```python
    network = eqb.RateNetwork([[2.0]], transfer=eqb.tanh, convention="activity")
    there = jnp.linspace(-0.8, 0.8, 33)
    drive = jnp.concatenate([there, there[::-1]])[:, None]
    found = eqb.settle_sequence(network, drive, jnp.asarray([-1.0]))
    ax = eqb.figures.hysteresis(found, drive)
    print(ax.get_xlabel())
    # > input 0
    ```
    """
    i, rates = np.asarray(inputs), np.asarray(found.rates)
    if i.ndim != 2 or rates.shape[:-1] != i.shape[:1]:
        _checks.fail("found", f"be of one sequence of {len(i)} inputs", f"has shape {rates.shape}")
    x, y = i[:, component], rates[:, output]
    ax = axes_of(ax, (4.4, 3.4))
    for k in range(len(x) - 1):
        colour = BLUE if x[k + 1] > x[k] else ORANGE if x[k + 1] < x[k] else SKY
        ax.plot(x[k : k + 2], y[k : k + 2], color=colour, lw=1.4)
    outcomes = np.asarray(found.outcome)
    for kind in Outcome:
        mask = outcomes == kind
        if kind is not Outcome.STABLE and mask.any():
            ax.scatter(x[mask], y[mask], s=18, color=OUTCOMES[kind], label=kind.name, zorder=3)
            ax.legend(frameon=False)
    ax.set(xlabel=f"input {component}", ylabel=f"rate {output}")
    return ax
