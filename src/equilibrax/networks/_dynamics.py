"""`AbstractDynamics`: an equation of motion for one state and one input."""

import abc
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Matrix, Scalar, Vector


class AbstractDynamics(eqx.Module):
    r"""An equation of motion $\dot x = f(x, i)$ for a state x, shape (n,), and an input i.

    Subclass it for dynamics of your own, written for one state and one input.

    - `tau`: the time constants, shape (n,), or one number for all components. The residual of
      a fixed point is max_j |tau_j dx_j/dt|, in the units of x; the default end of time in `Flow`
      is a multiple of them.
    - `vector_field`: f, in Diffrax's signature. It must not depend on t, and must be smooth at
      fixed points, for Newton's method and the eigenvalues of its Jacobian.
    - `rates`: the output at state x, a vector of any length; x itself if not overridden.
    - `scale`, `num_inputs`: as documented below; the defaults suit most dynamics.

    Arrays among the fields are leaves, and `find_fixed_points` is differentiable in them.

    **Example:**

    ```python
    class Switch(eqb.AbstractDynamics):
        tau: jax.Array

        def vector_field(self, t, x, i):
            return (x - x**3 + i) / self.tau

    found = eqb.find_fixed_points(Switch(tau=jnp.ones(1)), jnp.asarray([[-6.0], [6.0]]))
    print([f"{x:.2f}" for x in found.state[:, 0]])
    # > ['-2.00', '2.00']
    ```
    """

    tau: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def vector_field(self, t: Any, x: Vector, i: Float[Array, " k"]) -> Vector:
        r"""$\dot x$ in Diffrax's signature: `ODETerm(dynamics.vector_field)`, `args=i`."""

    def rates(self, x: Vector) -> Float[Array, " outputs"]:
        """The output at state x."""
        return x

    @property
    def num_neurons(self) -> int:
        """n, the number of components of the state."""
        return self.tau.shape[0]

    @property
    def num_inputs(self) -> int:
        """The length of an input, for drawing inputs; n if not overridden."""
        return self.num_neurons

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the time constants, states and inputs."""
        return self.tau.dtype

    @property
    def fastest(self) -> Scalar:
        """A time in which the state changes little; the first step is a fraction of it."""
        return jnp.min(self.tau) / 10

    def astype(self, dtype) -> Self:
        """A copy with every floating-point array in `dtype`."""
        arrays, rest = eqx.partition(self, eqx.is_inexact_array)
        if all(a.dtype == dtype for a in jax.tree.leaves(arrays)):
            return self
        return eqx.combine(jax.tree.map(lambda a: a.astype(dtype), arrays), rest)

    def drift(self, x: Vector, i: Float[Array, " k"]) -> Vector:
        r"""$\tau \dot x$, in units of x."""
        return self.tau * self.vector_field(jnp.zeros((), x.dtype), x, i)

    def jacobian(self, x: Vector, i: Float[Array, " k"]) -> Matrix:
        r"""$J = \partial \dot x / \partial x$, shape `(n, n)`, in 1/time."""
        return jax.jacfwd(self.vector_field, argnums=1)(jnp.zeros((), x.dtype), x, i)

    def scale(self, x: Vector, i: Float[Array, " k"]) -> Vector:
        r"""The unit of each component's absolute tolerances, in units of x: the largest of $|x|$,
        $|\tau \dot x|$, and half of what the terms of its equation add up to. These are taken
        from some products of the Jacobians and x and i with other signs, in which the terms that
        cancel do not. Override it for a unit of your own; one number serves for all components."""

        def add_up(function, y):
            signs = 1 - 2.0 * (np.arange(len(y)) // 2 ** np.arange(4)[:, None] % 2)
            ways = y * jnp.asarray(signs, y.dtype)
            sums = jax.vmap(lambda way: jax.jvp(function, (y,), (way,))[1])(ways)
            return jnp.max(jnp.abs(sums), axis=0)

        drift = jnp.abs(self.drift(x, i))
        terms = add_up(lambda x: self.drift(x, i), x) + add_up(lambda i: self.drift(x, i), i)
        return jnp.maximum(jnp.maximum(jnp.abs(x), drift), terms / 2)

    def magnitude(self, x: Vector, i: Float[Array, " k"]) -> Vector:
        """Sum of the absolute values of the terms of each component of `drift`, which bounds its
        rounding error. The terms are those of the linearisation."""
        by_x = jnp.abs(self.jacobian(x, i) * self.tau[:, None])
        by_i = jnp.abs(jax.jacfwd(self.drift, argnums=1)(x, i))
        return by_x @ jnp.abs(x) + by_i @ jnp.abs(i) + jnp.abs(x)
