"""`find_fixed_points`: from inputs to verdicts."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from .. import _checks
from .._devices import AXIS, mesh_for, replicated, rows_over
from .._types import Count, Flag
from ..networks import RateNetwork
from ._chambers import Chambers, has_table
from ._cycle import find_periods
from ._flow import Flow, as_flow
from ._gradient import attach_derivatives
from ._journey import Halt, Log, plan, travel
from ._lanes import in_blocks, rows_where
from ._outcome import FixedPoints, Outcome, raise_unsettled
from ._stability import spectral_abscissa
from ._steps import in_lanes
from ._verdict import judge


def find_fixed_points(
    network: RateNetwork,
    inputs: Float[Array, "*batch n"],
    *,
    x0: Float[Array, "..."] | None = None,
    method: Flow | None = None,
    throw: bool = False,
) -> FixedPoints:
    r"""Settle each input: follow its trajectory from `x0` and say how it ended.

    The fixed point $x^*$ is the one that the trajectory of $\tau \dot x = F(x, i)$
    reaches, not any root of F. The state returned is polished to rounding by Newton's
    method, the residual is recomputed there, and the eigenvalues of the Jacobian decide
    on stability.

    **Arguments:**

    - `network`: with n neurons.
    - `inputs`: shape `(..., n)`; `(5,)` gives results of shape `()`, `(100, 5)` of shape
      `(100,)`, `(0, 5)` of shape `(0,)`.
    - `x0`: initial states, any shape that broadcasts to that of the inputs; zeros if
      absent.
    - `method`: a `Flow`; `Flow()` if absent.
    - `throw`: raise unless every input reached a stable fixed point.

    **Returns:** a `FixedPoints`, one `Outcome` for each input. An input that holds NaN or
    infinity is `INVALID` and changes nothing for the others.

    **Raises:** `ValueError` or `TypeError` for inputs of the wrong width or dtype, before
    anything is traced; `FixedPointError` under `throw=True`, once, with the counts.

    It composes with `jax.jit`, `jax.vmap` and `jax.grad`: `state` and `rates` carry the
    derivatives of the implicit function theorem in the network and the inputs. Many inputs
    of one network are best given as one batch: `jax.vmap` over inputs is far slower.
    """
    if not isinstance(network, RateNetwork):
        _checks.fail("network", "be a RateNetwork", f"is {network!r}", TypeError)
    method = as_flow(method)
    inputs = as_states("inputs", inputs, network.num_neurons)
    x0 = jnp.zeros_like(inputs) if x0 is None else as_states("x0", x0, network.num_neurons)
    dtype = jnp.result_type(network.weights, inputs, x0)
    try:
        x0 = jnp.broadcast_to(x0, inputs.shape).astype(dtype)
    except ValueError:
        _checks.fail("x0", f"broadcast to shape {inputs.shape}", f"has shape {x0.shape}")
    network, inputs = network.astype(dtype), inputs.astype(dtype)
    # No derivative enters the trajectory: under `jax.grad` the same compiled program runs.
    found = _find(*jax.lax.stop_gradient((network, inputs, x0)), method)
    found = attach_derivatives(network, inputs, found)
    return raise_unsettled(found) if throw else found


def as_states(name: str, value: Any, n: int) -> Float[Array, "*batch n"]:
    """`value` as an array of shape (..., n)."""
    value = _checks.floating(name, value)
    if value.ndim == 0 or value.shape[-1] != n:
        _checks.fail(name, f"have shape (..., {n})", f"has shape {value.shape}")
    return value


def _find(
    network: RateNetwork,
    inputs: Float[Array, "*batch n"],
    x0: Float[Array, "*batch n"],
    flow: Flow,
) -> FixedPoints:
    """Settle a batch of any shape on all devices that it is to be spread over."""
    *batch, n = inputs.shape
    count = math.prod(batch)
    inputs, x0 = inputs.reshape(count, n), x0.reshape(count, n)
    mesh = mesh_for(inputs)
    # Rows that only fill up are invalid; and of an empty batch, all are.
    multiple = 1 if mesh is None else mesh.size
    missing = max(multiple, -(-count // multiple) * multiple) - count
    if missing:
        fill = ((0, missing), (0, 0))
        inputs, x0 = (jnp.pad(array, fill, constant_values=jnp.nan) for array in (inputs, x0))
    if mesh is None:
        found = _settle(network, inputs, x0, flow, None)
    else:
        home = inputs.sharding
        inputs, x0 = jax.device_put((inputs, x0), rows_over(mesh))
        found = _settle(jax.device_put(network, replicated(mesh)), inputs, x0, flow, mesh)
        found = jax.device_put(found, home if len(home.device_set) == 1 else rows_over(mesh))
    return jax.tree.map(lambda a: a[:count].reshape(*batch, *a.shape[1:]), found)


@eqx.filter_jit
def _settle(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    x0: Float[Array, "m n"],
    flow: Flow,
    mesh: Mesh | None,
) -> FixedPoints:
    def here(network, inputs, x0):
        return settle(network, inputs, x0, flow)

    # TF32 products on a GPU would spoil error estimates and verdicts.
    with jax.default_matmul_precision("highest"):
        if mesh is None:
            return here(network, inputs, x0)
        # Each device has its own loop, and none waits for another.
        rows, everywhere = PartitionSpec(AXIS), PartitionSpec()
        return jax.shard_map(
            here,
            mesh=mesh,
            in_specs=(everywhere, rows, rows),
            out_specs=rows,
            check_vma=False,
        )(network, inputs, x0)


def settle(
    network: RateNetwork, inputs: Float[Array, "m n"], x0: Float[Array, "m n"], flow: Flow
) -> FixedPoints:
    """Settle m inputs: leg by leg, until the verdict on every journey is passed."""
    valid = jnp.all(jnp.isfinite(inputs) & jnp.isfinite(x0), axis=1)
    # What is not finite never enters the solver.
    i, x = (jnp.where(valid[:, None], array, 0) for array in (inputs, x0))
    log = Log.start(x, problem_scale(network, i, x))
    log = log.replace(verdict=jnp.where(valid, 0, 1 + Outcome.INVALID))
    chambers = Chambers(network, flow.marginal_abscissa(network)) if has_table(network) else None
    legs, last = plan(flow, network)

    def on_the_way(carry):
        k, log = carry
        return (k <= last) & jnp.any(log["verdict"] == 0)

    def next_leg(carry):
        k, log = carry
        leg = jax.tree.map(lambda a: a[k], legs)
        can_go_on = (log["halt"] < Halt.ESCAPED) & (log["time"] < leg.end)
        queue, count = rows_where((log["verdict"] == 0) & can_go_on)
        log = travel(network, i, log, queue, count, flow, leg)
        if chambers is not None:
            log = certify(network, i, log, queue, count, chambers)

        def judged(log):
            return pronounce(network, i, log, flow, chambers, final=k == last)

        def watched(log):
            return find_cycles(network, i, log, flow, chambers)

        log = jax.lax.cond(leg.judged, judged, lambda log: log, log)
        return k + 1, jax.lax.cond(leg.watched, watched, lambda log: log, log)

    log = jax.lax.while_loop(on_the_way, next_leg, (jnp.zeros((), jnp.int32), log))[1]
    return report(network, i, log)


def problem_scale(
    network: RateNetwork, i: Float[Array, "m n"], x0: Float[Array, "m n"]
) -> Float[Array, " m"]:
    """max(|i|, |b|, |x0|), or 1 if that is zero."""
    scale = jnp.max(
        jnp.maximum(jnp.maximum(jnp.abs(i), jnp.abs(x0)), jnp.abs(network.bias)), axis=1
    )
    return jnp.where(scale > 0, scale, jnp.ones_like(scale))


CERTIFIED_AT_ONCE = 1024
JUDGED_AT_ONCE = 4096
"""Rows in a block; for a verdict, divided by the number of neurons."""


def certify(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    log: Log,
    queue: Int[Array, " m"],
    count: Count,
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

    return in_blocks(queue, count, min(queue.size, CERTIFIED_AT_ONCE), treat, log)


def pronounce(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    log: Log,
    flow: Flow,
    chambers: Chambers | None,
    final: Flag,
) -> Log:
    """Verdicts on those that stand still; after the `final` leg, on all."""
    waiting = (log["verdict"] == 0) & (log["halt"] != Halt.INTERRUPTED)
    queue, count = rows_where(waiting | ((log["verdict"] == 0) & final))

    def treat(log: Log, rows):
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        exhausted = part["halt"] == Halt.EXHAUSTED
        trapped = jnp.zeros(rows.shape, bool)
        if chambers is not None:
            trapped = chambers.trapped(in_lanes(network), part.x.T, i.T)[0]
        verdict = jax.vmap(
            lambda x, i, scale, trapped, final: judge(
                network, x, i, scale, flow, trapped=trapped, final=final
            )
        )(part.x, i, part["scale"], trapped, final | exhausted)
        outcome = jnp.select(
            [verdict.stable, verdict.marginal, verdict.unstable, part["halt"] == Halt.ESCAPED],
            [Outcome.STABLE, Outcome.MARGINAL, Outcome.UNSTABLE, Outcome.DIVERGED],
            jnp.where(final | exhausted, Outcome.NOT_SETTLED, -1),
        )
        part = part.replace(
            verdict.state,
            verdict=1 + outcome,
            abscissa=verdict.abscissa,
            certified=verdict.stable & trapped,
        )
        return log.put(rows, part)

    size = min(queue.size, max(1, JUDGED_AT_ONCE // network.num_neurons))
    return in_blocks(queue, count, size, treat, log)


def find_cycles(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    log: Log,
    flow: Flow,
    chambers: Chambers | None,
) -> Log:
    """Watch those that still move, or did at the end, for a limit cycle."""
    moving = (log["verdict"] == 0) & (log["halt"] == Halt.INTERRUPTED)
    queue, count = rows_where(moving | (log["verdict"] == 1 + Outcome.NOT_SETTLED))
    log = find_periods(network, inputs, log, queue, count, flow)

    def treat(log: Log, rows):
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        cycling = part["period"] > 0
        if chambers is not None:
            sigma = in_lanes(network).drive(part.x.T, i.T) > 0
            abscissa = chambers.abscissa[chambers.index(sigma)]
        else:
            abscissa = jax.vmap(
                lambda x, i, wanted: spectral_abscissa(network.jacobian(x, i), wanted)
            )(part.x, i, cycling)
        part = part.replace(
            verdict=jnp.where(cycling, 1 + Outcome.OSCILLATING, part["verdict"]),
            abscissa=jnp.where(cycling, abscissa, part["abscissa"]),
        )
        return log.put(rows, part)

    size = min(queue.size, max(1, JUDGED_AT_ONCE // network.num_neurons))
    return in_blocks(queue, count, size, treat, log)


def report(network: RateNetwork, inputs: Float[Array, "m n"], log: Log) -> FixedPoints:
    """What the log says, with the residual recomputed."""
    outcome = (log["verdict"] - 1).astype(jnp.int8)
    valid = outcome != Outcome.INVALID

    def known(values):
        return jnp.where(valid.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan)

    state = log.x
    residual = jnp.max(jnp.abs(in_lanes(network).drift(state.T, inputs.T)), axis=0)
    period = jnp.where(outcome == Outcome.OSCILLATING, log["period"], jnp.nan)
    return FixedPoints(
        state=known(state),
        rates=known(network.rates(state)),
        outcome=outcome,
        residual=known(residual),
        abscissa=known(log["abscissa"]),
        certified=log["certified"] > 0,
        time=log["time"],
        num_steps=log["num_steps"].astype(jnp.int32),
        period=period,
    )
