"""Fit a ring's weights to given tuning curves, through fixed points and through the solver.

    python benchmarks/learn_ring.py

A threshold-linear ring of n neurons, whose weights depend on the difference of preferred
directions alone, W_jk = w(j - k), is to answer weakly tuned inputs with given bumps, and to be
stable with a margin:

    loss = mean (rates - target)^2 + mean max(0, abscissa + margin)^2 .

The same Adam steps from the same start are taken twice: with the gradients of
`find_fixed_points`, by the implicit function theorem; and with those of backpropagation through
`diffrax.diffeqsolve`. Each way has a process of its own, for its peak memory.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Literal

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, in_own_process, peak_memory

MARGIN = 0.2
"""The abscissa is to be below minus this, in 1 / tau."""


@dataclasses.dataclass(frozen=True)
class LearnRing:
    """The fit, both ways."""

    n: int = 36
    """Neurons."""
    stimuli: int = 72
    """Directions of the input in one batch."""
    steps: int = 400
    """Adam steps."""
    t1: float = 60.0
    """End of the integration that is backpropagated through, in time constants."""
    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    only: Literal["implicit", "backpropagation"] | None = None
    """Fit this way in this process, and print the result as JSON."""

    def run(self) -> None:
        """Fit, print, write JSON and a picture."""
        if self.only is not None:
            print(json.dumps(self.fit(self.only)))
            return
        rows = []
        for way in ("implicit", "backpropagation"):
            options = [f"--{k}={getattr(self, k)}" for k in ("n", "stimuli", "steps", "t1")]
            rows.append(in_own_process(__file__, "--only", way, *options))
            shown = {k: v for k, v in rows[-1].items() if not isinstance(v, list)}
            print(shown, flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        name = f"learn_ring_{hardware()['platform']}"
        write_json(self.out / f"{name}.json", {"hardware": hardware(), "rows": rows})
        self.draw(rows).savefig(self.out / f"{name}.png", dpi=150)

    def problem(self):
        """Inputs, targets, and the network of given weights w(k)."""
        theta = 2 * np.pi * np.arange(self.n) / self.n
        stimuli = 2 * np.pi * np.arange(self.stimuli) / self.stimuli
        apart = theta[None, :] - stimuli[:, None]
        inputs = jnp.asarray(1 + 0.2 * np.cos(apart))
        targets = jnp.asarray(1.5 * np.maximum((np.cos(apart) - 0.3) / 0.7, 0))
        offset = (np.arange(self.n)[:, None] - np.arange(self.n)) % self.n

        def network_of(profile):
            return eqb.RateNetwork(profile[offset])

        start = jnp.asarray((-1 + 0.5 * np.cos(theta)) / self.n)
        return inputs, targets, network_of, start

    def fit(self, way: str) -> dict:
        """All steps in one way."""
        inputs, targets, network_of, profile = self.problem()
        method = eqb.Flow(abscissa=True)

        def implicit(profile):
            found = eqb.find_fixed_points(network_of(profile), inputs, method=method)
            return found.rates, found.abscissa

        def backpropagation(profile):
            network = network_of(profile)

            def one(i):
                solution = diffrax.diffeqsolve(
                    diffrax.ODETerm(network.vector_field),
                    diffrax.Tsit5(),
                    0.0,
                    self.t1,
                    None,
                    jnp.zeros_like(i),
                    args=i,
                    stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
                    max_steps=1024,
                )
                assert solution.ys is not None
                x = solution.ys[-1]
                spectrum = jnp.linalg.eigvals(network.jacobian(x, i))
                return network.rates(x), jnp.max(spectrum.real)

            return jax.vmap(one)(inputs)

        settle = {"implicit": implicit, "backpropagation": backpropagation}[way]

        def loss(profile):
            rates, abscissa = settle(profile)
            wrong = jnp.mean(jnp.square(rates - targets))
            return wrong + jnp.mean(jnp.square(jnp.maximum(abscissa + MARGIN, 0)))

        optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, self.steps))

        @jax.jit
        def step(profile, state):
            value, gradient = jax.value_and_grad(loss)(profile)
            updates, state = optimizer.update(gradient, state)
            return optax.apply_updates(profile, updates), state, value

        state = optimizer.init(profile)
        begin = time.perf_counter()
        compiled = step.lower(profile, state).compile()
        compile_s = time.perf_counter() - begin
        losses, begin = [], time.perf_counter()
        for _ in range(self.steps):
            profile, state, value = compiled(profile, state)
            losses.append(float(value))
        seconds = time.perf_counter() - begin
        # Both are judged in the same way.
        method = eqb.Flow(abscissa=True)
        found = eqb.find_fixed_points(network_of(profile), inputs, method=method)
        return {
            "way": way,
            "compile_s": compile_s,
            "ms_per_step": 1e3 * seconds / self.steps,
            "peak_GiB": peak_memory(),
            "first_loss": losses[0],
            "final_loss": losses[-1],
            "largest_abscissa": float(jnp.max(found.abscissa)),
            "stable": float(found.stable.mean()),
            "losses": losses,
            "profile": np.asarray(profile).tolist(),
            "rates": np.asarray(found.rates[0]).tolist(),
            "target": np.asarray(targets[0]).tolist(),
        }

    def draw(self, rows: list[dict]):
        """The losses on the way, and the tuning curve at the end."""
        import matplotlib.pyplot as plt

        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        degrees = 360 * np.arange(self.n) / self.n
        for row, style in zip(rows, ("-", "--"), strict=True):
            name = f"{row['way']}, {row['ms_per_step']:.1f} ms a step"
            left.semilogy(row["losses"], style, label=name)
            right.plot(degrees, np.roll(row["rates"], self.n // 2), style, label=row["way"])
        right.plot(degrees, np.roll(rows[0]["target"], self.n // 2), "k:", label="target")
        left.set(xlabel="Adam step", ylabel="loss")
        right.set(xlabel="preferred direction (degrees)", ylabel="rate")
        for axes in (left, right):
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
        return figure


if __name__ == "__main__":
    tyro.cli(LearnRing, description=__doc__).run()
