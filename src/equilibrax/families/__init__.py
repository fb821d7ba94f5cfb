"""Fixed points of many networks, from many starts, and along a parameter.

`sweep` settles every network of a family on the same inputs, `basins` settles one input from many
starts, and `follow_branch` continues one fixed point, stable or not, in a parameter.
"""

from ._basins import Basins as Basins, basins as basins
from ._branch import (
    Branch as Branch,
    SpecialPoint as SpecialPoint,
    follow_branch as follow_branch,
)
from ._sweep import Sweep as Sweep, sweep as sweep
