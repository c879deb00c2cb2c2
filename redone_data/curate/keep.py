"""The keep policy: curated parts, and a ledger with a line for every document that is not among them.

Every document read is either kept (as training or validation text) or has exactly one line in the ledger: its id, the
step and rule that dropped it, the value and the bound, and, for a duplicate, the document it duplicates. The step
checks that sum for every part.

Validation documents are drawn by a hash of their id from those that stay; since no kept document is a duplicate or
verified near-duplicate of another, none has a twin in the training text.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.corpus import CURATED_SCHEMA, Corpus, folder_of
from redone_data.curate.attributes import Attributes
from redone_data.curate.policy import verdict_file
from redone_data.curate.resolve import RULES, duplicates_of_part
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import to_hex

LEDGER_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        ("source", pa.string()),
        ("step", pa.dictionary(pa.int32(), pa.string())),
        ("rule", pa.dictionary(pa.int32(), pa.string())),
        ("value", pa.float64()),
        ("bound", pa.float64()),
        ("duplicate_of", pa.string()),
    ]
)


@dataclass(frozen=True)
class ValidationConfig:
    """How many documents are held out of training, by domain."""

    fraction: float = field(default=0.02, metadata={"help": "share of a domain's documents"})
    min_documents: int = field(default=50, metadata={"help": "at least about so many, up to a fifth of the domain"})
    max_documents: int = field(default=2_000, metadata={"help": "at most about so many"})

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 0.5:
            raise RedoneError(f"fraction: {self.fraction}; a share between 0 and 0.5")
        if not 0 <= self.min_documents <= self.max_documents:
            raise RedoneError("min_documents must lie between 0 and max_documents")

    def share(self, documents: int) -> float:
        """The share to hold out of a domain of so many documents."""
        if documents == 0 or self.fraction == 0:
            return 0.0
        wanted = min(max(self.fraction * documents, self.min_documents), self.max_documents)
        return min(wanted / documents, 0.2 if self.min_documents > self.fraction * documents else self.fraction)


@dataclass(frozen=True)
class KeepStep(Step):
    """Write what stays and account for what does not."""

    name = "keep"
    VERSION = 1

    corpus: Corpus
    attributes: Attributes
    judged: Output
    resolved: Output
    near_threshold: float
    validation: ValidationConfig
    seed: int

    def config(self) -> Any:
        return {"validation": plain(self.validation), "seed": self.seed, "near_threshold": self.near_threshold}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "judge": self.judged.fingerprint, "resolve": self.resolved.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        verdict = pq.read_table(verdict_file(self.judged, index))
        ids = to_hex(verdict["id_hi"].to_numpy(), verdict["id_lo"].to_numpy()).cast(pa.string())
        ledger = self._ledger(part.offset, index, verdict, ids, part.domain, part.source)
        dropped = np.zeros(part.rows, dtype=bool)
        dropped[ledger.pop("row")] = True
        domain_rows = sum(p.rows for p in self.corpus.parts if p.domain == part.domain)
        draw = keyed_uniform(self.seed, "validation", verdict["id_lo"].to_numpy())
        validates = draw < self.validation.share(domain_rows)
        split = pa.array(np.where(validates, "validation", "train"))
        lang = self.attributes.read(part, ["language"])["language"].combine_chunks()

        name = f"{folder_of(part.domain)}/part-{index:05d}.parquet"
        for kind in ("corpus", "ledger"):
            (folder / kind / folder_of(part.domain)).mkdir(parents=True, exist_ok=True)
        with atomic(folder / "ledger" / name) as aside:
            pq.write_table(pa.table(ledger, schema=LEDGER_SCHEMA), aside, compression="zstd")
        text_bytes = dict.fromkeys(("train", "validation"), 0)
        start = 0
        with (
            atomic(folder / "corpus" / name) as aside,
            pq.ParquetWriter(aside, CURATED_SCHEMA, compression="zstd") as writer,
        ):
            for batch in part.batches(["text", "domain", "source", "created_at", "engagement", "meta"]):
                rows = np.flatnonzero(~dropped[start : start + batch.num_rows])
                here, there = pa.array(rows), pa.array(rows + start)
                kept = pa.table(batch).take(here)
                columns = {**{n: kept[n] for n in kept.column_names}, "id": ids.take(there)}
                columns |= {"lang": lang.take(there), "split": split.take(there)}
                start += batch.num_rows
                if len(rows):
                    writer.write_table(pa.table({n: columns[n] for n in CURATED_SCHEMA.names}, schema=CURATED_SCHEMA))
                    sizes = pc.binary_length(kept["text"]).to_numpy()
                    for which in text_bytes:
                        text_bytes[which] += int(
                            sizes[validates[rows + start - batch.num_rows] == (which == "validation")].sum()
                        )
        kept_rows = {"validation": int((validates & ~dropped).sum()), "train": int((~validates & ~dropped).sum())}
        if sum(kept_rows.values()) + len(ledger["id"]) != part.rows:
            raise AssertionError(f"part {index}: {part.rows} read, {kept_rows} kept, {len(ledger['id'])} dropped")
        drops = pa.table({"step": ledger["step"].cast(pa.string()), "rule": ledger["rule"].cast(pa.string())})
        counted = drops.group_by(["step", "rule"]).aggregate([([], "count_all")]).to_pylist()
        return {
            "domain": part.domain,
            "source": part.source,
            "file": f"corpus/{name}",
            "ledger": f"ledger/{name}",
            "read": part.rows,
            "read_bytes": part.text_bytes,
            "rows": sum(kept_rows.values()),
            "kept": kept_rows,
            "text_bytes": sum(text_bytes.values()),
            "split_bytes": text_bytes,
            "drops": {f"{row['step']}/{row['rule']}": row["count_all"] for row in counted},
        }

    def _ledger(
        self, offset: int, index: int, verdict: pa.Table, ids: pa.Array, domain: str, source: str
    ) -> dict[str, Any]:
        judged = np.flatnonzero(verdict["rule"].is_valid().to_numpy())
        duplicates = duplicates_of_part(self.resolved, index)
        rows = np.concatenate([judged, duplicates["row"].to_numpy() - offset])
        order = np.argsort(rows, kind="stable")
        taken = verdict.take(pa.array(judged))
        near = duplicates["rule"].to_numpy()
        count = len(near)

        def joined(first: Any, second: Any, kind: pa.DataType) -> pa.Array:
            first = first.combine_chunks() if isinstance(first, pa.ChunkedArray) else first
            second = second.combine_chunks() if isinstance(second, pa.ChunkedArray) else second
            return pa.concat_arrays([first.cast(kind), second.cast(kind)]).take(pa.array(order))

        text = pa.string()
        steps = pa.array(np.where(near == 1, "near", "exact"), text)
        rules = pa.array(np.array(RULES, dtype=object)[near], text)
        bounds = pa.array(np.where(near == 1, self.near_threshold, 1.0))
        return {
            "row": rows[order],
            "id": ids.take(pa.array(rows[order])),
            "domain": pa.array([domain] * len(rows), text),
            "source": pa.array([source] * len(rows), text),
            "step": joined(taken["step"], steps, text).dictionary_encode(),
            "rule": joined(taken["rule"], rules, text).dictionary_encode(),
            "value": joined(taken["value"], duplicates["similarity"], pa.float64()),
            "bound": joined(taken["bound"], bounds, pa.float64()),
            "duplicate_of": joined(taken["duplicate_of"], duplicates["duplicate_of"], text)
            if count
            else taken["duplicate_of"].combine_chunks().take(pa.array(order)),
        }

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        """Totals by domain: what was read, kept, dropped and why."""
        domains: dict[str, dict[str, Any]] = {}
        for result in results:
            total = domains.setdefault(
                result["domain"],
                {"read": 0, "read_bytes": 0, "kept_bytes": 0, "train": 0, "validation": 0, "drops": {}},
            )
            total["read"] += result["read"]
            total["read_bytes"] += result["read_bytes"]
            total["kept_bytes"] += result["text_bytes"]
            for split, count in result["kept"].items():
                total[split] += count
            for rule, count in result["drops"].items():
                total["drops"][rule] = total["drops"].get(rule, 0) + count
        return {"domains": domains}
