r"""`analyse`: what can be proven of a network without any input.

With D = diag(d) the slopes of the transfer function, 0 <= d_k <= L, the Jacobian is
T^-1 (W D - I) under `"voltage"`, T^-1 (D W - I) under the other two. Its logarithmic norm in
sum_j eta_j |x_j|, or in max_j |x_j| / eta_j, depends on each d_k alone in one column, or one row,
and linearly, so that its supremum over all slopes is at d_k = 0 or L:

    -c = max_k max( -1 / tau_k,  [ eta' A ]_k / eta_k ),    A = T^-1 (L B - I),

B being W with |w_jk| off the diagonal; [A eta]_k / eta_k in the second norm. The best eta is the
Perron vector of A. With c > 0 two trajectories of the same input come closer at the rate c at
least. Davydov, Jafarpour and Bullo, IEEE Trans. Automat. Contr. 67:6667 (2022),
doi:10.1109/TAC.2022.3183966.
"""

import dataclasses

import numpy as np

from .. import _checks
from ..networks import RateNetwork, with_matrix
from ..networks._transfer import Sigmoid, Tanh
from ._enumerate import LARGEST, is_unique
from ._flow import Flow
from .certificates import GlobalStability, all_sets

EXHAUSTIVE = 12
"""Networks up to this size have all their 2^n active sets examined."""


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What is proven of a network, whatever its input; None where nothing is proven either way.

    - `unique`: whether every input has exactly one fixed point. From the P-matrix test
      (`is_unique`, threshold-linear, n <= 16), or because the network contracts.
    - `convergent`: whether every trajectory of every input converges to one and the same fixed
      point: the network contracts, or I - W is diagonally stable (threshold-linear). Never
      False: no converse is known.
    - `contraction`: the rate c of global contraction, in 1/time; 0 if none is proven.
    - `norm`: in which it holds, "l1" (sum_j eta_j |x_j|) or "linf" (max_j |x_j| / eta_j).
    - `norm_weights`: eta, shape `(n,)`.
    - `unstable_set`: an active set whose Jacobian is not stable, shape `(n,)`, bool: then the
      network contracts in no norm. All sets are tried up to n = 12, above that only the full one.
    - `bounded`: whether all trajectories of all inputs are bounded; False if one is known that
      is not.
    - `unbounded_ray`: the direction in which it goes, for zero input and thresholds, from any point
      of the ray.

    **Example:**

    ```python
    runaway = eqb.analyse(eqb.two_neuron(w_self=(1.5, 0.0), w_cross=0.0))
    print(runaway.unique, runaway.bounded, runaway.unbounded_ray)
    # > False False [1. 0.]
    ```
    """

    unique: bool | None
    convergent: bool | None
    contraction: float
    norm: str | None
    norm_weights: np.ndarray | None
    unstable_set: np.ndarray | None
    bounded: bool | None
    unbounded_ray: np.ndarray | None


def analyse(network: RateNetwork) -> Analysis:
    """What can be proven of a network without any input: an `Analysis`.

    **Arguments:**

    - `network`: a `RateNetwork`, of any transfer function. Uniqueness by minors is tried for
      threshold-linear ones up to n = 16, at 2^n determinants; active sets up to n = 12, at
      2^n eigenvalue problems; the rest takes a few eigenvalue problems of size n.

    **Returns:** an `Analysis`. What is proven holds beyond rounding: of double precision, but for
    diagonal stability, which is tested in the network's own.

    **Raises:** `TypeError` for other dynamics; `ValueError` for a network that is not finite or
    is traced by JAX.

    Davydov, Jafarpour and Bullo, IEEE Trans. Automat. Contr. 67:6667 (2022),
    doi:10.1109/TAC.2022.3183966, for contraction.

    **Example:**

    ```python
    proven = eqb.analyse(eqb.two_neuron(w_self=0.5, w_cross=-0.2))
    print(proven.convergent, round(proven.contraction, 2))
    # > True 0.3
    ```
    """
    if not isinstance(network, RateNetwork):
        _checks.fail("network", "be a RateNetwork", f"is {network!r}", TypeError)
    network = with_matrix("network", network)
    why = "the answer is made of Python's bools"
    _checks.outside_of_jit("network", network, why=why, error=ValueError)
    for name in ("weights", "bias", "tau"):
        _checks.finite(name, getattr(network, name))
    linear = network.is_threshold_linear
    unstable, ray = _examine(network) if linear else (None, None)
    rate, norm, eta = _contraction(network)
    contracts = rate > 0
    globally = False
    if linear:
        globally = bool(GlobalStability(network, Flow().marginal_abscissa(network)).convergent)
    unique = True if contracts else None
    if linear and network.num_neurons <= LARGEST:
        unique = is_unique(network)
    return Analysis(
        unique=unique,
        convergent=True if contracts or globally else None,
        contraction=max(rate, 0.0),
        norm=norm if contracts else None,
        norm_weights=eta if contracts else None,
        unstable_set=unstable,
        bounded=_bounded(network, contracts or globally, ray),
        unbounded_ray=ray,
    )


def _parts(network: RateNetwork) -> tuple[np.ndarray, np.ndarray]:
    """W and tau in double precision."""
    return np.asarray(network.weights, np.float64), np.asarray(network.tau, np.float64)


def _contraction(network: RateNetwork) -> tuple[float, str, np.ndarray]:
    """c, the norm and its weights."""
    weights, tau = _parts(network)
    n, steepest = len(tau), network.transfer.steepest
    by_columns = network.convention == "voltage"
    if not np.isfinite(steepest):
        return 0.0, "", np.ones(n)
    majorant = np.abs(weights)
    np.fill_diagonal(majorant, np.diag(weights))
    a = (steepest * majorant - np.eye(n)) / tau[:, None]
    a = a.T if by_columns else a
    # A little of everything keeps all weights positive where the network falls apart.
    little = 1e-9 * np.abs(a).max()
    values, vectors = np.linalg.eig(a + little)
    eta = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
    if not eta.min() > 0:
        return 0.0, "", np.ones(n)
    terms = (np.abs(a) @ eta) / eta
    slack = 8 * n * np.finfo(np.float64).eps * terms
    worst = np.maximum(-1 / tau, (a @ eta) / eta + slack)
    return float(-worst.max()), "l1" if by_columns else "linf", eta


def _bounded(network: RateNetwork, convergent: bool, ray: np.ndarray | None) -> bool | None:
    """Saturation; convergence; or excitation alone, without any inhibition, is stable: rates are
    not negative, so that it bounds them from above, and what they drive from below."""
    if isinstance(network.transfer, (Tanh, Sigmoid)) or convergent:
        return True
    if ray is not None:
        return False
    if not network.is_threshold_linear:
        return None
    weights, tau = _parts(network)
    excitation = (np.maximum(weights, 0) - np.eye(len(tau))) / tau[:, None]
    return True if np.linalg.eigvals(excitation).real.max() < -1e-9 / tau.max() else None


def _examine(network: RateNetwork) -> tuple[np.ndarray | None, np.ndarray | None]:
    """An active set whose Jacobian is not stable, and a ray along which a trajectory grows."""
    weights, tau = _parts(network)
    n = len(tau)
    voltage = network.convention == "voltage"
    sets = all_sets(n) if n <= EXHAUSTIVE else np.ones((1, n), bool)
    gain = weights * sets[:, None, :] if voltage else sets[:, :, None] * weights
    jacobians = (gain - np.eye(n)) / tau[:, None]
    values, vectors = np.linalg.eig(jacobians)
    beyond = 1e-9 / tau.max()
    unstable = sets[np.real(values).max(axis=1) > beyond]
    # Real eigenvectors, either way round, that lie in their own chamber.
    real = (np.real(values) > beyond) & (np.imag(values) == 0)
    which, column = np.nonzero(real)
    ray = None
    for sign in (1, -1):
        rays = sign * np.real(vectors[which, :, column])
        drive = rays if voltage else rays @ weights.T
        size = 1e-9 * np.abs(rays).max(axis=1, initial=0, keepdims=True)
        active = sets[which]
        inside = np.where(active, drive > size, drive <= size).all(axis=1)
        if inside.any() and ray is None:
            ray = rays[np.argmax(inside)]
    return (unstable[0] if len(unstable) else None), ray
