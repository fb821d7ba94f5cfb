"""`distill`: from a recurrent network to a feed-forward one, in one call."""

import jax
import optax
from jaxtyping import Array, Float

from .. import _checks
from ..fixed_points import Flow
from ..networks import AbstractDynamics, with_maps
from ..sampling import (
    AbstractInputs,
    Samples,
    SampleStore,
    UniformCube,
    sample_fixed_points,
    split,
)
from ._approximation import Approximation
from ._metrics import evaluate
from ._train_many import OptimizerOf, train_many


def distill(
    network: AbstractDynamics,
    inputs: AbstractInputs | None = None,
    *,
    key: Array,
    n_draws: int = 50_000,
    n_test: int = 50_000,
    hidden: int | None = None,
    restarts: int = 48,
    steps: int = 8000,
    batch_size: int = 256,
    optimizer: OptimizerOf | optax.GradientTransformation | None = None,
    method: Flow | None = None,
    input_weights: Float[Array, "n k"] | None = None,
    readout: Float[Array, "outputs n"] | None = None,
    progress: bool = False,
) -> Approximation:
    """Sample fixed points, train several feed-forward networks, and test the best.

    **Arguments:**

    - `network`: the network to approximate: a `RateNetwork`, other dynamics, or a map.
    - `inputs`: the distribution of inputs; `UniformCube(-1, 1)` if absent.
    - `key`: PRNG key.
    - `n_draws`: number of inputs settled for training and validation, at least 20; a fifth of
      those with a stable fixed point is the validation split.
    - `n_test`: number of inputs settled for the test split, at least 10.
    - `hidden`, `restarts`, `steps`, `batch_size`, `optimizer`: as for `approximate`.
    - `method`: the `Flow`, as for `find_fixed_points`.
    - `input_weights`, `readout`: drive and read a `RateNetwork` in a few dimensions; they replace
      its own.
    - `progress`: show progress bars, unless the standard error is not a terminal.

    **Returns:** an `Approximation`.

    **Raises:** `ValueError` if too few inputs have a stable fixed point (with the counts), or for
    arguments out of range.

    **Example:**

    ```python
    apx = eqb.distill(
        eqb.partitioned(), hidden=16, restarts=2, steps=1000, n_draws=2048, n_test=2048,
        key=jax.random.key(0),
    )
    print(apx.evaluation.winner_agreement > 0.7)
    # > True
    ```
    """
    n_draws = _checks.integer("n_draws", n_draws, minimum=20)
    n_test = _checks.integer("n_test", n_test, minimum=10)
    # Check all arguments before the inputs are settled, which can take minutes.
    _check_plan(hidden, restarts, steps, batch_size)
    network = with_maps("network", network, input_weights=input_weights, readout=readout)
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


def approximate(
    samples: Samples,
    *,
    key: Array,
    test_share: float = 0.5,
    hidden: int | None = None,
    restarts: int = 48,
    steps: int = 8000,
    batch_size: int = 256,
    optimizer: OptimizerOf | optax.GradientTransformation | None = None,
    progress: bool = False,
) -> Approximation:
    r"""As `distill`, from samples that have been drawn already.

    The samples are split in three. `train_many` trains the restarts on the training split and
    chooses the best by the validation split; the test split evaluates it.

    **Arguments:**

    - `samples`: `Samples`, as `sample_fixed_points` returns them; the stable samples are used.
    - `key`: PRNG key of initial weights and batches.
    - `test_share`: share of the pairs that is the test split, at the end of the samples; a fifth
      of the other pairs is the validation split.
    - `hidden`: number of hidden units; the network's number of neurons if absent.
    - `restarts`: number of networks trained.
    - `steps`, `batch_size`, `optimizer`: as for `train_many`; if absent, the optimiser is Adam
      with warmup to a rate of 0.01, for 5 % of the steps, and cosine decay to 0.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** an `Approximation`.

    **Raises:** `ValueError` for too few stable pairs (with the counts), or arguments out of
    range.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    apx = eqb.approximate(samples, hidden=16, restarts=2, steps=1000, key=jax.random.key(1))
    print(apx.evaluation.winner_agreement > 0.7)
    # > True
    ```
    """
    if not isinstance(samples, Samples):
        must = "be Samples, as sample_fixed_points returns them"
        but = f"is {type(samples).__name__}"
        if isinstance(samples, SampleStore):
            but += "; `train` and `train_many` take it, and `store[:]` holds its rows in memory"
        _checks.fail("samples", must, but, TypeError)
    hidden = samples.network.num_neurons if hidden is None else hidden
    _check_plan(hidden, restarts, steps, batch_size)
    test_share = _checks.number("test_share", test_share, above=0.0, below=1.0)
    samples = samples.only_stable()
    m = len(samples)
    num_test = round(test_share * m)
    num_validation = (m - num_test) // 5
    if min(num_test, num_validation) < 1:
        must = "hold enough stable fixed points to split in three"
        _checks.fail("samples", must, f"holds {samples.describe()}")
    sizes = (m - num_test - num_validation, num_validation, num_test)
    training, validation, test = split(samples, sizes)
    runs = train_many(
        training, hidden=hidden, restarts=restarts, optimizer=optimizer, steps=steps,
        batch_size=batch_size, key=key, validation=validation, progress=progress,
    )  # fmt: skip
    evaluation = evaluate(runs.model, test)
    return Approximation(
        samples.network, runs.model, evaluation, runs.errors, runs.losses, runs.dead_units,
        samples.drawn, samples.counts,
    )  # fmt: skip


def _check_plan(hidden: int | None, restarts: int, steps: int, batch_size: int) -> None:
    """Require positive integers."""
    plan = {"hidden": hidden, "restarts": restarts, "steps": steps, "batch_size": batch_size}
    for name, value in plan.items():
        if name != "hidden" or value is not None:
            _checks.integer(name, value)
