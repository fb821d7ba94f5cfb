"""Inputs drawn and settled, chunk by chunk."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._batching import concatenated, cut, first_rows
from .._types import Device
from .._workers import workers_beside
from ..fixed_points import Flow, Outcome
from ..fixed_points._driver import Chunk, settle_rows, settler_for, workers_for
from ..fixed_points._speed import chunk_rows
from ..networks import AbstractDynamics
from ._inputs import AbstractInputs, draw_inputs, key_of_block

Columns = dict[str, Any]
"""Arrays of the same rows, by name: inputs, rates, state, outcome. NumPy's on a CPU."""


class Sampler:
    """Draws and settles inputs; input k is a function of the key and k alone."""

    def __init__(
        self,
        network: AbstractDynamics,
        inputs: AbstractInputs,
        key: Array,
        method: Flow,
        count: int,
    ):
        """`count`: how many inputs are to be settled in one call, or more."""
        self.network, self.inputs, self.key = network, inputs, key
        self.home = next(iter(key.devices()))
        self.workers = workers_for(method, workers_beside(self.home))
        size = chunk_rows(network.num_neurons, count, self.home.platform)
        self.settler = settler_for(network, method, network.num_inputs, size, self.home)

    def __call__(
        self,
        first: int,
        count: int,
        workers: Sequence[Device],
        update: Callable = lambda count: None,
    ) -> Columns:
        """The inputs from `first` on, of one block of 2**32, and how they settle."""
        block, start = divmod(first, 2**32)
        key, size, drawn = key_of_block(self.key, block), self.settler.size, {}

        def chunk_of(span: tuple[int, int], device: Device) -> Chunk:
            with jax.default_device(device):
                # A whole chunk, so that one program draws spans of every length.
                i = _draw(self.network, self.inputs, key, np.uint32(start + span[0]), size)
            length = span[1] - span[0]
            drawn[span] = first_rows(i, length)
            return self.settler.start(cut(drawn[span], (0, length), size, device), None)

        found = settle_rows(self.settler, chunk_of, count, workers, update)
        i = concatenated([drawn[span] for span in sorted(drawn)])
        return {"inputs": i, "rates": found.rates, "state": found.state, "outcome": found.outcome}


@eqx.filter_jit
def _draw(
    network: AbstractDynamics,
    inputs: AbstractInputs,
    key: Array,
    first: Any,  # uint32
    count: int,
) -> Float[Array, "m k"]:
    indices = first + jnp.arange(count, dtype=jnp.uint32)
    return draw_inputs(inputs, key, indices, network.num_inputs, network.dtype)


def keep_stable(columns: Columns) -> Columns:
    """The rows with a stable fixed point."""
    stable = columns["outcome"] == Outcome.STABLE
    if bool(stable.all()):
        return columns
    return {name: column[stable] for name, column in columns.items()}
