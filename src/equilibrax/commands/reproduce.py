"""The paper's pipeline: settle, discard unstable inputs, train, compare, and draw.

Muir, Neural Computation 30:546 (2018), doi:10.1162/neco_a_01042, on the two-partition
network {N, w_E, w_I, b} = {5, 2.5, 8, 0}.
"""

import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks, figures
from .._files import atomic_folder, write_json
from ..approximation import (
    FeedForward,
    approximate,
    competition,
    partition_sums,
    save_model,
    switch_point,
)
from ..fixed_points import find_fixed_points
from ..networks import RateNetwork, partitioned
from ..sampling import Samples, UniformCube, mixture_line, sample_fixed_points, split
from .benchmark import hardware

ORACLES = {
    "stable": 1.0,
    "one_active": 0.808,
    "none_active": 0.192,
    "several_active": 0.0,
    "partly_active": 0.150,
    "rectified_sum": 0.971,
    "raw_sum": 0.884,
    "positive_inputs_winner": 1.0,
    "positive_inputs_raw_sum": 0.969,
    "switch": 0.5,
    "gain": 2.25,
    "offset": 2.25,
    "abscissa_one_partition": -1.0,
    "abscissa_all_active": 4.0,
}
"""Known values for the reference network, with x0 = 0 and inputs uniform on (-1, 1)^5: exact, or
from one million inputs, with standard errors below 0.0005."""


def reproduce(
    out: str | os.PathLike,
    *,
    inputs: int = 1_000_000,
    test_inputs: int = 50_000,
    widths: tuple[int, ...] = (5, 10, 64, 200),
    restarts: int = 48,
    steps: int = 8000,
    seed: int = 0,
    force: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Run the whole pipeline and write three figures and `report.json` into a folder.

    **Arguments:**

    - `out`: the folder, created if absent; it must be empty unless `force`.
    - `inputs`: number of inputs settled for training and validation.
    - `test_inputs`: number of inputs settled for the held-out test set.
    - `widths`: numbers of hidden units; the figures show the first, and the decisions of the widest
      of at most 64 beside it.
    - `restarts`: number of networks trained for each width below 50; an eighth of it from 50 on.
    - `steps`: number of steps of Adam.
    - `seed`: seed of all random numbers.
    - `force`: write into a folder that is not empty.
    - `progress`: show progress bars, unless the standard error is not a terminal.

    **Returns:** the content of `report.json`: measured values beside the known ones, and a table of
    the approximations by width.

    **Raises:** `FileExistsError` for a folder that is not empty, before anything is computed;
    `ValueError` for arguments out of range; `OSError` from the disk, in which case no partial
    results are left.
    """
    inputs = _checks.integer("inputs", inputs, minimum=20)
    test_inputs = _checks.integer("test_inputs", test_inputs, minimum=10)
    widths = _checks.sizes("widths", widths)
    if not widths:
        _checks.fail("widths", "hold at least one number of hidden units", "is empty")
    restarts = _checks.integer("restarts", restarts)
    steps = _checks.integer("steps", steps)
    seed = _checks.integer("seed", seed, minimum=0)
    with atomic_folder(out, overwrite=force) as folder:
        network = partitioned()
        key = jax.random.key(seed)
        started = time.perf_counter()
        total = inputs + test_inputs
        cube = UniformCube(-1.0, 1.0)
        samples = sample_fixed_points(network, cube, total, key=key, progress=progress)
        settled_s = time.perf_counter() - started
        table, models = [], []
        for width in widths:
            started = time.perf_counter()
            fitted = approximate(
                samples,
                test_share=test_inputs / total,
                hidden=width,
                restarts=restarts if width < 50 else max(1, restarts // 8),
                steps=steps,
                key=jax.random.fold_in(key, width),
                progress=progress,
            )
            found = fitted.evaluation
            table.append(
                {
                    "hidden": width,
                    "restarts": len(fitted.validation_errors),
                    "normalised_error": float(found.normalised_error),
                    "winner_agreement": float(found.winner_agreement),
                    "switch": float(found.switch),
                    "test_inputs": found.num_inputs,
                    "seconds": time.perf_counter() - started,
                }
            )
            models.append(fitted.model)
        measured = measure(network, samples)
        report = {
            "network": {"N": 5, "w_E": 2.5, "w_I": 8.0, "b": 0.0, "convention": "voltage"},
            "settings": {
                "inputs": inputs,
                "test_inputs": test_inputs,
                "steps": steps,
                "seed": seed,
            },
            "counts": {outcome.name: count for outcome, count in samples.counts.items()},
            "discarded": samples.discarded,
            "recurrent": {
                name: {"measured": measured[name], "oracle": oracle}
                for name, oracle in ORACLES.items()
            },
            "approximations": table,
            "settling_seconds": settled_s,
            "hardware": hardware(),
        }
        _, test = split(samples, (inputs, test_inputs))
        draw(folder, network, dict(zip(widths, models, strict=True)), test)
        save_model(folder / "model.safetensors", models[0])
        write_json(folder / "report.json", report)
    return report


def measure(network: RateNetwork, samples) -> dict[str, float]:
    """Measure the values of `ORACLES`."""
    measured = {"stable": 1 - samples.discarded, **competition(samples)}

    positive = UniformCube(jnp.zeros(5), jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0]))
    key = jax.random.key(1)
    contest = competition(sample_fixed_points(network, positive, samples.drawn, key=key))
    measured["positive_inputs_winner"] = contest["one_active"]
    measured["positive_inputs_raw_sum"] = contest["raw_sum"]

    mixture = jnp.linspace(0, 1, 1001)
    line = mixture_line(network.partitions, network.num_neurons, mixture)
    rates = find_fixed_points(network, line).rates
    measured["switch"] = float(switch_point(rates, mixture, network.partitions))
    below = np.asarray(mixture) < 0.499
    sums = np.asarray(partition_sums(rates, network.partitions))[below, 0]
    contrast = 1 - 2 * np.asarray(mixture)[below]
    measured["gain"], measured["offset"] = (float(c) for c in np.polyfit(contrast, sums, 1))

    def abscissa(active):
        state = jnp.where(jnp.asarray(active), 1.0, -1.0)
        jacobian = network.jacobian(state, jnp.zeros(5))
        return float(np.real(np.linalg.eigvals(np.asarray(jacobian))).max())

    measured["abscissa_one_partition"] = abscissa([True, True, False, False, True])
    measured["abscissa_all_active"] = abscissa([True] * 5)
    return measured


def draw(folder: Path, network: RateNetwork, models: dict[int, FeedForward], test: Samples) -> None:
    """Write the three figures as PNG, of the models by their numbers of hidden units."""
    first, model = next(iter(models.items()))
    wide = max((width for width in models if width <= 64), default=first)
    beside = {f"{width} hidden units": models[width] for width in dict.fromkeys((first, wide))}
    pictures = {
        "fig1_architectures": figures.architectures(network, model),
        "fig2_mixture": figures.mixture_response(network, model),
        "fig3_decision": figures.decision_boundaries(network, beside, test),
    }
    for name, figure in pictures.items():
        figures.save(figure, folder / f"{name}.png")
