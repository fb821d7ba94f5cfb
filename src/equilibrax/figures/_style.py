"""Colours, axes and files, for every picture.

Colours are Okabe and Ito's, which colour-blind readers tell apart.
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
"""The colour of each outcome, in every picture."""


def axes_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """These axes, or new ones of this size, in inches."""
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def save(picture: Figure | Axes, path: str | os.PathLike) -> None:
    """Write a picture, by the ending of its name, and close it.

    **Arguments:**

    - `picture`: a figure, or axes in one.
    - `path`: the file, such as `plane.png`, `plane.pdf` or `plane.svg`; its folder is made, if
      there is none.

    **Raises:** `ValueError` for an ending that Matplotlib does not know.

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
