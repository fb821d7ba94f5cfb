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
from functools import partial
from typing import Any, ClassVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._types import ActiveSet, Flag, Scalar, Vector
from ...networks import RateNetwork
from .._accuracy import CONFINED
from .._linalg import lu, skip_unless_any, solve_lu
from .._speed import HOPEFUL, block_rows
from ..stepping import Queue, in_blocks, in_lanes
from ._base import AbstractCertificate, Proof
from ._chambers import chamber_drift, margin
from ._ellipsoids import Ellipsoid, is_diagonally_stable, solve_lyapunov
from ._global import GlobalStability
from ._spectrum import spectral_abscissa


class ActiveBlocks(AbstractCertificate):
    """Proofs from the active block of each active set that occurs.

    - `buckets`: pairs (low, size): active sets of more than low and up to size neurons have their
      linear algebra done on matrices of this size, whatever the other rows of their batch.
    """

    settling: ClassVar[tuple[float, float, float]] = (1 / 30, 1 / 300, 0.0)
    early: ClassVar[float] = 0.1
    abscissas_are_free: ClassVar[bool] = False

    globally: GlobalStability
    buckets: tuple[tuple[int, int], ...] = eqx.field(static=True)

    @property
    def convergent(self):
        return self.globally.convergent

    def hopeful(self, network, x, inputs):
        network, x, i = cast(RateNetwork, in_lanes(network)), x.T, inputs.T
        slow = jnp.linalg.norm(network.drift(x, i), axis=0)
        return self.convergent | (slow < HOPEFUL * jnp.min(jnp.abs(network.drive(x, i)), axis=0))

    def prove(self, network, x, inputs, queue, wanted):
        def treat(size, sigma, x, i) -> Proof:
            def block(sigma):
                return Block(network, size, sigma, self.globally)

            def trapped(block, sigma, x, i):
                return block.trapped(network, sigma, x, i, self.globally)

            blocks = once_for_each_set(sigma, jax.vmap(block))
            return Proof(*jax.vmap(trapped)(blocks, sigma, x, i))

        return self.by_active_set(network, x, inputs, queue, wanted, treat, Proof.of_nothing(x))

    def trapped(self, network: RateNetwork, x: Vector, i: Vector, wanted: Flag) -> Flag:
        """Whether one state, where wanted, is proven to converge to its chamber's point."""
        sigma = (network.drive(x, i) > 0) & wanted
        block = Block(network, network.num_neurons, sigma, self.globally)
        return block.trapped(network, sigma, x, i, self.globally)[0]

    def abscissas(self, network, x, inputs, queue):
        def treat(size, sigma, x, i):
            del x, i
            return once_for_each_set(sigma, jax.vmap(lambda s: block_abscissa(network, size, s)))

        unknown = jnp.full(len(x), jnp.nan, x.dtype)
        wanted = jnp.ones(len(x), bool)
        return self.by_active_set(network, x, inputs, queue, wanted, treat, unknown)

    def parts(self, network, x, inputs, rows):
        # By NumPy, which compiles nothing.
        lanewise: Any = jax.tree.map(np.asarray, in_lanes(network))
        drive = lanewise.drive(np.asarray(x)[rows].T, np.asarray(inputs)[rows].T)
        active = (drive > 0).sum(axis=0)
        for low, size in self.buckets:
            inside = (active > low) & (active <= size)
            if inside.any():
                yield self.part(size), rows[inside]

    def part(self, size: int) -> "ActiveBlocks":
        """The certificate of active sets up to this size."""
        return ActiveBlocks(self.globally, ((-1, size),))

    @property
    def typical(self):
        return self.part(self.buckets[len(self.buckets) // 2][1])

    def by_active_set(
        self,
        network: RateNetwork,
        x: Float[Array, "m n"],
        inputs: Float[Array, "m n"],
        queue: Queue,
        wanted: Bool[Array, " m"],
        treat: Callable[[int, Bool[Array, "rows n"], Array, Array], Any],
        result: Any,
    ) -> Any:
        """`result`, a pytree of m rows, with the wanted ones of the queue replaced by
        `treat(size, sigma, x, i)`, bucket by bucket.

        Rows go in the order of their active sets, small sets first: a block of them then meets
        few sets.
        """
        n = network.num_neurons

        def block(size, part, x, i, valid):
            del part
            sigma = (in_lanes(network).drive(x.T, i.T) > 0).T
            # Padded rows repeat the first.
            return treat(size, jnp.where(valid[:, None], sigma, sigma[0]), x, i)

        sigma = in_lanes(network).drive(x.T, inputs.T) > 0
        active = jnp.sum(sigma, axis=0)
        wanted &= jnp.zeros(len(x), bool).at[queue.rows].set(True, mode="drop")
        for low, size in self.buckets:
            inside = wanted & (active > low) & (active <= size)
            queue, treat_block = _ordered(sigma, inside), partial(block, size)
            result = in_blocks(queue, block_rows(n), treat_block, result, x, inputs)
        return result


def _ordered(sigma: Bool[Array, "n m"], wanted: Bool[Array, " m"]) -> Queue:
    """The wanted rows in the order of their active sets, smaller sets first."""
    n, m = sigma.shape
    size = jnp.where(wanted, jnp.sum(sigma, axis=0), n + 1)
    bits = jnp.pad(sigma, ((0, -n % 32), (0, 0))).reshape(-1, 32, m)
    words = jnp.sum(bits << jnp.arange(32, dtype=jnp.uint32)[:, None], axis=1, dtype=jnp.uint32)
    rows = jnp.arange(m, dtype=jnp.int32)
    *_, rows = jax.lax.sort((size, *words, rows), num_keys=1 + len(words))
    return Queue(rows, jnp.sum(wanted, dtype=jnp.int32))


def once_for_each_set(
    sigma: Bool[Array, "rows n"], treat: Callable[[Bool[Array, "few n"]], Any]
) -> Any:
    """`treat` of the active set of each row, a pytree of arrays (rows, ...); equal sets that follow
    one another are treated once."""
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


class Block(eqx.Module):
    """Quantities that depend on the active set alone.

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

    def __init__(
        self, network: RateNetwork, size: int, sigma: ActiveSet, globally: GlobalStability
    ):
        weights, tau = network.weights, network.tau
        eye = jnp.eye(size, dtype=weights.dtype)
        self.order, self.active, matrix = active_block(network, size, sigma)
        self.factors = lu(-matrix)
        here, scale = tau[self.order], globally.scale[self.order]
        diagonal = globally.trapping | is_diagonally_stable(
            scale, matrix, globally.band * jnp.max(tau)
        )
        # Otherwise by doubling, in these units of the neurons.
        scaled = scale[:, None] * matrix / scale / here[:, None] + globally.band * eye
        full = skip_unless_any(
            ~diagonal,
            lambda wanted: solve_lyapunov(jnp.where(wanted, scaled, -eye), wanted),
            Ellipsoid(eye, eye, diagonal & ~diagonal),
        )
        p = jnp.where(diagonal, jnp.diag(here), full.p) * scale[:, None] * scale
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
        scaled_rows = rows / scale
        self.reach = jnp.where(
            diagonal, jnp.sum(jnp.square(scaled_rows) / here, axis=1), full.reach(scaled_rows)
        )
        self.trapping = (diagonal | full.proven) & jnp.all(jnp.isfinite(self.reach))

    def newton(self, network: RateNetwork, sigma: ActiveSet, x: Vector, i: Vector) -> Vector:
        """The fixed point of the chamber of sigma, from any x; exact but for rounding."""
        weights, drift = network.weights, chamber_drift(network, sigma, x, i)
        voltage = network.convention == "voltage"
        pull = drift if voltage else drift + weights @ jnp.where(sigma, 0, drift)
        solved = solve_lu(self.factors, jnp.where(self.active, pull[self.order], 0))
        step = jnp.zeros_like(x).at[self.order].set(jnp.where(self.active, solved, 0))
        return x + jnp.where(sigma, step, drift + weights @ step if voltage else drift)

    def trapped(
        self,
        network: RateNetwork,
        sigma: ActiveSet,
        x: Vector,
        i: Vector,
        globally: GlobalStability,
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
        return stable & (jnp.all(bound < CONFINED * room) | globally.convergent), stable, target


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
