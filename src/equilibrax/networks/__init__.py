"""What is settled: rate networks, their transfer functions, their weights.

A `RateNetwork` holds the equation of motion and nothing about how it is solved.
The builders return ordinary `RateNetwork`s; each documents its weight matrix.
"""

from ._connectivity import (
    from_graph as from_graph,
    partitioned as partitioned,
    random_ei as random_ei,
    ring as ring,
    two_neuron as two_neuron,
)
from ._network import Convention as Convention, RateNetwork as RateNetwork
from ._transfer import (
    AbstractTransfer as AbstractTransfer,
    power_law as power_law,
    sigmoid as sigmoid,
    tanh as tanh,
    threshold_linear as threshold_linear,
)
