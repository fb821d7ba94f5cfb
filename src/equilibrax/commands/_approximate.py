"""`equilibrax train`, `evaluate` and `export`."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from .._files import check_absent
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
from ..sampling import SampleStore, open_samples

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


def _first_inputs(store: SampleStore) -> str:
    """Digest of a store's first inputs, by which it is known again."""
    return digest_of(np.ascontiguousarray(store[:8].inputs))
