"""Distributions of inputs.

Input k depends on the key and k alone, not on the batch size, so that any part of a sample can be
drawn again by itself.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from .. import _checks
from .._types import Vector


class AbstractInputs(eqx.Module):
    """A distribution of network inputs.

    Subclass it for a distribution of your own. For input k, `draw` gets a key that depends on the
    sample's key and k alone. Override `check` if the distribution does not suit every length of
    input. Arrays among the fields are its parameters.

    **Example:**

    ```python
    class Exponential(eqb.AbstractInputs):
        def draw(self, key, n, dtype):
            return jax.random.exponential(key, (n,), dtype)

    network = eqb.partitioned()
    samples = eqb.sample_fixed_points(network, Exponential(), 4096, key=jax.random.key(0))
    print(samples.inputs.min() >= 0, f"{samples.inputs.mean():.1f}")
    # > True 1.0
    ```
    """

    def draw(self, key: Array, n: int, dtype) -> Vector:
        """One input, shape `(n,)`, of this floating-point dtype; n is the network's `num_inputs`.

        The key is this input's own. JAX traces it, for many keys at once.
        """
        raise NotImplementedError

    def check(self, n: int) -> None:
        """Raise `ValueError` if the distribution has no inputs of length n."""


class UniformCube(AbstractInputs):
    r"""Inputs uniform on a box: $i_j \sim U(low_j, high_j)$, independently.

    **Arguments:**

    - `low`, `high`: scalars or shape `(n,)`, in the units of the input, low below high, or equal
      to it for a constant input.

    **Raises:** `ValueError` for bounds that are not finite, or low above high.

    **Example:**

    ```python
    cube = eqb.UniformCube(low=-1.0, high=jnp.asarray([1.0, 1.0, 1.0, 1.0, -1.0]))
    samples = eqb.sample_fixed_points(eqb.partitioned(), cube, 4096, key=jax.random.key(0))
    print(samples.inputs.min() >= -1, (samples.inputs[:, 4] == -1).all())
    # > True True
    ```
    """

    low: Float[Array, "..."]
    high: Float[Array, "..."]

    def __init__(self, low: float | Array = -1.0, high: float | Array = 1.0):
        self.low = _checks.floating("low", low)
        self.high = _checks.floating("high", high)
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound.ndim > 1:
                _checks.fail(name, "have shape () or (n,)", f"has shape {bound.shape}")
            _checks.finite(name, bound)
        if self.low.ndim == self.high.ndim == 1 and self.low.shape != self.high.shape:
            _checks.fail("high", f"have shape {self.low.shape}", f"has shape {self.high.shape}")
        if _checks.is_concrete(self.low):
            least = np.asarray(self.low)
            _checks.values("high", self.high, "be at least `low` everywhere", lambda v: v >= least)

    def check(self, n: int) -> None:
        """Raise `ValueError` if the bounds are for another number of neurons."""
        _checks.per_neuron("low", self.low, n)
        _checks.per_neuron("high", self.high, n)

    def draw(self, key, n, dtype):
        """One input, shape `(n,)`."""
        low, high = self.low.astype(dtype), self.high.astype(dtype)
        return low + (high - low) * jax.random.uniform(key, (n,), dtype)


class Gaussian(AbstractInputs):
    r"""Normal inputs: $i_j \sim N(mean_j, std_j^2)$, independently.

    **Arguments:**

    - `mean`, `std`: scalars or shape `(n,)`, in the units of the input.

    **Raises:** `ValueError` for values that are not finite, or a negative `std`.

    **Example:**

    ```python
    normal = eqb.Gaussian(mean=0.5, std=0.1)
    samples = eqb.sample_fixed_points(eqb.partitioned(), normal, 4096, key=jax.random.key(0))
    print(f"{samples.inputs.mean():.1f} {samples.inputs.std():.1f}")
    # > 0.5 0.1
    ```
    """

    mean: Float[Array, "..."]
    std: Float[Array, "..."]

    def __init__(self, mean: float | Array = 0.0, std: float | Array = 1.0):
        self.mean = _checks.floating("mean", mean)
        self.std = _checks.floating("std", std)
        _checks.finite("mean", self.mean)
        _checks.not_negative("std", self.std)

    def check(self, n: int) -> None:
        """Raise `ValueError` if the parameters are for another number of neurons."""
        _checks.per_neuron("mean", self.mean, n)
        _checks.per_neuron("std", self.std, n)

    def draw(self, key, n, dtype):
        """One input, shape `(n,)`."""
        mean, std = self.mean.astype(dtype), self.std.astype(dtype)
        return mean + std * jax.random.normal(key, (n,), dtype)


def draw_inputs(
    distribution: AbstractInputs, key: Array, indices: UInt32[Array, " m"], n: int, dtype
) -> Float[Array, "m n"]:
    """Draw the inputs with these indices."""
    draw = lambda k: distribution.draw(jax.random.fold_in(key, k), n, dtype)  # noqa: E731
    return jax.vmap(draw)(indices)


def key_of_block(key: Array, block: int) -> Array:
    """The key of the inputs from block * 2**32 on, whose indices start at 0 again; for block 0 the
    key itself. Blocks share no random bits if an input has fewer than 2**32 numbers.
    """
    return jax.random.fold_in(jax.random.fold_in(key, block), 2**32 - 1) if block else key


def mixture_line(
    partitions: tuple[int, ...], n: int, mixture: Float[Array, " m"]
) -> Float[Array, "m n"]:
    """Inputs on the line from partition A to partition B, shape `(m, n)`.

    The input is 1 - mixture to neurons of the first partition, mixture to those of the second, and
    0 to all others.

    **Arguments:**

    - `partitions`: sizes of at least two partitions, from neuron 0 on.
    - `n`: the length of an input.
    - `mixture`: shape `(m,)`, from 0 for A to 1 for B.

    **Returns:** the inputs, shape `(m, n)`.

    **Raises:** `ValueError` for fewer than two partitions, more than n neurons in the first two,
    or a mixture of another shape.

    Muir (2018), doi:10.1162/neco_a_01042, Fig. 2b.

    **Example:**

    ```python
    network = eqb.partitioned()
    line = eqb.mixture_line(network.partitions, 5, jnp.asarray([0.0, 0.25, 0.75, 1.0]))
    found = eqb.find_fixed_points(network, line)
    print(eqb.metrics.winner(found.rates, network.partitions))
    # > [0 0 1 1]
    ```
    """
    if len(partitions) < 2:
        _checks.fail("partitions", "hold two partitions at least", f"is {partitions}")
    a, b = partitions[:2]
    if a + b > n:
        _checks.fail("partitions", f"hold at most {n} neurons", f"holds {a + b}")
    mixture = _checks.floating("mixture", mixture)
    if mixture.ndim != 1:
        _checks.fail("mixture", "have shape (m,)", f"has shape {mixture.shape}")
    line = jnp.zeros((*mixture.shape, n), mixture.dtype)
    line = line.at[:, :a].set(1 - mixture[:, None])
    return line.at[:, a : a + b].set(mixture[:, None])
