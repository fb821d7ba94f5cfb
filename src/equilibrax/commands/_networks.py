"""Networks that the command line builds, each with its options."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import subcommand

from ..networks import Convention, RateNetwork, partitioned, random_ei, ring, two_neuron


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
