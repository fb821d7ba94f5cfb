"""What is claimed to be proven is true: of trajectories, of growth, of whole networks."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from oracles import lsoda

import equilibrax as eqb
from equilibrax import Outcome

CONVENTIONS = ("voltage", "activity", "recurrent")


def random_network(n, convention, seed=0):
    """Not symmetric, with thresholds and time constants that differ."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(n, n)) * 0.8 / np.sqrt(n) - 0.3 / n
    return eqb.RateNetwork(
        weights, bias=rng.uniform(-0.1, 0.1, n), tau=rng.uniform(0.5, 3.0, n), convention=convention
    )


@pytest.mark.parametrize("n", [4, 12])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.rounding
def test_a_trapped_trajectory_never_leaves_its_chamber(convention, n):
    network = random_network(n, convention)
    inputs = jr.uniform(jr.key(1), (300, n), jnp.float64, -1.0, 1.0)
    found = eqb.find_fixed_points(network, inputs)
    assert float(found.certified.mean()) > 0.9
    assert np.abs(np.asarray(found.residual)[found.stable]).max() < 1e-13
    # Starts at all distances from the fixed point, in its chamber and out of it.
    u = np.abs(np.asarray(jax.vmap(network.drive)(found.state, inputs))).min(axis=1)
    distance = np.geomspace(0.01, 30, 300) * u
    direction = jr.normal(jr.key(2), (300, n), jnp.float64)
    starts = found.state + distance[:, None] * direction
    event = eqb.settled_event(network)
    claimed = np.asarray(jax.jit(jax.vmap(lambda x, i: event(0.0, x, i)))(starts, inputs))
    assert 20 < claimed.sum() < 280
    times = np.concatenate([[0], np.geomspace(1e-3, 60, 400)])
    for k in np.flatnonzero(claimed & np.asarray(found.stable)):
        x0, i = starts[k], inputs[k]
        # The chamber's linear flow, mode by mode.
        jacobian, velocity = network.jacobian(x0, i), network.vector_field(0, x0, i)
        rates, modes = np.linalg.eig(np.asarray(jacobian))
        d = np.linalg.solve(np.asarray(jacobian), np.asarray(velocity))
        parts = np.linalg.solve(modes, d.astype(complex))
        path = np.asarray(x0) - d + (np.exp(times[:, None] * rates) * parts @ modes.T).real
        drives = np.asarray(jax.vmap(lambda x, i=i: network.drive(x, i))(jnp.asarray(path)))
        assert ((drives > 0) == (drives[0] > 0)).all()
        assert np.abs(path[-1] - (np.asarray(x0) - d)).max() < np.abs(d).max() + 1e-12


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.rounding
def test_larger_networks_settle_on_points_that_enumeration_knows(convention):
    strength = {"voltage": (1.0, 8.0), "activity": (1.0, 8.0), "recurrent": (0.24, 2.0)}
    w_e, w_i = strength[convention]
    network = eqb.partitioned((5, 6), w_e=w_e, w_i=w_i, bias=0.02, convention=convention)
    inputs = jr.uniform(jr.key(3), (400, 12), jnp.float64, -1.0, 1.0)
    found = eqb.find_fixed_points(network, inputs, method=eqb.Flow(abscissa=True))
    assert float(found.stable.mean()) > 0.97
    assert float(found.certified[found.stable].mean()) > 0.9
    every = eqb.enumerate_fixed_points(network, inputs)
    gap = jnp.abs(every.state - found.state[:, None]).max(axis=-1)
    near = jnp.nanargmin(jnp.where(every.valid, gap, jnp.inf), axis=1)
    rows = jnp.arange(400)
    stable = np.asarray(found.stable)
    assert np.asarray(gap[rows, near])[stable].max() < 1e-11
    assert np.asarray(every.stable[rows, near])[stable].all()
    # A Jordan block's eigenvalues are known to the root of the rounding.
    error = np.asarray(every.abscissa[rows, near] - found.abscissa)[stable]
    assert np.abs(error).max() < 1e-5


def test_stability_is_proven_without_eigenvalues():
    network = eqb.partitioned((5, 6), w_e=1.0, w_i=8.0)
    inputs = jr.uniform(jr.key(3), (400, 12), jnp.float64, -1.0, 1.0)
    found = eqb.find_fixed_points(network, inputs, method=eqb.Flow(abscissa=True))
    bare = eqb.find_fixed_points(network, inputs)
    np.testing.assert_array_equal(bare.state, found.state)
    np.testing.assert_array_equal(bare.outcome, found.outcome)
    assert np.isnan(np.asarray(bare.abscissa)[np.asarray(bare.certified)]).all()


@pytest.mark.rounding
def test_no_certificate_without_a_stable_fixed_point():
    """Half of these inputs have none, and many a candidate lies just outside its chamber."""
    network = eqb.partitioned(w_ii=0.0)
    inputs = jr.uniform(jr.key(4), (20_000, 5), jnp.float64, -1.0, 1.0)
    found = eqb.find_fixed_points(network, inputs)
    every = eqb.enumerate_fixed_points(network, inputs)
    stable = np.asarray(found.stable)
    assert 0.4 < stable.mean() < 0.6
    assert not (stable & ~np.asarray(every.stable.any(axis=1))).any()
    gap = jnp.where(every.stable, jnp.abs(every.state - found.state[:, None]).max(axis=-1), jnp.inf)
    assert np.asarray(gap.min(axis=1))[stable].max() < 1e-12
    assert np.asarray(found.residual)[stable].max() < 1e-13
    assert np.asarray(found.certified).sum() > 0.999 * stable.sum()


def test_growth_is_proven_long_before_it_is_seen():
    # e-folding time 33: 1e4 would be reached after t1.
    network = eqb.RateNetwork(np.asarray([[1.03, 0.0], [0.05, 0.2]]))
    inputs = jnp.asarray([[1.0, 0.5], [-1.0, 0.5], [0.3, 0.1]])
    found = eqb.find_fixed_points(network, inputs)
    expected = [Outcome.DIVERGED, Outcome.STABLE, Outcome.DIVERGED]
    assert found.outcome.tolist() == expected
    assert float(found.time.max()) <= 40.1
    assert float(jnp.abs(found.state).max()) < 100
    np.testing.assert_allclose(found.abscissa[0], 0.03, rtol=1e-12)
    far = lsoda(network, inputs[0], x0=found.state[0], t1=400.0).y[:, -1]
    assert np.abs(far).max() > 1e4


@pytest.mark.rounding
def test_excursions_are_not_taken_for_growth():
    """Excitation that outruns inhibition at first, and is caught by it later."""
    weights = np.asarray([[2.0, -3.0], [3.0, -0.5]])
    network = eqb.RateNetwork(weights, tau=np.asarray([1.0, 8.0]))
    inputs = jr.uniform(jr.key(5), (100, 2), jnp.float64, -1.0, 1.0)
    found = eqb.find_fixed_points(network, inputs)
    assert Outcome.DIVERGED not in found.outcome.tolist()
    for k in range(10):
        assert np.abs(lsoda(network, inputs[k], t1=400.0).y).max() < 1e3


def test_a_network_that_is_proven_to_converge_does():
    network = eqb.random_ei(20, key=jr.key(1))
    i = jr.uniform(jr.key(6), (20,), jnp.float64, -1.0, 1.0)
    starts = 3 * jr.normal(jr.key(7), (50, 20), jnp.float64)
    found = eqb.find_fixed_points(network, jnp.broadcast_to(i, (50, 20)), x0=starts)
    assert bool(found.certified.all())
    np.testing.assert_allclose(found.state, found.state[:1].repeat(50, axis=0), atol=1e-13)
    np.testing.assert_allclose(found.state[0], lsoda(network, i).y[:, -1], atol=1e-7)
