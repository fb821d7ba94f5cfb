"""The Jacobian's verdict on a fixed point."""

import jax
import jax.numpy as jnp

from .._types import Matrix, Scalar, Vector


def spectral_abscissa(jacobian: Matrix) -> Scalar:
    """Largest real part of the eigenvalues, in 1/time; NaN if the matrix is not finite."""
    finite = jnp.all(jnp.isfinite(jacobian))
    spectrum = jnp.linalg.eigvals(jnp.where(finite, jacobian, 0.0))
    return jnp.where(finite, jnp.max(spectrum.real), jnp.nan).astype(jacobian.dtype)


def unstable_part(jacobian: Matrix, d: Vector, wanted: bool | jax.Array = True) -> Vector:
    r"""The projection of d onto the unstable eigenspace, along the stable one.

    It is (d + sign(J) d) / 2, where the matrix sign is the limit of the scaled Newton
    iteration S <- (c S + (c S)^-1) / 2, c = |det S|^(-1/n). N. J. Higham, Functions of
    Matrices (2008), ch. 5, doi:10.1137/1.9780898717778.

    `wanted=False` spares the iterations, for the lanes of a batch that do not need it.
    """
    n = jacobian.shape[0]
    limit = 40

    def step(carry):
        sign, _, k = carry
        inverse = jnp.linalg.inv(sign)
        scale = jnp.exp(-jnp.linalg.slogdet(sign)[1] / n)
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
