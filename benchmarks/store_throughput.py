"""Sampling to a store against sampling in memory: throughput and resident memory.

Each run is a process of its own, in turn with the other kind. Within it, a few shards are made
first, so that what is timed is compiled; then all inputs are sampled. That both give the same is
checked on the way. Writes store_throughput_PLATFORM.json.
"""

import dataclasses
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, in_own_process, peak_memory, timed


def one_run(kind: str, count: int, folder: Path) -> dict[str, Any]:
    """Sample so many inputs of the reference network, in this process."""
    network, cube, key = eqb.partitioned(), eqb.UniformCube(-1.0, 1.0), jax.random.key(0)

    def in_memory(n: int, name: str):
        return eqb.sample_fixed_points(network, cube, n, key=key)

    def to_store(n: int, name: str):
        return eqb.sample_to_store(folder / name, network, cube, n, key=key, shard_size=2**17)

    sample = {"memory": in_memory, "store": to_store}[kind]
    first, _ = timed(lambda: sample(4 * 2**17, "warm"))
    seconds, samples = timed(lambda: sample(count, "whole"))
    rates = samples[1000:2000].rates if kind == "store" else samples.rates[1000:2000]
    return {
        "kind": kind,
        "inputs": count,
        "first_s": first,
        "seconds": seconds,
        "peak_GiB": peak_memory(),
        "stable": samples.counts[eqb.Outcome.STABLE],
        "bytes": sum(file.stat().st_size for file in folder.rglob("*.parquet")),
        "sum_of_some_rates": float(np.asarray(rates).sum(dtype=float)),
    }


@dataclasses.dataclass(frozen=True)
class StoreThroughput:
    """Sampling to a store against sampling in memory."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    scratch: Path = Path(tempfile.gettempdir())
    """Folder for the stores; they are removed."""
    inputs: int = 20_000_000
    """Inputs of each run."""
    repeats: int = 2
    """Runs of each kind."""
    only: str | None = None
    """Make one run, "memory" or "store", in this process, and print it as JSON."""

    def run(self) -> None:
        """Measure, and write JSON."""
        if self.only is not None:
            folder = Path(tempfile.mkdtemp(dir=self.scratch))
            try:
                print(json.dumps(one_run(self.only, self.inputs, folder)))
            finally:
                shutil.rmtree(folder)
            return
        runs = []
        for kind in ("memory", "store") * self.repeats:
            options = ["--only", kind, "--inputs", str(self.inputs), "--scratch", str(self.scratch)]
            runs.append(in_own_process(__file__, *options))
            print(runs[-1], flush=True)
        agree = len({(run["stable"], run["sum_of_some_rates"]) for run in runs}) == 1
        median = {
            kind: statistics.median(run["seconds"] for run in runs if run["kind"] == kind)
            for kind in ("memory", "store")
        }
        report = {
            "hardware": hardware(),
            "runs": runs,
            "agree": agree,
            "relative_throughput": median["memory"] / median["store"],
        }
        print(report["relative_throughput"], agree)
        write_json(self.out / f"store_throughput_{hardware()['platform']}.json", report)


if __name__ == "__main__":
    tyro.cli(StoreThroughput, description=__doc__).run()
