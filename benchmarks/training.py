"""Training throughput: `train` against one Optax step a dispatch and against PyTorch, and
`train_many` against `train`; the same data, model, batch size and optimiser, in turn.

Agreement is checked first: from the same weights and on the same batches, the two ways in JAX end
with the same weights, and PyTorch's loss after as many steps is within 20 %. Writes
training_PLATFORM.json. Needs PyTorch: `pip install -e '.[dev]'`.
"""

import dataclasses
import statistics
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch  # pyright: ignore
import tyro

import equilibrax as eqb
from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware, timed

BATCH = 256
RATE = 0.01


def by_dispatch(model, inputs, targets, key, steps: int):
    """An idiomatic Equinox and Optax loop: one compiled step a dispatch."""
    optimizer = optax.adam(RATE)
    state = optimizer.init(model)

    @eqx.filter_jit
    def step(model, state, t):
        rows = jax.random.randint(jax.random.fold_in(key, t), (BATCH,), 0, len(inputs))

        def loss(model):
            return jnp.mean(jnp.square(jax.vmap(model)(inputs[rows]) - targets[rows]))

        value, gradient = jax.value_and_grad(loss)(model)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(model, updates), state, value

    def run():
        here, its, value = model, state, None
        for t in range(steps):
            here, its, value = step(here, its, jnp.asarray(t))
        return here, value

    return run


def in_pytorch(model, inputs, targets, steps: int, *, compiled: bool = False):
    """An idiomatic PyTorch loop, from the same weights: batches drawn with replacement."""
    w1, b1, w2, b2 = (torch.tensor(np.asarray(a)) for a in jax.tree.leaves(model))
    x, y = (torch.tensor(np.asarray(a)) for a in (inputs, targets))

    def build():
        first = torch.nn.Linear(w1.shape[1], w1.shape[0])
        second = torch.nn.Linear(w2.shape[1], w2.shape[0])
        with torch.no_grad():
            for layer, weight, bias in ((first, w1, b1), (second, w2, b2)):
                layer.weight.copy_(weight)
                layer.bias.copy_(-bias)
        return torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU())

    def run():
        torch.manual_seed(0)
        net = build()
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=compiled)
        for _ in range(steps):
            rows = torch.randint(len(x), (BATCH,))
            loss = torch.nn.functional.mse_loss(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return net

    return run


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Training throughput at batch 256 on the reference network."""

    out: Path = Path(__file__).parent / "results"
    """Folder for the results."""
    hidden: tuple[int, ...] = (5, 64)
    """Hidden units."""
    steps: int = 4000
    """Steps of each timed run."""
    many: int = 256
    """Networks of `train_many`."""
    repeats: int = 5
    """Timed runs, of which the median counts."""

    def run(self) -> None:
        """Check agreement, measure in turn, and write JSON."""
        torch.set_num_threads(1)  # faster than two, at this size
        network = eqb.partitioned()
        cube = eqb.UniformCube(-1.0, 1.0)
        data = eqb.sample_fixed_points(network, cube, 50_000, key=jax.random.key(0))
        key = jax.random.key(1)
        rows = [self.compare(hidden, data, key) for hidden in self.hidden]
        report = {"hardware": {**hardware(), "torch": torch.__version__}, "rows": rows}
        write_json(self.out / f"training_{hardware()['platform']}.json", report)

    def compare(self, hidden: int, data: eqb.Samples, key) -> dict:
        """One size of the hidden layer."""
        model = eqb.FeedForward(5, hidden, 5, key=jax.random.key(2))
        optimizer = optax.adam(RATE)
        ways = {
            "train": lambda: eqb.train(
                model, data, optimizer=optimizer, steps=self.steps, batch_size=BATCH, key=key
            ),
            "one step a dispatch": by_dispatch(model, data.inputs, data.rates, key, self.steps),
            "pytorch": in_pytorch(model, data.inputs, data.rates, self.steps),
            "pytorch, fused adam": in_pytorch(
                model, data.inputs, data.rates, self.steps, compiled=True
            ),
        }
        many = {
            "train_many, 1": lambda: self.train_many(data, hidden, 1, key),
            f"train_many, {self.many}": lambda: self.train_many(data, hidden, self.many, key),
        }
        if hidden <= 8:
            ways |= many
        results = {way: timed(run)[1] for way, run in ways.items()}
        trained, looped = results["train"], results["one step a dispatch"]
        pairs = zip(jax.tree.leaves(trained.model), jax.tree.leaves(looped[0]), strict=True)
        apart = max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)
        short = eqb.train(model, data, optimizer=optimizer, steps=100, batch_size=BATCH, key=key)
        beside = by_dispatch(model, data.inputs, data.rates, key, 100)()[0]
        pairs = zip(jax.tree.leaves(short.model), jax.tree.leaves(beside), strict=True)
        apart_early = max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)
        assert apart_early < 1e-3, apart_early
        net = results["pytorch"]
        with torch.no_grad():
            output = net(torch.tensor(np.asarray(data.inputs))).numpy()
        outputs = {"train": trained.model.batch(data.inputs), "pytorch": jnp.asarray(output)}
        errors = {
            name: float(eqb.metrics.normalised_error(output, data.rates))
            for name, output in outputs.items()
        }
        assert errors["pytorch"] < 1.5 * errors["train"] < 2.25 * errors["pytorch"], errors
        times = {way: [] for way in ways}
        for _ in range(self.repeats):
            for way, run in ways.items():
                times[way].append(1e6 * timed(run)[0] / self.steps)
        medians = {way: statistics.median(runs) for way, runs in times.items()}
        row = {
            "hidden": hidden, "batch": BATCH, "steps": self.steps, "us_a_step": medians,
            "weights_apart_after_100_steps": apart_early, "weights_apart": apart, "errors": errors,
        }  # fmt: skip
        print(row, flush=True)
        return row

    def train_many(self, data: eqb.Samples, hidden: int, count: int, key):
        """So many networks at once."""
        return eqb.train_many(
            data, hidden=hidden, restarts=count, steps=self.steps, batch_size=BATCH, key=key
        )


if __name__ == "__main__":
    tyro.cli(Throughput, description=__doc__).run()
