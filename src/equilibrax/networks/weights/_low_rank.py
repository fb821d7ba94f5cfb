"""Weights of low rank, beside the diagonal."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ... import _checks
from ._base import PAGE, StructuredWeights

FUSED = 8
"""Columns up to which U q is a sum of columns: it takes a quarter off the
time of the equation of motion (`benchmarks/README.md`)."""


class LowRank(StructuredWeights):
    r"""$W = U V' + d$, with $d$ a number or one for each neuron: `low_rank` builds it."""

    left: Float[Array, "n r"]
    right: Float[Array, "n r"]
    diagonal: Float[Array, "*n"]

    @property
    def shape(self):
        return len(self.left), len(self.right)

    @property
    def dtype(self):
        return self.left.dtype

    def lanes(self, x):
        diagonal = self.diagonal if self.diagonal.ndim == 0 else self.diagonal[:, None]
        return self.spread(self.right.T @ x) + diagonal * x

    def spread(self, numbers: Float[Array, "r lanes"]) -> Float[Array, "n lanes"]:
        """U q, lane by lane."""
        if not 0 < len(numbers) <= FUSED:
            return self.left @ numbers
        # Column by column, which the compiler fuses with what is done to each neuron.
        columns = zip(self.left.T, numbers, strict=True)
        return sum(u[:, None] * number for u, number in columns)  # pyright: ignore

    def absolute(self):
        return LowRank(jnp.abs(self.left), jnp.abs(self.right), jnp.abs(self.diagonal))

    def scaled(self, factor):
        return LowRank(self.left * factor, self.right, self.diagonal * factor)

    def transpose(self):
        return LowRank(self.right, self.left, self.diagonal)


def low_rank(left: Float[Array, "n r"], right: Float[Array, "n r"], diagonal: Any = 0.0) -> LowRank:
    r"""Weights of low rank, $W = U V' + d$.

    **Arguments:**

    - `left`, `right`: U and V, shape `(n, r)`; a vector is one column.
    - `diagonal`: d, one number for all neurons, with which evidence on stability is exact, or one
      for each.

    **Returns:** weights for `RateNetwork`, whose products cost n r.

    **Raises:** `ValueError` for factors of different or other shapes, or that are not finite.

    **Example:**

    ```python
    n = 10_000
    m = jax.random.normal(jax.random.key(0), (n,))
    network = eqb.RateNetwork(eqb.low_rank(1.5 * m / n, m), transfer=eqb.tanh)
    found = eqb.find_fixed_points(network, jnp.zeros(n), x0=m)
    print(found.stable, (found.rates @ m / n) > 0.3)
    # > True True
    ```
    """
    factors = []
    for name, value in (("left", left), ("right", right)):
        value = _checks.floating(name, value)
        _checks.finite(name, value)
        value = value[:, None] if value.ndim == 1 else value
        if value.ndim != 2 or len(value) == 0:
            _checks.fail(name, "have shape (n, r)", f"has shape {value.shape}", page=PAGE)
        factors.append(value)
    u, v = factors
    if u.shape != v.shape:
        _checks.fail(
            "right",
            f"have shape {u.shape}, as `left`",
            f"has shape {v.shape}",
            page=PAGE,
        )
    d = _checks.floating("diagonal", diagonal)
    _checks.per_neuron("diagonal", d, len(u))
    _checks.finite("diagonal", d)
    dtype = jnp.result_type(u, v)
    return LowRank(u.astype(dtype), v.astype(dtype), d.astype(dtype))
