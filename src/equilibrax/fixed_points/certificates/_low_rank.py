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

Among ten thousand neurons some are always next to their thresholds. Let N be those that may cross
them, and let |z|_P fall at the rate gamma where none does. With l_j = |V_j|_P, r_j = |U_j|_P^-1,
a = min(1, 1 - d), c = max(1, 1 - d) and w = sum_N l_j |e_j|,

    |z|_P' <= -(gamma - m) |z|_P + c w,    w' <= -a w + m |z|_P,    m = sum_N l_j r_j,

since phi(u_j) - phi(u_j*) is a share of e_j between 0 and 1. If m (a + c) < gamma a, then
|z|_P + c w / a falls, so that both vanish in the end and |z|_P is never larger than that was at the
start; which says which neurons are in N.

Where the symmetric part of L W - 1 is negative definite, L being the largest slope of phi, every
trajectory converges to the one fixed point of its input (`_global`): no trajectory is followed
before the point is sought.

What the rounding of sums over neurons (`summing_unit`) may change in K, and what neurons on a
threshold may, must leave P a proof.
"""

import math
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ... import _checks
from ..._types import Flag, Matrix, Scalar, Vector
from ...networks import RateNetwork, is_threshold_linear
from ...networks.weights import LowRank
from .._accuracy import CONFINED, MOST_CHAMBERS, ROOT_STEPS, ROUNDING, SMOOTH_TURNS
from .._linalg import solve
from .._result import Evidence
from .._speed import LARGEST_RANK, ranked_rows
from ..stepping import in_blocks, in_lanes
from ._base import AbstractCertificate, Proof, evidence_of, proof_in_blocks
from ._chambers import is_hidden
from ._ellipsoids import Ellipsoid, solve_lyapunov
from ._global import is_negative
from ._probes import Probes
from ._products import Lanes
from ._spectrum import spectral_abscissa, unstable_projection


def has_low_rank(network: Any) -> bool:
    """Whether a network's weights are of low rank, beside one number on the diagonal."""
    weights = network.weights if isinstance(network, RateNetwork) else None
    if not isinstance(weights, LowRank) or weights.diagonal.ndim:
        return False
    return 0 < weights.left.shape[1] <= LARGEST_RANK


def is_exact(network: Any) -> Any:
    """Whether a network of low rank is as its proofs demand; by NumPy where that is known."""
    xp, weights = _checks.library_of(network), network.weights
    tau, d = xp.asarray(network.tau), xp.asarray(weights.diagonal)
    return xp.all(tau == tau[0]) & (is_threshold_linear(network) | (d == 0))


class LowRankPoint(AbstractCertificate):
    """Proofs from r x r matrices.

    - `band`: the marginal abscissa, beyond which all proofs are.
    - `exact`: whether time constants and diagonal are as that demands (`is_exact`).
    - `globally`: whether the network is globally stable.
    - `probes`: for other networks; None where it is known that this is none.
    """

    settling: ClassVar[tuple[float, float, float]] = (1 / 10, 1 / 50, 0.0)
    early: ClassVar[float] = 0.2
    solves: ClassVar[bool] = True

    band: Float[Array, ""]
    exact: Bool[Array, ""]
    globally: Bool[Array, ""]
    probes: Probes | None

    def __init__(self, network: RateNetwork, band: Float[Array, ""], exact: bool = False):
        self.band, self.probes = band, None if exact else Probes(network, band)
        self.exact = is_exact(network)
        self.globally = jnp.zeros((), bool)
        if math.isfinite(network.transfer.steepest):
            self.globally = self.exact & is_globally_stable(network, band)

    @property
    def convergent(self):
        return self.globally

    def distance(self, sizes):
        return jnp.mean(sizes, axis=0)

    def prove(self, network, x, inputs, queue):
        probes = self.probes

        def treat(x, i, valid):
            def proof():
                return self.proof(network, x.T, i.T, valid)

            if probes is None:
                return proof()
            other = partial(probes.proof, network, x.T, i.T, valid)
            return jax.lax.cond(self.exact, proof, other)

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
        lanewise, weights, tau = in_lanes(network), network.weights, network.tau[0]
        assert isinstance(weights, LowRank)
        right, d, r = weights.right, weights.diagonal, weights.right.shape[1]
        u0 = lanewise.drive(x, i)
        recurrent = network.convention == "recurrent"
        reduced = Reduced(network, (weights.lanes(i) if recurrent else i) - lanewise.bias)
        linear, unit = reduced.is_linear, reduced.unit
        slopes, rates, local = reduced.slopes, reduced.rates, reduced.local
        shift = self.band * tau
        q, s, k, off, ellipsoid = search(reduced, right.T @ rates(u0), wanted, shift)
        u = reduced.drive(q)
        point = {
            "voltage": u + lanewise.bias, "activity": rates(u), "recurrent": rates(u) + i,
        }[network.convention]  # fmt: skip
        if not linear:
            k, off = local(slopes(u))
        size = jnp.linalg.norm(ellipsoid.p, axis=(1, 2))
        size *= jnp.linalg.norm(ellipsoid.inverse, axis=(1, 2))
        spectral = jax.vmap(spectral_abscissa)(k) + off * jnp.sqrt(size)
        bound = jnp.maximum(spectral, own_rate(weights, slopes(u)))
        bound = jnp.where(wanted, bound / tau, jnp.nan)

        # How far rounding may have left q, and u, from the true ones.
        sums = jnp.concatenate([right.T, jnp.abs(right).T]) @ rates(u)
        received, sent = sums[:r], sums[r:]
        if not linear:
            sent = jnp.abs(right).T @ jnp.abs(rates(u))
        sent += jnp.abs(q)
        back = jnp.where(ellipsoid.proven[:, None, None], jnp.abs(ellipsoid.back), 0)
        lost = jnp.einsum("lrs,sl->rl", back, unit * sent)
        given = weights.absolute().lanes(jnp.abs(i)) if recurrent else jnp.abs(i)
        sigma, own = u > 0, given + jnp.abs(lanewise.bias)
        spread = weights.absolute().spread(unit * jnp.abs(q) + 2 * (1 - d) * lost)
        hidden = (unit * own + spread) / (1 - d * sigma)
        wrong = jnp.abs(received - q)
        converged = jnp.all(wrong <= ROUNDING * unit * sent, axis=0)
        # K may be off by so much, and P proves it of a matrix farther to the right.
        rate = jax.vmap(lambda e: e.rate)(ellipsoid) + shift + 4 * off - off * jnp.sqrt(size)
        proven = wanted & ellipsoid.proven & converged & (rate > 0) & (bound < -self.band)
        if not linear:
            return Proof(evidence_of(proven, proven & self.convergent), point.T, bound)

        border = jnp.abs(u) <= hidden
        divided = jnp.any(border, axis=0)

        def with_both_sides():
            other = jax.vmap(spectral_abscissa)(local((sigma ^ border).astype(x.dtype))[0])
            return jnp.where(divided, jnp.maximum(bound, other / tau), bound)

        bound = jax.lax.cond(jnp.any(divided), with_both_sides, lambda: bound)
        proven &= jnp.all((s == sigma) | border, axis=0) & (1 - d > 0) & (bound < -self.band)
        judged = proven & (is_hidden(border, u) | ~divided)
        room = jnp.where(border, 0, jnp.abs(u) - hidden)
        trapped = proven & jax.lax.cond(
            self.convergent | ~jnp.any(proven),
            lambda: jnp.ones_like(proven),
            lambda: traps(weights, ellipsoid, rate, unit, u0, u, hidden, room),
        )
        evidence = jnp.select(
            [trapped, proven & ~divided, judged],
            [Evidence.PROVEN, Evidence.STABLE_PROVEN, Evidence.SPECTRUM],
            Evidence.NONE,
        )
        return Proof(evidence.astype(jnp.int8), point.T, bound)


class Reduced(eqx.Module):
    """The r equations q = V' phi(u), lane by lane, of inputs that drive the neurons with g."""

    network: RateNetwork
    g: Lanes

    @property
    def weights(self) -> LowRank:
        """W."""
        weights = self.network.weights
        assert isinstance(weights, LowRank)
        return weights

    @property
    def is_linear(self) -> bool:
        """Whether phi is threshold-linear."""
        return is_threshold_linear(self.network)

    @property
    def unit(self) -> float:
        """What a sum over neurons may lose, as a share of its terms' sizes."""
        return summing_unit(len(self.g), self.g.dtype)

    def slopes(self, u: Lanes) -> Lanes:
        """phi'(u)."""
        return (u > 0).astype(u.dtype) if self.is_linear else self.network.transfer.derivative(u)

    def rates(self, u: Lanes) -> Lanes:
        """phi(u)."""
        return jax.nn.relu(u) if self.is_linear else self.network.transfer(u)

    def drive(self, q: Lanes) -> Lanes:
        """u of the fixed point that feeds these numbers back."""
        u = self.g + self.weights.spread(q)
        return u / (1 - self.weights.diagonal * (u > 0)) if self.is_linear else u

    def error(self, q: Lanes) -> Lanes:
        """By how much V' phi(u) differs from q."""
        return self.weights.right.T @ self.rates(self.drive(q)) - q

    def local(self, s: Lanes) -> tuple[Float[Array, "lanes r r"], Float[Array, " lanes"]]:
        """K for these slopes, and how much rounding may change it."""
        # Of threshold-linear networks as if all neurons were active, whatever s is.
        largest = jnp.ones((len(s), 1), s.dtype) if self.is_linear else jnp.abs(s)
        sizes = sum_of_pairs(jnp.abs(self.weights.left), jnp.abs(self.weights.right), largest)
        off = self.unit * jnp.linalg.norm(sizes, axis=(1, 2))
        return feedback(self.weights, s), jnp.broadcast_to(off, s.shape[1:])


def search(
    reduced: Reduced, q: Lanes, wanted: Bool[Array, " lanes"], shift: Scalar
) -> tuple[Lanes, Lanes, Float[Array, "lanes r r"], Float[Array, " lanes"], Ellipsoid]:
    """The q of a fixed point, by Newton's method from this one, chamber after chamber; the last
    step's slopes, K, the doubt about that, and the ellipsoid that proves it Hurwitz by `shift`, in
    units of 1 / tau, and by four times its doubt."""
    rest = 1 - reduced.weights.diagonal

    def unfinished(carry):
        count, _, ended, *_ = carry
        return (count < MOST_CHAMBERS) & jnp.any(wanted & ~ended)

    def improve(carry):
        count, q, ended, *before = carry
        s = reduced.slopes(reduced.drive(q))
        k, off = reduced.local(s)
        hopeful = wanted & jnp.isfinite(off)
        found = jax.vmap(solve_lyapunov)(k, hopeful, shift + 4 * off)
        back = jnp.where(found.proven[:, None, None], found.back, 0)

        def step(_, q):
            return q + rest * jnp.einsum("lrs,sl->rl", back, reduced.error(q))

        better = jax.lax.fori_loop(0, 3, step, q)
        # In its chamber the first step is exact. Smooth dynamics take all turns.
        same = jnp.all(reduced.slopes(reduced.drive(better)) == s, axis=0)
        last = same if reduced.is_linear else jnp.full_like(ended, count == SMOOTH_TURNS - 1)

        def unless_ended(old, new):
            # What a row is given does not depend on the others of its block.
            return jnp.where(ended[:, None, None] if new.ndim == 3 else ended, old, new)

        q, *now = jax.tree.map(unless_ended, [q, *before], [better, s, k, off, found])
        return count + 1, q, ended | last, *now

    r, lanes = q.shape
    k, off = jnp.zeros((lanes, r, r), q.dtype), jnp.zeros(lanes, q.dtype)
    blank = jax.vmap(solve_lyapunov)(k, jnp.zeros_like(wanted))
    start = (0, q, jnp.zeros_like(wanted), jnp.zeros_like(reduced.g), k, off, blank)
    _, q, _, s, k, off, ellipsoid = jax.lax.while_loop(unfinished, improve, start)
    return q, s, k, off, ellipsoid


def traps(
    weights: LowRank,
    ellipsoid: Ellipsoid,
    rate: Float[Array, " lanes"],
    unit: float,
    u0: Lanes,
    u: Lanes,
    hidden: Lanes,
    room: Lanes,
) -> Bool[Array, " lanes"]:
    """Whether trajectories with the drives u0 converge to the points with the drives u, which are
    `hidden` by rounding, and have this room on their own sides of their thresholds; |z|_P falls at
    this rate where no neuron crosses its threshold."""
    left, right, d, sigma = weights.left, weights.right, weights.diagonal, u > 0

    def lengths(factor, matrices):
        """sqrt(f P f') for every row f of a factor, lane by lane."""
        squares = pairs(factor, factor) @ matrices.reshape(len(matrices), -1).T
        return jnp.sqrt(jnp.abs(squares))

    reach, length = lengths(left, ellipsoid.inverse), lengths(right, ellipsoid.p)
    e = jnp.abs(u0 - u) + hidden
    sizes = jax.nn.relu(u0) + jax.nn.relu(u) + hidden
    z = right.T @ (jax.nn.relu(u0) - jax.nn.relu(u))
    lost = unit * (jnp.abs(right).T @ sizes)
    norm = jnp.sqrt(jnp.abs(jnp.einsum("rl,lrs,sl->l", z, ellipsoid.p, z)))
    norm += jnp.sqrt(jnp.linalg.norm(ellipsoid.p, axis=(1, 2)) * jnp.sum(lost**2, axis=0))

    slowest, fastest = jnp.minimum(1, 1 - d), jnp.maximum(1, 1 - d)

    def may_cross(largest):
        """Neurons that may cross their thresholds while |z|_P is at most this."""
        apart = jnp.maximum(e, largest * reach / (1 - d * sigma))
        return apart >= CONFINED * room

    doubtful = jnp.where(2 * e > room, length * e, 0)
    largest = 2 * norm + fastest / slowest * jnp.sum(doubtful, axis=0)
    some = may_cross(largest)
    coupled = jnp.sum(jnp.where(some, length * reach, 0), axis=0)
    apart = jnp.sum(jnp.where(some, length * e, 0), axis=0)
    held = norm + fastest / slowest * apart < CONFINED * largest
    held &= coupled * (slowest + fastest) < CONFINED * rate * slowest
    return held | ~jnp.any(may_cross(norm), axis=0)


def is_globally_stable(network: RateNetwork, band: Scalar) -> Flag:
    """Whether the symmetric part of L W - 1 is negative definite, L being the largest slope of the
    transfer function, by so much more than the marginal abscissa and rounding may hide (`_global`).

    That of U V' is M C M' with M = (U V) and C = [[0, 1], [1, 0]] / 2. It has the eigenvalues of
    R C R, and zeros, R being the root of the Gram matrix M'M. An error of that by epsilon changes
    its root by the root of epsilon at most.
    """
    weights: Any = network.weights
    left, right = network.transfer.steepest * weights.left, weights.right
    # Columns of the same length.
    sizes = [jnp.linalg.norm(factor, axis=0) for factor in (left, right)]
    both = jnp.sqrt(sizes[0] * sizes[1])
    units = [jnp.where(size > 0, both / jnp.where(size > 0, size, 1), 0) for size in sizes]
    m = jnp.concatenate([left * units[0], right * units[1]], axis=1)
    gram, unit = m.T @ m, summing_unit(len(m), m.dtype)
    r, size = left.shape[1], jnp.linalg.norm(gram)
    eye, lost = jnp.eye(2 * r, dtype=m.dtype), 2 * r * unit * size
    root = root_of((gram + lost * eye) / (size + lost)) * jnp.sqrt(size + lost)
    off = jnp.linalg.norm(root @ root - gram) + lost
    part = root @ jnp.roll(eye, r, axis=0) @ root / 2
    slack = jnp.linalg.norm(root) * jnp.sqrt(off) + off + unit * size + band * network.tau[0]
    return is_negative((part + part.T) / 2 + (slack - (1 - weights.diagonal)) * eye)


def root_of(square: Matrix) -> Matrix:
    """The root of a symmetric positive definite matrix of Frobenius norm 1, by Newton's and
    Schulz's iteration.

    N. J. Higham, Numer. Algorithms 15:227 (1997), doi:10.1023/A:1019150005407.
    """
    eye = jnp.eye(len(square), dtype=square.dtype)

    def improve(_, pair):
        y, z = pair
        factor = (3 * eye - z @ y) / 2
        return y @ factor, factor @ z

    root = jax.lax.fori_loop(0, ROOT_STEPS, improve, (square, eye))[0]
    return (root + root.T) / 2


def sum_of_pairs(
    left: Float[Array, "n r"], right: Float[Array, "n r"], slopes: Lanes
) -> Float[Array, "lanes r r"]:
    """V' S U, lane by lane."""
    r = left.shape[1]
    return (pairs(right, left).T @ slopes).T.reshape(-1, r, r)


def pairs(first: Float[Array, "n r"], second: Float[Array, "n r"]) -> Float[Array, "n r*r"]:
    """All products of two numbers of the same row."""
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def feedback(weights: LowRank, slopes: Lanes) -> Float[Array, "lanes r r"]:
    """K = V' S U - (1 - d), lane by lane."""
    eye = jnp.eye(weights.left.shape[1], dtype=slopes.dtype)
    return sum_of_pairs(weights.left, weights.right, slopes) - (1 - weights.diagonal) * eye


def own_rate(weights: LowRank, slopes: Lanes) -> Float[Array, " lanes"]:
    """The largest eigenvalue of J, in units of 1 / tau, that is not one of K: d - 1 with an active
    neuron, -1 with a silent one."""
    return jnp.max(jnp.where(slopes > 0, weights.diagonal, 0), axis=0) - 1


def summing_unit(n: int, dtype: Any) -> float:
    """What the sum of n terms, added in blocks, may lose, as a share of their sizes. Equal terms,
    whose roundings add up, lose 6 units at n = 100, 10 at 1,000, 16 at 10,000 and 40 at 100,000 in
    products of eight lanes or more on a CPU; random ones a tenth of that."""
    return float(jnp.finfo(dtype).eps) * (8 + n**0.5 / 8)
