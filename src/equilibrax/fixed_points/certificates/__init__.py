"""Proofs of convergence and stability, by the kind of network.

`ChamberTable` holds all chambers of a small threshold-linear network, `ActiveBlocks` works out
those of a larger one as they occur, and `NoCertificate` leaves smooth dynamics to their
eigenvalues (`_spectrum`). Ellipsoids that trap (`_ellipsoids`) prove convergence from a state on;
sometimes a network is proven to converge from everywhere (`_global`).
"""

from itertools import pairwise
from typing import Any

from ...networks import AbstractDynamics, is_threshold_linear
from .._speed import matrix_sizes
from ._base import (
    AbstractCertificate as AbstractCertificate,
    NoCertificate as NoCertificate,
    Proof as Proof,
)
from ._blocks import ActiveBlocks as ActiveBlocks
from ._chambers import (
    all_sets as all_sets,
    chamber_drift as chamber_drift,
    chamber_index as chamber_index,
    chamber_matrix as chamber_matrix,
    margin as margin,
)
from ._ellipsoids import solve_lyapunov as solve_lyapunov
from ._global import GlobalStability as GlobalStability
from ._spectrum import (
    spectral_abscissa as spectral_abscissa,
    unstable_projection as unstable_projection,
)
from ._table import ChamberTable as ChamberTable, has_table as has_table


def certificate_for(network: AbstractDynamics, band: Any) -> AbstractCertificate:
    """The certificate of this network; abscissas within the marginal `band` prove nothing."""
    if has_table(network):
        return ChamberTable(network, band)
    if is_threshold_linear(network):
        sizes = matrix_sizes(network.num_neurons)
        return ActiveBlocks(GlobalStability(network, band), tuple(pairwise((-1, *sizes))))
    return NoCertificate()
