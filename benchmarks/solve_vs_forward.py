"""Time to settle a batch against one forward pass of the trained approximation.

    python benchmarks/solve_vs_forward.py --out benchmarks/results

Batch sizes 1 to 10^6 and n = 2, 5, 20, 100. Compilation is timed apart from running; solve and
forward pass run in turn, and medians are reported. Runs unchanged on CPU and GPU, and says which.
"""

import dataclasses
import json
from pathlib import Path

import jax
import matplotlib
import tyro

from equilibrax import figures
from equilibrax.benchmark import hardware, solve_vs_forward


@dataclasses.dataclass
class Options:
    """Solve against forward pass."""

    out: Path = Path("benchmarks/results")
    """Folder for the JSON and the plot, which carry the device's platform in their names."""
    sizes: tuple[int, ...] = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
    """Batch sizes."""
    neurons: tuple[int, ...] = (2, 5, 20, 100)
    """Numbers of neurons."""
    repeats: int = 5
    """Timed runs of each program."""
    limit_s: float = 60.0
    """Longest solve in seconds; longer ones are extrapolated, and marked so."""


def main(options: Options) -> None:
    matplotlib.use("Agg")
    machine = hardware()
    print(f"on {machine['device']} ({machine['platform']}), jax {machine['jax']}")
    cells = solve_vs_forward(
        options.sizes,
        options.neurons,
        repeats=options.repeats,
        limit_s=options.limit_s,
        key=jax.random.key(0),
        progress=True,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.out / f"solve_vs_forward_{machine['platform']}"
    text = json.dumps({"hardware": machine, "cells": cells}, indent=2) + "\n"
    name.with_suffix(".json").write_text(text)
    figures.save(figures.solve_against_forward(cells), name.with_suffix(".png"))
    print(f"{'n':>5}{'batch':>10}{'settle us':>12}{'forward us':>12}{'ratio':>10}")
    for cell in cells:
        settle, forward = (1e6 * cell[w]["median_s"] / cell["batch"] for w in ("solve", "forward"))
        mark = " (extrapolated)" if cell["solve"]["extrapolated"] else ""
        print(
            f"{cell['n']:5}{cell['batch']:10}{settle:12.3f}{forward:12.4f}{cell['ratio']:10.1f}{mark}"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
