"""What gradients and sweeps cost, beside the solve and beside the naive way.

    python benchmarks/gradients_and_sweeps.py

- For networks of n = 5, 20 and 100: the time of `find_fixed_points`, and that of the gradient of
  a sum of its rates in all weights, with and without the abscissa's.
- Peak memory of the gradient against the solver steps that it stands on, from looser to tighter
  tolerances: each in a process of its own.
- 100 networks of five neurons on 10,000 inputs each: `sweep` against `vmap(vmap(diffeqsolve))`, on
  fewer inputs, compared by inputs per second.
"""

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from against_peers import naive

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, in_own_process, peak_memory, timed

NETWORKS = {
    "reference, n = 5": (eqb.partitioned, 200_000),
    "random E/I, n = 20": (lambda: eqb.random_ei(20, key=jax.random.key(1)), 20_000),
    "ring, n = 100": (lambda: eqb.ring(100), 4_096),
    "random E/I, n = 100": (lambda: eqb.random_ei(100, key=jax.random.key(1)), 2_048),
}


def inputs_for(network: eqb.RateNetwork, count: int):
    """Uniform on the cube."""
    shape = (count, network.num_neurons)
    return jax.random.uniform(jax.random.key(0), shape, minval=-1.0)


@dataclasses.dataclass(frozen=True)
class GradientsAndSweeps:
    """Gradients and sweeps."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    repeats: int = 3
    """Timed runs, of which the median counts."""
    share: float = 1.0
    """Of the inputs: less for a quick look."""
    memory_at: float | None = None
    """Print the steps and the peak memory of a gradient at this tolerance."""

    def run(self) -> None:
        """Measure, print and write JSON."""
        if self.memory_at is not None:
            print(json.dumps(self.memory(self.memory_at)))
            return
        results: dict[str, Any] = {"gradients": [self.gradient(name) for name in NETWORKS]}
        results["memory"] = []
        for rtol in (1e-3, 1e-4, 1e-5, 1e-6):
            options = ("--memory-at", str(rtol), f"--share={self.share}")
            results["memory"].append(in_own_process(__file__, *options))
            print(results["memory"][-1], flush=True)
        results["sweep"] = self.sweep()
        self.out.mkdir(parents=True, exist_ok=True)
        name = f"gradients_and_sweeps_{hardware()['platform']}"
        write_json(self.out / f"{name}.json", {"hardware": hardware(), **results})

    def median(self, call) -> float:
        """Median time, the first call apart."""
        times = [timed(call)[0] for _ in range(1 + self.repeats)]
        return statistics.median(times[1:])

    def gradient(self, name: str) -> dict:
        """Solve, and gradients of it."""
        build, count = NETWORKS[name]
        network = build()
        inputs = inputs_for(network, max(2, int(self.share * count)))

        def rates(network):
            return jnp.sum(eqb.find_fixed_points(network, inputs).rates)

        def margin(network):
            found = eqb.find_fixed_points(network, inputs)
            return jnp.sum(found.rates) + jnp.sum(found.abscissa)

        solve = self.median(lambda: eqb.find_fixed_points(network, inputs))
        gradient = self.median(lambda: jax.grad(rates)(network))
        with_abscissa = self.median(lambda: jax.grad(margin)(network))
        row = {
            "network": name,
            "inputs": len(inputs),
            "solve_us": 1e6 * solve / len(inputs),
            "gradient_us": 1e6 * gradient / len(inputs),
            "gradient_over_solve": gradient / solve,
            "with_abscissa_over_solve": with_abscissa / solve,
        }
        print(row, flush=True)
        return row

    def memory(self, rtol: float) -> dict:
        """Steps taken and peak memory of a gradient, in this process."""
        network = eqb.partitioned()
        inputs = inputs_for(network, max(2, int(self.share * 100_000)))
        method = eqb.Flow(rtol=rtol, atol=rtol / 10)

        def loss(network):
            found = eqb.find_fixed_points(network, inputs, method=method)
            return jnp.sum(found.rates), found.num_steps

        steps = jax.block_until_ready(jax.grad(loss, has_aux=True)(network))[1]
        return {"rtol": rtol, "mean_steps": float(steps.mean()), "peak_GiB": peak_memory()}

    def sweep(self) -> dict:
        """100 networks times 10,000 inputs."""
        family = jnp.linspace(0.5, 3.0, 100)
        count = max(2, int(self.share * 10_000))
        few = max(2, int(self.share * 64))
        inputs = inputs_for(eqb.partitioned(), count)

        def network_of(w_e):
            return eqb.partitioned(w_e=w_e)

        doubly = jax.jit(jax.vmap(lambda w, i: naive(network_of(w), i)[0], in_axes=(0, None)))
        ways = {
            "naive": (few, lambda: doubly(family, inputs[:few])),
            "sweep": (count, lambda: eqb.sweep(network_of, family, inputs).found),
        }
        results = {way: timed(call)[1] for way, (_, call) in ways.items()}
        ours = results["sweep"]
        stable = np.asarray(ours.stable[:, :few])
        apart = np.abs(np.asarray(results["naive"]) - np.asarray(ours.state[:, :few])).max(axis=2)
        size = 1 + np.abs(np.asarray(ours.state[:, :few])).max(axis=2)
        times = {way: [] for way in ways}
        for _ in range(self.repeats):
            for way, (_, call) in ways.items():
                times[way].append(timed(call)[0])
        each = {way: statistics.median(times[way]) / (100 * ways[way][0]) for way in ways}
        row = {
            "networks": 100,
            "inputs": count,
            "naive_inputs": few,
            "naive_us": 1e6 * each["naive"],
            "sweep_us": 1e6 * each["sweep"],
            "times_naive": each["naive"] / each["sweep"],
            "differ_by_over_1_percent": int(np.sum(stable & (apart > 0.01 * size))),
            "stable": int(stable.sum()),
        }
        print(row, flush=True)
        return row


if __name__ == "__main__":
    tyro.cli(GradientsAndSweeps, description=__doc__).run()
