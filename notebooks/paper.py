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
# # A walk through the paper
#
# Recurrent networks compute with their attractors. Put an input $i$ in, let
#
# $$\tau \dot x = -x + W [x - b]_+ + i$$
#
# run, and read the rates $[x - b]_+$ at the fixed point. This notebook follows one input from
# its distribution to its trajectory, its verdict, a training pair and the feed-forward
# approximation of Muir, *Neural Computation* 30:546 (2018).

# %%
import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import equilibrax as eqb
from equilibrax import figures, metrics

# %% [markdown]
# ## The network
#
# Two excitatory partitions, A (neurons 1, 2) and B (3, 4), share one global inhibitory neuron (5):
# $\lbrace N, w_E, w_I, b \rbrace = \lbrace 5, 2.5, 8, 0 \rbrace$. Rows are targets,
# columns are sources.

# %%
network = eqb.partitioned(partitions=(2, 2), w_e=2.5, w_i=8.0)
print(network.weights)

# %% [markdown]
# ## Settling
#
# A network's `vector_field` is in Diffrax's signature, so that a trajectory can be looked at with
# plain Diffrax. Partition A gets the stronger input; both rise at first, then the inhibitory neuron
# makes the difference.

# %%
i = jnp.asarray([0.7, 0.6, 0.5, 0.55, 0.0])
times = jnp.linspace(0, 12, 241)
trajectory = diffrax.diffeqsolve(
    diffrax.ODETerm(network.vector_field),
    diffrax.Tsit5(),
    t0=0.0,
    t1=12.0,
    dt0=None,
    y0=jnp.zeros(5),
    args=i,
    saveat=diffrax.SaveAt(ts=times),
    stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-6),
)
found = eqb.find_fixed_points(network, i)

fig, ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
colours = [figures.BLUE, figures.BLUE, figures.RED, figures.RED, figures.ORANGE]
names = ["A", None, "B", None, "inhibitory"]
for j in range(5):
    ax.plot(times, trajectory.ys[:, j], color=colours[j], label=names[j])
ax.axvline(found.time, color="0.6", ls=":", label="certified")
ax.plot(jnp.full(5, 12.0), found.state, "k_", ms=12)
ax.set(xlabel="time (time constants)", ylabel="state x")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# `find_fixed_points` follows the same trajectory, but only until it is *proven* to converge
# (dotted): there it stops, and returns the exact fixed point (black ticks), with its evidence.

# %%
for field in ("state", "rates", "residual", "abscissa", "certified", "time", "num_steps"):
    print(f"{field:10}", getattr(found, field))
print(f"{'outcome':10}", eqb.Outcome(int(found.outcome)).name)

# %% [markdown]
# ## Discarding
#
# With the reference network every input settles. Cut the inhibitory neuron's connection to itself,
# and about half of all inputs have no stable fixed point: most oscillate. They are discarded
# from training data, and counted.

# %%
cube = eqb.UniformCube(-1, 1)
cut = eqb.sample_fixed_points(eqb.partitioned(w_ii=0.0), cube, 1000, key=jax.random.key(0))
print(cut.describe())
print(f"kept {len(cut)} pairs, discarded {cut.discarded:.1%}")

# %%
samples = eqb.sample_fixed_points(network, cube, 40_000, key=jax.random.key(1))
print(samples.describe())
for name, share in metrics.competition(samples).items():
    print(f"{name:16} {share:.3f}")

# %% [markdown]
# Exactly one partition is active, or none; never both. The winner is nearly always the one with the
# larger *rectified* sum of inputs.
#
# ## Training
#
# Two layers, $x^1 = [W^1 i - b^1]_+$ and $x^2 = [W^2 x^1 - b^2]_+$, with as many hidden units as
# the recurrent network has neurons. Adam fits them to the pairs; of 48 restarts the best on a
# validation split is kept, and measured on a test split.

# %%
approximation = eqb.approximate(samples, key=jax.random.key(2), test_share=0.25)
evaluation = approximation.evaluation
print(f"test inputs       {evaluation.num_inputs}")
print(f"normalised error  {evaluation.normalised_error:.3f}")
print(f"winner agreement  {evaluation.winner_agreement:.3f}")
print(f"switch at         {evaluation.switch:.3f}")

figures.training_curves(approximation.losses)
plt.show()

# %% [markdown]
# ## The three figures
#
# **Figure 1.** The two architectures.

# %%
figures.architectures(network, approximation.model)
plt.show()

# %% [markdown]
# **Figure 2.** Competition. Along the line from an input to A alone to an input to B alone, the
# recurrent network (solid) switches abruptly at equal inputs; the approximation (dashed) switches
# at nearly the same place, less abruptly.

# %%
figures.mixture_response(network, approximation.model)
plt.show()

# %% [markdown]
# **Figure 3.** Decision. Each dot is an input, projected onto the sums of its two partitions; the
# approximation picks another winner (orange) mostly close to the ideal boundary (dashed).

# %%
figures.decision_boundary(network, approximation.model, samples)
plt.show()

# %% [markdown]
# How much of the error comes from inputs on the wrong side of the boundary?

# %%
output = jax.vmap(approximation.model)(samples.inputs)
contested = np.asarray(metrics.winner(samples.rates, (2, 2))) >= 0
same = np.asarray(metrics.winner(output, (2, 2)) == metrics.winner(samples.rates, (2, 2)))
squared = np.asarray(((output - samples.rates) ** 2).sum(axis=1))
print(
    f"wrong winners: {(~same & contested).mean():.1%} of the inputs, "
    f"{squared[~same & contested].sum() / squared.sum():.1%} of the squared error"
)
