"""The stages of settling. All have one contract, `Stage`: which rows they want, and what they do to
them."""

from ._certify import CERTIFY as CERTIFY
from ._classify import CLASSIFY as CLASSIFY
from ._cycles import CYCLES
from ._growth import GROWTH
from ._integrate import INTEGRATE as INTEGRATE
from ._measure import MEASURE as MEASURE
from ._stage import Problem as Problem, Stage as Stage

PHASE_STAGES: tuple[Stage, ...] = (INTEGRATE, CERTIFY, CLASSIFY, CYCLES, GROWTH)
"""The stages of each phase, in order. `MEASURE` follows the last phase."""
