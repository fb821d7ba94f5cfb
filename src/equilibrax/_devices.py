"""Which devices a batch is spread over.

XLA runs one program on one core of a CPU, but for large matrix products; its way to use more
is one virtual device for each core. They must be asked for before JAX is first used, so
importing equilibrax asks - unless JAX is in use already, or its number of CPU devices has been
set, by `jax.config.update("jax_num_cpu_devices", 1)` for example. Nothing else changes: arrays
still live on the first device, and what is settled on all of them is returned there.
"""

import contextlib
import math
import os
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, PyTree

from . import _checks

AXIS = "inputs"
"""The mesh's one axis."""

SMALLEST_SHARE = 256
"""Inputs for each device below which spreading them costs more than it gains."""


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_all_cores() -> None:
    """One virtual CPU device for each core, if nobody has decided otherwise."""
    flags = os.environ.get("XLA_FLAGS", "")
    if jax.config.jax_num_cpu_devices != -1 or "host_platform_device_count" in flags:  # pyright: ignore
        return
    # A RuntimeError says that JAX is in use already: then it stays as it is.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_cores())


def mesh_for(inputs: Array, count: int | None = None, share: int = SMALLEST_SHARE) -> Mesh | None:
    """The mesh that this batch, (m, n), is spread over; None for one device, or if its m, or the
    count, of rows is less than a share for each.

    A batch that its owner has spread over devices stays on those; any other is spread over
    all local devices of the same kind. Inside `jax.jit` the caller decides.
    """
    if not _checks.is_known(inputs) or not inputs.is_fully_addressable:
        return None
    devices = sorted(inputs.devices(), key=lambda device: device.id)
    if len(devices) == 1:
        devices = jax.local_devices(backend=devices[0].platform)
    count = inputs.shape[0] if count is None else count
    if len(devices) == 1 or count < share * len(devices):
        return None
    return Mesh(np.asarray(devices), (AXIS,))


def rows_over(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose rows are spread over the mesh."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def on_each_device(function: Callable, mesh: Mesh | None) -> Callable:
    """`function(shared, *batches)`, of what every device has whole, any pytree, and of rows spread
    over the mesh, whose results are such rows. Each device has its own loops, and none waits for
    another. Without a mesh it is the function itself."""
    if mesh is None:
        return function

    def spread(shared, *batches):
        arrays, rest = eqx.partition(shared, eqx.is_array)

        def here(arrays, *batches):
            return function(eqx.combine(arrays, rest), *batches)

        rows = PartitionSpec(mesh.axis_names)
        specs = (PartitionSpec(), *[rows for _ in batches])
        run = jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)
        return run(arrays, *batches)

    return spread


def put(tree: PyTree, sharding: Sharding) -> PyTree:
    """The arrays of any pytree, placed so. One by one: in reverse mode, what has no derivative is
    then left out."""
    return jax.tree.map(lambda a: jax.device_put(a, sharding) if eqx.is_array(a) else a, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device of the mesh has whole."""
    return NamedSharding(mesh, PartitionSpec())


def on_all_of(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """The same pytree, which every device of the mesh has whole; as it is without a mesh."""
    return tree if mesh is None else put(tree, replicated(mesh))


def filled_up(
    run: Callable,
    mesh: Mesh | None,
    shared: PyTree,
    rows: tuple[Array | None, ...],
    multiple: int = 1,
) -> PyTree:
    """`run(shared, *rows)` on the mesh, the results where the first of the rows came from. Rows of
    NaN fill these up to a multiple of `multiple` and of the devices, and are cut off again; of
    no rows, all are such."""
    first = jax.tree.leaves(rows)[0]
    count = first.shape[0]
    if mesh is not None:
        multiple = math.lcm(multiple, mesh.size)
    missing = max(multiple, -(-count // multiple) * multiple) - count
    if missing:
        fill = ((0, missing), (0, 0))
        rows = jax.tree.map(lambda a: jnp.pad(a, fill, constant_values=jnp.nan), rows)
    if mesh is None:
        found = run(shared, *rows)
    else:
        home = first.sharding
        rows = jax.device_put(rows, rows_over(mesh))
        found = run(on_all_of(mesh, shared), *rows)
        found = jax.device_put(found, home if len(home.device_set) == 1 else rows_over(mesh))
    return jax.tree.map(lambda a: a[:count], found) if missing else found


def meet(where: str) -> None:
    """Wait until every process is here; there is nothing to wait for if it is alone."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)
