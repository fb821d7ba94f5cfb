"""Fixed points of smooth dynamics, polished and proven to be stable by matrix products alone.

Newton's method with a fixed matrix Q, nearly -J^-1, from the powers (`_powers`) of the Jacobian J
at the trajectory's state,

    x <- x + Q dx/dt ,

finds the fixed point beside it; the powers of the Jacobian there say whether it is stable. That
there is one rests on Newton's method too: J must hardly change as far as rounding allows the point
to be, |Q| |dx/dt|. Dynamics of your own are what they are computed to be: nothing is known of
the rounding inside their Jacobian, beyond that of its elements.
"""

import math
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...networks import AbstractDynamics, RateNetwork
from .._accuracy import BENT, MOST_PASSES
from .._rounding import bend, is_resolved, rounding
from .._speed import judged_rows
from ._base import AbstractCertificate, Proof, evidence_of, proof_in_blocks
from ._powers import Powers, length, norm_bound


def doubt_of(network: AbstractDynamics) -> Float[Array, ""] | float:
    """A bound on |dJ| besides what its elements are rounded by: slopes near zero, as 1 - tanh^2,
    are rounded as the one is."""
    if not isinstance(network, RateNetwork) or math.isinf(network.transfer.steepest):
        return 0.0
    size = jnp.sqrt(jnp.sum(jnp.square(network.weights))) / jnp.min(network.tau)
    return 2 * jnp.finfo(network.dtype).eps * network.transfer.steepest * size


class PolishedPoint(AbstractCertificate):
    """Proofs of stability at the polished point, from the Jacobian there.

    - `band`: the marginal abscissa, beyond which all proofs are.
    """

    settling: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    early: ClassVar[float] = 0.1
    traps: ClassVar[bool] = False

    band: Float[Array, ""]

    def powers(
        self,
        jacobian: Float[Array, "rows n n"],
        wanted: Bool[Array, " rows"],
        doubt: Float[Array, ""] | float = 0.0,
    ) -> Powers:
        """The powers of I + h J, h being one over a bound on |J|; J may be off by the doubt."""
        step = 1 / norm_bound(jacobian)
        growth = norm_bound(
            jnp.eye(jacobian.shape[1], dtype=step.dtype) + step[:, None, None] * jacobian
        )
        return Powers(step[:, None, None] * jacobian, step, growth, wanted, step * doubt)

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
        unit, doubt = jnp.finfo(x.dtype).eps, doubt_of(network)

        def velocity(x):
            return jax.vmap(lambda x, i: network.vector_field(jnp.zeros((), x.dtype), x, i))(x, i)

        def improve(k, carry):
            x, powers = carry
            del powers
            powers = self.powers(jax.vmap(network.jacobian)(x, i), wanted, doubt)

            def unfinished(carry):
                turn, _, going = carry
                return (turn < MOST_PASSES) & going

            def step(carry):
                turn, x, _ = carry
                new = x + powers.solve(velocity(x))
                new = jnp.where(jnp.isfinite(new), new, x)
                return turn + 1, new, jnp.any(jnp.abs(new - x) > 4 * unit * jnp.abs(x))

            # The last time around, the powers are those of the Jacobian at the point itself.
            start = (jnp.where(k < 2, 0, MOST_PASSES), x, jnp.asarray(True))
            return jax.lax.while_loop(unfinished, step, start)[1], powers

        nothing = jnp.zeros((*x.shape, x.shape[1]), x.dtype)
        shape = eqx.filter_eval_shape(self.powers, nothing, wanted)
        blank = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shape)
        point, powers = jax.lax.fori_loop(0, 3, improve, (x, blank))
        drift = jnp.abs(jax.vmap(network.drift)(point, i))
        hidden = rounding(jax.vmap(network.magnitude)(point, i))
        exact = jnp.all(drift <= hidden, axis=1)
        moves = jax.vmap(lambda x, i: is_resolved(network, x, i, network.scale(x, i)))(point, i)
        exact &= ~jnp.any(moves, axis=1)
        rest = (drift + hidden) / network.tau
        reach = powers.solution_bound(rest)
        bent = powers.solution_bound(bend(velocity, point, reach))
        exact &= length(bent, axis=1) <= BENT * length(reach, axis=1)
        stable = wanted & exact & (powers.bound < -self.band)
        return Proof(evidence_of(stable, jnp.zeros_like(stable)), point, powers.bound)
