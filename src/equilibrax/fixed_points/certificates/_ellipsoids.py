r"""Ellipsoids that trap: P with J'P + PJ < 0, by which J is proven to be Hurwitz.

Along x' = J (x - x*) the function (x - x*)' P (x - x*) falls, so that no trajectory leaves one of
its ellipsoids.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._types import Flag, Matrix, Scalar
from ._powers import exponential


class Ellipsoid(eqx.Module):
    """P with J'P + PJ <= -m, a number m > 0, P's inverse, and whether all that is proven; and then
    -J^-1."""

    p: Matrix
    inverse: Matrix
    proven: Flag
    back: Matrix
    least: Scalar

    def reach(self, rows: Float[Array, "k n"]) -> Float[Array, " k"]:
        """c P^-1 c' for each row c: the square of how far c x gets on the ellipsoid x'Px = 1."""
        return jnp.sum((rows @ self.inverse) * rows, axis=1)

    @property
    def rate(self) -> Scalar:
        """How fast |x|_P = sqrt(x'Px) falls along x' = J x at least: |x|_P' <= -rate |x|_P."""
        size = jnp.linalg.norm(self.p)
        # |P| is at most the fourth root of |P^4|_F.
        fourth = jnp.linalg.norm(jnp.linalg.matrix_power(self.p / size, 4))
        return self.least / (2.01 * size * fourth**0.25)


def solve_lyapunov(jacobian: Matrix, wanted: Flag, shift: Scalar | float = 0.0) -> Ellipsoid:
    r"""The solution P of J'P + PJ = -I, nearly; proven, where wanted, to have a negative definite
    left side, so that J is Hurwitz. J is `shift` further to the right than `jacobian`, which is so
    much more than Hurwitz, and whose inverse is returned.

    It is the integral of exp(t J)' exp(t J) over all t > 0, doubled with t from a first step h of
    the trapezoidal rule,

        P_2t = P_t + exp(t J)' P_t exp(t J),    P_h = h (I + exp(h J)' exp(h J)) / 2,

    until |exp(t J)| is below one: by then J'P + PJ = -I + exp(t J)' exp(t J). The left side is
    computed from P itself, and must be within 1 of -I in the Frobenius norm, rounding included.
    Newton's iteration X <- X (2 - A X) for the inverse of A = P converges from I / |P| only if P is
    positive definite; for that of -`jacobian`, from the integral of exp(t J).
    """
    n = jacobian.shape[0]
    eye = jnp.eye(n, dtype=jacobian.dtype)
    j = jacobian + shift * eye
    unit = jnp.finfo(j.dtype).eps
    first, h = exponential(j)
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
    hopeful = wanted & (error < 1)
    p = jnp.where(hopeful, p, eye)
    a = jnp.stack([p, jnp.where(hopeful, -jacobian, eye)])

    def left(x):
        return jnp.linalg.norm(eye - a @ x, axis=(1, 2))

    def improvable(carry):
        _, rest, k = carry
        return (k < 64) & (jnp.max(rest) > 8 * n * unit)

    def improve(carry):
        x, rest, k = carry
        better = 2 * x - x @ (a @ x)
        now = left(better)
        # At the limit of rounding it ends.
        stop = jnp.all((rest < 0.1) & (now > rest / 2))
        return better, now, jnp.where(stop, 64, k + 1)

    start = jnp.stack([eye / jnp.linalg.norm(p), jnp.where(hopeful, integral, eye)])
    x, rest, _ = jax.lax.while_loop(improvable, improve, (start, left(start), 0))
    # P^-1 = X + X R (1 - R)^-1 with R = 1 - P X, which does not commute with P.
    lengths = jnp.linalg.norm(x, axis=(1, 2))
    rest += n * unit * lengths * jnp.linalg.norm(a, axis=(1, 2))
    slack = lengths[0] * rest[0] / (1 - jnp.minimum(rest[0], 0.5))
    inverse = (x[0] + x[0].T) / 2 + slack * eye
    return Ellipsoid(p, inverse, hopeful & (jnp.max(rest) < 0.1), x[1], 1 - error)
