"""Batches, shapes, transformations, starts and solvers of `find_fixed_points`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equilibrax as eqb
from equilibrax import Outcome
from equilibrax.fixed_points import _driver


@pytest.fixture(scope="module")
def batch():
    return jax.random.uniform(jax.random.key(6), (64, 5), minval=-1.0)


@pytest.fixture(scope="module")
def settled(reference, batch):
    return eqb.find_fixed_points(reference, batch)


def test_a_batch_is_the_same_as_a_loop_in_any_order_and_shape(reference, batch, settled):
    assert len(set(np.asarray(settled.num_steps).tolist())) > 5, (
        "lanes take different numbers of steps"
    )
    order = np.random.default_rng(0).permutation(64)
    shuffled = eqb.find_fixed_points(reference, batch[order])
    np.testing.assert_allclose(shuffled.state, settled.state[order], rtol=0, atol=1e-13)
    folded = eqb.find_fixed_points(reference, batch.reshape(4, 16, 5))
    assert folded.state.shape == (4, 16, 5)
    assert folded.outcome.shape == (4, 16)
    np.testing.assert_allclose(folded.state.reshape(64, 5), settled.state, rtol=0, atol=1e-13)
    for k in range(3):
        single = eqb.find_fixed_points(reference, batch[k])
        assert single.outcome.shape == ()
        np.testing.assert_allclose(single.state, settled.state[k], rtol=0, atol=1e-13)


def test_no_answer_depends_on_devices_lanes_or_order(reference):
    """What is certified agrees to the last bit, everything else to rounding."""
    inputs = jax.random.uniform(jax.random.key(8), (2048, 5), minval=-1.0)
    found = eqb.find_fixed_points(reference, inputs)
    order = np.random.default_rng(1).permutation(2048)
    back = np.argsort(order)
    # Under `jit` the caller decides on devices: there is one.
    alone = jax.jit(lambda i: eqb.find_fixed_points(reference, i))(inputs)
    few = eqb.find_fixed_points(reference, inputs, method=eqb.Flow(lanes=24))
    shuffled = jax.tree.map(lambda a: a[back], eqb.find_fixed_points(reference, inputs[order]))
    sure = np.asarray(found.certified)
    assert sure.mean() > 0.999
    for other in (alone, few, shuffled):
        np.testing.assert_array_equal(other.outcome, found.outcome)
        np.testing.assert_array_equal(other.certified, found.certified)
        np.testing.assert_array_equal(np.asarray(other.state)[sure], np.asarray(found.state)[sure])
        np.testing.assert_allclose(other.state, found.state, rtol=0, atol=1e-12)
    assert found.state.devices() == inputs.devices()


def test_a_batch_in_chunks_is_the_same(reference, batch, settled, monkeypatch):
    monkeypatch.setattr(_driver, "chunk_rows", lambda n, count, platform: 24)
    found = eqb.find_fixed_points(reference, batch.reshape(4, 16, 5))
    np.testing.assert_array_equal(found.outcome.ravel(), settled.outcome)
    np.testing.assert_allclose(found.state.reshape(64, 5), settled.state, rtol=0, atol=1e-13)
    for whole, pieces in zip(jax.tree.leaves(settled), jax.tree.leaves(found), strict=True):
        assert pieces.dtype == whole.dtype
        assert pieces.size == whole.size


def test_an_invalid_row_changes_no_bit_of_its_neighbours(reference, batch, settled):
    bad = batch.at[3, 1].set(jnp.nan).at[10, 0].set(jnp.inf).at[63, 4].set(-jnp.inf)
    found = eqb.find_fixed_points(reference, bad)
    rows = np.asarray([3, 10, 63])
    assert (np.asarray(found.outcome)[rows] == Outcome.INVALID).all()
    assert np.isnan(np.asarray(found.state)[rows]).all()
    for name in (
        "state",
        "rates",
        "outcome",
        "residual",
        "abscissa",
        "certified",
        "time",
        "num_steps",
    ):
        left = np.delete(np.asarray(getattr(found, name)), rows, axis=0)
        right = np.delete(np.asarray(getattr(settled, name)), rows, axis=0)
        np.testing.assert_array_equal(left, right)


def test_an_empty_batch_gives_an_empty_result(reference):
    found = eqb.find_fixed_points(reference, jnp.zeros((0, 5)))
    assert found.state.shape == (0, 5)
    assert found.outcome.shape == (0,)
    assert found.outcome.dtype == jnp.int8
    assert sum(found.counts.values()) == 0


def test_jit_and_vmap_compose(reference, batch, settled):
    mapped = jax.jit(jax.vmap(lambda i: eqb.find_fixed_points(reference, i).state))(batch)
    np.testing.assert_allclose(mapped, settled.state, rtol=0, atol=1e-13)
    over_networks = jax.vmap(
        lambda s: eqb.find_fixed_points(eqb.RateNetwork(s * reference.weights), batch[:8])
    )(jnp.asarray([1.0, 0.5]))
    np.testing.assert_allclose(over_networks.state[0], settled.state[:8], rtol=0, atol=1e-12)
    assert bool(over_networks.stable.all())
    x, i = np.asarray(over_networks.state[1]), np.asarray(batch[:8])
    balance = -x + np.maximum(x, 0) @ (0.5 * np.asarray(reference.weights)).T + i
    np.testing.assert_allclose(balance, 0, atol=1e-12)


def test_the_same_programs_serve_batches_of_every_size():
    traces = []

    def transfer(u):
        traces.append(u.shape)
        return jnp.tanh(u)

    network = eqb.RateNetwork(np.eye(3) * 0.5, transfer=transfer)
    eqb.find_fixed_points(network, np.ones((4, 3)))
    once = len(traces)
    again = eqb.RateNetwork(np.eye(3) * 0.7, transfer=transfer)
    constructed = len(traces) - once
    eqb.find_fixed_points(again, np.zeros((4, 3)), method=eqb.Flow())
    assert len(traces) == once + constructed, (
        "other values, and an equal method, use the same program"
    )
    for shape in ((7, 3), (65, 3), (3,), (0, 3), (2, 900, 3)):
        eqb.find_fixed_points(network, np.ones(shape))
    assert len(traces) == once + constructed, "and so do batches of every size"


def test_the_start_decides_between_two_stable_points(reference):
    i = jnp.asarray([0.5, 0.5, 0.5, 0.5, 0.0])
    starts = jnp.asarray([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0]])
    found = eqb.find_fixed_points(reference, jnp.broadcast_to(i, (2, 5)), x0=starts)
    np.testing.assert_array_equal(eqb.metrics.winner(found.rates, (2, 2)), [0, 1])
    shared = eqb.find_fixed_points(reference, jnp.broadcast_to(i, (2, 5)), x0=starts[0])
    np.testing.assert_array_equal(eqb.metrics.winner(shared.rates, (2, 2)), [0, 0])


@pytest.mark.parametrize("solver", ["Bosh3", "Dopri8", "Kvaerno5"])
def test_other_solvers_reach_the_same_points(reference, batch, settled, solver):
    import diffrax

    method = eqb.Flow(solver=getattr(diffrax, solver)())
    found = eqb.find_fixed_points(reference, batch, method=method)
    assert bool(found.stable.all())
    np.testing.assert_allclose(found.state, settled.state, atol=1e-10)


def test_scaling_the_input_scales_the_answer(reference, batch, settled):
    for factor in (1e-8, 1e-3, 1e5):
        found = eqb.find_fixed_points(reference, factor * batch)
        np.testing.assert_array_equal(found.outcome, settled.outcome)
        np.testing.assert_allclose(found.state / factor, settled.state, rtol=0, atol=1e-12)


def test_permuting_neurons_permutes_the_answer(reference, batch, settled):
    order = np.asarray([3, 0, 4, 2, 1])
    network = eqb.RateNetwork(reference.weights[order][:, order], partitions=(2, 2))
    found = eqb.find_fixed_points(network, batch[:, order])
    np.testing.assert_allclose(found.state, settled.state[:, order], rtol=0, atol=1e-12)


def test_a_large_batch_of_a_large_network_ends():
    """Two batched LAPACK calls at once would wait for each other for ever."""
    network = eqb.ring(100).astype(jnp.float32)
    inputs = jax.random.uniform(jax.random.key(0), (256, 100), jnp.float32, -1.0, 1.0)
    found = eqb.find_fixed_points(network, inputs, method=eqb.Flow(evidence="spectrum"))
    assert bool(found.stable.all())
    assert bool((found.evidence == eqb.Evidence.SPECTRUM).all())
