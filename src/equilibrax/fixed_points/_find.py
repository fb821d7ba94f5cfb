"""`find_fixed_points`: from inputs to verdicts."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from .._types import Flag, Scalar, Vector
from ..networks import RateNetwork
from ._chambers import Chambers
from ._cycle import find_period
from ._flow import Flow, Journey, advance, as_flow, start, tabulate
from ._gradient import attach_derivatives
from ._outcome import FixedPoints, Outcome, raise_unsettled
from ._verdict import Verdict, judge, residual


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
    of one network are best given as one batch: under `jax.vmap` over inputs the memory is not
    bounded by `Flow.batch_size`.
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


@eqx.filter_jit
def _find(
    network: RateNetwork,
    inputs: Float[Array, "*batch n"],
    x0: Float[Array, "*batch n"],
    flow: Flow,
) -> FixedPoints:
    *batch, n = inputs.shape
    count = math.prod(batch)
    # TF32 products on a GPU would spoil error estimates and verdicts.
    with jax.default_matmul_precision("highest"):
        chambers = tabulate(network, flow)
        size = max(1, min(flow.lockstep(network), count))
        num_chunks = -(-count // size)
        # Lanes that only fill the last batch up are invalid: they do not run at all.
        fill = ((0, num_chunks * size - count), (0, 0))
        chunks = [
            jnp.pad(array.reshape(count, n), fill, constant_values=jnp.nan)
            for array in (inputs, x0)
        ]
        chunks = [array.reshape(num_chunks, size, n) for array in chunks]
        found = jax.lax.map(lambda c: settle(network, c[0], c[1], flow, chambers), tuple(chunks))
        found = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], found)
        return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), found)


def settle(
    network: RateNetwork,
    inputs: Float[Array, "m n"],
    x0: Float[Array, "m n"],
    flow: Flow,
    chambers: Chambers | None,
) -> FixedPoints:
    """Settle m inputs in lockstep."""
    valid = jnp.all(jnp.isfinite(inputs) & jnp.isfinite(x0), axis=1)
    # What is not finite never enters the solver.
    i, x = (jnp.where(valid[:, None], array, 0) for array in (inputs, x0))
    scale = jax.vmap(lambda i, x: problem_scale(network, i, x))(i, x)
    journey, verdict = jax.vmap(
        lambda i, x, scale, valid: travel(network, i, x, flow, chambers, scale, valid)
    )(i, x, scale, valid)

    moving = valid & ~verdict.at_rest & ~journey.escaping
    nothing = (jnp.full(moving.shape, jnp.nan, i.dtype), jnp.zeros_like(moving))
    period, cycling = jax.lax.cond(
        jnp.any(moving),
        lambda: jax.vmap(lambda x, i, s, w: find_period(network, x, i, flow, s, w))(
            journey.x, i, scale, moving
        ),
        lambda: nothing,
    )
    outcome = jnp.select(
        [~valid, verdict.stable, verdict.marginal, verdict.unstable, journey.escaping, cycling],
        [
            jnp.int8(o)
            for o in (
                Outcome.INVALID,
                Outcome.STABLE,
                Outcome.MARGINAL,
                Outcome.UNSTABLE,
                Outcome.DIVERGED,
                Outcome.OSCILLATING,
            )
        ],
        jnp.int8(Outcome.NOT_SETTLED),
    )

    def report(outcome, journey, verdict, period, i, valid):
        def known(value):
            return jnp.where(valid, value, jnp.nan)

        state = verdict.state
        return FixedPoints(
            state=known(state),
            rates=known(network.rates(state)),
            outcome=outcome,
            residual=known(residual(network, state, i)),
            abscissa=known(verdict.abscissa),
            certified=verdict.stable & journey.trapped,
            time=journey.time,
            num_steps=journey.num_steps,
            period=period,
        )

    return jax.vmap(report)(outcome, journey, verdict, period, i, valid)


def problem_scale(network: RateNetwork, i: Vector, x0: Vector) -> Scalar:
    """max(|i|, |b|, |x0|), or 1 if that is zero."""
    scale = jnp.max(jnp.abs(jnp.concatenate([i, x0, network.bias])))
    return jnp.where(scale > 0, scale, jnp.ones_like(scale))


def travel(
    network: RateNetwork,
    i: Vector,
    x0: Vector,
    flow: Flow,
    chambers: Chambers | None,
    scale: Scalar,
    valid: Flag,
) -> tuple[Journey, Verdict]:
    """One trajectory and its verdict; until that is passed, on with tighter tolerances."""
    last = flow.last_level(i.dtype)

    def leg(journey, level, wanted):
        journey = advance(network, i, journey, flow, chambers, level, scale, wanted)
        confirmed, final = (level >= min(1, last)), level >= last
        return journey, judge(network, i, journey, flow, scale, confirmed, final)

    def undecided(carry):
        _, journey, verdict, level = carry
        over = verdict.at_rest | journey.escaping | journey.exhausted | (level >= last)
        return valid & ((level < 0) | ~over)

    def go_on(carry):
        wanted, journey, _, level = carry
        level = level + 1
        return wanted, *leg(journey, level, wanted), level

    journey = start(x0)
    no, zero = jnp.array(False), jnp.zeros((), i.dtype)
    blank = Verdict(x0, zero, no, no, no)
    carry = (valid, journey, blank, jnp.asarray(-1))
    _, journey, verdict, _ = jax.lax.while_loop(undecided, go_on, carry)
    return journey, verdict
