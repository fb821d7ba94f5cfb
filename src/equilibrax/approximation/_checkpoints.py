"""Checkpoints of a training, by Orbax: a killed one goes on from its last."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._resumable import Kind, explained, taken_up

TRAINING = Kind("a training's checkpoints", "equilibrax-training", 1, re.compile("steps"))

KEPT = 2
"""Checkpoints that stay; the last one is whole whenever the one after it is not."""


class Checkpoints:
    """The checkpoints of one training: its arrays, its losses and the number of steps done."""

    def __init__(self, manager: Any):
        self.manager = manager

    def latest(self, arrays: Any, losses: np.ndarray) -> tuple[int, Any, np.ndarray]:
        """Steps done, the arrays and the losses of the last checkpoint; none, and those given, if
        there is no checkpoint."""
        import orbax.checkpoint as ocp

        done = self.manager.latest_step()
        if done is None:
            return 0, arrays, losses
        leaves, structure = jax.tree.flatten(arrays)
        like = {"arrays": _named(leaves), "losses": np.zeros(done, losses.dtype)}
        found = self.manager.restore(done, args=ocp.args.StandardRestore(like))
        leaves = [found["arrays"][name] for name in like["arrays"]]
        return done, jax.tree.unflatten(structure, leaves), np.asarray(found["losses"])

    def save(self, done: int, arrays: Any, losses: np.ndarray) -> None:
        """Save after so many steps; the disk is written while the training goes on."""
        import orbax.checkpoint as ocp

        content = {"arrays": _named(jax.tree.leaves(arrays)), "losses": losses}
        self.manager.save(done, args=ocp.args.StandardSave(content))


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {f"{k:04d}": leaf for k, leaf in enumerate(leaves)}


@contextlib.contextmanager
def checkpoints_in(path: Path, settings: dict[str, Any]) -> Iterator[Checkpoints]:
    """The checkpoints in this folder, all of which are written when the block ends.

    **Raises:** as `taken_up`; `ImportError` without Orbax.
    """
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(
            "checkpoints need Orbax: pip install 'equilibrax[checkpoints]'"
        ) from error
    options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True)
    with taken_up(path, TRAINING, settings), explained(path):
        manager = ocp.CheckpointManager((path / "steps").absolute(), options=options)
        with contextlib.closing(manager):
            yield Checkpoints(manager)
            manager.wait_until_finished()
