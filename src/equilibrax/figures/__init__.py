"""Figures of networks, responses and decisions, by Matplotlib.

Every function draws into the axes given, or into new axes, and returns them. The colours are those
of Okabe and Ito, which colour-blind readers can distinguish.
"""

from .._extras import extra as _extra

with _extra("figures", "figures"):
    import matplotlib as _matplotlib  # noqa: F401

from ._analysis import (
    cycle as cycle,
    hysteresis as hysteresis,
    slow_points as slow_points,
    spectrum as spectrum,
)
from ._families import basins as basins, branch as branch, outcome_map as outcome_map
from ._measured import (
    error_against as error_against,
    error_map as error_map,
    misclassified as misclassified,
    noise_rejection as noise_rejection,
    solve_against_forward as solve_against_forward,
    training_curves as training_curves,
)
from ._paper import (
    architectures as architectures,
    decision_boundaries as decision_boundaries,
    decision_boundary as decision_boundary,
    mixture_response as mixture_response,
)
from ._plane import phase_plane as phase_plane
from ._responses import outcomes as outcomes, tuning as tuning
from ._style import (
    BLUE as BLUE,
    GREEN as GREEN,
    GREY as GREY,
    ORANGE as ORANGE,
    OUTCOMES as OUTCOMES,
    PURPLE as PURPLE,
    RED as RED,
    SKY as SKY,
    YELLOW as YELLOW,
    save as save,
)
