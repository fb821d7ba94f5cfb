"""`RateNetwork`, and the equations of motion of its three conventions."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from .._types import Matrix, Scalar, Vector
from ._dynamics import AbstractDynamics
from ._transfer import AbstractTransfer, ThresholdLinear, as_transfer, threshold_linear

Convention: TypeAlias = Literal["voltage", "activity", "recurrent"]


class RateNetwork(AbstractDynamics):
    r"""A network of $n$ rate neurons, with input $i$ and state $x$.

    | `convention`  | equation                                              | output rates     |
    |---------------|-------------------------------------------------------|------------------|
    | `"voltage"`   | $\tau \dot x = -x + W \phi(x - b) + i$                | $\phi(x - b)$    |
    | `"activity"`  | $\tau \dot x = -x + \phi(W x + i - b)$                | $x$              |
    | `"recurrent"` | $\tau \dot x = -x + \phi(W x - b) + i$                | $\max(x, 0)$     |

    **Arguments:**

    - `weights`: $W$, shape `(n, n)`; the row is the target, the column the source.
    - `bias`: thresholds $b$, a scalar or shape `(n,)`, in the units of the input.
    - `tau`: time constants $\tau$, a positive scalar or shape `(n,)`, in time.
    - `transfer`: $\phi$, elementwise.
    - `convention`: one of the three above.
    - `partitions`: sizes of the groups of neurons that compete, from neuron 0 on, for `winner`
      and other metrics. Builders set it; the dynamics do not depend on it.

    **Raises:** `ValueError` for weights that are not square or not finite, for a
    time constant that is not positive, for an unknown convention or transfer;
    `TypeError` for integer, complex or half-precision arrays.

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

    weights: Matrix
    bias: Vector
    tau: Vector
    transfer: AbstractTransfer
    convention: Convention = eqx.field(static=True)
    partitions: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        weights: Float[Array, "n n"],
        bias: float | Float[Array, "..."] = 0.0,
        tau: float | Float[Array, "..."] = 1.0,
        transfer: AbstractTransfer | Callable = threshold_linear,
        convention: Convention = "voltage",
        *,
        partitions: Sequence[int] = (),
    ):
        weights = _checks.floating("weights", weights)
        bias = _checks.floating("bias", bias)
        tau = _checks.floating("tau", tau)
        n = _checks.square("weights", weights)
        for name, value in (("bias", bias), ("tau", tau)):
            _checks.per_neuron(name, value, n)
        _checks.finite("weights", weights)
        _checks.finite("bias", bias)
        _checks.positive("tau", tau)
        if convention not in get_args(Convention):
            _checks.fail(
                "convention",
                "be one of " + ", ".join(map(repr, get_args(Convention))),
                f"is {convention!r}",
            )
        partitions = _checks.sizes("partitions", partitions)
        if sum(partitions) > n:
            _checks.fail(
                "partitions",
                f"hold at most {n} neurons, as many as the network",
                f"holds {sum(partitions)}",
            )
        dtype = weights.dtype
        self.weights = weights
        self.bias = jnp.broadcast_to(bias.astype(dtype), (n,))
        self.tau = jnp.broadcast_to(tau.astype(dtype), (n,))
        self.transfer = as_transfer(transfer)
        self.convention = convention
        self.partitions = partitions

    @property
    def is_threshold_linear(self) -> bool:
        """Whether the transfer function is threshold-linear, so that the state space divides into
        chambers with linear flow."""
        return isinstance(self.transfer, ThresholdLinear)

    @property
    def fastest(self) -> Scalar:
        """An estimate of the fastest time scale, from the weights."""
        strength = jnp.max(jnp.sum(jnp.abs(self.weights), axis=1))
        return jnp.min(self.tau) / (1 + strength)

    def drive(self, x: Vector, i: Vector) -> Vector:
        """The argument u of the transfer function at state x and input i."""
        if self.convention == "voltage":
            return x - self.bias
        if self.convention == "activity":
            return self.weights @ x + i - self.bias
        return self.weights @ x - self.bias

    def drift(self, x: Vector, i: Vector) -> Vector:
        r"""$\tau \dot x$, the right-hand side of the equation above, in units of x."""
        return self.drift_at(self.transfer(self.drive(x, i)), x, i)

    def drift_at(self, phi: Vector, x: Vector, i: Vector) -> Vector:
        r"""$\tau \dot x$ for the values `phi` of the transfer function."""
        if self.convention == "voltage":
            return -x + self.weights @ phi + i
        if self.convention == "activity":
            return -x + phi
        return -x + phi + i

    def vector_field(self, t, x: Vector, i: Vector) -> Vector:
        r"""$\dot x$ in Diffrax's signature: `ODETerm(network.vector_field)`, `args=i`."""
        del t
        return self.drift(x, i) / self.tau

    def rates(self, x: Vector) -> Vector:
        """The network's output at state x."""
        if self.convention == "voltage":
            return self.transfer(x - self.bias)
        if self.convention == "activity":
            return x
        return jax.nn.relu(x)

    def state_of(self, rates: Vector, i: Vector) -> Vector:
        """A state with these rates. The state of a silent neuron is not determined by its rate:
        under `"voltage"` it is set to its threshold minus 1, under `"recurrent"` to its input."""
        if self.convention == "voltage":
            return self.bias + jnp.where(rates > 0, rates, -1)
        if self.convention == "activity":
            return rates
        return jnp.where(rates > 0, rates, jnp.minimum(i, 0))

    def jacobian(self, x: Vector, i: Vector) -> Matrix:
        r"""$J = \partial \dot x / \partial x$, shape `(n, n)`, in 1/time.

        With D = diag(phi'(u)) and T = diag(tau): T^-1 (W D - I) under `"voltage"`,
        T^-1 (D W - I) under the other two.
        """
        slope = self.transfer.derivative(self.drive(x, i))
        return self.linearised(slope) / self.tau[:, None]

    def linearised(self, slope: Vector) -> Matrix:
        """T J, the derivative of `drift`, for these slopes of phi."""
        if self.convention == "voltage":
            gain = self.weights * slope[None, :]
        else:
            gain = slope[:, None] * self.weights
        return gain - jnp.eye(self.num_neurons, dtype=gain.dtype)

    def scale(self, x: Vector, i: Vector) -> Vector:
        r"""The unit of each neuron's absolute tolerances: the largest of its own $|x|$, $|i|$ and
        $|b|$, and half of what its sources may add up to. It follows the units of inputs and of
        single neurons."""
        u = self.drive(x, i)
        x, i, b, weights = jnp.abs(x), jnp.abs(i), jnp.abs(self.bias), jnp.abs(self.weights)
        own = jnp.maximum(jnp.maximum(x, i), b)
        if self.is_threshold_linear:
            return jnp.maximum(own, weights @ own / 2)
        phi, slope = jnp.abs(self.transfer(u)), jnp.abs(self.transfer.derivative(u))
        if self.convention == "voltage":
            return jnp.maximum(own, weights @ (phi + slope * own) / 2)
        received = slope * (weights @ x + b + (i if self.convention == "activity" else 0))
        own = jnp.maximum(x, phi) if self.convention == "activity" else jnp.maximum(x, i)
        return jnp.maximum(jnp.maximum(own, phi), received / 2)

    def magnitude(self, x: Vector, i: Vector) -> Vector:
        """Sum of the absolute values of the terms of `drift`. The terms are those of the
        linearisation, which a steep transfer function enlarges, and those of the equation."""
        linear = jnp.abs(self.jacobian(x, i) * self.tau[:, None])
        size = jnp.abs(x) + jnp.abs(self.bias)
        phi = jnp.abs(self.transfer(self.drive(x, i)))
        return linear @ size + jnp.abs(self.weights) @ phi + size + jnp.abs(i) + phi


def is_threshold_linear(dynamics: Any) -> TypeGuard["RateNetwork"]:
    """Whether the dynamics are a threshold-linear `RateNetwork`."""
    return isinstance(dynamics, RateNetwork) and dynamics.is_threshold_linear
