"""One step of a map in every lane."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ...networks import AbstractMap


class Iteration(eqx.Module):
    """x <- F(x, i), in the place of a solver's step. The memory is F(x, i), and a step takes the
    time 1. A step to NaN is not taken; infinity counts as the largest number."""

    network: AbstractMap

    def _next(self, x, i):
        new = jax.vmap(self.network.step, in_axes=-1, out_axes=-1)(x, i)
        largest = jnp.finfo(x.dtype).max
        return jnp.clip(new, -largest, largest)

    def init(self, x, i, tolerances):
        """The size of a step, and its memory."""
        del tolerances
        return jnp.ones(x.shape[1], x.dtype), self._next(x, i)

    def step(self, x, i, dt, memory, tolerances):
        """The next state, whether the step is taken, the next one's size, its memory."""
        del x, tolerances
        taken = ~jnp.any(jnp.isnan(memory), axis=0)
        return memory, taken, jnp.ones_like(dt), jnp.where(taken, self._next(memory, i), memory)

    def velocity(self, memory, x, i):
        """F(x, i) - x; what has left all numbers is not at rest."""
        del i
        return jnp.where(jnp.abs(memory) < jnp.finfo(x.dtype).max, memory - x, memory)
