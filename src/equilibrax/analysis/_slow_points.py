r"""`find_slow_points`: fixed and slow points, stable or not, from many starts.

From each start the speed

    q(x) = |dx/dt|^2 / 2 ,        or |F(x, i) - x|^2 / 2 for a map,

is minimised by the method of Levenberg and Marquardt, whose steps are Newton's close to a fixed
point. D. Sussillo and O. Barak, Neural Computation 25:626 (2013), doi:10.1162/NECO_a_00409.
"""

import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jaxtyping import Array, Complex, Float, Int

from .. import _checks
from .._described import Described
from .._types import Flag, Scalar, Vector
from ..fixed_points._distinct import distinct
from ..fixed_points._flow import DEFAULT
from ..fixed_points._jacobian import solve_jacobian
from ..fixed_points._linalg import alone, exactly
from ..fixed_points._problem import as_problem, as_states
from ..fixed_points._rounding import is_resolved, rounding
from ..networks import AbstractDynamics, with_matrix
from ._linearise import linearise


class PointKind(enum.IntEnum):
    """What a point is.

    - *STABLE*: a fixed point that attracts from all directions.
    - *SADDLE*: a fixed point with directions in which small deviations grow, or none but those.
    - *SLOW*: no fixed point, but the speed has a minimum there: a ghost that trajectories linger
      at.
    - *MARGINAL*: a fixed point whose leading rate of growth is zero within the square root of the
      rounding unit, per largest time constant or per step: on a line of fixed points, or where one
      is born.

    **Example:**

    ```python
    points = eqb.find_slow_points(
        lambda t, x, i: 1e-4 + x**2, jnp.zeros(1), jnp.asarray([[-0.2], [0.1]])
    )
    print([eqb.results.PointKind(int(kind)).name for kind in points.kind])
    # > ['SLOW']
    ```
    """

    STABLE = 0
    SADDLE = 1
    SLOW = 2
    MARGINAL = 3


class SlowPoints(eqx.Module, Described):
    """The p different points that many starts lead to, slowest first.

    - `state`: where they are, shape `(p, n)`.
    - `rates`: the output there, shape `(p, outputs)`.
    - `inputs`: the input of each, shape `(p, k)`.
    - `q`: |dx/dt|^2 / 2, or |F(x) - x|^2 / 2; shape `(p,)`.
    - `kind`: a `PointKind`, int8.
    - `num_unstable`: directions in which small deviations grow, faster than those of a `MARGINAL`
      point, shape `(p,)`.
    - `eigenvalues`: of the Jacobian, or a map's dF/dx, shape `(p, n)`, leading ones first.
    - `count`: how many starts lead to each.
    - `label`: for each start the index of its point, shape `(m,)`; -1 where the search did not end,
      ended at a point that is not slow, or outside the starts' cloud.

    **Example:**

    ```python
    step = eqb.as_map(lambda x, i: jnp.tanh(2 * x) + i)
    points = eqb.find_slow_points(step, jnp.zeros(1), jnp.linspace(-1, 1, 20)[:, None])
    print(points.describe())
    # > 3 points from 20 starts: 2 STABLE, 1 SADDLE
    print(points.counts[eqb.results.PointKind.SADDLE], points.count.sum())
    # > 1 20
    ```
    """

    state: Float[Array, "p n"]
    rates: Float[Array, "p outputs"]
    inputs: Float[Array, "p k"]
    q: Float[Array, " p"]
    kind: Int[Array, " p"]
    num_unstable: Int[Array, " p"]
    eigenvalues: Complex[Array, "p n"]
    count: Int[Array, " p"]
    label: Int[Array, " m"]

    @property
    def counts(self) -> dict[PointKind, int]:
        """How many points of each kind."""
        return {kind: int(jnp.sum(self.kind == kind)) for kind in PointKind}

    def describe(self) -> str:
        """How many points of each kind, and how many starts led nowhere, in one line."""
        kinds = [f"{number} {kind.name}" for kind, number in self.counts.items() if number]
        lost = int(jnp.sum(self.label < 0))
        words = f"{len(self.state)} points from {len(self.label)} starts: {', '.join(kinds) or '-'}"
        return words + (f"; {lost} starts led to none" if lost else "")


MINIMUM_STEPS = 128
"""Of Newton's method to a minimum: slow where it is one of q's sixth power, as at a pitchfork."""

FEW_STEPS = 24
"""Steps within which most searches end; 99 of 100 in trained cells."""


def find_slow_points(
    network: AbstractDynamics | Callable,
    inputs: Float[Array, "#m k"],
    starts: Float[Array, "m n"],
    *,
    tolerance: float | None = None,
    slowest: float = 1e-2,
    within: float | None = None,
    max_steps: int = 256,
) -> SlowPoints:
    """All fixed and slow points that many starts lead to, unstable ones included.

    **Arguments:**

    - `network`: any smooth dynamics or map; threshold-linear networks have
      `enumerate_fixed_points`, which misses none.
    - `inputs`: one input, shape `(k,)`, or one for each start, shape `(m, k)`.
    - `starts`: shape `(m, n)`: states that trajectories visit, with or without noise.
    - `tolerance`: two points are the same if no component differs by more than this times its
      largest size; the cube root of the rounding unit if absent.
    - `slowest`: largest |tau dx/dt|, as a share of the largest |x| of the starts, at which a point
      that is no fixed point is kept.
    - `within`: drop points farther from the starts' mean than so many times the farthest start.
      None are dropped if absent, or if all starts are the same.
    - `max_steps`: of each search.

    **Returns:** `SlowPoints`. A fixed point's residual is rounding. Starts that lead nowhere are
    counted.

    **Raises:** `ValueError` for no start, or for starts or inputs of other shapes; `TypeError` for
    other dtypes, or inside `jax.jit`. Searches that meet NaN end nowhere.

    **Example:**

    ```python
    network = eqb.RateNetwork(2 * jnp.eye(2), transfer=eqb.tanh, convention="activity")
    starts = jax.random.uniform(jax.random.key(0), (200, 2), minval=-1.5, maxval=1.5)
    points = eqb.find_slow_points(network, jnp.zeros(2), starts)
    print(points.describe())
    # > 9 points from 200 starts: 4 STABLE, 5 SADDLE
    ```
    """
    _checks.outside_of_jit("starts", network, inputs, starts)
    starts = as_states("starts", starts)
    if starts.ndim != 2 or not len(starts):
        must = "have shape (m, n), with at least one start"
        _checks.fail("starts", must, f"has shape {starts.shape}")
    given = as_states("inputs", inputs)
    if given.ndim not in (1, 2) or (given.ndim == 2 and len(given) not in (1, len(starts))):
        must = f"be one input, of shape (k,), or one for each of {len(starts)} starts"
        _checks.fail("inputs", must, f"has shape {given.shape}")
    given = jnp.broadcast_to(given, (len(starts), given.shape[-1]))
    slowest = _checks.number("slowest", slowest, above=0.0)
    max_steps = _checks.integer("max_steps", max_steps)
    network, i, x0 = as_problem(with_matrix("network", network), given, starts)
    assert x0 is not None
    if tolerance is None:
        tolerance = float(jnp.finfo(x0.dtype).eps) ** (1 / 3)
    tolerance = _checks.number("tolerance", tolerance, above=0.0)
    begin = np.asarray(x0)
    extent = np.abs(np.where(np.isfinite(begin), begin, 0)).max(axis=0)
    extent = np.where(extent > 0, extent, extent.max() or 1).astype(begin.dtype)
    # Most searches end soon: the few that do not would keep all others of their batch waiting.
    *columns, ended = _descend(network, i, x0, extent, min(FEW_STEPS, max_steps))
    x, q, fixed, speed = map(np.array, columns)
    late = _filled(np.flatnonzero(~np.asarray(ended)))
    if len(late) and max_steps > FEW_STEPS:
        *columns, _ = _descend(network, i[late], x0[late], extent, max_steps)
        x[late], q[late], fixed[late], speed[late] = map(np.asarray, columns)
    slow = speed <= slowest * np.abs(begin[np.isfinite(begin)]).max(initial=0)
    kept = np.isfinite(x).all(axis=1) & fixed
    left = _filled(np.flatnonzero(np.isfinite(x).all(axis=1) & slow & ~fixed))
    if len(left):
        at_minimum = _at_minimum(network, i[left], jnp.asarray(x[left]), extent)
        x[left], q[left], fixed[left], kept[left] = map(np.asarray, at_minimum)
    if within is not None:
        within = _checks.number("within", within, above=0.0)
        cloud = begin[np.isfinite(begin).all(axis=1)]
        middle = cloud.sum(axis=0) / max(len(cloud), 1)
        radius = np.linalg.norm(cloud - middle, axis=1).max(initial=0)
        # One start, or several of the same, have no extent.
        kept &= (np.linalg.norm(x - middle, axis=1) <= within * radius) | (radius == 0)
    # Those of other inputs are other points; of one point's, the slowest represents it.
    order = np.argsort(q, kind="stable")
    drive = np.asarray(i)
    reach = np.where(np.isfinite(drive), np.abs(drive), 0).max(axis=0)
    rows = np.concatenate([x / extent, drive / np.where(reach > 0, reach, 1)], axis=1)[order]
    first, label = distinct(rows, kept[order], tolerance)
    place = np.empty_like(label)
    place[order] = label
    chosen = order[first]
    state, at = jnp.asarray(x[chosen]), jnp.asarray(drive[chosen])
    near = linearise(network, state, at)
    growth, band = np.asarray(-1 / near.time_constants), DEFAULT.marginal_abscissa(network)
    growing = (growth > band).sum(axis=1)
    kind = np.where((growth >= -band).any(axis=1), int(PointKind.MARGINAL), int(PointKind.STABLE))
    kind = np.where(growing > 0, int(PointKind.SADDLE), kind)
    kind = np.where(fixed[chosen], kind, int(PointKind.SLOW))
    return SlowPoints(
        state=state,
        rates=jax.vmap(network.rates)(state),
        inputs=at,
        q=jnp.asarray(q[chosen]),
        kind=jnp.asarray(kind, jnp.int8),
        num_unstable=jnp.asarray(growing, jnp.int32),
        eigenvalues=near.eigenvalues,
        count=jnp.asarray(np.bincount(label[label >= 0], minlength=len(first)), jnp.int32),
        label=jnp.asarray(place, jnp.int32),
    )


def _filled(rows: np.ndarray) -> np.ndarray:
    """The rows, again and again up to a multiple of 64, so that few programs are compiled."""
    return np.resize(rows, -(-len(rows) // 64) * 64)


@alone
@eqx.filter_jit
def _descend(network: AbstractDynamics, i: Array, x0: Array, extent: Array, max_steps: int) -> Any:
    """Where each search ends, q there, whether it is a fixed point, the largest |tau dx/dt|, and
    whether the search came to its end. `extent`, the size of the starts' components, is the unit of
    the search."""
    unit = float(jnp.finfo(x0.dtype).eps)

    def polished(x, i):
        """A step of Newton's method, if it leads to a lower speed."""
        new = x - solve_jacobian(network, x, i, network.drift(x, i))
        before, after = (jnp.max(jnp.abs(network.drift(place, i))) for place in (x, new))
        return jnp.where(after < before, new, x)

    # Optimistix searches in JAX's default precision alone (0.1.0).
    default = jnp.result_type(float)
    wide, units = network.astype(default), extent.astype(default)

    def search(y, i):
        return wide.vector_field(jnp.zeros((), default), units * y, i) / units

    def one(i, x):
        # By Cholesky's factors of the normal equations, which are several times as fast as QR; what
        # precision that costs, the last steps restore.
        solver = optx.LevenbergMarquardt(
            rtol=unit**0.75, atol=unit**0.75, linear_solver=lx.Normal(lx.Cholesky())
        )
        start, args = x.astype(default) / units, i.astype(default)
        found = optx.least_squares(search, solver, start, args, max_steps=max_steps, throw=False)
        value = (units * found.value).astype(x.dtype)
        x = jax.lax.fori_loop(0, 3, lambda _, x: polished(x, i), value)
        ended = found.result == optx.RESULTS.successful
        speed = jnp.max(jnp.abs(network.drift(x, i)))
        return x, half_square(network, x, i), is_fixed(network, x, i, extent), speed, ended

    with exactly():
        size = max(8, min(2**12 // x0.shape[1], 256))
        return jax.lax.map(lambda row: one(*row), (i, x0), batch_size=size)


def half_square(network: AbstractDynamics, x: Vector, i: Vector) -> Scalar:
    """q."""
    return jnp.sum(jnp.square(network.vector_field(jnp.zeros((), x.dtype), x, i))) / 2


def is_fixed(network: AbstractDynamics, x: Vector, i: Vector, extent: Array) -> Flag:
    """Whether nothing but rounding is left of dx/dt. Next to zero, where x and its terms are small
    themselves, that of states of this extent counts, unless dx/dt is the same all over it."""
    unit = jnp.maximum(network.scale(x, i), extent)
    speed = jnp.abs(network.drift(x, i))
    at_rest = jnp.all(speed <= rounding(network.magnitude(x, i) + unit))
    return at_rest & ~jnp.any(is_resolved(network, x, i, unit))


@alone
@eqx.filter_jit
def _at_minimum(network: AbstractDynamics, i: Array, x0: Array, extent: Array) -> Any:
    """The minimum of q beside each point, by Newton's method on its gradient; q there, whether it
    is a fixed point, and whether it is a minimum at all. The method of Gauss and Newton, which
    drops the curvature of dx/dt, is slow where dx/dt is not zero."""
    unit = float(jnp.finfo(x0.dtype).eps)
    # One unit for all components, which leaves the minimum where it is.
    size = jnp.max(extent)

    def one(i, x):
        def square(y):
            field = network.vector_field(jnp.zeros((), y.dtype), size * y, i) / size
            return jnp.sum(jnp.square(field)) / 2

        slope = jax.grad(square)

        def newton(carry):
            k, y, _ = carry
            curvature = jax.jacfwd(slope)(y)
            # Towards a minimum, whatever the signs of the curvatures.
            values, axes = jnp.linalg.eigh((curvature + curvature.T) / 2)
            sizes = jnp.maximum(jnp.abs(values), unit * jnp.max(jnp.abs(values)))
            new = y - axes @ ((axes.T @ slope(y)) / jnp.where(sizes > 0, sizes, 1))
            lower = square(new) <= square(y)
            return k + 1, jnp.where(lower, new, y), lower & jnp.any(new != y)

        def goes_on(carry):
            return carry[2] & (carry[0] < MINIMUM_STEPS)

        y = jax.lax.while_loop(goes_on, newton, (0, x / size, jnp.array(True)))[1]
        x, q = size * y, square(y)
        still = jnp.sqrt(2 * q) <= unit * jnp.linalg.norm(network.jacobian(x, i))
        # Where the curvature says that no more than a thousandth of q can be gained.
        values = jnp.linalg.eigvalsh(jax.jacfwd(slope)(y))
        gain = jnp.sum(jnp.square(slope(y))) / jnp.maximum(values[0], 0)
        fixed = is_fixed(network, x, i, extent)
        return x, half_square(network, x, i), fixed, (gain <= 1e-3 * q) | still | fixed

    with exactly():
        return jax.lax.map(lambda row: one(*row), (i, x0), batch_size=64)
