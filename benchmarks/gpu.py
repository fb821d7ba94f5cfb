"""Settling and training on an accelerator: throughput, compile time, memory, and the host's share.

    python benchmarks/gpu.py            # 10^8 inputs of the reference network; a large GPU
    python benchmarks/gpu.py --share 0.01

- Every network's inputs are drawn on the device and settled there with the default evidence: the
  first call with its compilation, then the median of the others; the outcomes and the evidence are
  counted, and the first inputs are compared with plain `vmap(diffeqsolve)` and with a CPU in double
  precision.
- The host's share is the part of a call in which no kernel ran, by JAX's profiler.
- Up to n = 20 the first inputs are settled under other precisions of JAX's matrix products, TF32
  among them: verdicts must not change.
- `train` and `train_many` on pairs that never leave the device.

The same program runs on a CPU; a hundredth of the inputs is then enough. Writes gpu_PLATFORM.json.
"""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from against_peers import naive
from evidence import gaussian, random_ei

import equilibrax as eqb
from equilibrax import Evidence, Outcome
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, timed

NETWORKS = {
    "reference, n = 5": (eqb.partitioned, 100_000_000),
    "random E/I, n = 20": (lambda: random_ei(20), 4_000_000),
    "random E/I, n = 100": (lambda: random_ei(100), 400_000),
    "ring, n = 100": (lambda: eqb.ring(100), 400_000),
    "Gaussian, radius 0.9, n = 500": (lambda: gaussian(500, 0.9), 40_000),
}
COMPARED = 2048
"""Inputs of each network that are settled in other ways, too."""

PRECISIONS = ("tensorfloat32", "highest")
"""Of matrix products in single precision; every one compiles anew."""


@dataclasses.dataclass(frozen=True)
class Accelerated:
    """Throughput on this machine's first device."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    share: float = 1.0
    """Share of the inputs."""
    repeats: int = 3
    """Timed calls, of which the median counts."""
    steps: int = 4000
    """Steps of training."""
    networks: tuple[str, ...] = tuple(NETWORKS)
    """Networks that are settled."""

    def run(self) -> None:
        """Measure, print and write JSON."""
        path = self.out / f"gpu_{jax.default_backend()}.json"
        result: dict = {"hardware": {**hardware(), "date": time.strftime("%Y-%m-%d")}}
        for name in self.networks:
            row = self.settle(name)
            print(name, row, flush=True)
            result.setdefault("settling", {})[name] = row
            write_json(path, result)
        result["training"] = self.train()
        print(result["training"], flush=True)
        write_json(path, result)

    def settle(self, name: str) -> dict:
        """One network."""
        build, count = NETWORKS[name]
        network, count = build().astype(jnp.float32), max(COMPARED, round(self.share * count))
        shape, key = (count, network.num_neurons), jax.random.key(0)
        inputs = jax.block_until_ready(jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0))

        def settle():
            return eqb.find_fixed_points(network, inputs)

        first, found = timed(settle)
        row = {
            "inputs": count,
            "outcomes": _counted(Outcome, found.outcome),
            "evidence": _counted(Evidence, found.evidence),
            **self.agreement(network, inputs[:COMPARED], found),
        }
        del found
        seconds = statistics.median(timed(settle)[0] for _ in range(self.repeats))
        row |= {
            "first_call_s": first, "seconds": seconds, "inputs_a_second": count / seconds,
            "share_of_the_host": host_share(settle), "peak_bytes": peak_bytes(),
        }  # fmt: skip
        few = inputs[:1000]
        for words, some in (("a_thousand_s", few), ("one_s", few[0])):
            runs = [
                timed(lambda some=some: eqb.find_fixed_points(network, some))[0] for _ in range(4)
            ]
            row |= {"first_" + words: runs[0], words: statistics.median(runs[1:])}
        peer = jax.jit(lambda inputs: naive(network, inputs)[0])
        some = inputs[: min(count, 100_000)]
        timed(lambda: peer(some))
        row["naive_inputs_a_second"] = len(some) / timed(lambda: peer(some))[0]
        return row

    def agreement(self, network, few, found) -> dict:
        """How far the first states are from those on a CPU in double precision, and how many
        verdicts change with the precision of products."""
        states, outcomes = (np.asarray(a[: len(few)]) for a in (found.state, found.outcome))
        cpu = jax.devices("cpu")[0]
        with jax.enable_x64(True), jax.default_device(cpu):
            there = jax.tree.map(np.asarray, (network, few))
            exact, i = jax.device_put(there, cpu)
            oracle = eqb.find_fixed_points(exact.astype(jnp.float64), i.astype(jnp.float64))
            gap = np.abs(np.asarray(oracle.state) - states).max(axis=1)
            same = np.asarray(oracle.outcome) == outcomes
        changed = {}
        for precision in PRECISIONS if network.num_neurons <= 20 else ():
            with jax.default_matmul_precision(precision):
                other = eqb.find_fixed_points(network, few)
            changed[precision] = int((np.asarray(other.outcome) != outcomes).sum())
        return {
            "same_verdict_as_cpu_float64": float(same.mean()),
            "gap": {"median": float(np.median(gap)), "99 %": float(np.quantile(gap, 0.99))},
            "verdicts_changed_by_precision": changed,
        }

    def train(self) -> dict:
        """Sampling pairs and training on them."""
        network, key = eqb.partitioned(), jax.random.key(1)
        cube = eqb.UniformCube(-1.0, 1.0)
        count = round(1_000_000 * self.share)
        seconds, data = timed(lambda: eqb.sample_fixed_points(network, cube, count, key=key))
        model = eqb.FeedForward(5, 64, 5, key=key)
        options = {"steps": self.steps, "batch_size": 256, "key": key}

        def many():
            return eqb.train_many(data, hidden=5, restarts=256, **options)

        rows: dict = {"pairs": count, "sampling_s": seconds}
        for name, run in (("train", lambda: eqb.train(model, data, **options)), ("many", many)):
            first = timed(run)[0]
            again = statistics.median(timed(run)[0] for _ in range(self.repeats))
            rows[name] = {
                "first_call_s": first, "us_a_step": 1e6 * again / self.steps,
                "share_of_the_host": host_share(run),
            }  # fmt: skip
        return rows


def _counted(kind, codes) -> dict[str, int]:
    codes, counts = np.unique(np.asarray(codes), return_counts=True)
    return {kind(code).name: int(count) for code, count in zip(codes, counts, strict=True)}


def peak_bytes() -> int | None:
    """The most that the device has had in use, if it tells."""
    stats = jax.local_devices()[0].memory_stats()
    return stats and stats.get("peak_bytes_in_use")


def host_share(program) -> float | None:
    """The share of the program's time in which nothing ran on the accelerator; None on a CPU."""
    if jax.default_backend() == "cpu":
        return None
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            seconds = timed(program)[0]
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        events = [
            (event.start_ns, event.start_ns + event.duration_ns)
            for plane in planes if "/device:GPU" in plane.name
            for line in plane.lines if line.name.startswith("Stream")
            for event in line.events
        ]  # fmt: skip
    busy, end = 0.0, 0.0
    for start, stop in sorted(events):
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return 1 - 1e-9 * busy / seconds


if __name__ == "__main__":
    tyro.cli(Accelerated, description=__doc__).run()
