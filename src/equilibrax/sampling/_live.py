"""`LiveSamples`: fixed points that are made when they are wanted, and never stored."""

import equinox as eqx

from ..fixed_points import Flow
from ..networks import AbstractDynamics
from ._inputs import AbstractInputs, UniformCube
from ._sample import as_plan


class LiveSamples(eqx.Module):
    """A stream of fresh (input, fixed point) pairs for `train`: settled on the device just before
    the step that learns from them, seen once, and never stored.

    **Arguments:**

    - `network`: what to settle: a `RateNetwork` or other `AbstractDynamics`.
    - `inputs`: the distribution of inputs; `UniformCube(-1, 1)` if absent.
    - `method`: how to settle, as for `find_fixed_points`.

    **Raises:** `TypeError` for something that is not a network or a distribution; `ValueError` for
    a distribution of another width.

    **Example:**

    ```python
    live = eqb.LiveSamples(eqb.supralinear(), eqb.UniformCube(0, 2))
    model = eqb.FeedForward(2, 16, 2, key=jax.random.key(1))
    run = eqb.train(model, live, steps=100, batch_size=64, key=jax.random.key(2))
    print(run.counts[eqb.Outcome.STABLE])
    # > 6400
    ```
    """

    network: AbstractDynamics
    inputs: AbstractInputs
    method: Flow

    def __init__(
        self,
        network: AbstractDynamics,
        inputs: AbstractInputs | None = None,
        *,
        method: Flow | None = None,
    ):
        self.inputs = UniformCube(-1.0, 1.0) if inputs is None else inputs
        self.network, self.method = as_plan(network, self.inputs, method)
