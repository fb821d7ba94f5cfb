"""Samples on disk: one Parquet file, written whole or not at all."""

import json
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..fixed_points import Outcome
from ._sample import Samples

FORMAT = "equilibrax-samples-1"
"""Name and version of the layout."""


def save_samples(path: str | os.PathLike, samples: Samples, *, overwrite: bool = False) -> None:
    """Write samples to one Parquet file, readable by DuckDB, Polars and pandas.

    Columns `inputs`, `rates` and `state` are fixed-size lists of length n, `outcome` is
    the int8 of `Outcome`; the file's metadata hold `drawn` and the counts. The file
    appears under its name only when it is complete and on the disk.

    **Arguments:**

    - `path`: of the file.
    - `samples`: what to write.
    - `overwrite`: replace a file of this name.

    **Raises:** `FileExistsError` if the file exists and may not be replaced; `OSError`
    from the disk, in which case nothing is left behind and an older file stays.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it.")
    n = samples.inputs.shape[1]
    columns = {"outcome": pa.array(np.asarray(samples.outcome))}
    for name in ("inputs", "rates", "state"):
        flat = pa.array(np.asarray(getattr(samples, name)).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, n)
    counts = {outcome.name: count for outcome, count in samples.counts.items()}
    header = {"format": FORMAT, "drawn": samples.drawn, "counts": counts, "n": n}
    table = pa.table(columns).replace_schema_metadata({"equilibrax": json.dumps(header)})
    unfinished = path.with_name(path.name + f".{os.getpid()}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_samples(path: str | os.PathLike) -> Samples:
    """Read samples back, onto the device.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is not one of ours, is
    damaged, or was written by a newer version.
    """
    try:
        table = pq.read_table(Path(path))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    metadata = table.schema.metadata or {}
    if b"equilibrax" not in metadata:
        raise ValueError(f"{path} was not written by equilibrax: its metadata name no samples.")
    header = json.loads(metadata[b"equilibrax"])
    if header["format"] != FORMAT:
        raise ValueError(f"{path} has format {header['format']}, and this version reads {FORMAT}.")
    n = header["n"]
    columns = [
        table.column(name).combine_chunks().flatten().to_numpy().reshape(-1, n)
        for name in ("inputs", "rates", "state")
    ]
    outcome = table.column("outcome").combine_chunks().to_numpy()
    counts = {outcome: header["counts"].get(outcome.name, 0) for outcome in Outcome}
    arrays = [jnp.asarray(column) for column in (*columns, outcome)]
    return Samples(*arrays, drawn=header["drawn"], counts=counts)
