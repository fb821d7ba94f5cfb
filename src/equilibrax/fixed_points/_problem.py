"""The arguments of a solve: dynamics, inputs and starts of one dtype, of shapes that fit."""

from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from ..networks import AbstractDynamics, RateNetwork, as_dynamics, check_vector_field, is_map

Arguments: TypeAlias = tuple[
    AbstractDynamics, Float[Array, "*batch k"], Float[Array, "*batch n"] | None
]
"""Dynamics, inputs and starts."""


def as_problem(network: Any, inputs: Any, x0: Any) -> Arguments:
    """Dynamics, inputs and starts of one dtype and of shapes that fit, or an error that says
    which does not."""
    known = isinstance(network, RateNetwork)
    inputs = as_states("inputs", inputs, network.num_inputs if known else None)
    x0 = None if x0 is None else as_states("x0", x0, network.num_neurons if known else None)
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
        network = check_vector_field("network", network, inputs.shape[-1])
    return network, inputs, x0


def refuse_map(name: str, network: AbstractDynamics) -> None:
    """Require dynamics in continuous time.

    **Raises:** `TypeError` for a map.
    """
    if is_map(network):
        but = "is a map; `find_slow_points`, `linearise` and `find_cycles` take maps"
        _checks.fail(name, "be in continuous time", but, TypeError, "how-to/cells")


def without_derivatives(problem: Arguments) -> Arguments:
    """The same values, without derivatives."""

    def constant(leaf):
        if eqx.is_inexact_array(leaf) and not _checks.is_concrete(leaf):
            return jax.lax.stop_gradient(leaf)
        return leaf

    return jax.tree.map(constant, problem)


def as_states(name: str, value: Any, n: int | None = None) -> Float[Array, "*batch n"]:
    """`value` as an array of shape (..., n); of any n if none is given."""
    value = _checks.floating(name, value)
    if value.ndim == 0 or n not in (None, value.shape[-1]):
        _checks.fail(name, f"have shape (..., {n or 'n'})", f"has shape {value.shape}")
    return value
