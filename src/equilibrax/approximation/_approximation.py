"""`Approximation`: a feed-forward network that stands in for a recurrent one, whole or on disk."""

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
from ._export import NAMES, Format, arrays_of, is_array, model_of, read_tensors, write_tensors
from ._feedforward import FeedForward
from ._metrics import Evaluation
from ._verified import Verified, verified


class Approximation(eqx.Module):
    """A feed-forward network that stands in for a recurrent one.

    - `network`: the recurrent network.
    - `model`: the best `FeedForward` by validation; calling the approximation calls it.
    - `evaluation`: on the test split, which neither training nor choice has seen.
    - `validation_errors`: normalised error of each restart, shape `(restarts,)`.
    - `losses`: of each restart and step, shape `(restarts, steps)`.
    - `dead_units`: hidden units of each restart that are never active, shape `(restarts,)`.
    - `drawn`, `counts`: the inputs settled for it, and how they ended.

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
        """Answers that are fixed points of the recurrent network, exact to rounding.

        The feed-forward network proposes the active set of each row: the units that it leaves
        active. That set has one candidate fixed point, by one linear solve. Where the point lies in
        its own chamber and its Jacobian is Hurwitz, it is a stable fixed point. All other rows
        fall back to their trajectory.

        **In a multistable network a verified point is a stable fixed point, but not proven to be
        the one that the trajectory reaches.** Each row says whether it was verified.

        **Arguments:**

        - `inputs`: shape `(m, n)`.
        - `method`: how the others are settled, as for `find_fixed_points`.

        **Returns:** a `Verified`.

        **Raises:** `ValueError` for a network that is not threshold-linear, and inside `jax.jit`.
        """
        return verified(self.network, self.model, inputs, method)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write everything that this holds to one safetensors file, from which `load_approximation`
        makes it again.

        The weights stand in it under the names that `save_model` gives them; what are no arrays
        is in the file's JSON header.

        **Arguments:**

        - `path`: of the file.
        - `overwrite`: replace a file that exists.

        **Raises:** `FileExistsError` if the file exists and may not be replaced; `ValueError` for a
        network of a class, or with a transfer function, of your own, which no file can hold
        (`save_model` keeps the weights); `OSError` from the disk, with nothing left behind.
        """
        parts = _described(self)
        try:
            _rebuilt(parts, self.model)
        except LookupError as error:
            raise ValueError(f"{error}: save_model(path, apx.model) keeps the weights.") from error
        arrays = {**arrays_of(self.model), **{k: v for k, v in parts.items() if is_array(v)}}
        plain = {k: v for k, v in parts.items() if k not in arrays}
        write_tensors(path, FORMAT, arrays, plain, overwrite=overwrite)


FORMAT = Format("equilibrax-approximation", 1)


def load_approximation(path: str | os.PathLike) -> Approximation:
    """Read an `Approximation` back from the file that its `save` wrote.

    **Arguments:**

    - `path`: of the file.

    **Returns:** the `Approximation`, as it was saved.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is damaged, holds something else,
    or was written by a newer version.

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
        model = model_of({name: arrays.pop(name) for name in NAMES})
        return _rebuilt({**arrays, **plain}, model)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold a whole approximation: {error}.") from error


PARTS = ("network", "evaluation", "validation_errors", "losses", "dead_units", "drawn")


def _described(approximation: Approximation) -> dict[str, Any]:
    """All but the model, by name."""
    counts = {f"counts.{kind.name}": n for kind, n in approximation.counts.items()}
    parts = [described(getattr(approximation, part), part) for part in PARTS]
    return dict(itertools.chain(counts.items(), *(part.items() for part in parts)))


def _rebuilt(parts: dict[str, Any], model: FeedForward) -> Approximation:
    classes = {**READABLE, "Evaluation": Evaluation}
    counts = {kind: parts[f"counts.{kind.name}"] for kind in Outcome}
    network, *rest = (rebuilt(parts, part, classes) for part in PARTS)
    if model.weights1.shape[1] != network.num_inputs:
        held = f"a model of {model.weights1.shape[1]} inputs for {network.num_inputs}"
        raise ValueError(f"it holds {held}")
    rest = jax.tree.map(lambda a: jnp.asarray(a) if is_array(a) else a, rest)
    evaluation, errors, losses, dead, drawn = rest
    return Approximation(network, model, evaluation, errors, losses, dead, drawn, counts)
