"""`find_fixed_points`: from inputs to verdicts."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from .. import _checks
from .._devices import filled_up, mesh_for, on_each_device
from ..networks import AbstractDynamics, RateNetwork, as_dynamics, check_vector_field
from ._flow import Flow, as_flow
from ._gradient import with_derivatives
from ._outcome import FixedPoints, raise_unsettled
from ._settle import settle


def find_fixed_points(
    network: AbstractDynamics | Callable,
    inputs: Float[Array, "*batch k"],
    *,
    x0: Float[Array, "..."] | None = None,
    method: Flow | None = None,
    throw: bool = False,
) -> FixedPoints:
    r"""Settle each input: follow its trajectory from `x0` and say how it ended.

    The fixed point $x^*$ is the one that the trajectory of $\tau \dot x = F(x, i)$
    reaches, not any root of F. The state returned is polished to rounding by Newton's
    method, the residual is recomputed there, and the eigenvalues of the Jacobian decide
    on stability.

    **Arguments:**

    - `network`: a `RateNetwork` of n neurons; other `AbstractDynamics`; or a function of (t, x, i)
      that gives dx/dt, with time constants of 1 and as many components as `x0` has, or else
      the inputs. A new function is a new program to compile: define it once.
    - `inputs`: shape `(..., n)` for a `RateNetwork`, `(..., k)` for others; `(5,)` gives results
      of shape `()`, `(100, 5)` of shape `(100,)`, `(0, 5)` of shape `(0,)`.
    - `x0`: initial states, any shape that broadcasts to `(..., n)`; zeros if absent.
    - `method`: a `Flow`; `Flow()` if absent.
    - `throw`: raise unless every input reached a stable fixed point.

    **Returns:** a `FixedPoints`, one `Outcome` for each input. An input that holds NaN or
    infinity is `INVALID` and changes nothing for the others.

    **Raises:** `ValueError` or `TypeError` for inputs of the wrong width or dtype, before
    anything is traced; `FixedPointError` under `throw=True`, once, with the counts.

    It composes with `jax.jit`, `jax.vmap` and `jax.grad`, forward and reverse: `state` and `rates`
    carry the derivatives of the implicit function theorem in the network and the inputs, of any
    order, and `abscissa` its first ones, as long as the leading eigenvalue is simple. Where the
    outcome is not `STABLE` all derivatives are zero, and there is a warning if that is everywhere.
    On a threshold, a neuron counts as silent. Many inputs of one network are best given as one
    batch: `jax.vmap` over inputs is far slower.

    **Example:**

    ```python
    network, i = eqb.two_neuron(), jnp.asarray([0.3, 0.2])
    found = eqb.find_fixed_points(network, i)
    print(eqb.Outcome(int(found.outcome)).name, found.rates > 0)
    # > STABLE [ True False]
    gradient = jax.grad(lambda net: eqb.find_fixed_points(net, i).rates.sum())(network)
    print(f"{gradient.weights[0, 0]:.2f}")
    # > 1.20
    ```
    """
    method = as_flow(method)
    network, inputs, x0 = as_problem(network, inputs, x0)
    # No derivative enters the trajectory: under `jax.grad` the same compiled program runs.
    problem = without_derivatives((network, inputs, x0))
    found = _find(*problem, flow=method)
    if not all(map(_checks.is_known, jax.tree.leaves((network, inputs)))):
        found = with_derivatives(network, inputs, found)
    return raise_unsettled(found) if throw else found


def as_problem(
    network: Any, inputs: Any, x0: Any
) -> tuple[AbstractDynamics, Float[Array, "*batch k"], Float[Array, "*batch n"] | None]:
    """Dynamics, inputs and starts of one dtype and of shapes that fit, or an error that says
    which does not."""
    width = network.num_neurons if isinstance(network, RateNetwork) else None
    inputs = as_states("inputs", inputs, width)
    x0 = None if x0 is None else as_states("x0", x0, width)
    width = (inputs if x0 is None else x0).shape[-1]
    network = as_dynamics("network", network, width, inputs.dtype)
    n = network.num_neurons
    dtype = jnp.result_type(network.dtype, inputs)
    if x0 is not None:
        x0 = as_states("x0", x0, n)
        dtype = jnp.result_type(dtype, x0)
        shape = (*inputs.shape[:-1], n)
        try:
            x0 = jnp.broadcast_to(x0, shape).astype(dtype)
        except ValueError:
            _checks.fail("x0", f"broadcast to shape {shape}", f"has shape {x0.shape}")
    network, inputs = network.astype(dtype), inputs.astype(dtype)
    if not isinstance(network, RateNetwork):
        check_vector_field("network", network, inputs.shape[-1])
    return network, inputs, x0


def without_derivatives(tree: Any) -> Any:
    """The same values, of which no derivative is known."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def as_states(name: str, value: Any, n: int | None = None) -> Float[Array, "*batch n"]:
    """`value` as an array of shape (..., n); of any n if none is given."""
    value = _checks.floating(name, value)
    if value.ndim == 0 or n not in (None, value.shape[-1]):
        _checks.fail(name, f"have shape (..., {n or 'n'})", f"has shape {value.shape}")
    return value


def _find(
    network: AbstractDynamics,
    inputs: Float[Array, "*batch k"],
    x0: Float[Array, "*batch n"] | None,
    flow: Flow,
) -> FixedPoints:
    """Settle a batch of any shape: a very large one piece by piece, so that beside inputs and
    answers only one piece's log is in memory."""
    batch = inputs.shape[:-1]
    count = math.prod(batch)
    inputs, x0 = jax.tree.map(lambda a: a.reshape(count, a.shape[-1]), (inputs, x0))
    size = max(1, PIECE // network.num_neurons)
    if count <= size or not _checks.is_known(inputs):
        found = _find_piece(network, inputs, x0, flow, multiple=1)
    else:
        found = None
        for first in range(0, count, size):
            rows = slice(first, first + size)
            start = None if x0 is None else x0[rows]
            part = _find_piece(network, inputs[rows], start, flow, multiple=size)
            if found is None:
                found = jax.tree.map(lambda a: jnp.zeros((count, *a.shape[1:]), a.dtype), part)
            found = _put(found, part, first)
    return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), found)


PIECE = 2**18 * 5
"""Numbers in the inputs of one piece."""

SMALL = 32
SHELVES = (8, 64, 512, 4096)
"""Batches of networks up to this size, on one device, are filled up to the next of these, or to a
multiple of the last: few programs serve them all, and idle lanes cost next to nothing."""


@partial(jax.jit, donate_argnums=0)
def _put(whole: FixedPoints, part: FixedPoints, first: Int[Array, ""]) -> FixedPoints:
    """`whole` with `part` written over its rows from `first` on."""

    def put(a, b):
        return jax.lax.dynamic_update_slice_in_dim(a, b, first, axis=0)

    return jax.tree.map(put, whole, part)


def _find_piece(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    x0: Float[Array, "m n"] | None,
    flow: Flow,
    multiple: int,
) -> FixedPoints:
    """Settle m inputs on all devices that they are to be spread over, filled up to a multiple
    of this many so that the same compiled program serves."""
    count = inputs.shape[0]
    mesh = mesh_for(inputs)
    small = _checks.is_known(inputs) and network.num_neurons <= SMALL
    if mesh is None and multiple == 1 and small:
        multiple = next((size for size in SHELVES if count <= size), SHELVES[-1])

    def run(network, inputs, x0):
        return _settle(network, inputs, x0, flow, mesh)

    return filled_up(run, mesh, network, (inputs, x0), multiple)


@eqx.filter_jit
def _settle(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    x0: Float[Array, "m n"] | None,
    flow: Flow,
    mesh: Mesh | None,
) -> FixedPoints:
    # TF32 products on a GPU would spoil error estimates and verdicts.
    with jax.default_matmul_precision("highest"):
        return on_each_device(partial(settle, flow=flow), mesh)(network, inputs, x0)
