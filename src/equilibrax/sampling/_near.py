"""`sample_near_boundaries`: more of the inputs where the answer changes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _checks
from ..fixed_points import FixedPoints, Flow, find_fixed_points
from ..fixed_points._gradient import attach_derivatives
from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear
from ._inputs import AbstractInputs
from ._sample import Samples, as_plan, rows_of, sample_fixed_points

SPREAD = 0.1
"""How far from a chamber's face inputs are put, in units of the distance that they came from."""


def sample_near_boundaries(
    network: AbstractDynamics,
    inputs: AbstractInputs,
    n_draws: int,
    *,
    key: Array,
    share: float = 0.5,
    halvings: int = 6,
    method: Flow | None = None,
) -> Samples:
    r"""As `sample_fixed_points`, with a share of the inputs close to where the answer changes.

    The others are drawn from `inputs` and settled, and lead to these, in two ways:

    - *basin boundaries*: of two inputs whose rates differ most for their distance, the middle
      one is settled, and the half across which the rates change more is halved again, and so on. A
      stable and an unstable end differ most of all. Each middle is an input of the sample.
    - *chamber faces*, for threshold-linear networks: with $g_j$ the derivative of $u_j(x^*)$ in the
      input, by the implicit function theorem, the nearest face is the one with the least margin
      $|u_j| / |g_j|$. The input goes to $i - (1 + s \xi) u_j g_j / |g_j|^2$, which for $\xi = 0$ is
      on the face; $\xi$ is normal and s a tenth.

    Half of the near inputs are of each kind, or all are at basin boundaries. The cost is that of
    `sample_fixed_points`: `n_draws` inputs are settled, and the derivative of those at faces. The
    distribution is no more that of `inputs`; keep to `inputs` for validation and tests.

    **Arguments:**

    - `network`, `inputs`, `n_draws`, `key`, `method`: as for `sample_fixed_points`.
    - `share`: of the inputs that are near boundaries, between 0 and 1.
    - `halvings`: middles of each pair.

    **Returns:** `Samples` of the stable ones, in random order.

    **Raises:** as `sample_fixed_points`; `ValueError` for a share out of range, or if fewer
    than two of the inputs drawn are stable (with the counts).

    **Example:**

    ```python
    network, cube = eqb.partitioned(), eqb.UniformCube(-1, 1)
    near = eqb.sample_near_boundaries(network, cube, 20, share=0.6, key=jax.random.key(0))
    print(near.describe())
    # > 20 inputs: 20 STABLE
    print(jnp.abs(near.state).min() < 0.05)  # close to a threshold
    # > True
    ```
    """
    network, method = as_plan(network, inputs, method)
    n_draws = _checks.integer("n_draws", n_draws, minimum=8)
    share = _checks.number("share", share, above=0.0, below=1.0)
    halvings = _checks.integer("halvings", halvings)
    near = round(share * n_draws)
    at_faces = near // 2 if is_threshold_linear(network) else 0
    pairs = (near - at_faces) // halvings
    first = n_draws - pairs * halvings - at_faces
    key_first, key_faces, key_order = jax.random.split(_checks.key(key), 3)
    drawn = sample_fixed_points(network, inputs, first, key=key_first, method=method)
    if len(drawn) < 2:
        _checks.fail("inputs", "have stable fixed points", f"give {drawn.describe()}")
    low, high = jnp.min(drawn.inputs, axis=0), jnp.max(drawn.inputs, axis=0)
    parts = halved(network, drawn, pairs, halvings, method) if pairs else []
    if at_faces and is_threshold_linear(network):
        i = jnp.clip(to_faces(network, drawn, at_faces, key_faces), low, high)
        parts.append((i, find_fixed_points(network, i, method=method)))
    columns = [[drawn.inputs, drawn.rates, drawn.state, drawn.outcome]]
    counts = dict(drawn.counts)
    for i, found in parts:
        columns.append([i, found.rates, found.state, found.outcome])
        counts = {outcome: counts[outcome] + n for outcome, n in found.counts.items()}
    whole = [jnp.concatenate(parts) for parts in zip(*columns, strict=True)]
    total = sum(counts.values())
    found = Samples(*whole, drawn=total, counts=counts, network=network).only_stable()
    return rows_of(found, jax.random.permutation(key_order, len(found)))


def halved(
    network: AbstractDynamics, drawn: Samples, count: int, halvings: int, method: Flow
) -> list[tuple[Float[Array, "count k"], FixedPoints]]:
    """All middles of so many pairs, and how they ended."""
    ends = _steepest(drawn, count)
    found = []
    for _ in range(halvings):
        middle = (ends.left + ends.right) / 2
        settled = find_fixed_points(network, middle, method=method)
        found.append((middle, settled))
        ends = _halve(ends, middle, settled)
    return found


class Ends(eqx.Module):
    """Both ends of each segment, and their rates; NaN where there is no stable fixed point."""

    left: Float[Array, "count k"]
    right: Float[Array, "count k"]
    left_rates: Float[Array, "count n"]
    right_rates: Float[Array, "count n"]


def _steepest(drawn: Samples, count: int) -> Ends:
    """Of pairs of neighbours in the sample, which are any two inputs, those whose rates differ most
    for their distance."""
    m = len(drawn)
    left = np.arange(max(count, m)) % m
    # Beyond m pairs, the neighbours are those after the next, and so on.
    right = (left + 1 + np.arange(len(left)) // m) % m
    pairs = Ends(drawn.inputs[left], drawn.inputs[right], drawn.rates[left], drawn.rates[right])
    change = jnp.linalg.norm(pairs.right_rates - pairs.left_rates, axis=1)
    distance = jnp.linalg.norm(pairs.right - pairs.left, axis=1)
    rows = jnp.argsort(-change / distance)[:count]
    return jax.tree.map(lambda a: a[rows], pairs)


@eqx.filter_jit
def _halve(ends: Ends, middle: Float[Array, "count k"], found: FixedPoints) -> Ends:
    rates = jnp.where(found.stable[:, None], found.rates, jnp.nan)

    def change(a, b):
        apart = jnp.linalg.norm(a - b, axis=1)
        one = jnp.isnan(a[:, 0]) != jnp.isnan(b[:, 0])
        return jnp.where(one, jnp.inf, jnp.nan_to_num(apart))

    first = change(ends.left_rates, rates) >= change(rates, ends.right_rates)
    pick = lambda a, b: jnp.where(first[:, None], a, b)  # noqa: E731
    return Ends(
        pick(ends.left, middle), pick(middle, ends.right),
        pick(ends.left_rates, rates), pick(rates, ends.right_rates),
    )  # fmt: skip


def to_faces(
    network: RateNetwork, drawn: Samples, count: int, key: Array
) -> Float[Array, "count n"]:
    """Inputs near the face that is nearest to the fixed points of so many inputs."""
    rows = np.arange(count) % len(drawn)
    i = drawn.inputs[rows]

    x, blank = drawn.state[rows], jnp.zeros(count, i.dtype)
    # What has been settled once gets its derivatives here, and is not settled again.
    known = FixedPoints(
        x, drawn.rates[rows], drawn.outcome[rows], blank, blank, blank > 0, blank,
        jnp.zeros(count, jnp.int32), blank,
    )  # fmt: skip

    def drives(i):
        return jax.vmap(network.drive)(attach_derivatives(network, i, known).state, i)

    u, pull = jax.vjp(drives, i)

    distance, step = jnp.full(count, jnp.inf, u.dtype), jnp.zeros_like(i)
    for j in range(u.shape[1]):
        (gradient,) = pull(jnp.zeros_like(u).at[:, j].set(1))
        square = jnp.sum(jnp.square(gradient), axis=1)
        there = jnp.abs(u[:, j]) / jnp.sqrt(square)
        closer = there < distance
        distance = jnp.where(closer, there, distance)
        step = jnp.where(closer[:, None], (u[:, j] / square)[:, None] * gradient, step)
    jitter = SPREAD * jax.random.normal(key, (count, 1), i.dtype)
    return i - (1 + jitter) * step
