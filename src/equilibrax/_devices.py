"""Arrays on a mesh of devices, for training, and processes that wait for each other."""

import equinox as eqx
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import PyTree

from ._types import Device


def rows_over(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose rows are spread over the mesh."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def on_all_of(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """The same pytree, which every device of the mesh has whole; as it is without a mesh."""
    return tree if mesh is None else put(tree, NamedSharding(mesh, PartitionSpec()))


def put(tree: PyTree, where: Sharding | Device) -> PyTree:
    """The arrays of any pytree, placed so. One by one: in reverse mode, leaves without a derivative
    are then left out."""
    return jax.tree.map(lambda a: jax.device_put(a, where) if eqx.is_array(a) else a, tree)


def meet(where: str) -> None:
    """Wait until every process is here; a single process goes on."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)
