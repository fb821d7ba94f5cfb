"""Time to settle a batch against one forward pass of the trained approximation.

    python benchmarks/solve_vs_forward.py

`equilibrax benchmark` over the whole range: batch sizes 1 to 10^6 and n = 2, 5, 20, 100.
Compilation is timed apart from running; solve and forward pass run in turn, and medians are
reported. Runs unchanged on CPU and GPU, and says which; the files carry the platform's name.
"""

import dataclasses
from pathlib import Path

import matplotlib
import tyro

from equilibrax.commands.cli import Benchmark


@dataclasses.dataclass(frozen=True)
class Everything(Benchmark):
    """Settling against a forward pass, over the whole range of sizes."""

    out: Path = Path(__file__).parent / "results"
    sizes: tuple[int, ...] = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
    neurons: tuple[int, ...] = (2, 5, 20, 100)
    force: bool = True


if __name__ == "__main__":
    matplotlib.use("Agg")
    tyro.cli(Everything, description=__doc__).run()
