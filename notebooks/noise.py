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
# # Noise rejection
#
# A network that competes should answer alike to inputs that differ by noise alone. The signal is
# a random mixture of inputs to A and to B; the noise is Gaussian, on every input. What is the
# signal-to-noise ratio of the output, over that of the input?

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import equilibrax as eqb
from equilibrax import figures, metrics

network = eqb.partitioned()
keys = jax.random.split(jax.random.key(0), 5)
samples = eqb.sample_fixed_points(network, eqb.UniformCube(-1, 1), 50_000, key=keys[0])
model = eqb.train_many(samples, hidden=5, restarts=32, steps=6000, key=keys[1]).model

# %%
signals = eqb.mixture_line(network.partitions, 5, jax.random.uniform(keys[2], (200,)))
levels = jnp.asarray([0.05, 0.1, 0.2, 0.4, 0.8])
found = metrics.noise_rejection(network, model, signals, levels, key=keys[3])
print("   std   SNR in   recurrent    feed-forward   best linear map")
for k, std in enumerate(levels):
    cells = [
        f"{getattr(found, name)[k]:.2f} +- {getattr(found.standard_error, name)[k]:.2f}"
        for name in ("recurrent", "feedforward", "linear")
    ]
    print(f"{std:6.2f} {found.snr_in[k]:8.2f}   " + "   ".join(cells))

# %% [markdown]
# **Figure 1.** Signal-to-noise ratio of the output over that of the input. Above 1 (grey) noise
# is rejected. Bars are standard errors over signals.

# %%
figures.noise_rejection(found)
plt.show()

# %% [markdown]
# A ratio of variances charges the recurrent network for what it is there for: near equal inputs
# it decides, and noise that changes the decision makes it jump. What a reader of the output wants
# to know is how much it tells about the input. The information between the difference of the
# input sums and the difference of the output sums is estimated from nearest neighbours (Kraskov
# et al. 2004).

# %%
few = eqb.sample_fixed_points(network, eqb.UniformCube(-1, 1), 4000, key=keys[4])
for name, metric in (
    ("recurrent", metrics.mutual_information),
    ("feed-forward", lambda s: metrics.mutual_information(s, model)),
):
    value, error = metrics.jackknife(metric, few, groups=10)
    print(f"{name:14} {value:.3f} +- {error:.3f} bits")

# %% [markdown]
# **Figure 2.** One signal, slightly in favour of A, and 2,000 noisy versions of it: the summed
# rates of both partitions in the recurrent network (left) and the approximation (right).

# %%
signal = eqb.mixture_line(network.partitions, 5, jnp.asarray([0.45]))
noisy = signal + 0.1 * jax.random.normal(keys[4], (2000, 5))
outputs = {
    "recurrent": eqb.find_fixed_points(network, noisy).rates,
    "feed-forward": model.batch(noisy),
}
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained", sharex=True, sharey=True)
bins = np.linspace(0, 5, 51)
for ax, (name, rates) in zip(axes, outputs.items(), strict=True):
    sums = np.asarray(metrics.partition_sums(rates, network.partitions))
    ax.hist(sums[:, 0], bins, color=figures.BLUE, label="A")
    ax.hist(sums[:, 1], bins, histtype="step", color=figures.RED, lw=1.6, label="B")
    ax.set(xlabel="summed rate of the partition", title=name, yscale="log")
axes[0].set_ylabel("noisy inputs")
axes[0].legend(frameon=False)
plt.show()
