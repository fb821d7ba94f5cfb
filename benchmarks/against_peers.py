"""Settling against its peers, on the same inputs, in turn, after agreement is checked.

    python benchmarks/against_peers.py

For each network, these settle the same inputs from x0 = 0 in single precision:

- naive: `vmap(diffeqsolve)` with Tsit5, rtol 1e-4, atol 1e-6, Diffrax's steady-state event
  (1e-4, 1e-5), t1 = 200, on one device;
- naive, all cores: the same on every core, each with its own part;
- diffrax lanes: `find_fixed_points(..., method=Flow(solver=Tsit5()))`;
- lanes: `find_fixed_points`; with abscissas, the same with `Flow(abscissa=True)`;
- scipy: `solve_ivp` (LSODA, rtol 1e-4, atol 1e-6) input by input until the residual is 1e-4;
- torchode, torchdiffeq and gradsolve, where they are installed (`peers.py`);
- forward: one pass of a 2-layer network of n hidden units, `model.batch`, to compare with.

Times are medians of repeats, compilation apart. Peers that take too long settle fewer of the
inputs, and so are compared by their inputs per second.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from peers import ATOL, OTHERS, RTOL, T1, importable, scipy_one_by_one

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax._workers import in_parallel, workers_beside
from equilibrax.commands.benchmark import hardware, timed


def near_the_edge(n: int) -> eqb.RateNetwork:
    """A random network, as strong as lets the worst abscissa of 200 inputs be below -0.02."""
    weights = eqb.random_ei(n, key=jax.random.key(n)).weights
    inputs = jax.random.uniform(jax.random.key(0), (200, n), minval=-1.0)
    low, high = 0.5, 3.0
    for _ in range(10):
        gain = (low + high) / 2
        network, method = eqb.RateNetwork(gain * weights), eqb.Flow(abscissa=True)
        found = eqb.find_fixed_points(network, inputs, method=method)
        calm = bool(jnp.all(found.stable)) and float(jnp.max(found.abscissa)) < -0.02
        low, high = (gain, high) if calm else (low, gain)
    return eqb.RateNetwork(low * weights)


NETWORKS: dict[str, tuple[Callable[[], eqb.RateNetwork], int, int, int]] = {
    # The network; inputs for us, for the naive way, and for others.
    "reference": (eqb.partitioned, 1_000_000, 16_384, 256),
    "half never settle": (lambda: eqb.partitioned(w_ii=0.0), 100_000, 2_048, 64),
    "random E/I, n = 20": (lambda: eqb.random_ei(20, key=jax.random.key(1)), 50_000, 50_000, 128),
    "edge of stability, n = 20": (lambda: near_the_edge(20), 20_000, 20_000, 64),
    "ring, n = 100": (lambda: eqb.ring(100), 8_192, 8_192, 32),
    "edge of stability, n = 100": (lambda: near_the_edge(100), 1_024, 1_024, 16),
    "random E/I, n = 500": (lambda: eqb.random_ei(500, key=jax.random.key(2)), 128, 128, 4),
}


def naive(network: eqb.RateNetwork, inputs):
    """What one would write first."""

    def one(i):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(network.vector_field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=T1,
            dt0=None,
            y0=jnp.zeros_like(i),
            args=i,
            stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=ATOL),
            event=diffrax.Event(diffrax.steady_state_event(rtol=1e-4, atol=1e-5)),
            max_steps=100_000,
            throw=False,
        )
        assert solution.ys is not None
        return solution.ys[-1], solution.event_mask

    return jax.vmap(one)(inputs)


@dataclasses.dataclass(frozen=True)
class AgainstPeers:
    """Settling against its peers."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    only: tuple[str, ...] = ()
    """Names of networks; all of them if empty."""
    repeats: int = 3
    """Timed runs of each way, of which the median counts."""
    share: float = 1.0
    """Of the inputs: less for a quick look."""
    checked: int = 10_000
    """Numbers in the states that are checked against LSODA at rtol 1e-8 in double precision:
    2,000 inputs at n = 5."""

    @functools.cached_property
    def peers(self) -> list[str]:
        """Other packages that are installed."""
        return importable()

    def run(self) -> None:
        """Measure, print a table and write JSON."""
        self.out.mkdir(parents=True, exist_ok=True)
        rows, peers = [], self.peers
        print("other packages:", ", ".join(peers) or "none")
        print(f"{'network':28}{'way':18}{'inputs':>9}{'us/input':>11}{'x naive':>9}  agrees")
        for name in self.only or NETWORKS:
            table = self.measure(name)
            rows += table
            file = self.out / f"against_peers_{hardware()['platform']}.json"
            write_json(file, {"hardware": hardware(), "rows": rows})
            for row in table:
                print(
                    f"{row['network']:28}{row['way']:18}{row['inputs']:9}"
                    f"{row['us_per_input']:11.3f}{row['times_naive']:9.1f}  {row['agreement']}",
                    flush=True,
                )

    def measure(self, name: str) -> list[dict[str, Any]]:
        """All ways on one network."""
        build, *counts = NETWORKS[name]
        network = build()
        n = network.num_neurons
        ours, theirs, others = (max(2, int(self.share * count)) for count in counts)
        inputs = jax.random.uniform(jax.random.key(0), (ours, n), minval=-1.0)
        few = inputs[:theirs]
        ways: dict[str, tuple[int, Callable[[], Any]]] = {}
        one_device = jax.jit(naive)
        ways["naive"] = (theirs, lambda: one_device(network, few)[0])
        workers = workers_beside(next(iter(few.devices())))
        if len(workers) > 1 and theirs % len(workers) == 0:
            shares = list(few.reshape(len(workers), -1, n))

            def on_all_workers():
                solved = in_parallel(lambda i, _: one_device(network, i)[0], shares, workers)
                return jnp.concatenate(solved)

            ways["naive, all cores"] = (theirs, on_all_workers)
        method, asked = eqb.Flow(solver=diffrax.Tsit5()), eqb.Flow(abscissa=True)
        ways["diffrax lanes"] = (
            theirs,
            lambda: eqb.find_fixed_points(network, few, method=method),
        )
        ways["lanes"] = (ours, lambda: eqb.find_fixed_points(network, inputs))
        if n > 8:
            ways["with abscissas"] = (
                ours,
                lambda: eqb.find_fixed_points(network, inputs, method=asked),
            )
        model = eqb.FeedForward(n, n, n, key=jax.random.key(3))
        ways["forward"] = (ours, lambda: model.batch(inputs))
        for peer in self.peers:
            ways[peer] = (others, lambda solve=OTHERS[peer]: solve(network, few[:others]))
        first, results = {}, {}
        for way, (_, call) in ways.items():
            first[way], results[way] = timed(call)
        agreement = self.agreement(network, few, results)
        runs: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(self.repeats):
            for way, (_, call) in ways.items():
                runs[way].append(timed(call)[0])
        peers = 1 + 500 // n
        options = {"rtol": RTOL, "atol": ATOL, "t1": T1, "rest": 1e-4}
        alone, _ = timed(lambda: scipy_one_by_one(network, few[:peers], **options))
        runs["scipy"], ways["scipy"] = [alone], (peers, lambda: None)
        found, lanes = results["lanes"], statistics.median(runs["lanes"]) / ours
        table = []
        base = statistics.median(runs["naive"]) / theirs
        for way, times in runs.items():
            each = statistics.median(times) / ways[way][0]
            table.append(
                {
                    "network": name,
                    "way": way,
                    "n": n,
                    "inputs": ways[way][0],
                    "us_per_input": 1e6 * each,
                    "times_naive": base / each,
                    "times_lanes": lanes / each,
                    "first_call_s": first.get(way),
                    "runs_s": times,
                    "agreement": agreement.get(way, ""),
                }
            )
        ours_row = next(row for row in table if row["way"] == "lanes")
        ours_row["certified"] = float(found.certified.mean())
        ours_row["outcomes"] = {k.name: v for k, v in found.counts.items() if v}
        abscissa = results.get("with abscissas", found).abscissa
        worst = jnp.max(jnp.where(found.stable, abscissa, -jnp.inf))
        ours_row["largest_abscissa"] = float(worst)
        return table

    def agreement(self, network, few, results) -> dict[str, str]:
        """States against each other, and ours against LSODA at 1e-8 in double precision."""
        report = {}
        ours = results["lanes"]
        stable = np.asarray(ours.stable)[: len(few)]
        state = np.asarray(ours.state)[: len(few)]
        size = 1 + np.abs(state).max(axis=1)
        for way in ("naive", "naive, all cores", "diffrax lanes", *self.peers):
            if way in results:
                other = results[way]
                other = np.asarray(other.state if way == "diffrax lanes" else other)
                rows = slice(len(other))
                far = (np.abs(other - state[rows]).max(axis=1) > 0.01 * size[rows]) & stable[rows]
                report[way] = f"{far.sum()} of {stable[rows].sum()} differ by over 1 % from lanes"
        rows = np.flatnonzero(stable)[: max(1, int(self.share * self.checked) // state.shape[1])]
        exact = scipy_one_by_one(network, few[rows], rtol=1e-8, atol=1e-10, t1=600, rest=1e-7)
        far = np.abs(exact - state[rows]).max(axis=1) > 1e-4 * size[rows]
        report["lanes"] = f"{far.sum()} of {len(rows)} differ by over 1e-4 from LSODA at 1e-8"
        return report


if __name__ == "__main__":
    tyro.cli(AgainstPeers, description=__doc__).run()
