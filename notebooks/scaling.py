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
# # Scaling
#
# How does the error of two feed-forward layers depend on the number of hidden units, and on the
# size of the recurrent network? `equilibrax study` answers at full size; this notebook does so on
# small samples.

# %%
import time

import jax
import matplotlib.pyplot as plt
import numpy as np

import equilibrax as eqb
from equilibrax import figures

cube = eqb.UniformCube(-1, 1)
network = eqb.partitioned()
samples = eqb.sample_fixed_points(network, cube, 50_000, key=jax.random.key(0))
plan = {"restarts": 4, "steps": 4000, "key": jax.random.key(1)}

# %% [markdown]
# **Figure 1.** The reference network: the least error of four restarts (line), up to their median
# (shade), against the number of hidden units.

# %%
sizes = (2, 5, 16, 64)
trained = eqb.train_many(samples, hidden=sizes, **plan)
print(trained.describe())
ax = figures.error_against(
    {"reference": (sizes, np.asarray(trained.errors).reshape(len(sizes), -1))}
)
plt.show()

# %% [markdown]
# **Figure 2.** Random networks of excitatory and inhibitory neurons, with n and 4 n hidden units.

# %%
rows = {"n hidden units": [], "4 n hidden units": []}
neurons = (5, 10, 20)
for n in neurons:
    network = eqb.random_ei(n, key=jax.random.key(n), density=0.5)
    data = eqb.sample_fixed_points(network, cube, 10_000, key=jax.random.key(2))
    for name, size in zip(rows, (n, 4 * n), strict=True):
        rows[name].append(np.asarray(eqb.train_many(data, hidden=size, **plan).errors))
ax = figures.error_against(
    {name: (neurons, np.stack(errors)) for name, errors in rows.items()}, xlabel="neurons n"
)
plt.show()

# %% [markdown]
# What the approximation buys is time that does not depend on the input, and much less of it; what
# it costs is exactness. `verified` buys the latter back, where it can: the approximation proposes
# the active set, one linear solve gives the fixed point, and the network's own equations verify
# it.

# %%
approximation = eqb.approximate(samples, key=jax.random.key(3), hidden=64, restarts=4, steps=4000)
inputs = jax.random.uniform(jax.random.key(4), (100_000, 5), minval=-1.0)
ways = {
    "settled": lambda: eqb.find_fixed_points(approximation.network, inputs).rates,
    "verified": lambda: approximation.verified(inputs).rates,
    "forward pass": lambda: approximation.model.batch(inputs),
}
for name, way in ways.items():
    jax.block_until_ready(way())
    start = time.perf_counter()
    jax.block_until_ready(way())
    print(f"{name:14} {1e6 * (time.perf_counter() - start) / len(inputs):8.3f} us an input")
print(approximation.verified(inputs).describe())
