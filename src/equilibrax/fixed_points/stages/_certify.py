"""Certificates: trajectories at rest whose convergence is proven have settled."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._phases import Phase, tolerances_at
from .._result import Outcome
from .._state import State, StopReason
from ..certificates import NoCertificate
from ..stepping import Queue
from ._classify import is_near
from ._stage import Problem, Stage


def wants(problem: Problem, state: State, phase: Phase) -> Bool[Array, " m"]:
    """Pending trajectories at rest, or all in a phase that follows none; where verdicts are passed,
    all that have stopped for good."""
    at_rest = (state.stop == StopReason.AT_REST) | phase.spared
    at_rest &= problem.certificate.traps | phase.judged
    return state.pending & (at_rest | (phase.judged & (state.stop >= StopReason.ESCAPED)))


def run(problem: Problem, state: State, phase: Phase, queue: Queue) -> State:
    """Trajectories known to converge have settled, at the fixed point itself; where verdicts are
    passed, so have those that rest next to a point proven to be stable."""
    network, certificate, inputs = problem.network, problem.certificate, problem.inputs
    proof = certificate.prove(network, state.x, inputs, queue)
    near = jax.vmap(is_near)(state.x, proof.point, state.scale)
    # Explicit steps at the edge of their stability bounce around the point for ever.
    loosest = tolerances_at(problem.flow, 0, state.x.dtype)
    off = jnp.abs(state.x - proof.point)
    bouncing = phase.final & jnp.all(off <= loosest.at_rest(state.x, state.scale), axis=1)
    at_rest = (state.stop == StopReason.AT_REST) | bouncing
    resting = phase.judged & at_rest & proof.judged & near
    abscissa = {"abscissa": proof.bound} if certificate.bounds_are_exact else {}
    return state.ended(
        state.pending & (proof.reached | resting), Outcome.STABLE,
        x=proof.point, evidence=proof.evidence, abscissa_bound=proof.bound, **abscissa,
    )  # fmt: skip


CERTIFY = Stage(
    "certify", wants, run, lambda problem: not isinstance(problem.certificate, NoCertificate),
    in_parts=True,
)  # fmt: skip
