"""Noise rejection: signal-to-noise ratio of the output over the input."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from ..fixed_points import Flow, find_fixed_points
from ..networks import RateNetwork
from ._feedforward import forward
from ._jackknife import jackknife
from ._metrics import least_squares


class NoiseRejection(eqx.Module):
    r"""Signal-to-noise ratios against the amplitude of the noise.

    Signal p with noise r gives the output $y_{pr}$. With $\bar y_p$ the mean over the noise,

    $$\mathrm{SNR} = \frac{\mathrm{tr\,Var}_p(\bar y_p)}
                          {\mathrm{tr}\,\langle \mathrm{Var}_r(y_{pr}) \rangle_p} - \frac{1}{R},$$

    where the last term, for R repeats, removes what noise alone adds to the first variance.

    - `std`: standard deviations of the noise, shape `(levels,)`, in units of the input.
    - `snr_in`: SNR of the inputs.
    - `recurrent`, `feedforward`: SNR of each network's rates over `snr_in`; above 1 where noise is
      rejected.
    - `linear`: SNR over `snr_in` for the linear map $A i + c$ fitted by least squares to the
      recurrent network's rates, on the same noisy inputs.
    - `settled`: share of the noisy inputs with a stable fixed point; `recurrent` and the linear fit
      leave out the others.
    - `standard_error`: a `NoiseRejection` of the standard errors, by a jackknife over signals.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    signals = eqb.mixture_line((2, 2), 5, jax.random.uniform(jax.random.key(3), (64,)))
    noise = eqb.metrics.noise_rejection(
        samples.network, model, signals, jnp.asarray([0.05, 0.2]), repeats=64,
        key=jax.random.key(4),
    )
    print(noise.snr_in[0] > noise.snr_in[1], noise.standard_error.recurrent.shape)
    # > True (2,)
    ```
    """

    std: Float[Array, " levels"]
    snr_in: Float[Array, " levels"]
    recurrent: Float[Array, " levels"]
    feedforward: Float[Array, " levels"]
    linear: Float[Array, " levels"]
    settled: Float[Array, " levels"]
    standard_error: Any = None


def noise_rejection(
    network: RateNetwork,
    model: Any,
    signals: Float[Array, "p n"],
    std: Float[Array, " levels"],
    *,
    key: Array,
    repeats: int = 50,
    method: Flow | None = None,
) -> NoiseRejection:
    """Measure the signal-to-noise ratio of output over input, for both networks and a linear map.

    **Arguments:**

    - `network`, `model`: the recurrent network and its approximation.
    - `signals`: inputs without noise, shape `(p, n)`, in random order, such as `mixture_line` at
      random mixtures; at least 20 for the standard errors.
    - `std`: standard deviations of independent Gaussian noise on every input, positive.
    - `key`: PRNG key of the noise.
    - `repeats`: number of noisy versions of each signal, at least 2.
    - `method`: the `Flow`, as for `find_fixed_points`.

    **Returns:** a `NoiseRejection`.

    **Raises:** `ValueError` for signals of another width, or standard deviations that are not
    positive.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    signals = eqb.mixture_line((2, 2), 5, jax.random.uniform(jax.random.key(3), (64,)))
    noise = eqb.metrics.noise_rejection(
        samples.network, model, signals, jnp.asarray([0.1]), repeats=64,
        key=jax.random.key(4),
    )
    print(noise.recurrent > 1, noise.settled > 0.99)
    # > [ True] [ True]
    ```
    """
    signals = _checks.floating("signals", signals)
    n = network.num_inputs
    if signals.ndim != 2 or signals.shape[1] != n or len(signals) < 2:
        _checks.fail("signals", f"have shape (p, {n}), p at least 2", f"has shape {signals.shape}")
    std = jnp.atleast_1d(_checks.floating("std", std))
    _checks.positive("std", std)
    repeats = _checks.integer("repeats", repeats, minimum=2)
    key = _checks.key(key)
    noise = jax.random.normal(key, (len(signals), repeats, n), signals.dtype)
    levels = []
    for amplitude in std:
        inputs = signals[:, None] + amplitude * noise
        found = find_fixed_points(network, inputs, method=method)
        output = forward(model, inputs.reshape(-1, n)).reshape(*inputs.shape[:2], -1)
        levels.append(jackknife(_gains, inputs, found.rates, found.stable, output))
    values, errors = (
        jax.tree.map(lambda *parts: jnp.stack(parts), *column)
        for column in zip(*levels, strict=True)
    )
    return NoiseRejection(
        std, **values, standard_error=NoiseRejection(jnp.zeros_like(std), **errors)
    )


@jax.jit
def _gains(inputs, rates, stable, output) -> dict[str, Float[Array, ""]]:
    """The fields of `NoiseRejection` except `std`, at one level."""
    every = jnp.ones_like(stable)
    snr_in = _snr(inputs, every)
    # Rows without a stable fixed point are set to 0, and so do not affect the fit.
    x = jnp.concatenate([inputs, jnp.ones_like(inputs[..., :1])], axis=-1)
    x = x.reshape(-1, x.shape[-1])
    weight = stable.reshape(-1, 1)
    y = jnp.where(weight, rates.reshape(-1, rates.shape[-1]), 0)
    map = least_squares(jnp.where(weight, x, 0), y)
    linear = (x @ map).reshape(rates.shape)
    return {
        "snr_in": snr_in,
        "recurrent": _snr(rates, stable) / snr_in,
        "feedforward": _snr(output, every) / snr_in,
        "linear": _snr(linear, every) / snr_in,
        "settled": jnp.mean(stable),
    }


def _snr(values: Float[Array, "p r n"], rows) -> Float[Array, ""]:
    """SNR over the rows that are true; signals with fewer than two of them are left out."""
    count = jnp.sum(rows, axis=1)
    enough = count >= 2
    weight = (rows & enough[:, None])[..., None]
    values = jnp.where(weight, values, 0)
    count = jnp.maximum(count, 2)[:, None]
    mean = jnp.sum(values, axis=1) / count
    inside = jnp.sum(jnp.where(weight, jnp.square(values - mean[:, None]), 0), axis=1) / (count - 1)
    signals = jnp.maximum(2, jnp.sum(enough))
    centre = jnp.sum(jnp.where(enough[:, None], mean, 0), axis=0) / signals
    between = jnp.sum(jnp.where(enough[:, None], jnp.square(mean - centre), 0), axis=0)
    noise = jnp.sum(jnp.where(enough[:, None], inside, 0)) / signals
    repeats = jnp.sum(jnp.where(enough, count[:, 0], 0)) / signals
    return jnp.sum(between) / (signals - 1) / noise - 1 / repeats
