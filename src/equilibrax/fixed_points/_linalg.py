"""Linear algebra of small matrices, one by one; `jax.vmap` makes batches of them.

On a CPU these are calls of LAPACK. XLA hands a large enough batch of them to the pool of threads
that also runs the program, and waits for it there: when as many calls wait as the pool has threads,
they wait for ever (jax 0.10.2). That takes several calls that do not depend on each other, in one
program or in two. So each call in a program of ours depends on the result of the one before - where
the equation does not see to that, as where a Jacobian is the same at every x, `after` does - and
one program that has any runs at a time: `alone`.
"""

import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from .. import _checks

LAPACK = threading.RLock()
"""Held while a program that calls LAPACK runs."""


def alone(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program, of which one thread at a time runs any; a part of its caller's where traced."""

    @wraps(program)
    def call(*arguments: Any) -> Any:
        if not _checks.all_concrete(arguments):
            return program(*arguments)
        with LAPACK:
            return jax.block_until_ready(program(*arguments))

    return call


# TF32 products on a GPU would spoil error estimates and verdicts.
exactly = partial(jax.default_matmul_precision, "highest")


def eigenvectors(
    a: Float[Array, "n n"], size: Callable[[Array], Array] = jnp.real
) -> tuple[Complex[Array, ""], Complex[Array, " n"], Complex[Array, " n"]]:
    """The eigenvalue with the largest real part, or of the largest `size`; the right eigenvector v
    of it, and the left one y as y / y'v, so that y' da v / y'v is the eigenvalue's change."""
    values, vectors = jnp.linalg.eig(a)
    leading = jnp.argmax(size(values))
    # The rows of the inverse are the left eigenvectors, of this very norm.
    one = jnp.zeros_like(values).at[leading].set(1)
    return values[leading], vectors[:, leading], solve(vectors.T, one)


def after(a: Inexact[Array, "..."], done: Inexact[Array, " n"]) -> Inexact[Array, "..."]:
    """`a`, which is not there before `done` is; NaN where the sum of `done` is."""
    return jnp.where(jnp.isnan(jnp.sum(done)), jnp.nan, a)


def inverse(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse; not finite if there is none."""
    return jnp.linalg.inv(a)


def solve(a: Inexact[Array, "n n"], b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """The solution of a x = b, whose factors are computed after b."""
    return factored(a, b)(b)


def factored(
    a: Inexact[Array, "n n"], done: Inexact[Array, " n"]
) -> Callable[..., Inexact[Array, " n"]]:
    """`solve(b)` for the solution of a x = b, and `solve(b, transpose=True)` for that of a' x = b,
    from factors that are computed after `done`."""
    factors = jax.scipy.linalg.lu_factor(after(a, done))

    def solve_factored(b: Inexact[Array, " n"], *, transpose: bool = False):
        return jax.scipy.linalg.lu_solve(factors, b, trans=int(transpose))

    return solve_factored


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
