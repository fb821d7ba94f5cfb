"""Linear systems with the Jacobian; without the matrix where weights have structure."""

import jax
import jax.numpy as jnp
import lineax as lx

from .._types import Vector
from ..networks import AbstractDynamics, is_structured, push
from ..networks.weights import LowRank
from ._linalg import solve


def solve_jacobian(
    network: AbstractDynamics, x: Vector, i: Vector, b: Vector, *, transpose: bool = False
) -> Vector:
    """M^-1 b, or its transpose, with M = T J at x.

    Where weights have structure, M = W S - 1 or S W - 1, S being the slopes, is not built. For
    W = U V' + d it is solved by the identity of Sherman, Morrison and Woodbury,

        (A + P Q')^-1 b = y - A^-1 P (1 + Q' A^-1 P)^-1 Q' y,    y = A^-1 b,    A = d S - 1;

    for other weights by GMRES, to the dtype's rounding; NaN where that does not converge.
    """
    if not is_structured(network):
        matrix = network.jacobian(x, i) * network.tau[:, None]
        return solve(matrix.T if transpose else matrix, b)
    slope = network.transfer.derivative(network.drive(x, i))
    weights, slopes_first = network.weights, network.convention == "voltage"
    if transpose:
        weights, slopes_first = weights.T, not slopes_first
    if isinstance(weights, LowRank):
        a = weights.diagonal * slope - 1
        p, q = weights.left, weights.right
        if slopes_first:
            q = slope[:, None] * q
        else:
            p = slope[:, None] * p
        y, scaled = b / a, p / a[:, None]
        inner = jnp.eye(p.shape[1], dtype=b.dtype) + q.T @ scaled
        return y - scaled @ solve(inner, q.T @ y) if p.shape[1] else y
    structure = jax.ShapeDtypeStruct(b.shape, b.dtype)
    operator = lx.FunctionLinearOperator(lambda d: push(weights, slope, d, slopes_first), structure)
    close = float(jnp.finfo(b.dtype).eps) ** 0.85
    gmres = lx.GMRES(rtol=close, atol=close, restart=min(len(b), 40), max_steps=1000)
    size = jnp.max(jnp.abs(b))
    found = lx.linear_solve(operator, b / jnp.where(size > 0, size, 1), gmres, throw=False)
    settled = (found.result == lx.RESULTS.successful) | (size == 0)
    return jnp.where(settled, size * found.value, jnp.nan)
