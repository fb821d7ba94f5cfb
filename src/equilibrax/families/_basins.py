"""`basins`: the fixed point that each start reaches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import _checks
from .._described import Described, number_of
from ..fixed_points import FixedPoints, Flow, find_fixed_points
from ..fixed_points._distinct import distinct
from ..fixed_points._problem import as_states
from ..fixed_points._result import in_words
from ..networks import AbstractDynamics


class Basins(eqx.Module, Described):
    """The k stable fixed points that many starts reach for one input.

    - `state`: the stable fixed points, shape `(k, n)`, in descending order of their share.
    - `rates`: the output at each fixed point, shape `(k, outputs)`.
    - `abscissa`: spectral abscissa of the Jacobian at each, shape `(k,)`.
    - `share`: share of all starts that reach each, shape `(k,)`. The sum is less than 1 if some
      starts reach no stable fixed point.
    - `label`: index of the fixed point that each start reaches, shape `(...)`; -1 if it reaches
      no stable fixed point.
    - `x0`: the starts, shape `(..., n)`.
    - `found`: the `FixedPoints` of all starts, with their outcomes.

    **Example:**

    ```python
    pattern = jnp.asarray([1.0, 1.0, 1.0, -1.0, -1.0])
    starts = jnp.linspace(-1, 3, 8)[:, None] * pattern
    found = eqb.basins(eqb.hopfield([pattern]), jnp.zeros(5), starts)
    print(jnp.sign(found.state[0]), found.share)
    # > [ 1.  1.  1. -1. -1.] [0.75 0.25]
    ```
    """

    state: Float[Array, "k n"]
    rates: Float[Array, "k outputs"]
    abscissa: Float[Array, " k"]
    share: Float[Array, " k"]
    label: Int[Array, "*batch"]
    x0: Float[Array, "*batch n"]
    found: FixedPoints

    def describe(self) -> str:
        """How many stable fixed points, the starts' shares and their outcomes, in one line."""
        shares = ", ".join(f"{share:.3g}" for share in np.asarray(self.share)[:8])
        more = ", ..." if len(self.share) > 8 else ""
        words = f"{number_of(len(self.share), 'stable fixed point')} from {self.label.size} starts"
        reached = f", of shares {shares}{more}" if shares else ""
        return f"{words}{reached}; {in_words(self.found.counts)}"


def basins(
    network: AbstractDynamics,
    input: Float[Array, " k"],
    x0: Float[Array, "*batch n"],
    *,
    method: Flow | None = None,
    tolerance: float | None = None,
) -> Basins:
    """Settle one input from many starts, and match the fixed points that they reach.

    **Arguments:**

    - `network`: any dynamics that `find_fixed_points` accepts.
    - `input`: shape `(k,)`.
    - `x0`: the starts, shape `(..., n)`: a grid for a figure, or random starts for shares p with a
      standard error of sqrt(p (1 - p) / count).
    - `method`: a `Flow`.
    - `tolerance`: two states are the same fixed point if no component differs by more than this
      times the largest |x| that it has in any of them or at the starts; ten times the square root
      of the rounding unit if absent.

    **Returns:** `Basins`.

    **Raises:** as `find_fixed_points`; `ValueError` for more than one input, or without a start.

    **Example:**

    ```python
    pattern = jnp.asarray([1.0, 1.0, 1.0, -1.0, -1.0])
    starts = jnp.linspace(-1, 1, 8)[:, None] * pattern
    found = eqb.basins(eqb.hopfield([pattern]), jnp.zeros(5), starts)
    print(found.label)
    # > [0 0 0 0 1 1 1 1]
    ```
    """
    input = as_states("input", input)
    if input.ndim != 1:
        _checks.fail("input", "be one input, of shape (k,)", f"has shape {input.shape}")
    x0 = as_states("x0", x0)
    starts = x0.reshape(-1, x0.shape[-1])
    if not len(starts):
        _checks.fail("x0", "hold at least one start", f"has shape {x0.shape}")
    inputs = jnp.broadcast_to(input, (len(starts), len(input)))
    found = find_fixed_points(network, inputs, x0=starts, method=method)
    state, stable = np.asarray(found.state), np.asarray(found.stable)
    if tolerance is None:
        tolerance = 10 * float(np.sqrt(np.finfo(state.dtype).eps))
    tolerance = _checks.number("tolerance", tolerance, above=0.0)
    first, label = distinct(state, stable, tolerance, np.asarray(starts))
    counts = np.bincount(label[label >= 0], minlength=len(first))
    order = np.argsort(-counts, kind="stable")
    place = np.append(np.argsort(order), -1)
    rows = jnp.asarray(first[order], jnp.int32)
    batch = x0.shape[:-1]
    return Basins(
        state=found.state[rows],
        rates=found.rates[rows],
        abscissa=found.abscissa[rows],
        share=jnp.asarray(counts[order] / len(starts), found.state.dtype),
        label=jnp.asarray(place[label].reshape(batch), jnp.int32),
        x0=x0,
        found=jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), found),
    )
