"""The curated corpus: the text of the documents that the ledger does not name, written once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.corpus import CURATED_SCHEMA, Corpus, folder_of
from redone_data.curate.attributes import Attributes
from redone_data.curate.identity import ids_of_part
from redone_data.curate.ledger import draws_validation, ledger_file
from redone_data.engine import Output, Step
from redone_data.manifest import atomic
from redone_data.text.hashing import to_hex

LANGUAGE = "language"


@dataclass(frozen=True)
class KeepStep(Step):
    """Write what stays, part by part. ``lang`` is null where no step has identified the language."""

    name = "keep"
    VERSION = 2

    corpus: Corpus
    attributes: Attributes
    ids: Output
    ledger: Output

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), **self.attributes.inputs(), "ledger": self.ledger.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part, account = self.corpus.parts[task], self.ledger.tasks[index]
        stays = np.ones(part.rows, dtype=bool)
        stays[pq.read_table(ledger_file(self.ledger, index), columns=["row"])["row"].to_numpy()] = False
        hi, lo = ids_of_part(self.ids, part)
        validates = draws_validation(self.ledger.manifest["config"]["seed"], lo, account["validation_share"])
        identified = LANGUAGE in self.attributes.names(part)
        lang = self.attributes.read(part, [LANGUAGE])[LANGUAGE].combine_chunks() if identified else None

        name = f"{folder_of(part.domain)}/part-{index:05d}.parquet"
        (folder / name).parent.mkdir(exist_ok=True)
        start = 0
        with (
            atomic(folder / name) as aside,
            pq.ParquetWriter(
                aside, CURATED_SCHEMA, compression="zstd", use_dictionary=["domain", "source", "lang", "split"]
            ) as writer,
        ):
            for batch in part.batches(["text", "domain", "source", "created_at", "engagement", "meta", "native_id"]):
                rows = np.flatnonzero(stays[start : start + batch.num_rows])
                there = rows + start
                start += batch.num_rows
                if not len(rows):
                    continue
                taken = pa.table(batch).take(pa.array(rows))
                columns = {column: taken[column] for column in taken.column_names}
                columns["id"] = to_hex(hi[there], lo[there]).cast(pa.string())
                columns["lang"] = pa.nulls(len(rows), pa.string()) if lang is None else lang.take(pa.array(there))
                columns["split"] = pa.array(np.where(validates[there], "validation", "train"))
                writer.write_table(
                    pa.table({column: columns[column] for column in CURATED_SCHEMA.names}, schema=CURATED_SCHEMA)
                )
        return {
            "domain": part.domain,
            "source": part.source,
            "file": name,
            "rows": int(stays.sum()),
            "text_bytes": sum(account["kept_bytes"].values()),
            "split_bytes": account["kept_bytes"],
        }
