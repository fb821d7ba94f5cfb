"""Processes of their own: killed ones, several at once, other numbers of devices."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from test_store import listing

import equilibrax as eqb


def command(out, shards=400, *more, w_self=0.5):
    """A command that samples so many shards: of inputs that settle in a moment or, if w_self is 1.5,
    diverge three times in four."""
    return [
        "-m", "equilibrax.commands.cli", "sample", "--out", out, "--inputs", 256 * shards, "--shard-size", 256,
        *more, "network:two-neuron", "--network.w-self", w_self,
    ]  # fmt: skip


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


def start(folder, *words, **environment):
    """A process that keeps its compiled programs for the next one."""
    cache = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache" / "equilibrax"),
    }
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, **cache, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def test_killed_at_twenty_instants_the_store_is_that_of_an_unkilled_command(folder):
    """Ten instants before the first new shard of a command, ten while shards are written."""
    whole, killed = folder / "whole", folder / "killed"
    finish(start(folder, *command(whole)))
    random = np.random.default_rng(5)
    seen: dict[str, int] = {}
    longest = 0.0
    for k in range(20):
        process, began = start(folder, *command(killed)), time.monotonic()
        if k % 2:
            wait(killed, len(seen), random.uniform(0, longest))
        else:
            wait(killed, len(seen), 300, shards=1)
            longest = time.monotonic() - began
            wait(killed, len(seen), random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        now = committed(killed)
        # None lost, none written again, and what has a name is whole.
        assert seen.items() <= now.items()
        for name in now.keys() - seen.keys():
            assert (killed / name).read_bytes() == (whole / name).read_bytes()
        seen = now
    assert 0 < len(seen) < 400
    finish(start(folder, *command(killed)))
    assert listing(killed) == listing(whole)
    assert seen.items() <= committed(killed).items()
    left, right = eqb.open_samples(killed), eqb.open_samples(whole)
    assert left.counts == right.counts
    for name in ("inputs", "rates", "state", "outcome"):
        np.testing.assert_array_equal(getattr(left[:], name), getattr(right[:], name))


def wait(path, seen, seconds, shards=15):
    """So long, or until so many new shards are there: the command is not to come to its end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(named(path)) < seen + shards:
        time.sleep(0.002)


def committed(path):
    """Shards by name, with the time at which each was written."""
    return {name: (path / name).stat().st_mtime_ns for name in named(path)}


def named(path):
    """The shards' names, none before the store is there."""
    return listing(path) if path.exists() else []


WORKER = """
import sys
import jax, numpy as np
devices, process, processes, port, path = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(devices))
if int(processes) > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(process))
import equilibrax as eqb, optax
from jax.sharding import Mesh
network, cube = eqb.partitioned(w_ii=0.0), eqb.UniformCube(-1.0, 1.0)
plan = dict(n=2900, key=jax.random.key(3), keep="all", shard_size=256)
store = eqb.sample_to_store(path, network, cube, **plan)
assert store.counts[eqb.Outcome.OSCILLATING] > 1000 < store.counts[eqb.Outcome.STABLE]
mesh = Mesh(np.asarray(jax.devices()), ("data",))
assert mesh.size == int(devices) * int(processes)
model = eqb.FeedForward(5, 8, 5, key=jax.random.key(1))
run = eqb.train(model, store, optimizer=optax.adam(0.01), steps=40, batch_size=64,
                key=jax.random.key(2), mesh=mesh, checkpoints=path + "-steps", every=20)
if int(process) == 0:
    np.savez(path + ".npz", run.losses, *jax.tree.leaves(run.model))
"""


def test_devices_and_processes_make_the_same_store_and_train_alike(folder):
    port = free_port()
    one, four, two = folder / "one", folder / "four", folder / "two"
    finish(start(folder, "-c", WORKER, 1, 0, 1, port, one))
    finish(start(folder, "-c", WORKER, 4, 0, 1, port, four))
    pair = [start(folder, "-c", WORKER, 2, process, 2, port, two) for process in range(2)]
    for process in pair:
        finish(process)
    assert listing(one) == listing(four) == listing(two)
    assert len(listing(one)) == 12
    trained = [np.load(path.with_suffix(".npz")) for path in (one, four, two)]
    for other in trained[1:]:
        for name in trained[0].files:
            np.testing.assert_allclose(other[name], trained[0][name], rtol=1e-4, atol=1e-6)


def test_two_commands_that_know_of_each_other_write_the_store_of_one(folder):
    alone, both = folder / "alone", folder / "both"
    cluster = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2, "--process"]
    pair = [start(folder, *command(both, 5, *cluster, process, w_self=1.5)) for process in range(2)]
    for process in pair:
        finish(process)
    finish(start(folder, *command(alone, 5, w_self=1.5)))
    assert len(listing(both)) == 5
    assert listing(both) == listing(alone)


TRAINING = """
import sys
import equilibrax as eqb, jax, optax
store = eqb.open_samples(sys.argv[1])
model = eqb.FeedForward(5, 8, 5, key=jax.random.key(1))
print("ready", flush=True)
run = eqb.train(model, store, optimizer=optax.adam(0.01), steps=8000, batch_size=64,
                key=jax.random.key(2), checkpoints=sys.argv[2], every=1000)
eqb.save_model(sys.argv[3], run.model)
"""


def test_a_killed_training_ends_with_the_weights_of_an_unkilled_one(folder):
    words = ["-c", TRAINING, folder / "one"]
    finish(start(folder, *words, folder / "unkilled", folder / "unkilled.safetensors"))
    last = 0
    for _ in range(3):
        process = start(folder, *words, folder / "steps", folder / "killed.safetensors")
        assert process.stdout.readline() == "ready\n"
        while process.poll() is None and checkpoint(folder) <= last:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert checkpoint(folder) > last
        last = checkpoint(folder)
    finish(start(folder, *words, folder / "steps", folder / "killed.safetensors"))
    killed, unkilled = (
        (folder / f"{name}.safetensors").read_bytes() for name in ("killed", "unkilled")
    )
    assert killed == unkilled


def checkpoint(folder):
    """Steps done at the last checkpoint."""
    steps = folder / "steps" / "steps"
    names = os.listdir(steps) if steps.exists() else []
    return max((int(name) for name in names if name.isdigit()), default=0)
