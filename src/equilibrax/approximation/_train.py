"""`train`: Adam over fixed points that stay on the device."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .. import _checks
from ..sampling import Samples


class Training(eqx.Module):
    """A trained model, and how it came about.

    - `model`: of the same kind as the one given.
    - `losses`: mean squared error of each step's batch, shape `(steps,)`.
    - `opt_state`: the optimiser's state after the last step.
    """

    model: Any
    losses: Float[Array, " steps"]
    opt_state: Any


def train(
    model: Any,
    data: Samples | tuple[Array, Array],
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 6000,
    batch_size: int = 256,
    key: Array,
) -> Training:
    r"""Fit a model to (input, fixed point) pairs by stochastic gradient descent.

    The loss is the mean squared error of a batch, $\langle |f(i) - r|^2 \rangle / n$,
    r being the rates at the fixed point. All steps run in one compiled `jax.lax.scan`
    over arrays that stay on the device; the batch of step t is drawn with replacement
    and depends on `key` and t alone.

    **Arguments:**

    - `model`: an Equinox module that maps one input of shape `(n,)` to one output, as a
      `FeedForward`.
    - `data`: `Samples`, of which the stable ones are used, or a pair of arrays
      (inputs, targets) with the same number of rows.
    - `optimizer`: any Optax optimiser; `optax.adam(1e-3)` if absent.
    - `steps`: how many, at least one.
    - `batch_size`: pairs in each step.
    - `key`: PRNG key of the batches.

    **Returns:** a `Training`.

    **Raises:** `ValueError` for no data, data that are not finite, data whose widths the
    model does not fit, or fewer than one step.
    """
    inputs, targets = as_pairs(data)
    steps = _checks.integer("steps", steps)
    batch_size = _checks.integer("batch_size", batch_size)
    key = _checks.key(key)
    optimizer = _adam() if optimizer is None else optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        _checks.fail("optimizer", "be an Optax optimiser", f"is {optimizer!r}", TypeError)
    out = eqx.filter_eval_shape(model, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))
    if out.shape != targets.shape[1:]:
        _checks.fail("data", f"have targets of shape (m, {out.shape[0]})", f"has {targets.shape}")
    return _train(model, inputs, targets, optimizer, steps, batch_size, key)


def as_pairs(data: Samples | tuple[Array, Array]) -> tuple[Array, Array]:
    """Inputs and targets, checked; the stable ones of samples."""
    if isinstance(data, Samples):
        stable = data.only_stable()
        if len(stable) == 0:
            _checks.fail("data", "hold a stable fixed point", f"holds none ({data.describe()})")
        return stable.inputs, stable.rates
    if not isinstance(data, tuple) or len(data) != 2:
        must = "be Samples or a pair of arrays (inputs, targets)"
        _checks.fail("data", must, f"is {type(data).__name__}", TypeError)
    inputs, targets = (_checks.floating("data", array) for array in data)
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets) or not len(inputs):
        must = "hold two arrays of shapes (m, n) and (m, n_out) with m at least 1"
        _checks.fail("data", must, f"has shapes {inputs.shape} and {targets.shape}")
    _checks.finite("data", inputs)
    _checks.finite("data", targets)
    return inputs, targets


@functools.cache
def _adam() -> optax.GradientTransformation:
    # One object, so that training again finds the program compiled.
    return optax.adam(1e-3)


@eqx.filter_jit
def _train(model, inputs, targets, optimizer, steps, batch_size, key) -> Training:
    return fit(model, inputs, targets, optimizer, steps, batch_size, key)


def fit(model, inputs, targets, optimizer, steps, batch_size, key) -> Training:
    """All steps, as one scan; not compiled by itself, so that it can be batched."""
    parameters, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(parameters, batch):
        predicted = jax.vmap(eqx.combine(parameters, static))(inputs[batch])
        return jnp.mean(jnp.square(predicted - targets[batch]))

    def step(carry, t):
        parameters, opt_state = carry
        batch = jax.random.randint(jax.random.fold_in(key, t), (batch_size,), 0, len(inputs))
        value, gradient = jax.value_and_grad(loss)(parameters, batch)
        updates, opt_state = optimizer.update(gradient, opt_state, parameters)
        return (optax.apply_updates(parameters, updates), opt_state), value

    carry = (parameters, optimizer.init(parameters))
    (parameters, opt_state), losses = jax.lax.scan(step, carry, jnp.arange(steps))
    return Training(eqx.combine(parameters, static), losses, opt_state)
