"""The Jacobian's verdict on a fixed point."""

import jax
import jax.numpy as jnp

from ..._types import Flag, Matrix, Scalar
from .._linalg import eigvals, inverse, skip_unless_any


def spectral_abscissa(jacobian: Matrix, wanted: Flag | None = None) -> Scalar:
    """Largest real part of the eigenvalues, in 1/time; NaN if the matrix is not finite.

    In a batch of which no lane is `wanted`, no eigenvalue is computed.
    """

    def abscissa(wanted):
        known = wanted & jnp.all(jnp.isfinite(jacobian))
        spectrum = eigvals(jnp.where(known, jacobian, 0.0))
        return jnp.where(known, jnp.max(spectrum.real), jnp.nan).astype(jacobian.dtype)

    if wanted is None:
        return abscissa(jnp.array(True))
    return skip_unless_any(wanted, abscissa, jnp.full((), jnp.nan, jacobian.dtype))


def unstable_projection(jacobian: Matrix, wanted: bool | jax.Array = True) -> Matrix:
    r"""The projection onto the unstable eigenspace, along the stable one.

    It is (I + sign(J)) / 2, where the matrix sign is the limit of the scaled Newton
    iteration S <- (c S + (c S)^-1) / 2, c = sqrt(|S^-1| / |S|). N. J. Higham, Functions of
    Matrices (2008), ch. 5, doi:10.1137/1.9780898717778.

    `wanted=False` spares the iterations, for the lanes of a batch that do not need it.
    """
    n = jacobian.shape[0]
    limit = 40

    def step(carry):
        sign, _, k = carry
        back = inverse(sign)
        scale = jnp.sqrt(jnp.linalg.norm(back) / jnp.linalg.norm(sign))
        new = (scale * sign + back / scale) / 2
        change = jnp.max(jnp.abs(new - sign)) / jnp.max(jnp.abs(new))
        return new, change, k + 1

    def unfinished(carry):
        _, change, k = carry
        tolerance = 10 * n * jnp.finfo(jacobian.dtype).eps
        return wanted & (change > tolerance) & (k < limit)

    start = (jacobian, jnp.asarray(jnp.inf, jacobian.dtype), 0)
    sign = jax.lax.while_loop(unfinished, step, start)[0]
    return (jnp.eye(n, dtype=sign.dtype) + sign) / 2
