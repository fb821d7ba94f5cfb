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
# # Competition
#
# Two partitions of excitatory neurons share one inhibitory neuron. In the fixed points of the
# recurrent network at most one of them is active. Do two feed-forward layers keep that?

# %%
import itertools

import jax
import matplotlib.pyplot as plt
import numpy as np

import equilibrax as eqb
from equilibrax import figures, metrics

network = eqb.partitioned()
keys = jax.random.split(jax.random.key(0), 3)
cube = eqb.UniformCube(-1, 1)
samples = eqb.sample_fixed_points(network, cube, 50_000, key=keys[0])
test = eqb.sample_fixed_points(network, cube, 20_000, key=keys[1])
print(samples.describe())

# %% [markdown]
# `train_many` trains all restarts at once, in one compiled loop.

# %%
runs = {
    size: eqb.train_many(samples, hidden=size, restarts=count, steps=6000, key=keys[2])
    for size, count in ((5, 32), (64, 4))
}
for trained in runs.values():
    print(trained.describe())

# %% [markdown]
# Every metric is a plain function of samples; `jackknife` gives its standard error. Suppression
# is 1 where the losing partition is silent; gain and linearity describe the winner's analogue
# response.

# %%
rows = {"recurrent": metrics.jackknife(metrics.competition, test)}
for size, trained in runs.items():
    rows[f"{size} hidden"] = metrics.jackknife(
        lambda s, m=trained.model: metrics.competition(s, m), test
    )
print(" " * 16 + "".join(f"{name:>18}" for name in rows))
for name in ("one_active", "several_active", "none_active", "suppression", "gain", "linearity"):
    cells = [f"{value[name]:.3f} +- {error[name]:.3f}" for value, error in rows.values()]
    print(f"{name:16}" + "".join(f"{cell:>18}" for cell in cells))

# %% [markdown]
# **Figure 1.** Responses along the line from A alone to B alone: recurrent network, solid;
# approximation with 5 (left) and 64 (right) hidden units, dashed.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained", sharey=True)
for ax, (size, trained) in zip(axes, runs.items(), strict=True):
    figures.mixture_response(network, trained.model, ax)
    ax.set_title(f"{size} hidden units", loc="left")
plt.show()

# %% [markdown]
# **Figure 2.** How strongly the loser is suppressed, against how close the contest is: the
# loser's summed rate over the winner's, by the difference of the rectified input sums.

# %%
sums = metrics.partition_sums(jax.nn.relu(test.inputs), network.partitions)
contest = np.abs(np.asarray(sums[:, 0] - sums[:, 1]))
edges = np.linspace(0, 1.5, 11)
fig, ax = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
styles = ((figures.BLUE, "o-"), (figures.RED, "s--"), (figures.GREEN, "^-."))
outputs = {"recurrent": test.rates}
outputs |= {
    f"{size} hidden units": trained.model.batch(test.inputs) for size, trained in runs.items()
}
for (name, rates), (colour, style) in zip(outputs.items(), styles, strict=True):
    parts = np.sort(np.asarray(metrics.partition_sums(rates, network.partitions)), axis=1)
    has = parts[:, 1] > 0
    shares = [
        parts[has & (contest >= a) & (contest < b), 0].sum()
        / parts[has & (contest >= a) & (contest < b), 1].sum()
        for a, b in itertools.pairwise(edges)
    ]
    ax.plot((edges[1:] + edges[:-1]) / 2, shares, style, color=colour, ms=4, label=name)
ax.set(
    xlabel="difference of the rectified input sums (units of the input)",
    ylabel="rate of the loser / rate of the winner",
)
ax.legend(frameon=False, fontsize=8)
plt.show()
