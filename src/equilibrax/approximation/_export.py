"""Feed-forward networks as files for other frameworks: safetensors, ONNX and StableHLO."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._extras import extra
from .._files import write_atomic
from .._settings import digest_of
from ._feedforward import FeedForward

HEADER = "equilibrax"
"""Metadata key of the JSON header."""

NAMES = ("weights1", "bias1", "weights2", "bias2")


class Format(NamedTuple):
    """A file format, and the version of its layout."""

    name: str
    version: int


MODEL = Format("equilibrax-feedforward", 2)


def is_array(value: Any) -> bool:
    """Whether the value is stored as a tensor, rather than in the JSON header."""
    return isinstance(value, (np.ndarray, jax.Array))


def write_tensors(
    path: str | os.PathLike,
    format: Format,
    arrays: dict[str, Any],
    plain: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Write arrays to a safetensors file, and plain values to its JSON header."""
    with extra("stores", "a safetensors file"):
        import safetensors.numpy

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header = {
        "format": format.name, "version": format.version, "digest": _digest(arrays, plain),
        "content": plain,
    }  # fmt: skip
    # One key: safetensors writes several in any order, and equal models must give equal files.
    metadata = {HEADER: json.dumps(header, sort_keys=True)}
    content = safetensors.numpy.save(arrays, metadata=metadata)
    write_atomic(path, lambda file: file.write(content), overwrite=overwrite)


def read_tensors(
    path: str | os.PathLike, format: Format
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and the plain values from a file of `write_tensors`."""
    with extra("stores", "a safetensors file"):
        import safetensors

    try:
        with safetensors.safe_open(Path(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        header = json.loads(metadata.get(HEADER, '{"format": "other tensors", "version": 0}'))
        found, version = header["format"], header["version"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its header is not what was written.") from error
    if found != format.name:
        raise ValueError(f"{path} holds {found}, not {format.name}.")
    if version > format.version:
        reads = f"this version of equilibrax reads up to {format.version}"
        raise ValueError(f"{path} holds {found} version {version}; {reads}.")
    plain = header.get("content")
    if header.get("digest") != _digest(arrays, plain):
        raise ValueError(f"{path} is damaged: its content is not what was written.")
    return arrays, plain


def _digest(arrays: dict[str, np.ndarray], plain: Any) -> str:
    parts = [json.dumps(plain, sort_keys=True).encode()]
    for name in sorted(arrays):
        parts += [f"{name} {arrays[name].shape} {arrays[name].dtype}".encode(), arrays[name]]
    return digest_of(*parts)


def arrays_of(model: FeedForward) -> dict[str, Any]:
    """A model's four arrays, by field name."""
    return {name: getattr(model, name) for name in NAMES}


def kind_of(model: FeedForward) -> dict[str, Any]:
    """What a file says of a model beside its arrays."""
    return {} if model.rectified else {"rectified": False}


def model_of(arrays: dict[str, np.ndarray], rectified: bool) -> FeedForward:
    """The model with these arrays.

    **Raises:** `ValueError` if their shapes are not those of one network.
    """
    shapes = {name: arrays[name].shape for name in NAMES}
    hidden, out = shapes["bias1"], shapes["bias2"]
    inner = shapes["weights1"][:1] == hidden and shapes["weights2"] == (*out, *hidden)
    if not inner or [len(shapes[name]) for name in NAMES] != [2, 1, 2, 1]:
        raise ValueError(f"its weights have shapes {shapes}, which are not those of two layers")
    sizes = (shapes["weights1"][1], *hidden, *out)
    blank = eqx.filter_eval_shape(
        lambda: FeedForward(*sizes, key=jax.random.key(0), rectified=rectified)
    )
    leaves = [jnp.asarray(arrays[name]) for name in NAMES]
    return eqx.tree_at(lambda m: [getattr(m, name) for name in NAMES], blank, leaves)


def save_model(path: str | os.PathLike, model: FeedForward, *, overwrite: bool = False) -> None:
    """Write a model's four arrays, by field name, to a safetensors file.

    **Arguments:**

    - `path`: path of the file.
    - `model`: a `FeedForward`, or an `Approximation`, whose `FeedForward` is written.
    - `overwrite`: replace an existing file.

    **Raises:** `FileExistsError` if the file exists and may not be replaced; `OSError` from the
    disk, in which case no partial file is left and an existing file stays as it was.

    **Example:**

    ```python
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    eqb.save_model("model.safetensors", model)
    print((eqb.load_model("model.safetensors").weights1 == model.weights1).all())
    # > True
    ```
    """
    write_model(path, feedforward_of(model), {}, overwrite=overwrite)


def write_model(
    path: str | os.PathLike, model: FeedForward, about: dict[str, Any], *, overwrite: bool
) -> None:
    """As `save_model`, with plain values about the model."""
    about = {**about, **kind_of(model)}
    write_tensors(path, MODEL, arrays_of(model), about, overwrite=overwrite)


def load_model(path: str | os.PathLike) -> FeedForward:
    """Read a model from a file written by `save_model`.

    **Arguments:**

    - `path`: path of the file.

    **Returns:** the `FeedForward`, equal to the saved one.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is damaged, holds other
    arrays or arrays of other shapes, or was written by a newer version.

    **Example:**

    ```python
    model = eqb.FeedForward(5, 16, 5, key=jax.random.key(1))
    eqb.save_model("model.safetensors", model)
    again, inputs = eqb.load_model("model.safetensors"), jnp.ones((3, 5))
    print((again.batch(inputs) == model.batch(inputs)).all())
    # > True
    ```
    """
    return read_model(path)[0]


def read_model(path: str | os.PathLike) -> tuple[FeedForward, dict[str, Any]]:
    """As `load_model`, with what was written about the model."""
    arrays, about = read_tensors(path, MODEL)
    if set(arrays) != set(NAMES):
        raise ValueError(f"{path} holds {sorted(arrays)}, and not {sorted(NAMES)}.")
    try:
        return model_of(arrays, about.get("rectified", True)), about
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from error


def export_onnx(path: str | os.PathLike, model: Any, *, overwrite: bool = False) -> None:
    """Write the forward pass as an ONNX graph from `inputs`, of shape `(batch, n)`, to `rates`.

    **Arguments:**

    - `path`: path of the file.
    - `model`: a `FeedForward` or an `Approximation`.
    - `overwrite`: replace an existing file.

    **Raises:** `ImportError` without onnx (`pip install 'equilibrax[export]'`); otherwise as
    `save_model`.

    **Example:**

    ```python
    import numpy as np
    import onnxruntime

    model, inputs = eqb.FeedForward(5, 16, 5, key=jax.random.key(0)), jnp.ones((3, 5))
    eqb.export_onnx("model.onnx", model)
    session = onnxruntime.InferenceSession("model.onnx")
    (rates,) = session.run(None, {"inputs": np.asarray(inputs)})
    print(jnp.allclose(rates, model.batch(inputs), atol=1e-4))
    # > True
    ```
    """
    with extra("export", "ONNX"):
        import onnx
        from onnx import helper, numpy_helper
    model = feedforward_of(model)
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(model.weights1.dtype))
    # Gemm adds its last operand, and thresholds are subtracted.
    tensors = {
        name: np.asarray(a) * (-1 if "bias" in name else 1) for name, a in arrays_of(model).items()
    }
    last = "drive2" if model.rectified else "rates"
    nodes = [
        helper.make_node("Gemm", ["inputs", "weights1", "bias1"], ["drive1"], transB=1),
        helper.make_node("Relu", ["drive1"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "weights2", "bias2"], [last], transB=1),
    ]
    if model.rectified:
        nodes.append(helper.make_node("Relu", ["drive2"], ["rates"]))
    graph = helper.make_graph(
        nodes, "equilibrax",
        [helper.make_tensor_value_info("inputs", dtype, ["batch", model.weights1.shape[1]])],
        [helper.make_tensor_value_info("rates", dtype, ["batch", model.weights2.shape[0]])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )  # fmt: skip
    opset = [helper.make_opsetid("", OPSET)]
    proto = helper.make_model(
        graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="equilibrax"
    )
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    write_atomic(path, lambda file: file.write(content), overwrite=overwrite)


OPSET, IR_VERSION = 17, 8
"""Versions of 2022, which the runtimes in use can read."""


def export_stablehlo(
    path: str | os.PathLike,
    model: Any,
    *,
    platforms: tuple[str, ...] = ("cpu", "cuda", "rocm", "tpu"),
    overwrite: bool = False,
) -> None:
    """Write the forward pass as StableHLO, by `jax.export`: `(batch, n)` to `(batch, out)`, for
    batches of any size.

    **Arguments:**

    - `path`: path of the file.
    - `model`: a `FeedForward` or an `Approximation`.
    - `platforms`: platforms on which the exported function can be called.
    - `overwrite`: replace an existing file.

    **Raises:** as `save_model`.

    **Example:**

    ```python
    from pathlib import Path

    model, inputs = eqb.FeedForward(5, 16, 5, key=jax.random.key(0)), jnp.ones((3, 5))
    eqb.export_stablehlo("model.stablehlo", model)
    exported = jax.export.deserialize(bytearray(Path("model.stablehlo").read_bytes()))
    print(jnp.allclose(exported.call(inputs), model.batch(inputs), atol=1e-4))
    # > True
    ```
    """
    from jax import export

    model = feedforward_of(model)
    shape = export.symbolic_shape(f"batch, {model.weights1.shape[1]}")
    example = jax.ShapeDtypeStruct(shape, model.weights1.dtype)
    forward = jax.jit(lambda inputs: model.batch(inputs))
    content = bytes(export.export(forward, platforms=platforms)(example).serialize())
    write_atomic(path, lambda file: file.write(content), overwrite=overwrite)


def feedforward_of(model: Any) -> FeedForward:
    """The model of an `Approximation`, or the `FeedForward` given."""
    model = getattr(model, "model", model)
    if not isinstance(model, FeedForward):
        must = "be a FeedForward or an Approximation"
        _checks.fail("model", must, f"is {type(model).__name__}", TypeError)
    return model
