"""What rounding may hide: of a sum, of a threshold, of a zero."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._types import Vector
from ..networks import AbstractDynamics, RateNetwork, absolute, is_threshold_linear, times
from ._accuracy import BENT, NEIGHBOURS, RESOLVED, ROUNDING


def rounding(terms: Float[Array, "..."]) -> Float[Array, "..."]:
    """What rounding alone may leave of a sum, to a generous factor, if the absolute values of its
    terms add up to `terms`."""
    return ROUNDING * jnp.finfo(terms.dtype).eps * terms


def on_threshold(network: RateNetwork, x: Vector, i: Vector, scale: Vector) -> Bool[Array, " n"]:
    """Neurons of a threshold-linear network whose drive is zero up to rounding."""
    terms = network.magnitude(x, i) + scale
    if network.convention != "voltage":
        terms = times(absolute(network.weights), terms) + jnp.abs(i) + jnp.abs(network.bias)
    return jnp.abs(network.drive(x, i)) <= rounding(terms)


def neighbours(x: Vector, unit: Array) -> Float[Array, "states n"]:
    """States some roundings of these sizes away from x, to either side."""
    signs = np.sign(np.random.default_rng(3).normal(size=(NEIGHBOURS, x.size)))
    step = 2 * float(jnp.finfo(x.dtype).eps) * unit
    return x + jnp.asarray(np.concatenate([signs, -signs]), x.dtype) * step


def bend(velocity: Callable[[Array], Array], x: Array, reach: Array) -> Array:
    """How far dx/dt is from its linearisation at x, at x + reach or at x - reach, component by
    component.

    A residual r is a fixed point's that is -J^-1 r away, if J is nearly the same up to there. Where
    two fixed points have just met, the residual may be rounding, but J is not.
    """
    here, push = jax.linearize(velocity, x)
    along = push(reach)

    def off(sign):
        return jnp.abs(velocity(x + sign * reach) - here - sign * along)

    return jnp.max(jax.vmap(off)(jnp.asarray([1, -1], x.dtype)), axis=0)


def bends_little(
    velocity: Callable[[Array], Array], x: Array, reach: Array, rest: Array, axis: int = -1
) -> Bool[Array, "..."]:
    """Kantorovich's condition in norms along `axis`: what is at rest but for `rest` is next to a
    fixed point, which is no farther away than `reach`."""
    bent = jnp.linalg.norm(bend(velocity, x, reach), axis=axis)
    return bent <= BENT * jnp.linalg.norm(rest, axis=axis)


def is_resolved(network: AbstractDynamics, x: Vector, i: Vector, scale: Array) -> Bool[Array, " n"]:
    """Components of dx/dt that are not zero at x nor some roundings of x or the scale away, where
    they are nearly the same.

    The terms of a function are not known, and what they leave of each other may be far more than
    rounding: at a ghost of two fixed points, or of a phase that drifts. Threshold-linear networks
    have a point in every chamber instead, and need no such test.
    """
    if is_threshold_linear(network):
        return jnp.zeros(x.shape, bool)
    here = network.drift(x, i)
    around = neighbours(x, jnp.maximum(jnp.abs(x), scale))
    change = jnp.abs(jax.vmap(lambda x: network.drift(x, i))(around) - here)
    return jnp.abs(here) > RESOLVED * jnp.max(change, axis=0)
