"""`train_many`: train many small networks at once, and choose the best."""

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from .._described import Described
from .._devices import put
from .._progress import progress_bar
from .._workers import in_parallel, workers_beside
from ..sampling import LiveSamples, Samples, SampleStore
from ._batches import Source, as_pairs, batches_of
from ._chunks import Batch
from ._feedforward import FeedForward, dead_units, forward
from ._metrics import normalised_error, winner_agreement
from ._train import PROBE, advance, can_be_rectified, check_fit
from ._validation import is_bounded

OptimizerOf: TypeAlias = Callable[[Any], optax.GradientTransformation]

CLOSE = 1.03
"""Among networks within this factor of the least error, winner agreement decides."""

VALIDATED = 2**20
"""Hidden activations computed at a time in a validation, so that they fit into the cache (256
networks on 10,000 inputs: 11 ms, against 101 ms with eight times as many)."""


class Trainings(eqx.Module, Described):
    """k trained networks, and the best.

    - `best`: index of the best network by validation; `model` is that network.
    - `hidden_size`, `learning_rate`: of each network, shape `(k,)`.
    - `errors`: normalised error of each network on the validation pairs, `(k,)`.
    - `agreements`: winner agreement there, `(k,)`; NaN without partitions.
    - `dead_units`: number of hidden units that are silent for the first 10,000 inputs, `(k,)`.
    - `diverged`: whether a loss was not finite, or more than a thousand times the first one;
      diverged networks keep the best weights from before, `(k,)`. If all diverged, there is a
      warning.
    - `losses`: mean squared error of each step's batch, `(k, steps)`.
    - `models`: one `FeedForward` for each hidden size, whose arrays have a leading axis over its
      networks; `trainings[j]` is the j-th network by itself.

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
        """The best network by validation."""
        return self[self.best]

    def __len__(self) -> int:
        return len(self.errors)

    def __getitem__(self, j: int) -> FeedForward:
        if not -len(self) <= j < len(self):
            raise IndexError(f"there are {len(self)} networks, and no {j}")
        group, row = divmod(j % len(self), len(self) // len(self.models))
        return jax.tree.map(lambda leaf: leaf[row], self.models[group])

    def describe(self) -> str:
        """The least error, the spread, and how many have dead units or diverged, in one line."""
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

    All networks of one hidden size are trained at once, in one compiled loop on each core or
    accelerator; they differ in their initial weights and are trained on the same batches. Each
    network is validated every 1000 steps and at the end, on the first 10,000 validation pairs, and
    keeps its best weights; at last all networks are compared on all validation pairs. Their outputs
    are rectified unless some target is negative.

    The best network has the least normalised error. Where the data's network has partitions, it is
    the network of the best winner agreement among those whose error is within 3 % of the least:
    optima of nearly equal error differ in how well they reproduce the competition (5-5-5 on the
    reference network: error 0.0814 with agreement 0.847, error 0.0820 with agreement 0.865).

    **Arguments:**

    - `data`: as for `train`.
    - `hidden`: numbers of hidden units, one or several.
    - `restarts`: number of networks for each hidden size and learning rate.
    - `learning_rates`: passed to `optimizer` one by one.
    - `optimizer`: a function from a learning rate, traced by JAX, to an Optax optimiser, such as
      `optax.adam`; or an optimiser, which ignores the learning rates. If absent, Adam with warmup
      and cosine decay: the rate rises for 5 % of the steps, then falls to 0.
    - `steps`, `batch_size`, `key`: as for `train`; initial weights come from the key, too.
    - `validation`: pairs that are not trained on. If absent, the last fifth of `Samples` or of a
      pair of arrays is held out; for a store or `LiveSamples` it must be given.
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
    rectified = can_be_rectified(probe.targets, held_out.targets)
    count = restarts * len(rates)
    groups = []
    with progress_bar(steps * len(sizes), "training", "steps", progress) as bar:
        for size in sizes:
            keys = jax.random.split(jax.random.fold_in(key_models, size), count)
            models = _new_models(keys, probe, size, rectified)
            check_fit(jax.tree.map(lambda a: a[0], models), *held_out[:2])
            groups.append(
                _train_group(
                    models, jnp.repeat(rates, restarts), source, optimizer_of, steps, held_out,
                    probe, partitions, bar,
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
    """Index of the least error; among errors close to it, of the best agreement unless NaN."""
    close = errors <= CLOSE * np.nanmin(errors)
    wins = np.where(np.isnan(agreements), 1.0, agreements)
    return int(np.lexsort((errors, np.where(close, -wins, np.inf)))[0])


@functools.cache
def cosine_adam(steps: int) -> OptimizerOf:
    """Adam with linear warmup, for 5 % of the steps, and cosine decay to 0. Equal numbers of steps
    give the same object, so that a second training compiles nothing."""
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
    """Training data, and validation pairs."""
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
def _new_models(keys: Array, probe: Batch, size: int, rectified: bool) -> FeedForward:
    """One network for each key."""
    k, out, kind = probe.inputs.shape[1], probe.targets.shape[1], probe.inputs.dtype
    return jax.vmap(
        lambda key: FeedForward(k, size, out, key=key, dtype=kind, rectified=rectified)
    )(keys)


def _train_group(
    models: FeedForward,
    rates: Float[Array, " k"],
    source: Source,
    optimizer_of: OptimizerOf,
    steps: int,
    held_out: Batch,
    probe: Batch,
    partitions: tuple[int, ...],
    bar: Any,
) -> tuple[FeedForward, Array, Array, Array, Array, Array]:
    """Best weights, errors, agreements, dead units, divergence and losses of each network."""
    count = len(rates)
    home = next(iter(rates.devices()))
    workers = workers_beside(home)[:count]
    # Each worker trains its share of the networks; copies pad all shares to one size.
    share = -(-count // len(workers))
    rows = [np.arange(k * share, (k + 1) * share) % count for k in range(len(workers))]

    def on_workers(function: Callable, *each: Sequence) -> list:
        return in_parallel(lambda k, _: function(*(a[k] for a in each)), range(len(rows)), workers)

    def share_of(rows, worker):
        return put(jax.tree.map(lambda a: a[rows], (rates, models)), worker)

    shares = [share_of(*pair) for pair in zip(rows, workers, strict=True)]
    shared_rates, best = map(list, zip(*shares, strict=True))
    pairs = [put(held_out, worker) for worker in workers]
    first_pairs = [Batch(all_.inputs[:PROBE], all_.targets[:PROBE]) for all_ in pairs]
    arrays = on_workers(lambda model, rate: _start(model, rate, optimizer_of), best, shared_rates)
    least = np.full((len(rows), share), np.inf)
    losses, diverged = [], np.zeros((len(rows), share), bool)
    for chunk, first, stop in source.spans(0, steps, ()):
        chunks = [put((chunk, (jnp.asarray(first), jnp.asarray(stop))), w) for w in workers]

        def advance_and_validate(arrays, rates, shared, first_pairs):
            arrays, values = _advance(arrays, rates, shared, optimizer_of)
            return arrays, values, _validate(arrays[0], first_pairs, ())[0]

        results = on_workers(advance_and_validate, arrays, shared_rates, chunks, first_pairs)
        arrays, values, errors = zip(*results, strict=True)
        values = np.stack([np.asarray(v)[:, : stop - first] for v in values])
        losses.append(values)
        diverged |= ~is_bounded(values, losses[0][..., :1]).all(axis=-1)
        errors = np.stack([np.asarray(e) for e in errors])
        better = ~diverged & (errors < least)
        least = np.where(better, errors, least)
        best = [_where(b, new[0], old) for b, new, old in zip(better, arrays, best, strict=True)]
        bar.update(stop - first)
    scores = on_workers(lambda model, pairs: _validate(model, pairs, partitions), best, pairs)
    errors, agreements = zip(*scores, strict=True)

    def gathered(parts: Sequence[Any]) -> Array:
        """On one device, without the copies."""
        return jnp.concatenate([jnp.asarray(np.asarray(part)) for part in parts])[:count]

    best = jax.tree.map(lambda *parts: gathered(parts), *best)
    dead = _count_dead(best, probe.inputs)
    columns: tuple[Any, ...] = (errors, agreements, diverged, np.concatenate(losses, axis=-1))
    errors, agreements, diverged, losses = map(gathered, columns)
    return best, errors, agreements, dead, diverged, losses


@eqx.filter_jit
def _start(models: FeedForward, rates: Array, optimizer_of: OptimizerOf) -> tuple[Any, Any]:
    return models, jax.vmap(lambda model, rate: optimizer_of(rate).init(model))(models, rates)


@eqx.filter_jit
def _advance(arrays, rates, shared, optimizer_of):
    """`advance` for all networks of a share."""
    _, static = eqx.partition(arrays[0], eqx.is_inexact_array)
    chunk, bounds = shared

    def one(arrays, rate):
        return advance(arrays, chunk, bounds, static, optimizer_of(rate))

    return jax.vmap(one)(arrays, rates)


@eqx.filter_jit
def _validate(
    models: FeedForward, held_out: Batch, partitions: tuple[int, ...]
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Normalised error and winner agreement of each network."""

    def one(model):
        output = forward(model, held_out.inputs)
        error = normalised_error(output, held_out.targets)
        if not partitions:
            return error, jnp.full_like(error, jnp.nan)
        return error, winner_agreement(output, held_out.targets, partitions)

    numbers = len(held_out.inputs) * models.weights1.shape[1]
    return jax.lax.map(one, models, batch_size=max(1, VALIDATED // numbers))


@eqx.filter_jit
def _count_dead(models: FeedForward, inputs: Float[Array, "m n"]) -> Int[Array, " k"]:
    return jax.lax.map(lambda model: dead_units(model, inputs), models)


@eqx.filter_jit
def _where(better: Bool[Array, " k"], new: FeedForward, old: FeedForward) -> FeedForward:
    def pick(a, b):
        return jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)
