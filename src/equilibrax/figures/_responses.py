"""Figures of a network's responses, `tuning`, and of the outcomes of a batch, `outcomes`."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes

from .. import _checks
from ..approximation import forward
from ..fixed_points import FixedPoints, Flow, Outcome, find_fixed_points
from ..networks import AbstractDynamics
from ..sampling import Samples, SampleStore
from ._style import OUTCOMES, axes_of


def tuning(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    values: Float[Array, " m"],
    *,
    model: Any = None,
    neurons: Sequence[int] | None = None,
    xlabel: str = "stimulus",
    method: Flow | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the rates of neurons at the fixed point, $r_j(x^*(i(s)))$, against a stimulus s.

    The network is solid, with gaps where it has no stable fixed point; the approximation is dashed,
    in the same colour.

    **Arguments:**

    - `network`: any dynamics that `find_fixed_points` accepts.
    - `inputs`: i(s), shape `(m, k)`, one for each value.
    - `values`: s, shape `(m,)`, in the stimulus' own unit.
    - `model`: an approximation of the network, such as a `FeedForward`.
    - `neurons`: the neurons drawn, counted from 0; up to eight, evenly spaced, if absent.
    - `xlabel`: name of s.
    - `method`: a `Flow`.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Raises:** as `find_fixed_points`; `ValueError` for a number of values other than that of
    inputs, or a neuron out of range.

    **Example:**

    ```python
    angles = jnp.linspace(-jnp.pi, jnp.pi, 64, endpoint=False)
    network = eqb.ring(8, w_0=-4.0, w_1=3.0)
    preferred = 2 * jnp.pi * jnp.arange(8) / 8
    inputs = 1 + 0.2 * jnp.cos(angles[:, None] - preferred)
    ax = eqb.figures.tuning(network, inputs, angles, neurons=[0, 2], xlabel="angle")
    peaks = [line.get_xdata()[jnp.nanargmax(line.get_ydata())] for line in ax.get_lines()]
    print([f"{abs(peak) / jnp.pi:.1f}" for peak in peaks])  # in units of pi
    # > ['0.0', '0.5']
    ```
    """
    stimulus = _checks.floating("values", values)
    _checks.finite("values", stimulus)
    stimulus, shape = np.asarray(stimulus), np.shape(inputs)
    if len(shape) != 2 or not shape[0]:
        _checks.fail("inputs", "have shape (m, k), m at least 1", f"has shape {shape}")
    if stimulus.shape != shape[:1]:
        must = f"have shape ({shape[0]},), one for each input"
        _checks.fail("values", must, f"has shape {stimulus.shape}")
    found = find_fixed_points(network, inputs, method=method)
    rates = np.where(np.asarray(found.stable)[:, None], found.rates, np.nan)
    guess = None if model is None else np.asarray(forward(model, jnp.asarray(inputs)))
    count = rates.shape[1]
    if neurons is None:
        neurons = sorted(set(np.linspace(0, count - 1, min(count, 8)).round().astype(int).tolist()))
    neurons = [_checks.integer("neurons", j, minimum=0) for j in neurons]
    for j in neurons:
        if j >= count:
            _checks.fail("neurons", f"be from 0 to {count - 1}", f"holds {j}")
    ax = axes_of(ax, (5.4, 3.6))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(neurons)))
    for j, colour in zip(neurons, colours, strict=True):
        ax.plot(stimulus, rates[:, j], color=colour, lw=1.7, label=f"neuron {j}")
        if guess is not None:
            ax.plot(stimulus, guess[:, j], color=colour, lw=1.4, ls=(0, (4, 2)))
    ax.set(xlabel=xlabel, ylabel="rate at the fixed point", xlim=(stimulus.min(), stimulus.max()))
    if guess is not None:
        ax.plot([], [], color="0.4", lw=1.7, label="network")
        ax.plot([], [], color="0.4", lw=1.4, ls=(0, (4, 2)), label="approximation")
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def outcomes(found: FixedPoints | Samples | SampleStore, *, ax: Axes | None = None) -> Axes:
    """Draw the share and the count of each `Outcome` in a batch.

    Outcomes that do not occur have an empty bar. For `FixedPoints`, the certified part of each bar
    is filled and the rest is pale.

    **Arguments:**

    - `found`: the result of `find_fixed_points`, of any batch shape, `sample_fixed_points` or
      `sample_to_store`.
    - `ax`: the axes to draw into; new axes if absent.

    **Returns:** the axes.

    **Raises:** `TypeError` for other values; `ValueError` for an empty batch.

    **Example:**

    ```python
    network = eqb.partitioned(w_ii=0.0)  # half of whose inputs never settle
    inputs = jax.random.uniform(jax.random.key(0), (512, 5), minval=-1, maxval=1)
    ax = eqb.figures.outcomes(eqb.find_fixed_points(network, inputs))
    print([label.get_text() for label in ax.get_yticklabels()][:4])
    # > ['STABLE', 'MARGINAL', 'UNSTABLE', 'OSCILLATING']
    ```
    """
    makers = "find_fixed_points, sample_fixed_points or sample_to_store"
    _checks.returned_by("found", found, FixedPoints | Samples | SampleStore, makers)
    counts = np.asarray([found.counts[kind] for kind in Outcome])
    total = int(counts.sum())
    if not total:
        _checks.fail("found", "hold at least one input", "is empty")
    proven = None
    if isinstance(found, FixedPoints):
        ended, certified = np.asarray(found.outcome), np.asarray(found.certified)
        proven = np.asarray([np.sum(certified & (ended == kind)) for kind in Outcome])
    ax = axes_of(ax, (5.4, 2.8))
    colours = [OUTCOMES[kind] for kind in Outcome]
    places = np.arange(len(Outcome))
    whole = 1.0 if proven is None else 0.4
    bars = ax.barh(places, counts / total, color=colours, alpha=whole, height=0.7)
    if proven is not None:
        ax.barh(places, proven / total, color=colours, height=0.7)
    for bar, count in zip(bars, counts, strict=True):
        middle = bar.get_y() + bar.get_height() / 2
        text = f" {count:,} ({100 * count / total:.3g} %)" if count else " 0"
        ax.text(bar.get_width(), middle, text, va="center", fontsize=8)
    ax.set(xlim=(0, 1.3), xlabel=f"share of {total:,} inputs")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.set_yticks(places, [kind.name for kind in Outcome])
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    if proven is not None and proven.any():
        share = 100 * proven.sum() / total
        ax.set_title(f"filled: certified, {share:.4g} % of all", fontsize=8, loc="left")
    return ax
