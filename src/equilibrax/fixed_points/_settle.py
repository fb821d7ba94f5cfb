"""All journeys of a batch on one device, leg by leg, to their verdicts."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._types import Flag
from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear
from ._blocks import certify_blocks
from ._chambers import Chambers, chamber_index, has_table
from ._cycle import find_periods
from ._flow import Flow
from ._growth import grows_for_ever
from ._journey import Halt, Log, plan, travel
from ._lanes import Queue, in_blocks
from ._outcome import FixedPoints, Outcome
from ._stability import spectral_abscissa
from ._steps import in_lanes
from ._verdict import judge
from ._whole import Whole


def settle(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    x0: Float[Array, "m n"] | None,
    flow: Flow,
) -> FixedPoints:
    """Settle m inputs: leg by leg, until the verdict on every journey is passed."""
    # What is not finite is in no queue, and so never enters a lane.
    valid = is_finite(network) & is_finite((inputs, x0), axis=1)
    if x0 is None:
        x0 = jnp.zeros((len(inputs), network.num_neurons), inputs.dtype)
    log = Log.start(x0, jax.vmap(network.scale)(x0, inputs))
    if not is_threshold_linear(network):
        # Element by element: XLA's maximum of what is not a number is undefined on a CPU.
        valid &= is_finite(in_lanes(network).drift(x0.T, inputs.T), axis=0)
    log = log.replace(verdict=jnp.where(valid, 0, 1 + Outcome.INVALID))
    band = flow.marginal_abscissa(network)
    chambers = Chambers(network, band) if has_table(network) else None
    whole = Whole(network, band) if is_threshold_linear(network) else None
    legs, last = plan(flow, network, whole)

    def on_the_way(carry):
        k, log = carry
        return (k <= last) & jnp.any(log["verdict"] == 0)

    def next_leg(carry):
        k, log = carry
        leg = jax.tree.map(lambda a: a[k], legs)
        can_go_on = (log["halt"] < Halt.ESCAPED) & (log["time"] < leg.end)
        queue = Queue.where((log["verdict"] == 0) & can_go_on)
        log = travel(network, inputs, log, queue, flow, leg)
        if is_threshold_linear(network) and chambers is not None:
            log = certify(network, inputs, log, queue, chambers)
        elif is_threshold_linear(network) and whole is not None:
            log = certify_blocks(network, inputs, log, queue, whole, flow, leg.judged)

        def judged(log):
            return pronounce(network, inputs, log, flow, chambers, final=k == last)

        def watched(log):
            speed = largest_drift(network, inputs, log)
            log = find_cycles(network, inputs, log, speed, flow, chambers, final=k == last)
            if not is_threshold_linear(network):
                return log
            return find_growth(network, inputs, log, speed)

        log = jax.lax.cond(leg.judged, judged, lambda log: log, log)
        return k + 1, jax.lax.cond(leg.watched, watched, lambda log: log, log)

    log = jax.lax.while_loop(on_the_way, next_leg, (jnp.zeros((), jnp.int32), log))[1]
    return report(network, inputs, log)


def is_finite(tree: PyTree[Array], axis: int | None = None) -> Bool[Array, "..."]:
    """Whether no number in these arrays is NaN or infinite, along an axis if one is given."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    whole = [jnp.all(jnp.isfinite(leaf), axis=axis) for leaf in leaves]
    return functools.reduce(jnp.logical_and, whole, jnp.ones((), bool))


def largest_drift(
    network: AbstractDynamics, inputs: Float[Array, "m k"], log: Log
) -> Float[Array, " m"]:
    """max_j |tau_j dx_j/dt|, where each journey is."""
    return jnp.max(jnp.abs(in_lanes(network).drift(log.x.T, inputs.T)), axis=0)


QUICK = 0.004
"""Drift, in units of the scale, below which a cycle is sought only at the end."""

CERTIFIED_AT_ONCE = 1024
JUDGED_AT_ONCE = 4096
GROWING_AT_ONCE = 256
"""Rows in a block; but for certificates, divided by the number of neurons."""


def certify(
    network: RateNetwork,
    inputs: Float[Array, "m k"],
    log: Log,
    queue: Queue,
    chambers: Chambers,
) -> Log:
    """Those that are trapped have arrived, at their chamber's own point."""
    lanewise = in_lanes(network)

    def treat(log: Log, rows):
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        trapped, target, abscissa = chambers.trapped(lanewise, part.x.T, i.T)
        sure = trapped & (part["halt"] == Halt.RESTING)
        part = part.replace(
            jnp.where(sure[:, None], target.T, part.x),
            verdict=jnp.where(sure, 1 + Outcome.STABLE, part["verdict"]),
            abscissa=abscissa,
            certified=sure,
        )
        return log.put(rows, part)

    return in_blocks(queue, CERTIFIED_AT_ONCE, treat, log)


def pronounce(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    log: Log,
    flow: Flow,
    chambers: Chambers | None,
    final: Flag,
) -> Log:
    """Verdicts on those that stand still; after the `final` leg, on all."""
    undecided, halt = log["verdict"] == 0, log["halt"]
    queue = Queue.where(undecided & (final | (halt == Halt.RESTING) | (halt == Halt.ESCAPED)))

    def treat(log: Log, rows):
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        trapped = jnp.zeros(rows.shape, bool)
        if has_table(network) and chambers is not None:
            trapped = chambers.trapped(in_lanes(network), part.x.T, i.T)[0]
        verdict = jax.vmap(
            lambda x, i, scale, trapped, dt: judge(
                network, x, i, scale, flow, trapped=trapped, final=final, dt=dt
            )
        )(part.x, i, part["scale"], trapped, part["dt"])
        outcome = jnp.select(
            [verdict.stable, verdict.marginal, verdict.unstable, part["halt"] == Halt.ESCAPED],
            [Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE, Outcome.DIVERGED],
            jnp.where(final, Outcome.NOT_SETTLED, -1),
        )
        part = part.replace(
            verdict.state,
            verdict=1 + outcome,
            abscissa=verdict.abscissa,
            certified=verdict.stable & trapped,
        )
        return log.put(rows, part)

    return in_blocks(queue, JUDGED_AT_ONCE // network.num_neurons, treat, log)


def find_cycles(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    log: Log,
    speed: Float[Array, " m"],
    flow: Flow,
    chambers: Chambers | None,
    final: Flag,
) -> Log:
    """Watch those that still move, or did at the end, for a limit cycle; before the `final` leg
    only where they are so quick that they hardly are about to settle."""
    quick = speed > QUICK * log["scale"]
    moving = (log["verdict"] == 0) & (log["halt"] == Halt.INTERRUPTED) & (quick | final)
    queue = Queue.where(moving | (log["verdict"] == 1 + Outcome.NOT_SETTLED))
    log = find_periods(network, inputs, log, queue, flow)

    def treat(log: Log, rows):
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        cycling = part["period"] > 0
        if has_table(network) and chambers is not None:
            sigma = in_lanes(network).drive(part.x.T, i.T) > 0
            abscissa = chambers.abscissa[chamber_index(sigma)]
        else:
            abscissa = jax.vmap(
                lambda x, i, wanted: spectral_abscissa(network.jacobian(x, i), wanted)
            )(part.x, i, cycling)
        part = part.replace(
            verdict=jnp.where(cycling, 1 + Outcome.OSCILLATING, part["verdict"]),
            abscissa=jnp.where(cycling, abscissa, part["abscissa"]),
        )
        return log.put(rows, part)

    return in_blocks(queue, JUDGED_AT_ONCE // network.num_neurons, treat, log)


def find_growth(
    network: RateNetwork, inputs: Float[Array, "m k"], log: Log, speed: Float[Array, " m"]
) -> Log:
    """Those that are far out, and proven to go on for ever, need not go there."""
    size = jnp.max(jnp.abs(log.x), axis=1)
    far = (size > 2 * log["scale"]) & (speed > 0.01 * size)
    undecided = (log["verdict"] == 0) | (log["verdict"] == 1 + Outcome.NOT_SETTLED)

    def treat(log: Log, rows):
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        growing = jax.vmap(lambda x, i: grows_for_ever(network, x, i))(part.x, i)
        abscissa = jax.vmap(lambda x, i: spectral_abscissa(network.jacobian(x, i)))(part.x, i)
        part = part.replace(
            verdict=jnp.where(growing, 1 + Outcome.DIVERGED, part["verdict"]),
            abscissa=jnp.where(growing, abscissa, part["abscissa"]),
        )
        return log.put(rows, part)

    queue = Queue.where(undecided & far)
    return in_blocks(queue, GROWING_AT_ONCE // network.num_neurons, treat, log)


def report(network: AbstractDynamics, inputs: Float[Array, "m k"], log: Log) -> FixedPoints:
    """What the log says, with the residual recomputed."""
    outcome = (log["verdict"] - 1).astype(jnp.int8)
    valid = outcome != Outcome.INVALID

    def known(values):
        return jnp.where(valid.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan)

    state, residual = log.x, largest_drift(network, inputs, log)
    rates = network.rates if isinstance(network, RateNetwork) else jax.vmap(network.rates)
    period = jnp.where(outcome == Outcome.OSCILLATING, log["period"], jnp.nan)
    return FixedPoints(
        state=known(state),
        rates=known(rates(state)),
        outcome=outcome,
        residual=known(residual),
        abscissa=known(log["abscissa"]),
        certified=log["certified"] > 0,
        time=log["time"],
        num_steps=log["num_steps"].astype(jnp.int32),
        period=period,
    )
