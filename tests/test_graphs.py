"""Combinatorial threshold-linear networks: what graph theory knows of their fixed points.

C. Curto, J. Geneson and K. Morrison, Neural Computation 31:94 (2019),
doi:10.1162/neco_a_01151; K. Morrison et al. (2024), doi:10.1137/22M1541666.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equilibrax as eqb
from equilibrax import Outcome

N = 5


def target_free_cliques(adjacency):
    """Sets whose members are all joined both ways, and to all of which no other neuron listens."""
    n = len(adjacency)
    found = set()
    for size in range(1, n + 1):
        for nodes in itertools.combinations(range(n), size):
            clique = all(adjacency[j, k] for j in nodes for k in nodes if j != k)
            others = set(range(n)) - set(nodes)
            target = any(all(adjacency[t, k] for k in nodes) for t in others)
            if clique and not target:
                found.add(nodes)
    return found


def stable_supports(network):
    every = eqb.enumerate_fixed_points(network, jnp.ones(network.num_neurons))
    stable = np.asarray(every.active)[np.asarray(every.stable)]
    return {tuple(int(k) for k in np.flatnonzero(row)) for row in stable}


@pytest.mark.parametrize("seed", range(12))
def test_stable_fixed_points_are_the_target_free_cliques(seed):
    rng = np.random.default_rng(seed)
    adjacency = (rng.random((N, N)) < rng.uniform(0.2, 0.8)).astype(int)
    np.fill_diagonal(adjacency, 0)
    network = eqb.from_graph(adjacency, epsilon=0.2, delta=rng.uniform(0.4, 1.0))
    assert stable_supports(network) == target_free_cliques(adjacency)


def test_the_three_cycle_has_a_limit_cycle_and_one_unstable_fixed_point():
    adjacency = np.zeros((N, N), int)
    for k in range(3):
        adjacency[(k + 1) % 3, k] = 1
    # Two more that are joined to nothing lose against the cycle, or win alone.
    network = eqb.from_graph(adjacency[:3, :3])
    every = eqb.enumerate_fixed_points(network, jnp.ones(3))
    assert int(every.valid.sum()) == 1
    assert not bool(every.stable.any())
    np.testing.assert_array_equal(every.active[0], True)
    x0 = jnp.asarray([0.3, 0.1, 0.0])
    assert int(eqb.find_fixed_points(network, jnp.ones(3), x0=x0).outcome) == Outcome.OSCILLATING


@pytest.mark.parametrize("options", [{"epsilon": 0.4}, {"epsilon": 0.0}, {"delta": 0.0}])
def test_outside_the_legal_range(options):
    with pytest.raises(ValueError, match="must be a number above 0"):
        eqb.from_graph([[0, 1], [1, 0]], **options)


def test_epsilon_and_delta_can_be_traced():
    """Their derivatives are those of W: 1 on an edge, and -1 where there is none."""
    adjacency = np.asarray([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    by_epsilon, by_delta = jax.jit(
        jax.jacfwd(lambda e, d: eqb.from_graph(adjacency, epsilon=e, delta=d).weights, (0, 1))
    )(0.2, 0.5)
    np.testing.assert_array_equal(by_epsilon, adjacency)
    np.testing.assert_array_equal(by_delta, -(1 - adjacency - np.eye(3)))
