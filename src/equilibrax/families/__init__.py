"""Fixed points of a family: of many networks, from many starts, along one parameter.

`sweep` settles every network of a family on the same inputs, `basins` one input from many starts;
`follow_branch` follows one fixed point, stable or not, while a parameter changes.
"""

from ._basins import Basins as Basins, basins as basins
from ._branch import (
    Branch as Branch,
    SpecialPoint as SpecialPoint,
    follow_branch as follow_branch,
)
from ._sweep import Sweep as Sweep, sweep as sweep
