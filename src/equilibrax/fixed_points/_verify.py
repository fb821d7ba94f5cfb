"""Proposed fixed points, put to the proof: no trajectory is followed.

The active set of the state proposed has one candidate fixed point. That it lies in its own chamber,
and that the Jacobian there is Hurwitz, makes it a stable fixed point of the network; in a network
that has several, it need not be the one that a trajectory reaches.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._batching import cut, first_rows, joined, spans
from .._types import Device
from .._workers import in_parallel, workers_beside
from ..networks import RateNetwork
from ._driver import certificate_of, workers_for
from ._flow import Flow
from ._linalg import exactly
from ._speed import chunk_rows
from .certificates import AbstractCertificate
from .stepping import Queue


def verify(
    network: RateNetwork, inputs: Float[Array, "m n"], x: Float[Array, "m n"], flow: Flow
) -> tuple[Float[Array, "m n"], Bool[Array, " m"]]:
    """The fixed points in the chambers of these states, and which of them are proven to be stable
    ones. `network` is threshold-linear; rows that are not finite are never verified."""
    home = next(iter(inputs.devices()))
    size = chunk_rows(network.num_neurons, len(inputs), home.platform)
    workers = workers_for(flow, workers_beside(home))
    certificate = certificate_of(network, dataclasses.replace(flow, evidence="proof"))

    def work(span: tuple[int, int], device: Device):
        i, proposed = (cut(rows, span, size, device) for rows in (inputs, x))
        return first_rows(_verify(network, certificate, i, proposed), span[1] - span[0])

    parts = in_parallel(work, spans(len(inputs), size), workers)
    return joined(parts, home)


@eqx.filter_jit
def _verify(
    network: RateNetwork,
    certificate: AbstractCertificate,
    inputs: Float[Array, "m n"],
    x: Float[Array, "m n"],
) -> tuple[Float[Array, "m n"], Bool[Array, " m"]]:
    with exactly():
        finite = jnp.all(jnp.isfinite(inputs) & jnp.isfinite(x), axis=1)
        proof = certificate.prove(network, x, inputs, Queue.where(finite))
        return jnp.where(proof.stable[:, None], proof.point, x), proof.stable
