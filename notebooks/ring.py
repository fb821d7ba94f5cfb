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
# # A ring of neurons
#
# Neurons with preferred directions around a circle, graded excitation between neighbours and
# inhibition between all: $W_{jk} = (w_0 + w_1 \cos(\theta_j - \theta_k)) / n$. Above $w_1 = 2$
# the ring answers even a weakly tuned input with a bump of activity. Ben-Yishai, Bar-Or and
# Sompolinsky, PNAS 92:3844 (1995).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import equilibrax as eqb
from equilibrax import figures

n = 16
theta = 2 * jnp.pi * jnp.arange(n) / n


class Tuned(eqb.AbstractInputs):
    """A direction, with random strength, tuning and noise."""

    def draw(self, key, n, dtype):
        """One input."""
        where, level, depth, noise = jax.random.split(key, 4)
        direction = 2 * jnp.pi * jax.random.uniform(where, (), dtype)
        mean = jax.random.uniform(level, (), dtype, 0.5, 1.5)
        tuning = jax.random.uniform(depth, (), dtype, 0.05, 0.5)
        tuned = mean * (1 + tuning * jnp.cos(theta.astype(dtype) - direction))
        return tuned + 0.05 * jax.random.normal(noise, (n,), dtype)


network = eqb.ring(n, w_0=-4.0, w_1=3.0)
keys = jax.random.split(jax.random.key(0), 3)
samples = eqb.sample_fixed_points(network, Tuned(), 20_000, key=keys[0])
print(samples.describe())

# %%
runs = {
    size: eqb.train_many(samples, hidden=size, restarts=16, steps=6000, key=keys[1])
    for size in (16, 64)
}
for size, trained in runs.items():
    print(f"{size} hidden units: {trained.describe()}")

# %% [markdown]
# Most restarts lose an output unit on the way: one that is silent for every input gets no
# gradient any more. Hence many restarts, and the best by validation.
#
# **Figure 1.** Response to weakly (left) and strongly (right) tuned inputs at 180 degrees: the
# width of the bump hardly depends on the tuning of the input, in the recurrent network and in the
# approximation.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained", sharey=True)
degrees = np.degrees(np.asarray(theta))
for ax, tuning in zip(axes, (0.1, 0.5), strict=True):
    i = 1 + tuning * jnp.cos(theta - jnp.pi)
    ax.plot(degrees, i, ":", color=figures.GREY, label="input")
    ax.plot(
        degrees,
        eqb.find_fixed_points(network, i).rates,
        "o-",
        color=figures.BLUE,
        ms=4,
        label="recurrent",
    )
    for (size, trained), colour in zip(runs.items(), (figures.RED, figures.GREEN), strict=True):
        ax.plot(degrees, trained.model(i), "--", color=colour, label=f"{size} hidden units")
    ax.set(
        xlabel="preferred direction (degrees)",
        title=f"tuning {tuning:.0%}",
        xticks=[0, 90, 180, 270],
    )
axes[0].set_ylabel("rate")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# **Figure 2.** The direction that the bump points to, read from both networks, for 2,000 inputs
# of the kind that was trained on; the distance between the two, in degrees.


# %%
def direction(rates):
    """Angle of the population vector."""
    return jnp.degrees(jnp.arctan2(rates @ jnp.sin(theta), rates @ jnp.cos(theta))) % 360


fresh = eqb.sample_fixed_points(network, Tuned(), 2000, key=keys[2])
fig, ax = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
for (size, trained), colour in zip(runs.items(), (figures.RED, figures.GREEN), strict=True):
    apart = direction(trained.model.batch(fresh.inputs)) - direction(fresh.rates)
    apart = np.abs((np.asarray(apart) + 180) % 360 - 180)
    ax.ecdf(
        apart, color=colour, label=f"{size} hidden units, median {np.median(apart):.1f} degrees"
    )
ax.set(xlabel="distance between the directions (degrees)", ylabel="share of inputs", xlim=(0, 45))
ax.legend(frameon=False, fontsize=8, loc="lower right")
plt.show()
