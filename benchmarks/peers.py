"""Other packages on the same problem: settle the same inputs from x0 = 0.

Only SciPy stops at rest. torchode, torchdiffeq and gradsolve know no event that ends each member
of a batch by itself, so they go on to t1 = 200, as their users would have them.
"""

import os
from collections.abc import Callable

import jax
import numpy as np
from scipy.integrate import solve_ivp

import equilibrax as eqb

RTOL, ATOL, T1 = 1e-4, 1e-6, 200.0


def scipy_one_by_one(network: eqb.RateNetwork, inputs, *, rtol, atol, t1, rest) -> np.ndarray:
    """LSODA, input by input, to t1 or until the residual is `rest`."""
    weights, bias = (np.asarray(a, np.float64) for a in (network.weights, network.bias))

    def field(t, x, i):
        return -x + weights @ np.maximum(x - bias, 0) + i

    def at_rest(t, x, i):
        return np.abs(field(t, x, i)).max() - rest

    at_rest.terminal = True  # pyright: ignore
    ends = [
        solve_ivp(
            field, (0, t1), np.zeros_like(i), method="LSODA", args=(i,), rtol=rtol, atol=atol,
            events=at_rest,
        ).y[:, -1]
        for i in np.asarray(inputs, np.float64)
    ]  # fmt: skip
    return np.stack(ends)


def _in_torch(network: eqb.RateNetwork, inputs):
    import torch  # pyright: ignore

    # By way of lists: torchode needs PyTorch 2.2, which knows nothing of NumPy 2.
    weights, bias, i = (
        torch.tensor(np.asarray(a).tolist()) for a in (network.weights, network.bias, inputs)
    )
    return torch, torch.zeros_like(i), lambda t, x: -x + torch.relu(x - bias) @ weights.T + i


def torchdiffeq(network: eqb.RateNetwork, inputs) -> np.ndarray:
    """`odeint` with dopri5: one step size for the whole batch."""
    import torchdiffeq  # pyright: ignore

    torch, start, field = _in_torch(network, inputs)
    with torch.no_grad():
        times = torch.tensor([0.0, T1])
        end = torchdiffeq.odeint(field, start, times, rtol=RTOL, atol=ATOL)[-1]
        return np.asarray(end.tolist())


def torchode(network: eqb.RateNetwork, inputs) -> np.ndarray:
    """Tsit5, each member with its own step size."""
    import torchode  # pyright: ignore

    torch, start, field = _in_torch(network, inputs)
    with torch.no_grad():
        term = torchode.ODETerm(field)
        method = torchode.Tsit5(term=term)
        controller = torchode.IntegralController(atol=ATOL, rtol=RTOL, term=term)
        count = len(start)
        problem = torchode.InitialValueProblem(
            y0=start, t_start=torch.zeros(count), t_end=torch.full((count,), T1)
        )
        end = torchode.AutoDiffAdjoint(method, controller).solve(problem).ys[:, -1]
        return np.asarray(end.tolist())


def gradsolve(network: eqb.RateNetwork, inputs) -> np.ndarray:
    """`tsit5_replay`, the adaptive solver that needs no GPU."""
    # Importing it would switch JAX to double precision.
    os.environ["GRADSOLVE_X64"] = "0"
    import gradsolve  # pyright: ignore

    class Problem:
        name, dim, t0, t1, is_stiff = "rate network", network.num_neurons, 0.0, T1, False

        def f_jax(self, t, y, params):
            return network.vector_field(t, y, params)

    i = np.asarray(inputs)
    return gradsolve.solve(
        Problem(), np.zeros_like(i), i, engine="tsit5_replay", rtol=RTOL, atol=ATOL, fused=False
    ).y_final


OTHERS: dict[str, Callable[[eqb.RateNetwork, jax.Array], np.ndarray]] = {
    "torchode": torchode,
    "torchdiffeq": torchdiffeq,
    "gradsolve": gradsolve,
}


def importable() -> list[str]:
    """Those of the others that can be used here."""
    found = []
    for name, solve in OTHERS.items():
        try:
            solve(eqb.two_neuron(), np.zeros((2, 2), np.float32))  # pyright: ignore
            found.append(name)
        except Exception as error:
            print(f"{name} is left out: {type(error).__name__}: {error}")
    return found
