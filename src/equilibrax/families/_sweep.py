"""`sweep`: every network of a family, on the same inputs."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from .. import _checks
from .._batching import at_home, joined
from .._described import Described
from .._devices import put
from .._types import Device
from .._workers import in_parallel, workers_beside
from ..fixed_points import FixedPoints, Flow, Outcome
from ..fixed_points._driver import settle_chunks, workers_for
from ..fixed_points._flow import as_flow
from ..fixed_points._implicit import attach_derivatives
from ..fixed_points._problem import as_problem, without_derivatives
from ..fixed_points._traced import settle_traced
from ..networks import AbstractDynamics


class Sweep(eqx.Module, Described):
    """How every network of a family settles every input.

    - `parameters`: as given; their leading axes are the family's shape.
    - `found`: the `FixedPoints`, whose arrays have the family's shape, then the inputs'.
    - `family`: the family's shape.

    **Example:**

    ```python
    strengths = jnp.asarray([-0.2, -1.0])
    inputs = jnp.asarray([[0.3, 0.3], [0.3, 0.2]])
    swept = eqb.sweep(lambda w: eqb.two_neuron(w_cross=w), strengths, inputs)
    print(swept.found.state.shape, swept.counts[:, eqb.Outcome.UNSTABLE])
    # > (2, 2, 2) [0 1]
    ```
    """

    parameters: PyTree
    found: FixedPoints
    family: tuple[int, ...] = eqx.field(static=True)

    @property
    def counts(self) -> Int[Array, "*family outcomes"]:
        """How many inputs end in each outcome, indexed by `Outcome`, for each network."""
        outcome = self.found.outcome.reshape(*self.family, -1)
        kinds = jnp.arange(len(Outcome))
        return jnp.sum(outcome[..., None] == kinds, axis=-2, dtype=jnp.int32)

    def describe(self) -> str:
        """How many networks, and how all their inputs ended, in one line."""
        family = " x ".join(map(str, self.family))
        return f"{family} networks, {self.found.describe()}"

    def share(self, outcome: Outcome) -> Float[Array, "*family"]:
        """Share of the inputs that end so, for each network: the outcome map."""
        counts = self.counts
        return counts[..., outcome] / jnp.maximum(1, jnp.sum(counts, axis=-1))


def sweep(
    network_of: Callable[[Any], AbstractDynamics],
    parameters: PyTree[Float[Array, "..."]],
    inputs: Float[Array, "*batch k"],
    *,
    axes: int = 1,
    x0: Float[Array, "..."] | None = None,
    method: Flow | None = None,
) -> Sweep:
    r"""Settle the same inputs for a whole family of networks, by the same compiled programs.

    Workers, one for each core or accelerator, take network after network: no network waits for the
    slowest input of another.

    **Arguments:**

    - `network_of`: from one parameter, or one pytree of them, to the dynamics; traced by JAX.
    - `parameters`: a pytree of arrays.
    - `axes`: how many of their first axes span the family: `(100,)` and `axes=1` make 100 networks
      of scalars, two arrays `(30, 40)` and `axes=2` a map.
    - `inputs`: shape `(..., k)`, the same for all networks.
    - `x0`: initial states, as for `find_fixed_points`.
    - `method`: a `Flow`.

    **Returns:** a `Sweep`. A network that is not finite gives `INVALID`, and leaves the others
    alone.

    **Raises:** what `network_of` raises where it is given the smallest or the largest value of
    a parameter, so that one outside a legal range is named; `ValueError` for arrays whose
    leading axes differ; otherwise as `find_fixed_points`.

    It composes with `jax.jit` and `jax.grad` as `find_fixed_points` does.

    **Example:**

    ```python
    strengths = jnp.asarray([-0.2, -1.0])
    inputs = jnp.asarray([[0.3, 0.3], [0.3, 0.2]])
    swept = eqb.sweep(lambda w: eqb.two_neuron(w_cross=w), strengths, inputs)
    print(swept.share(eqb.Outcome.STABLE))
    # > [1.  0.5]
    ```
    """
    axes = _checks.integer("axes", axes)
    method = as_flow(method)
    _checks.function("network_of", network_of, "from a parameter to the dynamics")
    leaves = jax.tree.leaves(parameters)
    if not leaves:
        _checks.fail("parameters", "hold an array", "holds none")
    leaves = [_checks.floating("parameters", leaf) for leaf in leaves]
    family = leaves[0].shape[:axes]
    for leaf in leaves:
        if leaf.ndim < axes or leaf.shape[:axes] != family:
            must = f"hold arrays of the same {axes} leading axes"
            _checks.fail("parameters", must, f"holds one of shape {leaf.shape}")
    size = math.prod(family)
    if not size:
        _checks.fail("parameters", "hold at least one network's", f"has the shape {family}")
    flat = [leaf.reshape(size, *leaf.shape[axes:]) for leaf in leaves]
    pack = jax.tree.structure(parameters)

    def build(leaves):
        network = _checks.returned("network_of", network_of, jax.tree.unflatten(pack, leaves))
        if not isinstance(network, AbstractDynamics):
            must = "return a RateNetwork or other AbstractDynamics, whose arrays can be batched"
            _checks.fail("network_of", must, f"returns {network!r}", TypeError)
        return network

    for row in _extremes(flat):
        as_problem(build([leaf[row] for leaf in flat]), inputs, x0)
    each = eqx.if_array(0)
    networks, inputs, x0 = eqx.filter_vmap(
        lambda *leaves: as_problem(build(leaves), inputs, x0), out_axes=(each, None, None)
    )(*flat)
    problem = without_derivatives((networks, inputs, x0))
    found = _settle_family(*problem, flow=method)
    if not _checks.all_concrete(networks, inputs):
        attach = eqx.filter_vmap(attach_derivatives, in_axes=(each, None, 0))
        found = attach(networks, inputs, found)
    found = jax.tree.map(lambda a: a.reshape(*family, *a.shape[1:]), found)
    return Sweep(parameters, found, family)


def _extremes(leaves: list[Array]) -> list[int]:
    """The rows where some component of a parameter is smallest or largest: legal ranges are
    intervals. None where the values are not known, and none that is not finite."""
    rows = set()
    for leaf in leaves:
        if not _checks.is_concrete(leaf):
            return []
        columns = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
        columns = columns[:, np.isfinite(columns).any(axis=0)]
        if columns.size:
            rows |= set(np.nanargmin(columns, axis=0)) | set(np.nanargmax(columns, axis=0))
    return sorted(int(row) for row in rows)


def _settle_family(networks: AbstractDynamics, inputs, x0, flow: Flow) -> FixedPoints:
    """Settle every input of every network, network after network, on all workers."""
    each = eqx.if_array(0)
    arrays, rest = eqx.partition(networks, eqx.is_array)
    if not _checks.all_concrete(arrays, inputs, x0):
        settle = eqx.filter_vmap(settle_traced, in_axes=(each, None, None, None))
        return settle(networks, inputs, x0, flow)
    home = next(iter(inputs.devices()))
    arrays = jax.tree.map(at_home, arrays)
    size = jax.tree.leaves(arrays)[0].shape[0]

    def network_at(k: int) -> AbstractDynamics:
        return eqx.combine(jax.tree.map(lambda a: a[k], arrays), rest)

    def work(k: int, device: Device) -> FixedPoints:
        here, start = put((inputs, x0), device)
        found = settle_chunks(network_at(k), here, start, flow, workers=[device])
        return jax.tree.map(lambda a: at_home(a)[None], found)

    workers = workers_for(flow, workers_beside(home))
    parts = in_parallel(work, range(size), workers)
    return joined(parts, home)
