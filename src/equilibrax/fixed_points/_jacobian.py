"""Linear systems with the Jacobian; without the matrix where weights have structure."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import lineax as lx

from .._types import Vector
from ..networks import AbstractDynamics, is_structured, push
from ..networks.weights import LowRank, StructuredWeights
from ._linalg import factored, solve

Solve = Callable[..., Vector]
"""`solve(b)` is M^-1 b; `solve(b, transpose=True)` the solution with the transpose of M."""


def factored_jacobian(network: AbstractDynamics, x: Vector, i: Vector, done: Vector) -> Solve:
    """Solutions of linear systems with M = T J at x, whose factors are computed once; after `done`.

    Where weights have structure, M = W S - 1 or S W - 1, S being the slopes, is not built. For
    W = U V' + d it is solved by the identity of Sherman, Morrison and Woodbury,

        (A + P Q')^-1 b = y - A^-1 P (1 + Q' A^-1 P)^-1 Q' y,    y = A^-1 b,    A = d S - 1;

    for other weights by GMRES, to the dtype's rounding; NaN where that does not converge.
    """
    if not is_structured(network):
        return factored(network.jacobian(x, i) * network.tau[:, None], done)
    slope = network.transfer.derivative(network.drive(x, i))

    def solve_structured(b: Vector, *, transpose: bool = False) -> Vector:
        weights, slopes_first = network.weights, network.convention == "voltage"
        if transpose:
            weights, slopes_first = weights.T, not slopes_first
        by = _by_woodbury if isinstance(weights, LowRank) else _by_gmres
        return by(weights, slope, b, slopes_first)

    return solve_structured


def solve_jacobian(
    network: AbstractDynamics, x: Vector, i: Vector, b: Vector, *, transpose: bool = False
) -> Vector:
    """M^-1 b, or its transpose, with M = T J at x."""
    return factored_jacobian(network, x, i, b)(b, transpose=transpose)


def _by_woodbury(weights: LowRank, slope: Vector, b: Vector, slopes_first: bool) -> Vector:
    a = weights.diagonal * slope - 1
    p, q = weights.left, weights.right
    if slopes_first:
        q = slope[:, None] * q
    else:
        p = slope[:, None] * p
    y, scaled = b / a, p / a[:, None]
    inner = jnp.eye(p.shape[1], dtype=b.dtype) + q.T @ scaled
    return y - scaled @ solve(inner, q.T @ y) if p.shape[1] else y


def _by_gmres(weights: StructuredWeights, slope: Vector, b: Vector, slopes_first: bool) -> Vector:
    structure = jax.ShapeDtypeStruct(b.shape, b.dtype)
    operator = lx.FunctionLinearOperator(lambda d: push(weights, slope, d, slopes_first), structure)
    close = float(jnp.finfo(b.dtype).eps) ** 0.85
    gmres = lx.GMRES(rtol=close, atol=close, restart=min(len(b), 40), max_steps=1000)
    size = jnp.max(jnp.abs(b))
    found = lx.linear_solve(operator, b / jnp.where(size > 0, size, 1), gmres, throw=False)
    settled = (found.result == lx.RESULTS.successful) | (size == 0)
    return jnp.where(settled, size * found.value, jnp.nan)
