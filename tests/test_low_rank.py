"""Proofs for networks of low rank, against eigenvalues and LSODA in double precision."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import lsoda

import equilibrax as eqb
from equilibrax import Evidence, Outcome
from equilibrax.fixed_points.certificates import LowRankPoint

N = 40
CONVENTIONS = ("voltage", "activity", "recurrent")


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["single", "double"])
@pytest.mark.rounding
def test_no_proof_of_low_rank_is_false(dtype):
    """Near the edge of stability and beyond it, against eigenvalues and LSODA."""
    rng = np.random.default_rng(3)
    kinds = []
    for strength in (0.5, 1.0, 1.5, 2.0):
        left = rng.normal(size=(30, 3))
        right = strength * (left @ rng.normal(size=(3, 3)) + rng.normal(size=(30, 3))) / 30
        network = eqb.RateNetwork(eqb.low_rank(left, right, -0.2), bias=0.1).astype(dtype)
        inputs = rng.uniform(-1, 1, (60, 30)).astype(dtype)
        found = eqb.find_fixed_points(network, inputs)
        matrix = left @ right.T - 0.2 * np.eye(30)
        stable = np.asarray(found.stable)
        active = np.asarray(found.state) > 0.1
        jacobians = matrix * active[:, None, :] - np.eye(30)
        assert (np.linalg.eigvals(jacobians).real.max(axis=1) < 0)[stable].all()
        double = eqb.RateNetwork(matrix, bias=0.1)
        for k in np.flatnonzero(np.asarray(found.certified))[:3]:
            end = lsoda(double, inputs[k], t1=400 / -float(found.abscissa_bound[k])).y[:, -1]
            scale = np.abs(end).max()
            np.testing.assert_allclose(found.state[k], end, atol=2e-5 * scale)
        kinds += found.evidence.tolist()
    assert kinds.count(Evidence.PROVEN) > 100


def test_a_saddle_of_low_rank_is_unstable_and_a_continuum_marginal():
    ones, signs = np.ones(N), np.where(np.arange(N) % 2, 1.0, -1.0)
    # Along `signs` the eigenvalue is 0.5; the start does not excite it.
    network = eqb.RateNetwork(eqb.low_rank(1.5 * signs / N, signs), transfer=eqb.tanh)
    found = eqb.find_fixed_points(network, jnp.zeros(N), x0=jnp.zeros(N))
    assert Outcome(int(found.outcome)) is Outcome.UNSTABLE
    np.testing.assert_allclose(found.abscissa, 0.5, rtol=1e-9)
    # W = 1 1' / N: an eigenvalue of zero where all are active, and a line of fixed points.
    line = eqb.RateNetwork(eqb.low_rank(ones / N, ones))
    found = eqb.find_fixed_points(line, jnp.zeros(N), x0=jnp.asarray(2 * ones))
    assert Outcome(int(found.outcome)) is Outcome.MARGINAL
    np.testing.assert_allclose(found.state, 2)


def competition(n, diagonal=0.0, bias=0.0, dtype=np.float32):
    """Two populations that excite themselves, and inhibit each other."""
    sign = np.repeat([1.0, -1.0], n // 2)
    left = np.stack([np.maximum(sign, 0), np.maximum(-sign, 0), np.ones(n)], axis=1)
    right = left * [5 / n, 5 / n, -4 / n]
    network = eqb.RateNetwork(eqb.low_rank(left, right, diagonal), bias=bias)
    return network.astype(dtype)


def in_double(network):
    """The same, with its matrix."""
    double = network.astype(np.float64)
    return eqb.RateNetwork(
        np.asarray(double.dense_weights), double.bias, convention=network.convention
    )


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
@pytest.mark.rounding
def test_trajectories_are_trapped_while_neurons_cross_their_thresholds(convention):
    n = 300
    rng = np.random.default_rng(0)
    left, other = rng.normal(size=(2, n))
    weights = eqb.low_rank(left, (other - left) / n, 0.1)
    network = eqb.RateNetwork(weights, convention=convention)
    inputs = rng.normal(size=(8, n))
    point = np.asarray(eqb.find_fixed_points(network, inputs).state)
    certificate = LowRankPoint(network, jnp.asarray(1e-8))
    certificate = eqx.tree_at(lambda c: c.globally, certificate, jnp.asarray(False))
    drive = jax.vmap(network.drive)
    crossing, proven = 0, 0
    for size in (0.01, 0.03, 0.1, 0.3, 3.0):
        x = jnp.asarray(point + size * rng.normal(size=point.shape))
        proof = certificate.proof(network, x.T, jnp.asarray(inputs).T, jnp.ones(8, bool))
        trapped = np.asarray(proof.evidence) == Evidence.PROVEN
        sides = (np.asarray(drive(x, inputs)) > 0) != (np.asarray(drive(point, inputs)) > 0)
        crossing += (trapped & sides.any(axis=1)).sum()
        proven += trapped.sum()
        for k in np.flatnonzero(trapped)[:1]:
            end = lsoda(in_double(network), inputs[k], x0=x[k], t1=100.0).y[:, -1]
            np.testing.assert_allclose(proof.point[k], end, atol=1e-6)
    assert crossing > 10
    assert proven < 40  # not those far away


@pytest.mark.rounding
def test_no_trajectory_is_said_to_be_trapped_by_a_point_that_it_does_not_reach():
    """Two populations compete; starts on both sides of the boundary between their basins."""
    n = 60
    rng = np.random.default_rng(1)
    network = competition(n, 0.05)
    certificate = LowRankPoint(network, jnp.float32(3e-4))
    assert not certificate.convergent
    inputs = np.repeat(0.5 + 0.1 * rng.normal(size=(4, n)), 16, axis=0).astype(np.float32)
    starts = (np.repeat([1.0, -1.0], n // 2) * rng.normal(0, 0.5, (64, 1))).astype(np.float32)
    proof = certificate.proof(
        network, jnp.asarray(starts.T), jnp.asarray(inputs.T), jnp.ones(64, bool)
    )
    found = eqb.find_fixed_points(network, inputs, x0=starts)
    assert found.stable.all()
    ends = [
        lsoda(in_double(network), i, x0, t1=200.0).y[:, -1]
        for i, x0 in zip(inputs, starts, strict=True)
    ]
    np.testing.assert_allclose(found.state, ends, atol=2e-5)
    assert len({tuple(end > 0) for end in np.asarray(found.state)}) > 1
    trapped = np.asarray(proof.evidence) == Evidence.PROVEN
    np.testing.assert_allclose(
        np.asarray(proof.point)[trapped], np.asarray(ends)[trapped], atol=2e-5
    )


@pytest.mark.rounding
def test_points_on_thresholds_are_proven_where_all_sides_agree():
    """By a metric that the chambers beside them share; a computer's zero hides no sign."""
    n = 300
    rng = np.random.default_rng(4)
    left, other = rng.normal(size=(2, n))
    network = eqb.RateNetwork(eqb.low_rank(left, (other - left) / n, 0.1)).astype(np.float32)
    certificate = LowRankPoint(network, jnp.float32(3e-4))
    certificate = eqx.tree_at(lambda c: c.globally, certificate, jnp.asarray(False))
    inputs = rng.normal(size=n).astype(np.float32)
    first = np.asarray(eqb.find_fixed_points(network, inputs).state)
    # Three silent neurons are moved onto their thresholds.
    moved = np.flatnonzero(first < 0)[:3]
    inputs[moved] -= first[moved]
    point = np.where(np.isin(np.arange(n), moved), 0, first)
    x = point[:, None] + 0.01 * rng.normal(size=(n, 8)).astype(np.float32)
    repeated = jnp.repeat(jnp.asarray(inputs)[:, None], 8, axis=1)
    proof = certificate.proof(network, jnp.asarray(x), repeated, jnp.ones(8, bool))
    assert np.abs(proof.point[:, moved]).max() < 1e-6
    assert (proof.evidence == Evidence.PROVEN).all()
    end = lsoda(in_double(network), inputs, x[:, 0]).y[:, -1]
    np.testing.assert_allclose(proof.point[0], end, atol=1e-5)


@pytest.mark.parametrize("shape", [(40,), (41,), (6, 8), (5, 7)])
def test_kernels_of_few_fourier_modes_are_of_low_rank(shape):
    rng = np.random.default_rng(5)
    spectrum, kept = np.fft.fftn(rng.normal(size=shape)), np.zeros(shape, bool)
    for mode in [
        *rng.integers(0, shape, (3, len(shape))),
        np.zeros(len(shape), int),
        np.asarray(shape) // 2,
    ]:
        kept[tuple(mode)] = kept[tuple(-mode % shape)] = True
    kernel = jnp.asarray(0.3 * np.fft.ifftn(spectrum * kept).real)
    weights = eqb.convolution(kernel)
    few = weights.with_few_modes(32)
    assert few is not None
    assert few.left.shape[1] == kept.sum()
    np.testing.assert_allclose(few.as_matrix(), weights.as_matrix(), atol=1e-14)
    assert weights.with_few_modes(int(kept.sum()) - 1) is None
    assert eqb.convolution(jnp.asarray(rng.normal(size=shape))).with_few_modes(32) is None
    assert eqb.convolution(jnp.zeros(shape)).with_few_modes(32) is None


def test_a_ring_by_convolution_is_proven_and_its_bump_that_of_the_matrix():
    n = 200
    theta = 2 * np.pi * np.arange(n) / n
    kernel = (3 * np.cos(theta) - 4) / n
    network = eqb.RateNetwork(eqb.convolution(kernel))
    inputs = 1 + np.random.default_rng(6).normal(size=(20, n)) / 3
    found = eqb.find_fixed_points(network, inputs)
    dense = eqb.find_fixed_points(eqb.RateNetwork(network.dense_weights), inputs)
    assert found.certified.all()
    assert dense.stable.all()
    np.testing.assert_allclose(found.state, dense.state, atol=1e-11)

    def bump(kernel, inputs):
        return eqb.find_fixed_points(eqb.RateNetwork(eqb.convolution(kernel)), inputs).rates[0]

    way, step = np.cos(theta) / n, 1e-6
    slope = jax.jvp(lambda k: bump(k, inputs[0]), (jnp.asarray(kernel),), (jnp.asarray(way),))[1]
    change = bump(kernel + step * way, inputs[0]) - bump(kernel - step * way, inputs[0])
    np.testing.assert_allclose(slope, change / (2 * step), rtol=1e-6)


def test_global_stability_is_that_of_the_symmetric_part():
    rng = np.random.default_rng(2)
    answers = []
    for dtype in (np.float32, np.float64):
        for strength in np.linspace(0.2, 2.0, 12):
            left, right = rng.normal(size=(2, 50, 3)) * np.sqrt(strength / 50)
            network = eqb.RateNetwork(eqb.low_rank(left, right, 0.2)).astype(dtype)
            symmetric = left @ right.T + right @ left.T
            largest = np.linalg.eigvalsh(symmetric / 2 + (0.2 - 1) * np.eye(50)).max()
            certified = bool(LowRankPoint(network, jnp.asarray(1e-3, dtype)).convergent)
            assert certified == (largest < 0) or (not certified and largest > -0.02), largest
            answers.append(certified)
    assert 6 < sum(answers) < 22
    # Both factors alike: M'M is singular.
    ones = np.ones((50, 1), np.float32) / 50
    for strength, expected in ((-40.0, True), (40.0, True), (51.0, False)):
        network = eqb.RateNetwork(eqb.low_rank(ones, strength * ones))
        assert bool(LowRankPoint(network, jnp.float32(1e-3)).convergent) is expected


@pytest.mark.parametrize(
    ("convention", "transfer"),
    [
        ("voltage", eqb.threshold_linear), ("activity", eqb.threshold_linear),
        ("recurrent", eqb.threshold_linear), ("voltage", eqb.tanh), ("activity", eqb.sigmoid),
    ],
)  # fmt: skip
def test_globally_stable_networks_are_not_followed(convention, transfer):
    rng = np.random.default_rng(3)
    left = rng.normal(size=(100, 2))
    right = (rng.normal(size=(100, 2)) - left) / 200
    # The slope of a sigmoid is a quarter at most.
    weights = eqb.low_rank(
        left, right / transfer.steepest, 0.1 * (transfer is eqb.threshold_linear)
    )
    options = {"bias": 0.1, "tau": 2.0, "convention": convention, "transfer": transfer}
    network = eqb.RateNetwork(weights, **options)
    inputs, starts = rng.normal(size=(2, 30, 100))
    found = eqb.find_fixed_points(network, inputs, x0=starts)
    assert found.certified.all()
    assert (found.num_steps == 0).all()
    assert (found.time == 0).all()
    for k in range(3):
        dense = eqb.RateNetwork(network.dense_weights, **options)
        end = lsoda(dense, inputs[k], starts[k]).y[:, -1]
        np.testing.assert_allclose(found.state[k], end, atol=1e-7)
    traced = eqx.filter_jit(eqb.find_fixed_points)(network, inputs, x0=starts)
    assert (traced.num_steps == 0).all()
    np.testing.assert_allclose(traced.state, found.state, atol=1e-12)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_few_active_neurons_have_their_own_eigenvalues(convention):
    """One winner of six: J is -1 on all others, and d - 1 + u v of the winner, which no K shows."""
    inputs = jnp.asarray([1.0, 0.5, 0.4, 0.3, 0.2, 0.1])
    x0 = jnp.asarray([0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    for diagonal in (0.9, 1.2):
        weights = eqb.low_rank(-5 * jnp.ones(6), jnp.ones(6), diagonal)
        network = eqb.RateNetwork(weights, convention=convention)
        found = eqb.find_fixed_points(network, inputs, x0=x0, method=eqb.Flow(abscissa=True))
        assert found.outcome == Outcome.STABLE
        values = np.linalg.eigvals(np.asarray(network.jacobian(found.state, inputs)))
        assert abs(float(found.abscissa) - values.real.max()) < 1e-12


@pytest.mark.rounding
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_rounding_of_a_product_that_decides_over_a_neuron_is_no_proof(convention):
    """48 drives g_j + U_j q, each off by the rounding of U_j q alone, add up to the drive of a
    neuron that excites itself: computed, it is silent, and in truth it runs away."""
    single, count = np.float32, 48
    n, size, q = count + 3, np.float32(2.0**14), np.float32(0.9123457)
    factors = (np.random.default_rng(0).uniform(1, 2, 4000).astype(single) * size).astype(single)
    lost = (factors * q).astype(float) - factors.astype(float) * float(q)
    most = np.argsort(-np.abs(lost))[:count]
    factors, lost = factors[most], lost[most]
    left, right, g = np.zeros((n, 3), single), np.zeros((n, 3), single), np.zeros(n, single)
    several, other, last = slice(1, count + 1), count + 1, count + 2
    g[0], right[0, 0] = q, 1
    left[several, 0], right[several, 1] = -factors, single(1 / count) * np.sign(lost)
    g[several] = factors * q + single(1)
    left[other, 0], g[other] = -size, size * q + single(1)
    right[other, 1] = -(right[several, 1].astype(float) @ factors.astype(float)) / float(size)
    left[last, 1:], right[last, 2] = (1, 3), 1

    def sum_of(dtype):
        u = g[:last].astype(dtype) + left[:last, 0].astype(dtype) * dtype(q)
        return (right[:last, 1].astype(dtype) * np.maximum(u, 0)).sum()

    true = sum_of(float)
    g[last] = single(-float(sum_of(single)) - 0.3 * (true - float(sum_of(single))))
    assert true + float(g[last]) > 1e-4 > 0 > float(sum_of(single)) + float(g[last])
    recurrent = convention == "recurrent"
    network = eqb.RateNetwork(
        eqb.low_rank(jnp.asarray(left), jnp.asarray(right)), convention=convention,
        bias=jnp.asarray(-g if recurrent else np.zeros_like(g)),
    )  # fmt: skip
    u = g + np.append(left[:last, 0] * q, sum_of(single))
    x0 = jnp.asarray(u if convention == "voltage" else np.maximum(u, 0))
    found = eqb.find_fixed_points(network, jnp.asarray(0 * g if recurrent else g), x0=x0)
    assert found.outcome != Outcome.STABLE


@pytest.mark.rounding
def test_small_terms_that_a_sum_may_lose_are_no_proof():
    """Added one by one to 1,024, terms below half an ulp vanish: K seems to be negative."""
    single, n = np.float32, 400
    left, right, g = np.full(n, np.finfo(single).eps * 0.49 * 1024, single), np.ones(n), np.ones(n)
    left[0], right[-1], g[0], g[-1] = 1024, -1, 1024, 1022 + n
    left[-1] = left[:-1].astype(float).sum() - 1.004
    g, right = g.astype(single), right.astype(single)
    assert left.astype(float) @ right > 1.003
    network = eqb.RateNetwork(eqb.low_rank(jnp.asarray(left), jnp.asarray(right)))
    found = eqb.find_fixed_points(network, jnp.asarray(g), x0=jnp.asarray(g))
    assert found.outcome != Outcome.STABLE


@pytest.mark.rounding
@pytest.mark.parametrize("convention", ["activity", "recurrent"])
def test_the_rounding_of_the_present_drive_is_no_proof(convention):
    """x of a million, of which V' x is a small difference: its sign is not that of the drive."""
    single, rng, n = np.float32, np.random.default_rng(0), 8
    left, right, g = np.zeros((n, 2), single), np.zeros((n, 2), single), np.full(n, -1, single)
    right[:7, 0], left[7], right[7, 1], g[7] = 1, (1, 3), 1, -0.01
    x = (rng.normal(size=(2000, n)) * 1e6).astype(single)
    x[:, 6], x[:, 7] = -x[:, :6].astype(float).sum(1), 0
    network = eqb.RateNetwork(
        eqb.low_rank(jnp.asarray(left), jnp.asarray(right)), convention=convention,
        bias=jnp.asarray(-g if convention == "recurrent" else np.zeros_like(g)),
    )  # fmt: skip
    i = jnp.asarray(np.tile(g if convention == "activity" else 0 * g, (2000, 1)))
    proof = jax.jit(lambda net, x, i: LowRankPoint(net, jnp.asarray(3e-4, x.dtype), True).proof(
        net, x.T, i.T, jnp.ones(len(x), bool)
    ))(network, jnp.asarray(x), i)  # fmt: skip
    runs_away = x[:, :7].astype(float).sum(1) + float(g[7]) > 0.01
    assert runs_away.sum() > 100
    assert not (np.asarray(proof.evidence)[runs_away] == Evidence.PROVEN).any()
