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
# # Fit a low-rank network
#
# Two of the many directions of a network of 1,000 neurons are enough to remember a decision. Its
# weights are $W = U V'$ with two columns each, and the network is to do three things: rest near
# zero without an input, and keep one of two choices, A or B, once it was pushed towards it. All
# that is said in terms of fixed points; gradients of these, by the implicit function theorem, do
# the rest. No matrix of 1,000 x 1,000 is ever built.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import equilibrax as eqb
from equilibrax import figures

n = 1000
keys = jax.random.split(jax.random.key(0), 3)
readout = jax.random.normal(keys[0], (n,))
left, right = 1.5 * jax.random.normal(keys[1], (2, n, 2)) / jnp.sqrt(n)


def network_of(factors):
    return eqb.RateNetwork(eqb.low_rank(*factors), transfer=eqb.tanh)


# %% [markdown]
# A random network of this kind forgets where it was: from every start it comes to rest at zero,
# whose abscissa is proven to be negative.

# %%
starts = jnp.stack([readout, -readout])
nothing = jnp.zeros((2, n))
found = eqb.find_fixed_points(network_of((left, right)), nothing, x0=starts)
print(found.describe())
print("readouts at rest:", np.round(found.rates @ readout / n, 3))

# %% [markdown]
# The loss asks for two fixed points without an input, one on each side, with readouts of 0.6 and
# -0.6. A trajectory that ends at zero has no gradient that would lead away from there: so the
# training begins with an input that holds the choice, and takes it away little by little.

# %%
targets = jnp.asarray([0.6, -0.6])


def loss(factors, hold):
    inputs = hold * starts
    found = eqb.find_fixed_points(network_of(factors), inputs, x0=starts)
    return jnp.mean((found.rates @ readout / n - targets) ** 2)


optimizer = optax.adam(3e-3)


@eqx.filter_jit
def step(factors, state, hold):
    value, gradient = jax.value_and_grad(loss)(factors, hold)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(factors, updates), state, value


factors, losses = (left, right), []
state = optimizer.init(factors)
steps = 300
for k in range(steps):
    hold = jnp.maximum(0.0, 1 - k / 200)
    factors, state, value = step(factors, state, hold)
    losses.append(float(value))
print(f"loss at the end: {losses[-1]:.1e}")

# %% [markdown]
# **Figure 1.** The loss while the input that holds the choice (grey) is taken away.

# %%
fig, ax = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
ax.semilogy(losses, color=figures.BLUE)
ax.set(xlabel="step", ylabel="loss")
right_ax = ax.twinx()
right_ax.plot([max(0.0, 1 - k / 200) for k in range(steps)], color=figures.GREY)
right_ax.set_ylabel("input that holds the choice")
plt.show()

# %% [markdown]
# Is it a decision? Without any input both choices are stable fixed points now, proven by 2 x 2
# matrices. From starts along the readout the network goes to the side it starts on.

# %%
network = network_of(factors)
found = eqb.find_fixed_points(network, nothing, x0=starts, method=eqb.Flow(abscissa=True))
print(found.describe())
print(
    "readouts:", np.round(found.rates @ readout / n, 3), " abscissas:", np.round(found.abscissa, 3)
)

many = jnp.linspace(-1, 1, 41)[:, None] * readout
at_rest = eqb.find_fixed_points(network, jnp.zeros((41, n)), x0=many)
print(at_rest.describe())

# %% [markdown]
# **Figure 2.** Left, the readout at rest against that at the start: two choices. Right, an input
# along the readout moves the choice: from A (blue) as from B it takes a push of the other sign to
# leave.

# %%
pushes = jnp.linspace(-1.5, 1.5, 61)
choices = {}
for name, start in (("from A", found.state[0]), ("from B", found.state[1])):
    settled = eqb.find_fixed_points(network, pushes[:, None] * readout, x0=start)
    choices[name] = np.asarray(settled.rates @ readout / n)

fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained", sharey=True)
axes[0].plot(many @ readout / n, at_rest.rates @ readout / n, ".", color=figures.BLUE)
axes[0].set(xlabel="readout at the start", ylabel="readout at rest", xticks=(-1, -0.5, 0, 0.5, 1))
for (name, values), color in zip(choices.items(), (figures.BLUE, figures.RED), strict=True):
    axes[1].plot(pushes, values, color=color, label=name)
axes[1].set(xlabel="input along the readout")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# The whole network is in four numbers for each neuron. What matters for the choice is how they
# overlap with each other, $V'U$, whose leading eigenvalue is the gain of the memory: it must be
# above 1 at zero, where the slope of tanh is largest, for zero to be unstable.

# %%
before, after = (np.linalg.eigvals(np.asarray(v.T @ u)) for u, v in ((left, right), factors))
print("eigenvalues of V'U before:", np.round(before, 2), " after:", np.round(after, 2))
