"""Verified answers against the engine and against the plain forward pass, on the same inputs.

For the reference network and a random E/I network of 20 neurons: approximations of several widths,
how many rows they get verified, how many of these are the point that the trajectory reaches, and
what a row costs each way, in turn. Writes verified_PLATFORM.json.
"""

import dataclasses
import statistics
from pathlib import Path

import jax
import numpy as np
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.approximation import forward
from equilibrax.commands.benchmark import hardware, timed


def compare(name: str, network, hidden: int, count: int, repeats: int) -> dict:
    """One network, approximated with so many hidden units."""
    keys = jax.random.split(jax.random.key(0), 3)
    fitted = eqb.distill(
        network, key=keys[0], hidden=hidden, restarts=4, n_draws=100_000, n_test=20_000
    )
    inputs = jax.random.uniform(keys[1], (count, network.num_neurons), minval=-1.0)
    method = eqb.Flow()
    ways = {
        "engine": lambda: eqb.find_fixed_points(network, inputs, method=method).state,
        "verified": lambda: fitted.verified(inputs, method=method),
        "forward": lambda: forward(fitted.model, inputs),
    }
    results = {way: timed(run)[1] for way, run in ways.items()}
    runs = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            runs[way].append(1e6 * timed(run)[0] / count)
    answers, reached = results["verified"], np.asarray(results["engine"])
    passed = np.asarray(answers.verified)
    same = np.abs(np.asarray(answers.state) - reached).max(axis=1) < 1e-3
    return {
        "network": name,
        "n": network.num_neurons,
        "hidden": hidden,
        "inputs": count,
        "error": float(fitted.evaluation.normalised_error),
        "verified": float(passed.mean()),
        "fallen_back": int(answers.fallen_back),
        "of_verified_same_as_trajectory": float(same[passed].mean()),
        "us_a_row": {way: statistics.median(times) for way, times in runs.items()},
    }


@dataclasses.dataclass(frozen=True)
class VerifiedAnswers:
    """Verified answers against the engine and the forward pass."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    repeats: int = 5
    """Timed runs, of which the median counts."""

    def run(self) -> None:
        """Measure, and write JSON."""
        reference = eqb.partitioned()
        random = eqb.random_ei(20, key=jax.random.key(0))
        rows = []
        for hidden in (5, 64):
            rows.append(compare("reference", reference, hidden, 500_000, self.repeats))
            print(rows[-1], flush=True)
        for hidden in (20, 64):
            rows.append(compare("random E/I", random, hidden, 100_000, self.repeats))
            print(rows[-1], flush=True)
        report = {"hardware": hardware(), "rows": rows}
        write_json(self.out / f"verified_{hardware()['platform']}.json", report)


if __name__ == "__main__":
    tyro.cli(VerifiedAnswers, description=__doc__).run()
