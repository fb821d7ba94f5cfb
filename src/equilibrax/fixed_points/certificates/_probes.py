"""Evidence from random probes, where a matrix for each input would cost more than its trajectory.

Let z be a random unit vector, uniformly distributed, and M any n x n matrix. Then

    P( |M z| <= theta |M| ) <= 0.8 theta sqrt(n)                                    (Dixon, 1983).

For M = (I + h J)^m, therefore, |M| <= 0.8 sqrt(n) |M z| / p but for a probability of p: as soon as
that is less than one, J is Hurwitz, and its abscissa is bounded as in `_powers`. M z takes m
products of J and a vector, for all inputs at once, and the same probe serves all of them. It finds
what a trajectory from a symmetric start cannot: the unstable direction that it never excites.

J. D. Dixon, SIAM J. Numer. Anal. 20:812 (1983), doi:10.1137/0720053.

Steps of Euler's method, one product each, take the trajectory the rest of its way into the fixed
point.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...networks import AbstractDynamics, is_threshold_linear
from .._accuracy import BOUNDED, MOST_PROBE_STEPS, RESIDUE, UNNOTICED
from .._result import Evidence
from .._speed import probed_rows
from ..stepping import in_blocks, in_lanes
from ._base import AbstractCertificate, Proof, packed, unpacked
from ._products import Lanes, distance_to_thresholds


class Probes(AbstractCertificate):
    """Random probes of the Jacobian at the fixed point.

    - `band`: the marginal abscissa, beyond which all evidence is.
    - `probe`: the random unit vector.
    """

    settling: ClassVar[tuple[float, float, float]] = (1 / 30, 1 / 300, 0.0)
    early: ClassVar[float] = 0.2

    band: Float[Array, ""]
    probe: Float[Array, " n"]

    def __init__(self, network: AbstractDynamics, band: Float[Array, ""]):
        z = jax.random.normal(jax.random.key(0), (network.num_neurons,), network.dtype)
        self.band, self.probe = band, z / jnp.linalg.norm(z)

    def prove(self, network, x, inputs, queue):
        def treat(columns, x, i, valid):
            del columns
            return packed(self.proof(network, x.T, i.T, valid))

        rows = probed_rows(network.num_neurons)
        return unpacked(in_blocks(queue, rows, treat, packed(Proof.of_nothing(x)), x, inputs))

    def proof(
        self, network: AbstractDynamics, x: Lanes, i: Array, wanted: Bool[Array, " rows"]
    ) -> Proof:
        """The evidence on trajectories at x."""
        lanewise: Any = in_lanes(network)
        n, dtype = x.shape[0], x.dtype
        unit = jnp.finfo(dtype).eps

        def velocity(x):
            return lanewise.vector_field(jnp.zeros((), dtype), x, i)

        def product(x, z):
            return jax.jvp(velocity, (x,), (z,))[1]

        probe = jnp.broadcast_to(self.probe[:, None], x.shape)
        h = BOUNDED / largest_rate(lambda z: product(x, z), probe)

        def follow(carry):
            k, x, before, going = carry
            y = jax.lax.fori_loop(0, 16, lambda _, x: x + h * velocity(x), x)
            now = jnp.max(jnp.abs(y - x), axis=0)
            x = jnp.where(going, y, x)
            going &= (now > RESIDUE * unit * jnp.max(jnp.abs(x), axis=0)) & (now < 0.97 * before)
            return k + 16, x, now, going

        def unfinished(carry):
            k, *_, going = carry
            return (k < MOST_PROBE_STEPS) & jnp.any(going)

        unknown = jnp.full(x.shape[1], jnp.inf, dtype)
        start = (jnp.zeros((), jnp.int32), x, unknown, wanted)
        _, point, left, _ = jax.lax.while_loop(unfinished, follow, start)
        size = jnp.maximum(jnp.max(jnp.abs(point), axis=0), jnp.max(jnp.abs(i), axis=0))
        exact = left <= 64 * unit * size

        rare = 0.8 * n**0.5 / UNNOTICED

        def shrink(carry):
            k, z, bound, going = carry
            z = jax.lax.fori_loop(0, 8, lambda _, z: z + h * product(point, z), z)
            norm = jnp.linalg.norm(z, axis=0) * rare
            bound = jnp.where(going, jnp.expm1(jnp.log(norm) / (k + 8)) / h, bound)
            return k + 8, z, bound, going & (norm > 0.5) & (norm < 1e6 * rare)

        start = (jnp.zeros((), jnp.int32), probe, unknown, wanted & exact)
        bound = jax.lax.while_loop(unfinished, shrink, start)[2]
        stable = wanted & exact & (bound < -self.band)
        if is_threshold_linear(network):
            sigma = lanewise.drive(point, i) > 0
            room, _ = distance_to_thresholds(lanewise, sigma, bound, point, i)
            stable &= jnp.all(room > 0, axis=0)
        evidence = jnp.where(stable, Evidence.PROBED, Evidence.NONE).astype(jnp.int8)
        return Proof(evidence, point.T, bound)


def largest_rate(product: Any, start: Lanes) -> Float[Array, " rows"]:
    """An estimate of |J|, by power iterations."""

    def iterate(_, carry):
        z, _ = carry
        z = product(z)
        norm = jnp.linalg.norm(z, axis=0)
        return z / jnp.where(norm > 0, norm, 1), norm

    nothing = jnp.zeros(start.shape[1], start.dtype)
    norm = jax.lax.fori_loop(0, 12, iterate, (start, nothing))[1]
    return jnp.where(norm > 0, norm, 1)
