"""The command line.

`equilibrax reproduce | study | sample | train | evaluate | export | benchmark | explore`
"""

import contextlib
import dataclasses
import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import BadZipFile

import jax
import matplotlib
import numpy as np
import tyro
from jax.errors import JaxRuntimeError
from tyro.conf import subcommand

from .. import figures
from .._files import check_absent, whole_folder, write_json
from .._resumable import DamagedSettings
from ..approximation import (
    FeedForward,
    approximate,
    cosine_adam,
    evaluate,
    export_onnx,
    export_stablehlo,
    load_model,
    save_model,
    train,
)
from ..fixed_points import Flow
from ..networks import RateNetwork, partitioned, random_ei, ring, two_neuron
from ..sampling import SampleStore, UniformCube, arguments_of, open_samples, sample_to_store
from . import benchmark as timing, reproduce as paper, study as programme


@dataclasses.dataclass(frozen=True)
class Partitioned:
    """Excitatory partitions and one global inhibitory neuron; the reference network."""

    partitions: tuple[int, ...] = (2, 2)
    """Neurons in each partition."""
    w_e: float = 2.5
    """Excitatory weight."""
    w_i: float = 8.0
    """Inhibitory weight, given positive."""
    w_ii: float | None = None
    """The inhibitory neuron's weight onto itself, given positive; w_i if absent."""
    convention: Literal["voltage", "activity", "recurrent"] = "voltage"
    """Which equation of motion."""

    def build(self, key) -> RateNetwork:
        """The network."""
        del key
        return partitioned(
            self.partitions, self.w_e, self.w_i, w_ii=self.w_ii, convention=self.convention
        )


@dataclasses.dataclass(frozen=True)
class TwoNeuron:
    """Two neurons."""

    w_self: float = 0.5
    """Weight of each neuron onto itself."""
    w_cross: float = -1.0
    """Weight onto the other neuron."""

    def build(self, key) -> RateNetwork:
        """The network."""
        del key
        return two_neuron(self.w_self, self.w_cross)


@dataclasses.dataclass(frozen=True)
class Ring:
    """A ring of neurons with cosine-tuned weights."""

    n: int = 100
    """Number of neurons."""
    w_0: float = -4.0
    """Uniform part of the weights."""
    w_1: float = 3.0
    """Tuned part of the weights."""

    def build(self, key) -> RateNetwork:
        """The network."""
        del key
        return ring(self.n, self.w_0, self.w_1)


@dataclasses.dataclass(frozen=True)
class RandomEI:
    """A random balanced excitatory-inhibitory network; its connections come from the seed."""

    n: int = 100
    """Number of neurons."""
    gain: float = 0.8
    """Radius of the bulk of the eigenvalues."""
    density: float = 0.2
    """Probability of a connection."""

    def build(self, key) -> RateNetwork:
        """The network."""
        return random_ei(self.n, key=key, gain=self.gain, density=self.density)


@dataclasses.dataclass(frozen=True)
class FromFile:
    """Weights from a NumPy file."""

    path: Path
    """A .npy file of floats, shape (n, n), rows targets, columns sources."""
    bias: float = 0.0
    """Threshold of every neuron."""
    tau: float = 1.0
    """Time constant of every neuron."""
    convention: Literal["voltage", "activity", "recurrent"] = "voltage"
    """Which equation of motion."""

    def build(self, key) -> RateNetwork:
        """The network."""
        del key
        weights = np.load(self.path, allow_pickle=False)
        return RateNetwork(weights, self.bias, self.tau, convention=self.convention)


Network = (
    Annotated[Partitioned, subcommand("partitioned")]
    | Annotated[TwoNeuron, subcommand("two-neuron")]
    | Annotated[Ring, subcommand("ring")]
    | Annotated[RandomEI, subcommand("random-ei")]
    | Annotated[FromFile, subcommand("file")]
)


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Run the paper's pipeline on the two-partition network.

    Settles inputs drawn uniformly from (-1, 1)^5, discards and counts those without a
    stable fixed point, trains feed-forward approximations, and writes the three figures,
    report.json with every number beside what is known of it, and the trained weights.
    """

    out: Path
    """Folder for the results; it must be empty or absent."""
    draws: int = 1_000_000
    """Inputs settled for training and validation."""
    test_draws: int = 50_000
    """Inputs settled for the held-out test set."""
    widths: tuple[int, ...] = (5, 10, 50, 200)
    """Numbers of hidden units; the first is drawn in the figures."""
    restarts: int = 48
    """Trained networks for each width below 50, an eighth as many above; the best is kept."""
    steps: int = 8000
    """Steps of Adam."""
    seed: int = 0
    """Of everything."""
    force: bool = False
    """Write into a folder that is not empty."""

    def run(self) -> None:
        """Settle, train, draw, and print the two tables of the report."""
        report = paper.reproduce(**_fields(self), progress=True)
        total = self.draws + self.test_draws
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


@dataclasses.dataclass(frozen=True)
class Study:
    """Approximate the networks of the paper's programme, and measure how well that does.

    Two neurons across weight space, several partitions, rings, random networks of growing size, the
    reference network by the number of hidden units, and all metrics. Writes study.json and figures.
    """

    out: Path
    """Folder for the results; it must be empty or absent."""
    only: tuple[Literal["map", "partitions", "ring", "random", "width", "reference"], ...] = ()
    """The parts wanted; all of them if none is named."""
    draws: int = 50_000
    """Inputs settled for each network, for training, and again for tests; a tenth in the map."""
    steps: int = 6000
    """Steps of Adam."""
    restarts: int = 8
    """Trained networks, of which the best by validation is kept."""
    seed: int = 0
    """Of everything."""
    force: bool = False
    """Write into a folder that is not empty."""

    def run(self) -> None:
        """Settle, train, measure, draw, and print a line for each approximation."""
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
class Export:
    """Write a trained approximation's forward pass for other frameworks."""

    model: Path
    """Safetensors file from `equilibrax train` or `reproduce`."""
    onnx: Path | None = None
    """ONNX file to write."""
    stablehlo: Path | None = None
    """StableHLO file to write, for `jax.export.deserialize`."""
    force: bool = False
    """Replace existing files."""

    def run(self) -> None:
        """Load, and write what is asked for."""
        if self.onnx is None and self.stablehlo is None:
            raise ValueError("name a file with --onnx, --stablehlo, or both")
        model = load_model(self.model)
        for write, path in ((export_onnx, self.onnx), (export_stablehlo, self.stablehlo)):
            if path is not None:
                write(path, model, overwrite=self.force)
                print(f"{path} is written")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Several processes that make one store together; each is started with its own index."""

    processes: int | None = None
    """How many processes there are; a cluster's launcher is asked if absent."""
    process: int | None = None
    """Index of this one, from 0."""
    coordinator: str | None = None
    """Address and port of process 0, as 127.0.0.1:8476."""
    join: bool = False
    """Ask the cluster's launcher (Slurm, Open MPI, Kubernetes, Cloud TPU) for all three."""

    def start(self) -> None:
        """Meet the others, if there are any."""
        explicit = (self.coordinator, self.processes, self.process)
        if self.join or any(value is not None for value in explicit):
            if not self.join and None in explicit:
                raise ValueError("--processes, --process and --coordinator go together, or --join")
            jax.distributed.initialize(*explicit)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Settle random inputs of a network and store the (input, fixed point) pairs.

    The store is a folder of Parquet files. After a kill or a full disk the same command goes on
    where it stopped.
    """

    out: Path
    """Folder of the store; created if absent."""
    network: Network = Partitioned()
    """What to settle."""
    draws: int = 50_000
    """Inputs to draw, uniform on a cube."""
    low: float = -1.0
    """Lower bound of every input."""
    high: float = 1.0
    """Upper bound of every input."""
    keep: Literal["stable", "all"] = "stable"
    """Keep the inputs with a stable fixed point, or all of them with their outcome."""
    rtol: float = 1e-5
    """Relative tolerance of the trajectory."""
    atol: float = 1e-6
    """Absolute tolerance of the trajectory."""
    t1: float | None = None
    """End of time, in the units of tau; 200 time constants if absent."""
    seed: int = 0
    """Of the inputs and of random networks."""
    shard_size: int | None = None
    """Inputs for each file, a power of two; some 8 MB of them if absent."""
    repair: bool = False
    """Read the whole store, and make what is damaged or missing again; the settings are those that
    it was made with, whatever the other options."""
    cluster: tyro.conf.OmitArgPrefixes[Cluster] = Cluster()

    interrupted = "what is committed stays, and the same command goes on from there"

    def run(self) -> None:
        """Settle, write, and print how the inputs ended."""
        self.cluster.start()
        plan = self.recorded() if self.repair else None
        plan = self.asked() if plan is None else plan
        store = sample_to_store(self.out, **plan, repair=self.repair, progress=True)
        if jax.process_index() == 0:
            print(store.describe())
            print(f"{len(store)} pairs are in {self.out}")

    def asked(self) -> dict[str, Any]:
        """What the options say."""
        key_inputs, key_network = jax.random.split(jax.random.key(self.seed))
        return {
            "network": self.network.build(key_network),
            "inputs": UniformCube(self.low, self.high),
            "n": self.draws,
            "key": key_inputs,
            "method": Flow(rtol=self.rtol, atol=self.atol, t1=self.t1),
            "keep": self.keep,
            "shard_size": self.shard_size,
        }

    def recorded(self) -> dict[str, Any] | None:
        """What the store says; none if that is damaged, too."""
        try:
            return arguments_of(self.out)
        except DamagedSettings:
            return None


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a feed-forward approximation on samples and write its weights as safetensors."""

    samples: Path
    """Store from `equilibrax sample`."""
    out: Path
    """Safetensors file to write."""
    hidden: int | None = None
    """Hidden units; as many as the network has neurons if absent."""
    restarts: int = 48
    """Trained networks, of which the best by validation is kept."""
    steps: int = 8000
    """Steps of Adam."""
    batch_size: int = 256
    """Pairs in each step."""
    test_share: float = 0.2
    """Share of the pairs that is held out for the test."""
    stream: bool = False
    """Read the pairs from the disk batch by batch, for stores that do not fit into memory: one
    network is trained on all of them, and none is held out. Evaluate it on another store."""
    checkpoints: Path | None = None
    """Folder for checkpoints, with --stream: after a kill the same command goes on from there."""
    every: int = 10_000
    """Steps between two checkpoints."""
    seed: int = 0
    """Of initial weights and batches."""
    force: bool = False
    """Replace an existing file."""

    @property
    def interrupted(self) -> str:
        """What is left, if the user ends the command."""
        kept = self.checkpoints is not None
        return (
            "the same command goes on from the last checkpoint" if kept else "nothing was written"
        )

    def run(self) -> None:
        """Train, write, and print what came of it."""
        check_absent(self.out, self.force)
        if self.checkpoints is not None and not self.stream:
            raise ValueError("--checkpoints are written with --stream only")
        store = open_samples(self.samples)
        model, report = self.streamed(store) if self.stream else self.best(store)
        save_model(self.out, model, overwrite=self.force)
        print(report)
        print(f"weights are in {self.out}")

    def best(self, store: SampleStore) -> tuple[FeedForward, str]:
        """The best of several networks, on samples in memory."""
        fitted = approximate(
            store[:],
            key=jax.random.key(self.seed),
            test_share=self.test_share,
            hidden=self.hidden,
            restarts=self.restarts,
            steps=self.steps,
            batch_size=self.batch_size,
            progress=True,
        )
        return fitted.model, _describe(fitted.evaluation)

    def streamed(self, store: SampleStore) -> tuple[FeedForward, str]:
        """One network, on samples that stay on the disk."""
        key_batches, key_model = jax.random.split(jax.random.key(self.seed))
        first = store[:1]
        hidden = store.network.num_neurons if self.hidden is None else self.hidden
        sizes = (first.inputs.shape[1], hidden, first.rates.shape[1])
        run = train(
            FeedForward(*sizes, key=key_model),
            store,
            optimizer=cosine_adam(self.steps)(0.01),
            steps=self.steps,
            batch_size=self.batch_size,
            key=key_batches,
            checkpoints=self.checkpoints,
            every=self.every,
            progress=True,
        )
        return (
            run.model,
            f"mean squared error of the last 100 batches {run.losses[-100:].mean():.6f}",
        )


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Compare a trained approximation with settled samples."""

    model: Path
    """Safetensors file from `equilibrax train` or `reproduce`."""
    samples: Path
    """Store from `equilibrax sample`, of other inputs than it was trained on."""

    def run(self) -> None:
        """Print the evaluation."""
        print(_describe(evaluate(load_model(self.model), open_samples(self.samples)[:])))


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
    """Timed runs, of which the median counts."""
    limit_s: float = 60.0
    """Longest solve in seconds; longer ones are extrapolated, and marked so."""
    seed: int = 0
    """Of networks and inputs."""
    force: bool = False
    """Write into a folder that is not empty."""

    def run(self) -> None:
        """Measure, write, and print the table."""
        with whole_folder(self.out, overwrite=self.force) as folder:
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
    """Move a network of two neurons by hand, on a page for this machine alone."""

    port: int = 5006
    """The page's address is http://127.0.0.1:PORT."""
    show: bool = True
    """Open it in a browser."""

    interrupted = "the page is closed"

    def run(self) -> None:
        """Serve it until interrupted."""
        try:
            from .explore import serve
        except ModuleNotFoundError as error:
            if error.name != "panel":
                raise
            raise ValueError(
                "explore needs Panel: pip install 'equilibrax[explore]', or in a clone "
                "pip install '.[explore]'"
            ) from error
        try:
            serve(self.port, show=self.show)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ValueError(f"port {self.port} is in use; choose another with --port") from error


Command = (
    Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Sample, subcommand("sample")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Study, subcommand("study")]
    | Annotated[Benchmark, subcommand("benchmark")]
    | Annotated[Explore, subcommand("explore")]
)


def _print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Rows of text under their headings, flush right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _fields(command) -> dict:
    return {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}


def _describe(found) -> str:
    lines = [
        f"test inputs        {found.num_inputs}",
        f"normalised error   {float(found.normalised_error):.4f}",
    ]
    if not np.isnan(float(found.winner_agreement)):
        lines.append(f"winner agreement   {float(found.winner_agreement):.4f}")
    if not np.isnan(float(found.switch)):
        lines.append(f"switch             {float(found.switch):.4f}")
    return "\n".join(lines)


def parse(args: list[str] | None) -> Command:
    """The command that these words ask for; a mistake in them is one line, and exit code 2."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(Command, args=args, prog="equilibrax", description=__doc__)  # pyright: ignore
    except SystemExit:
        # Tyro explains a mistake in a box of several lines; scripts and logs want one.
        lines = [line.strip("│╭╮╰╯─ ") for line in box.getvalue().splitlines()]
        words = " ".join(line for line in lines if line)
        if words:
            print(f"equilibrax: {words}", file=sys.stderr)
        raise


def main(args: list[str] | None = None) -> None:
    """Run the command line; a user's mistake ends it with one line and exit code 2."""
    matplotlib.use("Agg")
    try:
        command = parse(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Help that a pager or `head` has left: nothing more is to be written at the exit, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if args is None and not jax.config.jax_compilation_cache_dir:  # pyright: ignore
        # A command is a new process each time: what was compiled once is kept.
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equilibrax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    try:
        command.run()
    except (ValueError, TypeError, OSError, EOFError, OverflowError, BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        print(f"equilibrax: {' '.join(reason.split())}{where}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, JaxRuntimeError) as error:
        print(f"equilibrax: out of memory: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        what = getattr(command, "interrupted", "nothing was written")
        print(f"equilibrax: interrupted, {what}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
