r"""Limit cycles: does a trajectory return to where it was?

From a point a on the trajectory, with velocity f_a, the section is the hyperplane
f_a . (x - a) = 0. The trajectory crosses it again, in the same direction, once or
more in each period. A crossing near a is a return. Two returns, the second after twice
the time of the first, make a cycle, unless the distance from a keeps growing from one
to the next as it does on a spiral towards a fixed point or away from it.
"""

import diffrax
import jax
import jax.numpy as jnp

from .._types import Flag, Scalar, Vector
from ..networks import RateNetwork
from ._flow import Flow

NEAR = 1e-2
"""Largest distance of a return from its start, as a share of the orbit's diameter."""

EXACT = 1000.0
"""Returns within this many relative tolerances of the diameter make a cycle even where the
distance grows: a smaller drift in a period is below what the solver can tell from none."""

STEPS = 512
"""Solver steps that are watched for two returns."""

LEAD = 64
"""Steps that let the trajectory shed what the looser tolerances before left of it."""


def find_period(
    network: RateNetwork, x: Vector, i: Vector, flow: Flow, scale: Scalar, wanted: Flag
) -> tuple[Scalar, Flag]:
    """Period of the cycle that x lies on, in time, and whether it lies on one."""
    tolerances = flow.tolerances(jnp.asarray(1), scale)
    zero = jnp.zeros((), x.dtype)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(network.vector_field),
        flow.solver,
        t0=zero,
        t1=jnp.where(wanted, flow.horizon(network), zero),
        dt0=None,
        y0=x,
        args=i,
        saveat=diffrax.SaveAt(steps=True),
        stepsize_controller=diffrax.PIDController(tolerances.rtol, tolerances.atol),
        max_steps=STEPS,
        adjoint=diffrax.ForwardMode(),
        throw=False,
    )
    assert solution.ts is not None
    assert solution.ys is not None
    saved = jnp.isfinite(solution.ts)[LEAD:]
    times = jnp.where(saved, solution.ts[LEAD:], zero)
    orbit = jnp.where(saved[:, None], solution.ys[LEAD:], x)
    velocity = jax.vmap(lambda y: network.vector_field(zero, y, i))(orbit)
    a = orbit[0]
    diameter = jnp.max(jnp.where(saved, jnp.linalg.norm(orbit - a, axis=1), 0))

    # The solver's steps that cross the section upwards, each as the cubic through its ends.
    step = times[1:] - times[:-1]
    height = (orbit - a) @ velocity[0]
    climb = velocity @ velocity[0]
    upward = saved[1:] & (height[:-1] < 0) & (height[1:] >= 0)

    def bisect(_, ends):
        low, high = ends
        middle = (low + high) / 2
        below = hermite(middle, height[:-1], height[1:], step * climb[:-1], step * climb[1:]) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, 24, bisect, (jnp.zeros_like(step), jnp.ones_like(step)))
    s = (low + high) / 2
    leap = step[:, None] * velocity[:-1], step[:, None] * velocity[1:]
    place = hermite(s[:, None], orbit[:-1], orbit[1:], *leap)
    distance = jnp.linalg.norm(place - a, axis=1) / diameter
    returns = jnp.where(upward & (distance <= NEAR), times[:-1] - times[0] + s * step, jnp.inf)

    first = jnp.min(returns)
    second = jnp.min(jnp.where(returns > 1.5 * first, returns, jnp.inf))
    drift = [distance[jnp.argmax(returns == time)] for time in (first, second)]
    closed = (drift[1] <= EXACT * tolerances.rtol) | (drift[1] <= 1.5 * drift[0])
    rest = tolerances.steady_atol + tolerances.steady_rtol * jnp.max(jnp.abs(a))
    cycle = wanted & (diameter > 10 * rest) & (jnp.abs(second / first - 2) < 0.02) & closed
    return jnp.where(cycle, second / 2, jnp.nan), cycle


def hermite(s, start, end, start_slope, end_slope):
    """The cubic on 0 <= s <= 1 with these values and slopes at its ends."""
    rising = s**2 * (3 - 2 * s)
    return (
        (1 - rising) * start
        + rising * end
        + s * (1 - s) ** 2 * start_slope
        + s**2 * (s - 1) * end_slope
    )
