"""Bad arguments: one clear error, before any tracing."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import sparse

import equilibrax as eqb

KEY = jax.random.key(0)
EYE = np.eye(2)
NET = eqb.two_neuron()
CUBE = eqb.UniformCube()
MODEL = eqb.FeedForward(2, 2, 2, key=KEY)
PAIRS = (jnp.ones((8, 2)), jnp.ones((8, 2)))


def find(inputs, **options):
    return eqb.find_fixed_points(NET, inputs, **options)


NETWORKS = {
    "not square": (lambda: eqb.RateNetwork(np.zeros((5, 4))), "`weights` must have shape (n, n), but has shape (5, 4)"),
    "a vector": (lambda: eqb.RateNetwork(np.zeros(3)), "`weights` must have shape (n, n)"),
    "no neurons": (lambda: eqb.RateNetwork(np.zeros((0, 0))), "`weights` must have shape (n, n)"),
    "ragged": (lambda: eqb.RateNetwork([[1.0], [1.0, 2.0]]), "`weights` must be a rectangular array"),
    "nan weight": (lambda: eqb.RateNetwork(EYE * np.nan), "`weights` must be finite, but holds nan at index (0, 0)"),
    "infinite weight": (lambda: eqb.RateNetwork(np.asarray([[0, np.inf], [0, 0]])), "index (0, 1)"),
    "integers": (lambda: eqb.RateNetwork(np.eye(2, dtype=int)), "`weights` must have dtype float32 or float64, but has dtype int64; `.astype(float)` gives it one"),
    "a list of bools": (lambda: eqb.RateNetwork([[True, False], [False, True]]), "`weights` must have dtype float32 or float64, but has dtype bool"),
    "no result": (lambda: eqb.figures.spectrum(find(np.zeros((1, 2)))), "`near` must be what linearise, find_slow_points or find_cycles returns, but is FixedPoints"),
    "complex": (lambda: eqb.RateNetwork(EYE * 1j), "has dtype complex128"),
    "sparse": (lambda: eqb.find_fixed_points(NET, sparse.BCOO.fromdense(jnp.asarray(EYE))), "`inputs` must be a dense array; `.todense()` makes it one (only `weights` may be sparse), but is sparse, a BCOO"),
    "half precision": (lambda: eqb.RateNetwork(EYE.astype(np.float16)), "has dtype float16"),
    "bias shape": (lambda: eqb.RateNetwork(EYE, bias=np.zeros(3)), "`bias` must have shape () or (2,), but has shape (3,)"),
    "bias nan": (lambda: eqb.RateNetwork(EYE, bias=np.nan), "`bias` must be finite"),
    "tau zero": (lambda: eqb.RateNetwork(EYE, tau=0), "`tau` must be positive and finite, but holds 0.0"),
    "tau negative": (lambda: eqb.RateNetwork(EYE, tau=np.asarray([1.0, -1.0])), "holds -1.0 at index (1,)"),
    "convention": (lambda: eqb.RateNetwork(EYE, convention="current"), "`convention` must be one of 'voltage', 'activity', 'recurrent', but is 'current'"),
    "transfer name": (lambda: eqb.RateNetwork(EYE, transfer="relu"), "`transfer` must be a transfer function"),
    "transfer shape": (lambda: eqb.RateNetwork(EYE, transfer=jnp.sum), "`transfer` must be elementwise"),
    "partitions": (lambda: eqb.RateNetwork(EYE, partitions=(2, 2)), "`partitions` must hold at most 2 neurons"),
    "empty partition": (lambda: eqb.partitioned((2, 0)), "`partitions` must be a positive integer"),
    "negative weight": (lambda: eqb.partitioned(w_i=-8.0), "`w_i` must be finite and not negative"),
    "three weights": (lambda: eqb.two_neuron((1.0, 2.0, 3.0)), "`w_self` must have shape () or (2,), but has shape (3,)"),
    "small ring": (lambda: eqb.ring(2), "`n` must be an integer of at least 3, but is 2"),
    "no key": (lambda: eqb.random_ei(10, key=3), "`key` must be one PRNG key"),
    "density": (lambda: eqb.random_ei(10, key=jax.random.key(0), density=1.5), "`density` must be a number above 0 and below 1"),
    "graph values": (lambda: eqb.from_graph([[0, 2], [0, 0]]), "`adjacency` must hold only 0 and 1"),
    "self edges": (lambda: eqb.from_graph([[1, 0], [0, 0]]), "`adjacency` must have a zero diagonal"),
    "epsilon": (lambda: eqb.from_graph([[0, 1], [1, 0]], epsilon=0.4), "`epsilon` must be a number above 0 and below 0.333333"),
    "exponent": (lambda: eqb.power_law(1.0, 0.5), "`exponent` must be at least 1"),
    "complex weight": (lambda: eqb.two_neuron(1j), "`w_self` must be a real number"),
    "weight in words": (lambda: eqb.two_neuron(w_cross="a"), "`w_cross` must be a real number"),
    "ring in words": (lambda: eqb.ring(5, "a"), "`w_0` must be a real number"),
    "ring of vectors": (lambda: eqb.ring(5, -4.0, np.ones(3)), "`w_1` must be one number, but has shape (3,)"),
    "partitions not a sequence": (lambda: eqb.partitioned(5), "`partitions` must be a sequence of positive integers, but is 5"),
    "ragged graph": (lambda: eqb.from_graph([[0, 1], [0]]), "`adjacency` must have shape (n, n), but is not rectangular"),
    "not elementwise": (lambda: eqb.RateNetwork(EYE, transfer=jax.nn.softmax), "`transfer` must be elementwise"),
    "less its mean": (lambda: eqb.RateNetwork(EYE, transfer=lambda u: u - u.mean()), "`transfer` must be elementwise"),
    "failing transfer": (lambda: eqb.RateNetwork(EYE, transfer=lambda u: u @ jnp.ones((9, 9))), "`transfer` must map an array of drives"),
    "module with functions": (lambda: eqb.RateNetwork(EYE, transfer=eqx.nn.MLP(3, 3, 3, 1, key=KEY)), "`transfer` must"),
}  # fmt: skip


CASES = {
    **NETWORKS,
    "width": (lambda: find(np.zeros((3, 4))), "`inputs` must have shape (..., 2), but has shape (3, 4)"),
    "scalar": (lambda: find(1.0), "`inputs` must have shape (..., 2)"),
    "integer inputs": (lambda: find(np.zeros((3, 2), int)), "`inputs` must have dtype float32 or float64"),
    "complex inputs": (lambda: find(np.zeros((3, 2), complex)), "has dtype complex128"),
    "no inputs": (lambda: find(None), "`inputs` must be a real number or a floating-point array"),
    "start": (lambda: find(np.zeros((3, 2)), x0=np.zeros((4, 2))), "`x0` must broadcast to shape (3, 2)"),
    "start width": (lambda: find(np.zeros((3, 2)), x0=np.zeros(3)), "`x0` must have shape (..., 2)"),
    "method": (lambda: find(np.zeros(2), method="flow"), "`method` must be a Flow"),
    "not a network": (lambda: eqb.find_fixed_points(np.eye(2), np.zeros(2)), "`network` must be a RateNetwork"),
    "too large to enumerate": (lambda: eqb.enumerate_fixed_points(eqb.ring(17), np.zeros(17)), "`network` must have at most 16 neurons"),
    "smooth to enumerate": (lambda: eqb.enumerate_fixed_points(eqb.RateNetwork(EYE, transfer=eqb.tanh), np.zeros(2)), "`network` must be threshold-linear"),
    "width to enumerate": (lambda: eqb.enumerate_fixed_points(NET, np.zeros(3)), "`inputs` must have shape (..., 2)"),
    "enumeration under jit": (lambda: jax.jit(lambda i: eqb.enumerate_fixed_points(NET, i).state)(jnp.zeros(2)), "`inputs` must be known"),
    "too large for minors": (lambda: eqb.is_unique(eqb.ring(17)), "`network` must have at most 16 neurons"),
    "event tolerance": (lambda: eqb.settled_event(NET, rtol=-1.0), "`rtol` must be a number above 0"),
    "solver": (lambda: eqb.Flow(solver="tsit5"), "`solver` must be an adaptive Diffrax solver"),
    "rtol": (lambda: eqb.Flow(rtol=-1e-3), "`rtol` must be a number above 0, but is -0.001"),
    "atol": (lambda: eqb.Flow(atol=0.0), "`atol` must be a number above 0"),
    "t1": (lambda: eqb.Flow(t1=-5.0), "`t1` must be a number above 0"),
    "t1 infinite": (lambda: eqb.Flow(t1=float("inf")), "`t1` must be a number above 0"),
    "max_steps": (lambda: eqb.Flow(max_steps=0), "`max_steps` must be a positive integer"),
    "lanes": (lambda: eqb.Flow(lanes=0), "`lanes` must be a positive integer"),
    "cube": (lambda: eqb.UniformCube(1.0, -1.0), "`high` must be at least `low` everywhere"),
    "cube nan": (lambda: eqb.UniformCube(np.nan, 1.0), "`low` must be finite"),
    "cube width": (lambda: eqb.sample_fixed_points(NET, eqb.UniformCube(np.zeros(3), 1.0), 5, key=KEY), "`low` must have shape () or (2,), but has shape (3,)"),
    "std": (lambda: eqb.Gaussian(0.0, -1.0), "`std` must be finite and not negative"),
    "no draws": (lambda: eqb.sample_fixed_points(NET, CUBE, 0, key=KEY), "`n_draws` must be a positive integer, but is 0"),
    "half a draw": (lambda: eqb.sample_fixed_points(NET, CUBE, 1.5, key=KEY), "`n_draws` must be a positive integer"),
    "distribution": (lambda: eqb.sample_fixed_points(NET, (-1, 1), 5, key=KEY), "`inputs` must be a distribution"),
    "key": (lambda: eqb.sample_fixed_points(NET, CUBE, 5, key=0), "`key` must be one PRNG key"),
    "keys": (lambda: eqb.sample_fixed_points(NET, CUBE, 5, key=jax.random.split(KEY)), "`key` must be one PRNG key"),
    "sampling method": (lambda: eqb.sample_fixed_points(NET, CUBE, 5, key=KEY, method="flow"), "`method` must be a Flow"),
    "keep": (lambda: eqb.sample_fixed_points(NET, CUBE, 5, key=KEY, keep="some"), "`keep` must be 'stable' or 'all'"),
    "no hidden units": (lambda: eqb.FeedForward(2, 0, 2, key=KEY), "`hidden_size` must be a positive integer"),
    "a batch to a model": (lambda: MODEL(jnp.ones((3, 2))), "use model.batch for a batch"),
    "a vector to a batch": (lambda: MODEL.batch(jnp.ones(2)), "`inputs` must have shape (m, 2)"),
    "no steps": (lambda: eqb.train(MODEL, PAIRS, steps=0, key=KEY), "`steps` must be a positive integer, but is 0"),
    "no batch": (lambda: eqb.train(MODEL, PAIRS, batch_size=0, key=KEY), "`batch_size` must be a positive integer"),
    "optimizer": (lambda: eqb.train(MODEL, PAIRS, optimizer="adam", key=KEY), "`optimizer` must be an Optax optimiser"),
    "nan targets": (lambda: eqb.train(MODEL, (PAIRS[0], PAIRS[1].at[0].set(np.nan)), key=KEY), "`data` must be finite"),
    "no pairs": (lambda: eqb.train(MODEL, (PAIRS[0][:0], PAIRS[1][:0]), key=KEY), "m at least 1"),
    "unequal pairs": (lambda: eqb.train(MODEL, (PAIRS[0][:3], PAIRS[1]), key=KEY), "`data` must hold two arrays"),
    "target width": (lambda: eqb.train(MODEL, (PAIRS[0], jnp.ones((8, 3))), key=KEY), "`model` must answer an input of shape (2,) with shape (3,)"),
    "few draws": (lambda: eqb.distill(NET, key=KEY, n_draws=3), "`n_draws` must be an integer of at least 20"),
    "no restarts": (lambda: eqb.distill(NET, key=KEY, n_draws=20, n_test=10, restarts=0), "`restarts` must be a positive integer"),
    "one partition": (lambda: eqb.mixture_line((2,), 3, jnp.zeros(1)), "`partitions` must hold two partitions"),
    "large partitions": (lambda: eqb.metrics.partition_sums(jnp.ones(3), (2, 2)), "`partitions` must hold between 1 and 3 neurons"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_arguments_get_one_clear_error(case):
    call, words = CASES[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value).startswith("Argument `")
    assert words in str(caught.value)


def test_errors_come_before_tracing():
    def transfer(u):
        if isinstance(u, jax.core.Tracer) and u.shape != (3,):
            raise AssertionError("traced")
        return u

    network = eqb.RateNetwork(np.eye(2), transfer=transfer)
    with pytest.raises(ValueError, match="inputs"):
        eqb.find_fixed_points(network, np.zeros((3, 4)))


def test_good_arguments_are_not_refused():
    eqb.Flow(solver=diffrax.Heun(), rtol=1e-3, t1=10, max_steps=np.int64(5))
    eqb.UniformCube(np.zeros(2), np.ones(2)).check(2)
    eqb.train(MODEL, PAIRS, steps=1, batch_size=1, optimizer=optax.sgd(0.1), key=KEY)


def test_lists_of_whole_or_traced_numbers_are_arrays():
    np.testing.assert_array_equal(find([1, 2]).state, find([1.0, 2.0]).state)

    def rate(w):
        return eqb.find_fixed_points(eqb.RateNetwork([[w, -1], [-1, 0.0]]), [2, 1.0]).rates[0]

    # x1 = w x1 + 2 where the second neuron is silent.
    assert float(jax.grad(rate)(0.5)) == pytest.approx(2 / 0.5**2)
