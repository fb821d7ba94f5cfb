r"""Threshold-linear networks, chamber by chamber: exact points and trapping ellipsoids.

For phi = [.]+ the state space splits into chambers, one for each active set
sigma = {j : u_j(x) > 0}, with u = C x + d what is rectified: C = I under
`"voltage"`, C = W under the other two. Inside a chamber the flow is affine,

    tau dx/dt = M x + q,    J = T^-1 M,    x* = -M^-1 q.

Let J be Hurwitz and J'P + PJ < 0. Along the chamber's flow v = dx/dt obeys v' = J v, so that
v'P v falls, and u_j is off u_j(x*) by c_j J^-1 v, c_j being row j of C. When x* lies in its
chamber, and

    v'P v  <  min_j u_j(x*)^2 / (c_j J^-1 P^-1 J^-T c_j'),

the flow never leaves the chamber, and x converges to x*. That is a proof, not a tolerance. In
terms of x - x* the ellipsoid is that of J'P J. It is larger than that of P itself:
`benchmarks/README.md` has what the choice gains.
"""

from typing import TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._types import ActiveSet, Matrix
from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear
from ._ellipsoids import smith
from ._linalg import inverse
from ._stability import spectral_abscissa

LARGEST_TABLE = 8
"""Networks up to this size get a table of all 2^n chambers (256 of them here)."""


def all_sets(n: int) -> np.ndarray:
    """All active sets of n neurons, (2^n, n): that of index sum_j sigma_j 2^j in this row."""
    return np.arange(2**n)[:, None] >> np.arange(n) & 1 == 1


def chamber_index(sigma: Bool[Array, "n lanes"]) -> Int[Array, " lanes"]:
    """Which of `all_sets` these active sets are."""
    return jnp.sum(jnp.where(sigma, 2 ** np.arange(len(sigma))[:, None], 0), axis=0)


def chamber_matrix(network: RateNetwork, sigma: ActiveSet) -> Matrix:
    """M = T J, the linear part of the flow in the chamber of sigma."""
    return network.linearised(sigma.astype(network.weights.dtype))


def chamber_drift(
    network: RateNetwork,
    sigma: Bool[Array, "n *lanes"],
    x: Float[Array, "n *lanes"],
    i: Float[Array, "n *lanes"],
) -> Float[Array, "n *lanes"]:
    """M x + q: tau dx/dt of the flow in the chamber of sigma, wherever x is."""
    return network.drift_at(jnp.where(sigma, network.drive(x, i), 0), x, i)


def has_table(network: AbstractDynamics) -> TypeGuard[RateNetwork]:
    """Whether the network's chambers are few enough to be tabulated."""
    return is_threshold_linear(network) and network.num_neurons <= LARGEST_TABLE


class Chambers(eqx.Module):
    """What depends on the active set alone, for all 2^n of them.

    The chamber of sigma has the index sum_j sigma_j 2^j, on the last axis of every table.
    """

    inverse: Float[Array, "n n sets"]  # -M^-1, so that x* = inverse @ q
    metric: Float[Array, "n n sets"]  # P
    size: Float[Array, " sets"]  # the trace of P
    reach: Float[Array, "n sets"]  # c_j J^-1 P^-1 J^-T c_j'
    abscissa: Float[Array, " sets"]
    trapping: Bool[Array, " sets"]  # J is Hurwitz, and P proves it

    def __init__(self, network: RateNetwork, band: Float[Array, ""]):
        """Tabulate; a chamber traps only where the abscissa is below -`band`."""
        n = network.num_neurons
        dtype = network.weights.dtype
        eye = jnp.eye(n, dtype=dtype)
        rows = eye if network.convention == "voltage" else network.weights

        def tabulate(sigma):
            matrix = chamber_matrix(network, sigma)
            jacobian = matrix / network.tau[:, None]
            abscissa = spectral_abscissa(jacobian)
            p, proven = smith(jacobian + band * eye, wanted=abscissa < -band)
            # Everything else means something only where J is Hurwitz.
            back = -inverse(jnp.where(proven, matrix, -eye))
            there = rows @ (back * network.tau)
            reach = jnp.sum((there @ inverse(p)) * there, axis=1)
            trapping = proven & jnp.all(jnp.isfinite(reach))
            return back, p, jnp.trace(p), reach, abscissa, trapping

        tables = jax.vmap(tabulate, out_axes=-1)(jnp.asarray(all_sets(n)))
        self.inverse, self.metric, self.size, *rest = tables
        self.reach, self.abscissa, self.trapping = rest

    def point(
        self, network: RateNetwork, sigma: Bool[Array, "n lanes"], i: Float[Array, "n lanes"]
    ) -> tuple[Int[Array, " lanes"], Float[Array, "n lanes"], Float[Array, "n lanes"]]:
        """The chambers' indices, their fixed points, and the `margin`s by which these lie in them.
        `network` is `in_lanes`."""
        index = chamber_index(sigma)
        inverse = self.inverse[:, :, index]
        # From 0, so that it does not depend on a start; and once more, on what rounding left.
        target = _product(inverse, chamber_drift(network, sigma, jnp.zeros_like(i), i))
        target = target + _product(inverse, chamber_drift(network, sigma, target, i))
        return index, target, margin(network, sigma, target, i)

    def trapped(
        self, network: RateNetwork, x: Float[Array, "n lanes"], i: Float[Array, "n lanes"]
    ) -> tuple[Bool[Array, " lanes"], Float[Array, "n lanes"], Float[Array, " lanes"]]:
        """Whether each x lies in the trapping ellipsoid of its own chamber, at which point it
        will come to rest, and the spectral abscissa there. `network` is `in_lanes`."""
        index, target, room = self.point(network, network.drive(x, i) > 0, i)
        bound = jnp.min(jnp.square(jnp.maximum(room, 0)) / self.reach[:, index], axis=0)
        velocity = network.vector_field(None, x, i)
        norm = jnp.sqrt(jnp.sum(velocity * _product(self.metric[:, :, index], velocity), axis=0))
        # What rounding could hide of the velocity.
        voltage = network.convention == "voltage"
        sources = network.transfer(network.drive(x, i)) if voltage else jnp.abs(x)
        terms = jnp.abs(network.weights) @ sources + jnp.abs(network.bias) + jnp.abs(x) + jnp.abs(i)
        hidden = 4 * jnp.finfo(x.dtype).eps * terms / network.tau
        norm += jnp.sqrt(jnp.sum(jnp.square(hidden), axis=0) * self.size[index])
        inside = jnp.square(norm) < 0.99 * bound
        return self.trapping[index] & inside, target, self.abscissa[index]


def _product(matrices: Float[Array, "n n lanes"], vectors: Float[Array, "n lanes"]):
    return jnp.sum(matrices * vectors[None], axis=1)


def margin(
    network: RateNetwork,
    sigma: Bool[Array, "n *lanes"],
    x: Float[Array, "n *lanes"],
    i: Float[Array, "n *lanes"],
) -> Float[Array, "n *lanes"]:
    """How far each u_j(x) lies on its own side of zero, less what rounding could hide.

    All are positive exactly when x certainly lies in the chamber of sigma. `network` is
    `in_lanes` where x is.
    """
    u = network.drive(x, i)
    terms = jnp.max(jnp.abs(x), axis=0) + jnp.max(jnp.abs(network.bias))
    if network.convention != "voltage":
        strength = jnp.sum(jnp.abs(network.weights), axis=1)
        terms = jnp.multiply.outer(strength, terms) + jnp.max(jnp.abs(i), axis=0)
    return jnp.where(sigma, u, -u) - 32 * jnp.finfo(x.dtype).eps * terms
