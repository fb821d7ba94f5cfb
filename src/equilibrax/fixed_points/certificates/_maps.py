r"""Evidence at fixed points of maps x <- F(x, i): the spectral radius of A = dF/dx in place of the
spectral abscissa of J = A - I.

The logarithm of the radius is the rate at which the powers of A grow in the long run,

    log rho = lim_(m -> oo)  log |A^m| / m ,

and squaring doubles m. A power of norm below one proves that the point attracts: `_powers` with
h = 1, so that B = I + J = A. What grows of a deviation d is its part in the eigenspaces of
multipliers beyond the unit circle, which (A - I)(A + I)^-1 maps to the right half-plane.
"""

import math

import jax
import jax.numpy as jnp

from ..._types import Matrix, Scalar
from .._linalg import inverse
from .._speed import judged_rows
from ..stepping import in_blocks
from ._base import NoCertificate, Proof
from ._polished import PolishedPoint
from ._powers import Powers, balance
from ._spectrum import unstable_projection


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


def _log_radius_at(network, x, i) -> Scalar:
    return log_radius(network.jacobian(x, i) + jnp.eye(x.size, dtype=x.dtype))


def _growing_part(network, x, i, d, wanted):
    eye = jnp.eye(x.size, dtype=x.dtype)
    jacobian = network.jacobian(x, i)
    return unstable_projection(jacobian @ inverse(jacobian + 2 * eye), wanted) @ d


def _log_radii(network, x, inputs, queue):
    def treat(radius, x, i, valid):
        del radius, valid
        return jax.vmap(lambda x, i: _log_radius_at(network, x, i))(x, i)

    unknown = jnp.full(len(x), jnp.nan, x.dtype)
    return in_blocks(queue, judged_rows(network.num_neurons), treat, unknown, x, inputs)


class MapSpectrum(NoCertificate):
    """No evidence but the spectral radius."""

    def abscissas(self, network, x, inputs, queue):
        return _log_radii(network, x, inputs, queue)

    def abscissa_at(self, network, x, i):
        return _log_radius_at(network, x, i)

    def unstable_part(self, network, x, i, d, wanted):
        return _growing_part(network, x, i, d, wanted)


class MapPoint(PolishedPoint):
    """Proofs that a map's polished point attracts."""

    def powers(self, jacobian, wanted):
        one = jnp.ones(len(jacobian), jacobian.dtype)
        # No bound on |A| but its own norm is known.
        return Powers(jacobian, one, jnp.full_like(one, jnp.inf), wanted)

    def prove(self, network, x, inputs, queue):
        proof = super().prove(network, x, inputs, queue)
        # |A^m|^(1/m) - 1, of which the logarithm is the rate of a step.
        return Proof(proof.evidence, proof.point, jnp.log1p(jnp.maximum(proof.bound, -1)))

    def abscissas(self, network, x, inputs, queue):
        return _log_radii(network, x, inputs, queue)

    def abscissa_at(self, network, x, i):
        return _log_radius_at(network, x, i)

    def unstable_part(self, network, x, i, d, wanted):
        return _growing_part(network, x, i, d, wanted)
