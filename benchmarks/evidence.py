"""What evidence costs, beside plain Diffrax that passes no verdict; and whether it is true.

    python benchmarks/evidence.py

- For each network, in turn: `vmap(diffeqsolve)` with Tsit5, rtol 1e-4, atol 1e-6 and a steady-state
  event at 1e-4 and 1e-5, and `find_fixed_points` with each level of evidence, float32; microseconds
  an input, medians over the repeats, after compilation. The states are compared first.
- Random networks of all three conventions, many of them near the edge of stability or strongly
  non-normal: every row said to be stable is checked by LAPACK's eigenvalues in float64, and some of
  their trajectories are followed by LSODA at a relative tolerance of 1e-9.
"""

import dataclasses
import json
import statistics
import sys
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

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from oracles import lsoda  # pyright: ignore


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
    """Cost and truth of evidence."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    repeats: int = 5
    """Timed runs, of which the median counts."""
    levels: tuple[str, ...] = ("default", "proof")
    """Levels of evidence."""
    networks: int = 1000
    """Random networks whose evidence is checked; for 0, the last run's figures are kept."""
    inputs: int = 1000
    """Inputs to each of them."""
    followed: int = 2
    """Trajectories of each of them that LSODA follows, too."""

    def run(self) -> None:
        """Measure, print and write JSON."""
        path = self.out / f"evidence_{jax.default_backend()}.json"
        truth = self.truth() if self.networks else json.loads(path.read_text())["truth"]
        result = {"hardware": hardware(), "truth": truth}
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

    def truth(self) -> dict:
        """Rows said to be stable, by kind; how many of them are not; bounds that do not hold."""
        rng = np.random.default_rng(0)
        said, wrong, low, followed = Counter(), Counter(), 0, 0
        elsewhere: list[dict] = []
        for k in range(self.networks):
            n = int(rng.choice([2, 5, 12, 20, 50]))
            convention = ("voltage", "activity", "recurrent")[k % 3]
            level = (None, "proof", "probe")[k // 3 % 3]
            network = random_network(rng, n, convention)
            inputs = jnp.asarray(rng.uniform(-1, 1, (self.inputs, n)), jnp.float32)
            found = eqb.find_fixed_points(network, inputs, method=Flow(evidence=level))
            stable = np.flatnonzero(found.stable)
            exact = network.astype(jnp.float32)
            jacobians = np.asarray(jax.vmap(exact.jacobian)(found.state[stable], inputs[stable]))
            abscissas = np.linalg.eigvals(jacobians.astype(np.float64)).real.max(axis=1)
            slack = 1e-5 * np.linalg.norm(jacobians, axis=(1, 2))
            for kind, abscissa in zip(np.asarray(found.evidence)[stable], abscissas, strict=True):
                said[Evidence(int(kind)).name] += 1
                wrong[Evidence(int(kind)).name] += int(abscissa >= 0)
            low += int((np.asarray(found.abscissa_bound)[stable] < abscissas - slack).sum())
            for j in stable[: self.followed]:
                state, kind = np.asarray(found.state[j]), Evidence(int(found.evidence[j])).name
                end = lsoda(network, inputs[j], rtol=1e-9, atol=1e-11).y[:, -1]
                followed += 1
                if np.abs(end - state).max() > 1e-3 * (1 + np.abs(state).max()):
                    elsewhere.append({"network": k, "input": int(j), "n": n, "evidence": kind})
            if k % 20 == 19:
                print(f"{k + 1} networks: {dict(said)}; wrong: {dict(wrong)}", flush=True)
        print(f"said to be stable: {dict(said)}; wrong: {dict(wrong)}; bounds too low: {low}")
        print(f"of {followed} trajectories LSODA ends elsewhere in {elsewhere}", flush=True)
        return {
            "networks": self.networks, "inputs": self.inputs, "said": said, "wrong": wrong,
            "bounds too low": low, "followed by LSODA": followed, "elsewhere": elsewhere,
        }  # fmt: skip


def random_network(rng: np.random.Generator, n: int, convention) -> eqb.RateNetwork:
    """Plain, sparse, near the edge of stability, beyond it, or with large transients."""
    weights = rng.normal(size=(n, n)) / np.sqrt(n)
    kind = rng.integers(5)
    if kind == 1:
        weights *= 2 * (rng.uniform(size=(n, n)) < 0.3)
    elif kind == 2:
        weights *= 0.97 / max(np.abs(np.linalg.eigvals(weights)).max(), 0.1)
    elif kind == 3:
        weights *= 1.8
    elif kind == 4:
        weights = 3 * np.triu(weights, 1) + 0.3 * np.tril(weights)
    bias, tau = rng.uniform(-0.2, 0.2, n), rng.uniform(0.5, 3.0, n)
    weights, bias, tau = (jnp.asarray(a, jnp.float32) for a in (weights, bias, tau))
    return eqb.RateNetwork(weights, bias, tau, convention=convention)


if __name__ == "__main__":
    tyro.cli(EvidenceCosts).run()
