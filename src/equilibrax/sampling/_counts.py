"""Sums of outcome counts."""

from collections.abc import Mapping

from ..fixed_points import Outcome


def add_counts(*counts: Mapping[Outcome, int]) -> dict[Outcome, int]:
    """Sum over the arguments for each outcome, in the enum's order; zeros without arguments."""
    return {outcome: sum(part[outcome] for part in counts) for outcome in Outcome}
