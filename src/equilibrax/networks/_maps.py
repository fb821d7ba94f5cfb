"""`AbstractMap`: a step from one state to the next, in place of an equation of motion."""

import abc
from typing import TYPE_CHECKING, Any, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Matrix, Vector
from ._dynamics import AbstractDynamics


class AbstractMap(AbstractDynamics):
    r"""A map $x_{t+1} = F(x_t, i)$ of a state x, shape (n,), under an input i.

    Subclass it for maps of your own, written for one state and one input; `as_map` makes one of a
    function, `from_cell` of a trained cell. Maps are taken wherever dynamics are, but for
    `phase_plane` and `settled_event`, which need continuous time: they are
    iterated in lanes, and settled points are polished and judged. One step is the unit of time.

    - `step`: F. Its `rates`, as those of dynamics, are x itself if not overridden; `num_neurons` is
      told by starts or inputs, unless inputs are to be drawn.
    - `tau`: ones; nothing to give.

    A fixed point is stable if the spectral radius of dF/dx is less than one there. `abscissa` is
    the radius' logarithm, so that its sign means the same as in continuous time, and the distance
    from the point grows or shrinks by its exponential in each step. A cycle of k steps is
    `OSCILLATING`, and its `period` is k.

    **Example:**

    ```python
    class Logistic(eqb.AbstractMap):
        def step(self, x, i):
            return i * x * (1 - x)

    growth = jnp.asarray([[2.8], [3.2], [3.5]])
    found = eqb.find_fixed_points(Logistic(), growth, x0=jnp.asarray([0.3]))
    print(f"{found.state[0, 0]:.4f}", found.period)
    # > 0.6429 [nan  2.  4.]
    ```
    """

    @abc.abstractmethod
    def step(self, x: Vector, i: Float[Array, " k"]) -> Vector:
        """F(x, i), the next state."""

    if TYPE_CHECKING:  # a field of dynamics, which a map does not ask for
        tau: Any = eqx.field(init=False)  # pyright: ignore[reportRedeclaration]

    @property
    def tau(self) -> Array:
        """Ones: one step for every component. A single one where n is not known."""
        leaves = jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array))
        dtype = jnp.result_type(*leaves) if leaves else jnp.result_type(float)
        known = type(self).num_neurons is not AbstractMap.num_neurons
        return jnp.ones(self.num_neurons if known else (), dtype)

    def vector_field(self, t: Any, x: Vector, i: Float[Array, " k"]) -> Vector:
        """F(x, i) - x, which is zero at a fixed point."""
        del t
        return self.step(x, i) - x

    def jacobian(self, x: Vector, i: Float[Array, " k"]) -> Matrix:
        """dF/dx - I, shape `(n, n)`."""
        return jax.jacfwd(self.step)(x, i) - jnp.eye(x.size, dtype=x.dtype)


def is_map(dynamics: Any) -> TypeGuard[AbstractMap]:
    """Whether the dynamics are iterated, step by step."""
    return isinstance(dynamics, AbstractMap)
