"""Shards: Parquet files, written atomically, with a digest of their content in the name.

A shard is committed once its file exists. Its footer holds the store's identity and the counts of
outcomes. Its content is compared with the digest in the name before it is parsed.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._extras import extra
from .._files import write_atomic
from .._settings import digest_of, dump_with_digest, load_with_digest
from ..fixed_points import Outcome

COLUMNS = ("inputs", "rates", "state", "outcome")

NAME = re.compile(r"shard-(\d{8,})-([0-9a-f]{16})\.parquet")


class DamagedShard(ValueError):
    """A shard whose content is not what was written."""

    def __init__(self, path: Path, why: object):
        self.path = path
        again = f"`equilibrax sample --out {path.parent} --repair`"
        remedy = f"{again}, or sample_to_store(..., repair=True), makes it again"
        why = " ".join(str(why).split())
        super().__init__(f"{path.parent}: the shard {path.name} is damaged ({why}); {remedy}")


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard's footer: number of rows kept, and counts of outcomes of all inputs drawn."""

    path: Path
    index: int
    rows: int
    counts: dict[Outcome, int]


def write_shard(
    folder: Path,
    store: str,
    index: int,
    columns: Mapping[str, np.ndarray],
    counts: Mapping[str, int],
) -> None:
    """Commit these rows as the store's shard of this index.

    **Raises:** `OSError` from the disk, in which case no partial file is left.
    """
    with extra("stores", "a store of samples"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    arrays, fields = [], []
    for name in COLUMNS:
        column = np.ascontiguousarray(columns[name])
        flat = pa.array(column.ravel())
        if column.ndim == 2:
            # Nullable lists take twice as long to write: 0.12 s against 0.055 s.
            kind = pa.list_(pa.field("item", flat.type, nullable=False), column.shape[1])
            flat = pa.FixedSizeListArray.from_arrays(flat, type=kind)
        arrays.append(flat)
        fields.append(pa.field(name, flat.type, nullable=False))
    rows = len(columns["outcome"])
    header = dump_with_digest(
        {"store": store, "shard": index, "rows": rows, "counts": dict(counts)}
    )
    schema = pa.schema(fields, {"equilibrax": header})
    table = pa.Table.from_arrays(arrays, schema=schema)
    sink = pa.BufferOutputStream()
    # Random numbers neither repeat nor compress.
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    content = sink.getvalue()
    name = f"shard-{index:08d}-{digest_of(content)}.parquet"
    write_atomic(folder / name, lambda file: file.write(content), overwrite=True)


def committed(folder: Path) -> dict[int, Path]:
    """The files of the committed shards, by index, in order.

    **Raises:** `DamagedShard` if two files have the same index.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        if match and found.setdefault(int(match[1]), path) != path:
            raise DamagedShard(path, f"{found[int(match[1])].name} is there, too")
    return found


def look_at(path: Path, store: str) -> Shard:
    """Read the shard's footer.

    **Raises:** `DamagedShard` if it cannot be read, or belongs to another store.
    """
    with extra("stores", "a store of samples"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
        header = load_with_digest((footer.metadata or {})[b"equilibrax"])
    except (pa.ArrowException, OSError, KeyError, ValueError, MemoryError) as error:
        raise DamagedShard(path, error) from error
    match = NAME.fullmatch(path.name)
    index = int(match[1]) if match else -1
    if (header["store"], header["shard"]) != (store, index):
        raise DamagedShard(path, f"it is shard {header['shard']} of the store {header['store']}")
    if header["rows"] != footer.num_rows:
        raise DamagedShard(path, f"it has {footer.num_rows} rows, {header['rows']} were written")
    counts = {outcome: header["counts"].get(outcome.name, 0) for outcome in Outcome}
    return Shard(path, index, header["rows"], counts)


def read_shard(shard: Shard) -> dict[str, np.ndarray]:
    """Read all columns, after comparing the content with the digest in the name.

    **Raises:** `DamagedShard` if the content differs, or the file is missing.
    """
    with extra("stores", "a store of samples"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    try:
        content = shard.path.read_bytes()
    except OSError as error:
        raise DamagedShard(shard.path, error.strerror) from error
    if digest_of(content) != NAME.fullmatch(shard.path.name)[2]:  # pyright: ignore
        raise DamagedShard(shard.path, "its content does not have the digest in its name")
    table = pq.read_table(pa.BufferReader(content))
    columns = {}
    for name in COLUMNS:
        column = table.column(name).combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            columns[name] = column.flatten().to_numpy().reshape(-1, width)
        else:
            columns[name] = column.to_numpy()
    return columns
