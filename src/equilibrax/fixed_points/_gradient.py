r"""Derivatives of fixed points, by the implicit function theorem.

Where x* is a stable fixed point, F(x*, i, theta) = 0 defines it as a function of the
input and the network's parameters, with

    dx* = -(dF/dx)^-1 (dF/di di + dF/dtheta dtheta).

The trajectory is not differentiated: memory does not grow with its length.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..networks import RateNetwork
from ._outcome import FixedPoints


@eqx.filter_jit
def attach_derivatives(
    network: RateNetwork, inputs: Float[Array, "*batch n"], found: FixedPoints
) -> FixedPoints:
    """`found`, whose `state` and `rates` now depend on the network and the inputs.

    Elsewhere than on a stable fixed point the derivative is zero.
    """
    n = network.num_neurons
    found = jax.lax.stop_gradient(found)

    def implicit(found, i):
        # Elsewhere, a point that no derivative can reach and no NaN can leave.
        x, i = jnp.where(found.stable, found.state, 0), jnp.where(found.stable, i, 0)

        def balance(y):
            return jnp.where(found.stable, network.drift(y, i), y - x)

        def tangent_solve(linear, b):
            return jnp.linalg.solve(jax.jacobian(linear)(b), b)

        state = jax.lax.custom_root(balance, x, lambda _, start: start, tangent_solve)
        answer = (state, network.rates(state))
        kept = (found.state, found.rates)
        return jax.tree.map(lambda a, b: jnp.where(found.stable, a, b), answer, kept)

    batch = inputs.shape[:-1]
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(batch) :]), (found, inputs))
    with jax.default_matmul_precision("highest"):
        answer = jax.vmap(implicit)(*flat)
    answer = jax.tree.map(lambda a: a.reshape(*batch, n), answer)
    return eqx.tree_at(lambda f: (f.state, f.rates), found, answer)
