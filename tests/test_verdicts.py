"""Every way for a trajectory to end, and none mistaken for another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import lsoda, velocity
from problems import ENDS

import equilibrax as eqb
from equilibrax import Outcome


def settle(end, dtype=np.float64):
    x0 = None if end.x0 is None else np.asarray(end.x0, dtype)
    network = end.network().astype(dtype)
    return eqb.find_fixed_points(network, np.asarray(end.input, dtype), x0=x0, method=end.method)


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.rounding
def test_end(name):
    end = ENDS[name]
    found = settle(end)
    assert Outcome(int(found.outcome)) in end.outcomes
    if end.state is not None:
        tolerance = 1e-4 if end.outcomes == (Outcome.MARGINAL,) else 1e-9
        np.testing.assert_allclose(found.state, end.state, atol=tolerance)
    if end.abscissa is not None:
        assert float(found.abscissa) == pytest.approx(end.abscissa, abs=1e-7)
    if end.period is not None:
        assert float(found.period) == pytest.approx(end.period, rel=0.01)
    elif Outcome.OSCILLATING not in end.outcomes:
        assert np.isnan(found.period)
    if Outcome.INVALID not in end.outcomes:
        assert np.isfinite(found.state).all()
        assert np.isfinite(found.rates).all()
    if Outcome.INVALID not in end.outcomes and end.network().is_threshold_linear:
        f, tau = velocity(end.network()), np.asarray(end.network().tau)
        residual = np.abs(tau * f(0.0, np.asarray(found.state), np.asarray(end.input))).max()
        assert float(found.residual) == pytest.approx(residual, rel=1e-9, abs=1e-13)
    assert not bool(found.certified) or int(found.outcome) == Outcome.STABLE


@pytest.mark.parametrize(
    "name", ["winner", "saddle", "runaway", "line-attractor", "nearly-integrating", "three-cycle"]
)
@pytest.mark.rounding
def test_end_in_single_precision(name):
    found = settle(ENDS[name], np.float32)
    assert found.state.dtype == np.float32
    assert Outcome(int(found.outcome)) in ENDS[name].outcomes


def test_period_of_the_three_cycle_against_scipy_events():
    end = ENDS["three-cycle"]
    found = settle(end)

    def upward(t, x):
        return x[0] - 0.3

    upward.direction = 1
    crossings = lsoda(end.network(), end.input, end.x0, t1=400, events=upward).t_events[0]
    period = np.diff(crossings[-5:]).mean()
    assert float(found.period) == pytest.approx(period, rel=1e-3)


def test_divergence_is_found_early_with_finite_numbers():
    found = settle(ENDS["runaway"])
    # |x| grows as exp(t / 2) from 1: it has doubled 48 times beyond the bound of 1e4 or 2e4 before
    # half of the time is over.
    assert float(found.time) < 2 * np.log(4e4 * 2.0**48) < 100
    assert np.isfinite(found.residual)
    assert np.isfinite(found.abscissa)


def test_steps_run_out():
    found = eqb.find_fixed_points(eqb.partitioned(), np.full(5, 0.3), method=eqb.Flow(max_steps=3))
    assert int(found.outcome) == Outcome.NOT_SETTLED
    assert 3 <= int(found.num_steps) <= 4


def test_throw_names_counts_and_remedies():
    network = eqb.two_neuron(1.5, 0.0)
    inputs = np.asarray([[1.0, 1.0], [-1.0, -1.0], [np.nan, 0.0], [1.0, 2.0]])
    with pytest.raises(eqb.FixedPointError) as caught:
        eqb.find_fixed_points(network, inputs, throw=True)
    message = str(caught.value)
    assert "3 of 4 inputs have no stable fixed point" in message
    assert "2 DIVERGED: " + Outcome.DIVERGED.message in message
    assert "1 INVALID: " + Outcome.INVALID.message in message
    found = eqb.find_fixed_points(network, inputs[[1, 1, 1, 1]], throw=True)
    assert bool(found.stable.all())


def test_every_outcome_has_its_own_message():
    assert len({outcome.message for outcome in Outcome}) == len(Outcome) == 7


def test_an_unsound_network_leaves_its_neighbours_alone():
    """In a batch of networks: a stable one, runaway excitation, and one that is not finite."""
    weights = jnp.asarray(
        [[[0.5, -2.0], [-2.0, 0.5]], [[1.5, 0.0], [0.0, 1.5]], [[jnp.nan, 0.0], [0.0, 0.0]]]
    )
    inputs = jnp.asarray([[1.0, 0.8], [0.3, -0.2]])

    def of(w):
        return eqb.find_fixed_points(eqb.RateNetwork(w), inputs)

    found = jax.vmap(of)(weights)
    expected = [[Outcome.STABLE] * 2, [Outcome.DIVERGED] * 2, [Outcome.INVALID] * 2]
    assert found.outcome.tolist() == expected
    np.testing.assert_array_equal(found.state[0], of(weights[0]).state)
    assert np.isnan(np.asarray(found.state[2])).all()


RUNAWAYS = {
    "a silent neuron that nobody drives": (np.diag([0.0, 1.1]), [0.1, 0.0], [-0.1, 0.7], True),
    "an active one, upstream": ([[1.03, 1.2], [0.0, 0.5]], [0.0, 0.0], [0.5, 1.0], True),
    "a loop that turns, upstream": (
        [[1.03, 0.1, 0.0], [0.0, 0.0, -0.9], [0.0, 0.9, 0.0]], [0.0] * 3, [0.5, 2.0, 2.0], True,
    ),
    "a neuron that will stop it, far away": ([[1.1, -1.0], [1.0, 0.0]], [0, 1e7], [1.0, 0.0], False),
    "one that hardly listens, and will": ([[1.1, -1e9], [1e-7, 0.0]], [0, 1.0], [1.0, 0.0], False),
}  # fmt: skip


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
@pytest.mark.parametrize("case", RUNAWAYS)
@pytest.mark.rounding
def test_growth_that_some_neurons_take_no_part_in(case, convention):
    """Slow ones, far from the bound when time is over: only a proof calls them DIVERGED."""
    weights, bias, inputs, diverges = RUNAWAYS[case]
    network = eqb.RateNetwork(
        np.asarray(weights, float), np.asarray(bias, float), convention=convention
    )
    found = eqb.find_fixed_points(network, jnp.asarray(inputs), method=eqb.Flow(t1=250.0))
    assert (found.outcome == Outcome.DIVERGED) == diverges
    end = lsoda(network, inputs, t1=3000.0, rtol=1e-9).y
    assert (np.abs(end[:, -1]).max() > 1e12) == diverges
