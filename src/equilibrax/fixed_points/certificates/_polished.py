"""Fixed points of smooth dynamics, polished and proven to be stable by matrix products alone.

Newton's method with a fixed matrix Q, nearly -J^-1, from the powers (`_powers`) of the Jacobian J
at the trajectory's state,

    x <- x + Q dx/dt ,

finds the fixed point beside it; once more with the powers of the Jacobian there, which say whether
it is stable.
"""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...networks import AbstractDynamics
from .._accuracy import ROUNDING
from .._rounding import is_resolved
from .._speed import judged_rows
from ._base import AbstractCertificate, Proof, evidence_of, proof_in_blocks
from ._powers import Powers, norm_bound


class PolishedPoint(AbstractCertificate):
    """Proofs of stability at the polished point, from the Jacobian there.

    - `band`: the marginal abscissa, beyond which all proofs are.
    """

    settling: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    early: ClassVar[float] = 0.1
    traps: ClassVar[bool] = False

    band: Float[Array, ""]

    def powers(self, jacobian: Float[Array, "rows n n"], wanted: Bool[Array, " rows"]) -> Powers:
        """The powers of I + h J, h being one over a bound on |J|."""
        step = 1 / norm_bound(jacobian)
        growth = norm_bound(
            jnp.eye(jacobian.shape[1], dtype=step.dtype) + step[:, None, None] * jacobian
        )
        return Powers(step[:, None, None] * jacobian, step, growth, wanted)

    def prove(self, network, x, inputs, queue):
        size = judged_rows(network.num_neurons)
        return proof_in_blocks(queue, size, partial(self.proof, network), x, inputs)

    def proof(
        self,
        network: AbstractDynamics,
        x: Float[Array, "rows n"],
        i: Float[Array, "rows k"],
        wanted: Bool[Array, " rows"],
    ) -> Proof:
        """The evidence on trajectories that rest at x."""
        unit = jnp.finfo(x.dtype).eps

        def velocity(x):
            return jax.vmap(lambda x, i: network.vector_field(jnp.zeros((), x.dtype), x, i))(x, i)

        def improve(_, carry):
            x, powers = carry
            del powers
            powers = self.powers(jax.vmap(network.jacobian)(x, i), wanted)
            improved = jax.lax.fori_loop(0, 4, lambda _, x: x + powers.solve(velocity(x)), x)
            return jnp.where(jnp.isfinite(improved), improved, x), powers

        nothing = jnp.zeros((*x.shape, x.shape[1]), x.dtype)
        shape = eqx.filter_eval_shape(self.powers, nothing, wanted)
        blank = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shape)
        # The third time around, the powers are those of the Jacobian at the point itself.
        point, powers = jax.lax.fori_loop(0, 3, improve, (x, blank))
        drift = jnp.abs(jax.vmap(network.drift)(point, i))
        terms = jax.vmap(network.magnitude)(point, i)
        exact = jnp.all(drift <= ROUNDING * unit * terms, axis=1)
        moves = jax.vmap(lambda x, i: is_resolved(network, x, i, network.scale(x, i)))(point, i)
        exact &= ~jnp.any(moves, axis=1)
        stable = wanted & exact & (powers.bound < -self.band)
        return Proof(evidence_of(stable, jnp.zeros_like(stable)), point, powers.bound)
