r"""Weights with structure: linear operators whose products cost less than n^2.

| builder              | W                                    | cost of a product   |
|----------------------|--------------------------------------|---------------------|
| `low_rank`           | U V' + d I, or + diag(d)             | n r                 |
| `sparse`             | the non-zero elements                | their number        |
| `convolution`        | W_jk = w_(j - k), on a ring or torus | n log n             |
| `blocks`             | a matrix of arrays and operators     | that of its parts   |

All are `lineax.AbstractLinearOperator`s, which can be added, multiplied and composed (`_algebra`);
they act on lanes (n, L), one vector for each lane. Arrays are leaves: networks are differentiable
in factors, elements and kernels.
"""

from ._algebra import Product as Product, Sum as Sum, as_weights as as_weights
from ._base import (
    StructuredWeights as StructuredWeights,
    absolute as absolute,
    times as times,
)
from ._blocks import Blocks as Blocks, blocks as blocks
from ._convolution import Convolution as Convolution, convolution as convolution
from ._low_rank import LowRank as LowRank, low_rank as low_rank
from ._sparse import Sparse as Sparse, sparse as sparse

STRUCTURES = (LowRank, Sparse, Convolution, Blocks, Sum, Product)
"""All kinds of weights with structure."""
