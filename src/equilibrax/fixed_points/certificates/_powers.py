r"""Proofs of stability by squaring: matrix products alone.

Let B = I + h J. If |B^m| < 1 in any norm, every eigenvalue lambda of J has |1 + h lambda| < 1, so
that J is Hurwitz, and

    Re lambda <= (|B^m|^(1/m) - 1) / h .

With m = 2^k and B^m = I + E_k,

    E_0 = h J,    E_(k+1) = 2 E_k + E_k^2,

where doubling is exact: as long as E_k is small, so is what rounding adds to it. With a for the
size of the matrix and u for the rounding unit, the computed powers are off by no more than

    e_0 = 4 u |E_0|_F,    e_(k+1) = 2 |I + E_k| e_k + e_k^2 + (a + 2) u |E_k|_F^2 + 3 u |E_k|_F

in the spectral norm. |B^m| is bounded by |I + E_k|_F + e_k, and by the square of the bound before.
The same powers give the inverse, h times the sum of all B^j with j < 2m,

    Q_0 = h (I + B),    Q_(k+1) = Q_k (I + B^(2m)) = 2 Q_k + Q_k E_(k+1),

so that -J^-1 = Q_k up to |B^(2m)|, of which each of Newton's steps makes an error smaller: if
J e + r = 0, then e = Q_k r + B^(2m) e.

The flow itself is a mean of powers, by Poisson's weights:

    exp(J t) = e^(-t/h) exp(B t/h) = sum_k e^(-t/h) (t/h)^k / k! B^k ,

so that no deviation ever exceeds what some B^k makes of it.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import Matrix, Scalar, Vector
from .._accuracy import CONTRACTED, MOST_SQUARINGS


def exponential(jacobian: Matrix) -> tuple[Matrix, Scalar]:
    """exp(h J) - I and h, which is 2^-`doublings` / |J|; to third order in h J."""
    eye = jnp.eye(len(jacobian), dtype=jacobian.dtype)
    size = jnp.linalg.norm(jacobian)
    h = 2.0 ** -doublings(jacobian.dtype) / jnp.where(size > 0, size, 1)
    z = h * jacobian
    return z @ (eye + (z @ (eye + z / 3)) / 2), h


def doublings(dtype: Any) -> int:
    """How often the first step of `exponential` is doubled until |t J| is one. What its Taylor sum
    leaves out, (t J)^4 / 24, is less than the rounding of t J then."""
    return max(10, math.ceil(-math.log2(24 * float(jnp.finfo(dtype).eps)) / 3))


PerRow = Float[Array, " rows"]


class Powers(eqx.Module):
    """Powers of B = I + h J for many J at once.

    - `inverse`: Q, nearly -J^-1.
    - `norm`: a proven bound on |B^m|, m being the last power; not below 1 where nothing is proven.
    - `slip`: a proven bound on what rounding left of Q.
    - `total`: a proven bound on the sum of |B^j| over all j; and `highest`, on each of them.
    - `bound`: a bound on the spectral abscissa of J, proven where it is negative.
    """

    inverse: Float[Array, "rows a a"]
    slip: PerRow
    norm: PerRow
    total: PerRow
    highest: PerRow
    bound: PerRow

    def __init__(
        self,
        first: Float[Array, "rows a a"],
        step: Scalar | PerRow,
        growth: Scalar | PerRow,
        wanted: Bool[Array, " rows"],
        doubt: Scalar | PerRow | float = 0.0,
    ):
        """Square until |B^m| is below `CONTRACTED`.

        `first` is E_0, of the rows that are wanted, `step` is h, `growth` is a bound on |B|, and
        `doubt` on what E_0 may be off besides its own rounding.
        """
        rows, a, _ = first.shape
        unit = jnp.finfo(first.dtype).eps / 2

        def size(part):
            """|E|_F."""
            return jnp.sqrt(jnp.sum(jnp.sum(jnp.square(part), axis=1), axis=1)) * (1 + a * unit)

        def distance(part):
            """|I + E|_F."""
            return size(part + jnp.eye(a, dtype=part.dtype))

        def going(norm):
            return wanted & (norm > CONTRACTED) & (norm < 1e6)

        def unfinished(carry):
            k, _, _, _, norm, *_ = carry
            return (k < MOST_SQUARINGS) & jnp.any(going(norm))

        def double(carry):
            k, part, inverse, slip, norm, error, total, highest, m = carry
            on, length = going(norm), size(part)
            error_now = 2 * norm * error + error**2 + (a + 2) * unit * length**2 + 3 * unit * length
            square = 2 * part + part @ part
            norm_now = jnp.minimum(distance(square) + error_now, norm**2)
            longer = 2 * inverse + inverse @ square
            slip = slip * (1 + norm_now) + size(inverse) * (
                error_now + (a + 3) * unit * size(square)
            )
            slip += 2 * unit * size(longer)
            highest *= jnp.maximum(1, norm)
            new = (square, longer, slip, norm_now, error_now, total * (1 + norm), highest, 2 * m)

            def where_on(a, b):
                return jnp.where(on.reshape(-1, *[1] * (a.ndim - 1)), a, b)

            return k + 1, *map(where_on, new, carry[1:])

        one = jnp.ones(rows, first.dtype)
        # Of a Jacobian that is rounded three times.
        error = 4 * unit * size(first) + doubt
        norm = jnp.minimum(distance(first), growth) + error
        inverse = jnp.reshape(step, (-1, 1, 1)) * (2 * jnp.eye(a, dtype=first.dtype) + first)
        slip = step * error + 2 * unit * size(inverse)
        carry = (jnp.zeros((), jnp.int32), first, inverse, slip, norm, error, one, one, one)
        ended = jax.lax.while_loop(unfinished, double, carry)
        _, _, self.inverse, slip, self.norm, _, total, highest, m = ended
        proven = self.norm < 1
        self.total = jnp.where(proven, total / (1 - self.norm), jnp.inf)
        self.highest = jnp.where(proven, jnp.minimum(highest, self.total), jnp.inf)
        self.slip = jnp.where(proven, slip, jnp.inf)
        self.bound = jnp.where(proven, jnp.expm1(jnp.log(self.norm) / m) / step, jnp.inf)

    def solve(self, v: Float[Array, "rows a"]) -> Float[Array, "rows a"]:
        """Q v, nearly -J^-1 v."""
        return jnp.einsum("rab,rb->ra", self.inverse, v)

    def solution_bound(self, v: Float[Array, "rows a"]) -> Float[Array, "rows a"]:
        """Bounds on the components of J^-1 w for all w of which no component is larger than v's."""
        sizes = 1.01 * jnp.einsum("rab,rb->ra", jnp.abs(self.inverse), v)
        square, hidden = jnp.square(self.norm), self.slip * length(v, axis=1)
        rest = hidden + square / (1 - square) * (length(sizes, axis=1) + hidden)
        return sizes + rest[:, None]


def length(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """|x|, a little more, of numbers whose squares may overflow or vanish."""
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    scaled = x / jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    norm = jnp.sqrt(jnp.sum(jnp.square(scaled), axis=axis))
    return 1.001 * norm * jnp.squeeze(largest, axis)


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


def norm_bound(matrices: Float[Array, "rows n n"]) -> PerRow:
    """A bound on the spectral norms: the geometric means of the largest row and column sums."""
    sizes = jnp.abs(matrices)
    squares = jnp.max(jnp.sum(sizes, axis=1), axis=1) * jnp.max(jnp.sum(sizes, axis=2), axis=1)
    bound = jnp.sqrt(squares) * (1 + matrices.shape[1] * jnp.finfo(matrices.dtype).eps)
    return jnp.where(bound > 0, bound, 1)
