r"""Networks of low rank, exactly: all that feeds back is a few numbers.

Let W = U V' + d with r columns and a number d, and let all time constants be equal; time is in
units of them. Under all three conventions the drive u obeys

    u' = -u + g + W phi(u),    g = i - b   or, under "recurrent",   W i - b.

At a fixed point u* = (g + U q) / (1 - s d), with s = phi'(u*) for threshold-linear networks and
d = 0 for smooth ones, and q = V' phi(u*) are r equations for r numbers. There

    J = (s d - 1) + U (s V)'

has the eigenvalues d - 1 of active and -1 of silent neurons, and those of K = V' S U - (1 - d),
which is r x r. In a chamber of a threshold-linear network z = V' (phi(u) - phi(u*)) obeys
z' = K z. With K'P + PK < 0, |z|_P falls; each e_j = u_j - u_j*, which follows
e_j' = -(1 - s_j d) e_j + U_j z, never exceeds the larger of |e_j| at the start and

    |z|_P sqrt(U_j P^-1 U_j') / (1 - s_j d).

If that is below |u_j*| for every neuron, no drive ever changes its sign: the trajectory stays in
its chamber and converges to the point, which is a proof, as in `_table`.

Sums over neurons are taken to round like random walks, in blocks, with a factor of safety; what
that may change in K, and what neurons on a threshold may, must leave P a proof.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import Scalar, Vector
from ...networks import RateNetwork, is_threshold_linear
from ...networks.weights import LowRank
from .._accuracy import CONFINED, ROUNDING
from .._linalg import solve
from .._result import Evidence
from .._speed import LARGEST_RANK, ranked_rows
from ..stepping import in_blocks, in_lanes
from ._base import AbstractCertificate, Proof, proof_in_blocks
from ._chambers import is_hidden
from ._ellipsoids import solve_lyapunov
from ._probes import Probes
from ._products import Lanes
from ._spectrum import spectral_abscissa, unstable_projection


def has_low_rank(network: Any) -> bool:
    """Whether a network's weights are of low rank, beside one number on the diagonal."""
    weights = network.weights if isinstance(network, RateNetwork) else None
    if not isinstance(weights, LowRank) or weights.diagonal.ndim:
        return False
    return 0 < weights.left.shape[1] <= LARGEST_RANK


class LowRankPoint(AbstractCertificate):
    """Proofs from r x r matrices.

    - `band`: the marginal abscissa, beyond which all proofs are.
    - `exact`: whether time constants and diagonal are as that demands.
    - `probes`: for other networks.
    """

    settling: ClassVar[tuple[float, float, float]] = (1 / 20, 1 / 100, 0.0)
    early: ClassVar[float] = 0.2

    band: Float[Array, ""]
    exact: Bool[Array, ""]
    probes: Probes

    def __init__(self, network: RateNetwork, band: Float[Array, ""]):
        self.band, self.probes = band, Probes(network, band)
        weights: Any = network.weights
        alike = jnp.all(network.tau == network.tau[0])
        self.exact = alike & (is_threshold_linear(network) | (weights.diagonal == 0))

    def prove(self, network, x, inputs, queue):
        def treat(x, i, valid):
            return jax.lax.cond(
                self.exact,
                lambda: self.proof(network, x.T, i.T, valid),
                lambda: self.probes.proof(network, x.T, i.T, valid),
            )

        n, r = network.weights.left.shape
        return proof_in_blocks(queue, ranked_rows(n, r), treat, x, inputs)

    def abscissa(self, network, sigma):
        return self._abscissa(network, sigma.astype(network.dtype))

    def abscissa_at(self, network, x, i):
        return self._abscissa(network, network.transfer.derivative(network.drive(x, i)))

    def _abscissa(self, network: RateNetwork, slope: Vector) -> Scalar:
        """The spectral abscissa for these slopes of phi."""
        slopes = slope[:, None]
        matrix = feedback(network.weights, slopes)[0]
        spectral = jnp.maximum(spectral_abscissa(matrix), own_rate(network.weights, slopes)[0])
        return jnp.where(self.exact, spectral / network.tau[0], jnp.nan)

    def unstable_part(self, network, x, i, d, wanted):
        """Under `"voltage"`, z = (s V)' d has the parts z_u in the unstable subspace of K, and
        d_u = L z_u with L_j (K + 1 - s_j d) = U_j. Under the others, z = V' d and
        L_j (K + 1 - s_j d) = s_j U_j."""
        slope = network.transfer.derivative(network.drive(x, i))
        weights, voltage = network.weights, network.convention == "voltage"
        matrix = feedback(weights, slope[:, None])[0]
        eye = jnp.eye(len(matrix), dtype=x.dtype)
        part = unstable_projection(matrix, wanted)
        sent = slope[:, None] * d if voltage else d
        z = part @ (weights.right.T @ sent)
        # On the stable subspace any regular matrix will do.
        regular = matrix @ part + eye - part
        active, silent = (
            weights.left @ solve(regular + rest * eye, z) for rest in (1 - weights.diagonal, 1)
        )
        if not voltage:
            return slope[:, None] * active
        return jnp.where(slope[:, None] > 0, active, silent)

    def abscissas(self, network, x, inputs, queue):
        def treat(abscissa, x, i, valid):
            del abscissa, valid
            return jax.vmap(lambda x, i: self.abscissa_at(network, x, i))(x, i)

        unknown = jnp.full(len(x), jnp.nan, x.dtype)
        n, r = network.weights.left.shape
        return in_blocks(queue, ranked_rows(n, r), treat, unknown, x, inputs)

    def proof(
        self, network: RateNetwork, x: Lanes, i: Lanes, wanted: Bool[Array, " rows"]
    ) -> Proof:
        """The evidence on trajectories at x."""
        lanewise, weights = in_lanes(network), network.weights
        assert isinstance(weights, LowRank)
        left, right, d = weights.left, weights.right, weights.diagonal
        linear, tau = is_threshold_linear(network), network.tau[0]
        n, r = left.shape
        unit = summing_unit(n, x.dtype)
        u0 = lanewise.drive(x, i)
        sigma = u0 > 0
        recurrent = network.convention == "recurrent"
        g = (weights.lanes(i) if recurrent else i) - lanewise.bias

        def slopes(u):
            return sigma.astype(u.dtype) if linear else network.transfer.derivative(u)

        def rates(u):
            return jnp.where(sigma, u, 0) if linear else network.transfer(u)

        def drive(q):
            u = g + left @ q
            return u / (1 - d * sigma) if linear else u

        def local(s):
            """K for these slopes, one matrix a lane, and how much rounding may change it."""
            sizes = sum_of_pairs(jnp.abs(left), jnp.abs(right), jnp.abs(s))
            return feedback(weights, s), unit * jnp.linalg.norm(sizes, axis=(1, 2))

        def improve(_, carry):
            q, _, _ = carry
            k, off = local(slopes(drive(q)))
            shift = self.band * tau + 4 * off
            found = jax.vmap(solve_lyapunov)(k, wanted & jnp.isfinite(off), shift)
            back = jnp.where(found.proven[:, None, None], found.back, 0)

            def step(_, q):
                wrong = right.T @ rates(drive(q)) - q
                return q + (1 - d) * jnp.einsum("lrs,sl->rl", back, wrong)

            return jax.lax.fori_loop(0, 3, step, q), found, back

        first = jnp.zeros((r, x.shape[1]), x.dtype) if linear else right.T @ rates(u0)
        nothing = jnp.zeros((x.shape[1], r, r), x.dtype)
        blank = jax.vmap(solve_lyapunov)(nothing, jnp.zeros_like(wanted))
        passes = 1 if linear else 4
        q, ellipsoid, back = jax.lax.fori_loop(0, passes, improve, (first, blank, nothing))
        u = drive(q)
        point = {
            "voltage": u + lanewise.bias, "activity": rates(u), "recurrent": rates(u) + i,
        }[network.convention]  # fmt: skip
        k, off = local(slopes(u))
        size = jnp.linalg.norm(ellipsoid.p, axis=(1, 2))
        size *= jnp.linalg.norm(ellipsoid.inverse, axis=(1, 2))
        spectral = jax.vmap(spectral_abscissa)(k) + off * jnp.sqrt(size)
        bound = jnp.maximum(spectral, own_rate(weights, slopes(u)))
        bound = jnp.where(wanted, bound / tau, jnp.nan)

        # How far rounding may have left q, and u, from the true ones.
        sent = jnp.abs(right).T @ jnp.abs(rates(u)) + jnp.abs(q)
        lost = jnp.einsum("lrs,sl->rl", jnp.abs(back), unit * sent)
        given = weights.absolute().lanes(jnp.abs(i)) if recurrent else jnp.abs(i)
        scale = given + jnp.abs(lanewise.bias) + jnp.abs(left) @ jnp.abs(q)
        hidden = (unit * scale + 2 * (1 - d) * (jnp.abs(left) @ lost)) / (1 - d * sigma)
        wrong = jnp.abs(right.T @ rates(u) - q)
        converged = jnp.all(wrong <= ROUNDING * unit * sent, axis=0)
        proven = wanted & ellipsoid.proven & converged & (bound < -self.band)
        spare = self.band * tau + 4 * off
        if not linear:
            stable = proven & (off * size <= spare)
            evidence = jnp.where(stable, Evidence.STABLE_PROVEN, Evidence.NONE)
            return Proof(evidence.astype(jnp.int8), point.T, bound)

        room = jnp.where(sigma, u, -u) - hidden
        border = jnp.abs(u) <= hidden
        divided = jnp.any(border, axis=0)
        inside = wanted & converged & jnp.all((room > 0) | border, axis=0) & (1 - d > 0)
        proven &= (off * size <= spare) & inside & ~divided
        other = jax.vmap(spectral_abscissa)(local((sigma ^ border).astype(x.dtype))[0]) / tau
        bound = jnp.where(divided, jnp.maximum(bound, other), bound)
        judged = is_hidden(border, u) & inside & (bound < -self.band)
        e = jnp.abs(u0 - u) + hidden
        z = right.T @ jnp.where(sigma, u0 - u, 0)
        z += jnp.sign(z) * unit * (jnp.abs(right).T @ jnp.where(sigma, jnp.abs(u0) + jnp.abs(u), 0))
        norm = jnp.sqrt(jnp.einsum("rl,lrs,sl->l", z, ellipsoid.p, z))
        both = (left[:, :, None] * left[:, None, :]).reshape(n, r * r)
        reach = jnp.sqrt(jnp.abs(both @ ellipsoid.inverse.reshape(-1, r * r).T))
        apart = jnp.maximum(e, reach * norm / (1 - d * sigma))
        trapped = proven & jnp.all(apart < CONFINED * room, axis=0)
        evidence = jnp.select(
            [trapped, proven, judged],
            [Evidence.PROVEN, Evidence.STABLE_PROVEN, Evidence.SPECTRUM],
            Evidence.NONE,
        )
        return Proof(evidence.astype(jnp.int8), point.T, bound)


def sum_of_pairs(
    left: Float[Array, "n r"], right: Float[Array, "n r"], slopes: Lanes
) -> Float[Array, "lanes r r"]:
    """V' S U, lane by lane."""
    n, r = left.shape
    pairs = (right[:, :, None] * left[:, None, :]).reshape(n, r * r)
    return (slopes.T @ pairs).reshape(-1, r, r)


def feedback(weights: LowRank, slopes: Lanes) -> Float[Array, "lanes r r"]:
    """K = V' S U - (1 - d), lane by lane."""
    eye = jnp.eye(weights.left.shape[1], dtype=slopes.dtype)
    return sum_of_pairs(weights.left, weights.right, slopes) - (1 - weights.diagonal) * eye


def own_rate(weights: LowRank, slopes: Lanes) -> Float[Array, " lanes"]:
    """The largest eigenvalue of J, in units of 1 / tau, that is not one of K: d - 1 with an active
    neuron, -1 with a silent one."""
    return jnp.max(jnp.where(slopes > 0, weights.diagonal, 0), axis=0) - 1


def summing_unit(n: int, dtype: Any) -> float:
    """What the sum of n terms, added in blocks, may lose, as a share of their sizes."""
    return float(jnp.finfo(dtype).eps) * (2 + n**0.5 / 8)
