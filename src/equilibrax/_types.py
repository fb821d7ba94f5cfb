"""Array aliases, in jaxtyping's notation: `n` neurons, `m` samples, `*batch` any leading axes."""

from typing import Any, TypeAlias

from jaxtyping import Array, Bool, Float, Int

Scalar: TypeAlias = Float[Array, ""]
Vector: TypeAlias = Float[Array, " n"]
Matrix: TypeAlias = Float[Array, "n n"]
ActiveSet: TypeAlias = Bool[Array, " n"]
Flag: TypeAlias = Bool[Array, ""]
Count: TypeAlias = Int[Array, ""]

Device: TypeAlias = Any
"""A `jax.Device`, which type checkers take for a variable."""
