"""`sample_fixed_points`: many inputs, settled where they were drawn."""

import dataclasses
import itertools
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import _checks
from .._batching import at_home, joined
from .._progress import progress_bar
from ..fixed_points import Flow, Outcome
from ..fixed_points._flow import as_flow
from ..fixed_points._result import add_counts, counts_of, in_words
from ..networks import AbstractDynamics, RateNetwork, as_dynamics, check_vector_field
from ._inputs import AbstractInputs
from ._sampler import Sampler, keep_stable

ROUND = 64
"""Chunks that are settled before the inputs without a stable fixed point are discarded."""


class Samples(eqx.Module):
    """Inputs and the fixed points that they settle to.

    - `inputs`: shape `(m, k)`; k = n for a rate network.
    - `rates`: the network's output at the fixed point, shape `(m, outputs)`, n of them for a
      rate network: what the approximation is trained on.
    - `state`: the fixed point, shape `(m, n)`.
    - `outcome`: int8, shape `(m,)`.
    - `drawn`: how many inputs were drawn; m of them are held here.
    - `counts`: how many of the inputs drawn ended in each `Outcome`.
    - `network`: what was settled.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    print(len(samples), samples.discarded, samples.partitions)
    # > 4096 0.0 (2, 2)
    print(f"{(eqb.metrics.winner(samples.rates, samples.partitions) == 0).mean():.1f}")
    # > 0.4
    ```
    """

    inputs: Float[Array, "m k"]
    rates: Float[Array, "m outputs"]
    state: Float[Array, "m n"]
    outcome: Int[Array, " m"]
    drawn: int
    counts: dict[Outcome, int]
    network: AbstractDynamics

    def __len__(self) -> int:
        return self.inputs.shape[0]

    @property
    def partitions(self) -> tuple[int, ...]:
        """The network's groups of competing neurons; none for other dynamics."""
        return getattr(self.network, "partitions", ())

    @property
    def received(self) -> Float[Array, "m n"]:
        """What the inputs drive the neurons with; for dynamics that are no rate network, the
        inputs."""
        network = self.network
        return network.received(self.inputs) if isinstance(network, RateNetwork) else self.inputs

    @property
    def discarded(self) -> float:
        """Share of the inputs drawn that have no stable fixed point."""
        return 1 - self.counts[Outcome.STABLE] / self.drawn

    def only_stable(self) -> "Samples":
        """The rows whose outcome is `STABLE`."""
        stable = at_home(self.outcome) == Outcome.STABLE
        rows = (np if isinstance(stable, np.ndarray) else jnp).flatnonzero(stable)
        if len(rows) == len(self):
            return self
        return rows_of(self, rows)

    def describe(self) -> str:
        """The counts in one line."""
        return f"{self.drawn} inputs: {in_words(self.counts)}"

    def __str__(self) -> str:
        return f"Samples: {len(self)} held of {self.describe()}"


def sample_fixed_points(
    network: AbstractDynamics,
    inputs: AbstractInputs,
    n_draws: int,
    *,
    key: Array,
    method: Flow | None = None,
    keep: Literal["stable", "all"] = "stable",
    progress: bool = False,
) -> Samples:
    """Draw inputs, settle them, and keep those with a stable fixed point.

    Inputs are drawn and settled on the device and stay there; only counts reach the
    host. Input k depends on `key` and k alone.

    **Arguments:**

    - `network`: what to settle: a `RateNetwork` or other `AbstractDynamics`, which start at zero.
    - `inputs`: their distribution, as `UniformCube(-1, 1)`.
    - `n_draws`: how many inputs to draw.
    - `key`: PRNG key.
    - `method`: how to settle, as for `find_fixed_points`.
    - `keep`: `"stable"` discards, and counts, all inputs with another outcome; `"all"`
      keeps every one in the order drawn.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** `Samples`.

    **Raises:** `ValueError` for a distribution of another width, or fewer than one draw.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    print(samples.describe(), samples.rates.shape)
    # > 4096 inputs: 4096 STABLE (4096, 5)
    ```
    """
    network, method = as_plan(network, inputs, method)
    n_draws, key = as_count("n_draws", n_draws, key, keep)
    if n_draws > 2**32:
        _checks.fail("n_draws", "be at most 2**32 in memory", f"is {n_draws}")
    sampler = Sampler(network, inputs, key, method, n_draws)
    size = ROUND * sampler.settler.size
    parts, counts = [], []
    with progress_bar(n_draws, "settling", "inputs", progress) as bar:
        for first in range(0, n_draws, size):
            columns = sampler(first, min(size, n_draws - first), sampler.workers, bar.update)
            counts.append(counts_of(columns["outcome"]))
            parts.append(keep_stable(columns) if keep == "stable" else columns)
    columns = joined(parts, sampler.home)
    return Samples(**columns, drawn=n_draws, counts=add_counts(*counts), network=network)


def as_plan(network: Any, inputs: Any, method: Any) -> tuple[AbstractDynamics, Flow]:
    """What is to be sampled and how, or an error that says what is wrong."""
    network = as_dynamics("network", network)
    if not isinstance(inputs, AbstractInputs):
        must = "be a distribution of inputs such as eqb.UniformCube(-1, 1)"
        _checks.fail("inputs", must, f"is {inputs!r}", TypeError)
    inputs.check(network.num_inputs)
    if not isinstance(network, RateNetwork):
        network = check_vector_field("network", network, network.num_inputs)
    # What is not returned need not be known.
    return network, dataclasses.replace(as_flow(method), abscissa=False)


def as_count(name: str, n: Any, key: Any, keep: Any) -> tuple[int, Array]:
    """How many inputs (the argument of this name), and from which key; or an error."""
    n = _checks.integer(name, n)
    if keep not in ("stable", "all"):
        _checks.fail("keep", "be 'stable' or 'all'", f"is {keep!r}")
    return n, _checks.key(key)


def split(samples: Samples, sizes: tuple[int, ...]) -> list[Samples]:
    """Consecutive parts of these sizes; `drawn` and `counts` stay those of the whole."""
    ends = np.cumsum((0, *sizes))
    return [rows_of(samples, slice(low, high)) for low, high in itertools.pairwise(ends)]


def rows_of(samples: Samples, rows: Any) -> Samples:
    """These rows; `drawn` and `counts` stay those of the whole."""

    def columns(samples):
        return [samples.inputs, samples.rates, samples.state, samples.outcome]

    return eqx.tree_at(columns, samples, [column[rows] for column in columns(samples)])
