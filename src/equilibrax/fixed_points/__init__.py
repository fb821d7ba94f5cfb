"""How a network is settled, and the verdict.

An input's way through this folder: its trajectory is followed on Diffrax (`_flow`)
until it is trapped in its chamber (`_chambers`), comes to rest or escapes; the fixed
point behind the halt is polished and judged (`_verdict`) by the Jacobian's eigenvalues
(`_stability`); what does not come to rest is searched for a cycle (`_cycle`); and the
answer (`_outcome`) gets its derivatives from the implicit function theorem
(`_gradient`). `_find` puts these together.
"""

from ._find import find_fixed_points as find_fixed_points
from ._flow import Flow as Flow
from ._outcome import (
    FixedPointError as FixedPointError,
    FixedPoints as FixedPoints,
    Outcome as Outcome,
)
