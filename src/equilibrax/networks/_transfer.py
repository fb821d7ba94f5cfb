"""Transfer functions: from drive to rate, elementwise.

A transfer function is an Equinox module: its parameters are leaves, which can be differentiated
and swept, and equal transfer functions share a compiled program. Networks also accept any
elementwise JAX function, or a callable Equinox module whose parameters are arrays.
"""

import math
from collections.abc import Callable
from typing import ClassVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _checks
from .._types import Scalar


class AbstractTransfer(eqx.Module):
    """A function phi from drive to rate, elementwise, for arrays of any shape.

    - `steepest`: a bound on phi', which is nowhere negative; infinite if none is known.
    """

    name: ClassVar[str] = ""
    steepest: ClassVar[float] = math.inf

    def __call__(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        raise NotImplementedError

    def derivative(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """phi'(u), by automatic differentiation; at a kink, the left derivative."""
        return jax.jvp(self.__call__, (u,), (jnp.ones_like(u),))[1]


class ThresholdLinear(AbstractTransfer):
    """phi(u) = max(u, 0), with phi'(0) = 0: a neuron at its threshold is silent.

    **Example:**

    ```python
    network = eqb.two_neuron(transfer=eqb.threshold_linear)
    found = eqb.find_fixed_points(network, jnp.asarray([0.3, 0.2]))
    print([f"{rate:.2f}" for rate in found.rates])
    # > ['0.60', '0.00']
    ```
    """

    name: ClassVar[str] = "threshold_linear"
    steepest: ClassVar[float] = 1.0

    def __call__(self, u):
        return jax.nn.relu(u)


class PowerLaw(AbstractTransfer):
    """phi(u) = gain * max(u, 0) ** exponent, of supralinear networks.

    Ahmadian, Rubin and Miller, Neural Computation 25:1994 (2013),
    doi:10.1162/NECO_a_00472.
    """

    name: ClassVar[str] = "power_law"
    gain: Scalar
    exponent: Scalar

    def __init__(self, gain: float | Array = 1.0, exponent: float | Array = 2.0):
        self.gain = _checks.scalar("gain", gain)
        self.exponent = _checks.scalar("exponent", exponent)
        _checks.positive("gain", self.gain)
        _checks.values(
            "exponent", self.exponent, "be at least 1, or phi has no slope at 0", lambda v: v >= 1
        )

    def __call__(self, u):
        # Both branches of `where` are differentiated, and u = 0 would give log(0) in the power.
        active = u > 0
        base = jnp.where(active, u, jnp.ones_like(u))
        power = base ** self.exponent.astype(u.dtype)
        return jnp.where(active, self.gain.astype(u.dtype) * power, jnp.zeros_like(u))


class Sigmoid(AbstractTransfer):
    """phi(u) = 1 / (1 + exp(-u)).

    **Example:**

    ```python
    network = eqb.two_neuron(w_cross=-3.0, transfer=eqb.sigmoid)
    print(eqb.analyse(network).convergent)  # its slope is 1/4 at most
    # > True
    ```
    """

    name: ClassVar[str] = "sigmoid"
    steepest: ClassVar[float] = 0.25

    def __call__(self, u):
        return jax.nn.sigmoid(u)


class Tanh(AbstractTransfer):
    """phi(u) = tanh(u).

    **Example:**

    ```python
    network = eqb.RateNetwork(2.0 * jnp.eye(5), transfer=eqb.tanh)
    start = jnp.asarray([1.0, -1.0, 1.0, -1.0, 1.0])
    found = eqb.find_fixed_points(network, jnp.zeros(5), x0=start)
    print([f"{rate:.2f}" for rate in found.rates])
    # > ['0.96', '-0.96', '0.96', '-0.96', '0.96']
    ```
    """

    name: ClassVar[str] = "tanh"
    steepest: ClassVar[float] = 1.0

    def __call__(self, u):
        return jnp.tanh(u)


class Elementwise(AbstractTransfer):
    """A user's elementwise function; equal functions give equal transfer functions.

    The arrays of a callable module are leaves, like the parameters of `PowerLaw`.
    """

    name: ClassVar[str] = "elementwise"
    function: Callable

    def __init__(self, function: Callable):
        # A Partial makes a plain function part of the pytree's structure, without leaves.
        if not isinstance(function, eqx.Module):
            function = jax.tree_util.Partial(function)
        self.function = cast(Callable, function)

    def __call__(self, u):
        return self.function(u)


threshold_linear = ThresholdLinear()
sigmoid = Sigmoid()
tanh = Tanh()


def power_law(gain: float | Array = 1.0, exponent: float | Array = 2.0) -> PowerLaw:
    """The transfer function phi(u) = gain * max(u, 0) ** exponent of supralinear networks.

    **Arguments:**

    - `gain`: positive scalar, in rate per drive ** exponent.
    - `exponent`: scalar of at least 1.

    **Returns:** the transfer function, elementwise, for a `RateNetwork`'s `transfer`.

    **Raises:** `ValueError` outside these ranges.

    Ahmadian, Rubin and Miller, Neural Computation 25:1994 (2013),
    doi:10.1162/NECO_a_00472.

    **Example:**

    ```python
    phi = eqb.power_law(gain=2.0, exponent=2.0)
    print(phi(jnp.asarray([-1.0, 1.0, 2.0])))
    # > [0. 2. 8.]
    ```
    """
    return PowerLaw(gain, exponent)


TRANSFERS = {kind.name: kind for kind in (ThresholdLinear, PowerLaw, Sigmoid, Tanh)}
"""The transfer functions that can be stored in a file, by name."""


def as_transfer(transfer: AbstractTransfer | Callable) -> AbstractTransfer:
    """Return a transfer function as it is, or wrap a user's elementwise function.

    **Raises:** `ValueError` for a function that is not elementwise.
    """
    if isinstance(transfer, AbstractTransfer):
        return transfer
    if not callable(transfer) or isinstance(transfer, type):
        _checks.fail(
            "transfer",
            "be a transfer function such as eqb.threshold_linear, eqb.power_law(), "
            "eqb.sigmoid, eqb.tanh or an elementwise JAX function",
            f"is {transfer!r}",
        )
    wrapped = Elementwise(transfer)
    for leaf in jax.tree.leaves(wrapped):
        _checks.floating("transfer", leaf)
    probe = np.asarray([-0.7, 0.3, 1.1], jnp.result_type(float))
    try:
        out = jax.eval_shape(wrapped, probe)
        elementwise = out.shape == probe.shape and out.dtype == probe.dtype
        if elementwise:
            slopes = jax.jacfwd(wrapped)(probe)
            cross = slopes * (1 - np.eye(3))
            elementwise = not _checks.is_concrete(cross) or not np.any(cross)
    except Exception as error:
        must = "map an array of drives to an array of rates"
        _checks.fail("transfer", must, f"calling it failed: {error}")
    if not elementwise:
        _checks.fail(
            "transfer", "be elementwise, and keep shape and dtype", f"maps {probe} to {out}"
        )
    return wrapped
