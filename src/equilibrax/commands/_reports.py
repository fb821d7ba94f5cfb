"""`equilibrax reproduce`, `study`, `benchmark` and `explore`: what is said before they run, and the
tables that they print. Each has a module, and Matplotlib, which are imported when it runs."""

import dataclasses
import errno
from pathlib import Path
from typing import Annotated, Literal

import jax
from tyro.conf import arg

from .._extras import extra
from .._files import atomic_folder, write_json


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Run the paper's pipeline on the two-partition network.

    Settles inputs drawn uniformly from (-1, 1)^5, discards and counts those without a
    stable fixed point, trains feed-forward approximations, and writes the three figures,
    report.json with measured values beside the known ones, and the trained weights.
    """

    out: Path
    """Folder for the results; it must be empty or absent."""
    inputs: Annotated[int, arg(aliases=["--draws"])] = 1_000_000
    """Number of inputs settled for training and validation."""
    test_inputs: Annotated[int, arg(aliases=["--test-draws"])] = 50_000
    """Number of inputs settled for the held-out test set."""
    widths: tuple[int, ...] = (5, 10, 64, 200)
    """Numbers of hidden units; the figures show the first, and the decisions of the widest of at
    most 64 beside it."""
    restarts: int = 48
    """Networks trained for each width below 50, an eighth of it from 50 on; the best is kept."""
    steps: int = 8000
    """Steps of Adam."""
    seed: int = 0
    """Seed of all random numbers."""
    force: bool = False
    """Write into a folder that is not empty."""

    def run(self) -> None:
        """Run the pipeline, and print the two tables of the report."""
        from . import reproduce as paper

        report = paper.reproduce(**_fields(self), progress=True)
        total = self.inputs + self.test_inputs
        print(f"settled {total} inputs in {report['settling_seconds']:.1f} s")
        print()
        _print_table(
            ("recurrent network", "measured", "known"),
            [
                (name, f"{row['measured']:.4f}", f"{row['oracle']:.4f}")
                for name, row in report["recurrent"].items()
            ],
        )
        print()
        columns = ("normalised_error", "winner_agreement", "switch")
        _print_table(
            ("hidden units", "error", "winner", "switch"),
            [
                (str(row["hidden"]), *(f"{row[name]:.4f}" for name in columns))
                for row in report["approximations"]
            ],
        )
        print(f"\nfigures and report.json are in {self.out}")


Part = Literal["map", "partitions", "ring", "random", "width", "reference", "cell"]


@dataclasses.dataclass(frozen=True)
class Study:
    """Approximate the networks of the paper's programme, and measure the errors.

    Networks of two neurons over their weights, several partitions, rings, random networks of 5 to
    100 neurons, the reference network over the number of hidden units, all metrics of its
    approximations, and a trained cell. Writes study.json and figures.
    """

    out: Path
    """Folder for the results; it must be empty or absent."""
    only: tuple[Part, ...] = ()
    """Parts to run; all parts if absent."""
    inputs: Annotated[int, arg(aliases=["--draws"])] = 50_000
    """Inputs settled for each network, for training, and again for tests; a tenth in the map."""
    steps: int = 6000
    """Steps of Adam."""
    restarts: int = 8
    """Networks trained, of which the best by validation is kept."""
    seed: int = 0
    """Seed of all random numbers."""
    force: bool = False
    """Write into a folder that is not empty."""

    def run(self) -> None:
        """Run the study, and print a line for each approximation."""
        from . import study as programme

        report = programme.study(**_fields(self), progress=True)
        rows = [
            (part, str(row["name"]), *(str(row[k]) for k in ("n", "hidden")), f"{row['error']:.4f}",
             f"{row['error_se']:.4f}")
            for part in programme.PARTS for row in report.get(part, {}).get("rows", ())
        ]  # fmt: skip
        if rows:
            _print_table(("part", "network", "n", "hidden", "error", "+-"), rows)
        print(f"figures and study.json are in {self.out}")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Compare the time to settle a batch with the time of a forward pass, on this machine.

    Writes solve_vs_forward_PLATFORM.json and its plot.
    """

    out: Path
    """Folder for the results; it must be empty or absent."""
    sizes: tuple[int, ...] = (1, 10, 100, 1000, 10_000)
    """Batch sizes."""
    neurons: tuple[int, ...] = (2, 5, 20)
    """Numbers of neurons."""
    repeats: int = 5
    """Number of timed runs, of which the median is reported."""
    limit_s: float = 60.0
    """Longest solve that is run, in seconds; longer solves are extrapolated, and marked."""
    seed: int = 0
    """Seed of networks and inputs."""
    force: bool = False
    """Write into a folder that is not empty."""

    def run(self) -> None:
        """Run the benchmark, write its results, and print the table."""
        from .. import figures
        from . import benchmark as timing

        with atomic_folder(self.out, overwrite=self.force) as folder:
            machine = timing.hardware()
            print(f"on {machine['device']} ({machine['platform']}), jax {machine['jax']}")
            cells = timing.solve_vs_forward(
                self.sizes,
                self.neurons,
                repeats=self.repeats,
                limit_s=self.limit_s,
                key=jax.random.key(self.seed),
                progress=True,
            )
            name = folder / f"solve_vs_forward_{machine['platform']}"
            write_json(name.with_suffix(".json"), {"hardware": machine, "cells": cells})
            figures.save(figures.solve_against_forward(cells), name.with_suffix(".png"))
        rows = []
        for cell in cells:
            settle, forward = (
                1e6 * cell[what]["median_s"] / cell["batch"] for what in ("solve", "forward")
            )
            mark = "*" if cell["solve"]["extrapolated"] else ""
            ratio = f"{cell['ratio']:.1f}{mark}"
            rows.append(
                (str(cell["n"]), str(cell["batch"]), f"{settle:.3f}{mark}", f"{forward:.4f}", ratio)
            )
        _print_table(("n", "batch", "settle us", "forward us", "ratio"), rows)
        print("us: microseconds per input; *: extrapolated from a smaller batch")
        print(f"the same as JSON and a plot are in {self.out}")


@dataclasses.dataclass(frozen=True)
class Explore:
    """Explore a network of two neurons on an interactive page, for this machine alone."""

    port: int = 5006
    """Port of the page's address, http://127.0.0.1:PORT."""
    show: bool = True
    """Open the page in a browser."""

    interrupted = "the page is closed"

    def run(self) -> None:
        """Serve the page until interrupted."""
        with extra("explore", "explore"):
            from .explore import serve
        try:
            serve(self.port, show=self.show)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ValueError(f"port {self.port} is in use; choose another with --port") from error


def _print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows of text under their headings, aligned to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _fields(command) -> dict:
    return {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}
