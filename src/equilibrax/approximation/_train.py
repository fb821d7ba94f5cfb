"""`train`: any Optax optimiser over fixed points, in memory, on disk, or made on the way."""

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
from .._devices import on_all_of
from .._progress import progress_bar
from .._settings import described, program_of, versions
from ..fixed_points import Outcome
from ..sampling import LiveSamples, Samples, SampleStore
from ._batches import Source, as_pairs, batches_of, digest_of_pairs
from ._checkpoints import Checkpoints, checkpoints_in
from ._feedforward import FeedForward, dead_units, forward
from ._looks import Best, History, Looks
from ._pieces import Batch

PROBE = 10_000
"""Inputs, at most, on which a hidden unit must be silent to be counted as dead."""


class Training(eqx.Module):
    """A trained model, and how it came about.

    - `model`: of the same kind as the one given. With validation data, the best by these; without,
      the last one, or the best before the training diverged.
    - `losses`: mean squared error of each step's batch, shape `(steps,)`: of those that were done
      before the training diverged, if it did.
    - `opt_state`: the optimiser's state after the last step.
    - `ended`: `"steps"`, all of them are done; `"patience"`, the validation error fell no more;
      `"diverged"`, a loss was not finite, or a thousand times the first one.
    - `validated`, `validation_losses`: after how many steps the validation data were looked at,
      and the mean squared error there, shape `(looks,)`; empty without validation data.
    - `best_step`: after how many steps `model` was what it is.
    - `dead_units`: hidden units of a `FeedForward` that are silent for all of the data, of the
      first 10,000 rows if there are more; None for other models.
    - `counts`: how the inputs of `LiveSamples` ended, in this call; None for other data.

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
        """How the training went, in one line."""
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
    depends on `key` and t alone. From data in memory it is drawn with replacement. From a store,
    which need not fit in there, each epoch gives every stable pair once, shuffled in two levels:
    the shards of an epoch, and the pairs within some 30 MB of them; the next of these are read
    while the devices work. From `LiveSamples` it is settled on the device, some steps ahead, and
    seen once; inputs without a stable fixed point are left out of their batch, and counted.

    **Arguments:**

    - `model`: an Equinox module that maps one input of shape `(n,)` to one output, as a
      `FeedForward`.
    - `data`: `Samples` or a `SampleStore`, of which the stable ones are used, `LiveSamples`, or a
      pair of arrays (inputs, targets) with the same number of rows.
    - `optimizer`: any Optax optimiser, with schedules, weight decay and what else it is made of;
      `optax.adam(1e-3)` if absent.
    - `steps`: how many, at least one.
    - `batch_size`: pairs in each step.
    - `key`: PRNG key of the batches.
    - `validation`: pairs that are not trained on; the model with the least error on these is kept.
    - `validate_every`: steps between two looks at them.
    - `patience`: stop after so many looks without a new least error; never if absent.
    - `mesh`: devices over which each batch is spread, those of other processes included; one
      device if absent. The result is the same to rounding. It pays for large models only.
    - `checkpoints`, `every`: a folder, created if absent, in which model, optimiser and losses are
      saved every so many steps and at the end. Called again with the same arguments, a training
      that was killed goes on from there and ends with the weights of one that was not; with more
      `steps`, it goes further. It needs `pip install 'equilibrax[checkpoints]'`.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** a `Training`, on one device. One whose loss diverged is stopped and warned of; it
    keeps the best weights that it had.

    **Raises:** `ValueError` for no data, no stable fixed point among them (with the counts), data
    that are not finite, data whose widths the model does not fit, fewer than one step, a batch that
    does not divide among the devices, or checkpoints of a training with other arguments (and says
    which); `FileExistsError` if something else is at `checkpoints`, `BlockingIOError` if another
    process is training there.

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
    judges = None
    if validation is not None:
        held_out = as_pairs(validation, "validation")
        check_fit(model, *held_out)
        judges = on_all_of(mesh, Batch(*held_out))
    looks = Looks(judges, validate_every, patience)
    with contextlib.ExitStack() as stack:
        saved = None
        if checkpoints is not None:
            settings = _settings(model, optimizer, source, batch_size, key, looks)
            saved = stack.enter_context(checkpoints_in(Path(checkpoints), settings))
        bar = stack.enter_context(progress_bar(steps, "training", "steps", progress))
        run = _train(model, source, probe.inputs, optimizer, steps, mesh, looks, saved, every, bar)
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
    looks: Looks,
    saved: Checkpoints | None,
    every: int,
    bar: Any,
) -> Training:
    """Stretch by stretch, from the last checkpoint if there is one."""
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
    ended = "patience" if looks.in_vain(history) else "steps"
    intervals = [every] if looks.judges is None else [every, looks.every]
    stretches = source.stretches(done, steps if ended == "steps" else done, intervals)
    for piece, first, stop in stretches:
        bounds = (jnp.asarray(first), jnp.asarray(stop))
        after, values = _advance(current, piece, on_all_of(mesh, bounds), static, optimizer)
        values = np.asarray(values)[: stop - first]
        sound = history.sound(values)
        if sound < len(values):
            history, ended = history.extended(values[:sound], np.nan), "diverged"
            break
        current, error = after, np.nan
        if looks.judges is not None and looks.fall_due(stop, steps):
            # NaN stands for no look; what is NaN is the worst there is.
            error = float(jnp.nan_to_num(_loss_of(current[0], looks.judges, static), nan=jnp.inf))
            best = best.unless_better(current[0], error, stop)
        elif looks.judges is None:
            best = best.unless_better(current[0], float(values[-100:].mean()), stop)
        history = history.extended(values, error)
        bar.update(stop - first)
        ended = "patience" if looks.in_vain(history) else "steps"
        if saved is not None and (stop % every == 0 or stop == steps or ended == "patience"):
            saved.save(stop, (current, best), history)
        if ended == "patience":
            break
    if mesh is not None:
        current, best = jax.tree.map(_on_one_device, (current, best))
    parameters, opt_state = current
    best_step = len(history.losses)
    if looks.judges is not None or ended == "diverged":
        parameters, best_step = best.parameters, int(best.step)
    model = eqx.combine(parameters, static)
    dead = int(dead_units(model, probe)) if isinstance(model, FeedForward) else None
    validated, errors = history.looks
    counts = getattr(source, "counts", None)
    return Training(
        model,
        jnp.asarray(history.losses),
        opt_state,
        ended,
        validated,
        errors,
        best_step,
        dead,
        counts,
    )


def _on_one_device(array: Any) -> Any:
    local = isinstance(array, jax.Array)
    return jnp.asarray(np.asarray(array.addressable_data(0))) if local else array


def _settings(model, optimizer, source, batch_size, key, looks) -> dict[str, Any]:
    """What the weights after some steps are a function of."""

    def update(arrays, batch):
        return one_step(arrays, batch, static, optimizer)

    parameters, static = eqx.partition(model, eqx.is_inexact_array)
    arrays = (parameters, optimizer.init(parameters))
    validation = {}
    if looks.judges is not None:
        digest = digest_of_pairs(*looks.judges[:2])
        validation = {"validation": digest, "validate_every": looks.every}
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
    """Raise unless the model maps an input to something of the target's shape."""
    out = eqx.filter_eval_shape(model, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))
    if getattr(out, "shape", None) != targets.shape[1:]:
        must = f"answer an input of shape {inputs.shape[1:]} with shape {targets.shape[1:]}"
        _checks.fail("model", must, f"answers with {out}")


@functools.cache
def adam(rate: float) -> optax.GradientTransformation:
    """Adam; the same object for the same rate, so that training again compiles nothing."""
    return optax.adam(rate)


def squared_error(parameters: Any, batch: Batch, static: Any) -> Float[Array, ""]:
    """The mean over the batch's pairs, and over outputs."""
    squares = jnp.square(forward(eqx.combine(parameters, static), batch.inputs) - batch.targets)
    if batch.weights is None:
        return jnp.mean(squares)
    return jnp.mean(batch.weights @ squares) / jnp.maximum(1, jnp.sum(batch.weights))


_loss_of = eqx.filter_jit(squared_error)


def one_step(arrays: Any, batch: Batch, static: Any, optimizer: optax.GradientTransformation):
    """Parameters and optimiser after one step, and the batch's loss before it."""
    parameters, opt_state = arrays
    value, gradient = jax.value_and_grad(squared_error)(parameters, batch, static)
    updates, opt_state = optimizer.update(gradient, opt_state, parameters)
    return (optax.apply_updates(parameters, updates), opt_state), value


def advance(arrays, piece, bounds, static, optimizer):
    """All steps within the bounds, whose number need not be known to compile them; and their
    losses, from the first on."""
    first, stop = bounds
    batches = piece.cut(first)

    def step(t, carry):
        arrays, losses = carry
        arrays, value = one_step(arrays, batches.batch(t), static, optimizer)
        return arrays, losses.at[t - first].set(value)

    losses = jnp.zeros(piece.longest, piece.inputs.dtype)
    return jax.lax.fori_loop(first, stop, step, (arrays, losses))


_advance = eqx.filter_jit(advance)
