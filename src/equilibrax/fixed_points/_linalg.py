"""Linear algebra on batches of small matrices, safe to run on several CPU devices at once.

XLA hands a large enough batch of LAPACK problems to the pool of threads that runs its programs,
and waits for it there. When every thread of the pool waits like that, as on two cores with two
devices that settle at the same time, the program stands still for ever (jax 0.10.2). So on
a CPU a batch is worked through a few matrices at a time, few enough to be done on the spot; all
cores are used by the devices, each with its own batch.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Complex, Float, Inexact, Int

ON_THE_SPOT = 200_000
"""Operations below which XLA does not share a batch among threads."""


def in_turns(function: Callable, size: int, *rows: Array) -> Any:
    """`function(*rows)`, worked through this many rows at a time."""
    count = rows[0].shape[0]
    if count <= size:
        return function(*rows)
    turns = -(-count // size)

    def split(a):
        padded = jnp.pad(a, ((0, turns * size - count), *[(0, 0)] * (a.ndim - 1)), mode="edge")
        return padded.reshape(turns, size, *a.shape[1:])

    out = jax.lax.map(lambda few: function(*few), tuple(map(split, rows)))
    return jax.tree.map(lambda a: a.reshape(turns * size, *a.shape[2:])[:count], out)


def _few_at_a_time(operation: Callable, cost: Callable[[int], int]) -> Callable:
    """`operation` of arrays whose last two axes are matrices, n rows each, at the same cost in
    XLA's own count; any axes before them, and those of `jax.vmap`, are the batch."""

    def on_cpu(*matrices):
        batch = matrices[0].shape[:-2]
        count = math.prod(batch)
        size = max(1, ON_THE_SPOT // (cost(matrices[0].shape[-2]) + 1))
        if count <= size:
            return operation(*matrices)
        flat = [a.reshape(count, *a.shape[len(batch) :]) for a in matrices]
        out = in_turns(operation, size, *flat)
        return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), out)

    @custom_vmap
    def batched(*matrices):
        return jax.lax.platform_dependent(*matrices, cpu=on_cpu, default=operation)

    @batched.def_vmap
    def _(axis_size, in_batched, *matrices):
        whole = [
            a if already else jnp.broadcast_to(a, (axis_size, *a.shape))
            for a, already in zip(matrices, in_batched, strict=True)
        ]
        out = batched(*whole)
        return out, jax.tree.map(lambda _: True, out)

    return batched


_eigvals = _few_at_a_time(jnp.linalg.eigvals, lambda n: 10 * n**3)
_eig = _few_at_a_time(jnp.linalg.eig, lambda n: 30 * n**3)
_inverse = _few_at_a_time(jnp.linalg.inv, lambda n: n**3)
_cholesky = _few_at_a_time(jnp.linalg.cholesky, lambda n: n**3)
_lu = _few_at_a_time(jax.lax.linalg.lu, lambda n: n**3)
_solve = _few_at_a_time(jnp.linalg.solve, lambda n: n**3)


def _substitute(factors: Array, b: Array) -> Array:
    def one(lower: bool, b):
        return jax.lax.linalg.triangular_solve(
            factors, b, left_side=True, lower=lower, unit_diagonal=lower
        )

    return one(False, one(True, b))


_substitution = _few_at_a_time(_substitute, lambda n: n**2)


def eigvals(a: Float[Array, "n n"]) -> Complex[Array, " n"]:
    """Eigenvalues."""
    return _eigvals(a)


def eigenvectors(a: Float[Array, "n n"]) -> tuple[Complex[Array, " n"], Complex[Array, " n"]]:
    """Of the eigenvalue with the largest real part: the right eigenvector v, and the left one y as
    y / y'v, so that y' da v / y'v is the eigenvalue's change."""
    values, vectors = _eig(a)
    leading = jnp.argmax(values.real)
    # The rows of the inverse are the left eigenvectors, of this very norm.
    one = jnp.zeros_like(values).at[leading].set(1)
    return vectors[:, leading], solve(vectors.T, one)


def inverse(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse; not finite if there is none."""
    return _inverse(a)


def solve(a: Inexact[Array, "n n"], b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """The solution of a x = b."""
    return _solve(a, b[:, None])[:, 0]


def is_positive_definite(a: Float[Array, "n n"]) -> Bool[Array, ""]:
    """Whether a symmetric matrix has a Cholesky factor."""
    return jnp.all(jnp.isfinite(_cholesky(a)))


def lu(a: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Int[Array, " n"]]:
    """The factors and the permutation that `solve_lu` takes."""
    factors, _, permutation = _lu(a)
    return factors, permutation


def solve_lu(
    factored: tuple[Float[Array, "n n"], Int[Array, " n"]], b: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The solution of a x = b, from `lu(a)`."""
    factors, permutation = factored
    return _substitution(factors, b[permutation][:, None])[:, 0]


Result = TypeVar("Result")


def if_any(wanted: Bool[Array, ""], compute: Callable[[Bool[Array, ""]], Result], default: Result):
    """`compute(wanted)` where it is wanted, `default` elsewhere; in a batch of which nothing is
    wanted, nothing is computed.

    It is a loop of at most one turn: unlike a `cond`, that is skipped for a whole batch. What
    is computed must depend on the argument, or the compiler would lift it out of the loop.
    """
    turn = jax.lax.while_loop(
        lambda carry: carry[1], lambda carry: (compute(carry[1]), ~carry[1]), (default, wanted)
    )
    return turn[0]
