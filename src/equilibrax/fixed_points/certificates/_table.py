r"""Certificates of small threshold-linear networks: a table of all chambers.

In a chamber (`_chambers`), let J be Hurwitz and J'P + PJ < 0. Along the chamber's flow
v = dx/dt obeys v' = J v, so that v'P v falls, and u_j is off u_j(x*) by c_j J^-1 v, c_j being
row j of C. When x* lies in its chamber, and

    v'P v  <  min_j u_j(x*)^2 / (c_j J^-1 P^-1 J^-T c_j'),

the flow never leaves the chamber, and x converges to x*. That is a proof, not a tolerance. In
terms of x - x* the ellipsoid is that of J'P J. It is larger than that of P itself:
`benchmarks/README.md` has what the choice gains.
"""

from typing import Any, ClassVar, TypeGuard

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...networks import AbstractDynamics, RateNetwork, has_chambers
from .._accuracy import CONFINED
from .._speed import LARGEST_TABLE, tabulated_rows
from ..stepping import in_blocks, in_lanes
from ._base import AbstractCertificate, Proof, evidence_of
from ._chambers import all_sets, chamber_drift, chamber_index, chamber_matrix, margin, terms
from ._ellipsoids import Ellipsoid, solve_lyapunov
from ._global import is_alike, symmetric_part
from ._powers import balance
from ._spectrum import abscissa_of_balanced


def has_table(network: AbstractDynamics) -> TypeGuard[RateNetwork]:
    """Whether the network's chambers are few enough to be tabulated."""
    small = network.num_neurons <= LARGEST_TABLE
    return small and has_chambers(network)


class ChamberTable(AbstractCertificate):
    """Quantities that depend on the active set alone, for all 2^n of them.

    The chamber of sigma has the index sum_j sigma_j 2^j, on the last axis of every table.
    """

    settling: ClassVar[tuple[float, float, float]] = (0.7, 1 / 10, 1 / 100)
    early: ClassVar[float] = 0.05  # small networks are quick
    bounds_are_exact: ClassVar[bool] = True

    inverse: Float[Array, "n n sets"]  # -M^-1, so that x* = inverse @ q
    metric: Float[Array, "n n sets"]  # P
    length: Float[Array, "n sets"]  # the roots of P's diagonal
    reach: Float[Array, "n sets"]  # c_j J^-1 P^-1 J^-T c_j'
    spectral: Float[Array, " sets"]  # the spectral abscissa of J
    trapping: Bool[Array, " sets"]  # J is Hurwitz, and P proves it
    always: Bool[Array, ""]  # whether every trajectory converges

    def __init__(self, network: RateNetwork, band: Float[Array, ""]):
        """Tabulate; a chamber traps only where the abscissa is below -`band`."""
        n = network.num_neurons
        sigma = jnp.asarray(all_sets(n))
        eye = jnp.eye(n, dtype=network.weights.dtype)
        rows = eye if network.convention == "voltage" else network.weights
        matrix = jax.vmap(lambda sigma: chamber_matrix(network, sigma))(sigma)
        jacobian = matrix / network.tau[:, None]
        scales = jax.vmap(balance)(jnp.concatenate([jacobian, network.weights[None]]))
        own, scale = scales[:-1], scales[-1]
        self.spectral = jax.vmap(abscissa_of_balanced)(own[:, :, None] * jacobian / own[:, None])
        # In units in which the weights are balanced; powers of two round nothing.
        unit = 2 ** jnp.round(jnp.log2(scale))
        there, square = jnp.outer(unit, 1 / unit), jnp.outer(unit, unit)
        # One more matrix says whether the network is globally stable (`_global`).
        symmetric = symmetric_part(network, scale, band)
        shift = jnp.append(jnp.broadcast_to(band, len(sigma)), 0)
        ellipsoids = jax.vmap(solve_lyapunov)(
            jnp.concatenate([jacobian * there, symmetric[None]]),
            jnp.append(self.spectral < -band, True), shift,
        )  # fmt: skip
        ellipsoid, last = (jax.tree.map(lambda a, k=k: a[k], ellipsoids) for k in (slice(-1), -1))
        self.always = last.proven & is_alike(network)
        back = ellipsoid.back / (there * network.tau)
        ellipsoid = Ellipsoid(
            ellipsoid.p * square, ellipsoid.inverse / square, ellipsoid.proven, back,
            ellipsoid.least * jnp.min(square, axis=(0, 1)),
        )  # fmt: skip
        # The other columns mean something only where J is Hurwitz.
        back = jnp.where(ellipsoid.proven[:, None, None], back, eye)
        reach = jax.vmap(Ellipsoid.reach)(ellipsoid, rows @ (back * network.tau))
        self.trapping = ellipsoid.proven & jnp.all(jnp.isfinite(reach), axis=1)
        self.inverse, self.metric = jnp.moveaxis(back, 0, -1), jnp.moveaxis(ellipsoid.p, 0, -1)
        self.length = jnp.sqrt(jnp.diagonal(self.metric)).T
        self.reach = reach.T

    @property
    def convergent(self):
        return self.always

    def prove(self, network, x, inputs, queue):
        lanewise: Any = in_lanes(network)

        def treat(proof: Proof, x, i, valid) -> Proof:
            del proof, valid
            trapped, stable, point, bound = self.trapped(lanewise, x.T, i.T)
            return Proof(evidence_of(stable, trapped), point.T, bound)

        return in_blocks(queue, tabulated_rows(), treat, Proof.of_nothing(x), x, inputs)

    def abscissas(self, network, x, inputs, queue):
        del queue
        lanewise: Any = in_lanes(network)
        return self.spectral[chamber_index(lanewise.drive(x.T, inputs.T) > 0)]

    def abscissa(self, network, sigma):
        del network
        return self.spectral[chamber_index(sigma[:, None])[0]]

    def trapped(
        self, network: RateNetwork, x: Float[Array, "n lanes"], i: Float[Array, "n lanes"]
    ) -> tuple[
        Bool[Array, " lanes"],
        Bool[Array, " lanes"],
        Float[Array, "n lanes"],
        Float[Array, " lanes"],
    ]:
        """Whether each x lies in the trapping ellipsoid of its own chamber; whether the chamber's
        point is a stable fixed point at all; the point; and the spectral abscissa there. `network`
        is `in_lanes`."""
        sigma = network.drive(x, i) > 0
        index = chamber_index(sigma)
        inverse = self.inverse[:, :, index]
        # From 0, so that it does not depend on a start; and once more, on what rounding left.
        target = _product(inverse, chamber_drift(network, sigma, jnp.zeros_like(i), i))
        target = target + _product(inverse, chamber_drift(network, sigma, target, i))
        # Of tau dx/dt, both at x and at the point.
        largest = jnp.maximum(jnp.abs(x), jnp.abs(target))
        rounding = 2 * jnp.finfo(x.dtype).eps * terms(network, sigma, largest, i)
        hidden = _product(jnp.abs(inverse), rounding)
        room = margin(network, sigma, target, i, hidden)[0]
        stable = self.trapping[index] & jnp.all(room > 0, axis=0)
        bound = jnp.min(jnp.square(room) / self.reach[:, index], axis=0)
        velocity = network.vector_field(None, x, i)
        norm = jnp.sqrt(jnp.sum(velocity * _product(self.metric[:, :, index], velocity), axis=0))
        # Rounding could hide as much of the velocity.
        norm += jnp.sum(2 * rounding / network.tau * self.length[:, index], axis=0)
        trapped = stable & (jnp.square(norm) < CONFINED * bound)
        return trapped, stable, target, self.spectral[index]


def _product(matrices: Float[Array, "n n lanes"], vectors: Float[Array, "n lanes"]):
    return jnp.sum(matrices * vectors[None], axis=1)
