"""`distill`: from a recurrent network to a feed-forward one, in one call."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .. import _checks
from .._progress import progress_meter
from .._types import Vector
from ..fixed_points import Flow, Outcome
from ..networks import AbstractDynamics, RateNetwork
from ..sampling import AbstractInputs, Samples, UniformCube, sample_fixed_points, split
from ._feedforward import FeedForward
from ._metrics import Evaluation, evaluate, normalised_error, winner_agreement
from ._train import fit
from ._verified import Verified, verified


class Approximation(eqx.Module):
    """A feed-forward network that stands in for a recurrent one.

    - `network`: the recurrent network.
    - `model`: the best `FeedForward` by validation; calling the approximation calls it.
    - `evaluation`: on the test split, which neither training nor choice has seen.
    - `validation_errors`: normalised error of each restart, shape `(restarts,)`.
    - `losses`: of each restart and step, shape `(restarts, steps)`.
    - `drawn`, `counts`: the inputs settled for it, and how they ended.
    """

    network: AbstractDynamics
    model: FeedForward
    evaluation: Evaluation
    validation_errors: Float[Array, " restarts"]
    losses: Float[Array, "restarts steps"]
    drawn: int
    counts: dict[Outcome, int]

    def __call__(self, i: Vector) -> Vector:
        """The approximation's output for one input."""
        return self.model(i)

    def verified(self, inputs: Float[Array, "m n"], *, method: Flow | None = None) -> Verified:
        """Answers that are fixed points of the recurrent network, exact to rounding.

        The feed-forward network proposes the active set of each row: the units that it leaves
        active. That set has one candidate fixed point, by one linear solve. Where the point lies in
        its own chamber and its Jacobian is Hurwitz, it is a stable fixed point. All other rows
        fall back to their trajectory.

        **In a multistable network a verified point is a stable fixed point, but not proven to be
        the one that the trajectory reaches.** Each row says whether it was verified.

        **Arguments:**

        - `inputs`: shape `(m, n)`.
        - `method`: how the others are settled, as for `find_fixed_points`.

        **Returns:** a `Verified`.

        **Raises:** `ValueError` for a network that is not threshold-linear, and inside `jax.jit`.
        """
        return verified(self.network, self.model, inputs, method)


def distill(
    network: RateNetwork,
    inputs: AbstractInputs | None = None,
    *,
    key: Array,
    n_draws: int = 50_000,
    n_test: int = 50_000,
    hidden: int | None = None,
    restarts: int = 48,
    steps: int = 8000,
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
    - `n_draws`: inputs to settle for training and validation, at least 20; a fifth of
      the stable ones is the validation split.
    - `n_test`: inputs to settle for the test split, at least 10.
    - `hidden`, `restarts`, `steps`, `batch_size`, `optimizer`: as for `approximate`.
    - `method`: how to settle, as for `find_fixed_points`.
    - `progress`: show progress bars, unless the standard error is not a terminal.

    **Returns:** an `Approximation`.

    **Raises:** `ValueError` if hardly any input has a stable fixed point (with the counts),
    or for arguments out of range.
    """
    n_draws = _checks.integer("n_draws", n_draws, minimum=20)
    n_test = _checks.integer("n_test", n_test, minimum=10)
    # Before the inputs are settled, which takes longer than a mistake should.
    _check_plan(hidden, restarts, steps, batch_size)
    inputs = UniformCube(-1.0, 1.0) if inputs is None else inputs
    key_sample, key_train = jax.random.split(_checks.key(key))
    samples = sample_fixed_points(
        network, inputs, n_draws + n_test, key=key_sample, method=method, progress=progress
    )
    return approximate(
        samples, test_share=n_test / (n_draws + n_test), key=key_train, hidden=hidden,
        restarts=restarts, steps=steps, batch_size=batch_size, optimizer=optimizer,
        progress=progress,
    )  # fmt: skip


CLOSE = 1.03
"""Restarts within this factor of the least error are told apart by their winners."""


def approximate(
    samples: Samples,
    *,
    key: Array,
    test_share: float = 0.5,
    hidden: int | None = None,
    restarts: int = 48,
    steps: int = 8000,
    batch_size: int = 256,
    optimizer: optax.GradientTransformation | None = None,
    progress: bool = False,
) -> Approximation:
    r"""`distill` from samples that are there already.

    Restarts differ in their initial weights and see the same batches. Kept is the one
    with the least normalised error on the validation split or, for a network with
    partitions, the one with the best winner agreement among those whose error is within
    3 % of the least: optima of nearly the same error differ in how well they keep the
    competition (5-5-5 on the reference network: error 0.0814 with agreement 0.847, error
    0.0820 with agreement 0.865).

    **Arguments:**

    - `samples`: of stable fixed points, as `sample_fixed_points` returns them.
    - `key`: PRNG key of initial weights and batches.
    - `test_share`: share of the pairs, the last ones, that is the test split; of the
      others, a fifth is the validation split.
    - `hidden`: hidden units; as many as the network has neurons if absent.
    - `restarts`: how many networks are trained.
    - `steps`, `batch_size`, `optimizer`: as for `train`; if absent, the optimiser is Adam
      with a rate that rises to 0.01 in 5 % of the steps and falls to 0 on half a cosine.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** an `Approximation`.

    **Raises:** `ValueError` for too few stable pairs (with the counts), or arguments out of
    range.
    """
    if not isinstance(samples, Samples):
        _checks.fail("samples", "be Samples", f"is {type(samples).__name__}", TypeError)
    hidden = samples.network.num_neurons if hidden is None else hidden
    _check_plan(hidden, restarts, steps, batch_size)
    test_share = _checks.number("test_share", test_share, above=0.0, below=1.0)
    optimizer = cosine_adam(steps) if optimizer is None else optimizer
    samples = samples.only_stable()
    m = len(samples)
    num_test = round(test_share * m)
    num_validation = (m - num_test) // 5
    if min(num_test, num_validation) < 1:
        must = "hold enough stable fixed points to split in three"
        _checks.fail("samples", must, f"holds {samples.describe()}")
    sizes = (m - num_test - num_validation, num_validation, num_test)
    training, validation, test = split(samples, sizes)
    key_batches, key_models = jax.random.split(_checks.key(key))
    model, losses, errors = _best_of(
        jax.random.split(key_models, restarts),
        key_batches,
        (training.inputs, training.rates),
        (validation.inputs, validation.rates),
        samples.partitions,
        hidden,
        optimizer,
        steps,
        batch_size,
        progress_meter(steps, progress),
    )
    evaluation = evaluate(model, test)
    return Approximation(
        samples.network, model, evaluation, errors, losses, samples.drawn, samples.counts
    )


@functools.cache
def cosine_adam(steps: int) -> optax.GradientTransformation:
    """Adam whose rate rises to 0.01 in 5 % of the steps and falls to 0 on half a cosine."""
    rise = max(1, steps // 20)
    rate = optax.warmup_cosine_decay_schedule(0.01 / rise, 0.01, rise, max(2, steps))
    return optax.adam(rate)


@eqx.filter_jit
def _best_of(
    keys, key_batches, training, validation, partitions, hidden, optimizer, steps, batch_size, meter
):
    """Train one network from each key; the best model, all losses, all validation errors."""
    (inputs, targets), n = training, training[0].shape[1]
    meter_state = meter.init()

    def one(key):
        model = FeedForward(n, hidden, n, key=key, dtype=inputs.dtype)
        run, state = fit(
            model, inputs, targets, optimizer, steps, batch_size, key_batches, meter, meter_state
        )
        output = jax.vmap(run.model)(validation[0])
        error = normalised_error(output, validation[1])
        agreement = jnp.ones_like(error)
        if partitions:
            agreement = jnp.nan_to_num(winner_agreement(output, validation[1], partitions))
        return run.model, run.losses, error, agreement, state

    out_axes = (0, 0, 0, 0, None)
    models, losses, errors, agreements, meter_state = jax.vmap(one, out_axes=out_axes)(keys)
    meter.close(meter_state)
    close = errors <= CLOSE * jnp.nanmin(errors)
    best = jnp.lexsort((errors, jnp.where(close, -agreements, jnp.inf)))[0]
    return jax.tree.map(lambda leaf: leaf[best], models), losses, errors


def _check_plan(hidden: int | None, restarts: int, steps: int, batch_size: int) -> None:
    plan = {"restarts": restarts, "steps": steps, "batch_size": batch_size}
    for name, value in plan.items() if hidden is None else {"hidden": hidden, **plan}.items():
        _checks.integer(name, value)
