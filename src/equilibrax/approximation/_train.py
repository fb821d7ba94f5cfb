"""`train`: Adam over fixed points that stay on the device."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .. import _checks
from .._progress import progress_meter
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
    progress: bool = False,
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
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** a `Training`.

    **Raises:** `ValueError` for no data, data that are not finite, data whose widths the
    model does not fit, or fewer than one step.
    """
    inputs, targets = as_pairs(data)
    steps = _checks.integer("steps", steps)
    batch_size = _checks.integer("batch_size", batch_size)
    key = _checks.key(key)
    optimizer = adam(1e-3) if optimizer is None else optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        _checks.fail("optimizer", "be an Optax optimiser", f"is {optimizer!r}", TypeError)
    check_fit(model, inputs, targets)
    meter = progress_meter(steps, progress)
    return _train(model, inputs, targets, optimizer, steps, batch_size, key, meter)


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


def check_fit(model: Any, inputs: Array, targets: Array) -> None:
    """Raise unless the model maps an input to something of the target's shape."""
    out = eqx.filter_eval_shape(model, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))
    if getattr(out, "shape", None) != targets.shape[1:]:
        must = f"answer an input of shape {inputs.shape[1:]} with shape {targets.shape[1:]}"
        _checks.fail("model", must, f"answers with {out}")


@functools.cache
def adam(rate: float) -> optax.GradientTransformation:
    """Adam; the same object for the same rate, so that training again compiles nothing."""
    return optax.adam(rate)


@eqx.filter_jit
def _train(model, inputs, targets, optimizer, steps, batch_size, key, meter) -> Training:
    start = meter.init()
    run, state = fit(model, inputs, targets, optimizer, steps, batch_size, key, meter, start)
    meter.close(state)
    return run


def fit(
    model, inputs, targets, optimizer, steps, batch_size, key, meter, meter_state
) -> tuple[Training, Any]:
    """All steps, as one scan, and the state of the progress meter after them; not compiled
    by itself, so that it can be batched."""
    parameters, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(parameters, batch):
        predicted = jax.vmap(eqx.combine(parameters, static))(inputs[batch])
        return jnp.mean(jnp.square(predicted - targets[batch]))

    def step(carry, t):
        parameters, opt_state, meter_state = carry
        meter_state = meter.step(meter_state, t / steps)
        batch = jax.random.randint(jax.random.fold_in(key, t), (batch_size,), 0, len(inputs))
        value, gradient = jax.value_and_grad(loss)(parameters, batch)
        updates, opt_state = optimizer.update(gradient, opt_state, parameters)
        return (optax.apply_updates(parameters, updates), opt_state, meter_state), value

    carry = (parameters, optimizer.init(parameters), meter_state)
    (parameters, opt_state, meter_state), losses = jax.lax.scan(step, carry, jnp.arange(steps))
    return Training(eqx.combine(parameters, static), losses, opt_state), meter_state
