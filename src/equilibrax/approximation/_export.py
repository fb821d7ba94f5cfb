"""Feed-forward weights on disk, in safetensors: readable by any framework."""

import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._files import write_whole
from ._feedforward import FeedForward

FORMAT = "equilibrax-feedforward-1"
"""Name and version of the layout."""

_NAMES = ("weights1", "bias1", "weights2", "bias2")


def save_model(path: str | os.PathLike, model: FeedForward, *, overwrite: bool = False) -> None:
    """Write a model's four arrays, under their field names, to a safetensors file.

    **Raises:** `FileExistsError` if the file exists and may not be replaced; `OSError`
    from the disk, in which case nothing is left behind and an older file stays.
    """
    # Here, since the core works without it.
    import safetensors.numpy

    arrays = {name: np.asarray(getattr(model, name)) for name in _NAMES}
    content = safetensors.numpy.save(arrays, metadata={"format": FORMAT})
    write_whole(path, lambda file: file.write(content), overwrite=overwrite)


def load_model(path: str | os.PathLike) -> FeedForward:
    """Read a model back.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is damaged, holds other
    arrays, or was written by another version.
    """
    import safetensors

    try:
        with safetensors.safe_open(Path(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("format") != FORMAT or set(arrays) != set(_NAMES):
        raise ValueError(f"{path} holds no model that this version reads ({FORMAT}).")
    weights1, bias1, weights2, bias2 = (jnp.asarray(arrays[name]) for name in _NAMES)
    sizes = (weights1.shape[1], weights1.shape[0], weights2.shape[0])
    blank = eqx.filter_eval_shape(lambda: FeedForward(*sizes, key=jax.random.key(0)))
    return eqx.tree_at(
        lambda m: (m.weights1, m.bias1, m.weights2, m.bias2),
        blank,
        (weights1, bias1, weights2, bias2),
    )
