r"""Global stability of threshold-linear networks, for every input and every start.

Let S be a diagonal matrix for which the symmetric part of S (W - I) S^-1 is negative definite:
I - W is Lyapunov diagonally stable. Then I - W is a P-matrix, so that every input has exactly
one fixed point; P = T S^2 traps in every chamber, since a principal submatrix of a definite
matrix is definite; and under `"voltage"` every trajectory converges to the fixed point. With
z = x - x*, psi_j = phi(x_j - b_j) - phi(x*_j - b_j) and P = S^2, the function

    V = sum_j tau_j P_jj int_0^{z_j} psi_j + epsilon sum_j tau_j z_j^2 / 2

falls along all of them for a small epsilon, because 0 <= psi_j^2 <= psi_j z_j. Where all time
constants are equal, u = W x + i - b obeys the equation of `"voltage"` under `"activity"`, and
so it does with v = x - i under `"recurrent"`: there the same is proven.

Smooth transfer functions whose slopes are between 0 and L are L times functions whose slopes are
between 0 and 1: for them the same holds of L W.

Forti and Tesi, IEEE Trans. Circuits Syst. I 42:354 (1995), doi:10.1109/81.401145.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import Flag, Matrix, Scalar, Vector
from ...networks import RateNetwork
from ._powers import Powers, balance


class GlobalStability(eqx.Module):
    """Properties of a network that hold for every input and every start.

    - `band`: the marginal abscissa, beyond which all proofs are.
    - `convergent`: whether every trajectory converges to its input's one fixed point.
    """

    band: Float[Array, ""]
    convergent: Bool[Array, ""]

    def __init__(self, network: RateNetwork, band: Float[Array, ""]):
        symmetric = symmetric_part(network, balance(network.weights), band)
        # Where it is, T S^2 traps in every chamber.
        self.band, self.convergent = band, is_negative(symmetric) & is_alike(network)


def symmetric_part(network: RateNetwork, scale: Vector, band: Scalar) -> Matrix:
    """The symmetric part of S (W - I) S^-1, `scale` being S's diagonal, and as much more as the
    marginal abscissa and rounding may hide: it is Hurwitz, which a symmetric matrix is if and only
    if it is negative definite, only if T S^2 traps."""
    n = network.num_neurons
    eye = jnp.eye(n, dtype=network.weights.dtype)
    scaled = scale[:, None] * (network.weights - eye) / scale
    slack = 4 * n * jnp.finfo(scaled.dtype).eps * jnp.max(jnp.abs(scaled))
    return (scaled + scaled.T) / 2 + (band * jnp.max(network.tau) + slack) * eye


def is_negative(symmetric: Matrix) -> Flag:
    """Whether a symmetric matrix is proven to be negative definite."""
    step = 1 / jnp.max(jnp.sum(jnp.abs(symmetric), axis=1))
    unknown = jnp.full_like(step, jnp.inf)
    return Powers(step * symmetric[None], step, unknown, jnp.ones(1, bool)).norm[0] < 1


def is_alike(network: RateNetwork) -> Any:
    """Whether the equation is that of `"voltage"`, in other variables."""
    return network.convention == "voltage" or jnp.all(network.tau == network.tau[0])
