r"""Growth without bound, proven from the linear flow of a chamber.

Let exactly one eigenvalue lambda of the chamber's Jacobian J lie in the right half plane, let e
be the part of d = x - x* along its eigenvector and r the rest. Along the chamber's flow

    u(t) = u(x*) + exp(lambda t) (C e + C exp((J - lambda) t) r),

C being what takes d to u. The matrix K = J - lambda I - lambda Pi, Pi the projection on e, is
Hurwitz and moves r as J - lambda does. With K'P + PK < 0 the last term's component j stays
below rho sqrt(c_j P^-1 c_j'), rho^2 = r'P r. If therefore, with s_j = 1 for active and
-1 for silent neurons,

    g_j = s_j c_j e - rho sqrt(c_j P^-1 c_j') >= 0   and   s_j u_j(x*) + g_j > 0   for every j,

the trajectory never leaves the chamber, and e grows for ever.

Neurons that the growing ones do not reach have no part in the eigenvector, c_j e = 0, and r alone
moves them. For them K = J - 2 lambda Pi, which moves r as J does, bounds all that is to come:

    s_j c_j e >= 0   and   s_j (u_j(x*) + c_j e) - rho sqrt(c_j P^-1 c_j') > 0   for every j.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..._types import Flag, Matrix, Vector
from ...networks import RateNetwork, has_chambers
from .._accuracy import FAR, GROWING, STILL_GROWING
from .._linalg import solve
from .._phases import Phase
from .._result import Outcome
from .._speed import growing_rows
from .._state import State
from ..certificates import solve_lyapunov, unstable_projection
from ..stepping import Queue, in_blocks
from ._stage import Problem, Stage


def wants(problem: Problem, state: State, phase: Phase) -> Bool[Array, " m"]:
    """Trajectories that are far out and move fast for their size."""
    del problem
    speed = jnp.where(phase.final, STILL_GROWING, GROWING)
    far = (state.size > FAR * state.extent) & (state.speed > speed)
    return phase.watched & state.unsettled & far


def run(problem: Problem, state: State, phase: Phase, queue: Queue) -> State:
    """Trajectories that are proven to grow for ever need not go there: they have diverged."""
    del phase
    network = problem.network

    def treat(part: State, i, valid) -> State:
        growing = jax.vmap(lambda x, i: grows_for_ever(network, x, i))(part.x, i)
        unknown = jnp.full_like(part.abscissa, jnp.nan)
        return part.ended(growing & valid, Outcome.DIVERGED, abscissa=unknown)

    size = growing_rows(network.num_neurons)
    return in_blocks(queue, size, treat, state, problem.inputs)


GROWTH = Stage(
    "growth", wants, run, lambda problem: has_chambers(problem.network),
    uses_lapack=lambda problem: True,
)  # fmt: skip


def grows_for_ever(network: RateNetwork, x: Vector, i: Vector) -> Flag:
    """Whether |x| is proven to grow beyond all bounds; for threshold-linear networks."""
    eye = jnp.eye(x.size, dtype=x.dtype)
    rows = eye if network.convention == "voltage" else network.weights
    u, jacobian = network.drive(x, i), network.jacobian(x, i)
    projection = unstable_projection(jacobian)
    rate = jnp.trace(jacobian @ projection)
    single = (jnp.abs(jnp.trace(projection) - 1) < 0.01) & (rate > 0)

    def metric(first):
        """The ellipsoid of the first K, or of the second."""
        return solve_lyapunov(jacobian - rate * (first * eye + (2 - first) * projection), single)

    both = jnp.asarray([1, 0], x.dtype)
    ellipsoids = jax.vmap(metric)(both)
    # After all that, and only for what is proven: see `_linalg`.
    proven = jnp.any(ellipsoids.proven)
    d = solve(jacobian, jnp.where(proven, network.vector_field(None, x, i), 0))
    e = jnp.where(_reached(jacobian, projection), projection @ d, 0)
    r = d - e
    side = jnp.where(u > 0, 1, -1)
    rounding = 1e3 * jnp.finfo(x.dtype).eps * (jnp.abs(rows) @ jnp.abs(d) + jnp.abs(u))
    grows, rests = side * (rows @ e), side * (u - rows @ d)

    def stays(first, ellipsoid):
        bound = 1.01 * jnp.sqrt((r @ ellipsoid.p @ r) * ellipsoid.reach(rows))
        away = jnp.where(first > 0, grows - bound, jnp.where(grows == 0, jnp.inf, grows))
        inside = (away > rounding) & (rests + grows - bound > rounding)
        return ellipsoid.proven & jnp.all(inside)

    return jnp.any(jax.vmap(stays)(both, ellipsoids))


def _reached(jacobian: Matrix, projection: Matrix) -> Bool[Array, " n"]:
    """The neurons that the growing ones reach: those of the eigenvector's component, of which one
    is where the projection's diagonal, right times left eigenvector, is largest."""
    n = len(jacobian)
    first = jnp.arange(n) == jnp.argmax(jnp.diagonal(projection))
    linked = jnp.abs(jacobian) > 0

    def further(_, reached):
        return reached | jnp.any(linked & reached, axis=1)

    return jax.lax.fori_loop(0, n, further, first)
