"""A gated cell, trained to remember three bits; for the study and the benchmarks.

Each of three inputs is silent but for rare pulses of +1 or -1, and each of three outputs is to hold
the sign of the last pulse. D. Sussillo and O. Barak, Neural Computation 25:626 (2013),
doi:10.1162/NECO_a_00409.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

TRIALS = (64, 40, 3)
"""Trials in a batch, steps of a trial, and bits."""


def trials(key: Array) -> tuple[Float[Array, "batch steps 3"], Float[Array, "batch steps 3"]]:
    """Pulses, and the sign of the last one."""
    when, sign = jax.random.split(key)
    happens = jax.random.bernoulli(when, 0.15, TRIALS).at[:, 0].set(True)
    pulses = jnp.where(happens, jax.random.rademacher(sign, TRIALS, float), 0)

    def remember(bits, pulse):
        bits = jnp.where(pulse != 0, pulse, bits)
        return bits, bits

    bits = jax.lax.scan(remember, jnp.zeros(TRIALS[::2]), pulses.swapaxes(0, 1))[1]
    return pulses, bits.swapaxes(0, 1)


def states(cell: eqx.nn.GRUCell, pulses: Float[Array, "steps 3"]) -> Float[Array, "steps n"]:
    """Where pulses lead from zero."""

    def step(h, i):
        h = cell(i, h)
        return h, h

    return jax.lax.scan(step, jnp.zeros(cell.hidden_size), pulses)[1]


@eqx.filter_jit
def trained(n: int, keys: Array) -> tuple[tuple[eqx.nn.GRUCell, eqx.nn.Linear], Float[Array, ""]]:
    """A cell of n units and its readout, by as many steps of Adam as there are keys; and the last
    mean squared error."""
    cell = eqx.nn.GRUCell(3, n, key=jax.random.key(0))
    model = (cell, eqx.nn.Linear(n, 3, key=jax.random.key(1)))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01 * min(1, 32 / n), len(keys)))
    arrays, static = eqx.partition(model, eqx.is_array)

    def loss(arrays, key):
        cell, readout = eqx.combine(arrays, static)
        pulses, bits = trials(key)
        out = jax.vmap(jax.vmap(readout))(jax.vmap(lambda p: states(cell, p))(pulses))
        return jnp.mean(jnp.square(out - bits))

    def step(carry, key):
        arrays, state = carry
        value, gradient = jax.value_and_grad(loss)(arrays, key)
        updates, state = optimizer.update(gradient, state)
        return (eqx.apply_updates(arrays, updates), state), value

    (arrays, _), losses = jax.lax.scan(step, (arrays, optimizer.init(arrays)), keys)
    return eqx.combine(arrays, static), losses[-1]
