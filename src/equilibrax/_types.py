"""Array aliases shared by every room.

Shapes are written once, in jaxtyping's notation: ``n`` neurons, ``m`` samples,
``*batch`` any leading axes of the inputs.
"""

from typing import TypeAlias

from jaxtyping import Array, Bool, Float, Int

Scalar: TypeAlias = Float[Array, ""]
Vector: TypeAlias = Float[Array, " n"]
Matrix: TypeAlias = Float[Array, "n n"]
ActiveSet: TypeAlias = Bool[Array, " n"]
Flag: TypeAlias = Bool[Array, ""]
Count: TypeAlias = Int[Array, ""]
