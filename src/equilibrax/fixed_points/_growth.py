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
"""

import jax.numpy as jnp

from .._types import Flag, Vector
from ..networks import RateNetwork
from ._ellipsoids import smith
from ._linalg import inverse, solve
from ._stability import unstable_projection


def grows_for_ever(network: RateNetwork, x: Vector, i: Vector) -> Flag:
    """Whether |x| is proven to grow beyond all bounds; for threshold-linear networks."""
    eye = jnp.eye(x.size, dtype=x.dtype)
    rows = eye if network.convention == "voltage" else network.weights
    u, jacobian = network.drive(x, i), network.jacobian(x, i)
    d = solve(jacobian, network.vector_field(None, x, i))
    projection = unstable_projection(jacobian)
    rate = jnp.trace(jacobian @ projection)
    single = (jnp.abs(jnp.trace(projection) - 1) < 0.01) & (rate > 0)
    p, proven = smith(jacobian - rate * (eye + projection), wanted=single)
    e = projection @ d
    r = d - e
    side = jnp.where(u > 0, 1, -1)
    bound = jnp.sqrt(r @ p @ r) * jnp.sqrt(jnp.sum((rows @ inverse(p)) * rows, axis=1))
    growth = side * (rows @ e) - 1.01 * bound
    rounding = 1e3 * jnp.finfo(x.dtype).eps * (jnp.abs(rows) @ jnp.abs(d) + jnp.abs(u))
    stays = (growth > rounding) & (side * (u - rows @ d) + growth > rounding)
    return single & proven & jnp.all(stays)
