"""Fixed points proposed by the approximation and verified by the network's equations."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from .._described import Described
from ..fixed_points import Flow, Outcome, find_fixed_points
from ..fixed_points._flow import as_flow
from ..fixed_points._problem import as_states
from ..fixed_points._result import counts_of, in_words
from ..fixed_points._verify import verify
from ..networks import AbstractDynamics, is_threshold_linear
from ._feedforward import forward


class Verified(eqx.Module, Described):
    """Fixed points of the recurrent network, proposed by an approximation where verified.

    - `state`, `rates`: the fixed point, exact to rounding where verified, shape `(m, n)`.
    - `verified`: whether the point comes from the approximation's proposal and is proven to be a
      stable fixed point, shape `(m,)`. In a network with several stable fixed points for one
      input, it is *not* proven to be the fixed point that the trajectory reaches.
    - `outcome`: `STABLE` where verified; elsewhere the outcome of `find_fixed_points`.

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
        """Number of rows settled by their trajectory."""
        return int(jnp.sum(~self.verified))

    def describe(self) -> str:
        """The numbers of verified rows and of rows settled by trajectory, in one line."""
        counts = counts_of(self.outcome[~self.verified])
        rest = f" ({in_words(counts)})" if self.fallen_back else ""
        m = len(self.verified)
        return f"{m - self.fallen_back} of {m} verified, {self.fallen_back} fallen back{rest}"


def verified(
    network: AbstractDynamics, model: Any, inputs: Float[Array, "m n"], method: Flow | None = None
) -> Verified:
    """As `Approximation.verified`, for any model of the network."""
    method = as_flow(method)
    if not is_threshold_linear(network):
        _checks.fail("network", "be threshold-linear, to be verified", f"is {network!r}")
    if network.readout is not None:
        _checks.fail("network", "have no readout, as rates say which neurons are active", "has one")
    inputs = as_states("inputs", inputs, network.num_inputs)
    if inputs.ndim != 2:
        _checks.fail("inputs", f"have shape (m, {network.num_inputs})", f"has shape {inputs.shape}")
    why = "which rows fall back depends on their values"
    _checks.outside_of_jit("inputs", inputs, network, model, why=why, error=ValueError)
    network = network.astype(inputs.dtype)
    proposed = network.state_of(forward(model, inputs), inputs)
    state, proven = verify(network.driven_directly, network.received(inputs), proposed, method)
    outcome = jnp.full(len(inputs), int(Outcome.STABLE), jnp.int8)
    rows = np.flatnonzero(~np.asarray(proven))
    if len(rows):
        found = find_fixed_points(network, jnp.asarray(np.asarray(inputs)[rows]), method=method)
        state = state.at[rows].set(found.state)
        outcome = outcome.at[rows].set(found.outcome)
    return Verified(state, network.rates(state), proven, outcome)
