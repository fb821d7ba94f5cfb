r"""`find_cycles`: periodic orbits, by shooting.

Let phi_T(x) be where the flow takes x in the time T. A cycle is a solution of

    phi_T(x) - x = 0 ,    f(a) . (x - a) = 0 ,

the second being the Poincare section through the first guess a. Newton's method solves for (x, T);
the eigenvalues of d phi_T / dx are the Floquet multipliers, of which one is 1. A map's cycle of k
steps solves F^k(x) = x, and the multipliers are those of dF^k / dx. Y. A. Kuznetsov, Elements of
Applied Bifurcation Theory (2004), ch. 10.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from .. import _checks
from .._described import Described, number_of
from ..fixed_points import Flow, Outcome, find_fixed_points
from ..fixed_points._flow import as_flow
from ..fixed_points._linalg import alone, exactly
from ..fixed_points._problem import as_problem, without_derivatives
from ..networks import AbstractDynamics, is_map


class Cycles(eqx.Module, Described):
    """One periodic orbit for each input; NaN where none was found.

    - `state`: a point of the orbit, shape `(..., n)`.
    - `period`: in time, or in steps of a map.
    - `orbit`: points along it, shape `(..., points, n)`, at equal times from `state` on; for a map
      its own steps, again and again.
    - `multipliers`: Floquet multipliers, shape `(..., n)`, in descending order of their size. In
      continuous time one of them is 1 up to the solver's errors, along the orbit.
    - `stable`: whether all others are inside the unit circle.
    - `found`: whether Newton's method converged; `find_cycles` says why it may not.
    - `residual`: the largest component of phi_T(x) - x.

    `state`, `period` and `orbit` carry derivatives in the network and the inputs, by the implicit
    function theorem on the section. Those of first and second order are right, higher ones are not.

    **Example:**

    ```python
    step = eqb.as_map(lambda x, i: i * x * (1 - x))
    cycles = eqb.find_cycles(step, jnp.asarray([[3.2], [2.8]]), jnp.asarray([0.3]))
    print(cycles.period, cycles.found, f"{cycles.multipliers[0, 0].real:.2f}")
    # > [ 2. nan] [ True False] 0.16
    ```
    """

    state: Float[Array, "*batch n"]
    period: Float[Array, "*batch"]
    orbit: Float[Array, "*batch points n"]
    multipliers: Complex[Array, "*batch n"]
    stable: Bool[Array, "*batch"]
    found: Bool[Array, "*batch"]
    residual: Float[Array, "*batch"]

    def describe(self) -> str:
        """How many orbits, how many of them stable, and their periods, in one line."""
        found, stable = np.asarray(self.found), np.asarray(self.found & self.stable)
        words = f"{number_of(int(found.sum()), 'orbit')} from {number_of(found.size, 'input')}"
        words += f", {int(stable.sum())} stable"
        if not found.any():
            return words
        low, high = np.nanmin(self.period), np.nanmax(self.period)
        return f"{words}; period {low:.5g}" + ("" if low == high else f" to {high:.5g}")


def find_cycles(
    network: AbstractDynamics | Callable,
    inputs: Float[Array, "*batch k"],
    x0: Float[Array, "*batch n"] | None = None,
    *,
    period: float | Float[Array, "*batch"] | None = None,
    points: int = 64,
    method: Flow | None = None,
) -> Cycles:
    """Periodic orbits: period, points, Floquet multipliers and stability.

    **Arguments:**

    - `network`: any dynamics or map that `find_fixed_points` accepts.
    - `inputs`: shape `(..., k)`.
    - `x0`: where trajectories start, any shape that broadcasts to `(..., n)`; zeros if absent. With
      `period`, guesses of a point on the orbit, which may then be unstable.
    - `period`: guesses of the period, any shape that broadcasts to `(...)`; whole numbers of steps
      for a map. If absent, every input is settled first, and the orbits of those that are
      `OSCILLATING` are found. A multiple of the period passes as the period if it is guessed.
    - `points`: points along the orbit.
    - `method`: the `Flow` by which they are settled. Its `solver` and `max_steps`, if above 4096,
      are those of a turn as well.

    **Returns:** `Cycles`. `found` is False where nothing oscillates, where the guess is too far
    from an orbit, and where a turn takes more than `max_steps`: stiff orbits ask for more of them,
    or for an implicit `solver`.

    **Raises:** as `find_fixed_points`; `ValueError` for periods that are not positive, or not whole
    for a map.

    **Example:**

    ```python
    def hopf(t, x, i):
        radius = i[0] - x @ x
        return radius * x + 2 * jnp.asarray([-x[1], x[0]])

    cycle = eqb.find_cycles(hopf, jnp.asarray([1.0]), jnp.asarray([0.1, 0.0]))
    print(f"{cycle.period:.3f}", cycle.stable, f"{abs(cycle.multipliers[1]):.5f}")
    # > 3.142 True 0.00187
    ```
    """
    points = _checks.integer("points", points)
    flow = as_flow(method)
    network, inputs, x0 = as_problem(network, inputs, x0)
    batch, iterated = inputs.shape[:-1], is_map(network)
    if period is None:
        # Where the orbit is guessed from has no part in any derivative.
        fixed, i, start = without_derivatives((network, inputs, x0))
        at_rest = find_fixed_points(fixed, i, x0=start, method=flow)
        guess = at_rest.state
        turn = jnp.where(at_rest.outcome == Outcome.OSCILLATING, at_rest.period, jnp.nan)
    else:
        turn = _guesses(period, batch, inputs.dtype, iterated)
        guess = jnp.zeros((*batch, network.num_neurons), inputs.dtype) if x0 is None else x0
    longest = 0
    if iterated:
        why = "the length of a map's cycle is that of a program"
        name = "network" if period is None else "period"
        _checks.outside_of_jit(name, turn, why=why, error=ValueError)
        longest = int(np.max(np.asarray(turn), initial=0, where=np.isfinite(turn)))
    flat = (inputs.reshape(-1, inputs.shape[-1]), guess.reshape(-1, guess.shape[-1]), turn.ravel())
    traced = not _checks.all_concrete(network, inputs)
    solver = diffrax.Tsit5() if flow.solver is None else flow.solver
    found = _shoot(network, *flat, points, longest, traced, solver, max(STEPS, flow.max_steps))
    return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), found)


STEPS = 4096
"""Solver steps of one turn, at least."""

NEWTON_STEPS = 12
"""Of the search, after which the best of its points is judged."""

ORDER = 2
"""Order to which derivatives are right. A step of Newton's method with a matrix that does not
depend on the parameters gives one order more."""


def _guesses(period: Any, batch: tuple[int, ...], dtype: Any, iterated: bool) -> Any:
    """Guesses of the period for each input; by NumPy where they are known, inside `jax.jit` too."""
    if not _checks.all_concrete(period):
        return jnp.broadcast_to(jnp.asarray(period, dtype), batch)
    turn = np.asarray(period, dtype)
    if not (turn > 0).all():
        _checks.fail("period", "be positive", f"is {period}", page="how-to/cycles")
    if iterated and (turn % 1 != 0).any():
        must = "hold whole numbers of steps for a map"
        _checks.fail("period", must, f"is {period}", page="how-to/cycles")
    return np.broadcast_to(turn, batch)


@alone
@eqx.filter_jit
def _shoot(
    network: AbstractDynamics, inputs: Array, guess: Array, turn: Array, points: int, longest: int,
    traced: bool, solver: diffrax.AbstractSolver, max_steps: int,
) -> Cycles:  # fmt: skip
    n, dtype = guess.shape[1], guess.dtype
    unit = float(jnp.finfo(dtype).eps)
    rtol = max(10 * unit, 1e-11)
    iterated = is_map(network)
    zero, one, tiny = jnp.zeros((), dtype), jnp.ones((), dtype), jnp.finfo(dtype).tiny

    def field(t, z, args):
        network, i, period, size = args
        return period * network.vector_field(zero, size * z, i) / size

    def follow(network, i, y, size, adjoint) -> Any:
        """Where the state is after the period, and points on the way there."""
        x, period = y[:n], y[n]
        if iterated:

            def step(x, k):
                return jnp.where(k < period, network.step(x, i), x), x

            end, path = jax.lax.scan(step, x, jnp.arange(longest))
            path = jnp.concatenate([path, end[None]])
            return end, path[jnp.arange(points) % jnp.maximum(period, 1).astype(int)]
        times = jnp.linspace(0, 1, points, endpoint=False, dtype=dtype)
        saved = [diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True)]
        # In units of each component's size, so that one tolerance serves for all.
        ys: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(field), solver, zero, one, None, x / size, (network, i, period, size),
            saveat=diffrax.SaveAt(subs=saved), max_steps=max_steps, adjoint=adjoint, throw=False,
            stepsize_controller=diffrax.PIDController(rtol, rtol),
        ).ys  # fmt: skip
        return ys[1][0] * size, ys[0] * size

    def size_of(path):
        """The largest size of each component, but for those that are rounding beside others."""
        size = jnp.max(jnp.abs(path), axis=0)
        size = jnp.maximum(size, unit**2 * jnp.max(size))
        return jnp.where(size > 0, size, 1)

    def shoot(i, a, turn):
        a, turn = jax.lax.stop_gradient((a, turn))
        sound = jnp.isfinite(turn) & jnp.all(jnp.isfinite(a)) & jnp.all(jnp.isfinite(i))
        i, a, turn = jnp.where(sound, i, 0), jnp.where(sound, a, 0), jnp.where(sound, turn, 1)
        fixed, i_fixed, _ = without_derivatives((network, i, None))
        velocity = fixed.vector_field(zero, a, i_fixed)
        first = jnp.append(a, turn)

        def section(size):
            """The normal of the section through the first guess, as if all components were of one
            size; of a map, the number of steps is given."""
            if iterated:
                return jnp.eye(n + 1, dtype=dtype)[n]
            normal = velocity / size**2
            return jnp.append(normal / jnp.maximum(jnp.max(jnp.abs(normal)), tiny), 0)

        def newton(k, carry):
            y, size, normal, best = carry

            def residual(y):
                end, path = follow(fixed, i_fixed, y, size, diffrax.ForwardMode())
                return end - y[:n], (end - y[:n], path)

            matrix, (off, path) = jax.jacfwd(residual, has_aux=True)(y)
            ended = jnp.all(jnp.isfinite(path))
            size = jnp.where(ended, size_of(path), size)
            normal = jnp.where(k == 0, section(size), normal)
            matrix = jnp.concatenate([matrix, normal[None]])
            error = jnp.where(ended, jnp.max(jnp.abs(off) / size), jnp.inf)
            new = (error, y, matrix, off, path, size)
            best = jax.tree.map(lambda new, old: jnp.where(error < best[0], new, old), new, best)
            y -= jnp.linalg.solve(matrix, jnp.append(off, normal @ (y - first)))
            return y, size, normal, best

        # Of a harmonic oscillation, the amplitude.
        size = size_of(jnp.stack([a, turn / (2 * jnp.pi) * velocity]))
        none, matrix = jnp.full((points, n), jnp.inf, dtype), jnp.eye(n + 1, dtype=dtype)
        best = (none[0, 0], first, matrix, none[0], none, size)
        carry = (first, size, first, best)
        _, _, normal, best = jax.lax.fori_loop(0, NEWTON_STEPS, newton, carry)
        error, y, matrix, off, path, size = best
        # A point at rest returns after any time.
        wide = jnp.max((jnp.max(path, axis=0) - jnp.min(path, axis=0)) / size)
        ok = sound & (error <= 100 * rtol) & (y[n] > 0) & (wide > 1e3 * rtol)
        ok &= jnp.max(jnp.abs(y[:n] - a) / size) <= 2 * wide
        if traced:
            # Steps of Newton's method, whose derivatives are those of the theorem. Where there is
            # no orbit, they stay where no time passes, and all derivatives are zero.
            y, size = jnp.where(ok, y, jnp.append(a, 0)), jnp.where(ok, size, 1)
            safe = jnp.where(ok, matrix, jnp.eye(n + 1, dtype=dtype))

            def step(_, y):
                end, _ = follow(network, i, y, size, diffrax.DirectAdjoint())
                off = jnp.append(end - y[:n], normal @ (y - first))
                return y - jnp.linalg.solve(safe, jnp.where(ok, off, 0))

            y = jax.lax.fori_loop(0, ORDER, step, y)
            path = follow(network, i, y, size, diffrax.DirectAdjoint())[1]
        monodromy = matrix[:n, :n] + jnp.eye(n, dtype=dtype)
        return y[:n], y[n], path, monodromy, ok, jnp.max(jnp.abs(off))

    with exactly():
        rows = (inputs, guess, turn)
        found = jax.lax.map(lambda row: shoot(*row), rows, batch_size=64)
    x, period, path, monodromy, ok, least = found
    x, period, path, least = (
        jnp.where(ok.reshape(-1, *[1] * (a.ndim - 1)), a, jnp.nan) for a in (x, period, path, least)
    )
    multipliers = _multipliers(monodromy, ok)
    sizes = jnp.abs(multipliers)
    if not iterated:
        # The one along the orbit is 1.
        along_orbit = jnp.argmin(jnp.abs(multipliers - 1), axis=1)
        sizes = sizes.at[jnp.arange(len(sizes)), along_orbit].set(0)
    stable = ok & jnp.all(sizes < 1 - unit**0.5, axis=1)
    return Cycles(x, period, path, multipliers, stable, ok, least)


def _multipliers(matrices: Array, ok: Array) -> Array:
    """Eigenvalues by LAPACK on the host, largest first; NaN where there is no cycle."""
    kind = jnp.result_type(matrices.dtype, jnp.complex64)

    def on_host(matrices, ok):
        sound = ok & np.isfinite(matrices).all(axis=(1, 2))
        safe = np.where(sound[:, None, None], matrices, 0).astype(float)
        values = np.linalg.eigvals(safe).astype(complex)
        order = np.argsort(-np.abs(values), axis=1, kind="stable")
        values = np.take_along_axis(values, order, 1)
        values[~sound] = np.nan
        return values.astype(kind)

    shape = jax.ShapeDtypeStruct(matrices.shape[:2], kind)
    return jax.pure_callback(on_host, shape, matrices, ok, vmap_method="sequential")
