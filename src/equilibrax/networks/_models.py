"""Models from the literature: two `AbstractDynamics`, and two builders of `RateNetwork`s."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _checks
from .._types import Matrix, Vector
from ._dynamics import AbstractDynamics
from ._network import RateNetwork
from ._transfer import AbstractTransfer, as_transfer, power_law, tanh


class WilsonCowan(AbstractDynamics):
    r"""An excitatory and an inhibitory population with refractoriness, x = (E, I), i = (P, Q).

    $$\tau_E \dot E = -E + (k_E - r_E E) \, S_E(c_1 E - c_2 I + P)$$

    $$\tau_I \dot I = -I + (k_I - r_I I) \, S_I(c_3 E - c_4 I + Q)$$

    $$S(u) = \frac{1}{1 + e^{-a (u - \theta)}} - \frac{1}{1 + e^{a \theta}}, \qquad k = \sup S$$

    **Arguments:**

    - `c`: the couplings (c_1, c_2, c_3, c_4). The defaults are from Fig. 11, with a limit cycle
      at P = 1.25, Q = 0.
    - `slope`, `threshold`: a and theta of the two populations.
    - `refractory`: r of the two populations.
    - `tau`: time constants, positive.

    **Raises:** `ValueError` for other shapes, or numbers that are not finite.

    Wilson and Cowan, Biophysical Journal 12:1 (1972), doi:10.1016/S0006-3495(72)86068-5.

    **Example:**

    ```python
    found = eqb.find_fixed_points(eqb.WilsonCowan(), jnp.asarray([[0.0, 0.0], [1.25, 0.0]]))
    print([eqb.Outcome(int(outcome)).name for outcome in found.outcome])
    # > ['STABLE', 'OSCILLATING']
    ```
    """

    c: Float[Array, " 4"]
    slope: Float[Array, " 2"]
    threshold: Float[Array, " 2"]
    refractory: Float[Array, " 2"]
    tau: Float[Array, " 2"]

    def __init__(
        self,
        c: Any = (16.0, 12.0, 15.0, 3.0),
        slope: Any = (1.3, 2.0),
        threshold: Any = (4.0, 3.7),
        refractory: Any = (1.0, 1.0),
        tau: Any = (1.0, 1.0),
    ):
        self.c = _numbers("c", c, 4)
        self.slope = _numbers("slope", slope, 2)
        self.threshold = _numbers("threshold", threshold, 2)
        self.refractory = _numbers("refractory", refractory, 2)
        self.tau = _numbers("tau", tau, 2)
        _checks.positive("tau", self.tau)

    def vector_field(self, t: Any, x: Vector, i: Vector) -> Vector:
        """dx/dt of the equations above."""
        del t
        # S(0) = 0.
        silent = jax.nn.sigmoid(-self.slope * self.threshold)
        signs = jnp.asarray([1, -1], x.dtype)
        u = (self.c.reshape(2, 2) * signs) @ x + i
        response = jax.nn.sigmoid(self.slope * (u - self.threshold)) - silent
        return (-x + (1 - silent - self.refractory * x) * response) / self.tau

    def scale(self, x: Vector, i: Vector) -> Vector:
        """1: rates are shares of a population."""
        del i
        return jnp.ones_like(x)


class LeakyRNN(AbstractDynamics):
    r"""The recurrent network of machine learning, in continuous time, with k inputs and n units.

    $$\tau \dot x = -x + W \phi(x) + B i + b, \qquad r = \phi(x).$$

    **Arguments:**

    - `weights`: W, shape `(n, n)`; the row is the target.
    - `input_weights`: B, shape `(n, k)`.
    - `bias`: b, a scalar or shape `(n,)`. It is added, while a `RateNetwork` subtracts its bias.
    - `tau`: time constants, a positive scalar or shape `(n,)`.
    - `transfer`: phi, elementwise.

    **Raises:** `ValueError` for other shapes, or numbers that are not finite.

    Sussillo and Barak, Neural Computation 25:626 (2013), doi:10.1162/NECO_a_00409.

    **Example:**

    ```python
    memory = eqb.LeakyRNN(weights=[[2.0]], input_weights=[[1.0]])
    starts = jnp.asarray([[-1.0], [1.0]])
    found = eqb.find_fixed_points(memory, jnp.zeros((2, 1)), x0=starts)
    print(found.stable, jnp.sign(found.rates[:, 0]))
    # > [ True  True] [-1.  1.]
    ```
    """

    weights: Matrix
    input_weights: Float[Array, "n k"]
    bias: Vector
    tau: Vector
    transfer: AbstractTransfer

    def __init__(
        self,
        weights: Any,
        input_weights: Any,
        bias: Any = 0.0,
        tau: Any = 1.0,
        transfer: AbstractTransfer | Callable = tanh,
    ):
        weights, input_weights = (
            _checks.floating(name, value)
            for name, value in (("weights", weights), ("input_weights", input_weights))
        )
        n = _checks.square("weights", weights)
        if input_weights.ndim != 2 or input_weights.shape[0] != n:
            but = f"has shape {input_weights.shape}"
            _checks.fail("input_weights", f"have shape ({n}, k)", but)
        bias, tau = _checks.floating("bias", bias), _checks.floating("tau", tau)
        for name, value in (("bias", bias), ("tau", tau)):
            _checks.per_neuron(name, value, n)
        for name, value in (("weights", weights), ("input_weights", input_weights), ("bias", bias)):
            _checks.finite(name, value)
        _checks.positive("tau", tau)
        self.weights, self.input_weights = weights, input_weights.astype(weights.dtype)
        self.bias = jnp.broadcast_to(bias.astype(weights.dtype), (n,))
        self.tau = jnp.broadcast_to(tau.astype(weights.dtype), (n,))
        self.transfer = as_transfer(transfer)

    @property
    def num_inputs(self) -> int:
        """k, the number of inputs."""
        return self.input_weights.shape[1]

    def vector_field(self, t: Any, x: Vector, i: Float[Array, " k"]) -> Vector:
        """dx/dt of the equation above."""
        del t
        driven = self.weights @ self.transfer(x) + self.input_weights @ i + self.bias
        return (-x + driven) / self.tau

    def rates(self, x: Vector) -> Vector:
        """phi(x)."""
        return self.transfer(x)


def supralinear(
    w_ee: float = 1.25,
    w_ei: float = 0.65,
    w_ie: float = 1.2,
    w_ii: float = 0.5,
    *,
    gain: float | Array = 0.04,
    exponent: float | Array = 2.0,
    tau: Any = (20.0, 10.0),
) -> RateNetwork:
    r"""The stabilised supralinear network of an excitatory and an inhibitory population.

    $$\tau_E \dot E = -E + k \, [w_{ee} E - w_{ei} I + i_E]_+^p$$

    $$\tau_I \dot I = -I + k \, [w_{ie} E - w_{ii} I + i_I]_+^p$$

    Weak inputs are amplified supralinearly. Above some input, with k p u^(p-1) w_ee > 1 at the
    drive u, excitation alone would be unstable, and inhibition stabilises it: more input to the
    inhibitory population then lowers its own rate.

    **Arguments:**

    - `w_ee`, `w_ei`, `w_ie`, `w_ii`: weights, target first, all given positive.
    - `gain`, `exponent`: k and p of the transfer function, as for `power_law`.
    - `tau`: time constants of the two populations, in ms by default.

    **Returns:** a `RateNetwork` of two neurons, E first, under `"activity"`.

    **Raises:** `ValueError` for a negative weight; otherwise as `power_law` and `RateNetwork`.

    Ahmadian, Rubin and Miller, Neural Computation 25:1994 (2013), doi:10.1162/NECO_a_00472. The
    defaults are theirs.

    **Example:**

    ```python
    inputs = jnp.asarray([[20.0, 20.0], [20.0, 22.0]])
    found = eqb.find_fixed_points(eqb.supralinear(), inputs)
    print(found.rates[1] < found.rates[0])
    # > [ True  True]
    ```
    """
    for name, weight in (("w_ee", w_ee), ("w_ei", w_ei), ("w_ie", w_ie), ("w_ii", w_ii)):
        _checks.not_negative(name, _checks.scalar(name, weight))
    weights = jnp.asarray([[w_ee, -w_ei], [w_ie, -w_ii]], jnp.result_type(float))
    return RateNetwork(weights, 0.0, tau, power_law(gain, exponent), "activity")


def hopfield(patterns: Any, gain: float = 2.0, *, tau: float | Array = 1.0) -> RateNetwork:
    r"""Hopfield's network with graded neurons, which stores patterns as stable fixed points.

    $$\tau \dot x = -x + W \tanh(x) + i, \qquad
    W = \frac{g}{n} \left( \sum_{p=1}^{P} \xi_p \xi_p^\top - P I \right)$$

    The signs of the rates at a fixed point are the stored pattern. Start near the pattern, with
    i = 0, to retrieve it.

    **Arguments:**

    - `patterns`: xi, shape `(P, n)`, of -1 and 1.
    - `gain`: g, positive; above 1 the patterns are stable if they are few and nearly orthogonal.
    - `tau`: time constants.

    **Returns:** a `RateNetwork` of n neurons.

    **Raises:** `ValueError` for other values than -1 and 1.

    Hopfield, PNAS 81:3088 (1984), doi:10.1073/pnas.81.10.3088.

    **Example:**

    ```python
    pattern = jnp.asarray([1.0, 1.0, 1.0, -1.0, -1.0])
    network = eqb.hopfield([pattern])
    found = eqb.find_fixed_points(network, jnp.zeros(5), x0=pattern.at[0].set(-1))
    print(jnp.sign(found.rates))
    # > [ 1.  1.  1. -1. -1.]
    ```
    """
    try:
        xi = np.asarray(patterns)
    except ValueError as error:
        _checks.fail("patterns", "have shape (P, n)", f"is not rectangular: {error}")
    if xi.ndim != 2 or 0 in xi.shape:
        _checks.fail("patterns", "have shape (P, n)", f"has shape {xi.shape}")
    if not np.isin(xi, (-1, 1)).all():
        _checks.fail("patterns", "hold only -1 and 1", "holds other values")
    gain = _checks.number("gain", gain, above=0.0)
    count, n = xi.shape
    weights = gain / n * (xi.T.astype(float) @ xi - count * np.eye(n))
    return RateNetwork(jnp.asarray(weights, jnp.result_type(float)), 0.0, tau, tanh, "voltage")


def _numbers(name: str, value: Any, count: int) -> Array:
    """Require an array of `count` finite numbers."""
    value = _checks.floating(name, value)
    if value.shape != (count,):
        _checks.fail(name, f"have shape ({count},)", f"has shape {value.shape}")
    _checks.finite(name, value)
    return value
