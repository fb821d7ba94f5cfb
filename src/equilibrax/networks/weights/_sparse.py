"""Weights of which few are not zero."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ... import _checks
from ._base import PAGE, StructuredWeights


class Sparse(StructuredWeights):
    """The non-zero elements of a matrix in compressed rows, and where they are in compressed
    columns: `sparse` builds it.

    - `data`, `sources`, `starts`: the elements, row by row, the column of each, and where each row
      starts among them.
    - `by_source`, `targets`, `source_starts`: the same column by column, of the elements
      `data[by_source]`.
    """

    data: Float[Array, " elements"]
    sources: Int[Array, " elements"]
    starts: Int[Array, " n+1"]
    by_source: Int[Array, " elements"]
    targets: Int[Array, " elements"]
    source_starts: Int[Array, " n+1"]

    @property
    def shape(self):
        return len(self.starts) - 1, len(self.source_starts) - 1

    @property
    def dtype(self):
        return self.data.dtype

    def lanes(self, x):
        return _compressed_rows(self.data, self.sources, self.starts, x)

    def absolute(self):
        return self.with_data(jnp.abs(self.data))

    def scaled(self, factor):
        return self.with_data(self.data * factor)

    def with_data(self, data: Float[Array, " elements"]) -> "Sparse":
        """Other elements in the same places."""
        return eqx.tree_at(lambda sparse: sparse.data, self, data)

    def transpose(self):
        back = jnp.argsort(self.by_source)
        return Sparse(
            self.data[self.by_source], self.targets, self.source_starts,
            back, self.sources, self.starts,
        )  # fmt: skip


@jax.custom_batching.custom_vmap
def _fast_product(data, sources, starts, x):
    """By the sparse product of the backend."""
    # SciPy comes with it: not before it is needed.
    from jax.experimental import sparse as jax_sparse

    shape = (len(starts) - 1, len(x))
    return jax_sparse.BCSR((data, sources, starts), shape=shape) @ x


@_fast_product.def_vmap
def _(axis_size, is_batched, data, sources, starts, x):
    if any(is_batched[:3]):
        each = [a if yes else jnp.broadcast_to(a, (axis_size, *a.shape))
                for a, yes in zip((data, sources, starts, x), is_batched, strict=True)]  # fmt: skip
        return jax.lax.map(lambda args: _fast_product(*args), tuple(each)), True
    side_by_side = jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)
    y = _fast_product(data, sources, starts, side_by_side)
    return jnp.moveaxis(y.reshape(-1, axis_size, x.shape[2]), 1, 0), True


@jax.custom_jvp
def _compressed_rows(data, sources, starts, x):
    return _fast_product(data, sources, starts, x)


@_compressed_rows.defjvp
def _(primals, tangents):
    data, sources, starts, x = primals
    # By gathering and adding, which can be differentiated in both again.
    row = jnp.repeat(
        jnp.arange(len(starts) - 1), jnp.diff(starts), total_repeat_length=len(sources)
    )

    def product(data, x):
        def one(x):
            return jax.ops.segment_sum(data * x[sources], row, len(starts) - 1, True)

        return jax.lax.map(one, x.T).T

    change = product(tangents[0], x) + product(data, tangents[3])
    return _compressed_rows(*primals), change


def sparse(matrix: Any) -> Sparse:
    """Sparse weights, of which only the non-zero elements are kept.

    **Arguments:**

    - `matrix`: shape `(n, n)`, of SciPy's or JAX's sparse matrices, or an array; the row is the
      target, the column the source. Its places are read when it is built; its elements may be
      traced in a `jax.experimental.sparse.BCSR` or `BCOO`.

    **Returns:** weights for `RateNetwork`, whose products cost as much as there are elements.

    **Raises:** `ValueError` for a matrix that is not square or not finite; `TypeError` for
    integers.

    **Example:**

    ```python
    import scipy.sparse

    matrix = scipy.sparse.random(2000, 2000, density=0.01, random_state=0) * 0.05
    network = eqb.RateNetwork(eqb.sparse(matrix))
    found = eqb.find_fixed_points(network, jnp.ones((8, 2000)))
    print(found.describe())
    # > 8 inputs: 8 STABLE; evidence: 8 PROBED
    ```
    """
    shape = getattr(matrix, "shape", None)
    if shape is None or not all(isinstance(size, int) for size in shape):
        _checks.fail("matrix", "be a matrix", f"is {matrix!r}", TypeError, page=PAGE)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        _checks.fail("matrix", "have shape (n, n)", f"has shape {tuple(shape)}", page=PAGE)
    n = shape[0]
    row, column, data = _elements(matrix)
    data = _checks.floating("matrix", data)
    _checks.finite("matrix", data)
    by_target, by_source = np.lexsort((column, row)), np.lexsort((row, column))
    along, across = row[by_target], column[by_target]
    if ((np.diff(along) == 0) & (np.diff(across) == 0)).any():
        _checks.fail(
            "matrix",
            "hold each place once",
            "does not; `sum_duplicates()` helps",
            page=PAGE,
        )
    # Places of the elements in rows, among those in columns.
    place = np.empty(len(row), np.int32)
    place[by_target] = np.arange(len(row), dtype=np.int32)

    def starts(where):
        return np.concatenate([[0], np.cumsum(np.bincount(where, minlength=n))])

    integers = (
        across, starts(row), place[by_source], row[by_source], starts(column)
    )  # fmt: skip
    return Sparse(data[by_target], *jax.device_put([a.astype(np.int32) for a in integers]))


def _elements(matrix: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Rows, columns and values of the elements."""
    from jax.experimental import sparse as jax_sparse

    if isinstance(matrix, jax_sparse.BCSR):
        matrix = matrix.to_bcoo()
    if isinstance(matrix, jax_sparse.BCOO):
        places = np.asarray(matrix.indices)
        inside = (places < np.asarray(matrix.shape)).all(axis=1)
        if matrix.n_batch or matrix.n_dense:
            _checks.fail("matrix", "have neither batch nor dense axes", "has some", page=PAGE)
        inside = np.flatnonzero(inside)
        return places[inside, 0], places[inside, 1], matrix.data[inside]
    if hasattr(matrix, "tocoo"):
        matrix = matrix.tocsr(copy=True)
        matrix.sum_duplicates()
        found = matrix.tocoo()
        return found.row, found.col, found.data
    dense = _checks.floating("matrix", matrix)
    row, column = np.nonzero(np.asarray(dense))
    return row, column, dense[row, column]
