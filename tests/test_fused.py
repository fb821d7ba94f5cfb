"""The kernel that integrates on a GPU, interpreted here, against the plain loop of lanes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import equilibrax as eqb
from equilibrax.fixed_points._driver import certificate_of
from equilibrax.fixed_points._phases import schedule
from equilibrax.fixed_points._state import blank_state, initial_state
from equilibrax.fixed_points.stages import INTEGRATE, Problem, _integrate
from equilibrax.fixed_points.stepping import Queue

ROWS = 200


def integrated(network: eqb.RateNetwork, inputs, queue: Queue, flow: eqb.Flow, phase: int):
    """The state after one phase's integration."""
    problem = Problem(network, certificate_of(network, flow), flow, inputs)
    blank = jax.tree.map(jnp.asarray, blank_state(*inputs.shape, inputs.dtype))
    state = initial_state(network, inputs, blank)
    phases = schedule(flow, network, problem.certificate)
    return jax.jit(lambda state: INTEGRATE.run(problem, state, phases[phase], queue))(state)


@pytest.fixture
def fused(monkeypatch):
    """Puts the kernel in the place of the loop, with few lanes, so that each has many rows."""

    def use():
        kernel = _integrate.run_fused
        monkeypatch.setattr(_integrate, "is_fused", lambda problem: True)
        monkeypatch.setattr(
            _integrate, "run_fused", lambda *args: kernel(*args, lanes=64, interpret=True)
        )

    return use


@pytest.mark.parametrize("convention", ["voltage", "activity", "recurrent"])
@pytest.mark.parametrize("phase", [0, 2])
def test_the_kernel_takes_the_steps_of_the_plain_loop(convention, phase, fused):
    # Some rows of this network escape, some come to rest, and some run out of time or of steps.
    weights = np.random.default_rng(3).normal(size=(4, 4)) * 1.1
    tau = jnp.asarray([1.0, 0.7, 1.3, 2.0])
    network = eqb.RateNetwork(weights, bias=0.1, tau=tau, convention=convention)
    inputs = jax.random.uniform(jax.random.key(0), (ROWS, 4), float, -1, 1)
    queue = Queue.where(jnp.arange(ROWS) % 5 != 0)
    flow = eqb.Flow(max_steps=1000, divergence=100.0)
    plain = integrated(network, inputs, queue, flow, phase)
    fused()
    kernel = integrated(network, inputs, queue, flow, phase)
    assert np.array_equal(plain.stop, kernel.stop)
    assert len(set(plain.stop.tolist())) > 1
    assert np.all(np.asarray(plain.num_steps)[::5] == 0)
    # Steps that are accepted or not by a rounding lead to other ones, which growth magnifies.
    close = np.asarray(plain.num_steps == kernel.num_steps)
    for name in ("x", "time", "dt", "speed", "growth", "scale"):
        a, b = (np.asarray(getattr(state, name)) for state in (plain, kernel))
        near = np.isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=True)
        close = close & near.reshape(ROWS, -1).all(axis=1)
    assert close.mean() > 0.93


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_kernel_changes_no_verdict(dtype, fused, reference):
    network = eqx.tree_at(lambda net: net.bias, reference, reference.bias + 0.02).astype(dtype)
    inputs = jax.random.uniform(jax.random.key(1), (ROWS, 5), dtype, -1, 1).at[7, 2].set(jnp.nan)
    # Another `max_steps`, so that nothing compiled is taken from elsewhere.
    plain = eqb.find_fixed_points(network, inputs, method=eqb.Flow(max_steps=4001))
    fused()
    kernel = eqb.find_fixed_points(network, inputs, method=eqb.Flow(max_steps=4002))
    assert kernel.num_steps[7] == 0
    assert np.array_equal(plain.outcome, kernel.outcome)
    stable = np.asarray(plain.stable)
    assert stable.sum() == ROWS - 1
    assert np.array_equal(plain.certified, kernel.certified)
    eps = jnp.finfo(dtype).eps
    np.testing.assert_allclose(plain.state[stable], kernel.state[stable], rtol=0, atol=20 * eps)


def test_the_kernel_is_lowered_for_a_gpu(monkeypatch, reference):
    monkeypatch.setattr(_integrate, "is_fused", lambda problem: True)
    inputs = jnp.zeros((ROWS, 5))

    def program(inputs):
        queue = Queue.where(jnp.ones(ROWS, bool))
        return integrated(reference, inputs, queue, eqb.Flow(), 0).x

    try:
        lowered = jax.jit(program).trace(inputs).lower(lowering_platforms=("cuda",))
    except RuntimeError as error:
        pytest.skip(f"this JAX lowers kernels beside a GPU only: {error}")
    assert "triton" in lowered.as_text()
