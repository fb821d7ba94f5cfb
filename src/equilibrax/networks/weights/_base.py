"""Weights that are known by their products, and what is asked of all weights."""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ..._types import Matrix, Scalar, Vector

PAGE = "how-to/structured"
"""The page that errors about them refer to."""

Lanes = Float[Array, "n lanes"]


class StructuredWeights(lx.AbstractLinearOperator):
    """A matrix that is known by its products."""

    ndim: ClassVar[int] = 2

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int]:
        """Targets and sources."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """That of the elements."""

    @abc.abstractmethod
    def lanes(self, x: Lanes) -> Lanes:
        """W x, lane by lane."""

    @abc.abstractmethod
    def absolute(self) -> "StructuredWeights":
        """A matrix whose elements are at least |W_jk|, as far as the rounding of products goes."""

    @abc.abstractmethod
    def scaled(self, factor: Scalar) -> "StructuredWeights":
        """The matrix times a number."""

    @abc.abstractmethod
    def transpose(self) -> "StructuredWeights":
        """W'."""

    def mv(self, vector: Vector) -> Vector:
        return self.lanes(vector[:, None])[:, 0]

    def as_matrix(self) -> Matrix:
        return self.lanes(jnp.eye(self.shape[1], dtype=self.dtype))

    def in_structure(self):
        return jax.ShapeDtypeStruct((self.shape[1],), self.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct((self.shape[0],), self.dtype)


for tag in (
    lx.is_symmetric, lx.is_diagonal, lx.is_tridiagonal, lx.has_unit_diagonal,
    lx.is_lower_triangular, lx.is_upper_triangular, lx.is_positive_semidefinite,
    lx.is_negative_semidefinite,
):  # fmt: skip
    tag.register(StructuredWeights)(lambda operator: False)


def times(weights: Any, x: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
    """W x, of an array or of structured weights; for one vector or many, side by side."""
    if not isinstance(weights, StructuredWeights):
        return weights @ x
    return weights.lanes(x) if x.ndim == 2 else weights.mv(x)


def absolute(weights: Any) -> Any:
    """|W|, element by element, or a bound on it."""
    return weights.absolute() if isinstance(weights, StructuredWeights) else jnp.abs(weights)


def scaled(weights: Any, factor: Any) -> Any:
    """W times a number."""
    if isinstance(weights, StructuredWeights):
        return weights.scaled(factor)
    return weights * factor
