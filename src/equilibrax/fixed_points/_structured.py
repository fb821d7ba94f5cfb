"""Linear systems of networks whose weights have structure, without the matrix."""

import jax
import jax.numpy as jnp
import lineax as lx

from .._types import Vector
from ..networks import RateNetwork
from ..networks.weights import LowRank
from ._linalg import solve


def solve_structured(
    network: RateNetwork, x: Vector, i: Vector, b: Vector, *, transpose: bool = False
) -> Vector:
    """M^-1 b, or its transpose, without the matrix M = W S - 1 or S W - 1, S being the slopes.

    For W = U V' + d by the identity of Sherman, Morrison and Woodbury,

        (A + P Q')^-1 b = y - A^-1 P (1 + Q' A^-1 P)^-1 Q' y,    y = A^-1 b,    A = d S - 1;

    for other weights by GMRES, to the dtype's rounding; NaN where that does not converge.
    """
    slope = network.transfer.derivative(network.drive(x, i))
    weights = network.weights
    if isinstance(weights, LowRank):
        a = weights.diagonal * slope - 1
        p, q = weights.left, weights.right
        if network.convention == "voltage":
            q = slope[:, None] * q
        else:
            p = slope[:, None] * p
        p, q = (q, p) if transpose else (p, q)
        y, scaled = b / a, p / a[:, None]
        inner = jnp.eye(p.shape[1], dtype=b.dtype) + q.T @ scaled
        return y - scaled @ solve(inner, q.T @ y) if p.shape[1] else y
    move = network.pull if transpose else network.push
    structure = jax.ShapeDtypeStruct(b.shape, b.dtype)
    operator = lx.FunctionLinearOperator(lambda d: move(slope, d), structure)
    close = float(jnp.finfo(b.dtype).eps) ** 0.85
    gmres = lx.GMRES(rtol=close, atol=close, restart=min(len(b), 40), max_steps=1000)
    size = jnp.max(jnp.abs(b))
    found = lx.linear_solve(operator, b / jnp.where(size > 0, size, 1), gmres, throw=False)
    settled = (found.result == lx.RESULTS.successful) | (size == 0)
    return jnp.where(settled, size * found.value, jnp.nan)
