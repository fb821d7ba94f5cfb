"""Weights between populations."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ... import _checks
from ._base import PAGE, StructuredWeights, absolute, scaled, times


class Blocks(StructuredWeights):
    """A matrix of matrices, of which None is zero: `blocks` builds it."""

    parts: tuple[tuple[Any, ...], ...]
    heights: tuple[int, ...] = eqx.field(static=True, converter=tuple)
    widths: tuple[int, ...] = eqx.field(static=True, converter=tuple)

    @property
    def shape(self):
        return sum(self.heights), sum(self.widths)

    @property
    def dtype(self):
        return jnp.result_type(
            *(part.dtype for row in self.parts for part in row if part is not None)
        )

    def lanes(self, x):
        pieces = jnp.split(x, np.cumsum(self.widths)[:-1])
        rows = []
        for row, height in zip(self.parts, self.heights, strict=True):
            total = jnp.zeros((height, x.shape[1]), x.dtype)
            for part, piece in zip(row, pieces, strict=True):
                if part is not None:
                    total += times(part, piece)
            rows.append(total)
        return jnp.concatenate(rows)

    def _each(self, change: Callable[[Any], Any]) -> "Blocks":
        parts = tuple(
            tuple(None if part is None else change(part) for part in row) for row in self.parts
        )
        return Blocks(parts, self.heights, self.widths)

    def absolute(self):
        return self._each(absolute)

    def scaled(self, factor):
        return self._each(lambda part: scaled(part, factor))

    def transpose(self):
        turned = self._each(lambda part: part.T)
        return Blocks(tuple(zip(*turned.parts, strict=True)), self.widths, self.heights)


def blocks(rows: Sequence[Sequence[Any]]) -> Blocks:
    """Weights between populations, as a matrix of matrices.

    **Arguments:**

    - `rows`: a list for each target population, with the weights from each source population: an
      array, structured weights, or None for no connection. Populations of the same index have the
      same size.

    **Returns:** weights for `RateNetwork`, whose products cost those of the parts.

    **Raises:** `ValueError` for parts whose shapes do not fit together.

    **Example:**

    ```python
    e_to_e = eqb.low_rank(jnp.ones(800) / 800, 0.5 * jnp.ones(800))
    weights = eqb.blocks([[e_to_e, -jnp.ones((800, 2))], [jnp.ones((2, 800)) / 800, None]])
    network = eqb.RateNetwork(weights)
    found = eqb.find_fixed_points(network, jnp.ones(802))
    print(network.num_neurons, found.stable)
    # > 802 True
    ```
    """
    rows = [list(row) for row in rows]
    if not rows or {len(row) for row in rows} != {len(rows)}:
        _checks.fail(
            "rows",
            "be a square table",
            f"has rows of {[len(row) for row in rows]} parts",
            page=PAGE,
        )
    parts = []
    for j, row in enumerate(rows):
        line = []
        for k, part in enumerate(row):
            if part is not None and not isinstance(part, StructuredWeights):
                part = _checks.floating(f"rows[{j}][{k}]", part)
                if part.ndim != 2:
                    _checks.fail(
                        f"rows[{j}][{k}]",
                        "be a matrix",
                        f"has shape {part.shape}",
                        page=PAGE,
                    )
                _checks.finite(f"rows[{j}][{k}]", part)
            line.append(part)
        parts.append(tuple(line))
    sizes = []
    for k in range(len(parts)):
        heights = {part.shape[0] for part in parts[k] if part is not None}
        widths = {row[k].shape[1] for row in parts if row[k] is not None}
        if len(heights | widths) != 1:
            must = f"give population {k} one size"
            _checks.fail(
                "rows",
                must,
                f"gives it {sorted(heights | widths) or 'none'}",
                page=PAGE,
            )
        sizes.append((heights | widths).pop())
    return Blocks(tuple(parts), tuple(sizes), tuple(sizes))
