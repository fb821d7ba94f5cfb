"""Double precision for every test, single precision where a test asks for it; two CPU devices."""

import atexit
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

# Compilation dominates test time, and most programs run for milliseconds: LLVM need not optimise
# them, nor compile in threads where two workers keep two cores busy. `.ci/run` repeats what is about
# rounding as users' programs are compiled.
flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
flags += " --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    flags += " --xla_cpu_use_fusion_emitters=false"  # 0.11 has no others
os.environ.setdefault("XLA_FLAGS", flags)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Where an operation stands in our sources, nobody asks of a compiled program here: writing it down is
# up to a sixth of the time until it is compiled.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # What one worker, or a command that a test runs, has compiled, the others load.
    cache = tempfile.mkdtemp(prefix="equilibrax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    atexit.register(shutil.rmtree, cache, ignore_errors=True)

# Traces are many small objects that live on: looking for garbage among them takes a tenth of the time.
gc.set_threshold(100_000, 20, 100)

import jax

jax.config.update("jax_enable_x64", True)
# Meshes and batches that their owner has spread need two devices.
jax.config.update("jax_num_cpu_devices", 2)

import matplotlib

matplotlib.use("Agg")

import pytest

import equilibrax as eqb

LONGEST = ("test_processes", "test_adversaries", "test_weights", "test_docstrings", "test_pages")
"""Files that take minutes: begun first, so that no worker waits for another at the end."""


def pytest_configure(config):
    # Otherwise files with few tests come last, whatever they take.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Tests marked `interop` are skipped where PyTorch is missing, and those marked `as_compiled`
    where programs are not compiled as users' programs are."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    reasons = {}
    if importlib.util.find_spec("torch") is None:
        reasons["interop"] = "needs PyTorch: pip install -e '.[interop]'"
    if "optimization_level=0" in os.environ["XLA_FLAGS"]:
        reasons["as_compiled"] = "hangs on bits of optimised programs: XLA_FLAGS= pytest"
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def enough_memory_maps():
    """Linux allows a process 65,530 memory maps, of which a network's programs take some hundreds:
    past that XLA aborts."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 50_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def reference():
    return eqb.partitioned()


@pytest.fixture(scope="session")
def samples(reference):
    """50,000 inputs of the reference network: standard errors of shares below 0.0023."""
    cube = eqb.UniformCube(-1.0, 1.0)
    return eqb.sample_fixed_points(reference, cube, 50_000, key=jax.random.key(0))
