r"""Ellipsoids that trap: P with J'P + PJ < 0, by which J is proven to be Hurwitz.

Along x' = J (x - x*) the function (x - x*)' P (x - x*) falls, so that no trajectory leaves one of
its ellipsoids. Two kinds of P, the cheap one first:

- diagonal, the same scaling of the neurons for all active sets, as where W is symmetric or
  nearly so in some units of the neurons; one Cholesky factorisation tells whether it serves;
- the solution of a Lyapunov equation, by Smith's doubling, otherwise.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._types import Flag, Matrix, Scalar, Vector
from .._linalg import cholesky, inverse, is_positive_definite, solve_lower


class Ellipsoid(eqx.Module):
    """P with J'P + PJ < 0, its lower Cholesky factor, and whether all that is proven."""

    p: Matrix
    factor: Matrix
    proven: Flag

    def reach(self, rows: Float[Array, "k n"]) -> Float[Array, " k"]:
        """c P^-1 c' for each row c: the square of how far c x gets on the ellipsoid x'Px = 1."""
        columns = solve_lower(self.factor, rows.T)
        return jnp.sum(jnp.square(columns), axis=0)


def cayley_shift(jacobian: Matrix) -> Scalar:
    """a of the Cayley transform: the root mean square of J's singular values."""
    return jnp.linalg.norm(jacobian) / math.sqrt(len(jacobian))


def solve_lyapunov(jacobian: Matrix, wanted: Flag, resolvent: Matrix | None = None) -> Ellipsoid:
    r"""The solution P of J'P + PJ = -I, nearly; proven, where wanted, to have a negative definite
    left side, so that J is Hurwitz.

    With the Cayley transform C = (aI + J)(aI - J)^-1, the equation becomes
    P - C'PC = 2a (aI - J)^-T (aI - J)^-1, whose series is summed 2^k terms at a time.
    After m terms,

        J'P + PJ = -I + (C^m)'C^m ,

    which is negative definite as soon as |C^m| < 1: there the sum is stopped. The left side is
    computed from P itself, and must be within 1 of -I in the Frobenius norm, rounding included.
    The `resolvent` (aI - J)^-1, a being the `cayley_shift`, may be given where it is known.

    R. A. Smith, SIAM J. Appl. Math. 16:198 (1968), doi:10.1137/0116017.
    """
    n = jacobian.shape[0]
    eye = jnp.eye(n, dtype=jacobian.dtype)
    j, a = jacobian, cayley_shift(jacobian)
    resolvent = inverse(a * eye - j) if resolvent is None else resolvent
    start = (2 * a * resolvent.T @ resolvent, (a * eye + j) @ resolvent, 0)

    def unfinished(carry):
        _, power, k = carry
        norm = jnp.linalg.norm(power)
        return wanted & (norm > 0.7) & (norm < 1e6) & (k < 24)

    def double(carry):
        p, power, k = carry
        return p + power.T @ (p @ power), power @ power, k + 1

    p = jax.lax.while_loop(unfinished, double, start)[0]
    p = (p + p.T) / 2
    half = j.T @ p
    rounding = n * jnp.finfo(p.dtype).eps * jnp.linalg.norm(j) * jnp.linalg.norm(p)
    error = jnp.linalg.norm(half + half.T + eye) + 2 * rounding
    p = jnp.where(wanted & (error < 1), p, eye)
    factor = cholesky(p)
    return Ellipsoid(p, factor, wanted & (error < 1) & jnp.all(jnp.isfinite(factor)))


def balance(weights: Float[Array, "n n"]) -> Vector:
    """Scales s of the neurons in which |S W S^-1| is least in the Frobenius norm, S = diag(s):
    in these, what is symmetric of W is least too. Each neuron's inputs and outputs are equal.

    E. E. Osborne, J. ACM 7:338 (1960), doi:10.1145/321043.321048.
    """
    n = weights.shape[0]
    tiny = jnp.finfo(weights.dtype).tiny ** 0.5
    square = jnp.square(weights * (1 - jnp.eye(n, dtype=weights.dtype)))

    def step(_, log_scale):
        scaled = square * jnp.exp(2 * (log_scale[:, None] - log_scale))
        given, taken = jnp.sum(scaled, axis=0) + tiny, jnp.sum(scaled, axis=1) + tiny
        return jnp.clip(log_scale + jnp.log(given / taken) / 8, -8, 8)

    return jnp.exp(jax.lax.fori_loop(0, 64, step, jnp.zeros_like(weights[0])))


def is_diagonally_stable(scale: Vector, matrix: Matrix, margin: Scalar) -> Flag:
    """Whether P = T S^2 serves for J = T^-1 M, M being the matrix: S M S^-1 + margin is negative
    definite, in its symmetric part, beyond rounding."""
    n = matrix.shape[0]
    scaled = scale[:, None] * matrix / scale
    slack = margin + 4 * n * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.abs(scaled))
    symmetric = -(scaled + scaled.T) / 2 - slack * jnp.eye(n, dtype=matrix.dtype)
    return is_positive_definite(symmetric)
