"""Many devices, many hosts: who settles which shard.

A shard is settled by one device alone, in a pool of lanes of its own, so that its numbers are the
same wherever it is made. (XLA simplifies a program for two devices or more before it compiles it,
and not one for a single device: between these two, points that are not certified may differ in
their last digits.) Processes own shards by turns and meet only at the beginning and the end.
"""

from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from .._devices import AXIS, on_all_of, on_each_device, rows_over
from ..fixed_points import Flow
from ..fixed_points._settle import settle
from ..networks import AbstractDynamics
from ._inputs import AbstractInputs, draw_inputs, key_of_block


def settle_shards(
    network: AbstractDynamics,
    inputs: AbstractInputs,
    key: Array,
    shards: Sequence[int],
    size: int,
    method: Flow,
) -> list[dict[str, Array]]:
    """Draw and settle whole shards of `size` inputs, at most one on each local device.

    Returns the columns of each, on the device that has settled it; they are there when this
    returns.
    """
    mesh = Mesh(np.asarray(jax.local_devices()), (AXIS,))
    # A device without a shard of its own makes the last one again: one program serves all groups.
    padded = [*shards, *[shards[-1]] * (mesh.size - len(shards))]
    blocks, firsts = zip(*(divmod(shard * size, 2**32) for shard in padded), strict=True)
    keys = jnp.stack([key_of_block(key, block) for block in blocks])
    first = jnp.asarray(np.asarray(firsts, np.uint32))
    keys, first = jax.device_put((keys, first), rows_over(mesh))
    shared = on_all_of(mesh, (network, inputs))
    columns = jax.block_until_ready(_settle_shards(shared, keys, first, size, method, mesh))
    parts = {name: _by_device(column) for name, column in columns.items()}
    return [{name: parts[name][d] for name in parts} for d in range(len(shards))]


@eqx.filter_jit
def _settle_shards(shared, keys, first, size, method, mesh) -> dict[str, Array]:
    def one(shared, keys, first):
        network, inputs = shared
        indices = first[0] + jnp.arange(size, dtype=jnp.uint32)
        i = draw_inputs(inputs, keys[0], indices, network.num_inputs, network.dtype)
        found = settle(network, i, None, method)
        columns = {"inputs": i, "rates": found.rates, "state": found.state}
        return {**columns, "outcome": found.outcome}

    # TF32 products on a GPU would spoil error estimates and verdicts.
    with jax.default_matmul_precision("highest"):
        return on_each_device(one, mesh)(shared, keys, first)


def _by_device(column: Array) -> list[Array]:
    """The parts of an array whose rows are spread over devices, in order."""
    parts = sorted(column.addressable_shards, key=lambda part: part.index[0].start or 0)
    return [part.data for part in parts]


def is_mine(shard: int) -> bool:
    """Whether this process owns the shard of this index: they take turns."""
    return shard % jax.process_count() == jax.process_index()


def groups_of(shards: Sequence[int]) -> Iterator[Sequence[int]]:
    """As many at a time as this process has devices."""
    for first in range(0, len(shards), jax.local_device_count()):
        yield shards[first : first + jax.local_device_count()]
