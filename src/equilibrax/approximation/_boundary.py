"""The decision boundary: where the winner changes, in either network."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .. import _checks
from ..sampling import Samples
from ._feedforward import forward
from ._metrics import competing, partition_sums, winner

RIDGE = 1e-6
"""Ridge penalty of the logistic fit, which has no finite optimum for separable data."""

NEWTON = 30
"""Newton steps of the fit, more than convergence takes."""


class DecisionBoundary(eqx.Module):
    r"""The boundary between the first two partitions, in the plane of their summed inputs.

    In that plane a boundary is the line $w \cdot s + c = 0$ that logistic regression fits between
    the inputs that A wins and those that B wins. The ideal boundary is $s_A = s_B$.

    - `angle`: angle from the ideal boundary to each network's, in degrees, anticlockwise.
    - `offset`: signed distance of each boundary from the origin, in units of the input, positive
      towards A.
    - `edges`: bin edges of the distance from the recurrent network's line, shape `(bins + 1,)`.
    - `misclassified`: share of inputs with another winner in the approximation, among the inputs
      of each bin, on either side of the line, that A or B wins, shape `(bins,)`; NaN for an empty
      bin.

    `angle` and `offset` hold two numbers, for the recurrent network and the approximation; NaN for
    a network in which A or B never wins.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    boundary = eqb.metrics.decision_boundary(samples, model, jnp.asarray([0.0, 0.2, 2.0]))
    print(boundary.misclassified[0] > boundary.misclassified[1])
    # > True
    ```
    """

    angle: Float[Array, "2"]
    offset: Float[Array, "2"]
    edges: Float[Array, " edges"]
    misclassified: Float[Array, " bins"]


def decision_boundary(
    samples: Samples, model: Any, edges: Float[Array, " edges"] | None = None
) -> DecisionBoundary:
    """Compare the decision boundaries of both networks with the ideal one and with each other.

    **Arguments:**

    - `samples`: samples of a network with at least two partitions; the stable samples are used.
    - `model`: the approximation.
    - `edges`: bin edges of the distance, rising; tenths from 0 to 1 if absent.

    **Returns:** a `DecisionBoundary`; `jackknife(lambda s: decision_boundary(s, model), samples)`
    adds standard errors.

    **Raises:** `ValueError` for a network with fewer than two partitions, no stable sample, or
    edges that do not rise.

    Muir (2018), Fig. 3.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    boundary = eqb.metrics.decision_boundary(samples, model)
    print(jnp.abs(boundary.angle) < 10, boundary.misclassified[0] > boundary.misclassified[5])
    # > [ True  True] True
    ```
    """
    samples, sizes = competing(samples)
    dtype = samples.inputs.dtype
    edges = jnp.linspace(0, 1, 11, dtype=dtype) if edges is None else edges
    edges = _checks.floating("edges", edges).astype(dtype)
    if edges.ndim != 1 or len(edges) < 2:
        _checks.fail("edges", "have shape (k,), k at least 2", f"has shape {edges.shape}")
    _checks.values("edges", jnp.diff(edges), "rise", lambda step: step > 0)
    return _boundary(samples.received, samples.rates, forward(model, samples.inputs), edges, sizes)


def signed_distance(boundary: DecisionBoundary, sums: Float[Array, "m 2"]) -> Float[Array, " m"]:
    """Distance of these partition sums from the recurrent network's line, positive towards A."""
    angle = jnp.radians(boundary.angle[0] - 45)  # the ideal normal, (1, -1), is at -45 degrees
    return sums @ jnp.stack([jnp.cos(angle), jnp.sin(angle)]) - boundary.offset[0]


@eqx.filter_jit
def _boundary(inputs, rates, output, edges, sizes: tuple[int, ...]) -> DecisionBoundary:
    sums = partition_sums(inputs, sizes)[:, :2]
    recurrent, approximate = winner(rates, sizes), winner(output, sizes)
    lines = [
        logistic_line(sums, won == 0, (won == 0) | (won == 1)) for won in (recurrent, approximate)
    ]
    normal = jnp.stack([line[:2] for line in lines])
    constant = jnp.stack([line[2] for line in lines])
    length = jnp.linalg.norm(normal, axis=1)
    # The ideal normal, (1, -1), is at -45 degrees.
    angle = jnp.degrees(jnp.arctan2(normal[:, 1], normal[:, 0])) + 45
    angle = (angle + 180) % 360 - 180
    distance = jnp.abs(sums @ normal[0] + constant[0]) / length[0]
    has = (recurrent == 0) | (recurrent == 1)
    place = jnp.where(has, jnp.searchsorted(edges, distance, side="right") - 1, -1)
    bins = jnp.arange(len(edges) - 1)
    inside = place[:, None] == bins
    wrong = inside & (approximate != recurrent)[:, None]
    share = jnp.sum(wrong, axis=0) / jnp.sum(inside, axis=0)
    return DecisionBoundary(angle, -constant / length, edges, share)


def logistic_line(
    points: Float[Array, "m 2"], label: Bool[Array, " m"], rows: Bool[Array, " m"]
) -> Float[Array, "3"]:
    """Fit w and c of the logistic regression of `label` on the points, over the given rows, by
    Newton's method; NaN unless both labels occur."""
    x = jnp.concatenate([points, jnp.ones_like(points[:, :1])], axis=1)
    y = label.astype(points.dtype)
    weight = rows.astype(points.dtype) / jnp.maximum(1, jnp.sum(rows))
    ridge = RIDGE * jnp.diag(jnp.asarray([1.0, 1.0, 0.0], points.dtype))

    def step(_, w):
        p = jax.nn.sigmoid(x @ w)
        gradient = x.T @ (weight * (p - y)) + ridge @ w
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge
        tiny = 1e-12 * jnp.eye(3, dtype=points.dtype)
        return w - jnp.linalg.solve(curvature + tiny, gradient)

    both = jnp.any(rows & label) & jnp.any(rows & ~label)
    line = jax.lax.fori_loop(0, NEWTON, step, jnp.zeros(3, points.dtype))
    return jnp.where(both, line, jnp.nan)
