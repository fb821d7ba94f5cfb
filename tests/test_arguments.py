"""Bad arguments to everything but the networks: one clear error, before any tracing."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import equilibrax as eqb

KEY = jax.random.key(0)
NET = eqb.two_neuron()
CUBE = eqb.UniformCube()
MODEL = eqb.FeedForward(2, 2, 2, key=KEY)
PAIRS = (jnp.ones((8, 2)), jnp.ones((8, 2)))


def find(inputs, **options):
    return eqb.find_fixed_points(NET, inputs, **options)


CASES = {
    "width": (lambda: find(np.zeros((3, 4))), "`inputs` must have shape (..., 2), but has shape (3, 4)"),
    "scalar": (lambda: find(1.0), "`inputs` must have shape (..., 2)"),
    "integer inputs": (lambda: find(np.zeros((3, 2), int)), "`inputs` must have dtype float32 or float64"),
    "complex inputs": (lambda: find(np.zeros((3, 2), complex)), "has dtype complex128"),
    "no inputs": (lambda: find(None), "`inputs` must be a real number or a floating-point array"),
    "start": (lambda: find(np.zeros((3, 2)), x0=np.zeros((4, 2))), "`x0` must broadcast to shape (3, 2)"),
    "start width": (lambda: find(np.zeros((3, 2)), x0=np.zeros(3)), "`x0` must have shape (..., 2)"),
    "method": (lambda: find(np.zeros(2), method="flow"), "`method` must be a Flow"),
    "not a network": (lambda: eqb.find_fixed_points(np.eye(2), np.zeros(2)), "`network` must be a RateNetwork"),
    "solver": (lambda: eqb.Flow(solver="tsit5"), "`solver` must be a Diffrax solver"),
    "rtol": (lambda: eqb.Flow(rtol=-1e-3), "`rtol` must be a number above 0, but is -0.001"),
    "atol": (lambda: eqb.Flow(atol=0.0), "`atol` must be a number above 0"),
    "t1": (lambda: eqb.Flow(t1=-5.0), "`t1` must be a number above 0"),
    "t1 infinite": (lambda: eqb.Flow(t1=float("inf")), "`t1` must be a number above 0"),
    "max_steps": (lambda: eqb.Flow(max_steps=0), "`max_steps` must be a positive integer"),
    "batch_size": (lambda: eqb.Flow(batch_size=0), "`batch_size` must be a positive integer"),
    "cube": (lambda: eqb.UniformCube(1.0, -1.0), "`high` must be at least `low` everywhere"),
    "cube nan": (lambda: eqb.UniformCube(np.nan, 1.0), "`low` must be finite"),
    "cube width": (lambda: eqb.sample_fixed_points(NET, eqb.UniformCube(np.zeros(3), 1.0), 5, key=KEY), "`low` must have shape () or (2,), but has shape (3,)"),
    "std": (lambda: eqb.Gaussian(0.0, -1.0), "`std` must be finite and not negative"),
    "no draws": (lambda: eqb.sample_fixed_points(NET, CUBE, 0, key=KEY), "`n_draws` must be a positive integer, but is 0"),
    "half a draw": (lambda: eqb.sample_fixed_points(NET, CUBE, 1.5, key=KEY), "`n_draws` must be a positive integer"),
    "distribution": (lambda: eqb.sample_fixed_points(NET, (-1, 1), 5, key=KEY), "`inputs` must be a distribution"),
    "key": (lambda: eqb.sample_fixed_points(NET, CUBE, 5, key=0), "`key` must be one PRNG key"),
    "keys": (lambda: eqb.sample_fixed_points(NET, CUBE, 5, key=jax.random.split(KEY)), "`key` must be one PRNG key"),
    "keep": (lambda: eqb.sample_fixed_points(NET, CUBE, 5, key=KEY, keep="some"), "`keep` must be 'stable' or 'all'"),
    "no hidden units": (lambda: eqb.FeedForward(2, 0, 2, key=KEY), "`hidden_size` must be a positive integer"),
    "a batch to a model": (lambda: MODEL(jnp.ones((3, 2))), "use jax.vmap(model) for a batch"),
    "no steps": (lambda: eqb.train(MODEL, PAIRS, steps=0, key=KEY), "`steps` must be a positive integer, but is 0"),
    "no batch": (lambda: eqb.train(MODEL, PAIRS, batch_size=0, key=KEY), "`batch_size` must be a positive integer"),
    "optimizer": (lambda: eqb.train(MODEL, PAIRS, optimizer="adam", key=KEY), "`optimizer` must be an Optax optimiser"),
    "nan targets": (lambda: eqb.train(MODEL, (PAIRS[0], PAIRS[1].at[0].set(np.nan)), key=KEY), "`data` must be finite"),
    "no pairs": (lambda: eqb.train(MODEL, (PAIRS[0][:0], PAIRS[1][:0]), key=KEY), "m at least 1"),
    "unequal pairs": (lambda: eqb.train(MODEL, (PAIRS[0][:3], PAIRS[1]), key=KEY), "`data` must hold two arrays"),
    "target width": (lambda: eqb.train(MODEL, (PAIRS[0], jnp.ones((8, 3))), key=KEY), "`data` must have targets of shape (m, 2)"),
    "few draws": (lambda: eqb.distill(NET, key=KEY, n_draws=3), "`n_draws` must be an integer of at least 20"),
    "no restarts": (lambda: eqb.distill(NET, key=KEY, n_draws=20, n_test=10, restarts=0), "`restarts` must be a positive integer"),
    "one partition": (lambda: eqb.mixture_line((2,), 3, jnp.zeros(1)), "`partitions` must hold two partitions"),
    "large partitions": (lambda: eqb.partition_sums(jnp.ones(3), (2, 2)), "`partitions` must hold between 1 and 3 neurons"),
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
