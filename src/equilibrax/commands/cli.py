"""The command line.

`equilibrax reproduce | study | sample | train | evaluate | export | benchmark | explore`
"""

import contextlib
import dataclasses
import difflib
import errno
import io
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zipfile import BadZipFile

import jax
import matplotlib
import numpy as np
import tyro
from jax.errors import JaxRuntimeError
from tyro.conf import arg, subcommand

from .. import figures
from .._extras import extra
from .._files import atomic_folder, check_absent, write_json
from .._resumable import DamagedSettings
from .._settings import digest_of
from ..approximation import (
    FeedForward,
    approximate,
    cosine_adam,
    evaluate,
    export_onnx,
    export_stablehlo,
    load_model,
    train,
)
from ..approximation._export import read_model, write_model
from ..approximation._train import can_be_rectified
from ..fixed_points import Flow
from ..networks import Convention, RateNetwork, partitioned, random_ei, ring, two_neuron
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
    convention: Convention = "voltage"
    """Convention of the equation of motion."""

    def build(self, key) -> RateNetwork:
        """Build the network."""
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
        """Build the network."""
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
        """Build the network."""
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
        """Build the network."""
        return random_ei(self.n, key=key, gain=self.gain, density=self.density)


@dataclasses.dataclass(frozen=True)
class FromFile:
    """Weights from a NumPy file."""

    path: Path
    """A .npy file of floats, shape (n, n); rows are targets, columns are sources."""
    bias: float = 0.0
    """Threshold of every neuron."""
    tau: float = 1.0
    """Time constant of every neuron."""
    convention: Convention = "voltage"
    """Convention of the equation of motion."""

    def build(self, key) -> RateNetwork:
        """Build the network."""
        del key
        try:
            weights = np.load(self.path, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{self.path} is no .npy file of one matrix: {error}") from error
        if not isinstance(weights, np.ndarray):
            raise ValueError(f"{self.path} is an archive, and no .npy file of one matrix")
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
    """Export a trained approximation's forward pass for other frameworks."""

    model: Path
    """Safetensors file from `equilibrax train` or `reproduce`."""
    onnx: Path | None = None
    """ONNX file to write."""
    stablehlo: Path | None = None
    """StableHLO file to write, for `jax.export.deserialize`."""
    force: bool = False
    """Replace existing files."""

    def run(self) -> None:
        """Load the model, and write the files asked for."""
        if self.onnx is None and self.stablehlo is None:
            raise ValueError("name a file with --onnx, --stablehlo, or both")
        model = load_model(self.model)
        for write, path in ((export_onnx, self.onnx), (export_stablehlo, self.stablehlo)):
            if path is not None:
                write(path, model, overwrite=self.force)
                print(f"{path} is written")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Options for several processes that write one store; each process has its own index."""

    processes: int | None = None
    """Number of processes."""
    process: int | None = None
    """Index of this process, from 0."""
    coordinator: str | None = None
    """Address and port of process 0, such as 127.0.0.1:8476."""
    join: bool = False
    """Take all three from the cluster's launcher (Slurm, Open MPI, Kubernetes, Cloud TPU)."""

    def start(self) -> None:
        """Connect to the other processes, if there are any."""
        explicit = (self.coordinator, self.processes, self.process)
        if self.join or any(value is not None for value in explicit):
            if not self.join and None in explicit:
                raise ValueError("--processes, --process and --coordinator go together, or --join")
            jax.distributed.initialize(*explicit)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Settle random inputs of a network and store the (input, fixed point) pairs.

    The store is a folder of Parquet files. After a kill or a full disk the same command resumes.
    """

    out: Path
    """Folder of the store; created if absent."""
    network: Network = Partitioned()
    """Network to settle."""
    inputs: Annotated[int, arg(aliases=["--draws"])] = 50_000
    """Number of inputs, drawn uniformly from a cube."""
    low: float = -1.0
    """Lower bound of every input."""
    high: float = 1.0
    """Upper bound of every input."""
    keep: Literal["stable", "all"] = "stable"
    """Keep the inputs with a stable fixed point, or all inputs with their outcome."""
    rtol: float = 1e-5
    """Relative tolerance of the trajectory."""
    atol: float = 1e-6
    """Absolute tolerance of the trajectory."""
    t1: float | None = None
    """End of time, in the units of tau; 200 time constants if absent."""
    seed: int = 0
    """Seed of the inputs and of random networks."""
    shard_size: int | None = None
    """Inputs for each file, a power of two; if absent, so many that a file has some 8 MB."""
    repair: bool = False
    """Read the whole store, and write damaged or missing files again. The settings are those of
    the store; the other options are used only if its settings are damaged, too."""
    cluster: tyro.conf.OmitArgPrefixes[Cluster] = Cluster()

    interrupted = "what is committed stays, and the same command goes on from there"

    def run(self) -> None:
        """Settle the inputs, write the store, and print the counts of outcomes."""
        self.cluster.start()
        plan = self.from_store() if self.repair else None
        plan = self.from_options() if plan is None else plan
        store = sample_to_store(self.out, **plan, repair=self.repair, progress=True)
        if jax.process_index() == 0:
            print(store.describe())
            print(f"{len(store)} pairs are in {self.out}")

    def from_options(self) -> dict[str, Any]:
        """Arguments of `sample_to_store` from the options."""
        key_inputs, key_network = jax.random.split(jax.random.key(self.seed))
        return {
            "network": self.network.build(key_network),
            "inputs": UniformCube(self.low, self.high),
            "n": self.inputs,
            "key": key_inputs,
            "method": Flow(rtol=self.rtol, atol=self.atol, t1=self.t1),
            "keep": self.keep,
            "shard_size": self.shard_size,
        }

    def from_store(self) -> dict[str, Any] | None:
        """Arguments of `sample_to_store` from the store; None if its settings are damaged."""
        try:
            return arguments_of(self.out)
        except DamagedSettings:
            return None


LARGE_ERROR = 0.1
"""Normalised error above which `train` says what would lower it: four times as many hidden units
give a fifth of it, or less, on rings (`equilibrax study`)."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a feed-forward approximation on samples and write its weights as safetensors."""

    samples: Path
    """Store from `equilibrax sample`."""
    out: Path
    """Safetensors file to write."""
    hidden: int | None = None
    """Number of hidden units; the network's number of neurons if absent."""
    restarts: int = 48
    """Networks trained, of which the best by validation is kept."""
    steps: int = 8000
    """Steps of Adam."""
    batch_size: int = 256
    """Pairs in each step."""
    test_share: float = 0.2
    """Share of the pairs held out for the test."""
    stream: bool = False
    """Read the pairs from the disk batch by batch, for stores that do not fit into memory. One
    network is trained, on all pairs; evaluate it on another store."""
    checkpoints: Path | None = None
    """Folder for checkpoints, with --stream. After a kill the same command resumes from them."""
    every: int = 10_000
    """Steps between two checkpoints."""
    seed: int = 0
    """Seed of initial weights and batches."""
    force: bool = False
    """Replace an existing file."""

    @property
    def interrupted(self) -> str:
        """Message if the user interrupts the command."""
        kept = self.checkpoints is not None
        return (
            "the same command goes on from the last checkpoint" if kept else "nothing was written"
        )

    def run(self) -> None:
        """Train, write the weights, and print an evaluation."""
        check_absent(self.out, self.force)
        if self.checkpoints is not None and not self.stream:
            raise ValueError("--checkpoints are written with --stream only")
        store = open_samples(self.samples)
        model, report = self.streamed(store) if self.stream else self.best(store)
        about = {"trained_on": _first_inputs(store)}
        write_model(self.out, model, about, overwrite=self.force)
        print(report)
        print(f"weights are in {self.out}")

    def best(self, store: SampleStore) -> tuple[FeedForward, str]:
        """Train several networks on samples in memory, and return the best."""
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
        report, size = fitted.evaluation.describe(), fitted.model.hidden_size
        if float(fitted.evaluation.normalised_error) > LARGE_ERROR:
            report += f"\nmore hidden units lower the error most: --hidden {4 * size}; then --steps"
        return fitted.model, report

    def streamed(self, store: SampleStore) -> tuple[FeedForward, str]:
        """Train one network on samples read from the disk."""
        key_batches, key_model = jax.random.split(jax.random.key(self.seed))
        first = store[:256]
        hidden = store.network.num_neurons if self.hidden is None else self.hidden
        sizes = (first.inputs.shape[1], hidden, first.rates.shape[1])
        run = train(
            FeedForward(*sizes, key=key_model, rectified=can_be_rectified(first.rates)),
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
    """Store from `equilibrax sample`, with other inputs than those of the training."""

    def run(self) -> None:
        """Print the evaluation."""
        (model, about), store = read_model(self.model), open_samples(self.samples)
        print(evaluate(model, store[:]).describe())
        if about.get("trained_on") == _first_inputs(store):
            print("these are the samples that it was trained on: it does less well on others")


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


def _named(union: Any) -> dict[str, Any]:
    """The classes of a union of subcommands, by name."""
    parts = [get_args(part) for part in get_args(union)]
    return {configuration.name: kind for kind, configuration in parts}


COMMANDS = _named(Command)
NETWORKS = {f"network:{name}": kind for name, kind in _named(Network).items()}


def _print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows of text under their headings, aligned to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _fields(command) -> dict:
    return {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}


def _first_inputs(store: SampleStore) -> str:
    """Digest of a store's first inputs, by which it is known again."""
    return digest_of(np.ascontiguousarray(store[:8].inputs))


def parse(args: list[str] | None) -> Command:
    """Parse the arguments; a mistake is reported in one line, with exit code 2."""
    words = sys.argv[1:] if args is None else args
    if words == ["--version"]:
        print(f"equilibrax {version('equilibrax')}")
        sys.exit()
    name = words[0] if words else ""
    kind = COMMANDS.get(name)
    prog = "equilibrax" if kind is None else f"equilibrax {name}"
    options = {"prog": prog, "args": words if kind is None else words[1:]}
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            if kind is None:
                return tyro.cli(Command, description=__doc__, **options)  # pyright: ignore
            return tyro.cli(kind, **options)
    except SystemExit:
        mistake = box.getvalue()
        if mistake:
            said = _misspelt(words, kind) or _in_one_line(mistake)
            print(f"equilibrax: {said} (`{prog} --help` lists all)", file=sys.stderr)
        raise


def _misspelt(words: list[str], kind: Any) -> str | None:
    """The first word that is no command, option or network, and those most like it; None if all
    are known."""
    if kind is None:
        known, what = list(COMMANDS), "command"
        unknown = [word for word in words[:1] if word not in known]
    else:
        known, what = _options(kind), "option"
        named = [word.partition("=")[0].replace("_", "-") for word in words[1:]]
        unknown = [word for word in named if word.startswith("--") and word not in known]
        if not unknown and "--network.n" in known:
            unknown = [word for word in named if f"network:{word}" in NETWORKS]
            what, known = "network", list(NETWORKS)
    if not unknown:
        return None
    last = [
        name for name in known if name.replace(":", ".").rpartition(".")[2] == unknown[0].strip("-")
    ]
    near = last + [
        name
        for name in difflib.get_close_matches(unknown[0], known, cutoff=0.54)
        if name not in last
    ]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no {what} {unknown[0]}{hint}"


def _options(kind: Any, prefix: str = "") -> list[str]:
    """All options of a command, those of its networks included."""
    found = ["--help"] if not prefix else []
    for field in dataclasses.fields(kind):
        if field.name == "network":
            found += [o for network in NETWORKS.values() for o in _options(network, "network.")]
        elif field.name == "cluster":
            found += _options(Cluster)
        else:
            found += [f"--{prefix}{field.name.replace('_', '-')}"]
            notes = get_args(field.type)[1:]
            found += [a for note in notes for a in getattr(note, "aliases", None) or ()]
    return list(dict.fromkeys(found))


def _in_one_line(mistake: str) -> str:
    """What Tyro says in a box of several lines, unsuitable for scripts and logs."""
    lines = [line.strip("│╭╮╰╯─|+ ") for line in mistake.splitlines()[1:]]
    lines = lines[: next((k for k, line in enumerate(lines) if "full helptext" in line), None)]
    return " ".join(line for line in lines if line.strip("-")).replace(" (required)", "")


def main(args: list[str] | None = None) -> None:
    """Run the command line; mistakes of the user are reported in one line, with exit code 2."""
    matplotlib.use("Agg")
    try:
        command = parse(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the help, such as `head`, has ended: flushing at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if args is None and not jax.config.jax_compilation_cache_dir:  # pyright: ignore
        # Each command is a new process: keep compiled programs in a cache on disk.
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equilibrax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    try:
        command.run()
    except (
        ValueError, TypeError, OSError, ImportError, EOFError, OverflowError, BadZipFile
    ) as error:  # fmt: skip
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        print(f"equilibrax: {' '.join(reason.split())}{where}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, JaxRuntimeError) as error:
        full = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        words = f"{'out of memory: ' if full else ''}{' '.join(str(error).split())}"
        print(f"equilibrax: {words}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        what = getattr(command, "interrupted", "nothing was written")
        print(f"equilibrax: interrupted, {what}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
