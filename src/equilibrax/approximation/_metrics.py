r"""Metrics of an approximation."""

import itertools
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from ..sampling import Samples, mixture_line
from ._batches import require_stable
from ._feedforward import forward
from ._jackknife import jackknife
from ._train import check_fit


def normalised_error(output: Float[Array, "m n"], target: Float[Array, "m n"]) -> Float[Array, ""]:
    r"""$\sum |y - r|^2 / \sum |r - \bar r|^2$ over a held-out set, with one mean for each neuron.

    The error is 0 for a perfect output, and 1 for the constant output $\bar r$.

    **Arguments:**

    - `output`: y, the approximation's output, shape `(m, n)`.
    - `target`: r, the rates at the recurrent network's fixed points, shape `(m, n)`.

    **Returns:** the error, a scalar without unit; NaN or infinite if all targets are the same.

    **Example:**

    ```python
    target = jnp.asarray([[0.0, 1.0], [2.0, 1.0]])
    print(eqb.metrics.normalised_error(target, target))
    # > 0.0
    print(eqb.metrics.normalised_error(jnp.ones((2, 2)), target))
    # > 1.0
    ```
    """
    spread = jnp.sum(jnp.square(target - jnp.mean(target, axis=0)))
    return jnp.sum(jnp.square(output - target)) / spread


def partition_sums(
    values: Float[Array, "... n"], partitions: tuple[int, ...]
) -> Float[Array, "... groups"]:
    """Sum over each partition.

    **Arguments:**

    - `values`: rates or inputs, shape `(..., n)`.
    - `partitions`: sizes of the partitions, from neuron 0 on; neurons beyond them are ignored.

    **Returns:** the sums, shape `(..., len(partitions))`, in the unit of the values.

    **Raises:** `ValueError` for partitions without a neuron, or of more than n neurons.

    **Example:**

    ```python
    print(eqb.metrics.partition_sums(jnp.asarray([1.0, 2.0, 4.0, 8.0, 16.0]), (2, 2)))
    # > [ 3. 12.]
    ```
    """
    if not 0 < sum(partitions) <= values.shape[-1]:
        must = f"hold between 1 and {values.shape[-1]} neurons"
        _checks.fail("partitions", must, f"is {partitions}")
    # A product with a one-hot matrix would run in TF32 on a GPU.
    ends = itertools.pairwise(np.cumsum((0, *partitions)).tolist())
    return jnp.stack([values[..., low:high].sum(axis=-1) for low, high in ends], axis=-1)


def competing(samples: Samples) -> tuple[Samples, tuple[int, ...]]:
    """The stable samples, and the sizes of the at least two partitions that compete in them."""
    sizes = samples.partitions
    if len(sizes) < 2:
        _checks.fail("samples", "be of a network with two partitions", f"has {len(sizes)}")
    return of_neurons(samples), sizes


def of_neurons(samples: Samples) -> Samples:
    """The stable samples of a network whose partitions are groups of neurons, to which inputs and
    rates both belong."""
    if getattr(samples.network, "readout", None) is not None:
        must = "be of a network without a readout, whose partitions are neurons with inputs"
        _checks.fail("samples", must, "has one")
    return require_stable("samples", samples)


def winner(
    rates: Float[Array, "... n"], partitions: tuple[int, ...], threshold: float = 0.0
) -> Int[Array, "..."]:
    """Index of the partition with the largest summed rate; -1 where none is above `threshold`.

    **Arguments:**

    - `rates`: shape `(..., n)`.
    - `partitions`: sizes of the partitions, from neuron 0 on.
    - `threshold`: lower limit of a winner's sum, in the unit of the rates.

    **Returns:** the indices, shape `(...)`; of equal sums the first.

    **Raises:** as `partition_sums`.

    **Example:**

    ```python
    rates = jnp.asarray([[2.0, 0.0, 1.0, 0.5, 3.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    print(eqb.metrics.winner(rates, (2, 2)))
    # > [ 0 -1]
    ```
    """
    sums = partition_sums(rates, partitions)
    return jnp.where(jnp.max(sums, axis=-1) > threshold, jnp.argmax(sums, axis=-1), -1)


def winner_agreement(
    output: Float[Array, "m n"], target: Float[Array, "m n"], partitions: tuple[int, ...]
) -> Float[Array, ""]:
    """Share of inputs for which both networks have the same winner, among the inputs for which the
    recurrent network (`target`) has a winner; NaN if it never has one.

    **Arguments:**

    - `output`: the approximation's output, shape `(m, n)`.
    - `target`: the rates at the recurrent network's fixed points, shape `(m, n)`.
    - `partitions`: sizes of the partitions, from neuron 0 on.

    **Returns:** the share, between 0 and 1. A silent approximation has no winner, and does not
    agree.

    **Raises:** as `partition_sums`.

    **Example:**

    ```python
    target = jnp.asarray([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    output = jnp.asarray([[1.0, 0.5], [2.0, 1.0], [0.0, 1.0]])
    print(eqb.metrics.winner_agreement(output, target, (1, 1)))  # of two inputs with a winner, one
    # > 0.5
    ```
    """
    return _same_leader(output, target, winner(target, partitions) >= 0, partitions)


def switch_point(
    output: Float[Array, "m n"], mixture: Float[Array, " m"], partitions: tuple[int, ...]
) -> Float[Array, ""]:
    """Mixture at which the winner along the mixture line changes from A to B.

    The difference of the two partition sums, interpolated linearly between the points of the line,
    changes sign there. The result is the mixture nearest to one half if there are several, and NaN
    without a change of sign.

    **Arguments:**

    - `output`: a network's rates for the inputs of `mixture_line`, shape `(m, n)`.
    - `mixture`: shape `(m,)`, rising.
    - `partitions`: sizes of the partitions, from neuron 0 on; the first two are A and B.

    **Returns:** the mixture, a scalar.

    **Raises:** as `partition_sums`.

    Muir (2018), doi:10.1162/neco_a_01042, Fig. 2b.

    **Example:**

    ```python
    mixture = jnp.linspace(0, 1, 11)
    line = eqb.mixture_line((2, 2), 5, mixture)
    biased = line * jnp.asarray([1.0, 1.0, 3.0, 3.0, 0.0])
    print(f"{eqb.metrics.switch_point(line, mixture, (2, 2)):.2f}")
    # > 0.50
    print(f"{eqb.metrics.switch_point(biased, mixture, (2, 2)):.2f}")
    # > 0.25
    ```
    """
    sums = partition_sums(output, partitions)
    lead = sums[:, 0] - sums[:, 1]
    changes = (lead[:-1] > 0) & (lead[1:] <= 0)
    step = mixture[1:] - mixture[:-1]
    crossing = mixture[:-1] + step * lead[:-1] / (lead[:-1] - lead[1:])
    distance = jnp.where(changes, jnp.abs(crossing - 0.5), jnp.inf)
    return jnp.where(jnp.any(changes), crossing[jnp.argmin(distance)], jnp.nan)


def least_squares(x: Float[Array, "m k"], y: Float[Array, "m *n"]) -> Float[Array, "k *n"]:
    """The linear map from x to y with the least squared error. The cutoff of singular values is at
    rounding whatever the number of rows; JAX's default grows with it."""
    return jnp.linalg.lstsq(x, y, rcond=10 * float(jnp.finfo(x.dtype).eps))[0]


class Evaluation(eqx.Module):
    """Metrics of an approximation on a held-out set.

    - `normalised_error`: over all neurons, see `normalised_error`.
    - `neuron_error`: the normalised error of each neuron, shape `(n,)`.
    - `winner_agreement`: see `winner_agreement`; NaN without partitions.
    - `winner_rectified`, `winner_raw`: among the same inputs, the share for which the
      approximation's winner is the partition with the largest sum of rectified, or raw, inputs to
      its neurons; NaN with a readout, whose outputs have no inputs of their own.
    - `switch`: see `switch_point`; NaN with fewer than two partitions, and where `input_weights` or
      a readout leave no input to one partition alone.
    - `num_inputs`: size of the held-out set.
    - `standard_error`: an `Evaluation` of the standard errors, by `jackknife`; the switch does not
      depend on the held-out set, and has the error 0.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    score = eqb.evaluate(model, samples)
    print(score.num_inputs, score.neuron_error.shape)
    # > 4096 (5,)
    print(score.standard_error.winner_agreement < 0.02)
    # > True
    ```
    """

    normalised_error: Float[Array, ""]
    neuron_error: Float[Array, " n"]
    winner_agreement: Float[Array, ""]
    winner_rectified: Float[Array, ""]
    winner_raw: Float[Array, ""]
    switch: Float[Array, ""]
    num_inputs: int
    standard_error: Any = None

    def describe(self) -> str:
        """The numbers that are there, a line for each."""
        lines = [
            f"test inputs        {self.num_inputs}",
            f"normalised error   {float(self.normalised_error):.4f}",
        ]
        if not np.isnan(float(self.winner_agreement)):
            lines.append(f"winner agreement   {float(self.winner_agreement):.4f}")
        if not np.isnan(float(self.switch)):
            lines.append(f"switch             {float(self.switch):.4f}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()


def evaluate(model, samples: Samples) -> Evaluation:
    """Compare a model with the recurrent network's stable fixed points.

    **Arguments:**

    - `model`: function from one input, of shape `(n,)`, to one output.
    - `samples`: the held-out set. Winners and the switch are NaN if its network has no partitions.

    **Returns:** an `Evaluation`.

    **Raises:** `ValueError` if no sample is stable.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    score = eqb.evaluate(model, samples)
    print(score.normalised_error < 0.3, score.winner_agreement > 0.7)
    # > True True
    ```
    """
    samples = require_stable("samples", samples)
    inputs, targets = samples.inputs, samples.rates
    check_fit(model, inputs, targets)
    output = forward(model, inputs)
    partitions, network = samples.partitions, samples.network
    switch = jnp.asarray(jnp.nan, output.dtype)
    apart = getattr(network, "readout", None) is None
    if len(partitions) >= 2 and apart and getattr(network, "input_weights", None) is None:
        mixture = jnp.linspace(0, 1, 1001, dtype=inputs.dtype)
        line = mixture_line(partitions, inputs.shape[1], mixture)
        switch = switch_point(forward(model, line), mixture, partitions)

    def measure(received, targets, output):
        received = received if apart else None
        error, per_neuron, agreement, rectified, raw = _errors(
            received, targets, output, partitions
        )
        return Evaluation(error, per_neuron, agreement, rectified, raw, switch, len(targets))

    value, error = jackknife(measure, samples.received, targets, output)
    error = eqx.tree_at(lambda e: e.num_inputs, error, value.num_inputs)
    return eqx.tree_at(lambda e: e.standard_error, value, error, is_leaf=lambda leaf: leaf is None)


@partial(jax.jit, static_argnums=3)
def _errors(received, targets, output, partitions: tuple[int, ...]):
    per_neuron = jax.vmap(lambda y, r: normalised_error(y[:, None], r[:, None]), in_axes=1)
    shares = [jnp.asarray(jnp.nan, output.dtype)] * 3
    if partitions:
        wins = winner(targets, partitions) >= 0
        others = [] if received is None else [jax.nn.relu(received), received]
        for k, values in enumerate([targets, *others]):
            shares[k] = _same_leader(output, values, wins, partitions)
    return normalised_error(output, targets), per_neuron(output, targets), *shares


def _same_leader(output, values, rows: Bool[Array, " m"], partitions) -> Float[Array, ""]:
    """Share of the rows in which both have their largest sum at the same partition, and the
    output's sum is positive."""
    ours, theirs = (partition_sums(a, partitions) for a in (output, values))
    same = jnp.argmax(ours, axis=-1) == jnp.argmax(theirs, axis=-1)
    return jnp.sum(same & (jnp.max(ours, axis=-1) > 0) & rows) / jnp.sum(rows)


def active_partitions(
    rates: Float[Array, "... n"], partitions: tuple[int, ...]
) -> Bool[Array, "... groups"]:
    """Whether each partition has an active neuron."""
    return partition_sums(rates, partitions) > 0


def competition(samples: Samples, model: Any = None) -> dict[str, float]:
    r"""Measure the competition in the recurrent network's stable fixed points, or a model's output.

    With $s_p$ the summed input to partition p, $R_p$ its summed rate, w the winner and l the runner
    up, the winner's response is fitted by least squares over the inputs with a winner,

    $$R_w \approx g s_w + h \sum_{p \ne w} s_p + \sum_j k_j i_j + c,$$

    where j runs over the neurons outside all partitions.

    **Arguments:**

    - `samples`: samples of a network with partitions; the stable samples are used.
    - `model`: the approximation; the recurrent network itself if absent.

    **Returns:** dimensionless numbers by name:

    - `one_active`, `none_active`, `several_active`: shares by number of active partitions;
    - `partly_active`: share in which some but not all neurons of a partition are active, averaged
      over partitions;
    - `rectified_sum`, `raw_sum`: among inputs with a winner, the share in which the winner is the
      partition with the largest sum of rectified, or raw, inputs;
    - `suppression`: $1 - \sum R_l / \sum R_w$ over the inputs with a winner: 1 where the runner
      up is silent, 0 where it equals the winner;
    - `gain`: g;
    - `linearity`: $1 - \sum (R_w - \hat R_w)^2 / \sum (R_w - \bar R_w)^2$ of the fit.

    **Raises:** `ValueError` for a network without partitions or with a readout, or if no sample is
    stable.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    shares = eqb.metrics.competition(samples)
    print(f"{shares['one_active']:.1f} {shares['several_active']:.1f} {shares['suppression']:.1f}")
    # > 0.8 0.0 1.0
    ```
    """
    samples = of_neurons(samples)
    rates = samples.rates if model is None else forward(model, samples.inputs)
    figures = _competition(samples.received, rates, samples.partitions)
    return {name: float(value) for name, value in figures.items()}


@partial(jax.jit, static_argnums=2)
def _competition(inputs, rates, sizes: tuple[int, ...]) -> dict[str, Float[Array, ""]]:
    active = active_partitions(rates, sizes)
    number = jnp.sum(active, axis=-1)
    units = partition_sums((rates > 0).astype(rates.dtype), sizes)
    partly = (units > 0) & (units < jnp.asarray(sizes))
    won = winner(rates, sizes)
    has = won >= 0
    sums, outputs = partition_sums(inputs, sizes), partition_sums(rates, sizes)
    ordered = jnp.sort(outputs, axis=-1)
    second = ordered[:, -2] if len(sizes) > 1 else jnp.zeros_like(ordered[:, -1])

    def agrees(values):
        return jnp.sum((jnp.argmax(partition_sums(values, sizes), axis=-1) == won) & has)

    def total(values):
        return jnp.sum(jnp.where(has, values, 0))

    rate = ordered[:, -1]
    own = jnp.take_along_axis(sums, won[:, None].clip(0), axis=1)[:, 0]
    ones = jnp.ones_like(own)
    columns = [own, jnp.sum(sums, axis=-1) - own, ones] if len(sizes) > 1 else [own, ones]
    regressors = jnp.concatenate([jnp.stack(columns, axis=1), inputs[:, sum(sizes) :]], axis=1)
    regressors = jnp.where(has[:, None], regressors, 0)
    fit = least_squares(regressors, jnp.where(has, rate, 0))
    rest = total(jnp.square(rate - regressors @ fit))
    spread = total(jnp.square(rate - total(rate) / jnp.sum(has)))
    return {
        "one_active": jnp.mean(number == 1),
        "none_active": jnp.mean(number == 0),
        "several_active": jnp.mean(number > 1),
        "partly_active": jnp.mean(partly),
        "rectified_sum": agrees(jax.nn.relu(inputs)) / jnp.sum(has),
        "raw_sum": agrees(inputs) / jnp.sum(has),
        "suppression": 1 - total(second) / total(rate),
        "gain": fit[0],
        "linearity": 1 - rest / spread,
    }
