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
# # Decision boundary
#
# Which partition wins is a decision between two sums. Where does the approximation put the
# boundary, and what do more hidden units change?

# %%
import jax
import matplotlib.pyplot as plt

import equilibrax as eqb
from equilibrax import figures, metrics

network = eqb.partitioned()
keys = jax.random.split(jax.random.key(0), 4)
cube = eqb.UniformCube(-1, 1)
test = eqb.sample_fixed_points(network, cube, 20_000, key=keys[0])
data = eqb.sample_fixed_points(network, cube, 50_000, key=keys[1])

# %% [markdown]
# The first approximation has as many hidden units as the network has neurons, the second one 64;
# both learn from the same 50,000 settled inputs.

# %%
plan = {"steps": 6000, "key": keys[3], "validation": test}
models = {
    "5 hidden units": eqb.train_many(data, hidden=5, restarts=16, **plan).model,
    "64 hidden units": eqb.train_many(data, hidden=64, restarts=4, **plan).model,
}

# %% [markdown]
# **Figure 1.** Inputs projected onto the two partition sums, coloured by the partition that wins in
# the recurrent network: the decision is close to, but not exactly, a comparison of the two sums.

# %%
sums = metrics.partition_sums(test.inputs[:4000], network.partitions)
won = metrics.winner(test.rates[:4000], network.partitions)
fig, ax = plt.subplots(figsize=(4.4, 4.2), layout="constrained")
for k, colour in enumerate((figures.BLUE, figures.ORANGE)):
    ax.scatter(*sums[won == k].T, s=4, lw=0, color=colour, label="AB"[k] + " wins", rasterized=True)
ax.set(xlabel="summed input to A", ylabel="summed input to B", aspect="equal")
ax.legend()
plt.show()

# %% [markdown]
# The boundary of each network is the line that logistic regression puts between the inputs that A
# wins and those that B wins; its angle is against the ideal line of equal sums.

# %%
found = {
    name: metrics.jackknife(lambda s, m=model: metrics.decision_boundary(s, m), test)
    for name, model in models.items()
}
value, error = found["5 hidden units"]
print(
    f"{'recurrent':15} angle {value.angle[0]:6.2f} +- {error.angle[0]:.2f} degrees, "
    f"offset {value.offset[0]:7.4f} +- {error.offset[0]:.4f}"
)
for name, (value, error) in found.items():
    evaluation = eqb.evaluate(models[name], test)
    print(
        f"{name:15} angle {value.angle[1]:6.2f} +- {error.angle[1]:.2f} degrees, "
        f"offset {value.offset[1]:7.4f} +- {error.offset[1]:.4f}, "
        f"error {evaluation.normalised_error:.4f}, agreement {evaluation.winner_agreement:.3f}"
    )

# %% [markdown]
# With 64 hidden units the angle and the offset of the boundary agree with the recurrent network's
# within their errors, and fewer than half as many inputs have another winner. Some remain: the
# answer jumps, and two layers are continuous. More training inputs near the boundary do not help.
# Where inputs crowd at the jump, the least squared error is a compromise between its two sides, and
# the winners agree less often.

# %%
mixture = jax.numpy.linspace(0, 1, 1001)
line = eqb.mixture_line(network.partitions, 5, mixture)
for name, model in models.items():
    switch = metrics.switch_point(model.batch(line), mixture, network.partitions)
    print(f"{name:15} switch at {switch:.3f}")

# %% [markdown]
# **Figure 2.** The same inputs one by one, all of them and those close to the boundary: orange,
# another winner. Right, the share of these against the distance from the recurrent network's own
# boundary; bars are standard errors.

# %%
figures.decision_boundaries(network, models, test)
plt.show()
