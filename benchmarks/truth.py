"""Whether verdicts are true: a million inputs to a thousand random networks.

    python benchmarks/truth.py

Networks of 2 to 50 neurons, of all three conventions, with unequal time constants: plain, sparse,
near the edge of stability, beyond it, or with large transients; float32, all levels of evidence.

- Every row at rest is checked in float64: LAPACK's eigenvalues must be negative where the row is
  `STABLE`, positive where it is `UNSTABLE`, and below `abscissa_bound`.
- Some rows of each network and outcome are followed by LSODA at a relative tolerance of 1e-9: a
  `STABLE` one must end where we say, an `OSCILLATING` one must return after its period and not
  before, a `DIVERGED` one must be far away and go on.
"""

import dataclasses
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import equilibrax as eqb
from equilibrax import Evidence, Flow, Outcome
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware
from equilibrax.fixed_points._flow import EvidenceLevel

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from oracles import lsoda  # pyright: ignore

SIZES = (2, 5, 12, 20, 50)
CONVENTIONS = ("voltage", "activity", "recurrent")
LEVELS: tuple[EvidenceLevel | None, ...] = (None, "proof", "probe")
KINDS = ("plain", "sparse", "near the edge", "beyond it", "large transients")


def random_network(rng: np.random.Generator, n: int, convention) -> tuple[str, eqb.RateNetwork]:
    """A network of one of the kinds, and its kind."""
    weights = rng.normal(size=(n, n)) / np.sqrt(n)
    kind = KINDS[rng.integers(len(KINDS))]
    if kind == "sparse":
        weights *= 2 * (rng.uniform(size=(n, n)) < 0.3)
    elif kind == "near the edge":
        weights *= 0.97 / max(np.abs(np.linalg.eigvals(weights)).max(), 0.1)
    elif kind == "beyond it":
        weights *= 1.8
    elif kind == "large transients":
        weights = 3 * np.triu(weights, 1) + 0.3 * np.tril(weights)
    bias, tau = rng.uniform(-0.2, 0.2, n), rng.uniform(0.5, 3.0, n)
    weights, bias, tau = (jnp.asarray(a, jnp.float32) for a in (weights, bias, tau))
    return kind, eqb.RateNetwork(weights, bias, tau, convention=convention)


def abscissas(network: eqb.RateNetwork, state: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Spectral abscissas at these states, in float64, once for each active set; and slack for the
    rounding of a bound in float32."""
    weights, bias, tau = (
        np.asarray(a, np.float64) for a in (network.weights, network.bias, network.tau)
    )
    drive = state if network.convention == "voltage" else state @ np.asarray(network.weights).T
    drive = drive + inputs if network.convention == "activity" else drive
    active, label = np.unique(drive > np.asarray(network.bias), axis=0, return_inverse=True)
    columns = active[:, None, :] if network.convention == "voltage" else active[:, :, None]
    jacobians = (columns * weights - np.eye(len(bias))) / tau[:, None]
    found = np.linalg.eigvals(jacobians).real.max(axis=1)
    slack = 1e-5 * np.linalg.norm(jacobians, axis=(1, 2))
    return np.stack([found, slack])[:, label.ravel()]


def is_true(network: eqb.RateNetwork, i: np.ndarray, found: Any, j: int) -> bool:
    """Whether LSODA's trajectory agrees with the verdict on row j."""
    tight: dict = {"rtol": 1e-9, "atol": 1e-11}
    outcome, state = int(found.outcome[j]), np.asarray(found.state[j], np.float64)
    late = max(400.0, 4 * float(found.time[j]))
    if outcome == Outcome.STABLE:
        late = max(late, -30 / float(found.abscissa_bound[j]))  # of the slowest time constant
        end = lsoda(network, i, t1=late, **tight).y[:, -1]
        return bool(np.abs(end - state).max() < 1e-3 * (1 + np.abs(state).max()))
    if outcome == Outcome.OSCILLATING:
        period = float(found.period[j])
        state = lsoda(network, i, x0=state, t1=20 * period, **tight).y[:, -1]  # onto the cycle
        path = lsoda(network, i, x0=state, t1=period, max_step=period / 50, **tight).y
        size = np.ptp(path, axis=1).max()
        gap = np.abs(path - path[:, :1]).max(axis=0)
        middle = gap[len(gap) // 4 : -len(gap) // 4]
        return bool(size > 0 and gap[-1] < 2e-2 * size and middle.min() > gap[-1])
    # Growth that does not slow down, or beyond double precision.
    times = np.asarray([late / 4, late / 2, 3 * late / 4, late])
    path = lsoda(network, i, t1=late, t_eval=times, **tight).y
    if path.shape[1] < len(times) or not np.isfinite(path).all():
        return True
    growth = np.diff(np.abs(path).max(axis=0))
    return bool((growth > 0).all() and growth[-1] > 0.99 * growth[0])


@dataclasses.dataclass(frozen=True)
class Truth:
    """Whether verdicts are true."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    networks: int = 1000
    """Random networks."""
    inputs: int = 1000
    """Inputs to each of them."""
    followed: int = 2
    """Rows of each network and outcome that LSODA follows."""
    seed: int = 0
    """Seed of networks and inputs."""

    def run(self) -> None:
        """Check, print and write JSON."""
        rng = np.random.default_rng(self.seed)
        outcomes, said, followed, unsettled = Counter(), Counter(), Counter(), Counter()
        wrong: list[dict] = []
        groups = list(itertools.product(SIZES, CONVENTIONS, LEVELS))
        for k in range(self.networks):
            # Group by group, since each has programs of its own.
            group, last = (len(groups) * j // self.networks for j in (k, k - 1))
            if group != last:
                jax.clear_caches()
            n, convention, level = groups[group]
            kind, network = random_network(rng, n, convention)
            inputs = jnp.asarray(rng.uniform(-1, 1, (self.inputs, n)), jnp.float32)
            found = eqb.find_fixed_points(network, inputs, method=Flow(evidence=level))
            inputs, found = jax.tree.map(np.asarray, (inputs, found))
            outcomes.update(Outcome(int(o)).name for o in found.outcome)
            said.update(Evidence(int(e)).name for e in found.evidence[found.stable])
            late = int((found.outcome == Outcome.NOT_SETTLED).sum())
            if late:
                unsettled[f"{kind}, n = {n}"] += late
            for j, what in self.mistakes(network, inputs, found, followed):
                verdict = Outcome(int(found.outcome[j])).name, Evidence(int(found.evidence[j])).name
                where = {"network": k, "n": n, "convention": convention, "kind": kind, "input": j}
                wrong.append(where | {"verdict": verdict, "what": what})
                print(wrong[-1], flush=True)
            if k % 20 == 19:
                print(f"{k + 1} networks: {dict(outcomes)}; {len(wrong)} wrong", flush=True)
        share = outcomes["NOT_SETTLED"] / (self.networks * self.inputs)
        print(f"{dict(outcomes)}; stable ones: {dict(said)}; followed: {dict(followed)}")
        print(f"{len(wrong)} wrong; {share:.3%} NOT_SETTLED: {unsettled.most_common()}")
        report = {
            "hardware": hardware(), "networks": self.networks, "inputs": self.inputs,
            "outcomes": outcomes, "stable by": said, "followed by LSODA": followed,
            "not settled": dict(unsettled.most_common()), "wrong": wrong,
        }  # fmt: skip
        write_json(self.out / f"truth_{jax.default_backend()}.json", report)

    def mistakes(
        self, network: eqb.RateNetwork, inputs: np.ndarray, found: Any, followed: Counter
    ) -> Iterator[tuple[int, str]]:
        """The rows whose verdicts are wrong, and how; counts those that LSODA follows."""
        rest = np.flatnonzero(np.isin(found.outcome, (Outcome.STABLE, Outcome.UNSTABLE)))
        if len(rest):
            exact, slack = abscissas(network, found.state[rest], inputs[rest])
            stable = found.outcome[rest] == Outcome.STABLE
            for j in rest[stable != (exact < 0)]:
                yield int(j), "the abscissa has the other sign"
            for j in rest[stable & (found.abscissa_bound[rest] < exact - slack)]:
                yield int(j), "the abscissa is above its bound"
        for outcome in (Outcome.STABLE, Outcome.OSCILLATING, Outcome.DIVERGED):
            for j in np.flatnonzero(found.outcome == outcome)[: self.followed]:
                followed[outcome.name] += 1
                if not is_true(network, inputs[j], found, j):
                    yield int(j), "LSODA does otherwise"


if __name__ == "__main__":
    tyro.cli(Truth).run()
