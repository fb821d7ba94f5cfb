"""Weight matrices: partitions, two neurons, ring, random E/I, graphs.

Every builder returns a `RateNetwork`; rows are targets, columns are sources.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import _checks
from ._network import Convention, RateNetwork
from ._transfer import AbstractTransfer, threshold_linear
from .weights import low_rank, sparse

LARGEST_DENSE = 1024
"""Neurons up to which weights that have structure are an array all the same."""

DENSEST_SPARSE = 0.05
"""Density up to which larger random weights are sparse: beyond, products with arrays are faster."""


def partitioned(
    partitions: Sequence[int] = (2, 2),
    w_e: float = 2.5,
    w_i: float = 8.0,
    *,
    w_ei: float | None = None,
    w_ii: float | None = None,
    bias: float | Array = 0.0,
    tau: float | Array = 1.0,
    transfer: AbstractTransfer | Callable = threshold_linear,
    convention: Convention = "voltage",
) -> RateNetwork:
    r"""Excitatory partitions that compete through one global inhibitory neuron.

    Excitatory neurons come first, partition after partition; the inhibitory neuron
    is the last. The defaults are the reference network
    {N, w_E, w_I, b} = {5, 2.5, 8, 0} of Muir, Neural Computation 30:546 (2018),
    doi:10.1162/neco_a_01042, Figs 2 and 3, with literal weights per synapse:

        [ 2.5 2.5  0   0  -8 ]
        [ 2.5 2.5  0   0  -8 ]
        [  0   0  2.5 2.5 -8 ]
        [  0   0  2.5 2.5 -8 ]
        [ 2.5 2.5 2.5 2.5 -8 ]

    **Arguments:**

    - `partitions`: number of neurons in each partition.
    - `w_e`: weight between neurons of the same partition, self-connections included.
    - `w_i`: weight from the inhibitory neuron to every excitatory neuron, given positive.
    - `w_ei`: weight from every excitatory neuron to the inhibitory neuron; `w_e` if absent.
    - `w_ii`: the inhibitory neuron's weight onto itself, given positive; `w_i` if
      absent. With `w_ii=0.0` about half of all inputs have no stable fixed point.
    - `bias`, `tau`, `transfer`, `convention`: as for `RateNetwork`.

    **Returns:** a `RateNetwork` of sum(partitions) + 1 neurons; of more than 1,024, with `low_rank`
    weights.

    **Raises:** `ValueError` for no partition, an empty partition, or a negative weight.

    **Example:**

    ```python
    network = eqb.partitioned(partitions=(2, 2), w_e=2.5, w_i=8.0)
    found = eqb.find_fixed_points(network, jnp.asarray([0.6, 0.6, 0.4, 0.4, 0.0]))
    print(found.rates > 0)
    # > [ True  True False False  True]
    ```
    """
    sizes = _checks.sizes("partitions", partitions)
    if not sizes:
        _checks.fail("partitions", "hold at least one size", "is empty")
    w_ei = w_e if w_ei is None else w_ei
    w_ii = w_i if w_ii is None else w_ii
    for name, weight in (("w_e", w_e), ("w_i", w_i), ("w_ei", w_ei), ("w_ii", w_ii)):
        _checks.not_negative(name, _checks.scalar(name, weight))
    group = np.repeat(np.arange(len(sizes)), sizes)
    num_e, dtype, xp = len(group), jnp.result_type(float), _checks.library_of(w_e, w_i, w_ei, w_ii)
    if num_e + 1 > LARGEST_DENSE:
        # One column for each partition's excitation, and one for the inhibition.
        member = np.zeros((num_e + 1, len(sizes) + 1))
        member[np.arange(num_e), group] = 1
        left = w_e * member
        left[num_e, :-1], left[:num_e, -1], left[num_e, -1] = w_ei, -w_i, -w_ii
        member[num_e, -1] = 1
        factors = (jnp.asarray(part, dtype) for part in (left, member))
        return RateNetwork(low_rank(*factors), bias, tau, transfer, convention, partitions=sizes)
    kind = np.zeros((num_e + 1, num_e + 1), int)
    kind[:num_e, :num_e] = group[:, None] == group
    kind[:num_e, num_e], kind[num_e, :num_e], kind[num_e, num_e] = 2, 3, 4
    weights = xp.asarray([0.0, w_e, -w_i, w_ei, -w_ii], dtype)[kind]
    return RateNetwork(weights, bias, tau, transfer, convention, partitions=sizes)


def two_neuron(
    w_self: float | tuple[float, float] = 0.5,
    w_cross: float | tuple[float, float] = -1.0,
    *,
    bias: float | Array = 0.0,
    tau: float | Array = 1.0,
    transfer: AbstractTransfer | Callable = threshold_linear,
    convention: Convention = "voltage",
) -> RateNetwork:
    r"""Two neurons, W = [[s_1, c_1], [c_2, s_2]].

    With the defaults they inhibit each other and the stronger input wins.

    **Arguments:**

    - `w_self`: s, one number for both neurons or one for each.
    - `w_cross`: c_1, from neuron 2 to 1, and c_2, from neuron 1 to 2; or one number for both.
    - `bias`, `tau`, `transfer`, `convention`: as for `RateNetwork`.

    **Returns:** a `RateNetwork` of two partitions, one neuron each.

    **Raises:** as `RateNetwork`.

    Muir (2018), Fig. 1a.

    **Example:**

    ```python
    network = eqb.two_neuron()
    found = eqb.find_fixed_points(network, jnp.asarray([[0.3, 0.2], [0.2, 0.3]]))
    print(eqb.metrics.winner(found.rates, network.partitions))
    # > [0 1]
    ```
    """
    pairs = {}
    for name, value in (("w_self", w_self), ("w_cross", w_cross)):
        pairs[name] = _checks.floating(name, value)
        _checks.per_neuron(name, pairs[name], 2)
        _checks.finite(name, pairs[name])
    xp = _checks.library_of(*pairs.values())
    own, cross = (xp.diag(xp.broadcast_to(pair, (2,))) for pair in pairs.values())
    weights = own + cross[:, ::-1]
    return RateNetwork(weights, bias, tau, transfer, convention, partitions=(1, 1))


def ring(
    n: int = 100,
    w_0: float = -4.0,
    w_1: float = 3.0,
    *,
    bias: float | Array = 0.0,
    tau: float | Array = 1.0,
    transfer: AbstractTransfer | Callable = threshold_linear,
    convention: Convention = "voltage",
) -> RateNetwork:
    r"""A ring of neurons, W_jk = (w_0 + w_1 cos(theta_j - theta_k)) / n.

    theta_j = 2 pi j / n is the preferred direction of neuron j. A threshold-linear
    ring responds to a weakly tuned input with a bump of activity when w_1 > 2.

    **Arguments:**

    - `n`: number of neurons, at least 3.
    - `w_0`: uniform part of the weights, inhibitory when negative.
    - `w_1`: amplitude of the tuned part.
    - `bias`, `tau`, `transfer`, `convention`: as for `RateNetwork`.

    **Returns:** a `RateNetwork` of n neurons; of more than 1,024, with `low_rank` weights.

    **Raises:** `ValueError` for fewer than three neurons; otherwise as `RateNetwork`.

    Ben-Yishai, Bar-Or and Sompolinsky, PNAS 92:3844 (1995),
    doi:10.1073/pnas.92.9.3844.

    **Example:**

    ```python
    theta = 2 * jnp.pi * jnp.arange(5) / 5
    found = eqb.find_fixed_points(eqb.ring(5), 1 + 0.1 * jnp.cos(theta - theta[3]))
    print(jnp.argmax(found.rates), found.rates > 0.1)
    # > 3 [False False  True  True  True]
    ```
    """
    n = _checks.integer("n", n, minimum=3)
    for name, weight in (("w_0", w_0), ("w_1", w_1)):
        _checks.finite(name, _checks.scalar(name, weight))
    theta = 2 * np.pi * np.arange(n) / n
    if n > LARGEST_DENSE:
        waves = np.stack([np.ones(n), np.cos(theta), np.sin(theta)], axis=1)
        right = jnp.asarray(waves, jnp.result_type(float))
        left = right * jnp.stack([jnp.asarray(w) for w in (w_0, w_1, w_1)]) / n
        return RateNetwork(low_rank(left, right), bias, tau, transfer, convention)
    xp, dtype = _checks.library_of(w_0, w_1), jnp.result_type(float)
    tuned = xp.asarray(np.cos(theta[:, None] - theta[None, :]), dtype)
    weights = (xp.asarray(w_0, dtype) + xp.asarray(w_1, dtype) * tuned) / n
    return RateNetwork(weights.astype(dtype), bias, tau, transfer, convention)


def random_ei(
    n: int = 100,
    *,
    key: Array,
    gain: float = 0.8,
    density: float = 0.2,
    excitatory: float = 0.8,
    bias: float | Array = 0.0,
    tau: float | Array = 1.0,
    transfer: AbstractTransfer | Callable = threshold_linear,
    convention: Convention = "voltage",
) -> RateNetwork:
    r"""A random balanced network that obeys Dale's law.

    Each pair is connected with probability p. Excitatory sources (the first
    round(f n) neurons) have weight J, inhibitory sources -J f / (1 - f), so that the
    mean input is zero. J is chosen so that the bulk of the eigenvalues of W fills a
    disc of radius `gain`:

    $$g^2 = n p (1 - p) J^2 \left( f + \frac{f^2}{1 - f} \right), \qquad g = \text{gain}.$$

    There are no self-connections.

    **Arguments:**

    - `n`: number of neurons, at least 2.
    - `key`: PRNG key of the connections.
    - `gain`: radius of the disc, positive.
    - `density`: p, between 0 and 1.
    - `excitatory`: f, the share of excitatory neurons, between 0 and 1.
    - `bias`, `tau`, `transfer`, `convention`: as for `RateNetwork`.

    **Returns:** a `RateNetwork` of n neurons; of more than 1,024, with `sparse` weights for a
    density of at most 0.05.

    **Raises:** `ValueError` outside these ranges.

    Rajan and Abbott, PRL 97:188104 (2006), doi:10.1103/PhysRevLett.97.188104.

    **Example:**

    ```python
    import numpy as np

    network = eqb.random_ei(200, key=jax.random.key(0), gain=0.5, excitatory=0.8)
    print((network.weights[:, :160] >= 0).all(), (network.weights[:, 160:] <= 0).all())
    # > True True
    print(abs(np.linalg.eigvals(network.weights)).max() < 0.7)
    # > True
    ```
    """
    n = _checks.integer("n", n, minimum=2)
    key = _checks.key(key)
    gain = _checks.number("gain", gain, above=0.0)
    p = _checks.number("density", density, above=0.0, below=1.0)
    share = _checks.number("excitatory", excitatory, above=0.0, below=1.0)
    num_e = round(share * n)
    if not 0 < num_e < n:
        _checks.fail("excitatory", f"leave neurons of both kinds among {n}", f"is {excitatory}")
    f = num_e / n
    strength = gain / np.sqrt(n * p * (1 - p) * (f + f**2 / (1 - f)))
    source = np.where(np.arange(n) < num_e, strength, -strength * f / (1 - f))
    if n > LARGEST_DENSE and p <= DENSEST_SPARSE:
        weights = sparse(_random_matrix(n, p, source, key))
        return RateNetwork(weights, bias, tau, transfer, convention)
    connected = jax.random.bernoulli(key, p, (n, n))
    xp = _checks.library_of(connected)
    weights = xp.where(xp.asarray(connected) & ~np.eye(n, dtype=bool), source, 0.0)
    weights = weights.astype(jnp.result_type(float))
    return RateNetwork(weights, bias, tau, transfer, convention)


def _random_matrix(n: int, p: float, source: np.ndarray, key: Array) -> Any:
    """A sparse matrix of connections with probability p, none of them to itself, whose elements are
    those of their sources."""
    from jax.experimental.sparse import BCOO

    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    # Distances between connections, in the order of all n^2 places, are geometric.
    count = n**2 * p
    place = np.cumsum(rng.geometric(p, int(count + 10 * np.sqrt(count) + 10))) - 1
    row, column = np.divmod(place[place < n**2], n)
    row, column = row[row != column], column[row != column]
    places = jnp.asarray(np.stack([row, column], axis=1), jnp.int32)
    return BCOO((jnp.asarray(source[column], jnp.result_type(float)), places), shape=(n, n))


def from_graph(
    adjacency: Any,
    *,
    epsilon: float | Array = 0.25,
    delta: float | Array = 0.5,
    bias: float | Array = 0.0,
    tau: float | Array = 1.0,
    convention: Convention = "activity",
) -> RateNetwork:
    r"""The combinatorial threshold-linear network of a directed graph.

    $$W_{jk} = \begin{cases} 0 & j = k \\ -1 + \epsilon & \text{edge from } k \text{ to } j \\
    -1 - \delta & \text{otherwise} \end{cases}$$

    The networks are usually given the same positive input for all neurons. The three-cycle has
    a limit cycle and no stable fixed point.

    **Arguments:**

    - `adjacency`: shape `(n, n)`, of 0 and 1 (or bool); `adjacency[j, k]` is the edge
      from k to j: the row is the target, as everywhere in this package.
    - `epsilon`, `delta`: parameters of the weights, in the legal range delta > 0 and
      0 < epsilon < delta / (delta + 1).
    - `bias`, `tau`, `convention`: as for `RateNetwork`.

    **Returns:** a `RateNetwork`, threshold-linear, of n neurons.

    **Raises:** `ValueError` outside the legal range, for an adjacency that is not
    square, has values other than 0 and 1, or has edges from a neuron to itself.

    Morrison, Degeratu, Itskov and Curto, SIAM J. Appl. Dyn. Syst. 23:855 (2024),
    doi:10.1137/22M1541666.

    **Example:**

    ```python
    network = eqb.from_graph([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    points = eqb.enumerate_fixed_points(network, jnp.ones(3))
    print(points.valid, points.stable)
    # > [ True] [False]
    ```
    """
    try:
        edges = np.asarray(adjacency)
    except ValueError as error:
        _checks.fail("adjacency", "have shape (n, n)", f"is not rectangular: {error}")
    _checks.square("adjacency", edges)
    if not np.isin(edges, (0, 1)).all():
        _checks.fail("adjacency", "hold only 0 and 1", "holds other values")
    if np.diagonal(edges).any():
        _checks.fail("adjacency", "have a zero diagonal", "has edges from a neuron to itself")
    if _checks.is_concrete(delta) and _checks.is_concrete(epsilon):
        limit = _checks.number("delta", delta, above=0.0)
        _checks.number("epsilon", epsilon, above=0.0, below=limit / (limit + 1))
    delta, epsilon = _checks.scalar("delta", delta), _checks.scalar("epsilon", epsilon)
    xp = _checks.library_of(delta, epsilon)
    delta, epsilon = xp.asarray(delta), xp.asarray(epsilon)
    weights = xp.where(edges == 1, -1 + epsilon, -1 - delta)
    weights = xp.where(np.eye(len(edges), dtype=bool), 0, weights)
    return RateNetwork(weights, bias, tau, threshold_linear, convention)
