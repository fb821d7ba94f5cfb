"""`equilibrax sample`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from tyro.conf import arg

from .._resumable import DamagedSettings
from ..fixed_points import Flow
from ..sampling import UniformCube, arguments_of, sample_to_store
from ._networks import Network, Partitioned


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
    network: Network = dataclasses.field(default_factory=Partitioned)
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
