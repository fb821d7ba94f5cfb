"""The Jacobian's verdict on a fixed point.

Batched LAPACK calls must follow one another: two at once wait for each other's threads for
ever on a machine with two cores (jax 0.10.2, seen at n = 100). Where two are independent,
here and in `_chambers` and `_verdict`, the second one's argument is made to depend on the
first one's result.
"""

import jax
import jax.numpy as jnp

from .._types import Flag, Matrix, Scalar, Vector


def spectral_abscissa(jacobian: Matrix, wanted: Flag | None = None) -> Scalar:
    """Largest real part of the eigenvalues, in 1/time; NaN if the matrix is not finite.

    In a batch of which no lane is `wanted`, no eigenvalue is computed.
    """

    def abscissa(wanted):
        known = wanted & jnp.all(jnp.isfinite(jacobian))
        spectrum = jnp.linalg.eigvals(jnp.where(known, jacobian, 0.0))
        return jnp.where(known, jnp.max(spectrum.real), jnp.nan).astype(jacobian.dtype)

    if wanted is None:
        return abscissa(jnp.array(True))
    # A loop of at most one turn: unlike a `cond`, it is skipped for a whole batch. What it
    # computes depends on its own state, or the compiler would lift it out of the loop.
    start = (jnp.full((), jnp.nan, jacobian.dtype), wanted)
    turn = jax.lax.while_loop(lambda c: c[1], lambda c: (abscissa(c[1]), ~c[1]), start)
    return turn[0]


def unstable_part(jacobian: Matrix, d: Vector, wanted: bool | jax.Array = True) -> Vector:
    r"""The projection of d onto the unstable eigenspace, along the stable one.

    It is (d + sign(J) d) / 2, where the matrix sign is the limit of the scaled Newton
    iteration S <- (c S + (c S)^-1) / 2, c = sqrt(|S^-1| / |S|). N. J. Higham, Functions of
    Matrices (2008), ch. 5, doi:10.1137/1.9780898717778.

    `wanted=False` spares the iterations, for the lanes of a batch that do not need it.
    """
    n = jacobian.shape[0]
    limit = 40

    def step(carry):
        sign, _, k = carry
        inverse = jnp.linalg.inv(sign)
        scale = jnp.sqrt(jnp.linalg.norm(inverse) / jnp.linalg.norm(sign))
        new = (scale * sign + inverse / scale) / 2
        change = jnp.max(jnp.abs(new - sign)) / jnp.max(jnp.abs(new))
        return new, change, k + 1

    def unfinished(carry):
        _, change, k = carry
        tolerance = 10 * n * jnp.finfo(jacobian.dtype).eps
        return wanted & (change > tolerance) & (k < limit)

    start = (jacobian, jnp.asarray(jnp.inf, jacobian.dtype), 0)
    sign = jax.lax.while_loop(unfinished, step, start)[0]
    return (d + sign @ d) / 2
