"""`distill`: from a recurrent network to a feed-forward one, in one call."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .. import _checks
from .._types import Vector
from ..fixed_points import Flow, Outcome
from ..networks import RateNetwork
from ..sampling import AbstractInputs, Samples, UniformCube, sample_fixed_points, split
from ._feedforward import FeedForward
from ._metrics import Evaluation, evaluate, normalised_error
from ._train import fit


class Approximation(eqx.Module):
    """A feed-forward network that stands in for a recurrent one.

    - `network`: the recurrent network.
    - `model`: the best `FeedForward` by validation; calling the approximation calls it.
    - `evaluation`: on the test split, which neither training nor choice has seen.
    - `validation_errors`: normalised error of each restart, shape `(restarts,)`.
    - `losses`: of each restart and step, shape `(restarts, steps)`.
    - `drawn`, `counts`: the inputs settled for it, and how they ended.
    """

    network: RateNetwork
    model: FeedForward
    evaluation: Evaluation
    validation_errors: Float[Array, " restarts"]
    losses: Float[Array, "restarts steps"]
    drawn: int
    counts: dict[Outcome, int]

    def __call__(self, i: Vector) -> Vector:
        """The approximation's output for one input."""
        return self.model(i)


def distill(
    network: RateNetwork,
    inputs: AbstractInputs | None = None,
    *,
    key: Array,
    n_draws: int = 150_000,
    hidden: int | None = None,
    restarts: int = 16,
    steps: int = 6000,
    batch_size: int = 256,
    optimizer: optax.GradientTransformation | None = None,
    method: Flow | None = None,
    progress: bool = False,
) -> Approximation:
    """Sample fixed points, train several feed-forward networks, keep and test the best.

    **Arguments:**

    - `network`: what to approximate.
    - `inputs`: the distribution of inputs; `UniformCube(-1, 1)` if absent.
    - `key`: PRNG key.
    - `n_draws`: inputs to settle, at least 10. One third is the test split; of the rest,
      a tenth is the validation split.
    - `hidden`: hidden units; as many as the network has neurons if absent.
    - `restarts`: how many networks are trained, from different initial weights, on the
      same batches; the one with the least error on the validation split is kept.
    - `steps`, `batch_size`, `optimizer`: as for `train`; if absent, the optimiser is Adam
      with a rate that falls from 0.01 to 0 along half a cosine.
    - `method`: how to settle, as for `find_fixed_points`.
    - `progress`: show a progress bar while settling.

    **Returns:** an `Approximation`.

    **Raises:** `ValueError` if no input has a stable fixed point (with the counts), or for
    arguments out of range.
    """
    if not isinstance(network, RateNetwork):
        _checks.fail("network", "be a RateNetwork", f"is {network!r}", TypeError)
    n_draws = _checks.integer("n_draws", n_draws, minimum=10)
    for name, value in (("restarts", restarts), ("steps", steps), ("batch_size", batch_size)):
        _checks.integer(name, value)
    inputs = UniformCube(-1.0, 1.0) if inputs is None else inputs
    key_sample, key_train = jax.random.split(_checks.key(key))
    samples = sample_fixed_points(
        network, inputs, n_draws, key=key_sample, method=method, progress=progress
    )
    training, validation, test = three_splits(samples)
    models, losses, errors = train_restarts(
        network.num_neurons, hidden, training, validation,
        restarts=restarts, steps=steps, batch_size=batch_size, optimizer=optimizer, key=key_train,
    )  # fmt: skip
    best = jnp.argmin(errors)
    model = jax.tree.map(lambda leaf: leaf[best], models)
    evaluation = evaluate(model, test, network.partitions)
    return Approximation(
        network, model, evaluation, errors, losses, samples.drawn, samples.counts
    )


def three_splits(samples: Samples) -> list[Samples]:
    """Training, validation and test: 60, 7 and 33 % of the stable samples."""
    m = len(samples)
    if m < 10:
        must = "have a stable fixed point for at least 10 of the inputs drawn"
        _checks.fail("network", must, f"has {samples.describe()}")
    test = m // 3
    validation = (m - test) // 10
    return split(samples, (m - test - validation, validation, test))


def train_restarts(
    n: int,
    hidden: int | None,
    training: Samples,
    validation: Samples,
    *,
    restarts: int,
    steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation | None,
    key: Array,
) -> tuple[FeedForward, Float[Array, "restarts steps"], Float[Array, " restarts"]]:
    """Models stacked along a first axis, their losses, and their validation errors."""
    hidden = n if hidden is None else _checks.integer("hidden", hidden)
    if optimizer is None:
        optimizer = optax.adam(optax.cosine_decay_schedule(0.01, steps))
    key_batches, key_models = jax.random.split(key)
    keys = jax.random.split(key_models, restarts)
    dtype = training.inputs.dtype

    @eqx.filter_jit
    def run(keys, key_batches, training, validation):
        def one(key):
            model = FeedForward(n, hidden, n, key=key, dtype=dtype)
            done = fit(model, *training, optimizer, steps, batch_size, key_batches)
            output = jax.vmap(done.model)(validation[0])
            return done.model, done.losses, normalised_error(output, validation[1])

        return jax.vmap(one)(keys)

    pairs = [(part.inputs, part.rates) for part in (training, validation)]
    return run(keys, key_batches, *pairs)
