"""Work on many chunks: one thread for each core or accelerator, each pulling the next chunk.

XLA runs a small program on one core of a CPU. Two Python threads that run the same program keep two
cores busy, since JAX releases the interpreter while a program runs; JAX's own settings stay as
they are. Nothing that a chunk gives depends on the thread, or on how many there are.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any, TypeVar

import jax

from ._types import Device

Result = TypeVar("Result")


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_beside(device: Device) -> list[Device]:
    """The device that each worker runs its programs on: a CPU's one device for every core, or each
    local accelerator of the same kind."""
    if device.platform == "cpu":
        return [device] * num_cores()
    return jax.local_devices(backend=device.platform)


def in_parallel(
    work: Callable[[Any, Device], Result],
    tasks: Sequence[Any],
    workers: Sequence[Device],
    done: Callable[[Any, Any], None] = lambda task, result: None,
) -> list[Result]:
    """`work(task, device)` of every task, in order; `done(task, result)` in the calling thread
    after each.

    Each worker has one task at a time. A single task runs in the calling thread. The first
    exception, Ctrl-C included, is raised here: tasks that run come to their end, no other begins,
    and no thread is left behind.
    """
    if len(tasks) <= 1 or len(workers) == 1:
        results = []
        for task in tasks:
            results.append(work(task, workers[0]))
            done(task, results[-1])
        return results
    free: SimpleQueue[Device] = SimpleQueue()
    for device in workers:
        free.put(device)
    settings, failed = _settings(), threading.Event()

    def run(task):
        if failed.is_set():
            raise CancelledError
        device = free.get()
        try:
            with _applied(settings):
                return work(task, device)
        except BaseException:
            failed.set()
            raise
        finally:
            free.put(device)

    with ThreadPoolExecutor(min(len(workers), len(tasks)), "equilibrax") as pool:
        futures = {pool.submit(run, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                # The failure itself comes sooner or later.
                if not isinstance(future.exception(), CancelledError):
                    done(futures[future], future.result())
        except BaseException:
            failed.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


CONTEXTS: dict[str, Callable[[Any], contextlib.AbstractContextManager]] = {
    "jax_enable_x64": jax.enable_x64,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_threefry_partitionable": jax.threefry_partitionable,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_debug_nans": jax.debug_nans,
    "jax_debug_infs": jax.debug_infs,
    "jax_check_tracer_leaks": jax.check_tracer_leaks,
    "jax_disable_jit": jax.disable_jit,
}
"""JAX's settings that hold for one thread only where a `with` statement has made them."""


def _settings() -> dict[str, Any]:
    """The calling thread's settings."""
    return {name: getattr(jax.config, name) for name in CONTEXTS}


@contextlib.contextmanager
def _applied(settings: dict[str, Any]):
    """The settings, in this thread."""
    with contextlib.ExitStack() as stack:
        for name, value in settings.items():
            if getattr(jax.config, name) != value:
                stack.enter_context(CONTEXTS[name](value))
        yield
