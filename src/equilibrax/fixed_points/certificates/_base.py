"""What every certificate offers, and the choice among them."""

import abc
from collections.abc import Iterable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._types import ActiveSet, Scalar
from .._speed import JUDGED_AT_ONCE
from ..stepping import Queue, in_blocks
from ._chambers import chamber_matrix
from ._spectrum import spectral_abscissa


class Proof(eqx.Module):
    """What is proven of m trajectories, one row for each.

    - `trapped`: the trajectory will converge to `point`.
    - `stable`: `point` is a stable fixed point, wherever the trajectory goes.
    - `point`: the fixed point, exact to rounding.
    """

    trapped: Bool[Array, " m"]
    stable: Bool[Array, " m"]
    point: Float[Array, "m n"]

    @classmethod
    def of_nothing(cls, x: Float[Array, "m n"]) -> "Proof":
        """Nothing is proven of any row."""
        nothing = jnp.zeros(len(x), bool)
        return cls(nothing, nothing, x)


class AbstractCertificate(eqx.Module):
    """How convergence and stability are proven for one network.

    - `settling`: how slow a trajectory must be, as a share of its distance from the nearest
      threshold, for a proof to be tried; in each of the first three phases.
    - `early`: the share of the time at which trajectories are first watched for a cycle.
    - `abscissas_are_free`: whether a table has them, and all else that needs LAPACK.
    """

    settling: ClassVar[tuple[float, float, float]]
    early: ClassVar[float]
    abscissas_are_free: ClassVar[bool]

    @property
    @abc.abstractmethod
    def convergent(self) -> Any:
        """Whether every trajectory is proven to converge to its input's one fixed point."""

    def hopeful(
        self, network: Any, x: Float[Array, "m n"], inputs: Float[Array, "m k"]
    ) -> Bool[Array, " m"]:
        """Trajectories of which a proof is likely enough to be tried."""
        del network, inputs
        return jnp.ones(len(x), bool)

    def parts(
        self, network: Any, x: Array, inputs: Array, rows: np.ndarray
    ) -> Iterable[tuple["AbstractCertificate", np.ndarray]]:
        """Certificates that do with smaller matrices, and the rows of each; on the host."""
        del network, x, inputs
        return [(self, rows)]

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
        wanted: Bool[Array, " m"],
    ) -> Proof:
        """What is proven of the trajectories in the queue, those that are `wanted` at least."""

    @abc.abstractmethod
    def abscissas(
        self,
        network: Any,
        x: Float[Array, "m n"],
        inputs: Float[Array, "m k"],
        queue: Queue,
    ) -> Float[Array, " m"]:
        """The spectral abscissas at the states in the queue, and NaN elsewhere."""

    def abscissa(self, network: Any, sigma: ActiveSet) -> Scalar:
        """The spectral abscissa in the chamber of sigma."""
        return spectral_abscissa(chamber_matrix(network, sigma) / network.tau[:, None])


class NoCertificate(AbstractCertificate):
    """Nothing is proven: smooth dynamics are judged by their eigenvalues alone."""

    settling: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    early: ClassVar[float] = 0.1
    abscissas_are_free: ClassVar[bool] = False

    @property
    def convergent(self) -> Any:
        return np.zeros((), bool)

    def prove(self, network, x, inputs, queue, wanted):
        del network, inputs, queue, wanted
        return Proof.of_nothing(x)

    def abscissas(self, network, x, inputs, queue):
        def treat(abscissa, x, i, valid):
            del abscissa, valid
            return jax.vmap(lambda x, i: spectral_abscissa(network.jacobian(x, i)))(x, i)

        unknown = jnp.full(len(x), jnp.nan, x.dtype)
        return in_blocks(
            queue, max(1, JUDGED_AT_ONCE // network.num_neurons), treat, unknown, x, inputs
        )
