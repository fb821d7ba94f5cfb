"""Weights that depend on the distance alone."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ... import _checks
from ._base import PAGE, StructuredWeights
from ._low_rank import LowRank


class Convolution(StructuredWeights):
    r"""$W_{jk} = w_{j - k}$ on a ring or, with two indices a neuron, on a torus: `convolution`
    builds it.

    - `kernel`: w, of the grid's shape.
    - `bounds`: whether it stands for the sizes of another one's elements, rounding included.
    """

    kernel: Float[Array, "..."]
    bounds: bool = eqx.field(default=False, static=True)

    @property
    def shape(self):
        return self.kernel.size, self.kernel.size

    @property
    def dtype(self):
        return self.kernel.dtype

    def lanes(self, x):
        grid = self.kernel.shape
        axes = range(1, 1 + len(grid))
        places = x.T.reshape(-1, *grid)
        spectrum = jnp.fft.rfftn(places, axes=axes) * jnp.fft.rfftn(self.kernel)
        y = jnp.fft.irfftn(spectrum, grid, axes=axes).reshape(-1, self.kernel.size).T
        if not self.bounds:
            return y
        # Fourier transforms round in units of all their terms, of which this bounds the sum.
        return jnp.maximum(y, 0) + jnp.linalg.norm(self.kernel) * jnp.linalg.norm(x, axis=0)

    def absolute(self):
        return Convolution(jnp.abs(self.kernel), bounds=True)

    def scaled(self, factor):
        return Convolution(self.kernel * factor, self.bounds)

    def transpose(self):
        axes = range(self.kernel.ndim)
        return Convolution(jnp.roll(jnp.flip(self.kernel), 1, axes), self.bounds)

    def with_few_modes(self, most: int) -> LowRank | None:
        """The same as weights of low rank, where the kernel has so many Fourier modes at most,
        beside what rounding leaves of the others; None otherwise. By NumPy."""
        kernel = np.asarray(self.kernel, np.float64)
        spectrum = np.fft.fftn(kernel)
        least = 8 * np.finfo(self.dtype).eps * np.sum(np.abs(kernel))
        modes = np.argwhere(np.abs(spectrum) > least)
        if len(modes) > most:
            return None
        place = np.indices(kernel.shape).reshape(kernel.ndim, -1)
        left, right = [], []
        for mode in modes:
            opposite = -mode % kernel.shape
            alone = (mode == opposite).all()
            if tuple(opposite) < tuple(mode):
                continue  # It is the complex conjugate.
            angle = 2 * np.pi * np.sum(mode / kernel.shape * place.T, axis=1)
            wave = spectrum[tuple(mode)] * np.exp(1j * angle) * (1 if alone else 2) / kernel.size
            left += [wave.real] if alone else [wave.real, wave.imag]
            right += [np.cos(angle)] if alone else [np.cos(angle), np.sin(angle)]
        if not left:
            return None
        u, v = (jnp.asarray(np.stack(columns, axis=1), self.dtype) for columns in (left, right))
        return LowRank(u, v, jnp.zeros((), self.dtype))

    def as_matrix(self):
        place = np.indices(self.kernel.shape).reshape(self.kernel.ndim, -1)
        apart = place[:, :, None] - place[:, None, :]
        return self.kernel[tuple(apart % np.asarray(self.kernel.shape)[:, None, None])]


def convolution(kernel: Float[Array, "..."]) -> Convolution:
    r"""Weights that depend on the distance alone, $W_{jk} = w_{j - k}$, indices taken modulo n.

    **Arguments:**

    - `kernel`: w, shape `(n,)` for a ring of n neurons, or `(rows, columns)` for a sheet with
      periodic borders, whose neurons count row by row; `kernel[0]` is the weight of each neuron
      onto itself.

    **Returns:** weights for `RateNetwork`, whose products are fast Fourier transforms.

    **Raises:** `ValueError` for a kernel of another shape, or that is not finite.

    **Example:**

    ```python
    theta = 2 * jnp.pi * jnp.arange(512) / 512
    network = eqb.RateNetwork(eqb.convolution((3 * jnp.cos(theta) - 4) / 512))
    found = eqb.find_fixed_points(network, 1 + 0.1 * jnp.cos(theta - theta[100]))
    print(jnp.argmax(found.rates), found.stable)
    # > 100 True
    ```
    """
    kernel = _checks.floating("kernel", kernel)
    if kernel.ndim not in (1, 2) or kernel.size == 0:
        _checks.fail(
            "kernel",
            "have shape (n,) or (rows, columns)",
            f"has shape {kernel.shape}",
            page=PAGE,
        )
    _checks.finite("kernel", kernel)
    return Convolution(kernel)
