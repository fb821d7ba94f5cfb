"""The drivers of the stages: the same bits from both, from any number of workers, from batches of
every size; few programs; errors that leave nothing behind."""

import contextlib
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import diffrax
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import equilibrax as eqb
from equilibrax import Outcome, _batching, _workers
from equilibrax._workers import in_parallel
from equilibrax.fixed_points import _driver, _speed
from equilibrax.fixed_points._driver import settle_chunks, workers_for

DEVICE = jax.devices()[0]
CPU_ONLY = pytest.mark.skipif(DEVICE.platform != "cpu", reason="about the workers of a CPU")


def uniform(count, n=5, seed=0, dtype=jnp.float64):
    return jax.random.uniform(jax.random.key(seed), (count, n), dtype, -1.0, 1.0)


def assert_same_bits(left, right, rows=slice(None)):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[rows], np.asarray(b)[rows])


@pytest.fixture(scope="module")
def no_self_inhibition():
    """Half of the inputs oscillate."""
    return eqb.partitioned(w_ii=0.0)


@pytest.fixture(scope="module")
def three_cycle():
    """Some cycles are slow: they are found after the last phase."""
    return eqb.from_graph([[0, 0, 1], [1, 0, 0], [0, 1, 0]])


@pytest.mark.as_compiled
@pytest.mark.parametrize("name", ["reference", "no_self_inhibition", "three_cycle"])
def test_both_drivers_give_the_same_bits(name, request):
    network = request.getfixturevalue(name)
    inputs = uniform(6000 if name == "three_cycle" else 600, network.num_neurons)
    host = eqb.find_fixed_points(network, inputs)
    traced = jax.jit(eqb.find_fixed_points)(network, inputs)
    ends = {"reference": {Outcome.STABLE}}.get(name, {Outcome.STABLE, Outcome.OSCILLATING})
    assert ends <= set(np.asarray(host.outcome).tolist())
    assert_same_bits(host, traced, np.asarray(host.certified))
    np.testing.assert_array_equal(host.outcome, traced.outcome)
    np.testing.assert_allclose(host.state, traced.state, rtol=0, atol=1e-12)


@pytest.mark.rounding
def test_any_number_of_workers_gives_the_same_bits(no_self_inhibition):
    inputs = uniform(8 * _speed.chunk_rows(5, 1))
    plan = (no_self_inhibition, inputs, None, eqb.Flow())
    alone, two, five = (settle_chunks(*plan, workers=[DEVICE] * k) for k in (1, 2, 5))
    assert int(alone.counts[Outcome.OSCILLATING]) > 2_000
    assert_same_bits(alone, two)
    assert_same_bits(alone, five)


@pytest.mark.rounding
def test_batches_of_every_size_and_order_give_the_same_bits(reference):
    inputs = uniform(40_000)
    found = eqb.find_fixed_points(reference, inputs)
    sure = np.asarray(found.certified)
    assert sure.mean() > 0.999
    for count in (1, 30, 777):
        part = eqb.find_fixed_points(reference, inputs[:count])
        first = jax.tree.map(lambda a: a[:count], found)  # noqa: B023
        assert_same_bits(part, first, sure[:count])
    order = np.random.default_rng(0).permutation(len(inputs))
    shuffled = eqb.find_fixed_points(reference, inputs[order])
    assert_same_bits(shuffled, jax.tree.map(lambda a: a[order], found), sure[order])


@contextlib.contextmanager
def compilations():
    """The programs that are compiled in this block."""
    seen = []

    def listen(event, *args, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(kwargs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@CPU_ONLY
def test_no_batch_size_compiles_anything_after_the_first_two():
    def sizes(network, counts):
        for count in counts:
            inputs = np.asarray(uniform(count, seed=count))
            with compilations() as seen:
                found = eqb.find_fixed_points(network, inputs)
            yield len(seen)
            assert bool(found.stable.all())

    jax.clear_caches()
    _driver._KEPT.clear()
    _driver._KINDS.clear()
    first, second, *others = sizes(eqb.partitioned(), (1, 1000, 30, 777, 100_000))
    assert first == 5, "certificate, start, integrate, certify, finish"
    assert [second, *others] == [0, 0, 0, 0]


@CPU_ONLY
def test_making_networks_and_counting_verdicts_compile_nothing():
    """Users wait for settling alone."""
    found = eqb.find_fixed_points(eqb.partitioned(), np.asarray(uniform(37)))
    jax.clear_caches()
    with compilations() as seen:
        eqb.partitioned((3, 4), w_e=1.5, bias=0.1)
        eqb.two_neuron((0.5, 0.4))
        eqb.ring(11)
        eqb.from_graph([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
        eqb.RateNetwork(np.eye(7), tau=2.0)
        assert found.describe().startswith("37 inputs: 37 STABLE")
    assert not seen


def test_stages_without_rows_are_not_compiled(reference, monkeypatch):
    ran = set()
    advance = _driver._advance

    def recorded(problem, state, phase, stage, queue):
        ran.add(stage.name)
        return advance(problem, state, phase, stage, queue)

    monkeypatch.setattr(_driver, "_advance", recorded)
    eqb.find_fixed_points(reference, uniform(1000))
    assert ran == {"integrate", "certify"}
    saddle = eqb.find_fixed_points(eqb.two_neuron(), jnp.asarray([0.3, 0.3]))
    assert saddle.outcome == Outcome.UNSTABLE
    assert "classify" in ran


def test_the_way_to_the_vector_field_is_short():
    """Of one input: frames and files of this package."""
    ways = []

    class Decay(eqb.AbstractDynamics):
        tau: jax.Array

        def vector_field(self, t, x, i):
            ways.append(traceback.extract_stack())
            return (i - x) / self.tau

    eqb.find_fixed_points(Decay(tau=jnp.ones(2)), jnp.asarray([0.1, 0.2]))
    package = str(Path(eqb.__file__).parent)
    stepping = [
        [frame.filename for frame in way if frame.filename.startswith(package)]
        for way in ways
        if any(frame.name == "masked_step" for frame in way)
    ]
    assert stepping
    # Lanes of a user's own dynamics are one frame more, and the dynamics' own frame is the user's.
    assert min(map(len, stepping)) <= 12
    assert min(len(set(way)) for way in stepping) <= 6


def test_importing_changes_nothing_of_jax():
    code = (
        "import jax; before = dict(jax.config.values)\n"
        "import equilibrax\n"
        "assert dict(jax.config.values) == before\n"
        "assert len(jax.devices()) == 1, jax.devices()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@CPU_ONLY
def test_workers_are_the_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(_workers.os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert _workers.workers_beside(DEVICE) == [DEVICE] * 3


def test_rows_that_stay_on_an_accelerator_are_regrouped_and_replaced():
    """The same as on the host, by JAX's arrays in place of NumPy's."""
    rng = np.random.default_rng(0)
    whole, new = rng.normal(size=(300, 2)), rng.normal(size=(64, 2))
    collected = _batching.CollectedThere()
    for span in ((100, 300), (0, 100)):
        collected.store(span, {"x": jnp.asarray(whole[slice(*span)])})
    rows = np.asarray([3, 50, 99, 100, 299])
    collected.replace(rows, {"x": jnp.asarray(new)})
    whole[rows] = new[:5]
    np.testing.assert_array_equal(collected.whole["x"], whole)

    # Three parts, with others after their rows; the span cuts the first one and the last.
    columns, begin = [jnp.full(16, -1.0)], 0
    for count in (6, 4, 6):
        part = [jnp.where(jnp.arange(8) < count, jnp.arange(8.0) + begin, 99.0)]
        first = begin - 3
        bounds = np.asarray([first, max(first, 0), min(first + count, 10)], np.int32)
        columns = _batching._placed(columns, part, *bounds)
        begin += count
    np.testing.assert_array_equal(columns[0], [*range(3, 13), *[-1] * 6])


@CPU_ONLY
def test_implicit_solvers_run_on_one_worker():
    """Every step of theirs calls LAPACK, which can wait for ever beside another thread's program."""
    workers = [DEVICE] * 3
    assert workers_for(eqb.Flow(), workers) == workers
    assert workers_for(eqb.Flow(solver=diffrax.Kvaerno3()), workers) == [DEVICE]


def test_an_exception_in_a_worker_is_raised_once_and_leaves_no_thread():
    begun, before = [], threading.active_count()

    def work(task, device):
        begun.append(task)
        if task == 2:
            raise OSError("disk full")
        return task

    with pytest.raises(OSError, match="disk full"):
        in_parallel(work, range(1000), [DEVICE] * 2)
    assert len(begun) < 1000
    assert threading.active_count() == before


def test_an_interrupt_ends_the_workers():
    begun, before = [], threading.active_count()

    def work(task, device):
        begun.append(task)
        time.sleep(1e-3)

    def done(task, result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel(work, range(1000), [DEVICE] * 2, done)
    assert len(begun) < 1000
    assert threading.active_count() == before


def test_bad_input_in_a_large_batch_is_one_clear_error(reference):
    before = threading.active_count()
    with pytest.raises(ValueError, match=r"Argument `inputs` must have shape \(\.\.\., 5\)"):
        eqb.find_fixed_points(reference, uniform(40_000, 4))
    spoiled = uniform(40_000).at[17_000, 2].set(jnp.nan)
    found = eqb.find_fixed_points(reference, spoiled)
    assert found.counts[Outcome.INVALID] == 1
    assert found.outcome[17_000] == Outcome.INVALID
    assert threading.active_count() == before


def test_workers_keep_the_callers_settings():
    """Precision that a `with` statement has set holds for the calling thread only."""

    def work(task, device):
        return jnp.ones(2).dtype

    with jax.enable_x64(False):
        assert set(in_parallel(work, range(4), [DEVICE] * 2)) == {jnp.dtype("float32")}
    assert set(in_parallel(work, range(4), [DEVICE] * 2)) == {jnp.dtype("float64")}


def test_other_random_numbers_of_the_caller_are_those_of_every_chunk():
    """Input k depends on the key and k alone, in one chunk or in several."""
    cube, key = eqb.UniformCube(-1.0, 1.0), jax.random.key(0)
    with jax.threefry_partitionable(False):
        few, many = (
            eqb.sample_fixed_points(eqb.two_neuron(), cube, n, key=key, keep="all").inputs[:64]
            for n in (64, 4096)
        )
    np.testing.assert_array_equal(few, many)


TWO_THREADS = """
import threading
import jax, jax.numpy as jnp, numpy as np
import equilibrax as eqb
network = eqb.random_ei(20, key=jax.random.key(1))
def settle(seed):
    inputs = jax.random.uniform(jax.random.key(seed), (1024, 20), minval=-1.0)
    found = eqb.find_fixed_points(network, inputs, method=eqb.Flow(evidence="spectrum"))
    assert int((found.evidence == eqb.Evidence.SPECTRUM).sum()) == 1024
threads = [threading.Thread(target=settle, args=(k,)) for k in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_two_threads_that_settle_do_not_wait_for_each_other_for_ever():
    """Every row goes to LAPACK's programs, of which one runs at a time."""
    subprocess.run([sys.executable, "-c", TWO_THREADS], check=True, timeout=180)


LINEAR = """
import jax, jax.numpy as jnp, numpy as np
import equilibrax as eqb
n = 8
a = np.random.default_rng(1).normal(size=(200, n, n))
a /= np.abs(np.linalg.eigvals(a)).max(axis=1)[:, None, None]
inputs = jnp.asarray(1.001 * a, jnp.float32).reshape(200, n * n)
x0 = jax.random.normal(jax.random.key(0), (200, n))
step = eqb.as_map(lambda x, i: i.reshape(n, n) @ x)
assert not eqb.find_fixed_points(step, inputs, x0=x0).stable.any()
found = eqb.find_fixed_points(lambda t, x, i: i.reshape(n, n) @ x - x, inputs, x0=x0)
abscissas = np.linalg.eigvals(np.asarray(inputs).reshape(200, n, n)).real.max(axis=1) - 1
assert not found.stable[abscissas > 0].any()
assert found.stable[abscissas < -0.1].all()
"""


def test_jacobians_that_are_the_same_at_every_state_do_not_wait_for_ever():
    """All of Newton's matrices could be factorised at once then."""
    subprocess.run([sys.executable, "-c", LINEAR], check=True, timeout=120)


@CPU_ONLY
def test_a_batch_that_its_owner_has_spread_stays_where_it_is(reference):
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = jax.devices()[:2]
    assert len(devices) == 2
    sharding = NamedSharding(Mesh(np.asarray(devices), ("data",)), PartitionSpec("data"))
    inputs = uniform(2000)
    alone = eqb.find_fixed_points(reference, inputs)
    spread = eqb.find_fixed_points(reference, jax.device_put(inputs, sharding))
    assert spread.state.devices() == set(devices)
    assert_same_bits(alone, spread, np.asarray(alone.certified))
