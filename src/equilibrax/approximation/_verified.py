"""The approximation proposes, the recurrent network's own equations decide."""

from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from .._devices import filled_up
from ..fixed_points import Flow, Outcome, find_fixed_points
from ..fixed_points._find import as_states
from ..fixed_points._flow import as_flow
from ..fixed_points._outcome import counts_of, in_words
from ..fixed_points._verify import verify
from ..networks import AbstractDynamics, is_threshold_linear
from ._feedforward import forward

SMALLEST_FALLBACK = 1024
"""Rows that fall back are filled up to this, or to a power of two above it: few programs serve."""


class Verified(eqx.Module):
    """Answers of an approximation, each of them a fixed point of the recurrent network, or not.

    - `state`, `rates`: shape `(m, n)`. The fixed point itself, exact to rounding.
    - `verified`: shape `(m,)`: the point comes from the approximation's proposal and is proven to
      be a stable fixed point. In a network that has several for one input, it is *not* proven
      to be the one that the trajectory reaches.
    - `outcome`: `STABLE` where verified; elsewhere the trajectory's own, from `find_fixed_points`.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    apx = eqb.approximate(samples, hidden=16, restarts=2, steps=1000, key=jax.random.key(1))
    answers = apx.verified(jnp.asarray([[0.9, 0.9, -0.9, -0.9, 0.0], [-0.9, -0.9, 0.9, 0.9, 0.0]]))
    print(answers.describe())
    # > 2 of 2 verified, 0 fallen back
    print(eqb.metrics.winner(answers.rates, (2, 2)))
    # > [0 1]
    ```
    """

    state: Float[Array, "m n"]
    rates: Float[Array, "m n"]
    verified: Bool[Array, " m"]
    outcome: Int[Array, " m"]

    @property
    def fallen_back(self) -> int:
        """How many rows were settled by their trajectory."""
        return int(jnp.sum(~self.verified))

    def describe(self) -> str:
        """How the rows came about, in one line."""
        counts = counts_of(self.outcome[~self.verified])
        rest = f" ({in_words(counts)})" if self.fallen_back else ""
        m = len(self.verified)
        return f"{m - self.fallen_back} of {m} verified, {self.fallen_back} fallen back{rest}"


def verified(
    network: AbstractDynamics, model: Any, inputs: Float[Array, "m n"], method: Flow | None = None
) -> Verified:
    """What `Approximation.verified` gives, for any model of the network."""
    method = as_flow(method)
    if not is_threshold_linear(network):
        _checks.fail("network", "be threshold-linear, to be verified", f"is {network!r}")
    inputs = as_states("inputs", inputs, network.num_neurons)
    if inputs.ndim != 2:
        _checks.fail(
            "inputs", f"have shape (m, {network.num_neurons})", f"has shape {inputs.shape}"
        )
    if not _checks.is_known(inputs):
        _checks.fail("inputs", "be known, outside jax.jit: rows fall back by value", "is a tracer")
    network = network.astype(inputs.dtype)
    proposed = network.state_of(forward(model, inputs), inputs)
    state, proven = verify(network, inputs, proposed, method)
    outcome = jnp.full(len(inputs), int(Outcome.STABLE), jnp.int8)
    rows = np.flatnonzero(~np.asarray(proven))
    if len(rows):
        size = max(SMALLEST_FALLBACK, 1 << (len(rows) - 1).bit_length())
        settle = partial(find_fixed_points, method=method)
        found = filled_up(settle, None, network, (inputs[rows],), multiple=size)
        state = state.at[rows].set(found.state)
        outcome = outcome.at[rows].set(found.outcome)
    return Verified(state, network.rates(state), proven, outcome)
