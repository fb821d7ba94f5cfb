"""The certificate as a Diffrax event, for those who bring their own loop."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from .._types import Flag, Vector
from ..networks import RateNetwork
from ._chambers import Chambers, has_table
from ._flow import Flow
from ._steps import in_lanes


class Trapped(eqx.Module):
    """Event: the state lies in the trapping ellipsoid of its chamber."""

    network: RateNetwork
    chambers: Chambers

    def __call__(self, t, y: Vector, args: Vector, **kwargs) -> Flag:
        """Diffrax's signature; `args` is the input."""
        del t, kwargs
        with jax.default_matmul_precision("highest"):
            return self.chambers.trapped(in_lanes(self.network), y[:, None], args[:, None])[0][0]


class Resting(eqx.Module):
    """Event: |tau_j dx_j/dt| <= atol + rtol |x_j| for every j."""

    network: RateNetwork
    rtol: Float[Array, ""]
    atol: Float[Array, ""]

    def __call__(self, t, y: Vector, args: Vector, **kwargs) -> Flag:
        """Diffrax's signature; `args` is the input."""
        del t, kwargs
        limit = self.atol + self.rtol * jnp.abs(y)
        return jnp.all(jnp.abs(self.network.drift(y, args)) <= limit)


def settled_event(
    network: RateNetwork, *, rtol: float = 1e-4, atol: float = 1e-5
) -> Trapped | Resting:
    r"""A condition for `diffrax.Event` that holds once a trajectory has settled.

        diffrax.diffeqsolve(
            diffrax.ODETerm(network.vector_field), diffrax.Tsit5(), 0.0, 200.0, None, x0,
            args=i, stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-6),
            event=diffrax.Event(eqb.settled_event(network)),
        )

    For a threshold-linear network of at most 8 neurons it is the certificate: convergence to
    the fixed point of the present chamber is proven. For others it is the residual,

        |tau_j dx_j/dt| <= atol + rtol |x_j|    for every j,

    component by component: no large one can hide a small one that still moves. That proves
    nothing; judge the state afterwards.

    **Arguments:**

    - `network`: the one that is integrated, whose input is the solve's `args`.
    - `rtol`, `atol`: of the residual, `atol` in the units of x; well above the solver's, or an
      explicit solver will never meet them.

    **Raises:** `ValueError` for tolerances that are not positive.
    """
    if not isinstance(network, RateNetwork):
        _checks.fail("network", "be a RateNetwork", f"is {network!r}", TypeError)
    rtol, atol = (_checks.number(k, v, above=0.0) for k, v in (("rtol", rtol), ("atol", atol)))
    if not has_table(network):
        dtype = network.weights.dtype
        return Resting(network, jnp.asarray(rtol, dtype), jnp.asarray(atol, dtype))
    with jax.default_matmul_precision("highest"):
        return Trapped(network, Chambers(network, Flow().marginal_abscissa(network)))
