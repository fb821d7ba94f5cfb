"""All fixed points, against plain NumPy, the index theorem and the trajectory."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import enumerate_voltage, lsoda, velocity

import equilibrax as eqb

THREE_CYCLE = eqb.from_graph([[0, 0, 1], [1, 0, 0], [0, 1, 0]])


@pytest.fixture(scope="module")
def inputs():
    return jax.random.uniform(jax.random.key(11), (4000, 5), minval=-1.0)


@pytest.fixture(scope="module")
def every(reference, inputs):
    return eqb.enumerate_fixed_points(reference, inputs)


def test_the_same_points_as_plain_numpy(reference, inputs, every):
    for k in range(60):
        points = enumerate_voltage(reference, inputs[k])
        valid = np.asarray(every.valid[k])
        assert valid.sum() == len(points)
        for x, abscissa in points:
            distance = np.abs(np.asarray(every.state[k])[valid] - x).max(axis=1)
            here = np.flatnonzero(valid)[distance.argmin()]
            assert distance.min() < 1e-12
            assert float(every.abscissa[k, here]) == pytest.approx(abscissa, abs=1e-6)
            assert bool(every.stable[k, here]) == (abscissa < 0)
            np.testing.assert_array_equal(every.active[k, here], x > 0)
    assert np.isnan(np.asarray(every.state)[~np.asarray(every.valid)]).all()


def test_what_is_known_of_the_reference_network(reference, every):
    stable = np.asarray((every.stable & every.valid).sum(axis=1))
    # 0.451 of the inputs have two or three stable points; five standard errors of 4,000.
    assert (stable > 1).mean() == pytest.approx(0.451, abs=0.04)
    assert stable.max() == 3
    assert stable.min() == 1
    # 8 of the 32 active sets are stable, and every one of them occurs.
    sets = np.asarray(every.active)[np.asarray(every.stable & every.valid)]
    assert len(np.unique(sets, axis=0)) == 8


def test_the_indices_of_all_points_sum_to_one(reference, inputs, every):
    """sum of sign det(I - W_sigma) over the fixed points of a nondegenerate input."""
    cases = [(reference, every)]
    drive = jax.random.uniform(jax.random.key(1), (200, 3), minval=0.1)
    cases.append((THREE_CYCLE, eqb.enumerate_fixed_points(THREE_CYCLE, drive)))
    for network, found in cases:
        weights = np.asarray(network.weights)
        matrices = np.eye(len(weights)) - weights * np.asarray(found.active)[..., None, :]
        signs = np.where(found.valid, np.sign(np.linalg.det(matrices)), 0)
        np.testing.assert_array_equal(signs.sum(axis=1), 1)


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
def test_points_are_at_rest_and_hold_the_one_that_the_trajectory_reaches(convention):
    rng = np.random.default_rng(3)
    network = eqb.RateNetwork(
        rng.normal(size=(4, 4)) * 0.7 - 0.6, bias=rng.normal(size=4), tau=rng.uniform(0.5, 2, 4),
        convention=convention,
    )  # fmt: skip
    inputs = rng.uniform(-1, 1, (10, 4))
    every = eqb.enumerate_fixed_points(network, inputs)
    f = velocity(network)
    settled = 0
    for k, i in enumerate(inputs):
        points = np.asarray(every.state[k])[np.asarray(every.valid[k])]
        assert all(np.abs(f(0, x, i)).max() < 1e-12 for x in points)
        end = lsoda(network, i).y[:, -1]
        if np.abs(f(0, end, i)).max() < 1e-7:
            assert np.abs(points - end).max(axis=1).min() < 1e-6
            settled += 1
    assert settled >= 5


def test_shapes_and_odd_rows(reference, inputs):
    one = eqb.enumerate_fixed_points(reference, inputs[0])
    assert one.state.shape[1:] == (5,)
    assert one.valid.shape == one.state.shape[:1]
    folded = eqb.enumerate_fixed_points(reference, inputs[:6].reshape(2, 3, 5))
    assert folded.state.shape[:2] == (2, 3)
    assert folded.rates.shape == folded.state.shape
    assert eqb.enumerate_fixed_points(reference, inputs[:0]).state.shape[0] == 0
    odd = eqb.enumerate_fixed_points(reference, inputs[:2].at[0, 0].set(jnp.nan))
    assert not bool(odd.valid[0].any())
    assert bool(odd.valid[1].any())


def test_more_points_than_were_reckoned_with():
    """n neurons that only excite themselves: each is at -1 or at 1 / 0.5, or on the saddle."""
    network = eqb.RateNetwork(np.eye(3) * 1.5)
    every = eqb.enumerate_fixed_points(network, np.full(3, -0.5))
    assert every.state.shape == (8, 3)
    assert bool(every.valid.all())
    assert int(every.stable.sum()) == 1


def test_a_network_without_a_table_of_trapping_ellipsoids():
    network = eqb.ring(12, -4.0, 3.0)
    found = eqb.find_fixed_points(network, np.linspace(0.5, 1.0, 12))
    every = eqb.enumerate_fixed_points(network, np.linspace(0.5, 1.0, 12))
    assert every.valid.sum() >= 1
    assert np.abs(np.asarray(every.state) - np.asarray(found.state)).max(axis=-1).min() < 1e-9


def minors(matrix):
    n = len(matrix)
    sets = itertools.chain.from_iterable(itertools.combinations(range(n), k + 1) for k in range(n))
    return np.asarray([np.linalg.det(matrix[np.ix_(s, s)]) for s in sets])


def test_uniqueness_against_all_minors_and_enumeration(inputs, reference):
    rng = np.random.default_rng(0)
    unique = 0
    for _ in range(40):
        weights = rng.normal(size=(4, 4)) * 0.6
        network = eqb.RateNetwork(weights)
        proven = (minors(np.eye(4) - weights) > 1e-9).all()
        assert eqb.is_unique(network) == proven
        unique += proven
    assert 5 < unique < 35
    assert not eqb.is_unique(reference)
    assert not eqb.is_unique(eqb.two_neuron(0.5, -2.0))
    tame = eqb.two_neuron(0.2, -0.5)
    assert eqb.is_unique(tame)
    found = eqb.enumerate_fixed_points(tame, inputs[:500, :2])
    assert found.state.shape[1] == 1
    assert bool(found.valid.all())
    # Neither is the one point always stable, nor does uniqueness need it.
    cycle = eqb.RateNetwork(np.asarray([[0.0, -1.8, 0], [0, 0, -1.8], [-1.8, 0, 0]]))
    assert eqb.is_unique(cycle) == (minors(np.eye(3) - cycle.weights) > 0).all()


def test_the_certificate_as_an_event(reference, inputs):
    def solve(i, event, t1=100.0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(reference.vector_field), diffrax.Tsit5(), 0.0, t1, None,
            jnp.zeros(5), args=i, event=diffrax.Event(event),
            stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-6),
        )  # fmt: skip

    event = eqb.settled_event(reference)
    ends = jax.vmap(lambda i: solve(i, event))(inputs[:12])
    found = eqb.find_fixed_points(reference, inputs[:12])
    assert bool(ends.event_mask.all())
    assert float(ends.ts.max()) < 60
    for k in range(12):
        # From where the event stopped it, the trajectory never leaves the chamber.
        start = np.asarray(ends.ys[k, -1])
        rest = lsoda(reference, inputs[k], x0=start, t1=60.0, t_eval=np.linspace(0, 60, 200))
        assert ((rest.y.T > 0) == (start > 0)).all()
        np.testing.assert_allclose(rest.y[:, -1], found.state[k], atol=1e-6)


def test_the_event_of_a_smooth_network_sees_every_component():
    network = eqb.RateNetwork(np.zeros((2, 2)), transfer=eqb.tanh)
    event = eqb.settled_event(network, rtol=1e-4, atol=1e-5)
    i = jnp.asarray([1000.0, 1.0])
    assert not bool(event(0.0, jnp.asarray([1000.0, 0.9]), i))
    assert bool(event(0.0, jnp.asarray([1000.0, 1.00001]), i))
