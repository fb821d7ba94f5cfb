"""Weights with structure: what settling costs against the number of neurons, and beside the matrix.

    python benchmarks/structured.py

- Cost against n, from 100 to 100,000: low rank (rank 3, and a number on the diagonal), sparse (100
  elements a row), and a ring by convolution; microseconds an input, after compilation, and the peak
  memory of the largest, in a process of its own.
- In turn with the same network's matrix, where that fits: states compared first, medians.
- Sparse, beside as many of SciPy's products with the same matrix as the trajectories took.
"""

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, timed

STAGES = 6
"""Products with W in a step of Tsit5."""


def low_rank(n: int) -> eqb.RateNetwork:
    """Three columns, one of which inhibits itself."""
    rng = np.random.default_rng(0)
    left = rng.normal(size=(n, 3)).astype(np.float32)
    right = rng.normal(size=(n, 3)).astype(np.float32) / n
    right[:, 0] -= left[:, 0] / n
    right[:, 1] += left[:, 2] / (2 * n)
    return eqb.RateNetwork(eqb.low_rank(jnp.asarray(left), jnp.asarray(right), 0.1))


def matrix_of(n: int, elements: int) -> scipy.sparse.csr_matrix:
    """Gaussian elements, so many a row, of radius 0.8."""
    rng = np.random.default_rng(0)
    row, column = np.repeat(np.arange(n), elements), rng.integers(n, size=n * elements)
    data = rng.normal(size=n * elements) * 0.8 / np.sqrt(elements)
    return scipy.sparse.csr_matrix((data.astype(np.float32), (row, column)), shape=(n, n))


def sparse(n: int) -> eqb.RateNetwork:
    """A hundred elements a row."""
    return eqb.RateNetwork(matrix_of(n, min(100, n // 2)))


def ring(n: int) -> eqb.RateNetwork:
    """A ring whose kernel inhibits far away."""
    theta = 2 * np.pi * np.arange(n) / n
    kernel = (1.5 * np.cos(theta) - 4) / n
    return eqb.RateNetwork(eqb.convolution(jnp.asarray(kernel, jnp.float32)))


KINDS = {"low rank": low_rank, "sparse": sparse, "convolution": ring}


def inputs_of(n: int, count: int) -> jax.Array:
    """Normal inputs."""
    return jax.random.normal(jax.random.key(0), (count, n), jnp.float32)


def dense(network: eqb.RateNetwork) -> eqb.RateNetwork:
    """The same with its matrix."""
    return eqb.RateNetwork(network.dense_weights)


def settle(network: eqb.RateNetwork, inputs: jax.Array) -> tuple[float, Any]:
    """Seconds, after compilation, and what was found."""
    timed(lambda: eqb.find_fixed_points(network, inputs))
    return timed(lambda: eqb.find_fixed_points(network, inputs))


def one(kind: str, n: int, count: int) -> dict[str, Any]:
    """Cost of one network, here."""
    seconds, found = settle(KINDS[kind](n), inputs_of(n, count))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "kind": kind, "n": n, "inputs": count, "us": 1e6 * seconds / count,
        "steps": float(found.num_steps.mean()), "peak_GiB": peak, "found": found.describe(),
    }  # fmt: skip


@dataclasses.dataclass
class Structured:
    """All measurements.

    - `out`: folder of the JSON and the picture.
    - `sizes`: numbers of neurons.
    - `budget`: inputs times neurons of a measurement.
    - `repeats`: of what is measured in turn.
    - `only`: one measurement, "kind,n,count", as JSON on the standard output.
    """

    out: Path = Path("benchmarks/results")
    sizes: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    budget: int = 3_000_000
    repeats: int = 3
    only: str = ""

    def run(self) -> None:
        if self.only:
            kind, n, count = self.only.split(",")
            print(json.dumps(one(kind, int(n), int(count))))
            return
        rows = []
        for kind in KINDS:
            for n in self.sizes:
                count = max(32, min(4096, self.budget // n))
                command = [sys.executable, __file__, "--only", f"{kind},{n},{count}"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(rows[-1], flush=True)
        result = {
            "hardware": hardware(), "cost": rows, "dense": [*self.beside_the_matrix()],
            "scipy": self.beside_scipy(),
        }  # fmt: skip
        name = f"structured_{hardware()['platform']}"
        write_json(self.out / f"{name}.json", result)
        draw(rows).savefig(self.out / f"{name}.png", dpi=150)

    def beside_the_matrix(self):
        """In turn with arrays."""
        for kind, n, count in (
            ("low rank", 500, 512), ("low rank", 2000, 256), ("sparse", 1000, 256),
            ("convolution", 4096, 128),
        ):  # fmt: skip
            network = KINDS[kind](n)
            pair, inputs = (network, dense(network)), inputs_of(n, count)
            states = [np.asarray(settle(net, inputs)[1].state) for net in pair]
            programs = [partial(eqb.find_fixed_points, net, inputs) for net in pair]
            seconds = [[timed(program)[0] for program in programs] for _ in range(self.repeats)]
            ours, theirs = (statistics.median(times) for times in zip(*seconds, strict=True))
            row = {
                "kind": kind, "n": n, "us": 1e6 * ours / count, "dense_us": 1e6 * theirs / count,
                "largest_difference": float(np.abs(states[0] - states[1]).max()),
            }  # fmt: skip
            print(row, flush=True)
            yield row

    def beside_scipy(self) -> dict[str, float]:
        """Beside the products that the trajectories alone take, of all inputs at once."""
        n, count = 10_000, 200
        matrix, inputs = matrix_of(n, 100), inputs_of(n, count)
        network = eqb.RateNetwork(matrix)
        _, found = settle(network, inputs)
        columns = np.asarray(found.state).T.copy()
        programs = [partial(eqb.find_fixed_points, network, inputs), lambda: matrix @ columns]
        turns = [[timed(program)[0] for program in programs] for _ in range(self.repeats)]
        ours, product = (statistics.median(times) for times in zip(*turns, strict=True))
        products = STAGES * float(found.num_steps.mean())
        row = {
            "us": 1e6 * ours / count, "scipy_product_us": 1e6 * product / count,
            "products": products, "times_scipy": ours / (products * product),
        }  # fmt: skip
        print(row, flush=True)
        return row


def draw(rows: list[dict[str, Any]]):
    """Cost against n."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    for kind in KINDS:
        some = [row for row in rows if row["kind"] == kind]
        axes.loglog([row["n"] for row in some], [row["us"] for row in some], "o-", label=kind)
    n = np.asarray([row["n"] for row in rows if row["kind"] == "low rank"])
    last = [row["us"] for row in rows if row["kind"] == "low rank"][-1]
    axes.loglog(n, last * n / n[-1], "k:", label="slope 1")
    axes.loglog(n, last * (n / n[-1]) ** 2, "k--", lw=0.8, label="slope 2")
    axes.set(xlabel="neurons", ylabel="us an input")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    tyro.cli(Structured, description=__doc__).run()
