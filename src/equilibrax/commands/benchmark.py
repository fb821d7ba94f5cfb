"""Benchmark: time to settle a batch against the time of a forward pass on the same inputs."""

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from .. import _checks
from .._progress import progress_bar
from .._workers import num_cores
from ..approximation import approximate, forward
from ..fixed_points import Flow, find_fixed_points
from ..networks import RateNetwork, partitioned, random_ei, ring, two_neuron
from ..sampling import UniformCube, sample_fixed_points


def hardware() -> dict[str, Any]:
    """Hardware and package versions, to record beside measurements."""
    device = jax.devices()[0]
    name = device.device_kind
    cpuinfo = Path("/proc/cpuinfo")
    if device.platform == "cpu" and cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0].split(":", 1)[1].strip() if models else platform.processor()
    return {
        "platform": device.platform,
        "device": name,
        "devices": jax.device_count(),
        "cores": num_cores(),
        "python": platform.python_version(),
        **{p: version(p) for p in ("equilibrax", "jax", "jaxlib", "diffrax", "equinox", "optax")},
    }


def example_network(n: int, key: Array) -> RateNetwork:
    """Two inhibiting neurons for n = 2, the reference network for 5, a ring for n of at least 100,
    and a random E/I network otherwise."""
    if n == 2:
        return two_neuron()
    if n == 5:
        return partitioned()
    return ring(n) if n >= 100 else random_ei(n, key=key)


def solve_vs_forward(
    sizes: Sequence[int] = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000),
    neurons: Sequence[int] = (2, 5, 20, 100),
    *,
    repeats: int = 5,
    limit_s: float = 60.0,
    method: Flow | None = None,
    key: Array,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Measure every combination of batch size and network size.

    For each network an approximation with n hidden units is trained on 4,000 inputs. Compilation is
    timed separately; then the two programs run alternately. A solve is not run if the time of the
    batch size before, scaled in proportion, exceeds `limit_s`: the scaled time is returned, and
    marked as extrapolated.

    **Arguments:**

    - `sizes`, `neurons`: batch sizes of at least 1, and numbers of neurons of at least 2.
    - `repeats`: number of timed runs of each program, of which the median is returned.
    - `limit_s`: longest solve that is run, in seconds.
    - `method`: the `Flow`, as for `find_fixed_points`.
    - `key`: PRNG key of networks and inputs.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** a record for each combination: `n`, `batch`, `stable` (share), `error` (normalised
    error of the approximation), `solve` and `forward` with `compile_s`, `median_s`, `runs_s` and
    `extrapolated`, and `ratio`, the median of the solve over that of the forward pass.

    **Raises:** `ValueError` for sizes or limits out of range.
    """
    sizes = sorted(set(_checks.sizes("sizes", sizes)))
    neurons = [_checks.integer("neurons", n, minimum=2) for n in neurons]
    repeats = _checks.integer("repeats", repeats)
    limit_s = _checks.number("limit_s", limit_s, above=0.0)
    cells = []
    with progress_bar(len(sizes) * len(neurons), "timing", "cells", progress) as bar:
        for n in neurons:
            keys = jax.random.split(jax.random.fold_in(_checks.key(key), n), 4)
            network = example_network(n, keys[0])
            cube = UniformCube(-1.0, 1.0)
            samples = sample_fixed_points(network, cube, 4000, key=keys[1], method=method)
            fitted = approximate(samples, key=keys[2], restarts=1, steps=2000)
            before: dict[str, Any] | None = None
            for size in sizes:
                shape = (size, n)
                inputs = jax.random.uniform(keys[3], shape, network.dtype, -1.0, 1.0)
                bar.set_postfix(n=n, batch=size)
                before = _cell(network, fitted.model, inputs, before, repeats, limit_s, method)
                before["error"] = float(fitted.evaluation.normalised_error)
                cells.append(before)
                bar.update()
    return cells


def _cell(network, model, inputs, before, repeats, limit_s, method) -> dict[str, Any]:
    programs: dict[str, Callable] = {
        "solve": lambda: find_fixed_points(network, inputs, method=method),
        "forward": lambda: forward(model, inputs),
    }
    size, n = inputs.shape
    record: dict[str, Any] = {"n": n, "batch": size}
    predicted = before["solve"]["median_s"] * size / before["batch"] if before else 0.0
    if before and (predicted > limit_s or before["solve"]["extrapolated"]):
        del programs["solve"]
        record |= {"stable": before["stable"]}
        record["solve"] = {"compile_s": None, "median_s": predicted, "extrapolated": True}
    firsts, runs = {}, {name: [] for name in programs}
    for name, program in programs.items():
        firsts[name], result = timed(program)
        if name == "solve":
            record["stable"] = float(np.mean(np.asarray(result.stable)))
    for _ in range(repeats):
        for name, program in programs.items():
            # Programs slower than the limit are run once.
            if not runs[name] or sum(runs[name]) < limit_s:
                runs[name].append(timed(program)[0])
    for name, times in runs.items():
        median = statistics.median(times)
        record[name] = {
            "compile_s": max(0.0, firsts[name] - median),
            "median_s": median,
            "runs_s": times,
            "extrapolated": False,
        }
    record["ratio"] = record["solve"]["median_s"] / record["forward"]["median_s"]
    return record


def peak_memory() -> float:
    """Peak memory of this process so far, in GiB. `getrusage` would include the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        kibibytes = next(line for line in lines if line.startswith("VmHWM")).split()[1]
        return int(kibibytes) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def in_own_process(script: str, *options: str) -> dict[str, Any]:
    """Run a script in a new process, and parse the last line of its output as JSON."""
    command = [sys.executable, script, *options]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


def timed(program: Callable) -> tuple[float, Any]:
    """Run a program until its results are ready. Returns the seconds and the results."""
    start = time.perf_counter()
    result = jax.block_until_ready(program())
    return time.perf_counter() - start, result
