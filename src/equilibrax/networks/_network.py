"""`RateNetwork`, and the equations of motion of its three conventions."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from .. import _checks
from .._types import Matrix, Scalar, Vector
from ._dynamics import AbstractDynamics
from ._transfer import AbstractTransfer, ThresholdLinear, as_transfer, threshold_linear
from .weights import StructuredWeights, absolute, as_weights, sparse, times

Convention: TypeAlias = Literal["voltage", "activity", "recurrent"]


class RateNetwork(AbstractDynamics):
    r"""A network of $n$ rate neurons, with input $i$ and state $x$.

    | `convention`  | equation                                              | output rates     |
    |---------------|-------------------------------------------------------|------------------|
    | `"voltage"`   | $\tau \dot x = -x + W \phi(x - b) + i$                | $\phi(x - b)$    |
    | `"activity"`  | $\tau \dot x = -x + \phi(W x + i - b)$                | $x$              |
    | `"recurrent"` | $\tau \dot x = -x + \phi(W x - b) + i$                | $\max(x, 0)$     |

    **Arguments:**

    - `weights`: $W$, shape `(n, n)`; the row is the target, the column the source. An array, or
      weights with structure: `low_rank`, `sparse` (or a sparse matrix of SciPy or JAX),
      `convolution`, `blocks`, or another `lineax` operator made of matrices, diagonals and these
      by sums and products.
    - `bias`: thresholds $b$, a scalar or shape `(n,)`, in the units of the input.
    - `tau`: time constants $\tau$, a positive scalar or shape `(n,)`, in time.
    - `transfer`: $\phi$, elementwise.
    - `convention`: one of the three above.
    - `partitions`: sizes of the groups of neurons that compete, from neuron 0 on, for `winner`
      and other metrics. Builders set it; the dynamics do not depend on it.
    - `input_weights`: $B$, shape `(n, k)`: the input $s$ has k components, and $i = B s$ drives the
      neurons. If absent, the input is $i$ itself.
    - `readout`: $C$, shape `(outputs, n)`: the output is $C$ times the rates above, and
      `partitions` counts outputs. If absent, it is the rates.

    **Raises:** `ValueError` for weights that are not square or not finite, for a
    time constant that is not positive, for an unknown convention or transfer;
    `TypeError` for integer, complex or half-precision arrays, and for operators that are known by
    a function alone.

    The arrays are leaves, for `jax.grad`, `jax.vmap` and `eqx.tree_at`.

    **Example:**

    ```python
    weights = jnp.asarray([[0.5, -1.0], [-1.0, 0.5]])
    network = eqb.RateNetwork(weights, bias=0.0, tau=10.0, convention="voltage")
    found = eqb.find_fixed_points(network, jnp.asarray([0.3, 0.2]))
    print([f"{x:.2f}" for x in found.state])
    # > ['0.60', '-0.40']
    ```
    """

    weights: Any  # an array, shape (n, n), or StructuredWeights
    bias: Vector
    tau: Vector
    transfer: AbstractTransfer
    convention: Convention = eqx.field(static=True)
    partitions: tuple[int, ...] = eqx.field(static=True)
    input_weights: Float[Array, "n k"] | None
    readout: Float[Array, "outputs n"] | None

    def __init__(
        self,
        weights: Any,
        bias: float | Float[Array, "..."] = 0.0,
        tau: float | Float[Array, "..."] = 1.0,
        transfer: AbstractTransfer | Callable = threshold_linear,
        convention: Convention = "voltage",
        *,
        partitions: Sequence[int] = (),
        input_weights: Float[Array, "n k"] | None = None,
        readout: Float[Array, "outputs n"] | None = None,
    ):
        if isinstance(weights, lx.AbstractLinearOperator):
            weights = as_weights("weights", weights)
        elif hasattr(weights, "todense"):
            weights = sparse(weights)
        if isinstance(weights, StructuredWeights):
            for leaf in jax.tree.leaves(eqx.filter(weights, eqx.is_inexact_array)):
                _checks.finite("weights", _checks.floating("weights", leaf))
        else:
            weights = _checks.floating("weights", weights)
            _checks.finite("weights", weights)
        bias = _checks.floating("bias", bias)
        tau = _checks.floating("tau", tau)
        n = _checks.square("weights", weights)
        for name, value in (("bias", bias), ("tau", tau)):
            _checks.per_neuron(name, value, n)
        _checks.finite("bias", bias)
        _checks.positive("tau", tau)
        if convention not in get_args(Convention):
            _checks.fail(
                "convention",
                "be one of " + ", ".join(map(repr, get_args(Convention))),
                f"is {convention!r}",
            )
        dtype = weights.dtype
        self.weights = weights
        self.bias = _checks.for_each(bias, n, dtype)
        self.tau = _checks.for_each(tau, n, dtype)
        self.transfer = as_transfer(transfer)
        self.convention = convention
        self.input_weights = _as_map("input_weights", input_weights, (n, None), dtype)
        self.readout = _as_map("readout", readout, (None, n), dtype)
        partitions = _checks.sizes("partitions", partitions)
        most = f"{n} neurons, as many as the network"
        if self.readout is not None:
            n = len(self.readout)
            most = f"{n} outputs, as many as the readout has"
        if sum(partitions) > n:
            _checks.fail("partitions", f"hold at most {most}", f"holds {sum(partitions)}")
        self.partitions = partitions

    @property
    def num_inputs(self) -> int:
        """The length of an input."""
        return self.num_neurons if self.input_weights is None else self.input_weights.shape[1]

    def received(self, inputs: Float[Array, "*batch k"]) -> Float[Array, "*batch n"]:
        """i, what inputs drive the neurons with."""
        return inputs if self.input_weights is None else inputs @ self.input_weights.T

    @property
    def driven_directly(self) -> "RateNetwork":
        """The same network, whose inputs are i."""
        if self.input_weights is None:
            return self
        return eqx.tree_at(lambda net: net.input_weights, self, None)

    @property
    def is_threshold_linear(self) -> bool:
        """Whether the transfer function is threshold-linear, so that the state space divides into
        chambers with linear flow."""
        return isinstance(self.transfer, ThresholdLinear)

    @property
    def fastest(self) -> Scalar:
        """An estimate of the fastest time scale, from the weights."""
        strength = jnp.max(self._sum_of_sizes(jnp.ones_like(self.tau)))
        return jnp.min(self.tau) / (1 + strength)

    def drive(self, x: Vector, i: Vector) -> Vector:
        """The argument u of the transfer function at state x and input i."""
        if self.convention == "voltage":
            return x - self.bias
        if self.convention == "activity":
            return times(self.weights, x) + self._drive(i) - self.bias
        return times(self.weights, x) - self.bias

    def _drive(self, i: Vector) -> Vector:
        """i, or B i; in lanes, too."""
        return i if self.input_weights is None else self.input_weights @ i

    def drift(self, x: Vector, i: Vector) -> Vector:
        r"""$\tau \dot x$, the right-hand side of the equation above, in units of x."""
        return self.drift_at(self.transfer(self.drive(x, i)), x, i)

    def drift_at(self, phi: Vector, x: Vector, i: Vector) -> Vector:
        r"""$\tau \dot x$ for the values `phi` of the transfer function."""
        if self.convention == "voltage":
            return -x + times(self.weights, phi) + self._drive(i)
        if self.convention == "activity":
            return -x + phi
        return -x + phi + self._drive(i)

    def vector_field(self, t, x: Vector, i: Vector) -> Vector:
        r"""$\dot x$ in Diffrax's signature: `ODETerm(network.vector_field)`, `args=i`."""
        del t
        return self.drift(x, i) / self.tau

    def rates(self, x: Vector) -> Vector:
        """The network's output at state x."""
        if self.convention == "voltage":
            rates = self.transfer(x - self.bias)
        else:
            rates = x if self.convention == "activity" else jax.nn.relu(x)
        return rates if self.readout is None else rates @ self.readout.T

    def state_of(self, rates: Vector, i: Vector) -> Vector:
        """A state with these rates. The state of a silent neuron is not determined by its rate:
        under `"voltage"` it is set to its threshold minus 1, under `"recurrent"` to its input."""
        if self.convention == "voltage":
            return self.bias + jnp.where(rates > 0, rates, -1)
        if self.convention == "activity":
            return rates
        return jnp.where(rates > 0, rates, jnp.minimum(self.received(i), 0))

    def jacobian(self, x: Vector, i: Vector) -> Matrix:
        r"""$J = \partial \dot x / \partial x$, shape `(n, n)`, in 1/time.

        With D = diag(phi'(u)) and T = diag(tau): T^-1 (W D - I) under `"voltage"`,
        T^-1 (D W - I) under the other two.
        """
        slope = self.transfer.derivative(self.drive(x, i))
        return self.linearised(slope) / self.tau[:, None]

    def linearised(self, slope: Vector) -> Matrix:
        """T J, the derivative of `drift`, for these slopes of phi."""
        weights = self.dense_weights
        if self.convention == "voltage":
            gain = weights * slope[None, :]
        else:
            gain = slope[:, None] * weights
        return gain - jnp.eye(self.num_neurons, dtype=gain.dtype)

    def push(self, slope: Vector, d: Vector) -> Vector:
        """T J d, for these slopes of phi; without the matrix."""
        return push(self.weights, slope, d, self.convention == "voltage")

    @property
    def dense_weights(self) -> Matrix:
        """W as an array."""
        weights = self.weights
        return weights.as_matrix() if isinstance(weights, StructuredWeights) else weights

    def _sum_of_sizes(self, sent: Vector) -> Vector:
        """|W| y, or a bound on it, of what all sources send."""
        return times(absolute(self.weights), sent)

    def scale(self, x: Vector, i: Vector) -> Vector:
        r"""The unit of each neuron's absolute tolerances: the largest of its own $|x|$, $|i|$ and
        $|b|$, and half of what its sources may add up to. It follows the units of inputs and of
        single neurons."""
        u = self.drive(x, i)
        x, i, b = jnp.abs(x), jnp.abs(self._drive(i)), jnp.abs(self.bias)
        own = jnp.maximum(jnp.maximum(x, i), b)
        if self.is_threshold_linear:
            return jnp.maximum(own, self._sum_of_sizes(own) / 2)
        phi, slope = jnp.abs(self.transfer(u)), jnp.abs(self.transfer.derivative(u))
        if self.convention == "voltage":
            return jnp.maximum(own, self._sum_of_sizes(phi + slope * own) / 2)
        received = slope * (self._sum_of_sizes(x) + b + (i if self.convention == "activity" else 0))
        own = jnp.maximum(x, phi) if self.convention == "activity" else jnp.maximum(x, i)
        return jnp.maximum(jnp.maximum(own, phi), received / 2)

    def magnitude(self, x: Vector, i: Vector) -> Vector:
        """Sum of the absolute values of the terms of `drift`. The terms are those of the
        linearisation, which a steep transfer function enlarges, and those of the equation."""
        u, size = self.drive(x, i), jnp.abs(x) + jnp.abs(self.bias)
        phi, slope = jnp.abs(self.transfer(u)), jnp.abs(self.transfer.derivative(u))
        if self.convention == "voltage":
            linear = self._sum_of_sizes(slope * size + phi)
        else:
            linear = slope * self._sum_of_sizes(size) + self._sum_of_sizes(phi)
        return linear + 2 * size + jnp.abs(self._drive(i)) + phi


def is_threshold_linear(dynamics: Any) -> TypeGuard["RateNetwork"]:
    """Whether the dynamics are a threshold-linear `RateNetwork`."""
    return isinstance(dynamics, RateNetwork) and dynamics.is_threshold_linear


def push(weights: Any, slope: Vector, d: Vector, slopes_first: bool) -> Vector:
    """(W S - 1) d with the slopes S first, (S W - 1) d otherwise."""
    if slopes_first:
        return times(weights, slope * d) - d
    return slope * times(weights, d) - d


def with_maps(name: str, network: Any, **maps: Array | None) -> Any:
    """The network with these `input_weights` or this `readout` in place of its own; where all are
    None, itself."""
    maps = {key: value for key, value in maps.items() if value is not None}
    if not maps:
        return network
    if not isinstance(network, RateNetwork):
        _checks.fail(name, "be a RateNetwork", f"is {network!r}", TypeError)
    fields = {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}
    return RateNetwork(**{**fields, **maps})


def _as_map(name: str, value: Any, shape: tuple[int | None, int | None], dtype: Any) -> Any:
    """A finite matrix of this shape, of which one side is free; or None."""
    if value is None:
        return None
    value = _checks.floating(name, value)
    fits = value.ndim == 2 and all(a in (None, b) for a, b in zip(shape, value.shape, strict=True))
    if not fits or 0 in value.shape:
        words = ", ".join(
            str(side or ("k" if name == "input_weights" else "outputs")) for side in shape
        )
        _checks.fail(name, f"have shape ({words})", f"has shape {value.shape}")
    _checks.finite(name, value)
    return value.astype(dtype)


LARGEST_MATRIX = 4096
"""Neurons up to which structured weights are written out as a matrix where one is needed."""


def with_matrix(name: str, network: Any) -> Any:
    """The network with its weights in an array, for what works on the matrix; other dynamics as
    they are."""
    if not is_structured(network):
        return network
    n = network.num_neurons
    if n > LARGEST_MATRIX:
        must = (
            f"have weights that fit into an array, for which n is at most {LARGEST_MATRIX}, since "
        )
        must += "their matrix is needed here"
        _checks.fail(
            name,
            must,
            f"has {n} neurons and {type(network.weights).__name__} weights",
            page="how-to/structured",
        )
    return eqx.tree_at(lambda network: network.weights, network, network.dense_weights)


def is_structured(dynamics: Any) -> TypeGuard["RateNetwork"]:
    """Whether the dynamics are a `RateNetwork` whose weights are an operator, and not an array."""
    return isinstance(dynamics, RateNetwork) and isinstance(dynamics.weights, StructuredWeights)


def has_chambers(dynamics: Any) -> TypeGuard["RateNetwork"]:
    """Whether the dynamics are a threshold-linear `RateNetwork` whose weights are an array, from
    which the matrices of its chambers can be built."""
    return is_threshold_linear(dynamics) and not is_structured(dynamics)
