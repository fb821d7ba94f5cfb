r"""Chambers of threshold-linear networks: active sets, and the affine flow inside each.

For phi = [.]+ the state space splits into chambers, one for each active set
sigma = {j : u_j(x) > 0}, with u = C x + d the drive, that is rectified: C = I under
`"voltage"`, C = W under the other two. Inside a chamber the flow is affine,

    tau dx/dt = M x + q,    J = T^-1 M,    x* = -M^-1 q.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._types import ActiveSet, Matrix
from ...networks import RateNetwork, absolute, is_structured, times


def all_sets(n: int) -> np.ndarray:
    """All active sets of n neurons, (2^n, n): that of index sum_j sigma_j 2^j in this row."""
    return np.arange(2**n)[:, None] >> np.arange(n) & 1 == 1


def chamber_index(sigma: Bool[Array, "n lanes"]) -> Int[Array, " lanes"]:
    """The places of these active sets among `all_sets`."""
    return jnp.sum(jnp.where(sigma, 2 ** np.arange(len(sigma))[:, None], 0), axis=0)


def chamber_matrix(network: RateNetwork, sigma: ActiveSet) -> Matrix:
    """M = T J, the linear part of the flow in the chamber of sigma."""
    return network.linearised(sigma.astype(network.dtype))


def chamber_drift(
    network: RateNetwork,
    sigma: Bool[Array, "n *lanes"],
    x: Float[Array, "n *lanes"],
    i: Float[Array, "n *lanes"],
) -> Float[Array, "n *lanes"]:
    """M x + q: tau dx/dt of the flow in the chamber of sigma, wherever x is."""
    return network.drift_at(jnp.where(sigma, network.drive(x, i), 0), x, i)


def terms(
    network: RateNetwork,
    sigma: Bool[Array, "n *lanes"],
    x: Float[Array, "n *lanes"],
    i: Float[Array, "n *lanes"],
) -> Float[Array, "n *lanes"]:
    """The absolute values of what tau dx/dt adds up in the chamber of sigma, neuron by neuron.
    `network` is `in_lanes` where x is."""
    size = jnp.abs(x) + jnp.abs(network.bias)
    sources = jnp.where(sigma, size, 0) if network.convention == "voltage" else jnp.abs(x)
    return times(absolute(network.weights), sources) + size + jnp.abs(i)


def widened(network: RateNetwork, *arrays: Array) -> tuple[Any, ...]:
    """The network and arrays in double precision, inside `jax.enable_x64`: what is left of a sum is
    known to far more digits there."""
    return network.astype(jnp.float64), *(array.astype(jnp.float64) for array in arrays)


def in_double(compute: Callable[..., Any], network: RateNetwork, *arrays: Array) -> Any:
    """`compute(network, *arrays)` in double precision, rounded at the end; in their own precision
    where weights have structure."""
    if is_structured(network):
        return compute(network, *arrays)
    with jax.enable_x64(True):
        results = compute(*widened(network, *arrays))
        return jax.tree.map(lambda result: result.astype(network.dtype), results)


def unit_of_sums(n: int, dtype: Any) -> float:
    """Share of the sizes of its terms that rounding may take from a sum over n neurons, in
    whatever order they are added."""
    return (n + 6) * float(jnp.finfo(dtype).eps) / 2


def is_hidden(
    border: Bool[Array, "n *lanes"], u: Float[Array, "n *lanes"], most: int = 1
) -> Bool[Array, " *lanes"]:
    """Whether rounding alone hides on which side of one threshold a point is, or of so many, u
    being the drive: then all sides have to be stable. On more thresholds, or on one exactly, that
    does not decide (`classify`)."""
    number = jnp.sum(border, axis=0)
    return (number >= 1) & (number <= most) & jnp.all(u != 0, axis=0)


def margin(
    network: RateNetwork,
    sigma: Bool[Array, "n *lanes"],
    x: Float[Array, "n *lanes"],
    i: Float[Array, "n *lanes"],
    hidden: Float[Array, "n *lanes"],
    unit: Any = None,
) -> tuple[Float[Array, "n *lanes"], Float[Array, "n *lanes"]]:
    """How far each u_j(x) lies on its own side of zero, less what rounding could hide; and that,
    `hidden` being how far rounding may have left the computed x_j from the true one, and `unit`
    the share of its terms that rounding may take from a sum; that of a few terms if absent.

    All are positive only when the true x lies in the chamber of sigma. `network` is `in_lanes`
    where x is.
    """
    u = network.drive(x, i)
    unit = 2 * jnp.finfo(x.dtype).eps if unit is None else unit
    if network.convention == "voltage":
        slack = hidden + unit * (jnp.abs(x) + jnp.abs(network.bias))
    else:
        slack = times(absolute(network.weights), hidden) + unit * terms(network, sigma, x, i)
    return jnp.where(sigma, u, -u) - slack, slack
