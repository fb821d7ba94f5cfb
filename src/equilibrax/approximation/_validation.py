"""Validation during training: losses, early stopping, the best parameters so far."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from ._chunks import Batch

DIVERGED = 1e3
"""A loss of more than this many times the first one counts as divergence."""


def is_bounded(losses: np.ndarray, first: np.ndarray | float) -> np.ndarray:
    """Whether each loss is finite and at most `DIVERGED` times the first one."""
    return np.isfinite(losses) & (losses <= np.where(first > 0, DIVERGED * first, np.inf))


class Validation(NamedTuple):
    """Validation pairs, or None; the steps between two validations; and the patience."""

    pairs: Batch | None
    every: int
    patience: int | None

    def is_due(self, stop: int, steps: int) -> bool:
        """Whether the model is validated after `stop` of `steps` steps."""
        return stop % self.every == 0 or stop == steps

    def is_out_of_patience(self, history: "History") -> bool:
        """Whether the last `patience` validations brought no new least loss."""
        _, losses = history.validations
        if self.patience is None or not len(losses):
            return False
        return len(losses) - 1 - int(np.argmin(losses)) >= self.patience


class History(NamedTuple):
    """The loss of each step, and the validation loss after it; NaN where there was no validation.

    Checkpoints store both under these names.
    """

    losses: np.ndarray
    validation: np.ndarray

    def num_bounded(self, losses: np.ndarray) -> int:
        """Number of the next steps' losses before the training diverges."""
        bounded = is_bounded(losses, (self.losses if len(self.losses) else losses)[0])
        return len(losses) if bounded.all() else int(np.argmin(bounded))

    def extended(self, losses: np.ndarray, validation: float) -> "History":
        """Append these steps, with the validation loss after the last of them."""
        column = np.full_like(losses, np.nan)
        column[-1:] = validation
        return History(
            np.concatenate([self.losses, losses]), np.concatenate([self.validation, column])
        )

    @property
    def validations(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of steps before each validation, and its loss."""
        at = np.flatnonzero(~np.isnan(self.validation))
        return at + 1, self.validation[at]


class Best(eqx.Module):
    """The parameters of the least score so far, the score, and the number of steps before it."""

    parameters: Any
    score: np.ndarray
    step: np.ndarray

    def updated(self, parameters: Any, score: float, step: int) -> "Best":
        """Return the new parameters if their score is less, else the old ones."""
        if not score < float(self.score):
            return self
        return Best(parameters, np.asarray(score), np.asarray(step))
