"""The settings that determine the samples of a store, and objects rebuilt from them."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from .._resumable import Kind, read_settings, refuse_difference
from .._settings import described, program_of, rebuilt, versions
from ..fixed_points import Flow
from ..networks import AbstractDynamics, LeakyRNN, RateNetwork, WilsonCowan, as_dynamics
from ..networks._transfer import TRANSFERS
from ..networks.weights import STRUCTURES
from ._inputs import AbstractInputs, Gaussian, UniformCube
from ._shards import NAME

STORE = Kind("a store of samples", "equilibrax-store", 1, NAME)

READABLE = {
    kind.__qualname__: kind
    for kind in (
        RateNetwork, LeakyRNN, WilsonCowan, *TRANSFERS.values(), *STRUCTURES, UniformCube, Gaussian,
        Flow,
    )
}  # fmt: skip
"""The classes that can be rebuilt from settings, by name."""


def settings_of(network, inputs, n, key, method, keep, size) -> dict[str, Any]:
    """All settings that determine the samples, by name."""
    return {
        **versions(),
        "draws": n,
        "shard_size": size,
        "keep": keep,
        **described(key, "key"),
        **settings_of_network(network),
        **settings_of_inputs(inputs, network),
        **described(method, "method"),
    }


def settings_of_network(network: AbstractDynamics) -> dict[str, Any]:
    """A network's parameters, and a digest of its equation."""

    def equation(network, x, i):
        return network.vector_field(jnp.zeros((), x.dtype), x, i), network.rates(x)

    x, i = (jnp.zeros(size, network.dtype) for size in (network.num_neurons, network.num_inputs))
    return {**described(network, "network"), "equation": program_of(equation, network, x, i)}


def settings_of_inputs(inputs: AbstractInputs, network: AbstractDynamics) -> dict[str, Any]:
    """A distribution's parameters, and a digest of its `draw`."""

    def draw(inputs, key):
        return inputs.draw(key, network.num_inputs, network.dtype)

    program = program_of(draw, inputs, jax.random.key(0))
    return {**described(inputs, "inputs"), "distribution": program}


def num_shards(settings: dict[str, Any]) -> int:
    """Number of shards of a complete store."""
    return -(-settings["draws"] // settings["shard_size"])


def network_of(folder: Path, settings: dict[str, Any], given: Any) -> AbstractDynamics:
    """The network rebuilt from the settings, or `given`, which must agree with them."""
    if given is not None:
        network = as_dynamics("network", given)
        refuse_difference(folder, settings, {**settings, **settings_of_network(network)})
        return network
    try:
        return rebuilt(settings, "network", READABLE)
    except LookupError as error:
        raise ValueError(f"{folder}: {error}: pass it as `network`.") from error


def arguments_of(path: str | os.PathLike) -> dict[str, Any]:
    """The arguments of the call of `sample_to_store` that wrote a store.

    **Raises:** `FileNotFoundError`; `ValueError` for a folder that is not a store, or whose
    settings are damaged or contain a user's class or function.
    """
    settings, _ = read_settings(Path(path), STORE)
    objects = ("network", "inputs", "method", "key")
    try:
        found = {name: rebuilt(settings, name, READABLE) for name in objects}
    except LookupError as error:
        raise ValueError(f"{path}: {error}.") from error
    return {**found, "n": settings["draws"], **{k: settings[k] for k in ("keep", "shard_size")}}
