"""Feed-forward weights on disk, in safetensors: readable by any framework."""

import os
from pathlib import Path

import jax.numpy as jnp
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from ._feedforward import FeedForward

FORMAT = "equilibrax-feedforward-1"
"""Name and version of the layout."""

_NAMES = ("weights1", "bias1", "weights2", "bias2")


def save_model(path: str | os.PathLike, model: FeedForward, *, overwrite: bool = False) -> None:
    """Write a model's four arrays, under their field names, to a safetensors file.

    **Raises:** `FileExistsError` if the file exists and may not be replaced; `OSError`
    from the disk, in which case nothing is left behind and an older file stays.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it.")
    import numpy as np

    arrays = {name: np.asarray(getattr(model, name)) for name in _NAMES}
    unfinished = path.with_name(path.name + f".{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(safetensors.numpy.save(arrays, metadata={"format": FORMAT}))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_model(path: str | os.PathLike) -> FeedForward:
    """Read a model back.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is damaged, holds other
    arrays, or was written by a newer version.
    """
    try:
        with safetensors.safe_open(Path(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("format") != FORMAT or set(arrays) != set(_NAMES):
        raise ValueError(f"{path} holds no model that this version reads ({FORMAT}).")
    model = object.__new__(FeedForward)
    for name in _NAMES:
        object.__setattr__(model, name, jnp.asarray(arrays[name]))
    return model
