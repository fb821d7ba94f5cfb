"""Rate networks, their transfer functions and weight matrices, and other dynamics.

A `RateNetwork` holds the equation of motion, and nothing about its solution. The builders return
ordinary `RateNetwork`s; each documents its weight matrix, and `weights` holds those with structure.
Any other equation of motion subclasses `AbstractDynamics`.
"""

from ._cells import from_cell as from_cell, load_cell as load_cell
from ._connectivity import (
    from_graph as from_graph,
    partitioned as partitioned,
    random_ei as random_ei,
    ring as ring,
    two_neuron as two_neuron,
)
from ._dynamics import AbstractDynamics as AbstractDynamics
from ._maps import AbstractMap as AbstractMap, is_map as is_map
from ._models import (
    LeakyRNN as LeakyRNN,
    WilsonCowan as WilsonCowan,
    hopfield as hopfield,
    supralinear as supralinear,
)
from ._network import (
    Convention as Convention,
    RateNetwork as RateNetwork,
    has_chambers as has_chambers,
    is_structured as is_structured,
    is_threshold_linear as is_threshold_linear,
    push as push,
    with_maps as with_maps,
    with_matrix as with_matrix,
)
from ._plain import (
    as_dynamics as as_dynamics,
    as_map as as_map,
    check_vector_field as check_vector_field,
)
from ._transfer import (
    AbstractTransfer as AbstractTransfer,
    power_law as power_law,
    sigmoid as sigmoid,
    tanh as tanh,
    threshold_linear as threshold_linear,
)
from .weights import (
    StructuredWeights as StructuredWeights,
    absolute as absolute,
    blocks as blocks,
    convolution as convolution,
    low_rank as low_rank,
    sparse as sparse,
    times as times,
)
