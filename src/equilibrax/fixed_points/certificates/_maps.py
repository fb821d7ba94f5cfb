r"""Evidence at fixed points of maps x <- F(x, i): the powers of A = dF/dx, in place of I + h J.

A power of norm below one proves that the point attracts: `_powers` with h = 1, so that
B = I + J = A. Where that costs too much, a random vector that shrinks under A^m says the same but
for a stated probability (`_probes`).
"""

import math
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...networks import AbstractMap
from .._accuracy import MOST_PROBE_STEPS, NEAR_COMPONENT, UNNOTICED
from .._result import Evidence
from .._rounding import bends_little, rounding
from .._speed import probed_rows
from ._base import AbstractCertificate, Proof, proof_in_blocks
from ._polished import PolishedPoint
from ._powers import Powers


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
        size = probed_rows(network.num_neurons)
        return proof_in_blocks(queue, size, partial(self.proof, network), x, inputs)

    def proof(
        self,
        network: AbstractMap,
        x: Float[Array, "rows n"],
        i: Float[Array, "rows k"],
        wanted: Bool[Array, " rows"],
    ) -> Proof:
        """The evidence on trajectories that rest at x."""
        n = x.shape[1]
        sizes = jnp.maximum(jnp.abs(x), jax.vmap(network.scale)(x, i))
        hidden = rounding(sizes)

        def step(x):
            return jax.vmap(network.step)(x, i)

        def moving(x, y):
            return jnp.any(jnp.abs(y - x) > 4 * hidden, axis=1)

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
        _, _, total, bound, _ = jax.lax.while_loop(unfinished, shrink, start)
        # As far as the point may be from where rounding allows it to be seen.
        rest = jnp.abs(after - point) + hidden
        rate = jnp.where(bound < 0, bound * total / (rare + total), 0)
        reach = rest / -jnp.expm1(jnp.minimum(rate, -self.band))[:, None]
        stable = sound & (bound < -self.band)
        stable &= bends_little(lambda x: step(x) - x, point, reach, rest)
        evidence = jnp.where(stable, Evidence.PROBED, Evidence.NONE).astype(jnp.int8)
        return Proof(evidence, point, bound)


class MapPoint(PolishedPoint):
    """Proofs that a map's polished point attracts."""

    def powers(self, jacobian, wanted, doubt=0.0):
        one = jnp.ones(len(jacobian), jacobian.dtype)
        # No bound on |A| but its own norm is known.
        return Powers(jacobian, one, jnp.full_like(one, jnp.inf), wanted, doubt)

    def prove(self, network, x, inputs, queue):
        proof = super().prove(network, x, inputs, queue)
        # |A^m|^(1/m) - 1, of which the logarithm is the rate of a step.
        return Proof(proof.evidence, proof.point, jnp.log1p(jnp.maximum(proof.bound, -1)))
