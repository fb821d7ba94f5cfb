# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Three bits in a trained cell
#
# Sussillo and Barak (2013) trained a recurrent network to remember three bits: each of three inputs
# is silent but for rare pulses of +1 or -1, and each of three outputs is to hold the sign of the
# last pulse. Then they opened the black box by looking for its fixed and slow points. Here the
# network is a gated cell of 16 units, trained in Equinox; equilibrax takes it apart, and asks
# whether two feed-forward layers can stand in for it.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import equilibrax as eqb
from equilibrax import figures

UNITS, STEPS, BATCH = 16, 40, 64

# %% [markdown]
# ## The task
#
# The target is the sign of the last pulse. A trial begins with one for every bit.


# %%
def trials(key):
    """Pulses and targets, shape (batch, steps, 3)."""
    when, sign = jax.random.split(key)
    shape = (BATCH, STEPS, 3)
    signs = jax.random.rademacher(sign, shape, float)
    pulses = jnp.where(jax.random.bernoulli(when, 0.15, shape).at[:, 0].set(True), signs, 0)

    def remember(bits, pulse):
        bits = jnp.where(pulse != 0, pulse, bits)
        return bits, bits

    start = jnp.zeros((BATCH, 3))
    return pulses, jax.lax.scan(remember, start, pulses.swapaxes(0, 1))[1].swapaxes(0, 1)


class Memory(eqx.Module):
    """A gated cell and a linear readout."""

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.cell = eqx.nn.GRUCell(3, UNITS, key=first)
        self.readout = eqx.nn.Linear(UNITS, 3, key=second)

    def states(self, pulses):
        """The states that pulses, shape (steps, 3), lead to from zero."""

        def step(h, i):
            h = self.cell(i, h)
            return h, h

        return jax.lax.scan(step, jnp.zeros(UNITS), pulses)[1]


@eqx.filter_jit
def train(memory, keys):
    """Adam, one batch of fresh trials for each key."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, len(keys)))
    arrays, static = eqx.partition(memory, eqx.is_array)

    def loss(arrays, key):
        memory = eqx.combine(arrays, static)
        pulses, bits = trials(key)
        out = jax.vmap(jax.vmap(memory.readout))(jax.vmap(memory.states)(pulses))
        return jnp.mean(jnp.square(out - bits))

    def step(carry, key):
        arrays, state = carry
        value, gradient = jax.value_and_grad(loss)(arrays, key)
        updates, state = optimizer.update(gradient, state)
        return (eqx.apply_updates(arrays, updates), state), value

    (arrays, _), losses = jax.lax.scan(step, (arrays, optimizer.init(arrays)), keys)
    return eqx.combine(arrays, static), losses


memory, losses = train(Memory(jax.random.key(0)), jax.random.split(jax.random.key(1), 3000))
print(f"mean square error {losses[-1]:.4f}, from {losses[0]:.2f}")

# %% [markdown]
# ## All points
#
# Searches start from states of the task, and half-way between pairs of them, without an input. What
# is expected: eight stable points, one for each memory, and saddles between neighbours, which
# decide where a pulse that is not quite strong enough leads.

# %%
cell = eqb.from_cell(memory.cell)
paths = jax.vmap(memory.states)(trials(jax.random.key(2))[0])
visited = paths[:, 3::4].reshape(-1, UNITS)
other = jax.random.permutation(jax.random.key(3), visited)
starts = jnp.concatenate([visited, (visited + other) / 2])
silence = jnp.zeros(3)

points = eqb.find_slow_points(cell, silence, starts)
print(points.describe())
near = eqb.linearise(cell, points, points.inputs)
print("points with 0, 1, 2, ... unstable directions:", np.bincount(points.num_unstable))

# %% [markdown]
# The readout maps the 16 dimensions to the three bits. Seen through it, the stable points are the
# corners of a cube, each memory of three signs once.

# %%
bits = np.asarray(jax.vmap(memory.readout)(points.state))
stable = np.asarray(points.kind) == eqb.results.PointKind.STABLE
corners = {tuple(row) for row in np.sign(np.round(bits[stable])).astype(int).tolist()}
print(f"{stable.sum()} stable points at {len(corners)} corners of the cube")
assert len(corners) == 8

figure = plt.figure(figsize=(9, 4.2), layout="constrained")
ax = figures.slow_points(points, paths[:12], modes=near, ax=figure.add_subplot(1, 2, 1))
ax.get_legend().remove()
cube = figure.add_subplot(1, 2, 2, projection="3d")
for chosen, colour, name in (
    (stable, figures.BLUE, "stable"),
    (~stable, figures.ORANGE, "saddles"),
):
    cube.scatter(*bits[chosen].T, color=colour, label=f"{chosen.sum()} {name}", depthshade=False)
cube.set(xlabel="bit 1", ylabel="bit 2", zlabel="bit 3")
cube.legend(frameon=False, loc="upper left", fontsize="small")
plt.show()

# %% [markdown]
# A memory must not fade: the slowest time constant of every stable point, in steps.

# %%
slowest = np.asarray(near.time_constants)[stable, 0]
print("slowest time constants:", np.round(np.sort(slowest), 1))
figures.spectrum(near, iterated=True)
plt.show()

# %% [markdown]
# ## A sequence of pulses
#
# `settle_sequence` holds each input until the cell has settled, from where the one before ended.
# Pulses write bits, and silence keeps them.

# %%
script = jnp.asarray([[1, 0, 0], [0, 0, 0], [0, -1, 1], [0, 0, 0], [-1, 0, 0], [0, 0, 0.0]])
told = eqb.settle_sequence(cell, script)
print(np.round(np.asarray(jax.vmap(memory.readout)(told.state)), 1))
print(told.describe())

# %% [markdown]
# ## Two layers in its place
#
# The paper's question: an input that is held leads to a fixed point of the cell, so that the cell
# computes a function of it. Two threshold-linear layers, trained on pairs of input and settled
# output, can do the same in one pass. Outputs are shifted to be positive: (1 + bit) / 2.

# %%
decoded = eqb.as_map(cell.step, UNITS, 3, rates=lambda h: (1 + memory.readout(h)) / 2)
approximation = eqb.distill(
    decoded, key=jax.random.key(4), n_draws=20_000, n_test=5_000, hidden=32, restarts=8, steps=3000
)
print(f"normalised error {approximation.evaluation.normalised_error:.3f}")

axis = jnp.linspace(-1, 1, 81)
held = jnp.stack([axis, 0 * axis - 0.5, 0 * axis + 0.5], axis=1)
exact = eqb.find_fixed_points(decoded, held).rates
guessed = approximation.model.batch(held)
for k in range(3):
    plt.plot(
        axis, exact[:, k], color=(figures.BLUE, figures.ORANGE, figures.GREEN)[k], lw=3, alpha=0.4
    )
    plt.plot(axis, guessed[:, k], color=(figures.BLUE, figures.ORANGE, figures.GREEN)[k], lw=1)
plt.xlabel("input 1, held")
plt.ylabel("(1 + bit) / 2: cell (thick), two layers (thin)")
plt.show()

# %% [markdown]
# D. Sussillo, O. Barak, Neural Computation 25:626 (2013), doi:10.1162/NECO_a_00409.
