"""How a network is settled, and the verdict.

`find_fixed_points` (`_find`) checks dynamics, inputs and starts (`_problem`); how trajectories are
followed is the user's choice (`_flow`). A batch is settled in phases (`_phases`): what is known of
each of its inputs is a row of the state (`_state`), and a row of stages (`stages`) changes it.
Trajectories are integrated, step by step with a Diffrax solver or with the same steps written out,
and many at a time through few lanes (`stepping`), until they are slow, escape, or the phase ends.
Where convergence is proven (`certificates`) they have settled; otherwise the fixed point behind
the state is polished and judged by the Jacobian's eigenvalues, and what does not come to rest is
watched for a cycle and for growth without bound.

Two drivers run the same list of stages: `_driver` on the host, each stage a compiled program of
its own that is run only if some row wants it, chunk by chunk on all cores or accelerators; and
`_traced` inside `jax.jit` and its like, as one program. The answer (`_result`) gets its
derivatives from the implicit function theorem (`_implicit`).

Constants on which verdicts depend are in `_accuracy`, sizes that only speed depends on in
`_speed`, linear algebra of small matrices in `_linalg`. `_enumerate` finds all fixed points of a
small threshold-linear network without any trajectory, `_verify` puts proposed ones to the proof,
`_analyse` says what is proven without any input, and `_event` is the certificate for a loop of
the user's own.
"""

from ._analyse import Analysis as Analysis, analyse as analyse
from ._enumerate import (
    Enumeration as Enumeration,
    enumerate_fixed_points as enumerate_fixed_points,
    is_unique as is_unique,
)
from ._event import settled_event as settled_event
from ._find import find_fixed_points as find_fixed_points
from ._flow import Flow as Flow
from ._result import (
    Evidence as Evidence,
    FixedPointError as FixedPointError,
    FixedPoints as FixedPoints,
    Outcome as Outcome,
)
