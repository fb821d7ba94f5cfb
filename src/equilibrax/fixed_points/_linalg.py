"""Linear algebra of small matrices, one by one; `jax.vmap` makes batches of them.

On a CPU these are calls of LAPACK, and XLA hands a large enough batch of its problems to the pool
of threads that runs all programs, and waits for it there. Two such batches at once, from two Python
threads, can wait for each other for ever (jax 0.10.2): `_driver.LAPACK` lets one thread call at a
time.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact, Int

# TF32 products on a GPU would spoil error estimates and verdicts.
exactly = partial(jax.default_matmul_precision, "highest")


def eigvals(a: Float[Array, "n n"]) -> Complex[Array, " n"]:
    """Eigenvalues."""
    return jnp.linalg.eigvals(a)


def eigenvectors(a: Float[Array, "n n"]) -> tuple[Complex[Array, " n"], Complex[Array, " n"]]:
    """The eigenvectors of the eigenvalue with the largest real part: the right one v, and the left
    one y as y / y'v, so that y' da v / y'v is the eigenvalue's change."""
    values, vectors = jnp.linalg.eig(a)
    leading = jnp.argmax(values.real)
    # The rows of the inverse are the left eigenvectors, of this very norm.
    one = jnp.zeros_like(values).at[leading].set(1)
    return vectors[:, leading], solve(vectors.T, one)


def inverse(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse; not finite if there is none."""
    return jnp.linalg.inv(a)


def solve(a: Inexact[Array, "n n"], b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """The solution of a x = b."""
    return jnp.linalg.solve(a, b)


def cholesky(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The lower Cholesky factor; not finite if there is none."""
    return jnp.linalg.cholesky(a)


def is_positive_definite(a: Float[Array, "n n"]) -> Bool[Array, ""]:
    """Whether a symmetric matrix has a Cholesky factor."""
    return jnp.all(jnp.isfinite(cholesky(a)))


def solve_lower(factor: Float[Array, "n n"], b: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """The solution of L x = b, from the lower Cholesky factor L."""
    return jax.lax.linalg.triangular_solve(factor, b, left_side=True, lower=True)


def lu(a: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Int[Array, " n"]]:
    """The factors and the permutation that `solve_lu` takes."""
    factors, _, permutation = jax.lax.linalg.lu(a)
    return factors, permutation


def solve_lu(
    factored: tuple[Float[Array, "n n"], Int[Array, " n"]], b: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The solution of a x = b, from `lu(a)`."""
    factors, permutation = factored

    def substituted(lower: bool, b):
        return jax.lax.linalg.triangular_solve(
            factors, b, left_side=True, lower=lower, unit_diagonal=lower
        )

    return substituted(False, substituted(True, b[permutation][:, None]))[:, 0]


Result = TypeVar("Result")


def skip_unless_any(
    wanted: Bool[Array, ""], compute: Callable[[Bool[Array, ""]], Result], default: Result
):
    """`compute(wanted)` where it is wanted, `default` elsewhere; in a batch of which nothing is
    wanted, nothing is computed.

    It is a loop of at most one turn: unlike a `cond`, that is skipped for a whole batch. What
    is computed must depend on the argument, or the compiler would lift it out of the loop.
    """
    turn = jax.lax.while_loop(
        lambda carry: carry[1], lambda carry: (compute(carry[1]), ~carry[1]), (default, wanted)
    )
    return turn[0]
