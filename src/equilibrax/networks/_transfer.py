"""Transfer functions: from drive to rate, elementwise.

A transfer function is an Equinox module, so its parameters are leaves that can
be differentiated and swept, and two equal ones share a compiled program. Any
elementwise JAX function may stand in their place.
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from .._types import Scalar


class AbstractTransfer(eqx.Module):
    """phi: drive to rate, elementwise, any shape."""

    name: ClassVar[str] = ""

    def __call__(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        raise NotImplementedError

    def derivative(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """phi'(u); at a kink, the derivative from below."""
        return jax.jvp(self.__call__, (u,), (jnp.ones_like(u),))[1]


class ThresholdLinear(AbstractTransfer):
    """phi(u) = max(u, 0), with phi'(0) = 0: a neuron at its threshold is silent."""

    name: ClassVar[str] = "threshold_linear"

    def __call__(self, u):
        return jax.nn.relu(u)


class PowerLaw(AbstractTransfer):
    """phi(u) = gain * max(u, 0) ** exponent, of the supralinear networks.

    Ahmadian, Rubin and Miller, Neural Computation 25:1994 (2013),
    doi:10.1162/NECO_a_00472.
    """

    name: ClassVar[str] = "power_law"
    gain: Scalar
    exponent: Scalar

    def __init__(self, gain: float | Array = 1.0, exponent: float | Array = 2.0):
        self.gain = _checks.floating("gain", gain)
        self.exponent = _checks.floating("exponent", exponent)
        _checks.shape("gain", self.gain, ())
        _checks.shape("exponent", self.exponent, ())
        _checks.positive("gain", self.gain)
        _checks.values(
            "exponent", self.exponent, "be at least 1, or phi has no slope at 0", lambda v: v >= 1
        )

    def __call__(self, u):
        # Both branches of a `where` are differentiated: keep log(0) out of the power.
        active = u > 0
        base = jnp.where(active, u, jnp.ones_like(u))
        power = base ** self.exponent.astype(u.dtype)
        return jnp.where(active, self.gain.astype(u.dtype) * power, jnp.zeros_like(u))


class Sigmoid(AbstractTransfer):
    """phi(u) = 1 / (1 + exp(-u))."""

    name: ClassVar[str] = "sigmoid"

    def __call__(self, u):
        return jax.nn.sigmoid(u)


class Tanh(AbstractTransfer):
    """phi(u) = tanh(u)."""

    name: ClassVar[str] = "tanh"

    def __call__(self, u):
        return jnp.tanh(u)


class Elementwise(AbstractTransfer):
    """A user's own elementwise function. Two of them are equal when the function is."""

    name: ClassVar[str] = "elementwise"
    function: Callable = eqx.field(static=True)

    def __call__(self, u):
        return self.function(u)


threshold_linear = ThresholdLinear()
sigmoid = Sigmoid()
tanh = Tanh()


def power_law(gain: float | Array = 1.0, exponent: float | Array = 2.0) -> PowerLaw:
    """The transfer function phi(u) = gain * max(u, 0) ** exponent.

    **Arguments:**

    - `gain`: positive scalar, in rate per drive ** exponent.
    - `exponent`: scalar of at least 1.

    **Raises:** `ValueError` outside these ranges.
    """
    return PowerLaw(gain, exponent)


TRANSFERS = {kind.name: kind for kind in (ThresholdLinear, PowerLaw, Sigmoid, Tanh)}
"""The transfer functions that can be named in a file."""


def as_transfer(transfer: AbstractTransfer | Callable) -> AbstractTransfer:
    """A transfer function of ours, or a user's elementwise function wrapped as one."""
    if isinstance(transfer, AbstractTransfer):
        return transfer
    if not callable(transfer) or isinstance(transfer, type):
        _checks.fail(
            "transfer",
            "be a transfer function such as eqb.threshold_linear, eqb.power_law(), "
            "eqb.sigmoid, eqb.tanh or an elementwise JAX function",
            f"is {transfer!r}",
        )
    probe = jax.ShapeDtypeStruct((3,), jnp.result_type(float))
    try:
        out = jax.eval_shape(transfer, probe)
    except Exception as error:
        raise ValueError(
            "Argument `transfer` must map an array of drives to an array of rates, "
            f"but calling it failed: {error}"
        ) from error
    if getattr(out, "shape", None) != probe.shape or out.dtype != probe.dtype:
        _checks.fail("transfer", f"be elementwise ({probe} to {probe})", f"returns {out}")
    return Elementwise(transfer)
