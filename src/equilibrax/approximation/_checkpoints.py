"""Checkpoints of a training, by Orbax."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._extras import extra
from .._resumable import Kind, explained, taken_up

TRAINING = Kind("a training's checkpoints", "equilibrax-training", 2, re.compile("steps"))

KEPT = 2
"""Checkpoints kept on disk. Two, so that a complete one remains if the newest is not."""


class Checkpoints:
    """The checkpoints of one training: arrays, history and number of steps done."""

    def __init__(self, manager: Any):
        self.manager = manager

    def latest(self, arrays: Any, history: Any) -> tuple[int, Any, Any]:
        """Read the last checkpoint: steps done, arrays and history. Without a checkpoint, return 0
        and the arguments."""
        import orbax.checkpoint as ocp

        done = self.manager.latest_step()
        if done is None:
            return 0, arrays, history
        leaves, structure = jax.tree.flatten(arrays)
        columns = {name: np.zeros(done, column.dtype) for name, column in _columns(history)}
        like = {"arrays": _named(leaves), "history": columns}
        found = self.manager.restore(done, args=ocp.args.StandardRestore(like))
        leaves = [found["arrays"][name] for name in like["arrays"]]
        columns = {name: np.asarray(column) for name, column in found["history"].items()}
        return done, jax.tree.unflatten(structure, leaves), type(history)(**columns)

    def save(self, done: int, arrays: Any, history: Any) -> None:
        """Save after `done` steps; a thread writes to the disk while training continues."""
        import orbax.checkpoint as ocp

        content = {"arrays": _named(jax.tree.leaves(arrays)), "history": dict(_columns(history))}
        self.manager.save(done, args=ocp.args.StandardSave(content))


def _columns(history: Any) -> Iterable[tuple[str, np.ndarray]]:
    return history._asdict().items()


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {f"{k:04d}": leaf for k, leaf in enumerate(leaves)}


@contextlib.contextmanager
def checkpoints_in(path: Path, settings: dict[str, Any]) -> Iterator[Checkpoints]:
    """Open the checkpoints in a folder; the block's end waits until all are written.

    **Raises:** as `taken_up`; `ImportError` without Orbax.
    """
    with extra("checkpoints", "a training with checkpoints"):
        import orbax.checkpoint as ocp
    options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True)
    with taken_up(path, TRAINING, settings), explained(path):
        manager = ocp.CheckpointManager((path / "steps").absolute(), options=options)
        with contextlib.closing(manager):
            yield Checkpoints(manager)
            manager.wait_until_finished()
