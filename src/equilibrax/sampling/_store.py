"""Samples on disk: one Parquet file, written whole or not at all."""

import io
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks
from .._files import write_whole
from ..fixed_points import Outcome
from ..networks import RateNetwork
from ..networks._transfer import TRANSFERS
from ._sample import Samples

FORMAT = "equilibrax-samples-1"
"""Name and version of the layout."""


def save_samples(path: str | os.PathLike, samples: Samples, *, overwrite: bool = False) -> None:
    """Write samples to one Parquet file, readable by DuckDB, Polars and pandas.

    Columns `inputs`, `rates` and `state` are fixed-size lists of length n, `outcome` is
    the int8 of `Outcome`; the file's metadata hold `drawn`, the counts and the network.
    The file appears under its name only when it is complete and on the disk.

    **Arguments:**

    - `path`: of the file.
    - `samples`: what to write.
    - `overwrite`: replace a file of this name.

    **Raises:** `FileExistsError` if the file exists and may not be replaced; `ValueError`
    for other dynamics than a `RateNetwork`, and for a transfer function of the user's own, which
    no file can hold; `OSError` from the disk, in which case nothing is left behind and an older
    file stays.
    """
    # Here, since the core works without it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    network = samples.network
    if not isinstance(network, RateNetwork):
        _checks.fail("samples", "have a RateNetwork, to be stored", f"has {network!r}")
    if network.transfer.name not in TRANSFERS:
        must = f"have a network whose transfer function is one of {', '.join(TRANSFERS)}"
        _checks.fail("samples", must, "has one with a function of your own")
    n = network.num_neurons
    columns = {"outcome": pa.array(np.asarray(samples.outcome))}
    for name in ("inputs", "rates", "state"):
        flat = pa.array(np.asarray(getattr(samples, name)).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, n)
    header = {
        "format": FORMAT,
        "drawn": samples.drawn,
        "counts": {outcome.name: count for outcome, count in samples.counts.items()},
        "convention": network.convention,
        "partitions": network.partitions,
        "transfer": network.transfer.name,
    }
    arrays = io.BytesIO()
    np.savez(arrays, *(np.asarray(leaf) for leaf in jax.tree.leaves(network)))
    metadata = {"equilibrax": json.dumps(header), "equilibrax-network": arrays.getvalue()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    write_whole(path, lambda file: pq.write_table(table, file), overwrite=overwrite)


def load_samples(path: str | os.PathLike) -> Samples:
    """Read samples back, onto the device.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is not one of ours, is
    damaged, or was written by another version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(Path(path))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    metadata = table.schema.metadata or {}
    if b"equilibrax" not in metadata:
        raise ValueError(f"{path} was not written by equilibrax: its metadata name no samples.")
    header = json.loads(metadata[b"equilibrax"])
    if header["format"] != FORMAT:
        raise ValueError(f"{path} has format {header['format']}, and this version reads {FORMAT}.")
    with np.load(io.BytesIO(metadata[b"equilibrax-network"])) as stored:
        weights, bias, tau, *parameters = (jnp.asarray(stored[name]) for name in stored.files)
    transfer = TRANSFERS[header["transfer"]](*parameters)
    network = RateNetwork(
        weights, bias, tau, transfer, header["convention"], partitions=tuple(header["partitions"])
    )
    n = network.num_neurons
    columns = [
        table.column(name).combine_chunks().flatten().to_numpy().reshape(-1, n)
        for name in ("inputs", "rates", "state")
    ]
    outcome = table.column("outcome").combine_chunks().to_numpy()
    counts = {outcome: header["counts"].get(outcome.name, 0) for outcome in Outcome}
    arrays = [jnp.asarray(column) for column in (*columns, outcome)]
    return Samples(*arrays, drawn=header["drawn"], counts=counts, network=network)
