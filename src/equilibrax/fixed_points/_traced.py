"""The traced driver of the stages: one program of loops and conditions, for calls inside `jax.jit`,
`jax.vmap` and other transformations. It runs the list that the host driver runs."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

from ..networks import AbstractDynamics, RateNetwork
from ._flow import Flow
from ._linalg import exactly
from ._phases import Phase, schedule
from ._result import FixedPoints
from ._state import State, blank_state, initial_state, result
from .certificates import certificate_for
from .stages import MEASURE, PHASE_STAGES, Problem, Stage
from .stepping import Queue


def settle_traced(
    network: AbstractDynamics,
    inputs: Float[Array, "*batch k"],
    x0: Float[Array, "*batch n"] | None,
    flow: Flow,
) -> FixedPoints:
    """Settle a batch of any shape inside a traced program.

    Under `jax.vmap` over inputs or starts the batches become one; over networks, one network
    follows the other.
    """
    batch = inputs.shape[:-1]
    count = math.prod(batch)
    if x0 is None:
        x0 = jnp.zeros((*batch, network.num_neurons), inputs.dtype)
    arrays, static = eqx.partition((network, flow), eqx.is_array)

    def run(arrays, inputs, x0):
        network, flow = eqx.combine(arrays, static)
        return _settle(network, flow, inputs, x0)

    rows = (inputs.reshape(count, inputs.shape[-1]), x0.reshape(count, x0.shape[-1]))
    found = _in_one_batch(run)(arrays, *rows)
    return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), found)


def _in_one_batch(run: Callable[[Any, Array, Array], FixedPoints]) -> Callable[..., FixedPoints]:
    """`run(arrays, *rows)`, with a rule of its own for `jax.vmap`."""
    batched = custom_vmap(run)

    @batched.def_vmap
    def _(axis_size, is_batched, arrays, *rows):
        if any(jax.tree.leaves(is_batched[0])):
            shared = (arrays, *rows)
            each = jax.tree.map(lambda a, yes: a if yes else None, shared, tuple(is_batched))

            def one(each):
                arrays, inputs, x0 = eqx.combine(each, shared)
                return batched(arrays, inputs, x0)

            found = jax.lax.map(one, each)
        else:
            rows = [
                (a if yes else jnp.broadcast_to(a, (axis_size, *a.shape))).reshape(-1, a.shape[-1])
                for a, yes in zip(rows, is_batched[1:], strict=True)
            ]
            found = batched(arrays, *rows)
            found = jax.tree.map(lambda a: a.reshape(axis_size, -1, *a.shape[1:]), found)
        return found, jax.tree.map(lambda _: True, found)

    return batched


def _settle(
    network: AbstractDynamics, flow: Flow, inputs: Float[Array, "m k"], x0: Float[Array, "m n"]
) -> FixedPoints:
    with exactly():
        if isinstance(network, RateNetwork):
            network, inputs = network.driven_directly, network.received(inputs)
        certificate = certificate_for(network, flow)
        problem = Problem(network, certificate, flow, inputs)
        phases = schedule(flow, network, certificate)
        table = jax.tree.map(lambda *columns: jnp.stack(columns), *phases)

        def unless_idle(stage: Stage, state: State, phase: Phase) -> State:
            wanted = stage.wants(problem, state, phase)
            return jax.lax.cond(
                jnp.any(wanted),
                lambda state: stage.run(problem, state, phase, Queue.where(wanted)),
                lambda state: state,
                state,
            )

        def next_phase(carry):
            k, state = carry
            phase = jax.tree.map(lambda column: column[k], table)
            for stage in PHASE_STAGES:
                if stage.applies(problem):
                    state = unless_idle(stage, state, phase)
            return k + 1, state

        def unfinished(carry):
            k, state = carry
            return (k < len(phases)) & jnp.any(state.pending)

        m, n = x0.shape
        state = jax.tree.map(jnp.asarray, blank_state(m, n, inputs.dtype))
        state = initial_state(network, inputs, eqx.tree_at(lambda state: state.x, state, x0))
        start = (jnp.zeros((), jnp.int32), state)
        state = jax.lax.while_loop(unfinished, next_phase, start)[1]
        if MEASURE.applies(problem):
            state = unless_idle(MEASURE, state, phases[-1])
        return result(network, inputs, state)
