"""`train_many`: many small networks at once, of which the best is kept."""

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from .._devices import mesh_for, on_all_of, on_each_device, put, rows_over
from .._progress import progress_bar
from ..sampling import LiveSamples, Samples, SampleStore
from ._batches import Source, as_pairs, batches_of
from ._feedforward import FeedForward, dead_units, forward
from ._looks import is_sound
from ._metrics import normalised_error, winner_agreement
from ._pieces import Batch
from ._train import PROBE, advance, check_fit

OptimizerOf: TypeAlias = Callable[[Any], optax.GradientTransformation]

CLOSE = 1.03
"""Networks within this factor of the least error are told apart by their winners."""

JUDGED = 2**20
"""Numbers in the hidden layers of the networks that are judged at a time: what fits into a cache
(256 networks on 10,000 inputs: 11 ms, and 101 ms with eight times as many)."""


class Trainings(eqx.Module):
    """Many trained networks, k of them, and the best.

    - `best`: which of the k is the best by validation; `model` is that network.
    - `hidden_size`, `learning_rate`: of each, shape `(k,)`.
    - `errors`: normalised error of each on the validation pairs, `(k,)`.
    - `agreements`: winner agreement there, `(k,)`; NaN without partitions.
    - `dead_units`: hidden units that are silent for all inputs, of the first 10,000, `(k,)`.
    - `diverged`: whose loss was not finite or a thousand times the first one; these have the best
      weights that they had before, `(k,)`. If all did, there is a warning.
    - `losses`: mean squared error of each step's batch, `(k, steps)`.
    - `models`: all of them: one `FeedForward` for each hidden size, whose arrays have a leading
      axis; `trainings[j]` is the j-th network by itself.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    runs = eqb.train_many(
        samples, hidden=(5, 16), restarts=2, steps=1000, key=jax.random.key(1)
    )
    print(runs.hidden_size, runs.losses.shape)
    # > [ 5  5 16 16] (4, 1000)
    print(runs.errors[runs.best] < runs.errors[runs.hidden_size == 5].min())
    # > True
    ```
    """

    best: int
    hidden_size: Int[Array, " k"]
    learning_rate: Float[Array, " k"]
    errors: Float[Array, " k"]
    agreements: Float[Array, " k"]
    dead_units: Int[Array, " k"]
    diverged: Bool[Array, " k"]
    losses: Float[Array, "k steps"]
    models: tuple[FeedForward, ...]

    @property
    def model(self) -> FeedForward:
        """The best by validation."""
        return self[self.best]

    def __len__(self) -> int:
        return len(self.errors)

    def __getitem__(self, j: int) -> FeedForward:
        if not -len(self) <= j < len(self):
            raise IndexError(f"there are {len(self)} networks, and no {j}")
        group, row = divmod(j % len(self), len(self) // len(self.models))
        return jax.tree.map(lambda leaf: leaf[row], self.models[group])

    def describe(self) -> str:
        """The best, the spread and the casualties, in one line."""
        errors = np.asarray(self.errors)
        low, high = np.nanpercentile(errors, [25, 75])
        return (
            f"{len(self)} networks: least error {errors[self.best]:.4f}, half of them between "
            f"{low:.4f} and {high:.4f}; {int(np.sum(self.dead_units > 0))} have dead units, "
            f"{int(np.sum(self.diverged))} diverged"
        )


def train_many(
    data: Samples | SampleStore | LiveSamples | tuple[Array, Array],
    *,
    hidden: int | Sequence[int],
    restarts: int = 16,
    learning_rates: Sequence[float] = (0.01,),
    optimizer: OptimizerOf | optax.GradientTransformation | None = None,
    steps: int = 8000,
    batch_size: int = 256,
    key: Array,
    validation: Samples | tuple[Array, Array] | None = None,
    progress: bool = False,
) -> Trainings:
    r"""Train a `FeedForward` for each hidden size, learning rate and restart; keep the best.

    All networks of one hidden size are trained at once, in one compiled loop, shared among all
    devices; they differ in their initial weights and see the same batches. Every 1000 steps, and at
    the end, each is judged on the first 10,000 validation pairs, and keeps the weights with which
    it was best; in the end all networks are judged on all of them.

    Kept is the network with the least normalised error or, where the data's network has
    partitions, the one with the best winner agreement among those whose error is within 3 % of the
    least: optima of nearly the same error differ in how well they keep the competition (5-5-5
    on the reference network: error 0.0814 with agreement 0.847, error 0.0820 with agreement 0.865).

    **Arguments:**

    - `data`: as for `train`.
    - `hidden`: hidden units; one number or several.
    - `restarts`: networks for each hidden size and learning rate.
    - `learning_rates`: handed to `optimizer` one by one.
    - `optimizer`: a function from a learning rate, traced by JAX, to an Optax optimiser, as
      `optax.adam`, or an optimiser, for which the learning rates mean nothing. If absent, Adam
      with a rate that rises to the given one in 5 % of the steps and falls to 0 on half a cosine.
    - `steps`, `batch_size`, `key`: as for `train`; initial weights come from the key, too.
    - `validation`: pairs that are not trained on. If absent, the last fifth of `Samples` or of a
      pair of arrays is set aside; for a store or `LiveSamples` they must be given.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** `Trainings`.

    **Raises:** as `train`; `ValueError` without validation pairs.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    runs = eqb.train_many(
        samples, hidden=(5, 16), restarts=2, steps=1000, key=jax.random.key(1)
    )
    print(len(runs), runs.model.hidden_size)
    # > 4 16
    ```
    """
    sizes = _checks.sizes("hidden", hidden if isinstance(hidden, Iterable) else (hidden,))
    restarts = _checks.integer("restarts", restarts)
    steps = _checks.integer("steps", steps)
    batch_size = _checks.integer("batch_size", batch_size)
    key_batches, key_models = jax.random.split(_checks.key(key))
    rates = _learning_rates(learning_rates)
    if not sizes:
        _checks.fail("hidden", "hold at least one number of hidden units", "is empty")
    optimizer_of = _as_optimizer_of(optimizer, steps)
    partitions = data.partitions if isinstance(data, Samples) else ()
    if isinstance(validation, Samples):
        partitions = validation.partitions
    data, held_out = _held_out(data, validation)
    source = batches_of(data, batch_size, steps, key_batches, None)
    probe = source.probe(PROBE)
    count = restarts * len(rates)
    mesh = mesh_for(probe.inputs, count, share=1)
    groups = []
    with progress_bar(steps * len(sizes), "training", "steps", progress) as bar:
        for size in sizes:
            keys = jax.random.split(jax.random.fold_in(key_models, size), count)
            models = _new_models(keys, probe, size)
            check_fit(jax.tree.map(lambda a: a[0], models), *held_out[:2])
            groups.append(
                _train_group(
                    models, jnp.repeat(rates, restarts), source, optimizer_of, steps, held_out,
                    probe, partitions, mesh, bar,
                )
            )  # fmt: skip
    models, *columns = zip(*groups, strict=True)
    errors, agreements, dead, diverged, losses = (jnp.concatenate(c) for c in columns)
    if diverged.all():
        warnings.warn("train_many: all networks diverged", RuntimeWarning, stacklevel=2)
    return Trainings(
        choose(np.asarray(errors), np.asarray(agreements)),
        jnp.repeat(jnp.asarray(sizes), count), jnp.tile(jnp.repeat(rates, restarts), len(sizes)),
        errors, agreements, dead, diverged, losses, models,
    )  # fmt: skip


def choose(errors: np.ndarray, agreements: np.ndarray) -> int:
    """The least error; among those close to it the best agreement, if that is known."""
    close = errors <= CLOSE * np.nanmin(errors)
    wins = np.where(np.isnan(agreements), 1.0, agreements)
    return int(np.lexsort((errors, np.where(close, -wins, np.inf)))[0])


@functools.cache
def cosine_adam(steps: int) -> OptimizerOf:
    """Adam whose rate rises to the given one in 5 % of the steps and falls to 0 on half a cosine;
    the same object for as many steps, so that training again compiles nothing."""
    rise = max(1, steps // 20)
    shape = optax.warmup_cosine_decay_schedule(1 / rise, 1.0, rise, max(2, steps))
    return lambda rate: optax.adam(lambda step: rate * shape(step))


@functools.cache
def _always(optimizer: optax.GradientTransformation) -> OptimizerOf:
    return lambda rate: optimizer


def _as_optimizer_of(optimizer: Any, steps: int) -> OptimizerOf:
    if optimizer is None:
        return cosine_adam(steps)
    if isinstance(optimizer, optax.GradientTransformation):
        return _always(optimizer)
    made = optimizer(0.01) if callable(optimizer) else None
    if not isinstance(made, optax.GradientTransformation):
        must = "be an Optax optimiser, or a function from a learning rate to one"
        _checks.fail("optimizer", must, f"is {optimizer!r}", TypeError)
    return cast(OptimizerOf, optimizer)


def _learning_rates(value: Any) -> Float[Array, " rates"]:
    rates = _checks.floating("learning_rates", value)
    if rates.ndim != 1 or not len(rates):
        _checks.fail("learning_rates", "be a sequence of numbers", f"has shape {rates.shape}")
    _checks.positive("learning_rates", rates)
    return rates


def _held_out(data: Any, validation: Any) -> tuple[Any, Batch]:
    """Data to train on, and pairs to judge by."""
    if validation is not None:
        return data, Batch(*as_pairs(validation, "validation"))
    if isinstance(data, (SampleStore, LiveSamples)):
        what = type(data).__name__
        _checks.fail("validation", f"be given where data is a {what}", "is None")
    inputs, targets = as_pairs(data)
    rest = len(inputs) - len(inputs) // 5
    if rest == len(inputs):
        _checks.fail("data", "hold at least 5 pairs, to set some aside", f"holds {len(inputs)}")
    return (inputs[:rest], targets[:rest]), Batch(inputs[rest:], targets[rest:])


@eqx.filter_jit
def _new_models(keys: Array, probe: Batch, size: int) -> FeedForward:
    """A network from each key."""
    k, out, dtype = probe.inputs.shape[1], probe.targets.shape[1], probe.inputs.dtype
    return jax.vmap(lambda key: FeedForward(k, size, out, key=key, dtype=dtype))(keys)


def _train_group(
    models: FeedForward,
    rates: Float[Array, " k"],
    source: Source,
    optimizer_of: OptimizerOf,
    steps: int,
    held_out: Batch,
    probe: Batch,
    partitions: tuple[int, ...],
    mesh: Mesh | None,
    bar: Any,
) -> tuple[FeedForward, Array, Array, Array, Array, Array]:
    """The best of each network, and its error, agreement, dead units, divergence and losses."""
    count = len(rates)
    if mesh is not None:
        # Filled up with copies, which are cut off again.
        rows = np.arange(-(-count // mesh.size) * mesh.size) % count
        rows_of_both = jax.tree.map(lambda a: a[rows], (models, rates))
        models, rates = put(rows_of_both, rows_over(mesh))
        held_out = on_all_of(mesh, held_out)
    glimpse = Batch(held_out.inputs[:PROBE], held_out.targets[:PROBE])
    arrays = _start(models, rates, optimizer_of)
    best, least = models, np.full(len(rates), np.inf)
    losses, diverged = [], np.zeros(len(rates), bool)
    for piece, first, stop in source.stretches(0, steps, ()):
        shared = on_all_of(mesh, (piece, (jnp.asarray(first), jnp.asarray(stop))))
        arrays, values = _advance(arrays, rates, shared, optimizer_of, mesh)
        values = np.asarray(values)[:, : stop - first]
        losses.append(values)
        diverged |= ~is_sound(values, losses[0][:, :1]).all(axis=1)
        errors = _judge(arrays[0], glimpse, (), mesh)[0]
        better = ~diverged & (np.asarray(errors) < least)
        least = np.where(better, errors, least)
        best = _where(jnp.asarray(better), arrays[0], best)
        bar.update(stop - first)
    errors, agreements = _judge(best, held_out, partitions, mesh)
    # Back on one device, without the copies.
    best = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[:count]), best)
    dead = _count_dead(best, probe.inputs)
    errors, agreements, diverged, losses = (
        jnp.asarray(np.asarray(column)[:count])
        for column in (errors, agreements, diverged, np.concatenate(losses, axis=1))
    )
    return best, errors, agreements, dead, diverged, losses


@eqx.filter_jit
def _start(models: FeedForward, rates: Array, optimizer_of: OptimizerOf) -> tuple[Any, Any]:
    return models, jax.vmap(lambda model, rate: optimizer_of(rate).init(model))(models, rates)


@eqx.filter_jit
def _advance(arrays, rates, shared, optimizer_of, mesh):
    """`advance` of all networks, on all devices."""

    _, static = eqx.partition(arrays[0], eqx.is_inexact_array)

    def here(shared, arrays, rates):
        def one(arrays, rate):
            piece, bounds = shared
            return advance(arrays, piece, bounds, static, optimizer_of(rate))

        return jax.vmap(one)(arrays, rates)

    return on_each_device(here, mesh)(shared, arrays, rates)


@eqx.filter_jit
def _judge(
    models: FeedForward, held_out: Batch, partitions: tuple[int, ...], mesh: Mesh | None
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Normalised error and winner agreement of each network."""

    def here(held_out, models):
        def one(model):
            output = forward(model, held_out.inputs)
            error = normalised_error(output, held_out.targets)
            if not partitions:
                return error, jnp.full_like(error, jnp.nan)
            return error, winner_agreement(output, held_out.targets, partitions)

        numbers = len(held_out.inputs) * models.weights1.shape[1]
        return jax.lax.map(one, models, batch_size=max(1, JUDGED // numbers))

    return on_each_device(here, mesh)(held_out, models)


@eqx.filter_jit
def _count_dead(models: FeedForward, inputs: Float[Array, "m n"]) -> Int[Array, " k"]:
    return jax.lax.map(lambda model: dead_units(model, inputs), models)


@eqx.filter_jit
def _where(better: Bool[Array, " k"], new: FeedForward, old: FeedForward) -> FeedForward:
    def pick(a, b):
        return jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)
