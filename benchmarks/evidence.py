"""What evidence costs, beside plain Diffrax that passes no verdict.

`truth.py` asks whether it is true.

    python benchmarks/evidence.py

For each network, in turn: `vmap(diffeqsolve)` with Tsit5, rtol 1e-4, atol 1e-6 and a steady-state
event at 1e-4 and 1e-5, and `find_fixed_points` with each level of evidence, float32; microseconds
an input, medians over the repeats, after compilation. The states are compared first.
"""

import dataclasses
import statistics
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from against_peers import naive

import equilibrax as eqb
from equilibrax import Evidence, Flow
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, timed


def gaussian(n: int, radius: float) -> eqb.RateNetwork:
    """Independent Gaussian weights of this spectral radius."""
    weights = np.random.default_rng(0).normal(size=(n, n))
    weights *= radius / np.abs(np.linalg.eigvals(weights)).max()
    return eqb.RateNetwork(weights.astype(np.float32))


def random_ei(n: int) -> eqb.RateNetwork:
    """Random excitation and inhibition."""
    return eqb.random_ei(n, key=jax.random.key(1))


NETWORKS = {
    "reference, n = 5": (eqb.partitioned, 1_000_000),
    "random E/I, n = 20": (lambda: random_ei(20), 8192),
    "random E/I, n = 50": (lambda: random_ei(50), 4096),
    "random E/I, n = 100": (lambda: random_ei(100), 2048),
    "ring, n = 100": (lambda: eqb.ring(100), 2048),
    "Gaussian, radius 0.95, n = 100": (lambda: gaussian(100, 0.95), 2048),
    "random E/I, n = 500": (lambda: random_ei(500), 512),
    "Gaussian, radius 0.9, n = 500": (lambda: gaussian(500, 0.9), 512),
    "random E/I, n = 1000": (lambda: random_ei(1000), 128),
}


@dataclasses.dataclass(frozen=True)
class EvidenceCosts:
    """Cost of evidence."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    repeats: int = 5
    """Timed runs, of which the median counts."""
    levels: tuple[str, ...] = ("default", "proof")
    """Levels of evidence."""

    def run(self) -> None:
        """Measure, print and write JSON."""
        path = self.out / f"evidence_{jax.default_backend()}.json"
        result: dict = {"hardware": hardware()}
        for name in NETWORKS:
            result.setdefault("costs", {})[name] = self.cost(name)
            write_json(path, result)

    def cost(self, name: str) -> dict:
        """One network: microseconds an input."""
        build, count = NETWORKS[name]
        network = build().astype(jnp.float32)
        shape = (count, network.num_neurons)
        inputs = jax.random.uniform(jax.random.key(0), shape, jnp.float32, -1.0, 1.0)
        few = inputs[: min(count, 8192)]  # naive takes minutes for a million
        peer = jax.jit(lambda inputs: naive(network, inputs)[0])
        levels = {
            level: Flow(evidence=None if level == "default" else level)  # pyright: ignore
            for level in self.levels
            if not (level == "proof" and network.num_neurons > 500)
        }
        # A proof of hundreds of neurons takes many milliseconds.
        share = {k: inputs[:64] if k == "proof" and count < 1000 else inputs for k in levels}
        row: dict = {"inputs": count}
        states = np.asarray(peer(few))
        for level, flow in levels.items():
            found = eqb.find_fixed_points(network, share[level], method=flow)
            rows = min(len(few), len(share[level]))
            gap = np.abs(np.asarray(found.state)[:rows] - states[:rows]).max(axis=1)
            kinds = Counter(Evidence(int(kind)).name for kind in np.asarray(found.evidence))
            row[level] = {
                "evidence": {kind: k / len(share[level]) for kind, k in kinds.items()},
                "stable": float(found.stable.mean()),
                "gap": {"median": float(np.median(gap)), "99 %": float(np.quantile(gap, 0.99))},
            }
        times: dict[str, list[float]] = {level: [] for level in ("naive", *levels)}
        for _ in range(self.repeats):
            times["naive"].append(timed(lambda: peer(few))[0] / len(few))
            for level, flow in levels.items():
                settle = partial(eqb.find_fixed_points, network, share[level], method=flow)
                times[level].append(timed(settle)[0] / len(share[level]))
        row["naive"] = 1e6 * statistics.median(times["naive"])
        for level in levels:
            row[level]["microseconds"] = 1e6 * statistics.median(times[level])
            row[level]["times naive"] = row["naive"] / row[level]["microseconds"]
            kinds = {kind: f"{share:.2%}" for kind, share in row[level]["evidence"].items()}
            ours, times_naive = row[level]["microseconds"], row[level]["times naive"]
            print(
                f"{name:32s} {level:8s} naive {row['naive']:8.1f} us, ours {ours:8.2f} us, "
                f"{times_naive:6.2f} times; {kinds}",
                flush=True,
            )
        return row


if __name__ == "__main__":
    tyro.cli(EvidenceCosts).run()
