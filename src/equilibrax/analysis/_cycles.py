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
    - `found`: whether Newton's method converged.
    - `residual`: the largest component of phi_T(x) - x.

    `state`, `period` and `orbit` carry derivatives in the network and the inputs, by the implicit
    function theorem on the section.

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
      `OSCILLATING` are found.
    - `points`: points along the orbit.
    - `method`: the `Flow` by which they are settled.

    **Returns:** `Cycles`.

    **Raises:** as `find_fixed_points`; `ValueError` for periods that are not positive.

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
    network, inputs, x0 = as_problem(network, inputs, x0)
    batch = inputs.shape[:-1]
    if period is None:
        # Where the orbit is guessed from has no part in any derivative.
        fixed, i, start = without_derivatives((network, inputs, x0))
        at_rest = find_fixed_points(fixed, i, x0=start, method=method)
        guess = at_rest.state
        turn = jnp.where(at_rest.outcome == Outcome.OSCILLATING, at_rest.period, jnp.nan)
    else:
        turn = jnp.asarray(period, inputs.dtype)
        if _checks.is_concrete(turn) and not bool(jnp.all(turn > 0)):
            _checks.fail("period", "be positive", f"is {period}", page="how-to/cycles")
        turn = jnp.broadcast_to(turn, batch)
        guess = jnp.zeros((*batch, network.num_neurons), inputs.dtype) if x0 is None else x0
    flat = (inputs.reshape(-1, inputs.shape[-1]), guess.reshape(-1, guess.shape[-1]), turn.ravel())
    longest = 0
    if is_map(network):
        whole = jnp.where(jnp.isfinite(turn), turn, 0)
        why = "the length of a map's cycle is that of a program"
        _checks.outside_of_jit("network", whole, why=why, error=ValueError)
        longest = int(np.max(np.asarray(whole), initial=0))
    traced = not _checks.all_concrete(network, inputs)
    found = _shoot(network, *flat, points, longest, traced)
    return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), found)


@alone
@eqx.filter_jit
def _shoot(
    network: AbstractDynamics, inputs: Array, guess: Array, turn: Array, points: int, longest: int,
    traced: bool,
) -> Cycles:  # fmt: skip
    n, dtype = guess.shape[1], guess.dtype
    unit = float(jnp.finfo(dtype).eps)
    rtol = max(10 * unit, 1e-11)
    iterated = is_map(network)

    def solve(network, i, x, period, saveat, adjoint):
        def field(t, x, args):
            network, i, period = args
            return period * network.vector_field(jnp.zeros((), dtype), x, i)

        controller = diffrax.PIDController(rtol, rtol)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 1.0, None, x, (network, i, period),
            saveat=saveat, stepsize_controller=controller, max_steps=4096, adjoint=adjoint,
            throw=False,
        ).ys  # fmt: skip

    def steps(network, i, x, period):
        """x after so many steps of the map."""

        def step(k, x):
            return jnp.where(k < period, network.step(x, i), x)

        return jax.lax.scan(lambda x, k: (step(k, x), x), x, jnp.arange(longest))

    def end(network, i, x, period, adjoint):
        if iterated:
            return steps(network, i, x, period)[0]
        ys = solve(network, i, x, period, diffrax.SaveAt(t1=True), adjoint)
        return ys[0]  # pyright: ignore

    def along(network, i, x, period, adjoint) -> Any:
        if iterated:
            path = jnp.concatenate([steps(network, i, x, period)[1], x[None]])
            return path[jnp.arange(points) % jnp.maximum(period, 1).astype(int)]
        times = diffrax.SaveAt(ts=jnp.linspace(0, 1, points, endpoint=False, dtype=dtype))
        return solve(network, i, x, period, times, adjoint)

    def one(i, a, turn):
        sound = jnp.isfinite(turn) & jnp.all(jnp.isfinite(a))
        turn = jnp.where(sound, turn, 1)
        a = jnp.where(sound, a, 0)
        fixed = jax.lax.stop_gradient(network)
        i_fixed = jax.lax.stop_gradient(i)
        normal = fixed.vector_field(jnp.zeros((), dtype), a, i_fixed)
        normal = normal / jnp.maximum(jnp.linalg.norm(normal), jnp.finfo(dtype).tiny)
        forward = diffrax.ForwardMode()

        def gap(network, i, y, adjoint):
            x, period = y[:n], turn if iterated else y[n]
            off = end(network, i, x, period, adjoint) - x
            return off if iterated else jnp.append(off, normal @ (x - a))

        def residual(y):
            return gap(fixed, i_fixed, y, forward)

        def newton(_, carry):
            y, best, least = carry
            off, matrix = residual(y), jax.jacfwd(residual)(y)
            size = jnp.max(jnp.abs(off[:n]))
            better = size < least
            best, least = jnp.where(better, y, best), jnp.where(better, size, least)
            return y - jnp.linalg.solve(matrix, off), best, least

        y = a if iterated else jnp.append(a, turn)
        y, best, least = jax.lax.fori_loop(0, 12, newton, (y, y, jnp.asarray(jnp.inf, dtype)))
        y = best
        matrix = jax.jacfwd(residual)(y)
        scale = jnp.max(jnp.abs(fixed.scale(y[:n], i_fixed)))
        size = jnp.max(jnp.abs(y[:n] - a))
        period = turn if iterated else y[n]
        path = along(fixed, i_fixed, y[:n], period, forward)
        wide = jnp.max(jnp.max(path, axis=0) - jnp.min(path, axis=0))
        # A point at rest returns after any time.
        ok = sound & (least <= 100 * rtol * scale) & (period > 0) & (wide > 1e3 * rtol * scale)
        ok &= size <= 2 * wide
        if traced:
            # One more step of Newton's method, whose derivatives are those of the theorem.
            off = gap(network, i, jax.lax.stop_gradient(y), diffrax.DirectAdjoint())
            y = jax.lax.stop_gradient(y) - jnp.linalg.solve(jax.lax.stop_gradient(matrix), off)
            period = turn if iterated else y[n]
            path = along(network, i, y[:n], period, diffrax.DirectAdjoint())
        monodromy = matrix[:n, :n] + jnp.eye(n, dtype=dtype)
        return y[:n], period, path, jax.lax.stop_gradient(monodromy), ok, least

    with exactly():
        rows = (inputs, guess, turn)
        x, period, path, monodromy, ok, least = jax.lax.map(lambda r: one(*r), rows, batch_size=64)
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
