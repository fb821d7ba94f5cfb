"""`Approximation`: a feed-forward network with the recurrent one it approximates, and its file."""

import itertools
import os
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._settings import described, rebuilt
from .._types import Vector
from ..fixed_points import Flow, Outcome
from ..networks import AbstractDynamics
from ..sampling._header import READABLE
from ._export import (
    NAMES,
    Format,
    arrays_of,
    is_array,
    kind_of,
    model_of,
    read_tensors,
    write_tensors,
)
from ._feedforward import FeedForward
from ._metrics import Evaluation
from ._verified import Verified, verified


class Approximation(eqx.Module):
    """A feed-forward approximation of a recurrent network.

    - `network`: the recurrent network.
    - `model`: the best `FeedForward` by validation; calling the approximation calls it.
    - `evaluation`: `Evaluation` on the test split, used neither for training nor for the choice.
    - `validation_errors`: normalised error of each restart, shape `(restarts,)`.
    - `losses`: mean squared error of each restart and step, shape `(restarts, steps)`.
    - `dead_units`: number of hidden units of each restart that are never active, shape
      `(restarts,)`.
    - `drawn`, `counts`: number of inputs settled, in all and in each outcome.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    apx = eqb.approximate(samples, hidden=16, restarts=2, steps=1000, key=jax.random.key(1))
    print(apx.model.hidden_size, apx.validation_errors.shape, apx.losses.shape)
    # > 16 (2,) (2, 1000)
    print(apx(jnp.asarray([0.6, 0.6, 0.1, 0.1, 0.0])).shape)
    # > (5,)
    ```
    """

    network: AbstractDynamics
    model: FeedForward
    evaluation: Evaluation
    validation_errors: Float[Array, " restarts"]
    losses: Float[Array, "restarts steps"]
    dead_units: Int[Array, " restarts"]
    drawn: int
    counts: dict[Outcome, int]

    def __call__(self, i: Vector) -> Vector:
        """The approximation's output for one input."""
        return self.model(i)

    def verified(self, inputs: Float[Array, "m n"], *, method: Flow | None = None) -> Verified:
        """Fixed points of the recurrent network, exact to rounding, from the model's proposals.

        The feed-forward network proposes an active set for each row: its active output units. The
        active set has one candidate fixed point, found by one linear solve. Where the candidate
        lies in its own chamber and its Jacobian is Hurwitz, it is a stable fixed point. All other
        rows are settled by their trajectory.

        **In a multistable network a verified point is a stable fixed point, but it is not proven
        to be the fixed point that the trajectory reaches.** `verified` holds the verdict of each
        row.

        **Arguments:**

        - `inputs`: shape `(m, n)`.
        - `method`: the `Flow` for rows that are not verified.

        **Returns:** a `Verified`.

        **Raises:** `ValueError` for a network that is not threshold-linear, and inside `jax.jit`.
        """
        return verified(self.network, self.model, inputs, method)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write all fields to one safetensors file, for `load_approximation`.

        The model's weights have the same names as in a file of `save_model`; values that are not
        arrays are in the file's JSON header.

        **Arguments:**

        - `path`: path of the file.
        - `overwrite`: replace an existing file.

        **Raises:** `FileExistsError` if the file exists and may not be replaced; `ValueError` for a
        network with a class or transfer function of your own, which no file can hold (`save_model`
        writes the weights); `OSError` from the disk, in which case no partial file is left.
        """
        parts = _described(self)
        try:
            _rebuilt(parts, self.model)
        except LookupError as error:
            raise ValueError(f"{error}: save_model(path, apx.model) keeps the weights.") from error
        arrays = {**arrays_of(self.model), **{k: v for k, v in parts.items() if is_array(v)}}
        plain = {k: v for k, v in parts.items() if k not in arrays} | kind_of(self.model)
        write_tensors(path, FORMAT, arrays, plain, overwrite=overwrite)


FORMAT = Format("equilibrax-approximation", 1)


def load_approximation(path: str | os.PathLike) -> Approximation:
    """Read an `Approximation` from a file written by its `save`.

    **Arguments:**

    - `path`: path of the file.

    **Returns:** the `Approximation`, equal to the saved one.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is damaged, has other content, or
    was written by a newer version.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    apx = eqb.approximate(samples, hidden=16, restarts=2, steps=1000, key=jax.random.key(1))
    apx.save("apx.safetensors")
    again = eqb.load_approximation("apx.safetensors")
    print((again.model.weights1 == apx.model.weights1).all(), again.network.partitions)
    # > True (2, 2)
    ```
    """
    arrays, plain = read_tensors(path, FORMAT)
    try:
        rectified = plain.pop("rectified", True)
        model = model_of({name: arrays.pop(name) for name in NAMES}, rectified)
        return _rebuilt({**arrays, **plain}, model)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold a whole approximation: {error}.") from error


PARTS = ("network", "evaluation", "validation_errors", "losses", "dead_units", "drawn")


def _described(approximation: Approximation) -> dict[str, Any]:
    """All fields except the model, flattened to settings by name."""
    counts = {f"counts.{kind.name}": n for kind, n in approximation.counts.items()}
    parts = [described(getattr(approximation, part), part) for part in PARTS]
    return dict(itertools.chain(counts.items(), *(part.items() for part in parts)))


def _rebuilt(parts: dict[str, Any], model: FeedForward) -> Approximation:
    """Inverse of `_described`."""
    classes = {**READABLE, "Evaluation": Evaluation}
    counts = {kind: parts[f"counts.{kind.name}"] for kind in Outcome}
    network, *rest = (rebuilt(parts, part, classes) for part in PARTS)
    if model.weights1.shape[1] != network.num_inputs:
        held = f"a model of {model.weights1.shape[1]} inputs for {network.num_inputs}"
        raise ValueError(f"it holds {held}")
    rest = jax.tree.map(lambda a: jnp.asarray(a) if is_array(a) else a, rest)
    evaluation, errors, losses, dead, drawn = rest
    return Approximation(network, model, evaluation, errors, losses, dead, drawn, counts)
