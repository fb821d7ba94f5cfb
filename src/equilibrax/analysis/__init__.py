"""What is around a fixed point, and what there is beside it.

`find_slow_points` seeks all fixed and slow points, stable or not; `linearise` takes the dynamics
apart at such points; `find_cycles` gives the orbits behind `OSCILLATING`; and `settle_sequence`
follows a state through one input after the other.
"""

from ._cycles import Cycles as Cycles, find_cycles as find_cycles
from ._linearise import Linearisation as Linearisation, linearise as linearise
from ._sequence import settle_sequence as settle_sequence
from ._slow_points import (
    PointKind as PointKind,
    SlowPoints as SlowPoints,
    find_slow_points as find_slow_points,
)
