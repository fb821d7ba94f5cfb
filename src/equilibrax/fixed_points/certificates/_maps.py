r"""Evidence at fixed points of maps x <- F(x, i): the spectral radius of A = dF/dx in place of the
spectral abscissa of J = A - I.

The logarithm of the radius is the rate at which the powers of A grow in the long run,

    log rho = lim_(m -> oo)  log |A^m| / m ,

and squaring doubles m. A power of norm below one proves that the point attracts: `_powers` with
h = 1, so that B = I + J = A. Where that costs too much, a random vector that shrinks under A^m says
the same but for a stated probability (`_probes`). What grows of a deviation d is its part in the
eigenspaces of multipliers beyond the unit circle, which (A - I)(A + I)^-1 maps to the right
half-plane.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import Matrix, Scalar
from ...networks import AbstractMap
from .._accuracy import MOST_PROBE_STEPS, NEAR_COMPONENT, ROUNDING, UNNOTICED
from .._linalg import inverse
from .._result import Evidence
from .._speed import judged_rows, probed_rows
from ..stepping import in_blocks
from ._base import AbstractCertificate, NoCertificate, Proof, proof_in_blocks
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


class MapProbes(AbstractCertificate):
    """A random probe of dF/dx at the point that the map itself leads to.

    - `band`: the marginal abscissa, beyond which all evidence is.
    - `probe`: the random unit vector.
    """

    settling: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    early: ClassVar[float] = 0.1
    traps: ClassVar[bool] = False

    band: Float[Array, ""]
    probe: Float[Array, " n"]

    def __init__(self, network: AbstractMap, band: Float[Array, ""]):
        z = jax.random.normal(jax.random.key(0), (network.num_neurons,), network.dtype)
        self.band, self.probe = band, z / jnp.linalg.norm(z)

    def prove(self, network, x, inputs, queue):
        def treat(x, i, valid):
            return self.proof(network, x, i, valid)

        return proof_in_blocks(queue, probed_rows(network.num_neurons), treat, x, inputs)

    def proof(
        self,
        network: AbstractMap,
        x: Float[Array, "rows n"],
        i: Float[Array, "rows k"],
        wanted: Bool[Array, " rows"],
    ) -> Proof:
        """The evidence on trajectories that rest at x."""
        n, unit = x.shape[1], jnp.finfo(x.dtype).eps
        sizes = jnp.maximum(jnp.abs(x), jax.vmap(network.scale)(x, i))

        def step(x):
            return jax.vmap(network.step)(x, i)

        def moving(x, y):
            return jnp.any(jnp.abs(y - x) > 4 * ROUNDING * unit * sizes, axis=1)

        def follow(carry):
            k, x, y, going = carry
            after = step(y)
            x, y = (jnp.where(going[:, None], new, old) for new, old in ((y, x), (after, y)))
            return k + 1, x, y, going & moving(x, y)

        def unfinished(carry):
            k, *_, going = carry
            return (k < MOST_PROBE_STEPS) & jnp.any(going)

        first, none = step(x), jnp.zeros((), jnp.int32)
        _, point, after, left = jax.lax.while_loop(
            unfinished, follow, (none, x, first, wanted & moving(x, first))
        )
        near = jnp.all(jnp.abs(point - x) <= NEAR_COMPONENT * sizes, axis=1)
        sound = wanted & ~left & near & jnp.all(jnp.isfinite(after), axis=1)
        push = jax.linearize(step, point)[1]
        # Every step is a trial: their probabilities may add up.
        rare = math.log(0.8 * n**0.5 * MOST_PROBE_STEPS / UNNOTICED)

        def shrink(carry):
            k, z, length, bound, going = carry
            z = push(z)
            size = jnp.linalg.norm(z, axis=1)
            z = z / jnp.where(size > 0, size, 1)[:, None]
            length = jnp.where(going, length + jnp.log(size), length)
            found = (rare + length) / (k + 1)
            bound = jnp.where(going & (found < 0), found, bound)
            return k + 1, z, length, bound, going & (jnp.abs(length) < 2 * rare)

        z = jnp.broadcast_to(self.probe, x.shape)
        unknown = jnp.full(len(x), jnp.inf, x.dtype)
        start = (none, z, jnp.zeros(len(x), x.dtype), unknown, sound)
        bound = jax.lax.while_loop(unfinished, shrink, start)[3]
        stable = sound & (bound < -self.band)
        evidence = jnp.where(stable, Evidence.PROBED, Evidence.NONE).astype(jnp.int8)
        return Proof(evidence, point, bound)

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
