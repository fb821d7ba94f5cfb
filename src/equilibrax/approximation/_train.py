"""`train`: any Optax optimiser on fixed points in memory, on disk, or settled during training."""

import contextlib
import functools
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from .. import _checks
from .._described import Described
from .._devices import on_all_of
from .._progress import progress_bar
from .._settings import described, program_of, versions
from ..fixed_points import Outcome
from ..sampling import LiveSamples, Samples, SampleStore
from ._batches import Source, as_pairs, batches_of, digest_of_pairs
from ._checkpoints import Checkpoints, checkpoints_in
from ._chunks import Batch
from ._feedforward import FeedForward, dead_units, forward
from ._validation import Best, History, Validation

PROBE = 10_000
"""Upper limit on the inputs for which a hidden unit must be silent to be counted as dead."""


class Training(eqx.Module, Described):
    """A trained model, and the record of its training.

    - `model`: of the same class as the model given. With validation data, the model of the least
      validation loss; without, the last model, or the best before the training diverged.
    - `losses`: mean squared error of each step's batch, shape `(steps,)`; it ends before the step
      at which the training diverged.
    - `opt_state`: the optimiser's state after the last step.
    - `ended`: `"steps"`, all steps are done; `"patience"`, the validation loss fell no more;
      `"diverged"`, a loss was not finite, or more than a thousand times the first one.
    - `validated`, `validation_losses`: number of steps before each validation, and the mean
      squared error there, shape `(validations,)`; empty without validation data.
    - `best_step`: number of steps after which the parameters of `model` were reached.
    - `dead_units`: number of hidden units of a `FeedForward` that are silent for all of the data,
      or for the first 10,000 rows if there are more; None for other models.
    - `counts`: number of inputs of `LiveSamples` in each outcome, in this call; None for other
      data.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    run = eqb.train(model, samples, steps=1000, key=jax.random.key(2))
    print(run.describe(), run.losses.shape)
    # > 1000 steps, all steps done (1000,)
    ```
    """

    model: Any
    losses: Float[Array, " steps"]
    opt_state: Any
    ended: Literal["steps", "patience", "diverged"] = eqx.field(static=True)
    validated: np.ndarray
    validation_losses: np.ndarray
    best_step: int
    dead_units: int | None
    counts: dict[Outcome, int] | None

    def describe(self) -> str:
        """The number of steps and the reason for the end, in one line."""
        words = {
            "steps": "all steps done",
            "patience": "stopped, since the validation error fell no more",
            "diverged": "stopped, since the loss diverged",
        }
        parts = [f"{len(self.losses)} steps, {words[self.ended]}"]
        if self.best_step < len(self.losses) or self.ended == "diverged":
            parts.append(f"the model is that of step {self.best_step}")
        if self.dead_units:
            parts.append(f"{self.dead_units} hidden units are dead")
        return "; ".join(parts)


def train(
    model: Any,
    data: Samples | SampleStore | LiveSamples | tuple[Array, Array],
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 6000,
    batch_size: int = 256,
    key: Array,
    validation: Samples | tuple[Array, Array] | None = None,
    validate_every: int = 500,
    patience: int | None = None,
    mesh: Mesh | None = None,
    checkpoints: str | os.PathLike | None = None,
    every: int = 10_000,
    progress: bool = False,
) -> Training:
    r"""Fit a model to (input, fixed point) pairs by stochastic gradient descent.

    The loss is the mean squared error of a batch, $\langle |f(i) - r|^2 \rangle / n$,
    r being the rates at the fixed point. Many steps run in one compiled loop. The batch of step t
    depends on `key` and t alone. Data in memory are drawn with replacement. A store need not fit
    into memory: each epoch uses every stable pair once, shuffled in two levels, the shards and the
    pairs within chunks of some 30 MB; the next chunk is read while the devices train on the current
    one. `LiveSamples` are drawn and settled on the device, some steps ahead, and each is used once;
    inputs without a stable fixed point are left out of their batch, and counted.

    **Arguments:**

    - `model`: an Equinox module that maps one input of shape `(n,)` to one output, as a
      `FeedForward`.
    - `data`: `Samples` or a `SampleStore`, whose stable pairs are used, `LiveSamples`, or a pair
      of arrays (inputs, targets) with the same number of rows.
    - `optimizer`: any Optax optimiser, with schedules, weight decay and other transformations;
      `optax.adam(1e-3)` if absent.
    - `steps`: number of steps, at least one.
    - `batch_size`: pairs in each step.
    - `key`: PRNG key of the batches.
    - `validation`: pairs that are not trained on; the model of the least loss on them is kept.
    - `validate_every`: steps between two validations.
    - `patience`: number of validations without a new least loss after which training stops; never
      if absent.
    - `mesh`: devices over which each batch is spread, those of other processes included; one
      device if absent. The result is the same to rounding. It is faster for large models only.
    - `checkpoints`, `every`: a folder, created if absent, to which model, optimiser and losses are
      saved every `every` steps and at the end. The same call again resumes a killed training from
      its last checkpoint and gives the weights of an uninterrupted one; more `steps` extend it.
      Requires `pip install 'equilibrax[checkpoints]'`.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** a `Training`, on one device. A training whose loss diverges stops with a warning,
    and keeps the best weights so far.

    **Raises:** `ValueError` for no data, no stable fixed point among them (with the counts), data
    that are not finite, data whose widths the model does not fit, fewer than one step, a batch that
    does not divide among the devices, or checkpoints of a training with other arguments (the
    message names the difference); `FileExistsError` if something else is at `checkpoints`,
    `BlockingIOError` if another process is training there.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    run = eqb.train(model, samples, steps=1000, key=jax.random.key(2))
    print(run.losses[-100:].mean() < 0.3 * run.losses[:100].mean())
    # > True
    ```
    """
    steps = _checks.integer("steps", steps)
    batch_size = _checks.integer("batch_size", batch_size)
    every = _checks.integer("every", every)
    validate_every = _checks.integer("validate_every", validate_every)
    key = _checks.key(key)
    optimizer = adam(1e-3) if optimizer is None else optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        _checks.fail("optimizer", "be an Optax optimiser", f"is {optimizer!r}", TypeError)
    if mesh is not None and batch_size % mesh.size:
        must = f"be a multiple of the mesh's {mesh.size} devices"
        _checks.fail("batch_size", must, f"is {batch_size}")
    if patience is not None:
        patience = _checks.integer("patience", patience)
        if validation is None:
            _checks.fail("patience", "come with validation data", "comes without")
    source = batches_of(data, batch_size, steps, key, mesh)
    probe = source.probe(PROBE)
    check_fit(model, probe.inputs, probe.targets)
    if getattr(model, "rectified", False) and not can_be_rectified(probe.targets):
        share = f"{float(jnp.mean(probe.targets < 0)):.0%} of the targets are negative"
        never = "which a rectified output never is: make the model with rectified=False"
        warnings.warn(f"training: {share}, {never}", UserWarning, stacklevel=2)
    held_out = None
    if validation is not None:
        pairs = as_pairs(validation, "validation")
        check_fit(model, *pairs)
        held_out = on_all_of(mesh, Batch(*pairs))
    validator = Validation(held_out, validate_every, patience)
    with contextlib.ExitStack() as stack:
        saved = None
        if checkpoints is not None:
            settings = _settings(model, optimizer, source, batch_size, key, validator)
            saved = stack.enter_context(checkpoints_in(Path(checkpoints), settings))
        bar = stack.enter_context(progress_bar(steps, "training", "steps", progress))
        run = _train(
            model, source, probe.inputs, optimizer, steps, mesh, validator, saved, every, bar
        )
    if run.ended == "diverged":
        warnings.warn(f"training: {run.describe()}", RuntimeWarning, stacklevel=2)
    return run


def _train(
    model: Any,
    source: Source,
    probe: Float[Array, "m n"],
    optimizer: optax.GradientTransformation,
    steps: int,
    mesh: Mesh | None,
    validator: Validation,
    saved: Checkpoints | None,
    every: int,
    bar: Any,
) -> Training:
    """Train span by span, from the last checkpoint if there is one."""
    parameters, static = eqx.partition(model, eqx.is_inexact_array)
    dtype = probe.dtype
    best = Best(parameters, np.asarray(np.inf), np.asarray(0))
    arrays = on_all_of(mesh, ((parameters, optimizer.init(parameters)), best))
    done, history = 0, History(np.zeros(0, dtype), np.zeros(0, dtype))
    if saved is not None:
        done, arrays, history = saved.latest(arrays, history)
        if done > steps:
            must = f"be at least {done}, which are done already"
            _checks.fail("steps", must, f"is {steps}")
    current, best = arrays
    bar.initial = bar.n = done
    ended = "patience" if validator.is_out_of_patience(history) else "steps"
    intervals = [every] if validator.pairs is None else [every, validator.every]
    for chunk, first, stop in source.spans(done, steps if ended == "steps" else done, intervals):
        bounds = (jnp.asarray(first), jnp.asarray(stop))
        after, values = _advance(current, chunk, on_all_of(mesh, bounds), static, optimizer)
        values = np.asarray(values)[: stop - first]
        num_bounded = history.num_bounded(values)
        if num_bounded < len(values):
            history, ended = history.extended(values[:num_bounded], np.nan), "diverged"
            break
        current, loss = after, np.nan
        if validator.pairs is not None and validator.is_due(stop, steps):
            # In the history NaN means no validation, so that a loss of NaN becomes infinity.
            loss = float(jnp.nan_to_num(_loss_of(current[0], validator.pairs, static), nan=jnp.inf))
            best = best.updated(current[0], loss, stop)
        elif validator.pairs is None:
            best = best.updated(current[0], float(values[-100:].mean()), stop)
        history = history.extended(values, loss)
        bar.update(stop - first)
        ended = "patience" if validator.is_out_of_patience(history) else "steps"
        if saved is not None and (stop % every == 0 or stop == steps or ended == "patience"):
            saved.save(stop, (current, best), history)
        if ended == "patience":
            break
    if mesh is not None:
        current, best = jax.tree.map(_on_one_device, (current, best))
    parameters, opt_state = current
    best_step = len(history.losses)
    if validator.pairs is not None or ended == "diverged":
        parameters, best_step = best.parameters, int(best.step)
    model = eqx.combine(parameters, static)
    dead = int(dead_units(model, probe)) if isinstance(model, FeedForward) else None
    counts = getattr(source, "counts", None)
    validated, validation_losses = history.validations
    return Training(
        model, jnp.asarray(history.losses), opt_state, ended, validated, validation_losses,
        best_step, dead, counts,
    )  # fmt: skip


def _on_one_device(array: Any) -> Any:
    local = isinstance(array, jax.Array)
    return jnp.asarray(np.asarray(array.addressable_data(0))) if local else array


def _settings(model, optimizer, source, batch_size, key, validator) -> dict[str, Any]:
    """Settings that determine the weights after each step, by name."""

    def update(arrays, batch):
        return one_step(arrays, batch, static, optimizer)

    parameters, static = eqx.partition(model, eqx.is_inexact_array)
    arrays = (parameters, optimizer.init(parameters))
    validation = {}
    if validator.pairs is not None:
        digest = digest_of_pairs(*validator.pairs[:2])
        validation = {"validation": digest, "validate_every": validator.every}
    return {
        **versions("optax", "numpy"),
        "batch_size": batch_size,
        **described(key, "key"),
        **source.settings(),
        **validation,
        **described(model, "model"),
        "model and optimizer": program_of(update, arrays, source.probe(1)),
    }


def check_fit(model: Any, inputs: Array, targets: Array) -> None:
    """Raise unless the model maps an input to an output of the target's shape."""
    out = eqx.filter_eval_shape(model, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))
    if getattr(out, "shape", None) != targets.shape[1:]:
        must = f"answer an input of shape {inputs.shape[1:]} with shape {targets.shape[1:]}"
        _checks.fail("model", must, f"answers with {out}")


def can_be_rectified(*targets: Array) -> bool:
    """Whether an output that is never negative can come near these targets."""
    return not any(bool(jnp.any(some < 0)) for some in targets)


@functools.cache
def adam(rate: float) -> optax.GradientTransformation:
    """Adam; equal rates give the same object, so that a second training compiles nothing."""
    return optax.adam(rate)


def squared_error(parameters: Any, batch: Batch, static: Any) -> Float[Array, ""]:
    """Mean squared error over the batch's pairs and the outputs."""
    squares = jnp.square(forward(eqx.combine(parameters, static), batch.inputs) - batch.targets)
    if batch.weights is None:
        return jnp.mean(squares)
    return jnp.mean(batch.weights @ squares) / jnp.maximum(1, jnp.sum(batch.weights))


_loss_of = eqx.filter_jit(squared_error)


def one_step(arrays: Any, batch: Batch, static: Any, optimizer: optax.GradientTransformation):
    """Parameters and optimiser state after one step, and the batch's loss before it."""
    parameters, opt_state = arrays
    value, gradient = jax.value_and_grad(squared_error)(parameters, batch, static)
    updates, opt_state = optimizer.update(gradient, opt_state, parameters)
    return (optax.apply_updates(parameters, updates), opt_state), value


def advance(arrays, chunk, bounds, static, optimizer):
    """Run the steps within the bounds, which are traced, so that one program serves spans of any
    length. Returns the arrays, and the losses from the first step on."""
    first, stop = bounds
    batches = chunk.batches_from(first)

    def step(t, carry):
        arrays, losses = carry
        arrays, value = one_step(arrays, batches.batch(t), static, optimizer)
        return arrays, losses.at[t - first].set(value)

    losses = jnp.zeros(chunk.max_steps, chunk.inputs.dtype)
    return jax.lax.fori_loop(first, stop, step, (arrays, losses))


_advance = eqx.filter_jit(advance)
