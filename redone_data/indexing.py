"""``redone-data index``: new files against an index of what was accepted before, without reading the old texts again.

``match`` says which new documents duplicate an old one (or each other), ``add`` takes in those that do not. Both run
the steps of ``dedup``; an index lies in one folder, grows by segments, and is replaced at once (curate/index.py).
"""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.curate.identity import ids_of_part
from redone_data.curate.index import INDEX_FILE, Index
from redone_data.curate.index_removal import compact, forget
from redone_data.curate.index_segments import add_segment
from redone_data.curate.near import NearConfig
from redone_data.engine import Progress, Silent
from redone_data.manifest import atomic, digest
from redone_data.pipeline import Run
from redone_data.standalone import DOMAIN, Files, Result, publish
from redone_data.text.hashing import to_hex

NAMES = "names"  # folder of the documents' own ids by hash, a file an addition
WORK = ".work"


def match(files: Files, folder: Path, out: Path, settings: dict[str, Any], progress: Progress | None = None) -> Result:
    """Write kept.parquet and duplicates.parquet as ``dedup`` does; `duplicate_of` may name a document of the index."""
    run = _judged(files, folder, out, settings, progress or Silent())
    result = publish("dedup", run, out)
    table = result.tables["duplicates"]
    known = _names(folder)
    if known is not None:
        frame = pl.scan_parquet(table).join(
            known, left_on="duplicate_of", right_on="hash", how="left", maintain_order="left"
        )
        named = frame.with_columns(pl.coalesce("own", "duplicate_of").alias("duplicate_of")).drop("own").collect()
        with atomic(table) as aside:
            named.write_parquet(aside)
    return result


def add(files: Files, folder: Path, settings: dict[str, Any], progress: Progress | None = None) -> Result:
    """Take the documents into the index that duplicate none of it; makes the index where there is none."""
    work = folder / WORK
    run = _judged(files, folder, work, settings, progress or Silent())
    made = run.curation
    assert made.ledger is not None
    assert made.corpus is not None
    assert made.standing is not None
    counts = made.ledger.statistics["domains"][DOMAIN]
    if counts["train"]:
        if files.id_field is not None:
            _write_names(run, folder)
        add_segment(
            folder,
            made.corpus,
            run.recipe.curate.near,
            made.standing,
            judged=made.judged,
            resolved=made.resolved,
            ids=made.ids,
            engine=run.engine,
        )
    shutil.rmtree(work)
    drops = {rule.partition("/")[2]: count for rule, count in counts["drops"].items()}
    return Result(counts["read"], {"added": counts["train"], **drops})


def remove(folder: Path, ids: list[str]) -> int:
    """Take documents out of the index by their own ids, or by hash, and off the disk; how many were there.

    A kill leaves them on the disk in part; the same call again, or :func:`compact`, finishes it.
    """
    known = _names(folder)
    hashes = set(ids)
    if known is not None:
        hashes |= set(known.filter(pl.col("own").is_in(ids)).collect()["hash"])
    count = forget(folder, sorted(value for value in hashes if len(value) == 32))
    compact(folder)
    for path in sorted((folder / NAMES).glob("*.parquet")):
        names = pl.scan_parquet(path)
        if names.filter(pl.col("hash").is_in(hashes)).select(pl.len()).collect().item():
            with atomic(path) as aside:
                names.filter(~pl.col("hash").is_in(hashes)).sink_parquet(aside, compression="zstd")
    return count


def _judged(files: Files, folder: Path, root: Path, settings: dict[str, Any], progress: Progress) -> Run:
    curate = dict(settings.get("curate", {}))
    if (folder / INDEX_FILE).is_file():
        curate["index"] = str(folder.absolute())
    run = Run(files.recipe("dedup", {**settings, "curate": curate}), root, progress=progress)
    run.execute("curate")
    return run


def _write_names(run: Run, folder: Path) -> None:
    made = run.curation
    assert made.corpus is not None
    (folder / NAMES).mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("hash", pa.large_string()), ("own", pa.large_string())])
    path = folder / NAMES / f"{digest(made.corpus.inputs())[:12]}.parquet"
    with atomic(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for part in made.corpus.parts:
            own = part.read(["native_id"])["native_id"]
            writer.write_table(pa.table([to_hex(*ids_of_part(made.ids, part)), own], schema=schema))


def _names(folder: Path) -> pl.LazyFrame | None:
    files = sorted((folder / NAMES).glob("*.parquet"))
    return pl.scan_parquet(files).unique("hash") if files else None


def describe(folder: Path, near: NearConfig | None = None) -> dict[str, int]:
    """How many documents an index has, in how many segments, and its bytes; refused as Index.open refuses."""
    index = Index.open(folder, near)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"documents": index.num_accepted, "segments": len(index.content["segments"]), "bytes": size}
