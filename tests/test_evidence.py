"""What verdicts rest on: every kind of evidence is true, refused where it must be, and named."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import lsoda

import equilibrax as eqb
from equilibrax import Evidence, Flow, Outcome
from equilibrax.fixed_points.certificates._powers import Powers

CONVENTIONS = ("voltage", "activity", "recurrent")
LEVELS = ("proof", "probe", "spectrum")
KINDS = {
    "proof": {Evidence.PROVEN, Evidence.STABLE_PROVEN, Evidence.SPECTRUM},
    "probe": {Evidence.PROBED, Evidence.SPECTRUM},
    "spectrum": {Evidence.SPECTRUM},
}


def abscissas(network, found, inputs):
    """From eigenvalues in float64, of LAPACK."""
    jacobians = jax.vmap(network.jacobian)(found.state, inputs)
    return np.linalg.eigvals(np.asarray(jacobians, np.float64)).real.max(axis=1)


def random_weights(rng, n, kind):
    weights = rng.normal(size=(n, n)) / np.sqrt(n)
    if kind == "edge":
        weights *= 0.97 / np.abs(np.linalg.eigvals(weights)).max()
    elif kind == "non-normal":
        weights = 2 * np.triu(weights, 1) + 0.3 * np.tril(weights)
    elif kind == "sparse":
        weights *= 2 * (rng.uniform(size=(n, n)) < 0.2)
    elif kind == "strong":
        weights *= 1.8
    return weights


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("n", [6, 14])
@pytest.mark.rounding
def test_no_evidence_is_false(n, convention, level):
    """Of random networks near the edge of stability and beyond, with transients and thresholds."""
    rng = np.random.default_rng(n)
    seen = set()
    for kind in ("plain", "edge", "non-normal", "sparse", "strong"):
        network = eqb.RateNetwork(
            random_weights(rng, n, kind), bias=rng.uniform(-0.2, 0.2, n),
            tau=rng.uniform(0.5, 3.0, n), convention=convention,
        )  # fmt: skip
        inputs = jnp.asarray(rng.uniform(-1, 1, (128, n)))
        found = eqb.find_fixed_points(network, inputs, method=Flow(evidence=level))
        stable, evidence = np.asarray(found.stable), np.asarray(found.evidence)
        exact = abscissas(network, found, inputs)
        assert (exact[stable] < 0).all()
        bound = np.asarray(found.abscissa_bound)
        assert (bound[stable] >= exact[stable] - 1e-7).all()
        assert (bound[stable] < 0).all()
        assert np.asarray(found.residual)[stable].max(initial=0) < 1e-11
        seen |= set(evidence[stable])
    # Small networks have all chambers in a table, whose proofs are of convergence.
    assert seen <= KINDS[level]
    assert min(KINDS[level]) in seen


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("transfer", ["threshold_linear", "tanh"])
@pytest.mark.parametrize("n", [4, 12])
@pytest.mark.rounding
def test_saddles_are_refused(n, transfer, level):
    """From a symmetric start no trajectory excites the direction in which it is unstable."""
    weights = -0.6 * (1 - np.eye(n)) + 0.7 * np.eye(n)
    network = eqb.RateNetwork(weights, transfer=getattr(eqb, transfer))
    inputs = jnp.full((3, n), 1.0 if transfer == "threshold_linear" else 0.0)
    found = eqb.find_fixed_points(network, inputs, method=Flow(evidence=level))
    assert found.outcome.tolist() == [Outcome.UNSTABLE] * 3
    assert found.evidence.tolist() == [Evidence.SPECTRUM] * 3
    assert np.isnan(np.asarray(found.abscissa_bound)).all()
    exact = abscissas(network, found, inputs)
    np.testing.assert_allclose(found.abscissa, exact, rtol=0, atol=1e-12)
    assert (exact > 0.2).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.rounding
def test_on_a_threshold_both_sides_are_judged(convention, level):
    """The last neuron hears nobody and is exactly on its threshold: silent, its eigenvalue is -1,
    and active, its own weight less 1. Both are stable in a common metric, since it decouples."""
    n, rng = 14, np.random.default_rng(3)
    for own, outcome in ((0.5, Outcome.STABLE), (2.0, Outcome.MARGINAL)):
        weights = 0.3 * rng.normal(size=(n, n)) / np.sqrt(n)
        weights[-1, :-1], weights[-1, -1] = 0, own
        network = eqb.RateNetwork(weights, convention=convention)
        inputs = jnp.asarray(rng.uniform(-1, 1, (40, n))).at[:, -1].set(0.0)
        found = eqb.find_fixed_points(network, inputs, method=Flow(evidence=level))
        assert found.outcome.tolist() == [outcome] * 40
        assert found.evidence.tolist() == [Evidence.SPECTRUM] * 40
        active = jax.vmap(network.drive)(found.state, inputs)[:, :-1] > 0
        worst = [
            np.linalg.eigvals(weights[np.ix_(here, here)] - np.eye(here.sum())).real.max()
            for here in np.append(np.asarray(active), np.ones((40, 1), bool), axis=1)
        ]
        if outcome == Outcome.STABLE:
            assert (np.asarray(found.abscissa_bound) >= np.asarray(worst) - 1e-12).all()
            assert (np.asarray(found.abscissa_bound) < 0).all()
            np.testing.assert_allclose(found.abscissa, worst, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.rounding
def test_a_power_of_norm_one_proves_nothing(dtype):
    n, rng = 12, np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.normal(size=(n, n)))[0]
    unit = float(jnp.finfo(dtype).eps)
    cycle = np.roll(np.eye(n), 1, axis=0)
    steady = [np.eye(n), -np.eye(n), cycle, orthogonal]
    grown = [(1 + 10 * unit) * matrix for matrix in steady]
    shrunk = [0.99 * matrix for matrix in steady]
    first = jnp.asarray([matrix - np.eye(n) for matrix in steady + grown + shrunk], dtype)
    growth, step = jnp.asarray(1 + 20 * unit, dtype), jnp.asarray(1.0, dtype)
    powers = Powers(first, step, growth, jnp.ones(len(first), bool))
    assert (np.asarray(powers.norm[:8]) >= 1).all()
    assert not np.isfinite(np.asarray(powers.bound[:8])).any()
    assert (np.asarray(powers.norm[8:]) < 1).all()
    # The bound gets sharp as the power grows.
    exact = [np.linalg.eigvals(matrix - np.eye(n)).real.max() for matrix in shrunk]
    assert (np.asarray(powers.bound[8:]) >= -0.01 - 1e-6).all()
    assert (np.asarray(powers.bound[8:]) < 0).all()
    assert max(exact) < 0


@pytest.mark.rounding
def test_smooth_networks_are_proven_at_their_polished_points():
    rng = np.random.default_rng(2)
    network = eqb.RateNetwork(0.8 * rng.normal(size=(20, 20)) / np.sqrt(20), transfer=eqb.tanh)
    inputs = jnp.asarray(rng.uniform(-1, 1, (100, 20)))
    found = eqb.find_fixed_points(network, inputs)
    assert found.evidence.tolist() == [Evidence.STABLE_PROVEN] * 100
    assert not bool(found.certified.any())
    assert np.asarray(found.residual).max() < 1e-14
    other = eqb.find_fixed_points(network, inputs, method=Flow(evidence="spectrum"))
    np.testing.assert_allclose(found.state, other.state, rtol=0, atol=1e-13)
    exact = abscissas(network, found, inputs)
    np.testing.assert_allclose(other.abscissa, exact, rtol=0, atol=1e-13)
    assert np.isnan(np.asarray(found.abscissa)).all()


def test_large_networks_are_probed_by_default():
    network = eqb.random_ei(160, key=jax.random.key(0)).astype(jnp.float32)
    inputs = jax.random.uniform(jax.random.key(1), (64, 160), jnp.float32, -1.0, 1.0)
    found = eqb.find_fixed_points(network, inputs)
    assert bool(found.stable.all())
    assert np.mean(np.asarray(found.evidence) == Evidence.PROBED) > 0.9
    proven = eqb.find_fixed_points(network, inputs, method=Flow(evidence="proof"))
    assert float(proven.certified.mean()) > 0.9
    np.testing.assert_allclose(found.state, proven.state, rtol=0, atol=1e-5)
    exact = abscissas(network, found, inputs)
    assert (np.asarray(found.abscissa_bound) >= exact).all()


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.rounding
def test_probed_states_are_fixed_points_to_rounding(convention):
    """Against the chamber's point by LAPACK in float64: steps that suit a stiff spectrum magnify
    rounding, and a loose bound allows for much."""
    n, seen = 12, 0
    for seed in (25, 36, 53):
        rng = np.random.default_rng(seed)
        weights = rng.normal(size=(n, n)) / np.sqrt(n) * 2 * (rng.uniform(size=(n, n)) < 0.3)
        bias, tau = rng.uniform(-0.2, 0.2, n), rng.uniform(0.5, 3.0, n)
        network = eqb.RateNetwork(weights, bias, tau, convention=convention).astype(jnp.float32)
        inputs = jnp.asarray(rng.uniform(-1, 1, (500, n)), jnp.float32)
        found = eqb.find_fixed_points(network, inputs, method=Flow(evidence="probe"))
        probed = np.asarray(found.evidence) == Evidence.PROBED
        with jax.enable_x64(True):
            exact, x, i = (
                jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)
                for tree in (network, found.state[probed], inputs[probed])
            )
            matrices = np.asarray(jax.vmap(exact.jacobian)(x, i))
            slope = np.asarray(jax.vmap(exact.vector_field, (None, 0, 0))(0.0, x, i))
            gap = np.linalg.solve(matrices, slope[..., None])[..., 0]
        assert np.abs(gap).max() < 2e-4
        seen += probed.sum()
    assert seen > 500


def test_slow_modes_of_large_networks_are_probed():
    """Near the edge of stability, where a sweep of a probe's steps gains little; against LSODA."""
    with jax.enable_x64(False):
        network = eqb.random_ei(300, key=jax.random.key(300), gain=0.9)
        drawn = jax.random.uniform(jax.random.key(1), (256, 300), minval=-1.0, maxval=1.0)
    inputs = np.asarray(drawn)[[63, 89, 187]]
    found = eqb.find_fixed_points(network, inputs)
    assert (found.evidence == Evidence.PROBED).all()
    for i, state in zip(inputs, found.state, strict=True):
        end = lsoda(network, i, t1=4000.0).y[:, -1]
        np.testing.assert_allclose(state, end, rtol=0, atol=1e-3)


def test_describe_counts_outcomes_and_evidence():
    inputs = jnp.asarray([[0.3, 0.2], [0.2, 0.3], [0.3, 0.3], [jnp.nan, 0.3]])
    found = eqb.find_fixed_points(eqb.two_neuron(), inputs)
    expected = "4 inputs: 2 STABLE, 1 UNSTABLE, 1 INVALID; evidence: 2 PROVEN, 1 SPECTRUM"
    assert found.describe() == expected
    assert found.evidence.dtype == jnp.int8
    assert found.evidence.tolist() == [0, 0, 3, 4]


@pytest.mark.parametrize("name", ["reference", "ring", "random E/I", "Wilson-Cowan"])
def test_on_a_gpu_nothing_goes_back_to_the_host(name):
    build = {
        "reference": eqb.partitioned,
        "ring": lambda: eqb.ring(20),
        "random E/I": lambda: eqb.random_ei(200, key=jax.random.key(1)),
        "Wilson-Cowan": eqb.WilsonCowan,
    }
    network = build[name]().astype(jnp.float32)
    inputs = jnp.zeros((8, network.num_inputs), jnp.float32)
    traced = jax.jit(lambda i: eqb.find_fixed_points(network, i)).trace(inputs)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    calls = set(re.findall(r"custom_call @([\w$.]+)", program))
    assert not [call for call in calls if re.search("hybrid|lapack|callback|host", call)]


def test_bad_levels_and_sizes():
    network, inputs = eqb.ring(12), 1 + 0.1 * jnp.cos(jnp.arange(12.0))[None]
    with pytest.raises(ValueError, match="`evidence` must be one of 'proof', 'probe', 'spectrum'"):
        Flow(evidence="certain")  # pyright: ignore
    bad = eqb.ring(12)
    bad = jax.tree.map(lambda a: a.at[0].set(jnp.nan), bad)
    found = eqb.find_fixed_points(bad, inputs, method=Flow(evidence="probe"))
    assert found.outcome.tolist() == [Outcome.INVALID]
    large = jax.ShapeDtypeStruct((20_000, 20_000), jnp.float32)
    flow = Flow(evidence="proof")
    with pytest.raises(ValueError, match='`evidence` must be "probe" or None'):
        jax.eval_shape(
            lambda w, i: eqb.find_fixed_points(eqb.RateNetwork(w), i, method=flow),
            large, jax.ShapeDtypeStruct((1, 20_000), jnp.float32),
        )  # fmt: skip
    assert bool(eqb.find_fixed_points(network, inputs, method=Flow(evidence="probe")).stable[0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.rounding
def test_a_probe_that_vanishes_is_evidence(dtype):
    """Where W is zero, one step of 1 / |J| takes every vector to zero."""
    network = eqb.RateNetwork(jnp.zeros((20, 20), dtype), bias=0.1)
    inputs = jax.random.uniform(jax.random.key(0), (50, 20), dtype, minval=-1)
    found = eqb.find_fixed_points(network, inputs, method=eqb.Flow(evidence="probe"))
    assert (found.evidence == Evidence.PROBED).all()
    assert (found.abscissa_bound < 0).all()
