r"""Chambers of networks too large for a table, as they occur: proofs by matrix products alone.

In the chamber of sigma only the active block of the weights feeds back. With a for the active
neurons, s for the silent ones and d = x - x*, the flow towards the chamber's point is

    voltage:               tau_a d_a' = (W_aa - I) d_a,               tau_s d_s' = -d_s + W_sa d_a;
    activity, recurrent:   tau_a d_a' = (W_aa - I) d_a + W_as d_s,    tau_s d_s' = -d_s .

So the Jacobian's eigenvalues are those of the active block J_a, whose powers (`_powers`) prove it
to be Hurwitz and give x*, and -1/tau_s. Let C d be the deviation of what is rectified from its
value at x*, and B = I + h J. Since the flow exp(J t) is a mean of the powers B^k,

    |(C exp(J t) d)_j| <= max_k |(C B^k d)_j| .

If no B^k d, a step of Euler's method in the frozen chamber, takes a drive to zero, therefore, none
ever gets there: the trajectory stays in the chamber and converges to x*, which is a proof. The
steps end when the bound on all |B^k| says that no later one can. Under `"voltage"` a silent
neuron's state is a mean of its own past and of W_sa d_a: both must be within its distance.

The true point is not the computed one. A residual r, and what rounding may hide of it, leave
x_a - x*_a = -J_a^-1 r_a / tau_a, which the inverse bounds neuron by neuron; silent neurons add
what they read of it, or give what they have. No drive may be nearer to zero than that, and than
what the flow could ever make of it.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._batching import at_home
from ..._types import Flag, Matrix, Scalar, Vector
from ...networks import RateNetwork
from .._accuracy import (
    CONFINED,
    LAST_PASSES,
    MOST_EULER_STEPS,
    MOST_PASSES,
    RESIDUE,
    ROUNDING,
)
from .._result import Evidence
from .._speed import block_rows
from ..stepping import Queue, in_blocks, in_lanes
from ._base import AbstractCertificate, Proof, evidence_of, packed, unpacked
from ._chambers import chamber_drift, in_double, is_hidden, margin, terms, unit_of_sums, widened
from ._global import GlobalStability
from ._powers import PerRow, Powers, length, norm_bound
from ._spectrum import spectral_abscissa

Lanes = Float[Array, "n rows"]


def num_active(
    network: RateNetwork, x: Float[Array, "m n"], inputs: Float[Array, "m n"]
) -> Int[Array, " m"]:
    """How many neurons are active in each row."""
    return jnp.sum(in_lanes(network).drive(x.T, inputs.T) > 0, axis=0)


class ActiveBlocks(AbstractCertificate):
    """Proofs from the active block of each input's active set.

    - `step`: h, of the order of 1 / |J|; and `growth`, a bound on |B| for all active sets.
    - `buckets`: pairs (low, size): active sets of more than low and up to size neurons have their
      linear algebra done on matrices of this size, whatever the other rows of their batch.
    """

    settling: ClassVar[tuple[float, float, float]] = (1 / 5, 1 / 50, 0.0)
    early: ClassVar[float] = 0.1

    globally: GlobalStability
    step: Float[Array, ""]
    growth: Float[Array, ""]
    buckets: tuple[tuple[int, int], ...] = eqx.field(static=True)

    @property
    def convergent(self):
        return self.globally.convergent

    def prove(self, network: Any, x, inputs, queue):
        def treat(size, x, i, valid):
            return packed(self.proof(network, size, x.T, i.T, valid))

        nothing = packed(Proof.of_nothing(x))
        return unpacked(self.by_active_set(network, x, inputs, queue, treat, nothing))

    def trapped(self, network: RateNetwork, x: Vector, i: Vector, wanted: Flag) -> Flag:
        """Whether one state, where wanted, is proven to converge to its chamber's point."""
        n = network.num_neurons
        return self.proof(network, n, x[:, None], i[:, None], wanted[None]).reached[0]

    def abscissas(self, network: Any, x, inputs, queue):
        def treat(size, x, i, valid):
            del valid
            lanewise: Any = in_lanes(network)
            sigma = lanewise.drive(x.T, i.T) > 0
            block = Block(network, size, sigma)
            # Other slots get an eigenvalue that is no larger than any of the block.
            least = -jnp.linalg.norm(block.jacobian, axis=(1, 2))[:, None]
            filled = jnp.where(block.active, 0, least)[:, :, None] * jnp.eye(size, dtype=x.dtype)
            spectral = jax.vmap(spectral_abscissa)(block.jacobian + filled)
            silent = silent_abscissa(network, sigma)
            return jnp.where(jnp.any(sigma, axis=0), jnp.maximum(silent, spectral), silent)

        unknown = jnp.full(len(x), jnp.nan, x.dtype)
        return self.by_active_set(network, x, inputs, queue, treat, unknown)

    def parts(self, network, x, inputs, rows):
        there = at_home(x)
        if isinstance(there, np.ndarray):
            # By NumPy, which compiles nothing.
            lanewise: Any = jax.tree.map(np.asarray, in_lanes(network))
            drive = lanewise.drive(there[rows].T, np.asarray(inputs)[rows].T)
            active = (drive > 0).sum(axis=0)
        else:
            active = np.asarray(eqx.filter_jit(num_active)(network, x, inputs))[rows]
        for low, size in self.buckets:
            inside = (active > low) & (active <= size)
            if inside.any():
                yield self.part(size), rows[inside]

    def part(self, size: int) -> "ActiveBlocks":
        """The certificate of active sets up to this size."""
        return ActiveBlocks(self.globally, self.step, self.growth, ((-1, size),))

    @property
    def has_parts(self):
        return len(self.buckets) > 1

    @property
    def typical(self):
        return self.part(self.buckets[0][1])

    def by_active_set(
        self,
        network: RateNetwork,
        x: Float[Array, "m n"],
        inputs: Float[Array, "m n"],
        queue: Queue,
        treat: Callable[[int, Array, Array, Array], Array],
        result: Array,
    ) -> Array:
        """`result`, m rows, with those of the queue replaced by `treat(size, x, i, valid)`,
        bucket by bucket."""
        active = num_active(network, x, inputs)
        queued = jnp.zeros(len(x), bool).at[queue.rows].set(True, mode="drop")
        for low, size in self.buckets:

            def treat_block(part, x, i, valid, size=size):
                del part
                return treat(size, x, i, valid)

            inside = queued & (active > low) & (active <= size)
            rows = queue if len(self.buckets) == 1 else Queue.where(inside)
            result = in_blocks(rows, block_rows(size), treat_block, result, x, inputs)
        return result

    def proof(
        self, network: RateNetwork, size: int, x: Lanes, i: Lanes, wanted: Bool[Array, " rows"]
    ) -> Proof:
        """What is proven of trajectories at x, which have at most `size` active neurons."""
        lanewise = in_lanes(network)
        sigma = lanewise.drive(x, i) > 0

        def unfinished(carry):
            k, border, _ = carry
            return (k == 0) | ((k == 1) & jnp.any(border))

        def one_side(carry):
            k, border, before = carry
            first, divided = k == 0, jnp.any(border, axis=0)
            here = sigma ^ border
            asked = wanted & (first | (divided & (jnp.sum(here, axis=0) <= size)))
            block = Block(network, size, here)
            powers = Powers(block.step_matrix(self.step), self.step, self.growth, asked)
            target = fixed_point(lanewise, block, powers, i)
            point = target.astype(x.dtype)
            bound = jnp.maximum(powers.bound, silent_abscissa(network, here))
            rest = rest_bound(lanewise, here, target, i)
            hidden = distance_bound(lanewise, block, powers, rest)
            room, slack = room_at(lanewise, here, target, i, hidden)
            # The bound on the rest allows for the rounding of a sum in double precision.
            unit = ROUNDING * jnp.finfo(x.dtype).eps + 2 * unit_of_sums(len(x), np.float64)
            small = unit * terms(lanewise, here, point, i)
            exact = jnp.all(rest <= small, axis=0)
            hurwitz = asked & exact & (powers.bound < -self.globally.band)
            inside = jnp.all(room > 0, axis=0)
            stable = first & hurwitz & inside
            unproven = stable & ~self.convergent
            with jax.enable_x64(True):
                d = (x.astype(jnp.float64) - target).astype(x.dtype)
            trapped = stay(lanewise, block, powers, self.step, d, hidden, room, unproven)
            trapped = stable & (trapped | self.convergent)
            off = jnp.abs(room + slack)
            on = off <= 2 * slack
            border = on & (first & hurwitz & is_hidden(on, off))
            border &= jnp.all(on | (room > 0), axis=0)
            evidence = jnp.where(hurwitz & divided, Evidence.SPECTRUM, before.evidence)
            evidence = jnp.where(first, evidence_of(stable, trapped), evidence)
            proof = Proof(
                evidence.astype(jnp.int8), jnp.where(first, point.T, before.point),
                jnp.where(first, bound, jnp.fmax(bound, before.bound)),
            )  # fmt: skip
            return k + 1, border, proof

        start = (jnp.zeros((), jnp.int32), jnp.zeros_like(sigma), Proof.of_nothing(x.T))
        return jax.lax.while_loop(unfinished, one_side, start)[2]


def euler_step(network: RateNetwork) -> tuple[Scalar, Scalar]:
    """h, and a bound on |I + h J| for all active sets.

    h is the inverse of the spectral norm of J with all neurons active, by some power iterations, or
    the fastest time constant if that is shorter. The bound is the geometric mean of the largest row
    and column sums, which are no larger in a part of the matrix.
    """
    n, jacobian = network.num_neurons, full_jacobian(network)

    def iterate(_, v):
        v = jacobian.T @ (jacobian @ v)
        norm = jnp.linalg.norm(v)
        return v / jnp.where(norm > 0, norm, 1)

    start = jnp.cos(jnp.arange(n, dtype=jacobian.dtype)) / n**0.5
    norm = jnp.linalg.norm(jacobian @ jax.lax.fori_loop(0, 20, iterate, start))
    step = 1.5 / jnp.maximum(norm, 1.5 / jnp.min(network.tau))
    return step, norm_bound((jnp.eye(n, dtype=jacobian.dtype) + step * jacobian)[None])[0]


def full_jacobian(network: RateNetwork) -> Matrix:
    """J with all neurons active."""
    return network.linearised(jnp.ones_like(network.tau)) / network.tau[:, None]


def silent_abscissa(network: RateNetwork, sigma: Bool[Array, "n rows"]) -> PerRow:
    """The largest of the eigenvalues -1/tau_s of silent neurons; minus infinity without any."""
    return jnp.max(jnp.where(sigma, -jnp.inf, -1 / network.tau[:, None]), axis=0)


class Block(eqx.Module):
    """The active blocks of many active sets.

    - `sigma`: the active sets.
    - `order`: the neurons of each block, the active ones first; and `place`, where each neuron is
      in it.
    - `active`: which of them are active.
    - `jacobian`: J_a, zero for the others.
    """

    sigma: Bool[Array, "n rows"]
    order: Int[Array, "rows a"]
    place: Int[Array, "rows n"]
    active: Bool[Array, "rows a"]
    jacobian: Float[Array, "rows a a"]

    def __init__(self, network: RateNetwork, size: int, sigma: Bool[Array, "n rows"]):
        n = network.num_neurons
        self.sigma = sigma
        self.order = jnp.argsort(~sigma.T, axis=1, stable=True)[:, :size]
        # A product, since cumulative sums compile to many small programs.
        before = jnp.tril(jnp.ones((n, n), network.weights.dtype), -1) @ sigma
        self.place = jnp.minimum(before.T.astype(jnp.int32), size - 1)
        self.active = jnp.take_along_axis(sigma.T, self.order, axis=1)
        block = full_jacobian(network)[self.order[:, :, None], self.order[:, None, :]]
        self.jacobian = jnp.where(self.active[:, :, None] & self.active[:, None, :], block, 0)

    def step_matrix(self, step: Scalar) -> Float[Array, "rows a a"]:
        """h J_a; B is zero in other slots."""
        silent = jnp.where(self.active, 0, 1)[:, :, None]
        eye = jnp.eye(self.order.shape[1], dtype=self.jacobian.dtype)
        return step * self.jacobian - silent * eye

    def gather(self, x: Lanes) -> Float[Array, "rows a"]:
        """The active components, with zeros in other slots."""
        return jnp.where(self.active, jnp.take_along_axis(x.T, self.order, axis=1), 0)

    def scatter(self, values: Float[Array, "rows a"]) -> Lanes:
        """These components, with zeros for silent neurons."""
        return jnp.where(self.sigma, jnp.take_along_axis(values, self.place, axis=1).T, 0)


def fixed_point(network: RateNetwork, block: Block, powers: Powers, i: Lanes) -> Lanes:
    """The fixed points of the chambers, in double precision. `network` is `in_lanes`.

    Newton's method, with the powers' inverse, from x = 0, so that the answer does not depend on
    where the trajectory is; and some last steps, whose residuals are those of double precision.
    """
    sigma, weights, voltage = block.sigma, network.weights, network.convention == "voltage"

    def change_by(drift):
        pull = drift if voltage else drift + weights @ jnp.where(sigma, 0, drift)
        active = powers.solve(block.gather(pull / network.tau))
        step = block.scatter(active)
        return jnp.where(sigma, step, drift + weights @ step if voltage else drift)

    def newton(carry):
        k, x, before, going = carry
        change = jnp.where(going, change_by(chamber_drift(network, sigma, x, i)), 0)
        x += change
        now, on = approaches(change, terms(network, sigma, x, i), before)
        return k + 1, x, now, going & on

    def unfinished(carry):
        k, *_, going = carry
        return (k < MOST_PASSES) & jnp.any(going)

    start = (
        jnp.zeros((), jnp.int32), jnp.zeros_like(i),
        jnp.full_like(powers.norm, jnp.inf), powers.norm < 1,
    )  # fmt: skip
    x = jax.lax.while_loop(unfinished, newton, start)[1]
    with jax.enable_x64(True):
        wide, x, at = widened(network, x, i)

        def refine(_, x):
            drift = chamber_drift(wide, sigma, x, at).astype(i.dtype)
            return x + change_by(drift).astype(x.dtype)

        return jax.lax.fori_loop(0, LAST_PASSES, refine, x)


def approaches(
    change: Lanes, unit: Lanes, before: PerRow, shrinks: float = 0.5
) -> tuple[PerRow, Bool[Array, " rows"]]:
    """How large a step into a fixed point was, in these units, and whether another one helps: until
    it is rounding for every neuron, or small and no longer smaller by this factor than the one
    before."""
    now = jnp.max(jnp.abs(change) / jnp.where(unit > 0, unit, 1), axis=0)
    tiny = RESIDUE * jnp.finfo(change.dtype).eps
    return now, (now > tiny) & ((now < shrinks * before) | (now > tiny**0.5))


def rest_bound(network: RateNetwork, sigma: Bool[Array, "n rows"], x: Lanes, i: Lanes) -> Lanes:
    """Bounds on what is left of tau dx/dt of the chamber's flow at x. `network` is `in_lanes`."""

    def size(wide, x, i):
        rest = jnp.abs(chamber_drift(wide, sigma, x, i))
        return rest + unit_of_sums(len(x), wide.dtype) * terms(wide, sigma, x, i)

    return 1.001 * in_double(size, network, x, i) + jnp.finfo(i.dtype).tiny


def room_at(
    network: RateNetwork, sigma: Bool[Array, "n rows"], x: Lanes, i: Lanes, hidden: Lanes
) -> tuple[Lanes, Lanes]:
    """The margins of the true point, which may be off by what is hidden (`margin`)."""

    def compute(wide, x, i, hidden):
        return margin(wide, sigma, x, i, hidden, unit_of_sums(len(x), wide.dtype))

    return in_double(compute, network, x, i, hidden)


def distance_bound(network: RateNetwork, block: Block, powers: Powers, rest: Lanes) -> Lanes:
    """How far each component may be from the chamber's true point where no component of tau dx/dt
    is larger than the rest. `network` is `in_lanes`."""
    sigma, weights = block.sigma, jnp.abs(network.weights)
    voltage = network.convention == "voltage"
    silent = jnp.where(sigma, 0, rest)
    pull = rest if voltage else rest + weights @ silent
    active = block.scatter(powers.solution_bound(block.gather(pull / network.tau)))
    return 1.01 * jnp.where(sigma, active, silent + weights @ active if voltage else silent)


def stay(
    network: RateNetwork,
    block: Block,
    powers: Powers,
    h: Scalar,
    d: Lanes,
    hidden: Lanes,
    room: Lanes,
    wanted: Bool[Array, " rows"],
) -> Bool[Array, " rows"]:
    """Whether the flow from x* + d, where x* may be off by what is `hidden`, is proven to stay in
    its chamber, where that is wanted. `network` is `in_lanes`.
    """
    sigma, weights, tau = block.sigma, network.weights, network.tau
    unit = unit_of_sums(len(d), d.dtype)
    voltage = network.convention == "voltage"
    inside = jnp.all(jnp.abs(d) + hidden < CONFINED * room, axis=0) if voltage else True
    d, hidden = (jnp.where(sigma, a, 0) if voltage else a for a in (d, hidden))
    # |C_j|, of all columns that d has, and what silent neurons add to |d_a|.
    largest = jnp.max(jnp.abs(weights))
    square = jnp.square(weights / jnp.where(largest > 0, largest, 1))
    if voltage:
        reach = jnp.where(sigma, 1, largest * jnp.sqrt(square @ sigma.astype(d.dtype)))
        fed = jnp.zeros_like(powers.total)
    else:
        reach = jnp.broadcast_to(largest * jnp.sqrt(jnp.sum(square, axis=1))[:, None], d.shape)
        from_silent = jnp.where(sigma, square @ (~sigma).astype(d.dtype), 0)
        fed = largest * jnp.sqrt(jnp.sum(from_silent, axis=0)) * jnp.max(tau) / jnp.min(tau)
    reach *= 1.001

    def parts(d):
        return (length(jnp.where(own, d, 0), axis=0) for own in (sigma, ~sigma))

    def ever(d):
        """A bound on |B^k d| for all k: silent components shrink by themselves."""
        active, silent = parts(d)
        return powers.highest * (active + fed * silent) + silent

    # What a step's rounding adds to d, in units of |d|.
    norm = largest * jnp.sqrt(jnp.sum(square))
    tiny = h / jnp.min(tau) * (norm + 1) * (unit + 2 * jnp.finfo(d.dtype).eps)
    tiny += 2 * jnp.finfo(d.dtype).eps
    limit = CONFINED * room - reach * ever(hidden)

    def step(carry):
        k, d, lost, going, proven = carry
        product = weights @ d
        if voltage:
            out = jnp.where(sigma, d, product)
            moved = jnp.where(sigma, product - d, 0)
        else:
            out = product
            moved = jnp.where(sigma, product, 0) - d
        size = sum(parts(d))
        lost += powers.highest * (1 + fed) * tiny * size
        going &= jnp.all(jnp.abs(out) + reach * (lost + unit * size) < limit, axis=0)
        d += h * moved / tau
        proven |= going & jnp.all(reach * (lost + ever(d)) < limit, axis=0)
        return k + 1, d, lost, going & ~proven, proven

    def unfinished(carry):
        k, _, _, going, _ = carry
        return (k < MOST_EULER_STEPS) & jnp.any(going)

    nothing = jnp.zeros_like(powers.total)
    start = (jnp.zeros((), jnp.int32), d, nothing, wanted & inside, jnp.zeros_like(wanted))
    return jax.lax.while_loop(unfinished, step, start)[-1]
