r"""How well one network stands in for another. Each metric is its formula."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from ..sampling import Samples, mixture_line
from ._batches import as_pairs
from ._feedforward import FeedForward
from ._train import check_fit


def normalised_error(output: Float[Array, "m n"], target: Float[Array, "m n"]) -> Float[Array, ""]:
    r"""$\sum |y - r|^2 / \sum |r - \bar r|^2$ over a held-out set, the mean being per neuron.

    0 is perfect; 1 is what answering the mean of the targets scores.
    """
    spread = jnp.sum(jnp.square(target - jnp.mean(target, axis=0)))
    return jnp.sum(jnp.square(output - target)) / spread


def partition_sums(
    values: Float[Array, "... n"], partitions: tuple[int, ...]
) -> Float[Array, "... groups"]:
    """Sum over each partition, partitions being listed from neuron 0 on."""
    if not 0 < sum(partitions) <= values.shape[-1]:
        must = f"hold between 1 and {values.shape[-1]} neurons"
        _checks.fail("partitions", must, f"is {partitions}")
    # Sums, not a product with a one-hot matrix: that would run in TF32 on a GPU.
    ends = itertools.pairwise(np.cumsum((0, *partitions)).tolist())
    return jnp.stack([values[..., low:high].sum(axis=-1) for low, high in ends], axis=-1)


def winner(
    rates: Float[Array, "... n"], partitions: tuple[int, ...], threshold: float = 0.0
) -> Int[Array, "..."]:
    """Index of the partition with the largest summed rate; -1 where none is above `threshold`."""
    sums = partition_sums(rates, partitions)
    return jnp.where(jnp.max(sums, axis=-1) > threshold, jnp.argmax(sums, axis=-1), -1)


def winner_agreement(
    output: Float[Array, "m n"], target: Float[Array, "m n"], partitions: tuple[int, ...]
) -> Float[Array, ""]:
    """Among inputs for which the recurrent network (`target`) has a winner, the share for
    which the approximation's larger partition sum is the same one; NaN if it never has one.
    """
    recurrent = winner(target, partitions)
    sums = partition_sums(output, partitions)
    # Where the approximation leaves both partitions silent it names no winner.
    same = (jnp.argmax(sums, axis=-1) == recurrent) & (jnp.max(sums, axis=-1) > 0)
    has_winner = recurrent >= 0
    return jnp.sum(same & has_winner) / jnp.sum(has_winner)


def switch_point(
    output: Float[Array, "m n"], mixture: Float[Array, " m"], partitions: tuple[int, ...]
) -> Float[Array, ""]:
    """Mixture at which the winner along the mixture line changes from A to B.

    It is where the difference of the two partition sums, linear between the points of the
    line, changes sign, the crossing nearest to one half if there are several; NaN if none.
    """
    sums = partition_sums(output, partitions)
    lead = sums[:, 0] - sums[:, 1]
    changes = (lead[:-1] > 0) & (lead[1:] <= 0)
    step = mixture[1:] - mixture[:-1]
    crossing = mixture[:-1] + step * lead[:-1] / (lead[:-1] - lead[1:])
    distance = jnp.where(changes, jnp.abs(crossing - 0.5), jnp.inf)
    return jnp.where(jnp.any(changes), crossing[jnp.argmin(distance)], jnp.nan)


class Evaluation(eqx.Module):
    """An approximation on a held-out set.

    - `normalised_error`: over all neurons, see `normalised_error`.
    - `neuron_error`: the same for each neuron, shape `(n,)`.
    - `winner_agreement`: see `winner_agreement`; NaN without partitions.
    - `switch`: see `switch_point`; NaN without two partitions.
    - `num_inputs`: size of the held-out set.
    """

    normalised_error: Float[Array, ""]
    neuron_error: Float[Array, " n"]
    winner_agreement: Float[Array, ""]
    switch: Float[Array, ""]
    num_inputs: int


def evaluate(model, samples: Samples) -> Evaluation:
    """Compare a model with the recurrent network's stable fixed points.

    **Arguments:**

    - `model`: maps one input of shape `(n,)` to one output.
    - `samples`: the held-out set. Without partitions in its network, the winner and the
      switch are not defined.

    **Returns:** an `Evaluation`.

    **Raises:** `ValueError` if no sample is stable.
    """
    inputs, targets = as_pairs(samples)
    check_fit(model, inputs, targets)
    output = forward(model, inputs)
    partitions = samples.partitions
    nan = jnp.asarray(jnp.nan, output.dtype)
    agreement, switch = nan, nan
    if partitions:
        agreement = winner_agreement(output, targets, partitions)
    if len(partitions) >= 2:
        mixture = jnp.linspace(0, 1, 1001, dtype=inputs.dtype)
        line = mixture_line(partitions, inputs.shape[1], mixture)
        switch = switch_point(forward(model, line), mixture, partitions)
    per_neuron = jax.vmap(lambda y, r: normalised_error(y[:, None], r[:, None]), in_axes=1)
    return Evaluation(
        normalised_error(output, targets), per_neuron(output, targets), agreement, switch,
        len(inputs),
    )  # fmt: skip


@eqx.filter_jit
def forward(model, inputs: Float[Array, "m n"]) -> Float[Array, "m out"]:
    """The model on a batch."""
    return model.batch(inputs) if isinstance(model, FeedForward) else jax.vmap(model)(inputs)


def active_partitions(
    rates: Float[Array, "... n"], partitions: tuple[int, ...]
) -> Bool[Array, "... groups"]:
    """Which partitions have any neuron active."""
    return partition_sums(rates, partitions) > 0


def competition(samples: Samples) -> dict[str, float]:
    """The recurrent network's own competition, as shares of its stable fixed points.

    - `one_active`, `none_active`, `several_active`: shares by number of active partitions;
    - `partly_active`: share in which some but not all neurons of a given partition are
      active, the mean over partitions;
    - `rectified_sum`, `raw_sum`: among inputs with a winner, the share in which it is the
      partition with the largest sum of rectified, or raw, inputs.
    """
    sizes = samples.partitions
    inputs, rates = samples.inputs, samples.rates
    active = active_partitions(rates, sizes)
    number = jnp.sum(active, axis=-1)
    units = partition_sums((rates > 0).astype(rates.dtype), sizes)
    partly = (units > 0) & (units < jnp.asarray(sizes))
    won = winner(rates, sizes)
    has = won >= 0

    def agrees(values):
        return jnp.sum((jnp.argmax(partition_sums(values, sizes), axis=-1) == won) & has)

    figures = {
        "one_active": jnp.mean(number == 1),
        "none_active": jnp.mean(number == 0),
        "several_active": jnp.mean(number > 1),
        "partly_active": jnp.mean(partly),
        "rectified_sum": agrees(jax.nn.relu(inputs)) / jnp.sum(has),
        "raw_sum": agrees(inputs) / jnp.sum(has),
    }
    return {name: float(value) for name, value in figures.items()}
