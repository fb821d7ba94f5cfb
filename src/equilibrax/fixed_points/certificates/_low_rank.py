r"""Networks of low rank, exactly: all that feeds back is a few numbers.

Let W = U V' + d with r columns and a number d, and let all time constants be equal; time is in
units of them. Under all three conventions the drive u obeys

    u' = -u + g + W phi(u),    g = i - b   or, under "recurrent",   W i - b.

At a fixed point u* = (g + U q) / (1 - s d), with s = phi'(u*) for threshold-linear networks and
d = 0 for smooth ones, and q = V' phi(u*) are r equations for r numbers. There

    J = (s d - 1) + U (s V)'

has the eigenvalues d - 1 of active and -1 of silent neurons, and those of K = V' S U - (1 - d),
which is r x r; where no more than r neurons are active, those of their own block in place of d - 1
and K's. In a chamber of a threshold-linear network z = V' (phi(u) - phi(u*)) obeys
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

Rounding. Sums over neurons are added in blocks (`total`), so that they lose no more than
`summing_unit` of their terms' sizes. With delta_u for the rounding of u at a given q,

    |q* - q| <= (1 - d) |K^-1| (|V' phi(u) - q| + rounding + |V|' S delta_u),

and |u* - u| <= delta_u + |U| |q* - q|, which is `hidden`; neurons within it of their thresholds may
be on either side. The computed inverse X of -K is off by no more than |X| rho / (1 - rho), rho
being |1 + K X| and |X| times what rounding and these neurons may change in K. All that K may be off
by must leave P a proof.
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
from ..stepping import in_blocks
from ._base import AbstractCertificate, Proof, evidence_of, proof_in_blocks
from ._chambers import is_hidden
from ._ellipsoids import Ellipsoid, solve_lyapunov
from ._global import is_negative
from ._probes import Probes
from ._products import Lanes
from ._spectrum import spectral_abscissa, unstable_projection

BLOCK = 32
"""Terms that are added in any order."""


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
        weights, slopes = network.weights, slope[:, None]
        n, r = weights.left.shape
        # The first neurons that are active; where they are all, J's block of them has its spectrum.
        some = jnp.argsort(slope == 0, stable=True)[: min(n, r)]
        few = jnp.sum(slope != 0) <= r
        block = weights.left[some] @ (slope[some, None] * weights.right[some]).T
        block += jnp.diag(slope[some] * weights.diagonal - 1)
        matrix = jnp.where(few, block, feedback(weights, slopes)[0]) if n >= r else block
        own = jnp.where(few, -1.0 if n > r else -jnp.inf, own_rate(weights, slopes)[0])
        spectral = jnp.maximum(spectral_abscissa(matrix), own)
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
        tau, shift = network.tau[0], self.band * network.tau[0]
        reduced = Reduced.of(network, i)
        weights, bias, linear = reduced.weights, network.bias[:, None], reduced.is_linear
        absolute, d = weights.absolute(), weights.diagonal
        left, right = absolute.left, absolute.right
        slopes, rates, unit, few = reduced.slopes, reduced.rates, reduced.unit, reduced.few
        u0, start = reduced.drive_at(x, i)
        q, s, k, off, ellipsoid = search(reduced, total(weights.right, rates(u0)), wanted, shift)
        u = reduced.drive(q)
        point = {
            "voltage": u + bias, "activity": rates(u), "recurrent": rates(u) + i,
        }[network.convention]  # fmt: skip

        # How far rounding may have left u, q, and then u again, from the true ones.
        delta = reduced.doubt + 2 * few * (jnp.abs(reduced.g) + absolute.spread(jnp.abs(q)))
        delta /= jnp.minimum(1, 1 - d)
        sent = total(right, jnp.abs(rates(u))) + jnp.abs(q)
        wrong = jnp.abs(reduced.error(q))
        converged = jnp.all(wrong <= ROUNDING * unit * sent, axis=0)
        wrong += unit * sent + total(right, jnp.abs(slopes(u)) * delta)
        back = jnp.where(ellipsoid.proven[:, None, None], ellipsoid.back, 0)
        length = jnp.linalg.norm(back, axis=(1, 2))
        sent_back = jnp.einsum("lrs,sl->rl", jnp.abs(back), wrong)

        def hidden_by(changed):
            """What may be hidden of u, where K may be off by so much."""
            rho = 0.1 + changed * length
            slack = jnp.where(rho < 0.5, length * rho / (1 - rho), jnp.inf)
            lost = sent_back + slack * jnp.linalg.norm(wrong, axis=0)
            return delta + jnp.maximum(1, 1 - d) * absolute.spread(lost)

        hidden = hidden_by(off)
        if not linear:
            # The ellipsoid is that of the last step's K, and the slopes are no better than u is.
            last, (k, off) = k, reduced.local(slopes(u))
            above, below = (jnp.abs(slopes(u + side) - slopes(u)) for side in (hidden, -hidden))
            apart = sum_of_pairs(left, right, above + below)
            off += jnp.linalg.norm(apart, axis=(1, 2)) + jnp.linalg.norm(k - last, axis=(1, 2))
        size = jnp.linalg.norm(ellipsoid.p, axis=(1, 2))
        size *= jnp.linalg.norm(ellipsoid.inverse, axis=(1, 2))
        spectral = jax.vmap(spectral_abscissa)(k) + off * jnp.sqrt(size)
        bound = jnp.maximum(spectral, own_rate(weights, slopes(u)))
        bound = jnp.where(wanted, bound / tau, jnp.nan)
        # K may be off by so much, and P proves it of a matrix farther to the right.
        rate = jax.vmap(lambda e: e.rate)(ellipsoid) + shift + 4 * off - off * jnp.sqrt(size)
        proven = wanted & ellipsoid.proven & converged & (rate > 0) & (bound < -self.band)
        if not linear:
            proven &= jnp.all(jnp.isfinite(hidden), axis=0)
            return Proof(evidence_of(proven, proven & self.convergent), point.T, bound)

        # Neurons that may be on either side change K, and so what is hidden: not more than twice.
        sigma, pairs_of = u > 0, jnp.linalg.norm(left, axis=1) * jnp.linalg.norm(right, axis=1)
        changed = off + pairs_of @ (jnp.abs(u) <= 2 * hidden).astype(x.dtype)
        before, hidden = hidden, hidden_by(changed)
        proven &= jnp.all(hidden <= 2 * before, axis=0)
        border = jnp.abs(u) <= hidden
        divided = jnp.any(border, axis=0)

        def with_both_sides():
            other = (sigma ^ border).astype(x.dtype)
            spectral = jax.vmap(spectral_abscissa)(reduced.local(other)[0])
            both = jnp.maximum(spectral, own_rate(weights, jnp.maximum(other, slopes(u))))
            return jnp.where(divided, jnp.maximum(bound, both / tau), bound)

        bound = jax.lax.cond(jnp.any(divided), with_both_sides, lambda: bound)
        proven &= jnp.all((s == sigma) | border, axis=0) & (1 - d > 0) & (bound < -self.band)
        judged = proven & (is_hidden(border, u) | ~divided)
        room = jnp.where(border, 0, jnp.abs(u) - hidden)
        trapped = proven & jax.lax.cond(
            self.convergent | ~jnp.any(proven),
            lambda: jnp.ones_like(proven),
            lambda: traps(reduced, ellipsoid, rate, u0, u, start, hidden, room),
        )
        evidence = jnp.select(
            [trapped, proven & ~divided, judged],
            [Evidence.PROVEN, Evidence.STABLE_PROVEN, Evidence.SPECTRUM],
            Evidence.NONE,
        )
        return Proof(evidence.astype(jnp.int8), point.T, bound)


class Reduced(eqx.Module):
    """The r equations q = V' phi(u), lane by lane, of inputs that drive the neurons with g, which
    may be off by `doubt`."""

    network: RateNetwork
    g: Lanes
    doubt: Lanes

    @classmethod
    def of(cls, network: RateNetwork, i: Lanes) -> "Reduced":
        """The equations under these inputs."""
        bias, few = network.bias[:, None], few_unit(network.weights, i.dtype)
        if network.convention == "recurrent":
            g, lost = product(network.weights, i)
        else:
            g, lost = i, few * jnp.abs(i)
        return cls(network, g - bias, lost + few * jnp.abs(bias))

    def drive_at(self, x: Lanes, i: Lanes) -> tuple[Lanes, Lanes]:
        """u at x, and how much rounding may change it."""
        network, bias, few = self.network, self.network.bias[:, None], self.few
        if network.convention == "voltage":
            return x - bias, few * (jnp.abs(x) + jnp.abs(bias))
        u, lost = product(self.weights, x)
        lost += few * jnp.abs(bias)
        if network.convention == "recurrent":
            return u - bias, lost
        return u + i - bias, lost + few * jnp.abs(i)

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

    @property
    def few(self) -> float:
        """The same of a sum over r columns, and some more terms."""
        return few_unit(self.weights, self.g.dtype)

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
        return total(self.weights.right, self.rates(self.drive(q))) - q

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
    reduced: Reduced,
    ellipsoid: Ellipsoid,
    rate: Float[Array, " lanes"],
    u0: Lanes,
    u: Lanes,
    start: Lanes,
    hidden: Lanes,
    room: Lanes,
) -> Bool[Array, " lanes"]:
    """Whether trajectories with the drives u0 converge to the points with the drives u, of which
    rounding may have hidden `start` and `hidden`, and which have this room on their own sides of
    their thresholds; |z|_P falls at this rate where no neuron crosses its threshold."""
    weights, unit, sigma = reduced.weights, reduced.unit, u > 0
    left, right, d = weights.left, weights.right, weights.diagonal

    def lengths(factor, matrices):
        """sqrt(f P f') for every row f of a factor, lane by lane; with its rounding."""
        flat = matrices.reshape(len(matrices), -1).T
        squares = pairs(factor, factor) @ flat
        lost = reduced.few * factor.shape[1] * jnp.linalg.norm(flat, axis=0)
        return jnp.sqrt(jnp.abs(squares) + lost * jnp.sum(factor**2, axis=1, keepdims=True))

    reach, length = lengths(left, ellipsoid.inverse), lengths(right, ellipsoid.p)
    e = jnp.abs(u0 - u) + hidden + start
    sent = unit * (jax.nn.relu(u0) + jax.nn.relu(u))
    sent += jnp.where(u > -hidden, hidden, 0) + jnp.where(u0 > -start, start, 0)
    z, lost = total(right, jax.nn.relu(u0) - jax.nn.relu(u)), total(jnp.abs(right), sent)
    largest = jnp.linalg.norm(ellipsoid.p, axis=(1, 2))
    square = jnp.abs(jnp.einsum("rl,lrs,sl->l", z, ellipsoid.p, z))
    square += reduced.few * len(z) * largest * jnp.sum(z**2, axis=0)
    norm = jnp.sqrt(square) + jnp.sqrt(largest * jnp.sum(lost**2, axis=0))

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
    gram, unit = total(m, m), summing_unit(len(m), m.dtype)
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
    return total(pairs(right, left), slopes).T.reshape(-1, r, r)


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


def product(weights: LowRank, x: Lanes) -> tuple[Lanes, Lanes]:
    """W x, and how much rounding may change it."""

    def applied(weights: LowRank, x: Lanes) -> Lanes:
        return weights.spread(total(weights.right, x)) + weights.diagonal * x

    unit = summing_unit(len(x), x.dtype) + few_unit(weights, x.dtype)
    return applied(weights, x), unit * applied(weights.absolute(), jnp.abs(x))


def total(factor: Float[Array, "n k"], lanes: Lanes) -> Float[Array, "k lanes"]:
    """F' x, added in blocks, blocks of blocks and so on."""

    def in_blocks_of(a):
        rest = [(0, 0)] * (a.ndim - 1)
        return jnp.pad(a, ((0, -len(a) % BLOCK), *rest)).reshape(-1, BLOCK, *a.shape[1:])

    if len(factor) <= BLOCK:
        return factor.T @ lanes
    sums = jnp.einsum("bnk,bnl->bkl", in_blocks_of(factor), in_blocks_of(lanes))
    while len(sums) > 1:
        sums = jnp.sum(in_blocks_of(sums), axis=1)
    return sums[0]


def summing_unit(n: int, dtype: Any) -> float:
    """What a `total` over n terms may lose, as a share of their sizes: half a unit for each term of
    a block, in any order, of each level of blocks, and for two more roundings of each term."""
    additions = 2
    while n > 1:
        additions += min(n, BLOCK)
        n = -(-n // BLOCK)
    return float(jnp.finfo(dtype).eps) / 2 * additions


def few_unit(weights: LowRank, dtype: Any) -> float:
    """What a sum over r columns, and some more terms, may lose."""
    return float(jnp.finfo(dtype).eps) / 2 * (weights.left.shape[1] + 6)
