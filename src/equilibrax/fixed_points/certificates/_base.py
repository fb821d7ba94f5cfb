"""What every certificate offers."""

import abc
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._types import ActiveSet, Flag, Scalar, Vector
from .._result import Evidence
from .._speed import judged_rows
from ..stepping import Queue, in_blocks
from ._chambers import chamber_matrix
from ._spectrum import growing_part, growth_rate, spectral_abscissa


class Proof(eqx.Module):
    """Evidence on m trajectories, one row for each.

    - `evidence`: an `Evidence`; `NONE` where nothing is known.
    - `point`: the fixed point, exact to rounding.
    - `bound`: on the spectral abscissa there.
    """

    evidence: Int[Array, " m"]
    point: Float[Array, "m n"]
    bound: Float[Array, " m"]

    @classmethod
    def of_nothing(cls, x: Float[Array, "m n"]) -> "Proof":
        """Nothing is known of any row."""
        nothing = jnp.full(len(x), Evidence.NONE, jnp.int8)
        return cls(nothing, x, jnp.full(len(x), jnp.nan, x.dtype))

    @property
    def stable(self) -> Bool[Array, " m"]:
        """Where the point is proven to be a stable fixed point."""
        return self.evidence <= Evidence.STABLE_PROVEN

    @property
    def judged(self) -> Bool[Array, " m"]:
        """Where there is any evidence that the point is a stable fixed point."""
        return self.evidence != Evidence.NONE

    @property
    def reached(self) -> Bool[Array, " m"]:
        """Where the trajectory is known to converge to the point."""
        return (self.evidence == Evidence.PROVEN) | (self.evidence == Evidence.PROBED)


def evidence_of(stable: Bool[Array, " m"], trapped: Bool[Array, " m"]) -> Int[Array, " m"]:
    """The evidence of proofs that a point is stable, and that a trajectory converges to it."""
    kinds = [Evidence.PROVEN, Evidence.STABLE_PROVEN]
    return jnp.select([trapped, stable], kinds, Evidence.NONE).astype(jnp.int8)


def packed(proof: Proof) -> Float[Array, "m columns"]:
    """The proof in one array, whose rows move in one piece."""
    return jnp.column_stack([proof.evidence, proof.bound, proof.point])


def unpacked(columns: Float[Array, "m columns"]) -> Proof:
    """The proof that was packed."""
    return Proof(columns[:, 0].astype(jnp.int8), columns[:, 2:], columns[:, 1])


def proof_in_blocks(
    queue: Queue,
    size: int,
    treat: Callable[[Array, Array, Array], Proof],
    x: Float[Array, "m n"],
    inputs: Float[Array, "m k"],
) -> Proof:
    """`treat(x, i, valid)` of the queue's rows, `size` at a time; nothing is known of others."""

    def treat_block(columns, x, i, valid):
        del columns
        return packed(treat(x, i, valid))

    return unpacked(in_blocks(queue, size, treat_block, packed(Proof.of_nothing(x)), x, inputs))


class AbstractCertificate(eqx.Module):
    """How convergence and stability are shown for one network.

    - `settling`: how slow a trajectory must be, as a share of its `distance` from thresholds, for a
      proof to be tried; in each of the first three phases.
    - `solves`: whether, in a network where all trajectories converge to one point, that is found
      without following them.
    - `early`: the share of the time at which trajectories are first watched for a cycle.
    - `bounds_are_exact`: whether the bound on an abscissa is the abscissa itself.
    - `traps`: whether trajectories can be known to converge before they have rested for good.
    """

    settling: ClassVar[tuple[float, float, float]]
    solves: ClassVar[bool] = False
    early: ClassVar[float]
    bounds_are_exact: ClassVar[bool] = False
    traps: ClassVar[bool] = True

    @property
    def convergent(self) -> Any:
        """Whether every trajectory is proven to converge to its input's one fixed point."""
        return np.zeros((), bool)

    def distance(self, sizes: Float[Array, "n lanes"]) -> Float[Array, " lanes"]:
        """How far trajectories are from thresholds, whose drives have these sizes."""
        return jnp.min(sizes, axis=0)

    def parts(
        self, network: Any, x: Array, inputs: Array, rows: np.ndarray
    ) -> Iterable[tuple["AbstractCertificate", np.ndarray]]:
        """Certificates that do with smaller matrices, and the rows of each; on the host."""
        del network, x, inputs
        return [(self, rows)]

    @property
    def has_parts(self) -> bool:
        """Whether there is more than one of these parts."""
        return False

    @property
    def typical(self) -> "AbstractCertificate":
        """The part that most rows are likely to need."""
        return self

    @abc.abstractmethod
    def prove(
        self,
        network: Any,
        x: Float[Array, "m n"],
        inputs: Float[Array, "m k"],
        queue: Queue,
    ) -> Proof:
        """The evidence on the trajectories in the queue."""

    def abscissas(
        self,
        network: Any,
        x: Float[Array, "m n"],
        inputs: Float[Array, "m k"],
        queue: Queue,
    ) -> Float[Array, " m"]:
        """The spectral abscissas at the states in the queue, and NaN elsewhere."""

        def treat(abscissa, x, i, valid):
            del abscissa, valid
            return jax.vmap(lambda x, i: growth_rate(network, x, i))(x, i)

        unknown = jnp.full(len(x), jnp.nan, x.dtype)
        return in_blocks(queue, judged_rows(network.num_neurons), treat, unknown, x, inputs)

    def abscissa(self, network: Any, sigma: ActiveSet) -> Scalar:
        """The spectral abscissa in the chamber of sigma."""
        return spectral_abscissa(chamber_matrix(network, sigma) / network.tau[:, None])

    def abscissa_at(self, network: Any, x: Vector, i: Vector) -> Scalar:
        """The spectral abscissa of smooth dynamics at x."""
        return growth_rate(network, x, i)

    def unstable_part(
        self, network: Any, x: Vector, i: Vector, d: Float[Array, "n k"], wanted: Flag
    ) -> Float[Array, "n k"]:
        """The parts of d's columns in the unstable subspace of the Jacobian at x, where that is
        wanted."""
        return growing_part(network, x, i, d, wanted)


class NoCertificate(AbstractCertificate):
    """No evidence but the spectrum."""

    settling: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    early: ClassVar[float] = 0.1

    def prove(self, network, x, inputs, queue):
        del network, inputs, queue
        return Proof.of_nothing(x)
