"""The contract of all stages."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from .._flow import Flow
from .._phases import Phase
from .._state import State
from ..certificates import AbstractCertificate


class Problem(eqx.Module):
    """What is settled, and how; m inputs of one network."""

    network: Any  # an AbstractDynamics; a RateNetwork where a certificate needs one
    certificate: AbstractCertificate
    flow: Flow
    inputs: Float[Array, "m k"]

    def parts(self, x: Array, rows: np.ndarray) -> Iterator[tuple["Problem", np.ndarray]]:
        """The same problem, with certificates that do with smaller programs, and the rows of each;
        on the host."""
        for certificate, some in self.certificate.parts(self.network, x, self.inputs, rows):
            yield Problem(self.network, certificate, self.flow, self.inputs), some

    @property
    def typical(self) -> "Problem":
        """The part that most rows are likely to need."""
        return Problem(self.network, self.certificate.typical, self.flow, self.inputs)


def steps_use_lapack(problem: Problem) -> bool:
    """Whether a solver step factorises matrices."""
    return problem.flow.is_implicit


class Stage(NamedTuple):
    """One stage of settling.

    - `name`: for messages and measurements.
    - `wants`: the rows it has work for; from the state's columns alone, so that asking is cheap.
    - `run`: the state after that work, on the rows of the queue.
    - `applies`: whether there can be such rows at all, in this problem.
    - `in_parts`: whether its program depends on the part of the certificate that the rows need.
    - `uses_lapack`: whether its program calls LAPACK, which only one thread may do at a time.
    """

    name: str
    wants: Callable[[Problem, State, Phase], Bool[Array, " m"]]
    run: Callable[[Problem, State, Any, Any], State]  # a Phase and a Queue
    applies: Callable[[Problem], bool] = lambda problem: True
    in_parts: bool = False
    uses_lapack: Callable[[Problem], bool] = lambda problem: False
