"""Study: approximation error of two feed-forward layers, for the networks of the paper's programme.

Muir, Neural Computation 30:546 (2018), doi:10.1162/neco_a_01042.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import _checks, figures
from .._files import atomic_folder, write_json
from .._progress import progress_bar
from ..approximation import (
    Trainings,
    approximate,
    competition,
    decision_boundary,
    evaluate,
    jackknife,
    mutual_information,
    noise_rejection,
    train_many,
    unsettled_behaviour,
)
from ..fixed_points import Outcome
from ..networks import (
    AbstractDynamics,
    RateNetwork,
    as_map,
    from_cell,
    partitioned,
    random_ei,
    ring,
    two_neuron,
)
from ..sampling import Samples, UniformCube, mixture_line, rows_of, sample_fixed_points
from .benchmark import hardware
from .flip_flop import trained

FEWEST = 0.02
"""Share of stable inputs below which a network is not approximated."""

WIDTHS = (2, 3, 5, 8, 16, 32, 64, 128, 256)
"""Numbers of hidden units for the reference network."""


def study(
    out: str | os.PathLike,
    *,
    only: tuple[str, ...] = (),
    inputs: int = 50_000,
    steps: int = 6000,
    restarts: int = 8,
    seed: int = 0,
    force: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Approximate many networks, and write `study.json` and a figure for each part into a folder.

    - `map`: networks of two neurons over their weights, 2-2-2: error against stability;
    - `partitions`: two to four competing partitions;
    - `ring`: rings of 16 neurons, against the strength of their graded excitation;
    - `random`: random E/I networks of 5 to 100 neurons, with n and 4 n hidden units;
    - `width`: the reference network, against the number of hidden units;
    - `reference`: all metrics of the reference network's approximations;
    - `cell`: a trained GRU of 16 units that remembers three bits, against the number of hidden
      units.

    **Arguments:**

    - `out`: the folder, created if absent; it must be empty unless `force`.
    - `only`: the parts to run; all parts if empty.
    - `inputs`: number of inputs settled for each network, for training, and again for tests; a
      tenth of it, once, for each network of the map.
    - `steps`, `restarts`: as for `train_many`.
    - `seed`: seed of all random numbers.
    - `force`: write into a folder that is not empty.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** the content of `study.json`.

    **Raises:** `FileExistsError` for a folder that is not empty, before anything is computed;
    `ValueError` for arguments out of range; `OSError` from the disk, in which case no partial
    results are left.
    """
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        _checks.fail("only", f"hold names among {', '.join(PARTS)}", f"holds {unknown[0]!r}")
    inputs = _checks.integer("inputs", inputs, minimum=1000)
    plan = {
        "steps": _checks.integer("steps", steps),
        "restarts": _checks.integer("restarts", restarts),
    }
    seed = _checks.integer("seed", seed, minimum=0)
    report: dict[str, Any] = {"settings": {"inputs": inputs, **plan, "seed": seed}}
    wanted = [name for name in PARTS if name in only or not only]
    with (
        atomic_folder(out, overwrite=force) as folder,
        progress_bar(len(wanted), "study", "parts", progress) as bar,
    ):
        for name in wanted:
            started = time.perf_counter()
            key = jax.random.fold_in(jax.random.key(seed), list(PARTS).index(name))
            report[name] = PARTS[name](folder, key, inputs, plan)
            report[name]["seconds"] = time.perf_counter() - started
            bar.update(1)
        report["hardware"] = hardware()
        write_json(folder / "study.json", report)
    return report


def cube() -> UniformCube:
    """The inputs of every part. Not a constant, which would start JAX's devices at the import:
    `jax.distributed` must come before."""
    return UniformCube(-1.0, 1.0)


def _samples(network: AbstractDynamics, inputs: int, key: Array) -> tuple[Samples, Samples]:
    """Samples for training, and for tests."""
    keys = jax.random.split(key)
    return tuple(sample_fixed_points(network, cube(), inputs, key=k) for k in keys)  # pyright: ignore


def _row(network: AbstractDynamics, size: int, runs: Trainings, test: Samples) -> dict[str, Any]:
    """Metrics of the best of several networks."""
    found = evaluate(runs.model, test)
    return {
        "n": network.num_neurons,
        "hidden": size,
        "error": float(found.normalised_error),
        "error_se": float(found.standard_error.normalised_error),
        "winner_agreement": float(found.winner_agreement),
        "winner_agreement_se": float(found.standard_error.winner_agreement),
        "switch": float(found.switch),
        "restarts": np.asarray(runs.errors).tolist(),
        "dead_units": np.asarray(runs.dead_units).tolist(),
        "unstable_inputs": test.discarded,
    }


def _rows(
    networks: dict[Any, RateNetwork], widths: Callable, key: Array, inputs: int, plan: dict
) -> list[dict[str, Any]]:
    """Train and evaluate each network at each of its widths; rows hold the network's name."""
    rows = []
    for k, (name, network) in enumerate(networks.items()):
        key_samples, key_train = jax.random.split(jax.random.fold_in(key, k))
        data, test = _samples(network, inputs, key_samples)
        for size in widths(network.num_neurons):
            runs = train_many(data, hidden=size, key=key_train, **plan)
            rows.append({"name": name, **_row(network, size, runs, test)})
    return rows


def _curve(rows: list[dict[str, Any]], of: str) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray([r[of] for r in rows]), np.asarray([r["restarts"] for r in rows])


def weight_space(folder: Path, key: Array, inputs: int, plan: dict) -> dict[str, Any]:
    """Networks of two neurons over their self- and cross-connections. A network is skipped if its
    share of stable inputs is below `FEWEST`, or if both neurons are silent at all of them."""
    own, cross = np.linspace(-1.0, 1.5, 11), np.linspace(-2.0, 1.5, 15)
    count = max(200, inputs // 10)
    errors, shares = np.full((2, len(own), len(cross)), np.nan)
    for j, k in np.ndindex(errors.shape):
        network = two_neuron(float(own[j]), float(cross[k]))
        every = sample_fixed_points(network, cube(), count, key=key, keep="all")
        stable = np.flatnonzero(np.asarray(every.outcome) == Outcome.STABLE)
        shares[j, k] = len(stable) / count
        if shares[j, k] < FEWEST or not every.rates[stable].any():
            continue
        # The same number of pairs for every network, so that one compiled program trains them all.
        last = max(1, len(stable) // 5)
        data, held_out = (
            (every.inputs[rows], every.rates[rows])
            for rows in (np.resize(stable[last:], count), np.resize(stable[:last], count // 5))
        )
        runs = train_many(data, validation=held_out, hidden=2, key=key, **plan)
        errors[j, k] = runs.errors[runs.best]
    labels = ("weight onto itself", "weight onto the other")
    ax = figures.error_map(errors, shares, own, cross, labels=labels)
    figures.save(ax, folder / "study_map.png")
    return {
        "w_self": own.tolist(), "w_cross": cross.tolist(), "error": errors.tolist(),
        "stable": shares.tolist(),
    }  # fmt: skip


def many_partitions(folder: Path, key: Array, inputs: int, plan: dict) -> dict[str, Any]:
    """Two to four partitions of two neurons each."""
    networks = {count: partitioned((2,) * count) for count in (2, 3, 4)}
    rows = _rows(networks, lambda n: (n, 4 * n, 16 * n), key, inputs, plan)
    curves = {
        f"{count} partitions": _curve([r for r in rows if r["name"] == count], "hidden")
        for count in networks
    }
    figures.save(figures.error_against(curves), folder / "study_partitions.png")
    return {"rows": rows}


def rings(folder: Path, key: Array, inputs: int, plan: dict) -> dict[str, Any]:
    """Rings over the strength of graded excitation; above 2 a bump forms spontaneously. In most
    restarts one of the 16 outputs becomes silent for good, hence four times the restarts."""
    plan = {**plan, "restarts": 4 * plan["restarts"]}
    strengths = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    networks = {w_1: ring(16, -4.0, w_1) for w_1 in strengths}
    rows = _rows(networks, lambda n: (n, 4 * n), key, inputs, plan)
    curves = {
        f"{size} hidden units": _curve([r for r in rows if r["hidden"] == size], "name")
        for size in (16, 64)
    }
    ax = figures.error_against(curves, xlabel="graded excitation $w_1$")
    ax.set_xscale("linear")
    ax.set_xticks(strengths, labels=[str(w) for w in strengths])
    figures.save(ax, folder / "study_ring.png")
    return {"rows": rows}


def random_networks(folder: Path, key: Array, inputs: int, plan: dict) -> dict[str, Any]:
    """Random E/I networks, at a gain for which all inputs settle."""
    networks = {
        n: random_ei(n, key=jax.random.fold_in(key, n), density=0.5 if n < 20 else 0.2)
        for n in (5, 10, 20, 50, 100)
    }
    rows = _rows(networks, lambda n: (n, 4 * n), key, inputs, plan)
    curves = {
        name: _curve([r for r in rows if r["hidden"] == factor * r["n"]], "n")
        for name, factor in (("n hidden units", 1), ("4 n hidden units", 4))
    }
    ax = figures.error_against(curves, xlabel="neurons n")
    figures.save(ax, folder / "study_random.png")
    return {"rows": rows}


def widths(folder: Path, key: Array, inputs: int, plan: dict) -> dict[str, Any]:
    """The reference network over the number of hidden units."""
    rows = _rows({"reference": partitioned()}, lambda n: WIDTHS, key, inputs, plan)
    ax = figures.error_against({"reference": _curve(rows, "hidden")})
    figures.save(ax, folder / "study_width.png")
    return {"rows": rows}


def reference_network(folder: Path, key: Array, inputs: int, plan: dict) -> dict[str, Any]:
    """All metrics of the reference network's approximations, with standard errors."""
    network = partitioned()
    keys = jax.random.split(key, 5)
    data, test = _samples(network, inputs, keys[0])
    models = {
        f"{size} hidden units": approximate(data, key=keys[1], hidden=size, **plan).model
        for size in (5, 64)
    }
    boundaries = {
        name: jackknife(lambda s, m=model: decision_boundary(s, m), test)
        for name, model in models.items()
    }
    figures.save(figures.misclassified(boundaries), folder / "study_boundary.png")
    signals = mixture_line(network.partitions, 5, jax.random.uniform(keys[2], (200,)))
    amplitudes = jnp.asarray([0.05, 0.1, 0.2, 0.4, 0.8])
    noise = {
        name: noise_rejection(network, model, signals, amplitudes, key=keys[3])
        for name, model in models.items()
    }
    figures.save(figures.noise_rejection(noise["5 hidden units"]), folder / "study_noise.png")
    oscillating = partitioned(w_ii=0.0)
    every = sample_fixed_points(oscillating, cube(), inputs, key=keys[4], keep="all")
    approximation = approximate(every, key=keys[1], **plan).model

    few = rows_of(test, slice(0, 4000))

    def with_errors(metric, test=test):
        value, error = jackknife(metric, test)
        return {"value": value, "standard_error": error}

    report: dict[str, Any] = {
        "recurrent": {
            "competition": with_errors(competition),
            "information_bits": with_errors(mutual_information, few),
        }
    }
    for name, model in models.items():
        report[name] = {
            "competition": with_errors(lambda s, m=model: competition(s, m)),
            "information_bits": with_errors(lambda s, m=model: mutual_information(s, m), few),
            "boundary": {"value": boundaries[name][0], "standard_error": boundaries[name][1]},
            "noise": noise[name],
            "evaluation": evaluate(model, test),
        }
    report["no stable fixed point"] = {
        kind.name: row for kind, row in unsettled_behaviour(every, approximation).items()
    }
    return plain(report)


def trained_cell(folder: Path, key: Array, inputs: int, plan: dict) -> dict[str, Any]:
    """A trained cell over the number of hidden units: what its readout says of an input that is
    held, (1 + bit) / 2, and the share of inputs of which all bits agree."""
    (cell, readout), loss = trained(16, jax.random.split(key, max(1, plan["steps"] // 2)))
    step = from_cell(cell).step
    memory = as_map(step, cell.hidden_size, 3, rates=lambda h: (1 + readout(h)) / 2)
    data, test = _samples(memory, inputs, key)
    rows = []
    for size in WIDTHS:
        runs = train_many(data, hidden=size, key=key, **plan)
        agree = jnp.all((runs.model.batch(test.inputs) > 0.5) == (test.rates > 0.5), axis=1)
        rows.append(
            {
                "name": "GRU, three bits",
                **_row(memory, size, runs, test),
                "bits_agree": float(agree.mean()),
                "bits_agree_se": float(agree.std() / jnp.sqrt(len(agree))),
            }
        )
    ax = figures.error_against({"GRU, three bits": _curve(rows, "hidden")})
    figures.save(ax, folder / "study_cell.png")
    return {"rows": rows, "cell_loss": float(loss)}


def plain(value: Any) -> Any:
    """Convert modules and arrays to dictionaries and lists, for JSON."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return np.asarray(value).tolist() if hasattr(value, "dtype") else value


PARTS: dict[str, Callable[[Path, Array, int, dict], dict[str, Any]]] = {
    "map": weight_space,
    "partitions": many_partitions,
    "ring": rings,
    "random": random_networks,
    "width": widths,
    "reference": reference_network,
    "cell": trained_cell,
}
