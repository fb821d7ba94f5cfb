r"""Spectra of Jacobians, by matrix products and inverses alone: no eigenvalue is computed.

The spectral abscissa alpha, the largest real part of the eigenvalues of J, is the rate at which
exp(t J) grows in the long run,

    alpha = lim_(t -> oo)  log |exp(t J)| / t ,

and squaring doubles t. A first step of h = c / |J| is a third-order Taylor sum, which is off by no
more than the rounding of J; c is so small that it has to be squared with the identity left out, as
in `_powers`, until |t J| is about one. From there on every power is scaled to norm one, until
log |exp(t J)| is off by less than the rounding of t alpha. Unlike the eigenvalues of LAPACK, which
go to the host on a GPU and are computed one by one, that is a row of products for all matrices of a
batch.

A map x <- F(x, i) grows with the powers of A = dF/dx instead, at the rate

    log rho = lim_(m -> oo)  log |A^m| / m

of its spectral radius. What grows of a deviation d is its part in the eigenspaces of eigenvalues to
the right of the imaginary axis; those of multipliers beyond the unit circle are mapped there by
(A - I)(A + I)^-1.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._types import Flag, Matrix, Scalar, Vector
from ...networks import AbstractDynamics, is_map
from .._linalg import after, inverse
from ._powers import balance, doublings, exponential


def spectral_abscissa(jacobian: Matrix) -> Scalar:
    """Largest real part of the eigenvalues, in 1/time; NaN if the matrix is not finite.

    It is off by some roundings of |J|, like computed eigenvalues.
    """
    # Units of the neurons in which J is as near to normal as units can make it: a chain of neurons
    # would grow by powers of t, beyond all numbers.
    scale = balance(jacobian)
    return abscissa_of_balanced(scale[:, None] * jacobian / scale)


def abscissa_of_balanced(jacobian: Matrix) -> Scalar:
    """The spectral abscissa of a Jacobian in balanced units."""
    unit = float(jnp.finfo(jacobian.dtype).eps)
    eye, times = jnp.eye(len(jacobian), dtype=jacobian.dtype), doublings(jacobian.dtype)
    part, h = exponential(jacobian)
    part = jax.lax.fori_loop(0, times, lambda _, e: 2 * e + e @ e, part)

    def square(k, carry):
        power, rate, _ = carry
        double = power @ power
        norm = jnp.linalg.norm(double)
        fits = norm > jnp.finfo(power.dtype).tiny
        # log |exp(t J)| / t in units of the first t, and half as long ago.
        new = (double / norm, rate + jnp.log(norm) * 0.5 ** (k + 1), rate)
        return jax.tree.map(lambda a, b: jnp.where(fits, a, b), new, carry)

    power = eye + part
    norm = jnp.linalg.norm(power)
    rate = jnp.log(norm)
    squarings = math.ceil(-math.log2(unit)) + 4
    _, rate, before = jax.lax.fori_loop(0, squarings, square, (power / norm, rate, rate))
    # What does not grow with t cancels in the difference of two logarithms.
    rate = (2 * rate - before) / (2.0**times * h)
    return jnp.where(jnp.all(jnp.isfinite(jacobian)), rate, jnp.nan)


def unstable_projection(jacobian: Matrix, wanted: bool | jax.Array = True) -> Matrix:
    r"""The projection onto the unstable eigenspace, along the stable one.

    It is (I + sign(J)) / 2, where the matrix sign is the limit of the scaled Newton
    iteration S <- (c S + (c S)^-1) / 2, c = sqrt(|S^-1| / |S|). N. J. Higham, Functions of
    Matrices (2008), ch. 5, doi:10.1137/1.9780898717778.

    `wanted=False` spares the iterations, for the lanes of a batch that do not need it.
    """
    n = jacobian.shape[0]
    limit = 40

    def step(carry):
        sign, _, k = carry
        back = inverse(sign)
        scale = jnp.sqrt(jnp.linalg.norm(back) / jnp.linalg.norm(sign))
        new = (scale * sign + back / scale) / 2
        change = jnp.max(jnp.abs(new - sign)) / jnp.max(jnp.abs(new))
        return new, change, k + 1

    def unfinished(carry):
        _, change, k = carry
        tolerance = 10 * n * jnp.finfo(jacobian.dtype).eps
        return wanted & (change > tolerance) & (k < limit)

    start = (jacobian, jnp.asarray(jnp.inf, jacobian.dtype), 0)
    sign = jax.lax.while_loop(unfinished, step, start)[0]
    return (jnp.eye(n, dtype=sign.dtype) + sign) / 2


def log_radius(matrix: Matrix) -> Scalar:
    """Logarithm of the spectral radius; NaN if the matrix is not finite, and -inf for a nilpotent
    one, as far as its dtype can tell."""
    n = len(matrix)
    scale = balance(matrix)
    balanced = scale[:, None] * matrix / scale
    norm = jnp.linalg.norm(balanced)
    rate = jnp.log(norm)

    def square(k, carry):
        power, rate, _ = carry
        double = power @ power
        norm = jnp.linalg.norm(double)
        # log |A^m| / m, and half as many steps ago.
        return double / jnp.where(norm > 0, norm, 1), rate + jnp.log(norm) * 0.5 ** (k + 1), rate

    squarings = math.ceil(-math.log2(float(jnp.finfo(matrix.dtype).eps))) + math.ceil(math.log2(n))
    start = (balanced / jnp.where(norm > 0, norm, 1), rate, rate)
    _, rate, before = jax.lax.fori_loop(0, squarings, square, start)
    # What does not grow with m cancels; a nilpotent matrix has no rate.
    rate = jnp.where(jnp.isfinite(rate), 2 * rate - before, -jnp.inf)
    return jnp.where(jnp.all(jnp.isfinite(matrix)), rate, jnp.nan)


def growth_rate(network: AbstractDynamics, x: Vector, i: Vector) -> Scalar:
    """The spectral abscissa of the Jacobian at x, or a map's logarithm of the spectral radius."""
    jacobian = network.jacobian(x, i)
    if not is_map(network):
        return spectral_abscissa(jacobian)
    return log_radius(jacobian + jnp.eye(x.size, dtype=x.dtype))


def growing_part(
    network: AbstractDynamics, x: Vector, i: Vector, d: Float[Array, "n k"], wanted: Flag
) -> Float[Array, "n k"]:
    """The parts of d's columns that grow at x, where that is wanted."""
    jacobian = after(network.jacobian(x, i), d)
    if is_map(network):
        jacobian = jacobian @ inverse(jacobian + 2 * jnp.eye(x.size, dtype=x.dtype))
    return unstable_projection(jacobian, wanted) @ d
