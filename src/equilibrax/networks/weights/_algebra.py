"""Sums and products of weights, and lineax's expressions of them."""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import lineax as lx

from ... import _checks
from ._base import PAGE, StructuredWeights, scaled
from ._low_rank import LowRank


class Sum(StructuredWeights):
    """The sum of two."""

    first: StructuredWeights
    second: StructuredWeights

    @property
    def shape(self):
        return self.first.shape

    @property
    def dtype(self):
        return self.first.dtype

    def lanes(self, x):
        return self.first.lanes(x) + self.second.lanes(x)

    def absolute(self):
        return Sum(self.first.absolute(), self.second.absolute())

    def scaled(self, factor):
        return Sum(self.first.scaled(factor), self.second.scaled(factor))

    def transpose(self):
        return Sum(self.first.transpose(), self.second.transpose())


class Product(StructuredWeights):
    """The product of two."""

    first: StructuredWeights
    second: StructuredWeights

    @property
    def shape(self):
        return self.first.shape[0], self.second.shape[1]

    @property
    def dtype(self):
        return self.first.dtype

    def lanes(self, x):
        return self.first.lanes(self.second.lanes(x))

    def absolute(self):
        return Product(self.first.absolute(), self.second.absolute())

    def scaled(self, factor):
        return Product(self.first.scaled(factor), self.second)

    def transpose(self):
        return Product(self.second.transpose(), self.first.transpose())


def as_weights(name: str, value: Any) -> Any:
    """An array, or structured weights, from a `lineax` operator: sums, products and multiples of
    matrices, diagonals, the identity and structured weights.

    **Raises:** `TypeError` for operators that are known by a function alone, since |W| is not.
    """
    try:
        return _translated(value)
    except NotImplementedError:
        _checks.fail(
            name,
            "be made of matrices, diagonals, `low_rank`, `sparse`, `convolution` and `blocks`",
            f"holds a {type(value).__name__}",
            TypeError,
            page=PAGE,
        )


@singledispatch
def _translated(operator: Any) -> Any:
    raise NotImplementedError


@_translated.register
def _(operator: StructuredWeights):
    return operator


@_translated.register
def _(operator: lx.MatrixLinearOperator):
    return operator.matrix


@_translated.register
def _(operator: lx.IdentityLinearOperator):
    structure = operator.in_structure()
    nothing = jnp.zeros((*structure.shape, 0), structure.dtype)
    return LowRank(nothing, nothing, jnp.ones((), structure.dtype))


@_translated.register
def _(operator: lx.DiagonalLinearOperator):
    nothing = jnp.zeros((operator.in_size(), 0), operator.diagonal.dtype)
    return LowRank(nothing, nothing, operator.diagonal)


@_translated.register
def _(operator: lx.TaggedLinearOperator):
    return _translated(operator.operator)


@_translated.register
def _(operator: lx.NegLinearOperator):
    return scaled(_translated(operator.operator), -1)


@_translated.register
def _(operator: lx.MulLinearOperator):
    return scaled(_translated(operator.operator), operator.scalar)


@_translated.register
def _(operator: lx.DivLinearOperator):
    return scaled(_translated(operator.operator), 1 / operator.scalar)


@_translated.register
def _(operator: lx.AddLinearOperator):
    first, second = _translated(operator.operator1), _translated(operator.operator2)
    dense = [not isinstance(part, StructuredWeights) for part in (first, second)]
    if any(dense):
        return sum(
            part if is_dense else part.as_matrix()
            for part, is_dense in zip((first, second), dense, strict=True)
        )
    if not isinstance(first, LowRank) or not isinstance(second, LowRank):
        return Sum(first, second)
    columns = [(a.left, a.right) for a in (first, second)]
    left, right = (jnp.concatenate(parts, axis=1) for parts in zip(*columns, strict=True))
    return LowRank(left, right, first.diagonal + second.diagonal)


@_translated.register
def _(operator: lx.ComposedLinearOperator):
    first, second = _translated(operator.operator1), _translated(operator.operator2)
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        return _product_of_low_rank(first, second)
    if isinstance(first, StructuredWeights):
        number = _number_of(first)
        if number is not None:
            return scaled(second, number)
        if not isinstance(second, StructuredWeights):
            return first.lanes(second)
        number = _number_of(second)
        return Product(first, second) if number is None else scaled(first, number)
    if isinstance(second, StructuredWeights):
        return second.transpose().lanes(first.T).T
    if first.shape[1] < min(first.shape[0], second.shape[1]):
        return LowRank(first, second.T, jnp.zeros((), first.dtype))
    return first @ second


def _product_of_low_rank(first: LowRank, second: LowRank) -> LowRank:
    """(d + U V') (e + X Y') = d e + (d X + U V'X) Y' + U (e V)'."""
    d, e = (
        part.diagonal if part.diagonal.ndim == 0 else part.diagonal[:, None]
        for part in (first, second)
    )
    through = d * second.left + first.left @ (first.right.T @ second.left)
    left = jnp.concatenate([through, first.left], axis=1)
    right = jnp.concatenate([second.right, e * first.right], axis=1)
    return LowRank(left, right, first.diagonal * second.diagonal)


def _number_of(weights: Any) -> Any:
    """The number that these weights multiply by, if they are a multiple of the identity."""
    if not isinstance(weights, LowRank) or weights.left.shape[1] or weights.diagonal.ndim:
        return None
    return weights.diagonal
