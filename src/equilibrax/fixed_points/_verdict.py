"""The verdict on where a trajectory halted, independent of how it came there.

The fixed point behind the halt is sought by Newton's method, checked by its own
residual, and judged by the eigenvalues of the Jacobian there. Nothing computed on
the way is trusted.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._types import Flag, Scalar, Vector
from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear
from ._flow import Flow
from ._linalg import solve
from ._stability import spectral_abscissa, unstable_projection


class Verdict(eqx.Module):
    """What is known at a halt. At most one of the three flags is set; `state` is the
    fixed point if one is, and the trajectory's last point if none is."""

    state: Float[Array, " n"]
    abscissa: Float[Array, ""]
    stable: Bool[Array, ""]
    marginal: Bool[Array, ""]
    unstable: Bool[Array, ""]

    @property
    def at_rest(self) -> Flag:
        """Whether the trajectory came to rest at all."""
        return self.stable | self.marginal | self.unstable


def residual(network: AbstractDynamics, x: Vector, i: Vector) -> Scalar:
    """max_j |tau_j dx_j/dt| at x."""
    return jnp.max(jnp.abs(network.drift(x, i)))


def rounding(network: AbstractDynamics, x: Vector, i: Vector, scale: Scalar) -> Vector:
    """What rounding alone may leave of each component of `drift`, to a generous factor."""
    return 16 * jnp.finfo(x.dtype).eps * (network.magnitude(x, i) + scale)


def on_threshold(network: RateNetwork, x: Vector, i: Vector, scale: Scalar) -> Bool[Array, " n"]:
    """Neurons of a threshold-linear network whose drive is zero up to rounding."""
    size = jnp.max(jnp.abs(x)) + scale
    if network.convention == "voltage":
        terms = size
    else:
        terms = jnp.sum(jnp.abs(network.weights), axis=1) * size + scale
    return jnp.abs(network.drive(x, i)) <= 16 * jnp.finfo(x.dtype).eps * terms


WEAKEST = 40.0
"""Steps over which the errors of a smooth network's trajectory are taken to add up, at most."""


def is_near(x: Vector, point: Vector, scale: Scalar) -> Flag:
    """Whether x may rest because of this fixed point."""
    slack = 0.02 * jnp.maximum(jnp.abs(x), jnp.abs(point)) + 1e-4 * scale
    return jnp.all(jnp.abs(point - x) <= slack)


def polish(
    network: AbstractDynamics, x: Vector, i: Vector, scale: Scalar, trapped: Flag
) -> tuple[Vector, Flag]:
    """The fixed point next to x, by Newton's method, and whether it may be believed.

    In a chamber of a threshold-linear network the first step is exact and the second
    refines its rounding; a point outside the chamber, and not on its border, is not
    believed. Otherwise the residual must fall fourfold in the first step, as it does
    where Newton's method converges quadratically. In both cases every component must be
    near, within 2 % of itself or 1e-4 of the problem's scale, unless the trajectory is
    proven to be trapped around the point, and the residual must be rounding.
    """

    def newton(x):
        matrix = network.jacobian(x, i) * network.tau[:, None]
        return x - solve(matrix, network.drift(x, i))

    first = newton(x)
    point = newton(first)
    if is_threshold_linear(network):
        same = (network.drive(point, i) > 0) == (network.drive(x, i) > 0)
        genuine = jnp.all(same | on_threshold(network, point, i, scale))
    else:
        before, after = residual(network, x, i), residual(network, first, i)
        least = jnp.max(rounding(network, first, i, scale))
        genuine = after <= jnp.maximum(before / 4, least)
        point = newton(newton(point))
    near = trapped | is_near(x, point, scale)
    exact = jnp.all(jnp.abs(network.drift(point, i)) <= rounding(network, point, i, scale))
    return point, genuine & near & exact & jnp.all(jnp.isfinite(point))


def judge(
    network: AbstractDynamics,
    x: Vector,
    i: Vector,
    scale: Scalar,
    flow: Flow,
    *,
    trapped: Flag,
    final: Flag,
    dt: Scalar,
) -> Verdict:
    """Judge the fixed point behind a halt, if there is one.

    The trajectory is taken to have rested before, at tolerances a hundred times looser, and to
    have gone on: one that only passes slowly, or is about to be thrown out by a non-normal
    Jacobian, has left by now.

    - *stable*: a believable point whose abscissa is below the marginal band, around which
      the trajectory is `trapped`, or at which it rests: by its residual or, at the end of the
      journey (`final`), by its distance from the point, which the solver's errors account for
      (the last step was `dt` long);
    - *unstable*: a believable point whose abscissa is above the band, where the trajectory
      has come to rest: it lies on the stable manifold up to rounding, and cannot leave;
    - *marginal*: at rest where the abscissa is zero within the band, at the end of the journey,
      since there is no isolated point to polish; or on a threshold whose two sides
      disagree about stability.

    On a threshold, where u_j is zero up to rounding, the Jacobian is one-sided. Both sides,
    all such neurons silent and all active, are judged, and the larger abscissa is reported.
    """
    point, believed = polish(network, x, i, scale, trapped)
    place = jnp.where(believed, point, x)
    below = network.jacobian(place, i)
    abscissa_below = abscissa_above = spectral_abscissa(below)
    if is_threshold_linear(network):
        border = on_threshold(network, place, i, scale)
        bordering = jnp.any(border)
        above = network.linearised((border | (network.drive(place, i) > 0)).astype(x.dtype))
        abscissa_above = spectral_abscissa(above / network.tau[:, None], wanted=bordering)
        abscissa_above = jnp.where(bordering, abscissa_above, abscissa_below)
    abscissa = jnp.maximum(abscissa_below, abscissa_above)
    band = flow.marginal_abscissa(network)
    divided = (jnp.minimum(abscissa_below, abscissa_above) < -band) & (abscissa >= -band)

    saddle = believed & (abscissa > band) & ~divided
    adrift = jnp.max(jnp.abs(unstable_projection(below, wanted=saddle) @ (x - place)))
    size = jnp.maximum(jnp.max(jnp.abs(place)), scale)
    held = adrift <= jnp.finfo(x.dtype).eps ** 0.75 * size

    loosest = flow.tolerances(jnp.asarray(0), x.dtype)
    limit = loosest.steady_atol * scale + loosest.steady_rtol * jnp.abs(x)
    resting = jnp.all(jnp.abs(network.drift(x, i)) <= limit)
    # Explicit steps at the edge of their stability bounce around a point for ever, and the errors
    # of the steps keep a spiral that is damped by little in each from it.
    damping = jnp.clip(-abscissa * dt, 1 / WEAKEST, None)
    bounce = loosest.steady_atol * scale + loosest.steady_rtol * jnp.max(jnp.abs(x))
    bounce *= 1 if is_threshold_linear(network) else jnp.maximum(1, 0.5 / damping)
    resting |= final & believed & (jnp.max(jnp.abs(x - point)) <= bounce)
    stable = believed & (abscissa < -band) & (trapped | resting)
    unstable = resting & saddle & held
    marginal = resting & final & ((jnp.abs(abscissa) <= band) | (believed & divided))
    at_rest = stable | unstable | marginal
    # Evidence is given of the state returned: where the point was not reached, of x.
    elsewhere = believed & ~at_rest
    here = spectral_abscissa(network.jacobian(x, i), wanted=elsewhere)
    return Verdict(
        state=jnp.where(at_rest, place, x),
        abscissa=jnp.where(elsewhere, here, abscissa),
        stable=stable,
        marginal=marginal,
        unstable=unstable,
    )
