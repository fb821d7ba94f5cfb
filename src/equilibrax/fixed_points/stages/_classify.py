"""The verdict on where a trajectory stopped, independent of how it came there.

Newton's method seeks the fixed point behind the state; its own residual checks it, and the
eigenvalues of the Jacobian there judge it. Nothing computed on the way is trusted.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..._types import Flag, Scalar, Vector
from ...networks import AbstractDynamics, RateNetwork, is_threshold_linear
from .._accuracy import HELD, NEAR_COMPONENT, NEAR_SCALE, ROUNDING, WEAKEST
from .._linalg import solve
from .._phases import Phase, tolerances_at
from .._result import Evidence, Outcome
from .._speed import judged_rows
from .._state import PENDING, State, StopReason
from ..certificates import spectral_abscissa, unstable_projection
from ..stepping import Queue, in_blocks
from ._stage import Problem, Stage


def wants(problem: Problem, state: State, phase: Phase) -> Bool[Array, " m"]:
    """Where verdicts are passed, pending trajectories that stand still; in the end, all."""
    del problem
    still = (state.stop == StopReason.AT_REST) | (state.stop == StopReason.ESCAPED)
    return state.pending & phase.judged & (phase.final | still)


def run(problem: Problem, state: State, phase: Phase, queue: Queue) -> State:
    """Pass verdicts on the rows of the queue."""

    def treat(part: State, i, valid) -> State:
        del valid
        return jax.vmap(lambda row, i: classify(problem, row, i, phase.final))(part, i)

    size = judged_rows(problem.network.num_neurons)
    return in_blocks(queue, size, treat, state, problem.inputs)


CLASSIFY = Stage("classify", wants, run, uses_lapack=lambda problem: True)


def classify(problem: Problem, row: State, i: Vector, final: Flag) -> State:
    """One trajectory's state, with its outcome.

    The trajectory is taken to have rested before, at tolerances a hundred times looser, and to
    have gone on: one that only passes slowly, or is about to be thrown out by a non-normal
    Jacobian, has left by now.

    - *stable*: a believable point whose abscissa is below the marginal band, at which the
      trajectory rests: by its residual or, after the last phase (`final`), by its distance from the
      point, which the solver's errors account for;
    - *unstable*: a believable point whose abscissa is above the band, where the trajectory
      has come to rest: it lies on the stable manifold up to rounding, and cannot leave;
    - *marginal*: at rest where the abscissa is zero within the band, after the last phase,
      since there is no isolated point to polish; or on a threshold whose two sides
      disagree about stability.

    On a threshold, where u_j is zero up to rounding, the Jacobian is one-sided. Both sides,
    all such neurons silent and all active, are judged, and the larger abscissa is reported.

    The abscissa is that of the state returned; it is left open where the point behind the state
    was not reached.
    """
    network, flow = problem.network, problem.flow
    x, scale = row.x, row.scale
    point, believed = polish(network, x, i, scale)
    place = jnp.where(believed, point, x)
    below, above = one_sided_abscissas(problem, place, i, scale)
    abscissa = jnp.maximum(below, above)
    band = flow.marginal_abscissa(network)
    divided = (jnp.minimum(below, above) < -band) & (abscissa >= -band)

    saddle = believed & (abscissa > band) & ~divided
    unstable_part = unstable_projection(network.jacobian(place, i), wanted=saddle)
    adrift = jnp.max(jnp.abs(unstable_part @ (x - place)))
    size = jnp.maximum(jnp.max(jnp.abs(place)), scale)
    held = adrift <= jnp.finfo(x.dtype).eps ** HELD * size

    loosest = tolerances_at(flow, 0, x.dtype)
    resting = jnp.all(jnp.abs(network.drift(x, i)) <= loosest.at_rest(x, scale))
    # Explicit steps at the edge of their stability bounce around a point for ever, and the errors
    # of the steps keep a spiral that is damped by little in each from it.
    damping = jnp.clip(-abscissa * row.dt, 1 / WEAKEST, None)
    bounce = loosest.at_rest(jnp.max(jnp.abs(x)), scale)
    bounce *= 1 if is_threshold_linear(network) else jnp.maximum(1, 0.5 / damping)
    resting |= final & believed & (jnp.max(jnp.abs(x - point)) <= bounce)
    stable = believed & (abscissa < -band) & resting
    unstable = resting & saddle & held
    marginal = resting & final & ((jnp.abs(abscissa) <= band) | (believed & divided))
    at_rest = stable | unstable | marginal
    outcome = jnp.select(
        [stable, marginal, unstable, row.stop == StopReason.ESCAPED],
        [Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE, Outcome.DIVERGED],
        jnp.where(final, int(Outcome.NOT_SETTLED), PENDING),
    )
    return row.ended(
        jnp.array(True), outcome, x=jnp.where(at_rest, place, x),
        abscissa=jnp.where(believed & ~at_rest, jnp.nan, abscissa),
        evidence=jnp.where(at_rest, Evidence.SPECTRUM, Evidence.NONE),
        abscissa_bound=jnp.where(stable, abscissa, jnp.nan),
    )  # fmt: skip


def one_sided_abscissas(
    problem: Problem, x: Vector, i: Vector, scale: Scalar
) -> tuple[Scalar, Scalar]:
    """The abscissas with all neurons on a threshold silent, and with all of them active."""
    network = problem.network
    if not is_threshold_linear(network):
        abscissa = spectral_abscissa(network.jacobian(x, i))
        return abscissa, abscissa
    active, border = network.drive(x, i) > 0, on_threshold(network, x, i, scale)

    def side(k, abscissas):
        sigma = jnp.where(k > 0, active | border, active)
        abscissa = problem.certificate.abscissa(network, sigma)
        return jnp.where(jnp.arange(2) >= k, abscissa, abscissas)

    # A loop, so that it is compiled once, and the second turn is spared where there is no border.
    unknown = jnp.full(2, jnp.nan, x.dtype)
    below, above = jax.lax.fori_loop(0, 1 + jnp.any(border), side, unknown)
    return below, above


def residual(network: AbstractDynamics, x: Vector, i: Vector) -> Scalar:
    """max_j |tau_j dx_j/dt| at x."""
    return jnp.max(jnp.abs(network.drift(x, i)))


def rounding(network: AbstractDynamics, x: Vector, i: Vector, scale: Scalar) -> Vector:
    """What rounding alone may leave of each component of `drift`, to a generous factor."""
    return ROUNDING * jnp.finfo(x.dtype).eps * (network.magnitude(x, i) + scale)


def on_threshold(network: RateNetwork, x: Vector, i: Vector, scale: Scalar) -> Bool[Array, " n"]:
    """Neurons of a threshold-linear network whose drive is zero up to rounding."""
    size = jnp.max(jnp.abs(x)) + scale
    if network.convention == "voltage":
        terms = size
    else:
        terms = jnp.sum(jnp.abs(network.weights), axis=1) * size + scale
    return jnp.abs(network.drive(x, i)) <= ROUNDING * jnp.finfo(x.dtype).eps * terms


def is_near(x: Vector, point: Vector, scale: Scalar) -> Flag:
    """Whether x may rest because of this fixed point."""
    size = jnp.maximum(jnp.abs(x), jnp.abs(point))
    slack = NEAR_COMPONENT * size + NEAR_SCALE * scale
    return jnp.all(jnp.abs(point - x) <= slack)


def polish(network: AbstractDynamics, x: Vector, i: Vector, scale: Scalar) -> tuple[Vector, Flag]:
    """The fixed point next to x, by Newton's method, and whether it may be believed.

    In a chamber of a threshold-linear network the first step is exact and the second
    refines its rounding; a point outside the chamber, and not on its border, is not
    believed. Otherwise the residual must fall fourfold in the first step, as it does
    where Newton's method converges quadratically. In both cases every component must be
    near, within 2 % of itself or 1e-4 of the problem's scale, and the residual must be rounding.
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
    near = is_near(x, point, scale)
    exact = jnp.all(jnp.abs(network.drift(point, i)) <= rounding(network, point, i, scale))
    return point, genuine & near & exact & jnp.all(jnp.isfinite(point))
