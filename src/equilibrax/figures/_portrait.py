"""What a phase portrait shows, computed: field, nullclines, chambers, fixed points, paths."""

import operator
from typing import Any, TypeGuard

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from ..families._basins import distinct
from ..fixed_points import FixedPoints, Flow, Outcome, enumerate_fixed_points, find_fixed_points
from ..fixed_points._chambers import Chambers, chamber_index, has_table, margin
from ..fixed_points._enumerate import LARGEST
from ..fixed_points._find import as_problem, as_states
from ..fixed_points._flow import as_flow
from ..fixed_points._stability import spectral_abscissa
from ..fixed_points._steps import in_lanes
from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear

GRID = 101
"""States along each side, where nullclines and chambers are sought."""
STARTS = 9
"""Newton's method starts from so many states along each side, where nothing can be enumerated."""
PATH = 400
"""States along a path."""
SAME = 1e-3
"""Two roots are one if no component differs by more than this times max(1, |x|)."""
TURNS = 3
"""Of a limit cycle that are followed."""
DURATION = 20.0
"""Of a path, in the largest time constant, where it is no cycle."""


class Points(eqx.Module):
    """Fixed points of one input, and their verdicts, on the host."""

    state: Float[np.ndarray, "k n"]
    outcome: Int[np.ndarray, " k"]

    def with_others(self, others: "Points") -> "Points":
        """These, and those of the others that are not among them."""
        state = np.concatenate([self.state, others.state])
        outcome = np.concatenate([self.outcome, others.outcome])
        first, _ = distinct(state, np.ones(len(state), bool), SAME)
        return Points(state[first], outcome[first])


class Section(eqx.Module):
    """The flow on a plane of the state space, in rows of the second component."""

    first: Float[Array, " grid"]
    second: Float[Array, " grid"]
    drift: Float[Array, "grid grid 2"]  # tau dx/dt of the two components
    drive: Float[Array, "grid grid n"] | None  # u, for threshold-linear networks
    calm: Bool[Array, "grid grid"] | None  # the chamber's flow is stable, where it is tabulated


class Portrait(eqx.Module):
    """All that `phase_plane` draws."""

    section: Section
    points: Points
    found: FixedPoints
    paths: Float[Array, "starts path n"]
    ellipses: Float[Array, "stable angles 2"] | None
    place: tuple[int, int] = eqx.field(static=True)


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
    """Compute it; the arguments are those of `phase_plane`."""
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
            # Once more, on the plane that is drawn.
            again = _points(network, input, at, place, low, high, method)
            points = points.with_others(again)
    section = _section(network, input, at, place, low, high, method)
    return Portrait(section, points, *followed, ellipses, place)


def _ends(found: FixedPoints) -> Points:
    """The fixed points that trajectories came to."""
    state, outcome = jax.device_get((found.state, found.outcome))
    rests = np.isin(outcome, (Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE))
    return Points(state[rests], outcome[rests].astype(int))


def _follow(network, input, starts: Array, method: Flow) -> tuple[FixedPoints, Array]:
    """How each start ends, and its path."""
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
    """The lower left and the upper right corner; of a unit square for None."""
    try:
        box = np.asarray([[-1, 1], [-1, 1]] if limits is None else limits, float)
    except (TypeError, ValueError):
        box = np.zeros(0)
    if box.shape != (2, 2) or not np.isfinite(box).all() or (box[:, 0] >= box[:, 1]).any():
        must = "be ((low, high), (low, high)), one pair for each component, low below high"
        _checks.fail("limits", must, f"is {limits!r}")
    return box[:, 0], box[:, 1]


def _around(points: Points, ellipses: Array | None, followed, place: tuple[int, int]):
    """A box with the origin, fixed points, ellipses and bounded paths in it, and room around."""
    inside = [np.zeros((1, 2)), points.state[:, place]]
    if ellipses is not None:
        inside.append(np.asarray(ellipses).reshape(-1, 2))
    if followed is not None:
        bounded = np.asarray(followed[0].outcome) != Outcome.DIVERGED
        inside.append(np.asarray(followed[1])[bounded][..., place].reshape(-1, 2))
        inside.append(np.asarray(followed[1])[:, 0][:, place])
    inside = np.concatenate(inside)
    low, high = np.nanmin(inside, axis=0), np.nanmax(inside, axis=0)
    room = 0.2 * np.maximum(high - low, np.max(high - low))
    room = np.where(room > 0, room, 1.0)
    return low - room, high + room


def _border(at: Array, place: tuple[int, int], low: np.ndarray, high: np.ndarray) -> Array:
    """Eight states around the border of the plane."""
    side = (0.04, 0.5, 0.96)
    ring = [(s, t) for s in side for t in side if (s, t) != (0.5, 0.5)]
    return _on_plane(at, place, low + np.asarray(ring) * (high - low))


def _on_plane(at: Array, place: tuple[int, int], pairs: Any) -> Array:
    """The states with these two components, the others as in `at`."""
    pairs = jnp.asarray(pairs, at.dtype)
    whole = jnp.broadcast_to(at, (*pairs.shape[:-1], len(at)))
    return whole.at[..., place[0]].set(pairs[..., 0]).at[..., place[1]].set(pairs[..., 1])


def _enumerable(network: AbstractDynamics) -> TypeGuard[RateNetwork]:
    return is_threshold_linear(network) and network.num_neurons <= LARGEST


def _points(network, input, at, place, low, high, method: Flow) -> Points:
    """All fixed points where they can be enumerated; elsewhere those that Newton's method,
    damped, finds from a grid of states on the plane."""
    if _enumerable(network):
        every = jax.device_get(enumerate_fixed_points(network, input))
        state, abscissa = every.state[every.valid], every.abscissa[every.valid]
        active = every.active[every.valid]
        room = margin(in_lanes(network), active.T, jnp.asarray(state.T), input[:, None])
        # On a threshold the flow beyond it has a say, too.
        within = np.all(np.asarray(room) > 0, axis=0)
    else:
        axes = (np.linspace(low[k], high[k], STARTS) for k in (0, 1))
        starts = _on_plane(at, place, np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
        found = _newton(network, input, jnp.concatenate([at[None], starts]))
        state, converged, abscissa = jax.device_get(found)
        first, _ = distinct(state, converged, SAME)
        state, abscissa, within = state[first], abscissa[first], True
    band = float(method.marginal_abscissa(network))
    outcome = np.where((abscissa < -band) & within, Outcome.STABLE, Outcome.MARGINAL)
    return Points(state, np.where(abscissa > band, Outcome.UNSTABLE, outcome))


@eqx.filter_jit
def _newton(network: AbstractDynamics, input, starts):
    """Roots of the drift from each start, whether they are, and the abscissa there."""
    solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-8)
    unit = jnp.sqrt(jnp.finfo(starts.dtype).eps)

    def step(x):
        return jnp.linalg.solve(network.jacobian(x, input) * network.tau[:, None], -drift(x))

    def drift(x):
        return network.drift(x, input)

    def one(x0):
        done = optimistix.least_squares(
            lambda x, _: drift(x), solver, x0, max_steps=64, throw=False
        )
        x = done.value
        for _ in range(3):
            better = x + step(x)
            x = jnp.where(jnp.max(jnp.abs(drift(better))) < jnp.max(jnp.abs(drift(x))), better, x)
        # A small residual alone may be the bottom of a valley; at a root, Newton's method stays.
        residual = jnp.max(jnp.abs(drift(x)))
        stays = jnp.max(jnp.abs(step(x))) <= unit * jnp.maximum(1, jnp.max(jnp.abs(x)))
        exact = residual <= unit**2 * network.scale(x, input)
        good = exact | (stays & (residual <= unit * network.scale(x, input)))
        return x, good, spectral_abscissa(network.jacobian(x, input), good)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(starts)


@eqx.filter_jit
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
    return Section(first, second, drift, drive, Chambers(network, band).abscissa[index] < -band)


@eqx.filter_jit
def _paths(network: AbstractDynamics, input, starts, duration):
    """Each start's trajectory; NaN from where it is not finite any more."""

    def one(x0, duration):
        # Denser in the beginning, where it is fast.
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
    """The borders of the stable points' trapping ellipsoids: v'P v = bound, v = J (x - x*)."""
    stable = points.state[points.outcome == Outcome.STABLE]
    # As many as there are chambers, so that one program serves.
    places = np.full((4, 2), np.nan, stable.dtype)
    places[: len(stable)] = stable
    return _trapping(network, input, places, method)[: len(stable)]


@eqx.filter_jit
def _trapping(network, input, stable, method: Flow):
    chambers = Chambers(network, method.marginal_abscissa(network))
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
