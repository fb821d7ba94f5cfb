"""All points of a trained gated cell: `find_slow_points` against fixed-point-finder, in turn.

    python benchmarks/slow_points.py --finder PATH

PATH is a checkout of https://github.com/mattgolub/fixed-point-finder; needs PyTorch
(`pip install -e '.[interop]'`) and scikit-learn. A GRU of n units is trained on the three-bit
flip-flop, and its weights are handed to `torch.nn.GRU`. Both search from the same states, in single
precision: the sets of points are compared first. Compilation counts as a first call. Writes
slow_points_PLATFORM.json.
"""

import contextlib
import dataclasses
import io
import statistics
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, timed
from equilibrax.commands.flip_flop import states, trained, trials


def in_torch(cell: eqx.nn.GRUCell):
    """The same cell."""
    n, k = cell.hidden_size, cell.input_size
    layer = torch.nn.GRU(k, n, batch_first=True)
    bias, late = np.asarray(cell.bias), np.asarray(cell.bias_n)
    parts = (
        cell.weight_ih, cell.weight_hh, bias, np.append(np.zeros(2 * n, np.float32), late),
    )  # fmt: skip
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    with torch.no_grad():
        for name, part in zip(names, parts, strict=True):
            getattr(layer, name).copy_(torch.tensor(np.asarray(part)))
    return layer


@dataclasses.dataclass(frozen=True)
class SlowPointsTimes:
    """Points of a trained cell, by two packages."""

    finder: Path
    """A checkout of fixed-point-finder."""
    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    units: tuple[int, ...] = (16, 128)
    """Units of the cell."""
    starts: int = 1024
    """Searches."""
    steps: int = 3000
    """Steps of training."""
    rate: float = 0.03
    """First learning rate of fixed-point-finder; by its default of 1 it finds none of them."""
    repeats: int = 2
    """Timed runs, of which the median counts."""

    def run(self) -> None:
        """Compare, measure in turn, print and write JSON."""
        sys.path.insert(0, str(self.finder))
        rows = {f"n = {n}": self.compare(n) for n in self.units}
        report = {"hardware": {**hardware(), "torch": torch.__version__}, "rows": rows}
        write_json(self.out / f"slow_points_{hardware()['platform']}.json", report)

    def compare(self, n: int) -> dict:
        """One cell."""
        from FixedPointFinderTorch import FixedPointFinderTorch  # pyright: ignore

        (cell, _), loss = trained(n, jax.random.split(jax.random.key(1), self.steps))
        visited = jax.vmap(lambda p: states(cell, p))(trials(jax.random.key(2))[0])
        rows = visited[:, 3:].reshape(-1, n)[: self.starts // 2]
        other = jax.random.permutation(jax.random.key(3), rows)
        starts = jnp.concatenate([rows, (rows + other) / 2])
        step, layer = eqb.from_cell(cell), in_torch(cell)

        def ours():
            return eqb.find_slow_points(step, jnp.zeros(3), starts)

        def theirs():
            finder = FixedPointFinderTorch(
                layer, lr_init=self.rate, verbose=False, super_verbose=False
            )
            with contextlib.redirect_stdout(io.StringIO()):
                given = np.array(starts), np.zeros((1, 3), np.float32)  # it works in place
                return finder.find_fixed_points(*given)[0]

        first, points = timed(ours)
        start = time.perf_counter()
        found = theirs()
        row = {"starts": len(starts), "loss": float(loss), "ours": points.describe()}
        row |= {"first_call_s": first, "finder_first_s": time.perf_counter() - start}
        mine, other = np.asarray(points.state), np.asarray(found.xstar)
        gaps = np.abs(mine[:, None] - other[None]).max(axis=-1)
        row |= {
            "finder": f"{len(other)} points, {int(np.sum(found.is_stable))} of them stable",
            "largest_q": {"ours": float(points.q.max()), "finder": float(np.max(found.qstar))},
            "of_ours_near_one_of_theirs": int((gaps.min(axis=1) < 1e-2).sum()),
            "of_theirs_near_one_of_ours": int((gaps.min(axis=0) < 1e-2).sum()),
        }
        times: dict[str, list[float]] = {"ours": [], "finder": []}
        for _ in range(self.repeats):
            times["ours"].append(timed(ours)[0])
            start = time.perf_counter()
            theirs()
            times["finder"].append(time.perf_counter() - start)
        row["seconds"] = {name: statistics.median(runs) for name, runs in times.items()}
        row["times_faster"] = row["seconds"]["finder"] / row["seconds"]["ours"]
        print(n, row, flush=True)
        return row


if __name__ == "__main__":
    tyro.cli(SlowPointsTimes, description=__doc__).run()
