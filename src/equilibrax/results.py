"""Classes that functions of the top level return, for annotations and `isinstance`.

`FixedPoints`, `Samples`, `SampleStore` and `Approximation`, which other functions take, are at the
top level.
"""

from .analysis import (
    Cycles as Cycles,
    Linearisation as Linearisation,
    PointKind as PointKind,
    SlowPoints as SlowPoints,
)
from .approximation import Training as Training, Trainings as Trainings, Verified as Verified
from .families import (
    Basins as Basins,
    Branch as Branch,
    SpecialPoint as SpecialPoint,
    Sweep as Sweep,
)
from .fixed_points import Analysis as Analysis, Enumeration as Enumeration
