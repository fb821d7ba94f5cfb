r"""Faces that no trajectory crosses, and errors of the solver that did.

Where x_j = 0 implies dx_j/dt = 0, as in models of populations and of reactions, x_j keeps its sign
for ever. A cycle may come so close to such a face that the solver's errors throw the trajectory
across, behind which it often runs away: that says nothing about the dynamics.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .. import _checks
from ..networks import AbstractDynamics, RateNetwork, is_map
from ._result import Evidence, FixedPoints, Outcome
from .stepping import in_lanes


def without_crossings(
    network: AbstractDynamics,
    inputs: Float[Array, "*batch k"],
    x0: Float[Array, "*batch n"] | None,
    found: FixedPoints,
) -> FixedPoints:
    """`found`, in which trajectories that have diverged across an invariant face are not settled.

    Rate networks have no such faces, and a map may step across.
    """
    if x0 is None or isinstance(network, RateNetwork) or is_map(network):
        return found
    diverged = found.outcome == Outcome.DIVERGED
    if _checks.is_concrete(diverged) and not np.any(diverged):
        return found
    crossed = _crossed(network, inputs, x0, found.state, diverged)
    outcome = jnp.where(crossed, int(Outcome.NOT_SETTLED), found.outcome).astype(jnp.int8)
    evidence = jnp.where(crossed, int(Evidence.NONE), found.evidence).astype(jnp.int8)
    return eqx.tree_at(lambda found: (found.outcome, found.evidence), found, (outcome, evidence))


@eqx.filter_jit
def _crossed(
    network: AbstractDynamics,
    inputs: Float[Array, "*batch k"],
    x0: Float[Array, "*batch n"],
    x: Float[Array, "*batch n"],
    diverged: Bool[Array, "*batch"],
) -> Bool[Array, "*batch"]:
    """Which of the trajectories that have diverged from x0 to x changed the sign of a component
    that rests at zero."""
    n = x.shape[-1]
    drift = in_lanes(network).drift
    flipped = (jnp.sign(x0) * jnp.sign(x) < 0) & diverged[..., None]
    rows, i = x.reshape(-1, n).T, inputs.reshape(-1, inputs.shape[-1]).T

    def resting(j):
        return drift(rows.at[j].set(0), i)[j] == 0

    def seek(flipped):
        at_zero = jax.lax.map(resting, jnp.arange(n)).T.reshape(flipped.shape)
        return jnp.any(flipped & at_zero, axis=-1)

    return jax.lax.cond(jnp.any(flipped), seek, lambda flipped: jnp.any(flipped, axis=-1), flipped)
