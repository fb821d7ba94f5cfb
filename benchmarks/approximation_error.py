"""How small the error of an approximation of the reference network can be made, and by what.

- `widths`: the least test error of many restarts with 5, 16, 64, 128 and 512 hidden units, its
  spread, winner agreement and switch; two million pairs, batches of 1024.
- `data`: 64 hidden units from 10^4 to 2 10^6 pairs, and live ones, with the same steps.
- `bounds`: a proven bound on the error over the cube, beside the largest error that search finds.

Writes approximation_error.json.
"""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.approximation import cosine_adam
from equilibrax.commands.benchmark import hardware

NETWORK = eqb.partitioned()
CUBE = eqb.UniformCube(-1.0, 1.0)
MIXTURE = jnp.linspace(0, 1, 1001)
LINE = eqb.mixture_line(NETWORK.partitions, 5, MIXTURE)

PLANS = {
    # hidden: restarts, learning rate, steps
    5: (200, 0.02, 20_000),
    16: (32, 0.02, 40_000),
    64: (8, 0.03, 60_000),
    128: (6, 0.02, 40_000),
    512: (3, 0.006, 40_000),
}
BATCH = 1024


def settled(count: int, seed: int) -> eqb.Samples:
    """Inputs of the cube, and their fixed points."""
    return eqb.sample_fixed_points(NETWORK, CUBE, count, key=jax.random.key(seed))


def tested(model: eqb.FeedForward, test: eqb.Samples) -> dict[str, float]:
    """What is told of one network."""
    found = eqb.evaluate(model, test)
    names = ("normalised_error", "winner_agreement", "switch")
    return {
        **{name: float(getattr(found, name)) for name in names},
        **{f"{n}_se": float(getattr(found.standard_error, n)) for n in names[:2]},
    }


def by_width(train: eqb.Samples, validation: eqb.Samples, test: eqb.Samples) -> list[dict]:
    """The best of many restarts, for each width."""
    rows = []
    for hidden, (restarts, rate, steps) in PLANS.items():
        started = time.perf_counter()
        runs = eqb.train_many(
            train, hidden=hidden, restarts=restarts, learning_rates=(rate,), steps=steps,
            batch_size=BATCH, key=jax.random.key(1), validation=validation,
        )  # fmt: skip
        errors = np.asarray(runs.errors)
        least = int(np.argmin(errors))
        switches = [
            float(eqb.metrics.switch_point(runs[k].batch(LINE), MIXTURE, NETWORK.partitions))
            for k in range(restarts)
        ]
        rows.append(
            {
                "hidden": hidden, "restarts": restarts, "steps": steps, "learning_rate": rate,
                "least_error": tested(runs[least], test), "chosen": tested(runs.model, test),
                "validation_errors": np.sort(errors).tolist(),
                "agreements": np.asarray(runs.agreements)[np.argsort(errors)].tolist(),
                "switches": np.asarray(switches)[np.argsort(errors)].tolist(),
                "quantiles": np.quantile(errors, [0, 0.25, 0.5, 0.75, 1]).tolist(),
                "dead_units": int(np.sum(runs.dead_units)),
                "seconds": time.perf_counter() - started,
            }
        )  # fmt: skip
        print({k: v for k, v in rows[-1].items() if not isinstance(v, list)}, flush=True)
    return rows


def by_data(train: eqb.Samples, validation: eqb.Samples, test: eqb.Samples) -> list[dict]:
    """64 hidden units, from more and more pairs, and from pairs that are seen once."""
    rows, restarts, steps = [], 4, 20_000
    plan = {
        "hidden": 64, "restarts": restarts, "learning_rates": (0.03,), "steps": steps,
        "batch_size": BATCH, "key": jax.random.key(2), "validation": validation,
    }  # fmt: skip
    for pairs in (10_000, 100_000, 1_000_000, len(train)):
        data = (train.inputs[:pairs], train.rates[:pairs])
        rows.append({"pairs": pairs, **tested(eqb.train_many(data, **plan).model, test)})
        print(rows[-1], flush=True)
    live = eqb.train_many(eqb.LiveSamples(NETWORK, CUBE), **plan)
    rows.append({"pairs": "live", **tested(live.model, test)})
    print(rows[-1], flush=True)
    return rows


def bounds(train: eqb.Samples) -> list[dict]:
    """Proof against search, where there is one stable fixed point for each input and where not."""
    unique = eqb.partitioned(w_e=0.4, w_i=1.0)
    samples = {
        "reference": (NETWORK, train),
        "one fixed point": (
            unique, eqb.sample_fixed_points(unique, CUBE, 200_000, key=jax.random.key(3))
        ),
    }  # fmt: skip
    rows = []
    for name, (network, data) in samples.items():
        for hidden in (5, 10):
            runs = eqb.train_many(
                data, hidden=hidden, restarts=8, steps=10_000, key=jax.random.key(4),
                optimizer=cosine_adam(10_000),
            )  # fmt: skip
            started = time.perf_counter()
            found = eqb.error_bound(
                network, runs.model, key=jax.random.key(5), time_limit=300.0, search=60_000
            )
            rows.append(
                {
                    "network": name, "hidden": hidden, "error": float(runs.errors[runs.best]),
                    **{k: np.asarray(getattr(found, k)).tolist()
                       for k in ("bound", "attained", "searched")},
                    "complete": found.complete, "programs": found.num_programs,
                    "seconds": time.perf_counter() - started,
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


@dataclasses.dataclass(frozen=True)
class ApproximationError:
    """The error of approximations of the reference network."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    pairs: int = 2_000_000
    """Pairs to train on."""

    def run(self) -> None:
        """Train, measure, and write JSON."""
        train, validation, test = settled(self.pairs, 0), settled(100_000, 1), settled(200_000, 2)
        report = {
            "hardware": hardware(),
            "widths": by_width(train, validation, test),
            "data": by_data(train, validation, test),
            "bounds": bounds(train),
        }
        write_json(self.out / "approximation_error.json", report)


if __name__ == "__main__":
    tyro.cli(ApproximationError, description=__doc__).run()
