"""Weights with structure are the matrices that they stand for: products, settled states, evidence,
derivatives, files; and networks whose matrix would not fit."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from jax.experimental import sparse as jax_sparse
from scipy.integrate import quad
from scipy.optimize import brentq

import equilibrax as eqb
from equilibrax import Evidence, Flow, Outcome
from equilibrax.networks import absolute, times

N = 40
RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.normal(size=(N, 2)) / N, RNG.normal(size=(N, 2))
DIAGONAL = RNG.uniform(0, 0.3, N)
FEW = scipy.sparse.random(
    N, N, density=0.1, format="csr", random_state=1, data_rvs=RNG.standard_normal
).multiply(0.3).tocsr()  # fmt: skip
KERNEL = 0.3 * np.exp(-(np.minimum(np.arange(N), N - np.arange(N)) ** 2) / 4.0) - 0.1
SHEET = RNG.normal(size=(5, 8)) * 0.1
LOOSE = RNG.normal(size=(25, 15)) * 0.05


def sheet():
    """By its definition, neuron by neuron."""
    places = list(itertools.product(range(5), range(8)))
    return np.asarray([[SHEET[(a - c) % 5, (b - d) % 8] for c, d in places] for a, b in places])


def identity():
    return lx.IdentityLinearOperator(jax.ShapeDtypeStruct((N,), jnp.float64))


KINDS = {
    "low-rank": (lambda: eqb.low_rank(LEFT, RIGHT, 0.1), LEFT @ RIGHT.T + 0.1 * np.eye(N)),
    "rank-one": (lambda: eqb.low_rank(LEFT[:, 0], RIGHT[:, 0]), np.outer(LEFT[:, 0], RIGHT[:, 0])),
    "low-rank-and-diagonal": (
        lambda: eqb.low_rank(LEFT, RIGHT, DIAGONAL), LEFT @ RIGHT.T + np.diag(DIAGONAL),
    ),
    "many-columns": (
        lambda: eqb.low_rank(np.tile(LEFT, 6), np.tile(RIGHT, 6) / 6), LEFT @ RIGHT.T,
    ),
    "sparse": (lambda: eqb.sparse(FEW), FEW.toarray()),
    "sparse-of-jax": (
        lambda: eqb.sparse(jax_sparse.BCOO.fromdense(jnp.asarray(FEW.toarray()))), FEW.toarray(),
    ),
    "ring": (lambda: eqb.convolution(KERNEL), scipy.linalg.circulant(KERNEL)),
    "sheet": (lambda: eqb.convolution(SHEET), sheet()),
    "blocks": (
        lambda: eqb.blocks([
            [eqb.low_rank(LEFT[:25], RIGHT[:25]), LOOSE], [None, eqb.sparse(FEW[25:, 25:])]
        ]),
        np.block([
            [LEFT[:25] @ RIGHT[:25].T, LOOSE], [np.zeros((15, 25)), FEW[25:, 25:].toarray()]
        ]),
    ),
    "sum": (lambda: eqb.sparse(FEW) + eqb.low_rank(LEFT, RIGHT), FEW.toarray() + LEFT @ RIGHT.T),
    "product": (
        lambda: eqb.sparse(FEW) @ eqb.convolution(KERNEL),
        FEW.toarray() @ scipy.linalg.circulant(KERNEL),
    ),
    "by-lineax": (
        lambda: 0.2 * identity()
        - lx.MatrixLinearOperator(jnp.asarray(LEFT)) @ lx.MatrixLinearOperator(jnp.asarray(RIGHT.T)),
        0.2 * np.eye(N) - LEFT @ RIGHT.T,
    ),
    "products-by-lineax": (
        lambda: lx.DiagonalLinearOperator(jnp.asarray(DIAGONAL))
        @ (eqb.low_rank(LEFT, RIGHT, 0.5) / 2 + 0.1 * identity()),
        np.diag(DIAGONAL) @ (LEFT @ RIGHT.T / 2 + 0.35 * np.eye(N)),
    ),
}  # fmt: skip


def pair(kind, **options):
    """A network with structured weights, and the one with the matrix that they stand for."""
    build, matrix = KINDS[kind]
    return eqb.RateNetwork(build(), **options), eqb.RateNetwork(matrix, **options)


def inputs_of(m, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(m, N)))


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_matrix(kind):
    network, dense = pair(kind)
    weights, matrix = network.weights, np.asarray(dense.weights)
    x = np.random.default_rng(2).normal(size=(N, 3))
    np.testing.assert_allclose(network.dense_weights, matrix, atol=1e-14)
    np.testing.assert_allclose(times(weights, jnp.asarray(x)), matrix @ x, atol=1e-13)
    np.testing.assert_allclose(times(weights, jnp.asarray(x[:, 0])), matrix @ x[:, 0], atol=1e-13)
    np.testing.assert_allclose(times(weights.T, jnp.asarray(x)), matrix.T @ x, atol=1e-13)
    by_rows = jax.vmap(lambda x: times(weights, x))(jnp.asarray(x.T))
    np.testing.assert_allclose(by_rows, (matrix @ x).T, atol=1e-13)
    bound = times(absolute(weights), jnp.abs(x))
    assert (np.asarray(bound) > np.abs(matrix) @ np.abs(x) - 1e-13).all()


@pytest.mark.parametrize(
    ("kind", "convention", "transfer"),
    [
        ("low-rank", "voltage", eqb.threshold_linear),
        ("low-rank", "activity", eqb.threshold_linear),
        ("low-rank", "recurrent", eqb.threshold_linear),
        ("low-rank", "activity", eqb.tanh),
        ("many-columns", "voltage", eqb.tanh),
        ("many-columns", "recurrent", eqb.tanh),
        ("sparse", "activity", eqb.threshold_linear),
        ("sparse", "voltage", eqb.tanh),
    ],
)
def test_answers_are_those_of_the_matrix(kind, transfer, convention):
    """Low rank is proven, but for smooth networks with a diagonal; all else is probed."""
    options = {"bias": 0.1, "transfer": transfer, "convention": convention}
    network, dense = pair(kind, **options)
    inputs = inputs_of(50)
    ours, theirs = (eqb.find_fixed_points(net, inputs) for net in (network, dense))
    assert ours.outcome.tolist() == theirs.outcome.tolist() == [Outcome.STABLE] * 50
    np.testing.assert_allclose(ours.state, theirs.state, atol=1e-11)
    exactly = kind == "many-columns" or (kind, network.is_threshold_linear) == ("low-rank", True)
    expected = {Evidence.PROVEN, Evidence.STABLE_PROVEN} if exactly else {Evidence.PROBED}
    assert set(ours.evidence.tolist()) <= expected
    exact = jax.vmap(dense.jacobian)(ours.state, inputs)
    abscissas = np.linalg.eigvals(np.asarray(exact)).real.max(axis=1)
    assert (ours.abscissa_bound >= abscissas - 1e-9).all()
    assert (ours.abscissa_bound < 0).all()


@pytest.mark.parametrize("kind", ["low-rank-and-diagonal", "sheet", "blocks", "sum", "product"])
def test_every_kind_settles(kind):
    network, dense = pair(kind, tau=np.linspace(0.5, 1, N))
    ours, theirs = (eqb.find_fixed_points(net, inputs_of(20)) for net in (network, dense))
    assert ours.outcome.tolist() == theirs.outcome.tolist()
    np.testing.assert_allclose(ours.state, theirs.state, atol=1e-10)


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
def test_abscissas_of_low_rank_are_exact(convention):
    network, dense = pair("low-rank", convention=convention, tau=2.0)
    inputs = inputs_of(30)
    found = eqb.find_fixed_points(network, inputs, method=Flow(abscissa=True))
    exact = np.linalg.eigvals(np.asarray(jax.vmap(dense.jacobian)(found.state, inputs)))
    np.testing.assert_allclose(found.abscissa, exact.real.max(axis=1), rtol=1e-8)


def test_drivers_agree_and_batches_of_one_network_compile_once():
    network, _ = pair("low-rank")
    inputs = inputs_of(50)
    alone = eqb.find_fixed_points(network, inputs)
    traced = eqx.filter_jit(eqb.find_fixed_points)(network, inputs)
    assert alone.outcome.tolist() == traced.outcome.tolist()
    np.testing.assert_allclose(alone.state, traced.state, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "convention"),
    [
        ("low-rank", "activity"), ("low-rank-and-diagonal", "voltage"), ("sparse", "voltage"),
        ("sparse", "activity"), ("ring", "voltage"), ("blocks", "activity"),
    ],
)  # fmt: skip
def test_gradients_are_those_of_the_matrix(kind, convention):
    """In all that the weights are made of, and the inputs."""
    inputs, pull = inputs_of(4), inputs_of(1, seed=7)[0]
    network, _ = pair(kind, bias=0.1, transfer=eqb.tanh, convention=convention)

    def loss(parts, dense):
        network, inputs = parts
        if dense:
            network = eqx.tree_at(lambda net: net.weights, network, network.dense_weights)
        return jnp.sum(eqb.find_fixed_points(network, inputs).rates @ pull)

    arrays, rest = eqx.partition((network, inputs), eqx.is_inexact_array)

    def of(dense):
        return jax.grad(lambda arrays: loss(eqx.combine(arrays, rest), dense))(arrays)

    for ours, theirs in zip(jax.tree.leaves(of(False)), jax.tree.leaves(of(True)), strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, atol=1e-10 * scale)


def test_gradients_in_factors_and_elements_agree_with_central_differences():
    inputs, pull = inputs_of(4), inputs_of(1, seed=7)[0]
    few = eqb.sparse(FEW)

    def by_factor(left):
        network = eqb.RateNetwork(eqb.low_rank(left, RIGHT, 0.1), bias=0.1)
        return jnp.sum(eqb.find_fixed_points(network, inputs).rates @ pull)

    def by_elements(data):
        network = eqb.RateNetwork(few.with_data(data), bias=0.1)
        return jnp.sum(eqb.find_fixed_points(network, inputs).rates @ pull)

    for function, place in ((by_factor, jnp.asarray(LEFT)), (by_elements, few.data)):
        way = jnp.asarray(np.random.default_rng(5).normal(size=place.shape))
        step = 1e-5
        change = (function(place + step * way) - function(place - step * way)) / (2 * step)
        np.testing.assert_allclose(jnp.sum(jax.grad(function)(place) * way), change, rtol=1e-6)


def test_sparse_networks_of_scipy_and_jax_are_taken_as_they_are():
    for matrix in (FEW, jax_sparse.BCSR.from_bcoo(jax_sparse.BCOO.fromdense(FEW.toarray()))):
        network = eqb.RateNetwork(matrix)
        assert type(network.weights).__name__ == "Sparse"
        np.testing.assert_array_equal(network.dense_weights, FEW.toarray())


@pytest.mark.parametrize("kind", ["ring", "blocks", "sum"])
def test_stores_keep_the_weights(kind, tmp_path):
    network, _ = pair(kind)
    cube = eqb.UniformCube(-1, 1)
    eqb.sample_to_store(tmp_path / "s", network, cube, 100, key=jax.random.key(0))
    again = eqb.open_samples(tmp_path / "s").network
    assert jax.tree.structure(again) == jax.tree.structure(network)
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(network), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = eqx.tree_at(lambda net: net.weights, network, network.weights.scaled(1.01))
    with pytest.raises(ValueError, match="there"):
        eqb.sample_to_store(tmp_path / "s", other, cube, 100, key=jax.random.key(0))


def test_sweeps_and_basins_take_them():
    def network_of(strength):
        return eqb.RateNetwork(eqb.low_rank(LEFT * strength, RIGHT), bias=0.1)

    strengths = jnp.asarray([0.5, 1.0])
    found = eqb.sweep(network_of, strengths, inputs_of(3))
    for k, strength in enumerate(strengths):
        alone = eqb.find_fixed_points(network_of(strength), inputs_of(3))
        np.testing.assert_allclose(found.found.state[k], alone.state, atol=1e-12)
    signs = np.where(np.arange(N) % 2, 1.0, -1.0)
    switch = eqb.RateNetwork(eqb.low_rank(1.5 * signs / N, signs), transfer=eqb.tanh)
    reached = eqb.basins(switch, jnp.zeros(N), jnp.asarray([signs, -signs, 0.1 * signs]))
    assert reached.label[0] == reached.label[2] != reached.label[1]


def test_large_builders_build_what_small_ones_do(monkeypatch):
    from equilibrax.networks import _connectivity

    builders = [
        lambda: eqb.ring(30, -3.0, 2.5),
        lambda: eqb.partitioned((4, 3), w_e=0.5, w_i=2.0, w_ei=0.7, w_ii=1.5),
    ]
    small = [build() for build in builders]
    monkeypatch.setattr(_connectivity, "LARGEST_DENSE", 5)
    for build, dense in zip(builders, small, strict=True):
        large = build()
        assert type(large.weights).__name__ == "LowRank"
        np.testing.assert_allclose(large.dense_weights, dense.weights, atol=1e-15)
        assert large.partitions == dense.partitions


def test_large_random_networks_are_sparse_and_have_the_radius_asked_for():
    network = eqb.random_ei(2000, key=jax.random.key(0), gain=0.5, density=0.02)
    matrix = np.asarray(network.dense_weights)
    elements = 2000 * 1999 * 0.02
    assert abs((matrix != 0).sum() - elements) < 5 * np.sqrt(elements)
    assert (np.diag(matrix) == 0).all()
    assert (matrix[:, :1600] >= 0).all()
    assert (matrix[:, 1600:] <= 0).all()
    radius = abs(scipy.sparse.linalg.eigs(matrix, k=1, return_eigenvectors=False)[0])
    assert abs(radius - 0.5) < 0.05


def test_the_overlap_and_bistability_of_a_rank_one_network_are_those_of_mean_field_theory():
    """W = m n' / N with n = rho m, m Gaussian: kappa = rho <z tanh(kappa z)>, z normal; for rho > 1
    there are two. F. Mastrogiuseppe and S. Ostojic, Neuron 99:609 (2018),
    doi:10.1016/j.neuron.2018.07.003, without their random part. N = 5000, to 3 standard errors."""
    size, rho = 5000, 1.6
    m = np.random.default_rng(4).normal(size=size)
    network = eqb.RateNetwork(eqb.low_rank(m / size, rho * m), transfer=eqb.tanh)

    def average(function):
        gauss = lambda z: function(z) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)  # noqa: E731
        return quad(gauss, -8, 8)[0]

    kappa = brentq(lambda k: rho * average(lambda z: z * np.tanh(k * z)) - k, 0.1, 5)
    gain = rho * average(lambda z: z**2 / np.cosh(kappa * z) ** 2)
    noise = rho * np.sqrt(average(lambda z: (z * np.tanh(kappa * z)) ** 2) - (kappa / rho) ** 2)
    found = eqb.find_fixed_points(network, jnp.zeros((2, size)), x0=jnp.asarray([m, -m]))
    assert found.stable.all()
    overlap = np.asarray(found.rates @ (rho * m)) / size
    # Fluctuations of the average move the solution by 1 / (1 - gain) of themselves.
    error = 3 * noise / np.sqrt(size) / (1 - gain)
    np.testing.assert_allclose(overlap, [kappa, -kappa], atol=error)
    silent = eqb.RateNetwork(eqb.low_rank(m / size, 0.8 * m), transfer=eqb.tanh)
    found = eqb.find_fixed_points(silent, jnp.zeros(size), x0=jnp.asarray(m))
    assert bool(found.stable)
    np.testing.assert_allclose(found.state, 0, atol=1e-6)


def test_a_matrix_that_would_not_fit_is_never_built():
    """50,000 neurons: the matrix of weights alone would take 20 GB."""
    size = 50_000
    theta = 2 * np.pi * np.arange(size) / size
    inputs = 1 + 0.1 * np.cos(theta - theta[[100, 20_000]][:, None])
    found = eqb.find_fixed_points(eqb.ring(size), inputs)
    assert found.certified.all() or found.stable.all()
    np.testing.assert_allclose(np.argmax(found.rates, axis=1), [100, 20_000], atol=2)


BAD = {
    "rows of another length": (lambda: eqb.low_rank(LEFT, RIGHT[:10]), ValueError, "`right` must"),
    "a factor of three axes": (lambda: eqb.low_rank(LEFT[None], RIGHT[None]), ValueError, "`left`"),
    "a factor with NaN": (lambda: eqb.low_rank(LEFT * np.nan, RIGHT), ValueError, "be finite"),
    "integers": (lambda: eqb.low_rank(np.ones((N, 1), int), RIGHT), TypeError, "float32 or float64"),
    "another diagonal": (lambda: eqb.low_rank(LEFT, RIGHT, DIAGONAL[:5]), ValueError, "`diagonal`"),
    "not square": (lambda: eqb.sparse(FEW[:5]), ValueError, "have shape (n, n)"),
    "sparse integers": (lambda: eqb.sparse(FEW.astype(int)), TypeError, "float32 or float64"),
    "sparse NaN": (lambda: eqb.sparse(FEW * np.nan), ValueError, "be finite"),
    "no matrix": (lambda: eqb.sparse("W"), TypeError, "be a matrix"),
    "a kernel of three axes": (lambda: eqb.convolution(np.ones((2, 2, 2))), ValueError, "`kernel`"),
    "a ragged table": (lambda: eqb.blocks([[LOOSE, LOOSE], [LOOSE]]), ValueError, "square table"),
    "sizes that differ": (lambda: eqb.blocks([[LOOSE]]), ValueError, "population 0 one size"),
    "an operator that is not square": (
        lambda: eqb.RateNetwork(lx.MatrixLinearOperator(jnp.asarray(LOOSE))), ValueError, "(n, n)",
    ),
    "a function": (
        lambda: eqb.RateNetwork(
            lx.FunctionLinearOperator(lambda x: x, jax.ShapeDtypeStruct((N,), jnp.float64))
        ),
        TypeError, "`weights` must be made of matrices",
    ),
    "a proof by squaring": (
        lambda: eqb.find_fixed_points(
            pair("sparse")[0], inputs_of(1), method=Flow(evidence="proof")
        ),
        ValueError, 'must be "probe" or None',
    ),
    "eigenvalues": (
        lambda: eqb.find_fixed_points(pair("sparse")[0], inputs_of(1), method=Flow(abscissa=True)),
        ValueError, "`abscissa` must be False",
    ),
    "all chambers": (
        lambda: eqb.enumerate_fixed_points(pair("sparse")[0], inputs_of(1)), ValueError, "at most",
    ),
    "its matrix": (lambda: eqb.analyse(eqb.ring(5000)), ValueError, "n is at most 4096"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    function, error, message = BAD[case]
    with pytest.raises(error) as raised:
        function()
    assert message in str(raised.value)


def test_small_networks_may_have_their_chambers_enumerated():
    few = eqb.low_rank(jnp.asarray([1.2, -0.6]), jnp.asarray([1.0, -1.0]), -0.5)
    network = eqb.RateNetwork(few)
    dense = eqb.RateNetwork(network.dense_weights)
    i = jnp.asarray([0.3, 0.2])
    ours, theirs = (eqb.enumerate_fixed_points(net, i) for net in (network, dense))
    np.testing.assert_array_equal(ours.state, theirs.state)
    assert eqb.is_unique(network) == eqb.is_unique(dense)
    assert bool(eqb.find_fixed_points(network, i).stable)


# Inputs and outputs of a few components.


def driven(kind="low-rank", **options):
    """A network driven and read in few dimensions, its maps, and the same without them."""
    rng = np.random.default_rng(8)
    maps, readout = rng.normal(size=(N, 3)), rng.normal(size=(2, N)) / N
    options = {"bias": 0.1, **options}
    build = KINDS[kind][0]
    network = eqb.RateNetwork(build(), input_weights=maps, readout=readout, **options)
    return network, maps, readout, eqb.RateNetwork(build(), **options)


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
def test_a_network_may_be_driven_and_read_in_a_few_dimensions(convention):
    network, maps, readout, plain = driven(convention=convention)
    signals = np.random.default_rng(9).normal(size=(20, 3))
    ours = eqb.find_fixed_points(network, signals)
    theirs = eqb.find_fixed_points(plain, signals @ maps.T)
    assert ours.outcome.tolist() == theirs.outcome.tolist()
    assert ours.evidence.tolist() == theirs.evidence.tolist()
    np.testing.assert_allclose(ours.state, theirs.state, atol=1e-12)
    np.testing.assert_allclose(ours.rates, theirs.rates @ readout.T, atol=1e-12)
    traced = eqx.filter_jit(eqb.find_fixed_points)(network, jnp.asarray(signals))
    np.testing.assert_allclose(ours.rates, traced.rates, atol=1e-12)
    f = network.drift(ours.state[0], jnp.asarray(signals[0]))
    np.testing.assert_allclose(f, 0, atol=1e-12)


def test_gradients_reach_the_maps():
    network, maps, readout, plain = driven()
    signals = jnp.asarray(np.random.default_rng(9).normal(size=(5, 3)))
    pull = jnp.asarray([1.0, -2.0])

    def ours(maps, readout, signals):
        net = eqx.tree_at(lambda n: (n.input_weights, n.readout), network, (maps, readout))
        return jnp.sum(eqb.find_fixed_points(net, signals).rates @ pull)

    def theirs(maps, readout, signals):
        rates = eqb.find_fixed_points(plain, signals @ maps.T).rates
        return jnp.sum(rates @ readout.T @ pull)

    arguments = jnp.asarray(maps), jnp.asarray(readout), signals
    pair = (jax.grad(f, argnums=(0, 1, 2))(*arguments) for f in (ours, theirs))
    for a, b in zip(*pair, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_samples_stores_and_approximations_are_as_narrow_as_the_maps(tmp_path):
    network, *_ = driven()
    cube = eqb.UniformCube(-1, 1)
    samples = eqb.sample_fixed_points(network, cube, 2000, key=jax.random.key(0))
    assert samples.inputs.shape == (2000, 3)
    assert samples.rates.shape == (2000, 2)
    # On the side where rates are positive, which is what two rectified layers can give.
    apx = eqb.distill(
        network, cube, key=jax.random.key(1), hidden=32, restarts=4, steps=1500, n_draws=4000,
        n_test=1000, readout=jnp.abs(network.readout),
    )  # fmt: skip
    assert apx.model.weights1.shape == (32, 3)
    assert apx.model.weights2.shape == (2, 32)
    assert float(apx.evaluation.normalised_error) < 0.02
    eqb.sample_to_store(tmp_path / "s", network, cube, 100, key=jax.random.key(0))
    again = eqb.open_samples(tmp_path / "s").network
    np.testing.assert_array_equal(again.input_weights, network.input_weights)
    np.testing.assert_array_equal(again.readout, network.readout)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("input_weights", np.ones((N + 1, 2)), f"have shape ({N}, k), but has shape ({N + 1}, 2)"),
        ("input_weights", np.ones(N), f"have shape ({N}, k)"),
        ("readout", np.ones((2, N - 1)), f"have shape (outputs, {N})"),
        ("readout", np.full((2, N), np.nan), "be finite"),
    ],
)
def test_maps_that_do_not_fit_are_named(name, value, words):
    with pytest.raises(ValueError, match=f"`{name}` must") as raised:
        eqb.RateNetwork(KINDS["low-rank"][0](), **{name: value})
    assert words in str(raised.value)


def test_inputs_must_be_as_wide_as_the_maps():
    network, *_ = driven()
    with pytest.raises(ValueError, match=r"`inputs` must have shape \(\.\.\., 3\)"):
        eqb.find_fixed_points(network, jnp.ones((2, N)))


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
def test_points_are_enumerated_and_verified_through_the_maps(convention):
    """A square map, of whose absence no shape would tell."""
    plain = eqb.partitioned(convention=convention)
    maps = jnp.asarray(np.random.default_rng(3).normal(size=(5, 5)) / 2)
    fields = {"convention": convention, "partitions": (2, 2)}
    network = eqb.RateNetwork(plain.weights, input_weights=maps, **fields)
    signals = jnp.asarray(np.random.default_rng(4).uniform(-1, 1, size=(40, 5)))
    ours = eqb.enumerate_fixed_points(network, signals)
    theirs = eqb.enumerate_fixed_points(plain, signals @ maps.T)
    np.testing.assert_allclose(ours.state, theirs.state, atol=1e-12)
    np.testing.assert_array_equal(ours.stable, theirs.stable)
    samples = eqb.sample_fixed_points(network, eqb.UniformCube(-1, 1), 500, key=jax.random.key(0))
    apx = eqb.approximate(samples, hidden=8, restarts=2, steps=200, key=jax.random.key(1))
    found = apx.verified(signals)
    np.testing.assert_allclose(network.drift(found.state[0], signals[0]), 0, atol=1e-12)
    stable = np.where(theirs.stable[..., None], theirs.state, np.inf)
    gaps = np.abs(stable - np.asarray(found.state)[:, None]).max(axis=2).min(axis=1)
    assert (gaps < 1e-10).all()


def test_what_the_maps_leave_no_room_for_is_refused():
    network = eqb.RateNetwork(np.eye(2) / 2, input_weights=np.eye(2), readout=np.eye(2))
    model = eqb.FeedForward(2, 4, 2, key=jax.random.key(0))
    with pytest.raises(ValueError, match="have neither input_weights nor readout"):
        eqb.error_bound(network, model, 0.0, 0.1, key=jax.random.key(0))
    samples = eqb.sample_fixed_points(network, eqb.UniformCube(-1, 1), 200, key=jax.random.key(0))
    apx = eqb.approximate(samples, hidden=4, restarts=1, steps=10, key=jax.random.key(1))
    with pytest.raises(ValueError, match="have no readout"):
        apx.verified(samples.inputs[:2])
