r"""Chambers of networks too large for a table: those that occur, each once.

In the chamber of sigma only the active block of the weights feeds back. With a for the active
neurons and s for the silent ones, A = I - W_aa and d = x - x*, the flow towards the chamber's
point is

    voltage:               tau_a d_a' = -A d_a,                 tau_s d_s' = -d_s + W_sa d_a;
    activity, recurrent:   tau_a d_a' = -A d_a + W_as d_s,      tau_s d_s' = -d_s .

So x* takes one linear system of as many unknowns as there are active neurons, and the Jacobian's
eigenvalues are those of J_a = -T_a^-1 A and -1/tau_s. With J_a'P + P J_a < 0 and
|v| = sqrt(v'P v), the part d_a stays within

    rho = |d_a| + sum_s tau_s |T_a^-1 W_as| |d_s| ,

the sum only where silent neurons act on active ones, and every other component within what rho
and its own start allow. If these bounds keep each u_j on its side of zero, the trajectory
never leaves the chamber, and converges to x*: a proof, as that of `_chambers` is.

The inputs are put in the order of their active sets first, small sets first. A block of them then
meets few sets, or sets of like size, and does its linear algebra once for each set, on matrices
just large enough.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._types import ActiveSet, Flag, Scalar, Vector
from ..networks import RateNetwork
from ._chambers import chamber_drift, margin
from ._ellipsoids import smith, traps_in
from ._flow import Flow
from ._journey import Halt, Log
from ._lanes import Queue, in_blocks
from ._linalg import if_any, inverse, lu, solve_lu
from ._outcome import Outcome
from ._stability import spectral_abscissa
from ._steps import in_lanes
from ._verdict import is_near
from ._whole import Whole

FULLNESS = (3 / 8, 5 / 8, 1)
"""Sizes of matrices, as shares of n, that programs are compiled for."""

HOPEFUL = 1.0
"""A certificate is not tried where the norm of tau dx/dt is this many times the distance to the
nearest threshold, or more."""


def by_active_set(
    network: RateNetwork, inputs: Float[Array, "m n"], log: Log, queue: Queue
) -> Queue:
    """The queue in the order of its active sets, smaller sets first."""
    m, n = inputs.shape
    sigma = in_lanes(network).drive(log.x.T, inputs.T) > 0
    queued = jnp.zeros(m, bool).at[queue.rows].set(True, mode="drop")
    size = jnp.where(queued, jnp.sum(sigma, axis=0), n + 1)
    bits = jnp.pad(sigma, ((0, -n % 32), (0, 0))).reshape(-1, 32, m)
    words = jnp.sum(bits << jnp.arange(32, dtype=jnp.uint32)[:, None], axis=1, dtype=jnp.uint32)
    rows = jnp.arange(m, dtype=jnp.int32)
    *_, rows = jax.lax.sort((size, *words, rows), num_keys=1 + len(words))
    return Queue(jnp.where(jnp.arange(m) < queue.count, rows, m), queue.count)


def once_for_each_set(
    sigma: Bool[Array, "rows n"], treat: Callable[[Bool[Array, "few n"]], Any]
) -> Any:
    """What `treat` gives for the active set of each row; equal sets that follow one another
    are treated once. A pytree of arrays (rows, ...)."""
    count = sigma.shape[0]
    few = max(1, count // 8)
    new = jnp.concatenate([jnp.ones(1, bool), jnp.any(sigma[1:] != sigma[:-1], axis=1)])
    which = jnp.cumsum(new) - 1
    first = jnp.nonzero(new, size=count, fill_value=0)[0]
    shapes = eqx.filter_eval_shape(treat, sigma[:few])
    table = jax.tree.map(lambda a: jnp.zeros((count, *a.shape[1:]), a.dtype), shapes)

    def step(carry):
        k, table = carry
        # The last step may go back over a few that are done.
        k = jnp.minimum(k, count - few)
        part = treat(sigma[jax.lax.dynamic_slice_in_dim(first, k, few)])
        put = jax.lax.dynamic_update_slice_in_dim
        return k + few, jax.tree.map(lambda a, b: put(a, b, k, axis=0), table, part)

    start = (jnp.zeros((), which.dtype), table)
    table = jax.lax.while_loop(lambda carry: carry[0] <= which[-1], step, start)[1]
    return jax.tree.map(lambda a: a[which], table)


def in_ordered_blocks(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    log: Log,
    queue: Queue,
    treat: Callable[[int, Bool[Array, "rows n"], Log, Float[Array, "rows n"]], Log],
) -> Log:
    """`treat` the rows of an ordered queue block by block: given how many neurons of the block
    may be active, the active sets, the log's rows and the inputs."""
    n = network.num_neurons
    sizes = sorted({max(1, round(share * n)) for share in FULLNESS})

    def block(log: Log, rows) -> Log:
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        sigma = (in_lanes(network).drive(part.x.T, i.T) > 0).T
        largest = jnp.max(jnp.where(rows < len(inputs), jnp.sum(sigma, axis=1), 0))
        # Rows that are none repeat the first.
        sigma = jnp.where((rows < len(inputs))[:, None], sigma, sigma[0])
        branches = [lambda s, p, i, size=size: treat(size, s, p, i) for size in sizes]
        choice = jnp.sum(largest > jnp.asarray(sizes[:-1]), dtype=jnp.int32)
        return log.put(rows, jax.lax.switch(choice, branches, sigma, part, i))

    return in_blocks(queue, max(8, min(2**17 // n**2, 512)), block, log)


class Block(eqx.Module):
    """What depends on the active set alone.

    - `order`: the neurons of the block: the active ones, and silent ones to fill up.
    - `active`: which of them are active.
    - `factors`: of A, the identity for silent neurons.
    - `metric`: P.
    - `reach`: c_j P^-1 c_j' for the part c_j that u_j, or the drive of x_j, takes from d_a.
    - `weight`: tau_s |T_a^-1 W_as|, zero for active neurons.
    - `trapping`: whether P is proven to trap.
    """

    order: Int[Array, " k"]
    active: Bool[Array, " k"]
    factors: Any
    metric: Float[Array, "k k"]
    reach: Float[Array, " n"]
    weight: Float[Array, " n"]
    trapping: Bool[Array, ""]

    def __init__(self, network: RateNetwork, size: int, sigma: ActiveSet, whole: Whole):
        weights, tau = network.weights, network.tau
        eye = jnp.eye(size, dtype=weights.dtype)
        self.order, self.active, matrix = active_block(network, size, sigma)
        self.factors = lu(-matrix)
        here, scale = tau[self.order], whole.scale[self.order]
        diagonal = whole.trapping | traps_in(scale, matrix, whole.band * jnp.max(tau))
        # Otherwise by doubling, in these units of the neurons.
        scaled = scale[:, None] * matrix / scale / here[:, None] + whole.band * eye
        full, proven = smith(scaled, wanted=~diagonal)
        back = if_any(~diagonal, lambda wanted: inverse(jnp.where(wanted, full, eye)), eye)
        p = jnp.where(diagonal, jnp.diag(here), full) * scale[:, None] * scale
        back = jnp.where(diagonal, jnp.diag(1 / here), back) / scale[:, None] / scale
        self.metric = p
        rows = jnp.where(self.active, weights[:, self.order], 0)
        if network.convention == "voltage":
            direct = jnp.zeros_like(rows).at[self.order, jnp.arange(size)].set(1.0)
            rows = jnp.where(sigma[:, None], jnp.where(self.active, direct, 0), rows)
            self.weight = jnp.zeros_like(tau)
        else:
            columns = weights[self.order] * self.active[:, None] / here[:, None]
            norm = jnp.sqrt(jnp.sum(columns * (p @ columns), axis=0))
            self.weight = jnp.where(sigma, 0, tau * norm)
        self.reach = jnp.sum((rows @ back) * rows, axis=1)
        self.trapping = (diagonal | proven) & jnp.all(jnp.isfinite(self.reach))

    def newton(self, network: RateNetwork, sigma: ActiveSet, x: Vector, i: Vector) -> Vector:
        """The fixed point of the chamber of sigma, from any x; exact but for rounding."""
        weights, drift = network.weights, chamber_drift(network, sigma, x, i)
        voltage = network.convention == "voltage"
        pull = drift if voltage else drift + weights @ jnp.where(sigma, 0, drift)
        solved = solve_lu(self.factors, jnp.where(self.active, pull[self.order], 0))
        step = jnp.zeros_like(x).at[self.order].set(jnp.where(self.active, solved, 0))
        return x + jnp.where(sigma, step, drift + weights @ step if voltage else drift)

    def trapped(
        self, network: RateNetwork, sigma: ActiveSet, x: Vector, i: Vector, whole: Whole
    ) -> tuple[Flag, Flag, Vector]:
        """Whether a trajectory at x is proven to converge to the chamber's point; whether that is
        proven to be a stable fixed point at all; and the point."""
        # From 0, so that it is the same wherever x is; and once more, on what rounding left.
        target = self.newton(network, sigma, jnp.zeros_like(x), i)
        target = self.newton(network, sigma, target, i)
        room = margin(network, sigma, target, i)
        d = x - target
        active = jnp.where(self.active, d[self.order], 0)
        silent = jnp.where(sigma, 0, jnp.abs(d))
        rho = jnp.sqrt(active @ self.metric @ active) + self.weight @ silent
        bound = rho * jnp.sqrt(self.reach)
        if network.convention == "voltage":
            bound = jnp.maximum(bound, silent)
        else:
            bound += jnp.abs(network.weights) @ silent
        stable = self.trapping & jnp.all(room > 0)
        return stable & (jnp.all(bound < 0.99 * room) | whole.convergent), stable, target


def trapped_in_blocks(
    network: RateNetwork,
    size: int,
    sigma: Bool[Array, "rows n"],
    x: Float[Array, "rows n"],
    i: Float[Array, "rows n"],
    whole: Whole,
) -> tuple[Bool[Array, " rows"], Bool[Array, " rows"], Float[Array, "rows n"]]:
    """`Block.trapped` of each row, the block being made once for each set."""
    blocks = once_for_each_set(sigma, jax.vmap(lambda sigma: Block(network, size, sigma, whole)))
    return jax.vmap(lambda block, sigma, x, i: block.trapped(network, sigma, x, i, whole))(
        blocks, sigma, x, i
    )


def active_block(network: RateNetwork, size: int, sigma: ActiveSet):
    """The neurons of the block, the active ones first; which of them are; and W_aa - I."""
    order = jnp.argsort(~sigma, stable=True)[:size]
    active = sigma[order]
    weights = jnp.where(active[:, None] & active, network.weights[order][:, order], 0)
    return order, active, weights - jnp.eye(size, dtype=weights.dtype)


def block_abscissa(network: RateNetwork, size: int, sigma: ActiveSet) -> Scalar:
    """Spectral abscissa in the chamber of sigma, which has at most `size` active neurons."""
    order, _, matrix = active_block(network, size, sigma)
    silent = jnp.max(jnp.where(sigma, -jnp.inf, -1 / network.tau))
    return jnp.maximum(silent, spectral_abscissa(matrix / network.tau[order][:, None]))


def certify_blocks(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    log: Log,
    queue: Queue,
    whole: Whole,
    flow: Flow,
    judged: Flag,
) -> Log:
    """Those that are trapped have arrived, at their chamber's own point; where verdicts are passed,
    also those that rest next to one that is proven to be stable. With its abscissa, if that
    is wanted."""

    def arrive(size, sigma, part: Log, i) -> Log:
        trapped, stable, target = trapped_in_blocks(network, size, sigma, part.x, i, whole)
        near = jax.vmap(is_near)(part.x, target, part["scale"])
        resting = part["halt"] == Halt.RESTING
        arrived = resting & (trapped | (judged & stable & near))
        return part.replace(
            jnp.where(arrived[:, None], target, part.x),
            verdict=jnp.where(arrived, 1 + Outcome.STABLE, part["verdict"]),
            abscissa=jnp.where(arrived, jnp.nan, part["abscissa"]),
            certified=resting & trapped,
        )

    def measure(size, sigma, part: Log, i) -> Log:
        def of(sigma):
            return block_abscissa(network, size, sigma)

        return part.replace(abscissa=once_for_each_set(sigma, jax.vmap(of)))

    lanewise, x, i = in_lanes(network), log.x.T, inputs.T
    slow = jnp.linalg.norm(lanewise.drift(x, i), axis=0)
    close = slow < HOPEFUL * jnp.min(jnp.abs(lanewise.drive(x, i)), axis=0)
    hopeful = judged | whole.convergent | close
    queue = by_active_set(network, inputs, log, queue.only((log["halt"] == Halt.RESTING) & hopeful))
    log = in_ordered_blocks(network, inputs, log, queue, arrive)
    if flow.abscissa:
        arrived = queue.only(log["verdict"] == 1 + Outcome.STABLE)
        log = in_ordered_blocks(network, inputs, log, arrived, measure)
    return log
