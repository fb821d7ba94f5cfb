"""Evidence from random probes, where a matrix for each input would cost more than its trajectory.

Let z be a random unit vector, uniformly distributed, and M any n x n matrix. Then

    P( |M z| <= theta |M| ) <= 0.8 theta sqrt(n)                                    (Dixon, 1983).

Let M be the product of m factors I + h_k J, with any h_k > 0: where the real part of an eigenvalue
lambda of J is not negative, |1 + h_k lambda| >= 1 for all of them. But for a probability of p,
|M| <= mu = 0.8 sqrt(n) |M z| / p; as soon as that is less than one, therefore, J is Hurwitz, and

    Re lambda <= -L / (sum_k h_k + L max_k h_k),    L = -log mu,

since |M| >= prod_k (1 - h_k s) if -s is the real part. M z takes m products of J and a vector, for
all inputs at once, and the same probe serves all of them. It finds what a trajectory from a
symmetric start cannot: the unstable direction that it never excites.

The h_k are those of some steps of minimal residual from another vector, which suit the spectrum
better than any one h; they know nothing of z, as the probability demands. The same factors,
repeated, lead to the fixed point, x <- x + h_k dx/dt, in the frozen chamber of a threshold-linear
network. A slow trajectory is taken to converge to it when all drives are nearer to their values
there than to zero, by a factor of four. What is left of dx/dt there in double precision, led back
to the point in the same way, says how far the computed point is off the true one.

J. D. Dixon, SIAM J. Numer. Anal. 20:812 (1983), doi:10.1137/0720053.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import Flag
from ...networks import (
    AbstractDynamics,
    RateNetwork,
    absolute,
    is_structured,
    is_threshold_linear,
    times,
)
from .._accuracy import (
    AHEAD,
    MOST_PROBE_STEPS,
    NEAR_COMPONENT,
    NEAR_SCALE,
    NEARLY,
    PATIENCE,
    UNNOTICED,
)
from .._result import Evidence
from .._rounding import bends_little, rounding
from .._speed import PROBE_STEPS, probed_rows
from ..stepping import in_lanes
from ._base import AbstractCertificate, Proof, proof_in_blocks
from ._chambers import chamber_drift, in_double, is_hidden, terms
from ._products import Lanes, approaches

Product = Callable[[Lanes], Lanes]
Steps = Float[Array, "steps rows"]


class Probes(AbstractCertificate):
    """Random probes of the Jacobian at the fixed point.

    - `band`: the marginal abscissa, beyond which all evidence is.
    - `probe`: the random unit vector; `pilot`, the one that decides on the steps.
    """

    settling: ClassVar[tuple[float, float, float]] = (1 / 20, 1 / 100, 0.0)
    early: ClassVar[float] = 0.2

    band: Float[Array, ""]
    probe: Float[Array, " n"]
    pilot: Float[Array, " n"]

    def __init__(self, network: AbstractDynamics, band: Float[Array, ""]):
        shape = (2, network.num_neurons)
        z = jax.random.normal(jax.random.key(0), shape, network.dtype)
        self.band = band
        self.probe, self.pilot = z / jnp.linalg.norm(z, axis=1, keepdims=True)

    def prove(self, network, x, inputs, queue):
        def treat(x, i, valid):
            return self.proof(network, x.T, i.T, valid)

        return proof_in_blocks(queue, probed_rows(network.num_neurons), treat, x, inputs)

    def abscissa(self, network, sigma):
        unknown = jnp.asarray(jnp.nan, network.dtype)
        return unknown if is_structured(network) else super().abscissa(network, sigma)

    def abscissa_at(self, network, x, i):
        unknown = jnp.asarray(jnp.nan, network.dtype)
        return unknown if is_structured(network) else super().abscissa_at(network, x, i)

    def unstable_part(self, network, x, i, d, wanted):
        # Nothing is known to be a saddle.
        return d if is_structured(network) else super().unstable_part(network, x, i, d, wanted)

    def proof(
        self, network: AbstractDynamics, x: Lanes, i: Array, wanted: Bool[Array, " rows"]
    ) -> Proof:
        """The evidence on trajectories at x; where the pilot's steps fail, by cautious ones."""

        def wants_another(carry):
            k, _, left = carry
            return (k < 2) & jnp.any(left)

        def attempt(carry):
            k, before, left = carry
            proof, failed = self.attempt(network, x, i, left, cautious=k > 0)
            proof = jax.tree.map(
                lambda new, old: jnp.where(left.reshape(-1, *[1] * (new.ndim - 1)), new, old),
                proof, before,
            )  # fmt: skip
            return k + 1, proof, left & failed

        start = (jnp.zeros((), jnp.int32), Proof.of_nothing(x.T), wanted)
        return jax.lax.while_loop(wants_another, attempt, start)[1]

    def attempt(
        self, network: AbstractDynamics, x: Lanes, i: Array, wanted: Bool[Array, " rows"],
        *, cautious: Flag,
    ) -> tuple[Proof, Bool[Array, " rows"]]:  # fmt: skip
        """The same by steps of one kind, and where these did not lead to the end."""
        flow = Frozen(network, x, i)

        def columns(vector):
            return jnp.broadcast_to(vector[:, None], x.shape)

        steps = minimal_residual(flow.product(x), columns(self.pilot), jnp.min(network.tau))
        steps = jnp.where(cautious, jnp.min(steps, axis=0) / 2, steps)
        point, arrived = follow(flow, steps, x, wanted)
        failed = wanted & ~arrived
        wanted &= arrived

        def decay_in(sigma, wanted):
            return decay(flow.product(point, sigma), steps, columns(self.probe), wanted)

        bound, rate = decay_in(flow.sigma, wanted)
        failed |= wanted & ~(bound < jnp.inf)
        stable = wanted & (bound < -self.band)
        if is_threshold_linear(network):
            there, border = thresholds_at(flow, steps, x, point, rate, wanted)
            stable &= there
            # In the chambers across the first threshold, the second, and both.
            neurons = jnp.arange(len(x))[:, None]
            first = border & (neurons == jnp.argmax(border, axis=0))
            second = border ^ first
            hidden, several = (stable & jnp.any(some, axis=0) for some in (first, second))

            def across(k, bound):
                beyond = (first & (k != 1)) | (second & (k != 2))
                wanted = jnp.where(k == 0, hidden, several)
                other = decay_in(flow.sigma ^ beyond, wanted)[0]
                return jnp.where(wanted, jnp.maximum(bound, other), bound)

            bound = jax.lax.fori_loop(0, 3, across, bound)
            stable &= bound < -self.band
        else:
            near = NEAR_COMPONENT * flow.sizes(point)
            stable &= jnp.all(jnp.abs(point - x) <= near, axis=0)
            rest = jnp.abs(flow.velocity(point)) + flow.rounding(point) / flow.lanewise.tau
            reach = rest / jnp.maximum(-rate, self.band)
            stable &= bends_little(flow.velocity, point, reach, rest, axis=0)
        evidence = jnp.where(stable, Evidence.PROBED, Evidence.NONE).astype(jnp.int8)
        return Proof(evidence, point.T, bound), failed


class Frozen:
    """The flow from the states x, its rows in columns: threshold-linear networks keep to the
    chamber of x, `sigma` being its active neurons, as if no threshold were crossed."""

    def __init__(self, network: AbstractDynamics, x: Lanes, i: Array):
        self.network, self.i = network, i
        self.lanewise: Any = in_lanes(network)
        self.linear = is_threshold_linear(network)
        self.sigma = self.lanewise.drive(x, i) > 0 if self.linear else jnp.ones_like(x, bool)

    def velocity(self, x: Lanes) -> Lanes:
        """dx/dt."""
        if self.linear:
            return chamber_drift(self.lanewise, self.sigma, x, self.i) / self.lanewise.tau
        return self.lanewise.vector_field(jnp.zeros((), x.dtype), x, self.i)

    def product(self, x: Lanes, sigma: Bool[Array, "n rows"] | None = None) -> Product:
        """z -> J z at x; in the chamber of x, unless another is given."""
        if not isinstance(self.network, RateNetwork):
            return lambda z: jax.jvp(self.velocity, (x,), (z,))[1]
        if self.linear:
            slope = self.sigma if sigma is None else sigma
        else:
            slope = self.network.transfer.derivative(self.lanewise.drive(x, self.i))
        return lambda z: self.lanewise.push(slope.astype(z.dtype), z) / self.lanewise.tau

    def sizes(self, x: Lanes) -> Lanes:
        """What each component of tau dx/dt is the sum of."""
        if self.linear:
            return terms(self.lanewise, self.sigma, x, self.i)
        return jnp.maximum(jnp.abs(x), jax.vmap(self.network.scale, -1, -1)(x, self.i))

    def rounding(self, x: Lanes) -> Lanes:
        """What rounding alone may leave of tau dx/dt at x."""
        return rounding(self.sizes(x))

    def is_still(self, drift: Lanes, x: Lanes) -> Bool[Array, " rows"]:
        """Whether such a tau dx/dt at x is zero but for rounding."""
        return jnp.all(jnp.abs(drift) <= self.rounding(x), axis=0)


def follow(
    flow: Frozen, steps: Steps, x: Lanes, wanted: Bool[Array, " rows"]
) -> tuple[Lanes, Bool[Array, " rows"]]:
    """The fixed points to which the steps lead from x, and which of them were reached."""

    def round_of_steps(carry):
        k, x, before, going = carry
        y = all_steps(steps, flow.velocity, x)
        now, on = approaches(y - x, flow.sizes(y), before, shrinks=0.9)
        return k + PROBE_STEPS, jnp.where(going, y, x), now, going & on

    unknown = jnp.full(x.shape[1], jnp.inf, x.dtype)
    start = (jnp.zeros((), jnp.int32), x, unknown, wanted)
    _, point, left, _ = jax.lax.while_loop(unfinished, round_of_steps, start)
    still = flow.is_still(flow.lanewise.tau * flow.velocity(point), point)
    return point, (left <= 64 * jnp.finfo(x.dtype).eps) & still


def decay(
    product: Product, steps: Steps, probe: Lanes, wanted: Bool[Array, " rows"]
) -> tuple[Float[Array, " rows"], Float[Array, " rows"]]:
    """The bound on Re lambda that the probe gives, inf where it gives none, and the rate at which
    it decays itself."""
    n, rows = probe.shape
    # Each round is a trial, in up to four chambers, by two kinds of steps: their probabilities
    # may add up.
    trials = 8 * MOST_PROBE_STEPS / PROBE_STEPS
    rare = 0.8 * n**0.5 * trials / UNNOTICED
    total, longest = jnp.sum(steps, axis=0), jnp.max(steps, axis=0)

    def shrink(carry):
        k, z, bound, rate, least, age, going = carry
        z = all_steps(steps, product, z)
        # In its own unit, since squares of what has shrunk so much would be zero.
        size = jnp.maximum(jnp.max(jnp.abs(z), axis=0), jnp.finfo(z.dtype).tiny)
        norm = rare * size * jnp.linalg.norm(z / size, axis=0)
        norm = jnp.maximum(norm, jnp.finfo(z.dtype).tiny)
        rounds, length = k / PROBE_STEPS + 1, -jnp.log(norm)
        found = -length / (rounds * total + length * longest)
        bound = jnp.where(going, jnp.where(norm < 1, found, jnp.inf), bound)
        rate = jnp.where(going, jnp.log(norm / rare) / (rounds * total), rate)
        # What has not shrunk for some rounds will not.
        age = jnp.where(norm < least, 0, age + 1)
        going &= (norm > 0.5) & (norm < 1e6 * rare) & (age < PATIENCE)
        return k + PROBE_STEPS, z, bound, rate, jnp.fmin(least, norm), age, going

    none, unknown = jnp.zeros(rows, jnp.int32), jnp.full(rows, jnp.inf, probe.dtype)
    start = (none[0], probe, unknown, unknown, unknown, none, wanted)
    return jax.lax.while_loop(unfinished, shrink, start)[2:4]


def thresholds_at(
    flow: Frozen,
    steps: Steps,
    x: Lanes,
    point: Lanes,
    rate: Float[Array, " rows"],
    wanted: Bool[Array, " rows"],
) -> tuple[Bool[Array, " rows"], Bool[Array, "n rows"]]:
    """Whether the flow's point is the network's, to which trajectories from x lead, and the neurons
    there on their thresholds."""
    lanewise, sigma = flow.lanewise, flow.sigma
    product = flow.product(point)

    def drift(wide, x, i):
        return chamber_drift(wide, sigma, x, i)

    rest = in_double(drift, lanewise, point, flow.i) / lanewise.tau

    def lead_back(carry):
        k, e, going = carry
        new = all_steps(steps, lambda z: product(z) + rest, e)
        on = jnp.max(jnp.abs(new - e), axis=0) > NEARLY * jnp.max(jnp.abs(new), axis=0)
        return k + PROBE_STEPS, jnp.where(going, new, e), going & on

    start = (jnp.zeros((), jnp.int32), jnp.zeros_like(x), wanted)
    off = jax.lax.while_loop(unfinished, lead_back, start)[1]
    slowest = jnp.maximum(1, -1 / (rate * jnp.min(flow.network.tau)))
    u, slack = drive_beside(lanewise, sigma, point, off, flow.i, slowest)
    room = jnp.where(sigma, u, -u) - slack
    moved = jnp.abs(u - lanewise.drive(x, flow.i))
    border = jnp.abs(u) <= 2 * slack
    # What lies truly beyond its threshold still moves.
    still = flow.is_still(lanewise.drift(point, flow.i), point)
    hides = is_hidden(border, u, most=2) & still
    near = moved <= NEAR_COMPONENT * jnp.abs(point) + NEAR_SCALE * flow.sizes(point)
    there = jnp.where(border, near, (room > 0) & (near | (moved < AHEAD * room)))
    return (~jnp.any(border, axis=0) | hides) & jnp.all(there, axis=0), border


def unfinished(carry: tuple) -> Flag:
    """Whether rounds of steps go on for some row: the first of a loop's values counts the steps,
    the last says for which."""
    k, *_, going = carry
    return (k < MOST_PROBE_STEPS) & jnp.any(going)


def drive_beside(
    network: RateNetwork,
    sigma: Bool[Array, "n rows"],
    x: Lanes,
    off: Lanes,
    i: Lanes,
    longest: Float[Array, " rows"],
) -> tuple[Lanes, Lanes]:
    """The drives at x + off, and how far they may be from the true point's, where the last quarter
    of `off` is not known, nor what single precision makes of a sum. Those of weights with structure
    are at x, and what they may be off takes the longest time constant into account."""
    doubt = jnp.abs(off) / 4
    if network.convention != "voltage":
        doubt = times(absolute(network.weights), doubt)
    own = 2 * jnp.finfo(x.dtype).eps * terms(network, sigma, x, i)
    if is_structured(network):
        # The residual itself is rounded.
        doubt += longest * own
        if network.convention != "voltage":
            doubt += longest * times(absolute(network.weights), own)
        return network.drive(x, i), doubt + own
    doubt += own
    drive = in_double(lambda wide, x, off, i: wide.drive(x + off, i), network, x, off, i)
    return drive, doubt


def all_steps(steps: Steps, slope: Product, x: Lanes) -> Lanes:
    """x <- x + h_k slope(x), for each step h_k, the last one first: steps of minimal residual grow
    as what is fast vanishes, and short ones then damp the rounding that long ones magnify."""
    last = len(steps) - 1
    return jax.lax.fori_loop(0, len(steps), lambda k, x: x + steps[last - k] * slope(x), x)


def minimal_residual(product: Product, y: Lanes, fastest: Array) -> Steps:
    """The h_k for which |y + h_k J y| is least, step after step from this y, as long as they are
    positive."""

    def step(k, carry):
        y, steps = carry
        slope = product(y)
        square = jnp.sum(jnp.square(slope), axis=0)
        h = -jnp.sum(y * slope, axis=0) / jnp.where(square > 0, square, 1)
        # At least a share of the inverse of |J|, and at most some time constants.
        least = 0.1 * jnp.linalg.norm(y, axis=0) / jnp.sqrt(jnp.where(square > 0, square, 1))
        h = jnp.clip(h, least, 4 * fastest)
        y += h * slope
        length = jnp.linalg.norm(y, axis=0)
        y /= jnp.where(length > 0, length, 1)
        return y, steps.at[k].set(h)

    nothing = jnp.zeros((PROBE_STEPS, y.shape[1]), y.dtype)
    return jax.lax.fori_loop(0, PROBE_STEPS, step, (y, nothing))[1]
