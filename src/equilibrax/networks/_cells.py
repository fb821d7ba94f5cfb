"""Trained recurrent cells as maps: Equinox's own, and weights saved from PyTorch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _checks
from .._extras import extra
from .._types import Vector
from ._maps import AbstractMap

PAGE = "how-to/cells"
"""The page that errors about them refer to."""

CellKind: TypeAlias = Literal["gru", "lstm", "rnn"]


class VanillaCell(eqx.Module):
    """h_next = phi(W_ih i + W_hh h + b)."""

    weight_ih: Float[Array, "n k"]
    weight_hh: Float[Array, "n n"]
    bias: Float[Array, " n"]
    activation: Callable = eqx.field(static=True, default=jnp.tanh)

    @property
    def input_size(self) -> int:
        """k."""
        return self.weight_ih.shape[1]

    @property
    def hidden_size(self) -> int:
        """n."""
        return self.weight_ih.shape[0]

    def __call__(self, input: Array, hidden: Vector, *, key: Any = None) -> Vector:
        del key
        return self.activation(self.weight_ih @ input + self.weight_hh @ hidden + self.bias)


class CellMap(AbstractMap):
    """One step of a recurrent cell. The state of an LSTM is h, and behind it c."""

    cell: Any
    is_pair: bool = eqx.field(static=True)

    def __init__(self, cell: Any, is_pair: bool):
        self.cell, self.is_pair = cell, is_pair

    def step(self, x, i):
        if not self.is_pair:
            return self.cell(i, x)
        h, c = jnp.split(x, 2)
        return jnp.concatenate(self.cell(i, (h, c)))

    def rates(self, x):
        return x[: self.cell.hidden_size]

    @property
    def num_neurons(self) -> int:
        return (2 if self.is_pair else 1) * self.cell.hidden_size

    @property
    def num_inputs(self) -> int:
        return self.cell.input_size


def from_cell(cell: Any) -> AbstractMap:
    r"""The map of a recurrent cell, $h_{t+1} = \text{cell}(i, h_t)$.

    **Arguments:**

    - `cell`: `equinox.nn.GRUCell`, `equinox.nn.LSTMCell`, or another Equinox module with
      `input_size` and `hidden_size` that is called as they are, `cell(input, hidden)`. Its
      arrays are leaves, for derivatives and training.

    **Returns:** an `AbstractMap` of n = `hidden_size` components, whose output is h. The state of
    an LSTM is h and c in one vector of twice that length; its output is h.

    **Raises:** `TypeError` for other objects; `ValueError` for a cell whose next state has another
    shape than its state.

    **Example:**

    ```python
    import equinox as eqx

    cell = eqx.nn.GRUCell(3, 16, key=jax.random.key(0))
    found = eqb.find_fixed_points(eqb.from_cell(cell), jnp.zeros((4, 3)), x0=jnp.ones(16))
    print(found.state.shape, found.stable)
    # > (4, 16) [ True  True  True  True]
    ```
    """
    sizes = [getattr(cell, name, None) for name in ("input_size", "hidden_size")]
    if not isinstance(cell, eqx.Module) or not callable(cell) or None in sizes:
        must = "be an Equinox cell such as equinox.nn.GRUCell, with input_size and hidden_size"
        _checks.fail("cell", must, f"is {cell!r}", TypeError, page=PAGE)
    is_pair = isinstance(cell, eqx.nn.LSTMCell)
    found = CellMap(cell, is_pair)
    k, n = sizes
    place = [jax.ShapeDtypeStruct((size,), found.dtype) for size in (found.num_neurons, k)]
    must = f"take an input of shape ({k},) and a state of shape ({n},), and return such a state"
    try:
        out = jax.eval_shape(found.step, *place)
    except Exception as error:
        _checks.fail("cell", must, f"calling it failed: {error}", page=PAGE)
    if not isinstance(out, jax.ShapeDtypeStruct) or out.shape != (found.num_neurons,):
        shape = getattr(out, "shape", None)
        what = f"returns shape {shape}" if shape is not None else f"returns {out!r}"
        _checks.fail("cell", must, what, page=PAGE)
    return found


def load_cell(
    path: str | Path | Mapping[str, Any],
    kind: CellKind,
    *,
    layer: int | None = None,
    prefix: str = "",
    activation: Callable[[Array], Array] = jnp.tanh,
) -> AbstractMap:
    """The map of a cell whose weights were saved from PyTorch.

    `safetensors.torch.save_file(rnn.state_dict(), path)` writes them, for `torch.nn.GRU`,
    `torch.nn.LSTM`, `torch.nn.RNN` and their cells. The gates' order is PyTorch's, and both of its
    biases count.

    **Arguments:**

    - `path`: a safetensors file with `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh`, or
      `weight_ih_l0` and so on; biases may be missing. Or these arrays by name, as PyTorch's
      `state_dict()` gives them.
    - `kind`: `"gru"`, `"lstm"` or `"rnn"`.
    - `layer`: which layer's, where there are several.
    - `prefix`: what the names begin with in the state of a larger module, such as `"rnn."`.
    - `activation`: that of an `"rnn"`, `jnp.tanh` or `jax.nn.relu`.

    **Returns:** an `AbstractMap`, as from `from_cell`.

    **Raises:** `ValueError` for a file without these names, of several layers where none is chosen,
    of both directions, or with arrays of shapes that do not fit each other or the kind; `OSError`
    for a file that cannot be read; `TypeError` for an activation that is no function.

    **Example:**

    ```python
    from safetensors.flax import save_file

    save_file({"weight_ih": jnp.ones((2, 1)), "weight_hh": -0.5 * jnp.eye(2)}, "cell.safetensors")
    cell = eqb.load_cell("cell.safetensors", "rnn")
    found = eqb.find_fixed_points(cell, jnp.asarray([[0.5]]), x0=jnp.zeros(2))
    print(found.state.shape, found.stable)
    # > (1, 2) [ True]
    ```
    """
    if kind not in get_args(CellKind):
        must = "be one of " + ", ".join(map(repr, get_args(CellKind)))
        _checks.fail("kind", must, f"is {kind!r}", page=PAGE)
    _checks.function("activation", activation, "of an array")
    parts = _parts_of(path, layer, prefix)
    gates = {"gru": 3, "lstm": 4, "rnn": 1}[kind]
    w_ih, w_hh = parts["weight_ih"], parts["weight_hh"]
    for name in ("weight_ih", "weight_hh"):
        shape = parts[name].shape
        if len(shape) != 2:
            _checks.fail("path", f"hold {name} as a matrix", f"holds shape {shape}", page=PAGE)
    n = w_hh.shape[-1]
    shapes = {"weight_ih": (gates * n, w_ih.shape[-1]), "weight_hh": (gates * n, n)}
    shapes |= {"bias_ih": (gates * n,), "bias_hh": (gates * n,)}
    for name, part in parts.items():
        if part.shape != shapes[name]:
            must = f"hold {name} of shape {shapes[name]} for a {kind} of {n} units"
            _checks.fail("path", must, f"holds shape {part.shape}", page=PAGE)
    none = np.zeros(gates * n, w_hh.dtype)
    b_ih, b_hh = parts.get("bias_ih", none), parts.get("bias_hh", none)
    if kind == "rnn":
        w_ih, w_hh, bias = map(jnp.asarray, (w_ih, w_hh, b_ih + b_hh))
        return from_cell(VanillaCell(w_ih, w_hh, bias, activation))
    build: Any = eqx.nn.GRUCell if kind == "gru" else eqx.nn.LSTMCell
    cell = build(w_ih.shape[1], n, dtype=w_hh.dtype, key=jax.random.key(0))
    new = {"weight_ih": w_ih, "weight_hh": w_hh, "bias": b_ih + b_hh}
    if kind == "gru":
        # The candidate's second bias is inside its reset gate.
        new |= {"bias": b_ih + np.append(b_hh[: 2 * n], none[:n]), "bias_n": b_hh[2 * n :]}
    arrays = [jnp.asarray(array) for array in new.values()]
    return from_cell(eqx.tree_at(lambda cell: [getattr(cell, name) for name in new], cell, arrays))


def _held_in(path: Any) -> dict[str, np.ndarray]:
    """All arrays by name, of a file or a mapping."""
    if isinstance(path, Mapping):
        return {name: np.asarray(array) for name, array in path.items()}
    with extra("stores", "a safetensors file"):
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

    try:
        return load_file(Path(path))
    except SafetensorError as error:
        must = (
            "be a safetensors file, as safetensors.torch.save_file(rnn.state_dict(), path) writes"
        )
        _checks.fail("path", must, f"is none: {path}: {error}", page=PAGE)


def _parts_of(path: Any, layer: int | None, prefix: str) -> Mapping[str, np.ndarray]:
    """The arrays of one cell, by their names in PyTorch's cells."""
    held = _held_in(path)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    if any(name.startswith(prefix) and name.endswith("_reverse") for name in held):
        must = "hold cells of one direction, since a state that is read backwards settles nowhere"
        _checks.fail("path", must, "holds both directions", page=PAGE)
    layers = {name for name in held if name.startswith(f"{prefix}weight_hh_l")}
    if layer is None and len(layers) > 1:
        must = f"be chosen among {len(layers)} layers, each of which is a cell of its own"
        _checks.fail("layer", must, "is absent", page=PAGE)
    layer = 0 if layer is None else layer
    for ending in (f"_l{layer}", ""):
        parts = {name: held.get(f"{prefix}{name}{ending}") for name in names}
        if parts["weight_ih"] is not None and parts["weight_hh"] is not None:
            found = {name: part for name, part in parts.items() if part is not None}
            for name, part in found.items():
                _checks.finite(name, _checks.floating(name, part))
            return found
    must = f"hold {prefix}weight_ih_l{layer} and {prefix}weight_hh_l{layer}, or the same without "
    must += f"_l{layer}"
    but = f"holds {', '.join(sorted(held)) or 'nothing'}"
    whole = (name for name in held if name.replace("weight_hh", "weight_ih") in held)
    others = {name.split("weight_hh")[0] for name in whole if "weight_hh" in name} - {prefix}
    if others:
        but += f"; prefix={min(others)!r} chooses one"
    _checks.fail("path", must, but, page=PAGE)
