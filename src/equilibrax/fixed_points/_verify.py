"""Fixed points that are proposed, put to the proof: no trajectory is followed.

The active set of the state proposed has one candidate fixed point. That it lies in its own chamber,
and that the Jacobian there is Hurwitz, makes it a stable fixed point of the network; in a network
that has several, it need not be the one that a trajectory reaches.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from .._devices import filled_up, mesh_for, on_each_device
from ..networks import RateNetwork
from ._blocks import by_active_set, in_ordered_blocks, trapped_in_blocks
from ._chambers import Chambers, has_table
from ._flow import Flow
from ._journey import Log
from ._lanes import Queue, in_blocks
from ._outcome import Outcome
from ._steps import in_lanes
from ._whole import Whole

AT_ONCE = 4096
"""Rows in a block, where there is a table of chambers."""


def verify(
    network: RateNetwork, inputs: Float[Array, "m n"], x: Float[Array, "m n"], flow: Flow
) -> tuple[Float[Array, "m n"], Bool[Array, " m"]]:
    """The fixed points in the chambers of these states, and which of them are proven to be stable
    ones. `network` is threshold-linear; rows that are not finite are never verified."""
    mesh = mesh_for(inputs)

    def run(network, inputs, x):
        return _verify(network, inputs, x, flow, mesh)

    return filled_up(run, mesh, network, (inputs, x))


@eqx.filter_jit
def _verify(network, inputs, x, flow: Flow, mesh: Mesh | None):
    with jax.default_matmul_precision("highest"):
        return on_each_device(partial(_on_one_device, flow=flow), mesh)(network, inputs, x)


def _on_one_device(network, inputs, x, flow: Flow):
    finite = jnp.all(jnp.isfinite(inputs) & jnp.isfinite(x), axis=1)
    band = flow.marginal_abscissa(network)
    log = Log.start(x, jnp.ones(len(x), x.dtype))
    queue = Queue.where(finite)

    def proven(part: Log, target, stable) -> Log:
        verdict = jnp.where(stable, 1 + Outcome.STABLE, 0)
        return part.replace(jnp.where(stable[:, None], target, part.x), verdict=verdict)

    if has_table(network):
        chambers, lanewise = Chambers(network, band), in_lanes(network)

        def treat(log: Log, rows) -> Log:
            part, i = log.take(rows), inputs.at[rows].get(mode="clip").T
            index, target, room = chambers.point(lanewise, lanewise.drive(part.x.T, i) > 0, i)
            stable = chambers.trapping[index] & jnp.all(room > 0, axis=0)
            return log.put(rows, proven(part, target.T, stable))

        log = in_blocks(queue, AT_ONCE, treat, log)
    else:
        whole = Whole(network, band)

        def arrive(size, sigma, part: Log, i) -> Log:
            _, stable, target = trapped_in_blocks(network, size, sigma, part.x, i, whole)
            return proven(part, target, stable)

        log = in_ordered_blocks(
            network, inputs, log, by_active_set(network, inputs, log, queue), arrive
        )
    return log.x, log["verdict"] > 0
