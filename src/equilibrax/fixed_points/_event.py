"""The certificate as a Diffrax event, for those who bring their own loop."""

from typing import cast

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks
from .._types import Flag, Vector
from ..networks import AbstractDynamics, RateNetwork, as_dynamics, with_matrix
from ._driver import certificate_of
from ._flow import Flow
from ._linalg import exactly, skip_unless_any
from ._problem import refuse_map
from .certificates import (
    ActiveBlocks,
    ChamberTable,
)
from .stepping import in_lanes


class Trapped(eqx.Module):
    """Event: the state lies in the trapping ellipsoid of its chamber.

    Active blocks of networks too large for a table are worked out where the state is slow enough.
    """

    network: RateNetwork
    certificate: ChamberTable | ActiveBlocks

    def __call__(self, t, y: Vector, args: Vector, **kwargs) -> Flag:
        """Diffrax's signature; `args` is the input."""
        del t, kwargs
        network, certificate = self.network, self.certificate
        with exactly():
            if isinstance(certificate, ChamberTable):
                return certificate.trapped(in_lanes(network), y[:, None], args[:, None])[0][0]
            u = network.drive(y, args)
            slow = jnp.max(jnp.abs(network.drift(y, args))) < jnp.min(jnp.abs(u)) / 3
            return skip_unless_any(
                slow,
                lambda wanted: wanted & certificate.trapped(network, y, args, wanted),
                ~slow & slow,
            )


class Resting(eqx.Module):
    """Event: |tau_j dx_j/dt| <= atol + rtol |x_j| for every j."""

    network: AbstractDynamics
    rtol: Float[Array, ""]
    atol: Float[Array, ""]

    def __call__(self, t, y: Vector, args: Vector, **kwargs) -> Flag:
        """Diffrax's signature; `args` is the input."""
        del t, kwargs
        limit = self.atol + self.rtol * jnp.abs(y)
        return jnp.all(jnp.abs(self.network.drift(y, args)) <= limit)


def settled_event(
    network: AbstractDynamics, *, rtol: float = 1e-4, atol: float = 1e-5
) -> Trapped | Resting:
    r"""A condition for `diffrax.Event` that holds once a trajectory has settled.

    For a threshold-linear network it is the certificate: convergence to the fixed point of the
    present chamber is proven. For others it is the residual,

    $$|\tau_j \dot x_j| \le \text{atol} + \text{rtol} \, |x_j| \quad \text{for every } j,$$

    component by component: no large one can hide a small one that still moves. That proves
    nothing; judge the state afterwards.

    **Arguments:**

    - `network`: the one that is integrated, whose input is the solve's `args`.
    - `rtol`, `atol`: of the residual, `atol` in the units of x; well above the solver's, or an
      explicit solver will never meet them.

    **Returns:** a condition for `diffrax.Event`, of time, state and `args`.

    **Raises:** `ValueError` for tolerances that are not positive; `TypeError` for what is no
    `AbstractDynamics`, or is a map.

    **Example:**

    ```python
    import diffrax

    network = eqb.two_neuron()
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(network.vector_field), diffrax.Tsit5(), 0.0, 200.0, None, jnp.zeros(2),
        args=jnp.asarray([0.3, 0.2]), event=diffrax.Event(eqb.settled_event(network)),
        stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-6),
    )
    print(solution.result == diffrax.RESULTS.event_occurred, solution.ts[0] < 10)
    # > True True
    ```
    """
    network = with_matrix("network", as_dynamics("network", network))
    refuse_map("network", network)
    rtol, atol = (_checks.number(k, v, above=0.0) for k, v in (("rtol", rtol), ("atol", atol)))
    dtype = network.dtype
    certificate = certificate_of(network, Flow(evidence="proof"))
    if isinstance(certificate, ChamberTable | ActiveBlocks):
        return Trapped(cast(RateNetwork, network), certificate)
    return Resting(network, jnp.asarray(rtol, dtype), jnp.asarray(atol, dtype))
