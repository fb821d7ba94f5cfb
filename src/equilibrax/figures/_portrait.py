"""Computation of a phase portrait: flow, chambers, fixed points, trajectories."""

import operator
from typing import Any, TypeGuard

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from ..analysis import PointKind, find_slow_points
from ..fixed_points import FixedPoints, Flow, Outcome, enumerate_fixed_points, find_fixed_points
from ..fixed_points._distinct import distinct
from ..fixed_points._enumerate import LARGEST
from ..fixed_points._flow import as_flow
from ..fixed_points._linalg import exactly
from ..fixed_points._problem import as_problem, as_states, refuse_map
from ..fixed_points.certificates import (
    ChamberTable,
    chamber_index,
    has_table,
    margin,
    terms,
)
from ..fixed_points.stepping import in_lanes
from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear

GRID = 101
"""Grid states along each side, for the flow, nullclines and chambers."""
STARTS = 9
"""Starts of the search along each side, where fixed points cannot be enumerated."""
PATH = 400
"""States along a drawn trajectory."""
SAME = 1e-3
"""Two roots are the same if no component differs by more than this times max(1, |x|)."""
TURNS = 3
"""Periods of a limit cycle that are drawn."""
DURATION = 20.0
"""Duration of a drawn trajectory without a period, in the largest time constant."""


class Points(eqx.Module):
    """Fixed points of one input and their outcomes, on the host."""

    state: Float[np.ndarray, "k n"]
    outcome: Int[np.ndarray, " k"]

    def with_others(self, others: "Points") -> "Points":
        """The union of both, without duplicates."""
        state = np.concatenate([self.state, others.state])
        outcome = np.concatenate([self.outcome, others.outcome])
        first, _ = distinct(state, np.ones(len(state), bool), SAME)
        return Points(state[first], outcome[first])


class Section(eqx.Module):
    """The flow on a plane of the state space; each row of the grid has one second component.

    - `first`, `second`: the two components along the grid.
    - `drift`: tau dx/dt of the two components.
    - `drive`: u; None for networks that are not threshold-linear.
    - `stable`: whether the chamber's flow is stable; None without a table of the chambers.
    """

    first: Float[Array, " grid"]
    second: Float[Array, " grid"]
    drift: Float[Array, "grid grid 2"]
    drive: Float[Array, "grid grid n"] | None
    stable: Bool[Array, "grid grid"] | None


class Portrait(eqx.Module):
    """The data that `phase_plane` draws."""

    section: Section
    points: Points
    found: FixedPoints
    paths: Float[Array, "starts path n"]
    ellipses: Float[Array, "stable angles 2"] | None
    components: tuple[int, int] = eqx.field(static=True)


def portrait(
    network: Any,
    input: Float[Array, " k"],
    *,
    x0: Float[Array, "*starts n"] | None,
    limits: Any,
    components: tuple[int, int],
    at: Float[Array, " n"] | None,
    ellipsoids: bool,
    method: Flow | None,
) -> Portrait:
    """Compute a portrait; the arguments are those of `phase_plane`."""
    method = as_flow(method)
    input = as_states("input", input)
    if input.ndim != 1:
        _checks.fail("input", "be one input, of shape (k,)", f"has shape {input.shape}")
    starts = None if x0 is None else jnp.atleast_2d(as_states("x0", x0))
    if starts is not None:
        starts = starts.reshape(-1, starts.shape[-1])
        if not len(starts):
            _checks.fail("x0", "hold at least one start", "is empty")
    network, input, _ = as_problem(network, input, None if starts is None else starts[0])
    refuse_map("network", network)
    n = network.num_neurons
    place = _components(components, n)
    if ellipsoids and not (is_threshold_linear(network) and n == 2):
        _checks.fail("ellipsoids", "be asked for a threshold-linear network of two neurons", "is")
    if at is None and n > 2:
        at = find_fixed_points(network, input, method=method).state
        at = jnp.where(jnp.isfinite(at), at, 0)
    at = as_states("at", jnp.zeros(n) if at is None else at, n).astype(network.dtype)
    if at.ndim != 1:
        _checks.fail("at", f"be one state, of shape ({n},)", f"has shape {at.shape}")
    _checks.finite("at", at)

    low, high = _box(limits)
    points = _points(network, input, at, place, low, high, method)
    ellipses = _ellipses(network, input, points, method) if ellipsoids else None
    followed = None if starts is None else _follow(network, input, starts, method)
    if limits is None:
        low, high = _around(points, ellipses, followed, place)
    if followed is None:
        followed = _follow(network, input, _border(at, place, low, high), method)
    if not _enumerable(network):
        points = points.with_others(_ends(followed[0]))
        if limits is None:
            # The limits have changed: search the plane that is drawn.
            again = _points(network, input, at, place, low, high, method)
            points = points.with_others(again)
    section = _section(network, input, at, place, low, high, method)
    return Portrait(section, points, *followed, ellipses, place)


def _ends(found: FixedPoints) -> Points:
    """Fixed points at which trajectories came to rest."""
    state, outcome = jax.device_get((found.state, found.outcome))
    rests = np.isin(outcome, (Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE))
    return Points(state[rests], outcome[rests].astype(int))


def _follow(network, input, starts: Array, method: Flow) -> tuple[FixedPoints, Array]:
    """The result of settling each start, and its trajectory."""
    many = jnp.broadcast_to(input, (len(starts), len(input)))
    starts = starts.astype(network.dtype)
    found = find_fixed_points(network, many, x0=starts, method=method)
    rest = DURATION * jnp.max(network.tau)
    duration = jnp.where(jnp.isnan(found.period), rest, TURNS * found.period)
    return found, _paths(network, input, starts, duration)


def _components(components: Any, n: int) -> tuple[int, int]:
    try:
        first, second = (operator.index(k) for k in components)
    except (TypeError, ValueError):
        first = second = -1
    if not (0 <= first < n and 0 <= second < n) or first == second:
        must = f"be two different components of the state, from 0 to {n - 1}"
        _checks.fail("components", must, f"is {components!r}")
    return first, second


def _box(limits: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right corner; (-1, -1) and (1, 1) for None."""
    try:
        box = np.asarray([[-1, 1], [-1, 1]] if limits is None else limits, float)
    except (TypeError, ValueError):
        box = np.zeros(0)
    if box.shape != (2, 2) or not np.isfinite(box).all() or (box[:, 0] >= box[:, 1]).any():
        must = "be ((low, high), (low, high)), one pair for each component, low below high"
        _checks.fail("limits", must, f"is {limits!r}")
    return box[:, 0], box[:, 1]


def _around(points: Points, ellipses: Array | None, followed, place: tuple[int, int]):
    """Corners of a box around the origin, starts, fixed points, ellipses and bounded trajectories,
    with a margin."""
    inside = [np.zeros((1, 2)), points.state[:, place]]
    if ellipses is not None:
        inside.append(np.asarray(ellipses).reshape(-1, 2))
    if followed is not None:
        bounded = np.asarray(followed[0].outcome) != Outcome.DIVERGED
        inside.append(np.asarray(followed[1])[bounded][..., place].reshape(-1, 2))
        inside.append(np.asarray(followed[1])[:, 0][:, place])
    inside = np.concatenate(inside)
    low, high = np.nanmin(inside, axis=0), np.nanmax(inside, axis=0)
    width = 0.2 * np.max(high - low)
    width = width if width > 0 else 1.0
    return low - width, high + width


def _border(at: Array, place: tuple[int, int], low: np.ndarray, high: np.ndarray) -> Array:
    """Eight states around the border of the plane."""
    side = (0.04, 0.5, 0.96)
    ring = [(s, t) for s in side for t in side if (s, t) != (0.5, 0.5)]
    return _on_plane(at, place, low + np.asarray(ring) * (high - low))


def _on_plane(at: Array, place: tuple[int, int], pairs: Any) -> Array:
    """States with these two components, and the others of `at`."""
    pairs = jnp.asarray(pairs, at.dtype)
    whole = jnp.broadcast_to(at, (*pairs.shape[:-1], len(at)))
    return whole.at[..., place[0]].set(pairs[..., 0]).at[..., place[1]].set(pairs[..., 1])


def _enumerable(network: AbstractDynamics) -> TypeGuard[RateNetwork]:
    return is_threshold_linear(network) and network.num_neurons <= LARGEST


def _points(network, input, at, place, low, high, method: Flow) -> Points:
    """All fixed points if they can be enumerated, else those that a search from a grid of states
    on the plane leads to."""
    if _enumerable(network):
        every = jax.device_get(enumerate_fixed_points(network, input))
        state, abscissa = every.state[every.valid], every.abscissa[every.valid]
        active = every.active[every.valid]
        there = in_lanes(network), active.T, jnp.asarray(state.T), input[:, None]
        unsure = 8 * jnp.finfo(state.dtype).eps * terms(*there)
        # At a threshold, stability depends on the flow of the neighbouring chamber, too.
        within = np.all(np.asarray(margin(*there, unsure)[0]) > 0, axis=0)
    else:
        axes = (np.linspace(low[k], high[k], STARTS) for k in (0, 1))
        starts = _on_plane(at, place, np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
        found = find_slow_points(network, input, jnp.concatenate([at[None], starts]))
        fixed = np.asarray(found.kind) != PointKind.SLOW
        state, within = np.asarray(found.state)[fixed], True
        abscissa = np.asarray(jnp.max(found.eigenvalues.real, axis=1))[fixed]
    band = float(method.marginal_abscissa(network))
    outcome = np.where((abscissa < -band) & within, Outcome.STABLE, Outcome.MARGINAL)
    return Points(state, np.where(abscissa > band, Outcome.UNSTABLE, outcome))


@eqx.filter_jit
@exactly()
def _section(network, input, at, place, low, high, method: Flow) -> Section:
    first, second = (jnp.linspace(low[k], high[k], GRID, dtype=at.dtype) for k in (0, 1))
    states = _on_plane(at, place, jnp.stack(jnp.meshgrid(first, second), axis=-1))

    def everywhere(function):
        return jax.vmap(jax.vmap(function))(states)

    drift = everywhere(lambda x: network.drift(x, input)[jnp.asarray(place)])
    if not is_threshold_linear(network):
        return Section(first, second, drift, None, None)
    drive = everywhere(lambda x: network.drive(x, input))
    if not has_table(network):
        return Section(first, second, drift, drive, None)
    band = method.marginal_abscissa(network)
    index = chamber_index(drive.reshape(GRID**2, -1).T > 0).reshape(GRID, GRID)
    return Section(first, second, drift, drive, ChamberTable(network, band).spectral[index] < -band)


@eqx.filter_jit
@exactly()
def _paths(network: AbstractDynamics, input, starts, duration):
    """The trajectory of each start; NaN where it is not finite."""

    def one(x0, duration):
        # Denser at the start, where the state changes fastest.
        times = duration * jnp.linspace(0, 1, PATH, dtype=x0.dtype) ** 2
        done = diffrax.diffeqsolve(
            diffrax.ODETerm(network.vector_field), diffrax.Tsit5(), times[0], times[-1], None, x0,
            args=input, saveat=diffrax.SaveAt(ts=times), throw=False, max_steps=2048,
            stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-5),
        )  # fmt: skip
        assert done.ys is not None
        return jnp.where(jnp.isfinite(done.ys), done.ys, jnp.nan)

    return jax.vmap(one)(starts, duration)


def _ellipses(network, input, points: Points, method: Flow) -> Float[Array, "stable angles 2"]:
    """Boundaries of the stable points' trapping ellipsoids: v'P v = bound, v = J (x - x*)."""
    stable = points.state[points.outcome == Outcome.STABLE]
    # Padded to the number of chambers, so that one compiled program serves.
    places = np.full((4, 2), np.nan, stable.dtype)
    places[: len(stable)] = stable
    return _trapping(network, input, places, method)[: len(stable)]


@eqx.filter_jit
@exactly()
def _trapping(network, input, stable, method: Flow):
    chambers = ChamberTable(network, method.marginal_abscissa(network))
    angle = jnp.linspace(0, 2 * jnp.pi, 181, dtype=stable.dtype)
    circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    def one(x):
        u = network.drive(x, input)
        index = chamber_index((u > 0)[:, None])[0]
        bound = jnp.min(jnp.square(u) / chambers.reach[:, index])
        root = jnp.linalg.cholesky(chambers.metric[:, :, index]).T
        offset = jnp.linalg.solve(root @ network.jacobian(x, input), jnp.sqrt(bound) * circle)
        return x + jnp.where(chambers.trapping[index], offset, jnp.nan).T

    return jax.vmap(one)(stable)
