"""`train`: any Optax optimiser over fixed points, in memory or on disk."""

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from .. import _checks
from .._devices import on_all_of
from .._progress import progress_bar
from .._settings import described, program_of, versions
from ..sampling import Samples, SampleStore
from ._batches import Batch, Drawn, FromMemory, FromStore, batches_of
from ._checkpoints import Checkpoints, checkpoints_in


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
    data: Samples | SampleStore | tuple[Array, Array],
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 6000,
    batch_size: int = 256,
    key: Array,
    mesh: Mesh | None = None,
    checkpoints: str | os.PathLike | None = None,
    every: int = 10_000,
    progress: bool = False,
) -> Training:
    r"""Fit a model to (input, fixed point) pairs by stochastic gradient descent.

    The loss is the mean squared error of a batch, $\langle |f(i) - r|^2 \rangle / n$,
    r being the rates at the fixed point. Many steps run in one compiled loop. The batch of step t
    depends on `key` and t alone. From data in memory it is drawn with replacement. From a store,
    which need not fit in there, each epoch gives every stable pair once, shuffled in two levels:
    the shards of an epoch, and the pairs within some 30 MB of them; the next of these are read
    while the devices work.

    **Arguments:**

    - `model`: an Equinox module that maps one input of shape `(n,)` to one output, as a
      `FeedForward`.
    - `data`: `Samples` or a `SampleStore`, of which the stable ones are used, or a pair of arrays
      (inputs, targets) with the same number of rows.
    - `optimizer`: any Optax optimiser; `optax.adam(1e-3)` if absent.
    - `steps`: how many, at least one.
    - `batch_size`: pairs in each step.
    - `key`: PRNG key of the batches.
    - `mesh`: devices over which each batch is spread, those of other processes included; one
      device if absent. The result is the same to rounding. It pays for large models only.
    - `checkpoints`: a folder, created if absent, in which model, optimiser and losses are saved
      every `every` steps and at the end. Called again with the same arguments, a training that was
      killed goes on from there and ends with the weights of one that was not; with more `steps`,
      it goes further. It needs `pip install 'equilibrax[checkpoints]'`.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** a `Training`, on one device.

    **Raises:** `ValueError` for no data, data that are not finite, data whose widths the
    model does not fit, fewer than one step, a batch that does not divide among the devices, or
    checkpoints of a training with other arguments (and says which); `FileExistsError` if something
    else is at `checkpoints`, `BlockingIOError` if another process is training there.
    """
    steps = _checks.integer("steps", steps)
    batch_size = _checks.integer("batch_size", batch_size)
    every = _checks.integer("every", every)
    key = _checks.key(key)
    optimizer = adam(1e-3) if optimizer is None else optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        _checks.fail("optimizer", "be an Optax optimiser", f"is {optimizer!r}", TypeError)
    if mesh is not None and batch_size % mesh.size:
        must = f"be a multiple of the mesh's {mesh.size} devices"
        _checks.fail("batch_size", must, f"is {batch_size}")
    source = batches_of(data, batch_size, key, mesh)
    check_fit(model, *source.example)
    with contextlib.ExitStack() as stack:
        saved = None
        if checkpoints is not None:
            settings = _settings(model, optimizer, source, batch_size, key)
            saved = stack.enter_context(checkpoints_in(Path(checkpoints), settings))
        bar = stack.enter_context(progress_bar(steps, "training", "steps", progress))
        return _train(model, source, optimizer, steps, mesh, saved, every, bar)


def _train(
    model: Any,
    source: FromMemory | FromStore,
    optimizer: optax.GradientTransformation,
    steps: int,
    mesh: Mesh | None,
    saved: Checkpoints | None,
    every: int,
    bar: Any,
) -> Training:
    """Stretch by stretch, from the last checkpoint if there is one."""
    parameters, static = eqx.partition(model, eqx.is_inexact_array)
    arrays = on_all_of(mesh, (parameters, optimizer.init(parameters)))
    done, losses = 0, [np.zeros(0, source.example[0].dtype)]
    if saved is not None:
        done, arrays, losses[0] = saved.latest(arrays, losses[0])
        if done > steps:
            must = f"be at least {done}, which are done already"
            _checks.fail("steps", must, f"is {steps}")
    bar.initial = bar.n = done
    for piece, first, stop in source.stretches(done, steps, every):
        bounds = (jnp.asarray(first), jnp.asarray(stop))
        arrays, values = _advance(arrays, piece, on_all_of(mesh, bounds), static, optimizer)
        losses.append(np.asarray(values)[: stop - first])
        bar.update(stop - first)
        if saved is not None and (stop % every == 0 or stop == steps):
            saved.save(stop, arrays, np.concatenate(losses))
    if mesh is not None:
        arrays = jax.tree.map(lambda a: jnp.asarray(np.asarray(a.addressable_data(0))), arrays)
    parameters, opt_state = arrays
    return Training(eqx.combine(parameters, static), jnp.asarray(np.concatenate(losses)), opt_state)


def _settings(model, optimizer, source, batch_size, key) -> dict[str, Any]:
    """What the weights after some steps are a function of."""

    def update(arrays, batch):
        return one_step(arrays, batch, static, optimizer)

    parameters, static = eqx.partition(model, eqx.is_inexact_array)
    arrays = (parameters, optimizer.init(parameters))
    return {
        **versions("optax", "numpy"),
        "batch_size": batch_size,
        **described(key, "key"),
        **source.settings(),
        **described(model, "model"),
        "model and optimizer": program_of(update, arrays, source.example),
    }


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


def one_step(arrays: Any, batch: Batch, static: Any, optimizer: optax.GradientTransformation):
    """Parameters and optimiser after one step, and the batch's loss before it."""
    inputs, targets = batch

    def loss(parameters):
        predicted = jax.vmap(eqx.combine(parameters, static))(inputs)
        return jnp.mean(jnp.square(predicted - targets))

    parameters, opt_state = arrays
    value, gradient = jax.value_and_grad(loss)(parameters)
    updates, opt_state = optimizer.update(gradient, opt_state, parameters)
    return (optax.apply_updates(parameters, updates), opt_state), value


@eqx.filter_jit
def _advance(arrays, piece, bounds, static, optimizer):
    """All steps within the bounds, whose number need not be known to compile them."""
    first, stop = bounds

    def step(t, carry):
        arrays, losses = carry
        arrays, value = one_step(arrays, piece.batch(t), static, optimizer)
        return arrays, losses.at[t - first].set(value)

    losses = jnp.zeros(piece.longest, piece.inputs.dtype)
    return jax.lax.fori_loop(first, stop, step, (arrays, losses))


def fit(
    model, inputs, targets, optimizer, steps, batch_size, key, meter, meter_state
) -> tuple[Training, Any]:
    """All steps on data in memory as one scan, and the state of the progress meter after them; not
    compiled by itself, so that it can be batched."""
    parameters, static = eqx.partition(model, eqx.is_inexact_array)
    piece = Drawn(inputs, targets, key, batch_size, None)

    def step(carry, t):
        arrays, meter_state = carry
        meter_state = meter.step(meter_state, t / steps)
        arrays, value = one_step(arrays, piece.batch(t), static, optimizer)
        return (arrays, meter_state), value

    carry = ((parameters, optimizer.init(parameters)), meter_state)
    ((parameters, opt_state), meter_state), losses = jax.lax.scan(step, carry, jnp.arange(steps))
    return Training(eqx.combine(parameters, static), losses, opt_state), meter_state
