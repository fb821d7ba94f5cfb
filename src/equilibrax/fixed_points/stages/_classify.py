"""The verdict on where a trajectory stopped, independent of how it came there.

Newton's method seeks the fixed point behind the state; its own residual checks it, and the
eigenvalues of the Jacobian there judge it. Nothing computed on the way is trusted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import Flag, Scalar, Vector
from ...networks import AbstractDynamics, is_map, is_structured, is_threshold_linear
from .._accuracy import (
    AMPLIFIED,
    HELD,
    NEAR_COMPONENT,
    NEAR_SCALE,
    STEPS_HELD,
    WEAKEST,
)
from .._jacobian import Solve, factored_jacobian, solve_jacobian
from .._linalg import after, skip_unless_any
from .._phases import Phase, tolerances_at
from .._result import Evidence, Outcome
from .._rounding import bends_little, is_resolved, neighbours, on_threshold, rounding
from .._speed import judged_rows
from .._state import PENDING, State, StopReason
from ..certificates import chamber_matrix, unstable_projection
from ..stepping import Queue, in_blocks
from ._stage import Problem, Stage


def wants(problem: Problem, state: State, phase: Phase) -> Bool[Array, " m"]:
    """Where verdicts are passed, pending trajectories that stand still; in the end, all."""
    del problem
    return state.pending & phase.judged & (phase.final | (state.stop == StopReason.AT_REST))


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
      has come to rest: it lies on the stable manifold up to roundings of x, and cannot leave;
    - *marginal*: at rest at the tightest tolerances, where the abscissa is zero within the band,
      after the last phase, since there is no isolated point to polish; or on a threshold whose two
      sides disagree about stability, or agree without proving it (`share_a_metric`).

    On a threshold, where u_j is zero up to rounding, the Jacobian is one-sided. Both sides,
    all such neurons silent and all active, are judged, and the larger abscissa is reported.

    The abscissa is that of the state returned; it is left open where the point behind the state
    was not reached.
    """
    network, flow, certificate = problem.network, problem.flow, problem.certificate
    x, scale = row.x, row.scale
    loosest, tightest = (
        tolerances_at(flow, level, x.dtype) for level in (0, flow.last_level(x.dtype))
    )
    search = polish(network, x, i, scale, row.growth[0])
    point, believed = search.states[-1], search.believed
    speed, hidden = search.speeds[0], rounding(search.terms[0] + scale)
    resting = jnp.all(speed <= loosest.at_rest(x, scale))
    place = jnp.where(believed, point, x)
    # How fast the state moves there; and it may do nothing but that, as far as rounding can tell.
    rest = jnp.where(believed, search.speeds[-1], speed)
    rest += jnp.where(believed, rounding(search.terms[-1] + scale), hidden)
    # Terms that do not depend on x may hide it in their rounding: it is as exact as it can be.
    # Those of threshold-linear networks are known, component by component.
    believed |= search.hidden & final & resting
    sides = sides_of(problem.network, place, i, scale)
    needed = believed | resting | certificate.bounds_are_exact
    below, above = one_sided_abscissas(problem, place, i, sides, needed)
    abscissa = jnp.maximum(below, above)
    band = flow.marginal_abscissa(network)
    divided = (jnp.minimum(below, above) < -band) & (abscissa >= -band)

    saddle = believed & (abscissa > band) & ~divided
    around = jnp.concatenate([x[None], neighbours(x, jnp.abs(x))]).T - place[:, None]
    parts = certificate.unstable_part(network, place, i, around, saddle)
    apart = jnp.max(jnp.abs(parts[:, 1:] - parts[:, :1]), axis=1)
    grown = jnp.clip(jnp.exp(abscissa * row.time), 1, jnp.finfo(x.dtype).eps ** -AMPLIFIED)
    held = jnp.all(jnp.abs(parts[:, 0]) <= HELD * grown * apart)
    divided |= (abscissa < -band) & ~share_a_metric(problem, sides, parts[:, 0])

    # Explicit steps at the edge of their stability bounce around a point for ever, and the errors
    # of the steps keep a spiral that is damped by little in each from it.
    damping = jnp.clip(-abscissa * row.dt, 1 / WEAKEST, None)
    bounce = loosest.at_rest(x, scale)
    bounce *= 1 if is_threshold_linear(network) else jnp.maximum(1, 0.5 / damping)
    resting |= final & believed & jnp.all(jnp.abs(x - place) <= bounce)
    still = jnp.all(speed <= jnp.maximum(tightest.at_rest(x, scale), hidden))
    stable = believed & (abscissa < -band) & resting & ~divided
    if not is_threshold_linear(network):
        # No fixed point, though the residual is rounding, where two of them have just met.
        def beside_a_root(wanted):
            left = after(jnp.where(wanted, rest, 0), parts[:, 0])
            reach = farthest(factored_jacobian(network, place, i, done=left), left)
            return bends_little(lambda x: network.drift(x, i), place, reach, rest)

        stable = skip_unless_any(stable, beside_a_root, stable)
    unstable = resting & saddle & held
    if is_map(network):
        # An orbit that wanders jumps next to an unstable point now and then.
        later = jax.lax.fori_loop(0, STEPS_HELD, lambda _, x: network.step(x, i), x)
        unstable &= jnp.all(jnp.abs(later - x) <= hidden)
    marginal = resting & final & ((still & (jnp.abs(abscissa) <= band)) | (believed & divided))
    at_rest = stable | unstable | marginal
    outcome = jnp.select(
        [stable, marginal, unstable],
        [Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE],
        jnp.where(final, int(Outcome.NOT_SETTLED), PENDING),
    )
    return row.ended(
        jnp.array(True), outcome, x=jnp.where(at_rest, place, x),
        abscissa=jnp.where(believed & ~at_rest, jnp.nan, abscissa),
        evidence=jnp.where(at_rest, Evidence.SPECTRUM, Evidence.NONE),
        abscissa_bound=jnp.where(stable, abscissa, jnp.nan),
    )  # fmt: skip


Sides = tuple[Bool[Array, " n"], Bool[Array, " n"]] | None
"""The active neurons, and those on a threshold; None without thresholds."""


def sides_of(network: AbstractDynamics, x: Vector, i: Vector, scale: Vector) -> Sides:
    """On which side of its threshold each neuron is."""
    if not is_threshold_linear(network):
        return None
    return network.drive(x, i) > 0, on_threshold(network, x, i, scale)


def one_sided_abscissas(
    problem: Problem, x: Vector, i: Vector, sides: Sides, needed: Flag
) -> tuple[Scalar, Scalar]:
    """The abscissas with all neurons on a threshold silent, and with all of them active; of
    threshold-linear networks only where they are needed."""
    network = problem.network
    if sides is None:
        abscissa = problem.certificate.abscissa_at(network, x, i)
        return abscissa, abscissa
    active, border = sides

    def side(k, abscissas):
        sigma = jnp.where(k > 0, active | border, active)
        abscissa = problem.certificate.abscissa(network, sigma)
        return jnp.where(jnp.arange(2) >= k, abscissa, abscissas)

    # A loop, so that it is compiled once, and the second turn is spared where there is no border.
    unknown = jnp.full(2, jnp.nan, x.dtype)
    turns = jnp.where(needed, 1 + jnp.any(border), 0)
    below, above = jax.lax.fori_loop(0, turns, side, unknown)
    return below, above


def share_a_metric(problem: Problem, sides: Sides, done: Vector) -> Flag:
    r"""Whether the chambers beside a point, if both sides of its thresholds are Hurwitz, are so in
    one metric, so that the point is stable: a trajectory may cross the threshold again and again,
    and grow.

    With one neuron on its threshold, J and J' differ by a matrix of rank one, and have a quadratic
    Lyapunov function in common if, and only if, J J' has no negative eigenvalue: if [[0, J J'], [1,
    0]] has none on the imaginary axis, so that its matrix sign exists. With several neurons on
    their thresholds, only where the network is globally stable. Computed after `done`.

    R. Shorten and K. S. Narendra, IEEE Trans. Autom. Control 48:110 (2003),
    doi:10.1109/TAC.2002.806662.
    """
    network = problem.network
    if sides is None:
        return jnp.array(True)
    active, border = sides
    number = jnp.sum(border)
    proven = (number == 0) | problem.certificate.convergent
    if is_structured(network):
        return proven
    n = network.num_neurons

    def compute(wanted):
        j, other = (
            chamber_matrix(network, sigma) / network.tau[:, None]
            for sigma in (active & ~border, active | border)
        )
        product = j @ other
        product /= jnp.linalg.norm(product)
        doubled = jnp.block([[jnp.zeros_like(j), product], [jnp.eye(n), jnp.zeros_like(j)]])
        sign = 2 * unstable_projection(after(doubled.astype(done.dtype), done), wanted)
        # [[0, R], [R^-1, 0]], R being the root of J J', if there is one.
        root, back = sign[:n, n:], sign[n:, :n]
        off = jnp.linalg.norm(root @ back - jnp.eye(n)) + jnp.linalg.norm(product @ back - root)
        return off < 0.01

    single = (number == 1) & ~proven
    return proven | skip_unless_any(single, compute, jnp.array(False))


def farthest(solve: Solve, rest: Vector) -> Vector:
    """How far the fixed point may be, if each |tau dx/dt| may be as large as `rest`: M^-1 s rest,
    with the signs s that take one component farthest; `solve(b)` is M^-1 b, M = T J.

    The component is that which the rests move most with equal signs, and its signs are those of its
    row of M^-1: a step of Hager's estimate of a norm.

    W. W. Hager, SIAM J. Sci. Stat. Comput. 5:311 (1984), doi:10.1137/0905023.
    """
    most = jnp.argmax(jnp.abs(solve(rest)))
    row = solve(jnp.zeros_like(rest).at[most].set(1), transpose=True)
    return solve(jnp.where(row < 0, -rest, rest))


def is_near(x: Vector, point: Vector, scale: Vector) -> Flag:
    """Whether x may rest because of this fixed point."""
    size = jnp.maximum(jnp.abs(x), jnp.abs(point))
    slack = NEAR_COMPONENT * size + NEAR_SCALE * scale
    return jnp.all(jnp.abs(point - x) <= slack)


class Search(NamedTuple):
    """Newton's method from where a trajectory stopped.

    - `states`: that state, the next one, and the last, which is the fixed point if it may be
      `believed`;
    - `speeds`, `terms`: |tau dx/dt| there, component by component, and what the absolute values of
      its terms add up to;
    - `hidden`: whether nothing but rounding is left of tau dx/dt at the first state, though the
      last is not believed.
    """

    states: Float[Array, "3 n"]
    speeds: Float[Array, "3 n"]
    terms: Float[Array, "3 n"]
    believed: Flag
    hidden: Flag


def polish(
    network: AbstractDynamics, x: Vector, i: Vector, scale: Vector, extent: Scalar
) -> Search:
    """The fixed point next to x, by Newton's method, and whether it may be believed.

    In a chamber of a threshold-linear network the first step is exact and the second
    refines its rounding; a point outside the chamber, and not on its border, is not
    believed. Otherwise the residual must fall fourfold in the first step, as it does
    where Newton's method converges quadratically. In both cases every component must be
    near, within 2 % of itself or 1e-4 of its scale, and the residual must be rounding, by its terms
    and by its values at the states next to it. At x itself it may be rounding by the terms of
    states of its `extent`.
    """

    def newton(x, _):
        better = x - solve_jacobian(network, x, i, network.drift(x, i))
        return better, better

    def evaluate(x):
        return jnp.abs(network.drift(x, i)), network.magnitude(x, i)

    corners = is_threshold_linear(network)
    point, (first, *_) = jax.lax.scan(newton, x, length=2 if corners else 4)
    states = jnp.stack([x, first, point])
    speeds, terms = jax.vmap(evaluate)(states)
    unit = rounding(terms + scale)
    if corners:
        same = (network.drive(point, i) > 0) == (network.drive(x, i) > 0)
        genuine = jnp.all(same | on_threshold(network, point, i, scale))
        hidden = resolved = jnp.array(False)
    else:
        before, later, _ = jnp.max(speeds / jnp.where(unit > 0, unit, 1), axis=1)
        genuine = later <= jnp.maximum(before / 4, 1)
        units = jnp.stack([jnp.full_like(scale, extent), scale])
        moves = jax.vmap(lambda x, unit: is_resolved(network, x, i, unit))(states[::2], units)
        moving, resolved = jnp.any(moves, axis=1)
        hidden = ~moving & jnp.all(speeds[0] <= rounding(terms[0] + extent))
    exact = jnp.all(speeds[2] <= unit[2]) & ~resolved & jnp.all(jnp.isfinite(point))
    believed = genuine & is_near(x, point, scale) & exact
    return Search(states, speeds, terms, believed, hidden & ~believed)
