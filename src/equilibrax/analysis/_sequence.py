"""`settle_sequence`: inputs one after the other, each from where the last one ended."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from ..fixed_points import FixedPoints, Flow, find_fixed_points
from ..fixed_points._problem import as_problem
from ..networks import AbstractDynamics


def settle_sequence(
    network: AbstractDynamics | Callable,
    inputs: Float[Array, "steps *batch k"],
    x0: Float[Array, "*batch n"] | None = None,
    *,
    method: Flow | None = None,
) -> FixedPoints:
    r"""Settle a sequence of inputs, each from where the last one ended: hysteresis, working memory
    and sequences of decisions, in one compiled call.

    $$x^*_t = \lim_{s \to \infty} x(s), \qquad \tau \dot x = f(x, i_t), \quad x(0) = x^*_{t-1}$$

    **Arguments:**

    - `network`: any dynamics or map that `find_fixed_points` accepts.
    - `inputs`: shape `(steps, ..., k)`; the other axes are a batch of sequences.
    - `x0`: where the first input starts, any shape that broadcasts to `(..., n)`; zeros if absent.
    - `method`: a `Flow`.

    **Returns:** `FixedPoints`, whose arrays begin with `(steps, ...)`. A trajectory that does not
    settle hands on the state at which it was left; after an `INVALID` one all are.

    **Raises:** as `find_fixed_points`; `ValueError` for inputs without an axis of steps.

    It composes with `jax.jit` and `jax.vmap`, and is differentiable as `find_fixed_points` is: each
    fixed point in its own input and the network. A point does not depend on small changes of where
    it was reached from.

    **Example:**

    ```python
    network = eqb.RateNetwork([[2.0]], transfer=eqb.tanh, convention="activity")
    drive = jnp.asarray([0.0, 1.0, 0.0, -1.0, 0.0])[:, None]
    found = eqb.settle_sequence(network, drive, jnp.asarray([-1.0]))
    print(jnp.sign(found.state[:, 0]))
    # > [-1.  1.  1. -1. -1.]
    ```
    """
    inputs = jnp.asarray(inputs)
    if inputs.ndim < 2:
        _checks.fail("inputs", "have shape (steps, ..., k)", f"has shape {inputs.shape}")
    network, inputs, start = as_problem(network, inputs, x0)
    if start is None:
        first = jnp.zeros((*inputs.shape[1:-1], network.num_neurons), inputs.dtype)
    else:
        first = start[0] if len(start) else jnp.zeros(start.shape[1:], start.dtype)
    if not len(inputs):
        return find_fixed_points(network, inputs, method=method)
    return _follow(network, inputs, first, method)


@eqx.filter_jit
def _follow(network: AbstractDynamics, inputs: Array, first: Array, method: Flow | None) -> Any:
    def settle(x, i):
        found = find_fixed_points(network, i, x0=x, method=method)
        return jax.lax.stop_gradient(found.state), found

    return jax.lax.scan(settle, first, inputs)[1]
