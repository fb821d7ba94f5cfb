"""Proofs of convergence and stability, by the kind of network.

`ChamberTable` holds all chambers of a small threshold-linear network, with the ellipsoids that
trap (`_ellipsoids`). `ActiveBlocks` (`_products`) works out those of a larger one as they occur,
by powers of I + h J (`_powers`), which also prove the stability of smooth dynamics at a
`PolishedPoint`. Networks of low rank have a `LowRankPoint`, proven by r x r matrices. `Probes` give
evidence but for a stated probability where matrices are too large, and `NoCertificate` leaves all
to the spectrum (`_spectrum`). Sometimes a network is proven to converge from everywhere
(`_global`).
"""

from itertools import pairwise

import jax.numpy as jnp

from ... import _checks
from ...networks import AbstractDynamics, is_map, is_structured, is_threshold_linear
from .._flow import Flow
from .._speed import LARGEST_PROOF, LARGEST_PROVEN, matrix_sizes, proof_bytes
from ._base import (
    AbstractCertificate as AbstractCertificate,
    NoCertificate as NoCertificate,
    Proof as Proof,
)
from ._chambers import (
    all_sets as all_sets,
    chamber_drift as chamber_drift,
    chamber_index as chamber_index,
    chamber_matrix as chamber_matrix,
    margin as margin,
    terms as terms,
)
from ._ellipsoids import solve_lyapunov as solve_lyapunov
from ._global import GlobalStability as GlobalStability
from ._low_rank import (
    LowRankPoint as LowRankPoint,
    has_low_rank as has_low_rank,
    is_exact as is_exact,
)
from ._maps import MapPoint as MapPoint, MapProbes as MapProbes
from ._polished import PolishedPoint as PolishedPoint
from ._probes import Probes as Probes
from ._products import ActiveBlocks as ActiveBlocks, euler_step
from ._spectrum import (
    spectral_abscissa as spectral_abscissa,
    unstable_projection as unstable_projection,
)
from ._table import ChamberTable as ChamberTable, has_table as has_table


def certificate_for(
    network: AbstractDynamics, flow: Flow, exact: bool | None = None
) -> AbstractCertificate:
    """The certificate of this network, for the evidence that the flow asks for; abscissas within
    the marginal band prove nothing. `exact` says what is known of a network of low rank."""
    n, evidence, band = network.num_neurons, flow.evidence, flow.marginal_abscissa(network)
    if is_structured(network):
        low_rank = has_low_rank(network)
        if evidence == "spectrum" or (evidence == "proof" and not low_rank):
            kind = type(network.weights).__name__
            must = (
                f'be "probe" or None for weights with structure ({kind}), whose matrix is not built'
            )
            _checks.fail("evidence", must, f'is "{evidence}"', page="explanation/certificates")
        if flow.abscissa and not low_rank:
            must = "be False for weights with structure, whose eigenvalues are not computed"
            _checks.fail("abscissa", must, "is True", page="explanation/certificates")
        if not low_rank or evidence == "probe" or exact is False:
            return Probes(network, band)
        return LowRankPoint(network, band, exact is True)
    if evidence == "spectrum":
        return NoCertificate()
    if is_map(network):
        if evidence == "probe" or (evidence is None and n > LARGEST_PROVEN):
            return MapProbes(network, band)
        return MapPoint(jnp.asarray(band))
    if evidence == "probe" or (evidence is None and n > LARGEST_PROVEN):
        return Probes(network, band)
    if proof_bytes(n, network.dtype.itemsize) > LARGEST_PROOF:
        _checks.fail(
            "evidence",
            'be "probe" or None for so large a network',
            'is "proof"',
            page="explanation/certificates",
        )
    if has_table(network):
        return ChamberTable(network, band)
    if is_threshold_linear(network):
        buckets = tuple(pairwise((-1, *matrix_sizes(n))))
        return ActiveBlocks(GlobalStability(network, band), *euler_step(network), buckets)
    return PolishedPoint(jnp.asarray(band))
