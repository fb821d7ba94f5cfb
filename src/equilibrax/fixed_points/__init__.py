"""How a network is settled, and the verdict.

An input's way through this folder: its journey (`_journey`) is followed as its user
wishes (`_flow`), step by step with Diffrax's solvers (`_steps`) and together with many
others (`_lanes`), until it is trapped in its chamber, comes to rest or escapes. Chambers of
small threshold-linear networks are tabulated (`_chambers`), those of larger ones are worked
out as they occur (`_blocks`); ellipsoids that trap (`_ellipsoids`) prove convergence, and
sometimes the network as a whole is proven to converge (`_whole`). Otherwise the fixed point
behind the halt is polished and judged (`_verdict`) by the Jacobian's eigenvalues
(`_stability`); what does not come to rest is watched for a cycle (`_cycle`) and for growth
without bound (`_growth`); and the answer (`_outcome`) gets its derivatives from the implicit
function theorem (`_gradient`). `_settle` puts these together, and `_find` on all devices.
`_enumerate` finds all fixed points of a small threshold-linear network without any
trajectory, `_verify` puts proposed ones to the proof, and `_analyse` says what is proven without
any input. `_linalg` keeps batches of small matrices safe on several devices.
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
from ._outcome import (
    FixedPointError as FixedPointError,
    FixedPoints as FixedPoints,
    Outcome as Outcome,
)
