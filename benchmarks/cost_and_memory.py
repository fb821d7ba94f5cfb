"""Time and peak memory against the number of inputs, for the reference network.

    python benchmarks/cost_and_memory.py

Each number of inputs has a process of its own, whose peak resident memory holds inputs, answers and
compiled programs.
"""

import dataclasses
import json
import statistics
from pathlib import Path

import jax
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, in_own_process, peak_memory, timed


def one_size(count: int, repeats: int) -> dict[str, float]:
    """Settle so many inputs: median time of repeats after the first, and peak memory."""
    network = eqb.partitioned()
    inputs = jax.random.uniform(jax.random.key(0), (count, 5), minval=-1.0)
    times = [
        timed(lambda: eqb.find_fixed_points(network, inputs).state)[0] for _ in range(1 + repeats)
    ]
    return {
        "inputs": count,
        "first_s": times[0],
        "median_s": statistics.median(times[1:]),
        "peak_GiB": peak_memory(),
    }


@dataclasses.dataclass(frozen=True)
class CostAndMemory:
    """Time and memory against the number of inputs."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    sizes: tuple[int, ...] = (10**4, 10**5, 10**6, 10**7)
    """Numbers of inputs."""
    repeats: int = 3
    """Timed runs, of which the median counts."""
    only: int | None = None
    """Measure this number in this process, and print it as JSON."""

    def run(self) -> None:
        """Measure, write JSON and a picture."""
        if self.only is not None:
            print(json.dumps(one_size(self.only, self.repeats)))
            return
        rows = []
        for size in self.sizes:
            options = ["--only", str(size), "--repeats", str(self.repeats)]
            rows.append(in_own_process(__file__, *options))
            print(rows[-1], flush=True)
        name = f"cost_and_memory_{hardware()['platform']}"
        write_json(self.out / f"{name}.json", {"hardware": hardware(), "rows": rows})
        draw(rows).savefig(self.out / f"{name}.png", dpi=150)


def draw(rows: list[dict[str, float]]):
    """The picture: time on the left, memory on the right, both against the number of inputs."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    counts = [row["inputs"] for row in rows]
    seconds = [row["median_s"] for row in rows]
    left.loglog(counts, seconds, "o-", label="measured")
    slope = seconds[-1] / counts[-1]
    left.loglog(counts, [slope * c for c in counts], "k:", label=f"{1e6 * slope:.2f} us an input")
    left.set(xlabel="inputs", ylabel="time to settle (s)")
    left.legend(frameon=False)
    right.semilogx(counts, [row["peak_GiB"] for row in rows], "o-")
    right.set(xlabel="inputs", ylabel="peak memory (GiB)", ylim=(0, None))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    tyro.cli(CostAndMemory, description=__doc__).run()
