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
# boundary, and what does it change to train on more inputs near it?

# %%
import jax
import matplotlib.pyplot as plt

import equilibrax as eqb
from equilibrax import figures

network = eqb.partitioned()
keys = jax.random.split(jax.random.key(0), 4)
cube = eqb.UniformCube(-1, 1)
test = eqb.sample_fixed_points(network, cube, 20_000, key=keys[0])
plan = {"hidden": 5, "restarts": 16, "steps": 6000, "key": keys[3], "validation": test}

# %% [markdown]
# Both training sets cost 50,000 settled inputs. In the second one, half of them lie near chamber
# faces and basin boundaries: inputs are halved towards a jump of the answer, or moved to the
# nearest face by the derivative that the implicit function theorem gives.

# %%
sets = {
    "cube": eqb.sample_fixed_points(network, cube, 50_000, key=keys[1]),
    "half near boundaries": eqb.sample_near_boundaries(network, cube, 50_000, key=keys[2]),
}
models = {name: eqb.train_many(data, **plan).model for name, data in sets.items()}

# %% [markdown]
# **Figure 1.** The inputs of the second set, projected onto the two partition sums: they crowd
# where the winner changes.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.4, 4.2), layout="constrained", sharey=True)
for ax, (name, data) in zip(axes, sets.items(), strict=True):
    sums = eqb.partition_sums(data.inputs[:4000], network.partitions)
    ax.scatter(sums[:, 0], sums[:, 1], s=3, lw=0, color=figures.BLUE, rasterized=True)
    ax.set(xlabel="summed input to A", aspect="equal", title=name)
axes[0].set_ylabel("summed input to B")
plt.show()

# %% [markdown]
# The boundary of each network is the line that logistic regression puts between the inputs that A
# wins and those that B wins; its angle is against the ideal line of equal sums.

# %%
found = {
    name: eqb.jackknife(lambda s, m=model: eqb.decision_boundary(s, m), test)
    for name, model in models.items()
}
for name, (value, error) in found.items():
    if name == "cube":
        print(
            f"{'recurrent':22} angle {value.angle[0]:6.2f} +- {error.angle[0]:.2f} degrees, "
            f"offset {value.offset[0]:7.4f} +- {error.offset[0]:.4f}"
        )
    evaluation = eqb.evaluate(models[name], test)
    print(
        f"{name:22} angle {value.angle[1]:6.2f} +- {error.angle[1]:.2f} degrees, "
        f"offset {value.offset[1]:7.4f} +- {error.offset[1]:.4f}, "
        f"error {evaluation.normalised_error:.4f}, agreement {evaluation.winner_agreement:.3f}"
    )

# %% [markdown]
# **Figure 2.** Inputs that have another winner in the approximation, against their distance from
# the recurrent network's own boundary; bars are standard errors.

# %%
figures.misclassified(found)
plt.show()

# %% [markdown]
# More inputs near boundaries do not pay here. The answer jumps at the boundary, two layers
# cannot, and where the inputs crowd at the jump the least squared error is a compromise between
# its two sides. What is gained is that the switch along the line from A to B alone comes closer
# to one half.

# %%
mixture = jax.numpy.linspace(0, 1, 1001)
line = eqb.mixture_line(network.partitions, 5, mixture)
for name, model in models.items():
    switch = eqb.switch_point(model.batch(line), mixture, network.partitions)
    print(f"{name:22} switch at {switch:.3f}")

# %% [markdown]
# **Figure 3.** The same inputs one by one, for the first training set: orange, another winner.

# %%
figures.decision_boundary(network, models["cube"], test)
plt.show()
