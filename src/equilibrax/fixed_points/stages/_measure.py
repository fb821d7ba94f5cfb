"""The abscissas that no verdict has needed."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._result import Outcome
from .._speed import LARGEST_TABLE
from .._state import State
from ._stage import Problem, Stage


def wants(problem: Problem, state: State, phase: Any) -> Bool[Array, " m"]:
    """Rows with an outcome but no abscissa."""
    del problem, phase
    return jnp.isnan(state.abscissa) & ~state.pending & (state.outcome != Outcome.INVALID)


def applies(problem: Problem) -> bool:
    """Where abscissas are asked for, or n is small."""
    return problem.flow.abscissa or problem.network.num_neurons <= LARGEST_TABLE


def run(problem: Problem, state: State, phase: Any, queue: Any) -> State:
    """Add the spectral abscissa of the Jacobian where the trajectory ended."""
    wanted = wants(problem, state, phase)
    abscissas = problem.certificate.abscissas(problem.network, state.x, problem.inputs, queue)
    return state.ended(wanted, state.outcome, abscissa=abscissas)


MEASURE = Stage("measure", wants, run, applies, in_parts=True)
