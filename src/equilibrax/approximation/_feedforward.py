"""The feed-forward network of two layers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import _checks
from .._types import Vector


class FeedForward(eqx.Module):
    r"""Two threshold-linear layers, thresholds subtracted:

    $$x^1 = [W^1 i - b^1]_+, \qquad x^2 = [W^2 x^1 - b^2]_+.$$

    **Arguments:**

    - `in_size`: n, the length of an input.
    - `hidden_size`: number of hidden units.
    - `out_size`: length of the output.
    - `key`: PRNG key of the initial weights, which are normal with variance 2 / fan-in (He et al.
      2015, doi:10.1109/ICCV.2015.123). Output thresholds start at -0.5, so that no output is
      silent for all inputs before training (with thresholds of zero, a third were).
    - `dtype`: dtype of the weights; JAX's default float if absent.
    - `rectified`: whether the output is rectified, as rates are; without it $x^2 = W^2 x^1 - b^2$,
      for targets that may be negative: rates of tanh units, states of gated cells, readouts.

    **Raises:** `ValueError` for a size below one.

    Call the model with one input of shape `(n,)`, or `model.batch` with many. Its leaves are the
    arrays

    - `weights1`, `bias1`: of the hidden layer, shapes `(hidden, n)` and `(hidden,)`;
    - `weights2`, `bias2`: of the output layer, shapes `(out, hidden)` and `(out,)`.

    Muir, Neural Computation 30:546 (2018), doi:10.1162/neco_a_01042.

    **Example:**

    ```python
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    rates = model.batch(jnp.ones((3, 5)))
    print(rates.shape, model.hidden_size, (rates >= 0).all())
    # > (3, 5) 16 True
    ```
    """

    weights1: Float[Array, "hidden n"]
    bias1: Float[Array, " hidden"]
    weights2: Float[Array, "out hidden"]
    bias2: Float[Array, " out"]
    rectified: bool = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        key: Array,
        dtype=None,
        rectified: bool = True,
    ):
        in_size = _checks.integer("in_size", in_size)
        hidden_size = _checks.integer("hidden_size", hidden_size)
        out_size = _checks.integer("out_size", out_size)
        dtype = jnp.result_type(float) if dtype is None else dtype
        key1, key2 = jax.random.split(_checks.key(key))
        he = jax.nn.initializers.he_normal(in_axis=1, out_axis=0)
        self.weights1 = he(key1, (hidden_size, in_size), dtype)
        self.bias1 = jnp.zeros(hidden_size, dtype)
        self.weights2 = he(key2, (out_size, hidden_size), dtype)
        self.bias2 = jnp.full(out_size, -0.5 if rectified else 0, dtype)
        self.rectified = bool(rectified)

    def __call__(self, i: Vector) -> Float[Array, " out"]:
        """The output x2 for one input."""
        if i.shape != self.weights1.shape[1:]:
            must = f"have shape {self.weights1.shape[1:]}; use model.batch for a batch"
            _checks.fail("i", must, f"has shape {i.shape}")
        x1 = jax.nn.relu(self.weights1 @ i - self.bias1)
        return self._output(self.weights2 @ x1 - self.bias2)

    @eqx.filter_jit
    def batch(self, inputs: Float[Array, "m n"]) -> Float[Array, "m out"]:
        """The output x2 for each row of inputs: `jax.vmap(model)(inputs)`, but faster.

        The inputs are transposed to columns, so that small layers use a CPU's vector units
        (`benchmarks/README.md` has the figures).
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.weights1.shape[1]:
            must = f"have shape (m, {self.weights1.shape[1]})"
            _checks.fail("inputs", must, f"has shape {inputs.shape}")
        x1 = jax.nn.relu(self.weights1 @ inputs.T - self.bias1[:, None])
        return self._output(self.weights2 @ x1 - self.bias2[:, None]).T

    def _output(self, u: Float[Array, "out *m"]) -> Float[Array, "out *m"]:
        return jax.nn.relu(u) if self.rectified else u

    @property
    def hidden_size(self) -> int:
        """Number of hidden units."""
        return self.weights1.shape[0]


@eqx.filter_jit
def forward(model: Any, inputs: Float[Array, "m n"]) -> Float[Array, "m out"]:
    """Evaluate a model on a batch."""
    return model.batch(inputs) if isinstance(model, FeedForward) else jax.vmap(model)(inputs)


@eqx.filter_jit
def dead_units(model: FeedForward, inputs: Float[Array, "m n"]) -> Int[Array, ""]:
    """Number of hidden units that are silent for all of the inputs, and so have no gradient."""
    drive = model.weights1 @ inputs.T - model.bias1[:, None]
    return jnp.sum(jnp.all(drive <= 0, axis=1))
