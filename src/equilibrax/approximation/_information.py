"""Mutual information of input and output; the model on inputs without a stable fixed point."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._extras import extra
from ..fixed_points import Outcome
from ..sampling import Samples
from ._feedforward import forward
from ._metrics import competing, partition_sums


def mutual_information(
    samples: Samples, model: Any = None, *, neighbours: int = 3, limit: int = 4000
) -> float:
    r"""Mutual information of the difference of input sums and the difference of output sums.

    $$I(s_A - s_B;\; R_A - R_B)$$

    It is estimated for the recurrent network's rates, or for a model's output, from the distances
    to nearest neighbours, by scikit-learn's `mutual_info_regression`. Requires
    `pip install 'equilibrax[study]'`.

    **Arguments:**

    - `samples`: samples of a network with at least two partitions; the stable samples are used.
    - `model`: the approximation; the recurrent network itself if absent.
    - `neighbours`: number of nearest neighbours in the estimator.
    - `limit`: number of rows used, from the first on; more than `neighbours`. For a standard error
      by `jackknife`, pass no more samples than this: further rows are ignored.

    **Returns:** the mutual information in bits.

    **Raises:** `ValueError` for fewer than two partitions, or if no sample is stable;
    `ImportError` without scikit-learn.

    Kraskov, Stoegbauer and Grassberger, PRE 69:066138 (2004), doi:10.1103/PhysRevE.69.066138.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    print(eqb.metrics.mutual_information(samples) > 0.2)
    # > True
    ```
    """
    with extra("study", "mutual information"):
        from sklearn.feature_selection import mutual_info_regression
    neighbours = _checks.integer("neighbours", neighbours)
    limit = _checks.integer("limit", limit, minimum=neighbours + 1)
    samples, sizes = competing(samples)
    inputs = samples.inputs[:limit]
    rates = samples.rates[:limit] if model is None else forward(model, inputs)
    given, shown = (
        np.asarray(sums[:, 0] - sums[:, 1], np.float64)
        for sums in (partition_sums(samples.received[:limit], sizes), partition_sums(rates, sizes))
    )
    nats = mutual_info_regression(given[:, None], shown, n_neighbors=neighbours, random_state=0)
    return float(nats[0] / np.log(2))


def unsettled_behaviour(samples: Samples, model: Any) -> dict[Outcome, dict[str, float]]:
    r"""Measure the model's output y where the recurrent network has no stable fixed point.

    **Arguments:**

    - `samples`: samples with all outcomes, as from `sample_fixed_points(..., keep="all")`.
    - `model`: the approximation.

    **Returns:** for each outcome that occurs, except `STABLE` and `INVALID`:

    - `share`: share of all samples;
    - `size`: mean of |y|, divided by the mean of |r| over the stable fixed points;
    - `outside`: share in which some $y_j$ exceeds the largest stable rate $r_j$;
    - `silent`: share in which no output is active.

    **Raises:** `ValueError` if no sample is stable.

    **Example:**

    ```python
    network, cube = eqb.partitioned(w_ii=0.0), eqb.UniformCube(-1, 1)
    samples = eqb.sample_fixed_points(network, cube, 4096, key=jax.random.key(0), keep="all")
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    answers = eqb.metrics.unsettled_behaviour(samples, model)
    print(f"{answers[eqb.Outcome.OSCILLATING]['share']:.1f}")
    # > 0.5
    ```
    """
    outcome = np.asarray(samples.outcome)
    stable = outcome == Outcome.STABLE
    if not stable.any():
        _checks.fail("samples", "hold a stable fixed point", f"holds none ({samples.describe()})")
    rates = np.asarray(samples.rates)[stable]
    usual, largest = np.linalg.norm(rates, axis=1).mean(), rates.max(axis=0)
    output = np.asarray(forward(model, jnp.nan_to_num(samples.inputs)))
    found = {}
    for kind in Outcome:
        rows = output[outcome == kind]
        if kind in (Outcome.STABLE, Outcome.INVALID) or not len(rows):
            continue
        found[kind] = {
            "share": float(len(rows) / len(outcome)),
            "size": float(np.linalg.norm(rows, axis=1).mean() / usual),
            "outside": float((rows > largest).any(axis=1).mean()),
            "silent": float((rows <= 0).all(axis=1).mean()),
        }
    return found
