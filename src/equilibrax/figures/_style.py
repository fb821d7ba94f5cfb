"""Colours, axes and files of all figures.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..fixed_points import Outcome

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8C8C8C"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"

OUTCOMES = {
    Outcome.STABLE: BLUE,
    Outcome.MARGINAL: SKY,
    Outcome.UNSTABLE: ORANGE,
    Outcome.OSCILLATING: GREEN,
    Outcome.DIVERGED: RED,
    Outcome.NOT_SETTLED: PURPLE,
    Outcome.INVALID: GREY,
}
"""The colour of each outcome, in all figures."""


def axes_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or new axes of this size in inches."""
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def save(picture: Figure | Axes, path: str | os.PathLike) -> None:
    """Write a figure to a file, and close it.

    **Arguments:**

    - `picture`: a figure, or axes in a figure.
    - `path`: path of the file, such as `plane.png`, `plane.pdf` or `plane.svg`; the ending selects
      the format, and the folder is created if absent.

    **Raises:** `ValueError` for a format that Matplotlib does not support.

    **Example:**

    ```python
    from pathlib import Path

    eqb.figures.save(eqb.figures.training_curves(0.9 ** jnp.arange(100.0)), "losses.png")
    print(Path("losses.png").exists())
    # > True
    ```
    """
    figure = picture.figure.figure  # not a SubFigure
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    plt.close(figure)
