"""First calls: how long a user waits for programs to be compiled.

In new processes without a cache, in turn: plain `vmap(diffeqsolve)` on one input, and equilibrax on
1, 1000, 777 and 30 inputs, then on 1 input again; medians over the repeats.

    python benchmarks/compile_time.py --out benchmarks/results
"""

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path

import tyro

from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware

COUNTS = (1, 1000, 777, 30, 1)

SETUP = """
import json, sys, time
import jax, jax.numpy as jnp, numpy as np
import diffrax, equilibrax as eqb
name = sys.argv[1]
networks = {
    "reference": eqb.partitioned,
    "random E/I 20": lambda: eqb.random_ei(20, key=jax.random.key(1)),
    "random E/I 100": lambda: eqb.random_ei(100, key=jax.random.key(1)),
    "Wilson-Cowan": eqb.WilsonCowan,
}
network = networks[name]().astype(jnp.float32)
generator = np.random.default_rng(0)
def inputs(count):
    return generator.uniform(-1, 1, (count, network.num_inputs)).astype(np.float32)
def timed(function, count):
    i = inputs(count)
    began = time.perf_counter()
    jax.block_until_ready(function(i))
    return time.perf_counter() - began
"""

NAIVE = (
    SETUP
    + """
def solve(i):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(network.vector_field), diffrax.Tsit5(), 0.0, 200 * network.tau.max(), None,
        jnp.zeros(network.num_neurons), args=i, max_steps=4096,
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
        event=diffrax.Event(diffrax.steady_state_event(rtol=1e-4, atol=1e-5)),
    ).ys
print(json.dumps([timed(jax.jit(jax.vmap(solve)), 1)]))
"""
)

OURS = (
    SETUP
    + f"""
settle = lambda i: eqb.find_fixed_points(network, i)
print(json.dumps([timed(settle, count) for count in {COUNTS}]))
"""
)


@dataclasses.dataclass
class CompileTime:
    """First calls of equilibrax and of plain Diffrax, in new processes."""

    out: Path = Path("results")
    """The folder to write `compile_time_cpu.json` to."""

    repeats: int = 3
    """New processes of each kind."""

    def run(self) -> None:
        """Measure, print a table and write JSON."""
        rows = []
        print(f"{'network':18}{'naive':>8}" + "".join(f"{m:>8}" for m in COUNTS) + "   ratio")
        for name in ("reference", "random E/I 20", "random E/I 100", "Wilson-Cowan"):
            naive, ours = [], []
            for _ in range(self.repeats):
                naive.append(_seconds(NAIVE, name))
                ours.append(_seconds(OURS, name))
            [theirs] = [statistics.median(column) for column in zip(*naive, strict=True)]
            times = [statistics.median(column) for column in zip(*ours, strict=True)]
            ratio = (times[0] + times[1]) / theirs
            rows.append(
                {"network": name, "naive": theirs, "counts": COUNTS, "ours": times, "ratio": ratio}
            )
            cells = "".join(f"{t:8.3f}" for t in times)
            print(f"{name:18}{theirs:8.2f}{cells}{ratio:8.2f}", flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        file = self.out / f"compile_time_{hardware()['platform']}.json"
        write_json(file, {"hardware": hardware(), "rows": rows})


def _seconds(code: str, name: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    tyro.cli(CompileTime).run()
