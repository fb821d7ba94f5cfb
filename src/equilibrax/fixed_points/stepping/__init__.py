"""How trajectories advance: `_steppers` takes one solver step of all lanes, `_lanes` keeps a fixed
number of lanes busy until every row of a queue is done."""

from ._iterate import Iteration as Iteration
from ._lanes import Queue as Queue, in_blocks as in_blocks, run_lanes as run_lanes
from ._steppers import (
    DiffraxStepper as DiffraxStepper,
    Stepper as Stepper,
    StepperState as StepperState,
    Tolerances as Tolerances,
    UnrolledStepper as UnrolledStepper,
    combined as combined,
    in_lanes as in_lanes,
    init as init,
    judged_step as judged_step,
    masked_step as masked_step,
    next_size as next_size,
)
