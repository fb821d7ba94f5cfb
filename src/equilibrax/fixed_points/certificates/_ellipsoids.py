r"""Ellipsoids that trap: P with J'P + PJ < 0, by which J is proven to be Hurwitz.

Along x' = J (x - x*) the function (x - x*)' P (x - x*) falls, so that no trajectory leaves one of
its ellipsoids.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._types import Flag, Matrix
from ._powers import exponential


class Ellipsoid(eqx.Module):
    """P with J'P + PJ < 0, its inverse, and whether all that is proven; and the integral of
    exp(t J), as far as it was doubled."""

    p: Matrix
    inverse: Matrix
    proven: Flag
    integral: Matrix

    def reach(self, rows: Float[Array, "k n"]) -> Float[Array, " k"]:
        """c P^-1 c' for each row c: the square of how far c x gets on the ellipsoid x'Px = 1."""
        return jnp.sum((rows @ self.inverse) * rows, axis=1)


def solve_lyapunov(jacobian: Matrix, wanted: Flag) -> Ellipsoid:
    r"""The solution P of J'P + PJ = -I, nearly; proven, where wanted, to have a negative definite
    left side, so that J is Hurwitz.

    It is the integral of exp(t J)' exp(t J) over all t > 0, doubled with t from a first step h of
    the trapezoidal rule,

        P_2t = P_t + exp(t J)' P_t exp(t J),    P_h = h (I + exp(h J)' exp(h J)) / 2,

    until |exp(t J)| is below one: by then J'P + PJ = -I + exp(t J)' exp(t J). The left side is
    computed from P itself, and must be within 1 of -I in the Frobenius norm, rounding included.
    Newton's iteration X <- X (2 - P X) for the inverse converges from I / |P| only if P is positive
    definite.
    """
    n = jacobian.shape[0]
    j, eye = jacobian, jnp.eye(n, dtype=jacobian.dtype)
    unit = jnp.finfo(j.dtype).eps
    first, h = exponential(j, doublings=10)
    power = eye + first

    def unfinished(carry):
        _, _, part, k = carry
        norm = jnp.linalg.norm(eye + part)
        return wanted & (norm > 0.7) & (norm < 1e6) & (k < 48)

    def double(carry):
        p, integral, part, k = carry
        inner = p + p @ part
        doubled = 2 * integral + integral @ part
        return p + inner + part.T @ inner, doubled, 2 * part + part @ part, k + 1

    start = (h / 2 * (eye + power.T @ power), h / 2 * (eye + power), first, 0)
    p, integral, *_ = jax.lax.while_loop(unfinished, double, start)
    p = (p + p.T) / 2
    half = j.T @ p
    rounding = n * unit * jnp.linalg.norm(j) * jnp.linalg.norm(p)
    error = jnp.linalg.norm(half + half.T + eye) + 2 * rounding
    p = jnp.where(wanted & (error < 1), p, eye)

    def left(x):
        return jnp.linalg.norm(eye - p @ x)

    def improvable(carry):
        _, rest, k = carry
        return (k < 64) & (rest > 8 * n * unit)

    def improve(carry):
        x, rest, k = carry
        better = 2 * x - x @ (p @ x)
        now = left(better)
        # At the limit of rounding it ends.
        stop = (rest < 0.1) & (now > rest / 2)
        return better, now, jnp.where(stop, 64, k + 1)

    start = eye / jnp.linalg.norm(p)
    x, rest, _ = jax.lax.while_loop(improvable, improve, (start, left(start), 0))
    # P^-1 = X (1 - R)^-1 with R = 1 - P X.
    inverse = (x + x.T) / 2 / (1 - jnp.minimum(rest, 0.5))
    return Ellipsoid(p, inverse, wanted & (error < 1) & (rest < 0.1), integral)
