"""The verdict on where a trajectory halted, independent of how it came there.

The fixed point behind the halt is sought by Newton's method, checked by its own
residual, and judged by the eigenvalues of the Jacobian there. Nothing computed on
the way is trusted.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._types import Flag, Scalar, Vector
from ..networks import RateNetwork
from ._flow import Flow, Journey
from ._stability import spectral_abscissa, unstable_part


class Verdict(eqx.Module):
    """What is known at a halt. At most one of the three flags is set."""

    state: Float[Array, " n"]
    abscissa: Float[Array, ""]
    stable: Bool[Array, ""]
    marginal: Bool[Array, ""]
    unstable: Bool[Array, ""]


def residual(network: RateNetwork, x: Vector, i: Vector) -> Scalar:
    """max_j |tau_j dx_j/dt| at x."""
    return jnp.max(jnp.abs(network.drift(x, i)))


def rounding(network: RateNetwork, x: Vector, i: Vector) -> Scalar:
    """What rounding alone leaves of the residual at a fixed point x, to a generous factor."""
    gain = 1 + jnp.max(jnp.sum(jnp.abs(network.weights), axis=1))
    size = jnp.max(jnp.abs(x)) + jnp.max(jnp.abs(network.bias))
    return 16 * jnp.finfo(x.dtype).eps * (gain * size + jnp.max(jnp.abs(i)))


def polish(network: RateNetwork, x: Vector, i: Vector, trapped: Flag) -> tuple[Vector, Flag]:
    """The fixed point next to x, by Newton's method, and whether it may be believed.

    In a chamber of a threshold-linear network the first step is exact and the second
    refines its rounding; a point outside the chamber is not believed. Otherwise the
    residual must fall fourfold in the first step, as it does where Newton's method
    converges quadratically. In both cases the point must be near, within 2 % of the
    scale of states and inputs, unless the trajectory is proven to be trapped around it,
    and its residual must be at the level of rounding.
    """

    def newton(x):
        matrix = network.jacobian(x, i) * network.tau[:, None]
        return x - jnp.linalg.solve(matrix, network.drift(x, i))

    first = newton(x)
    point = newton(first)
    if network.is_threshold_linear:
        sigma = network.drive(x, i) > 0
        genuine = jnp.all((network.drive(point, i) > 0) == sigma)
    else:
        before, after = residual(network, x, i), residual(network, first, i)
        genuine = after <= jnp.maximum(before / 4, rounding(network, first, i))
        point = newton(newton(point))
    scale = jnp.maximum(jnp.max(jnp.abs(point)), jnp.max(jnp.abs(i)))
    near = trapped | (jnp.max(jnp.abs(point - x)) <= 0.02 * scale)
    exact = residual(network, point, i) <= rounding(network, point, i)
    return point, genuine & near & exact & jnp.all(jnp.isfinite(point))


def judge(network: RateNetwork, i: Vector, journey: Journey, flow: Flow, final: Flag) -> Verdict:
    """Judge the fixed point behind a halt, if there is one.

    - *stable*: a believable point whose abscissa is below the marginal band;
    - *unstable*: a believable point whose abscissa is above it, where the trajectory has
      come to rest: it lies on the stable manifold up to rounding, so that it cannot leave;
    - *marginal*: at rest where the abscissa is zero within the band, at the `final`, the
      tightest, tolerances: there is no isolated point to polish.

    A trajectory that passes an unstable point, or one whose point cannot be believed, is
    none of the three.
    """
    x = journey.x
    point, believed = polish(network, x, i, journey.trapped)
    state = jnp.where(believed, point, x)
    jacobian = network.jacobian(state, i)
    abscissa = spectral_abscissa(jacobian)
    band = flow.marginal_abscissa(network)

    above = believed & (abscissa > band)
    adrift = jnp.max(jnp.abs(unstable_part(jacobian, x - state, wanted=above)))
    scale = jnp.maximum(jnp.max(jnp.abs(state)), jnp.max(jnp.abs(i)))
    held = adrift <= jnp.finfo(x.dtype).eps ** 0.75 * scale

    at_rest = journey.resting | journey.trapped | journey.exhausted
    loosest = flow.tolerances(jnp.asarray(0), x.dtype)
    slow = residual(network, x, i) <= loosest.steady_atol + loosest.steady_rtol * scale
    return Verdict(
        state=state,
        abscissa=abscissa,
        stable=at_rest & believed & (abscissa < -band),
        marginal=at_rest & (final | journey.exhausted) & slow & (jnp.abs(abscissa) <= band),
        unstable=at_rest & above & held,
    )
