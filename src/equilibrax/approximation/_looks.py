"""What a training is judged by on its way: looks at validation data, the best weights so far."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from ._pieces import Batch

DIVERGED = 1e3
"""A loss this many times the first one is taken for divergence."""


def is_sound(losses: np.ndarray, first: np.ndarray | float) -> np.ndarray:
    """Which losses are those of a training that has not diverged from its first one."""
    return np.isfinite(losses) & (losses <= np.where(first > 0, DIVERGED * first, np.inf))


class Looks(NamedTuple):
    """When validation data are looked at, if there are any, and how often in vain."""

    judges: Batch | None
    every: int
    patience: int | None

    def fall_due(self, stop: int, steps: int) -> bool:
        """Whether the model is judged after `stop` of all steps."""
        return stop % self.every == 0 or stop == steps

    def in_vain(self, history: "History") -> bool:
        """Whether patience is at an end."""
        _, errors = history.looks
        if self.patience is None or not len(errors):
            return False
        return len(errors) - 1 - int(np.argmin(errors)) >= self.patience


class History(NamedTuple):
    """What is known of each step: its loss, and the validation loss after it or NaN."""

    losses: np.ndarray
    validation: np.ndarray

    def sound(self, losses: np.ndarray) -> int:
        """How many of the next steps' losses come before the training diverges."""
        fine = is_sound(losses, (self.losses if len(self.losses) else losses)[0])
        return len(losses) if fine.all() else int(np.argmin(fine))

    def extended(self, losses: np.ndarray, validation: float) -> "History":
        """With these steps more, judged after the last of them."""
        seen = np.full_like(losses, np.nan)
        seen[-1:] = validation
        return History(
            np.concatenate([self.losses, losses]), np.concatenate([self.validation, seen])
        )

    @property
    def looks(self) -> tuple[np.ndarray, np.ndarray]:
        """After how many steps the model was judged, and the error."""
        at = np.flatnonzero(~np.isnan(self.validation))
        return at + 1, self.validation[at]


class Best(eqx.Module):
    """The best parameters so far: their score, and after how many steps."""

    parameters: Any
    score: np.ndarray
    step: np.ndarray

    def unless_better(self, parameters: Any, score: float, step: int) -> "Best":
        """These, if their score is less."""
        if not score < float(self.score):
            return self
        return Best(parameters, np.asarray(score), np.asarray(step))
