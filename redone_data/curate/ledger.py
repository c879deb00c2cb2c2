"""The ledger: a line for every document that does not stay, and the count of those that do.

Each line names the document, the step and rule that dropped it, the value and the bound, for a duplicate the document
that it duplicates, and where the dropped text lies (part and row), so that a person can look. Nothing here reads or
writes text: after a change of thresholds the counts and the report are there in seconds, ten million documents or not.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.corpus import Corpus, Part, folder_of
from redone_data.curate.identity import ids_of_part
from redone_data.curate.policy import VERDICT_SCHEMA, read_verdicts
from redone_data.curate.resolve import NEAR, RULES, duplicates_of_part
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
        ("detail", pa.string()),
        ("part", pa.string()),
        ("row", pa.int64()),
    ]
)
SPLITS = ("train", "validation")


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
class LedgerStep(Step):
    """Every document of a part is dropped with a line here, or counted as kept for training or validation.

    Validation documents are drawn by a hash of their id from those that stay; since no kept document is a duplicate or
    verified near-duplicate of another, none has a twin in the training text.
    """

    name = "ledger"
    VERSION = 1

    corpus: Corpus
    ids: Output
    judged: Output
    resolved: Output | None
    near_threshold: float
    validation: ValidationConfig
    seed: int

    def config(self) -> Any:
        return {"validation": plain(self.validation), "seed": self.seed, "near_threshold": self.near_threshold}

    def inputs(self) -> dict[str, str]:
        outputs = {"ids": self.ids, "judge": self.judged, "resolve": self.resolved}
        return {**self.corpus.inputs(), **{name: o.fingerprint for name, o in outputs.items() if o is not None}}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        hi, lo = ids_of_part(self.ids, part)
        table = self._lines(part, hi, lo)
        dropped = np.zeros(part.rows, dtype=bool)
        dropped[table["row"].to_numpy()] = True
        name = f"{folder_of(part.domain)}/part-{index:05d}.parquet"
        (folder / name).parent.mkdir(exist_ok=True)
        with atomic(folder / name) as aside:
            pq.write_table(table, aside, compression="zstd")
        if int((~dropped).sum()) + table.num_rows != part.rows:
            raise AssertionError(f"part {index}: {part.rows} read, {(~dropped).sum()} kept, {table.num_rows} dropped")

        share = self.validation.share(sum(p.rows for p in self.corpus.parts if p.domain == part.domain))
        validates = draws_validation(self.seed, lo, share)
        num_bytes = part.read(["num_bytes"])["num_bytes"].to_numpy()
        of_split = {"train": ~dropped & ~validates, "validation": ~dropped & validates}
        drops = pa.table({"step": table["step"].cast(pa.string()), "rule": table["rule"].cast(pa.string())})
        counted = drops.group_by(["step", "rule"]).aggregate([([], "count_all")]).to_pylist()
        return {
            "domain": part.domain,
            "source": part.source,
            "file": name,
            "read": part.rows,
            "read_bytes": part.text_bytes,
            "validation_share": share,
            "kept": {split: int(mask.sum()) for split, mask in of_split.items()},
            "kept_bytes": {split: int(num_bytes[mask].sum()) for split, mask in of_split.items()},
            "drops": dict(sorted((f"{row['step']}/{row['rule']}", row["count_all"]) for row in counted)),
        }

    def _lines(self, part: Part, hi: npt.NDArray[np.uint64], lo: npt.NDArray[np.uint64]) -> pa.Table:
        table = read_verdicts(self.judged, part.index)
        if self.resolved is not None:
            table = pa.concat_tables([table, self._duplicates(part, self.resolved)]).unify_dictionaries()
        table = table.sort_by("row")
        rows = table["row"].to_numpy()
        lines = len(rows)
        columns = {name: table[name] for name in table.column_names}
        columns |= {
            "id": to_hex(hi[rows], lo[rows]).cast(pa.string()),
            "domain": pa.array([part.domain] * lines, pa.string()),
            "source": pa.array([part.source] * lines, pa.string()),
            "part": pa.array([f"{part.path.parent.name}/{part.path.name}"] * lines, pa.string()),
            "value": null_for_nan(table["value"]),
            "bound": null_for_nan(table["bound"]),
        }
        return pa.table({name: columns[name] for name in LEDGER_SCHEMA.names}, schema=LEDGER_SCHEMA)

    def _duplicates(self, part: Part, resolved: Output) -> pa.Table:
        duplicates = duplicates_of_part(resolved, part.index)
        codes = pa.array(duplicates["rule"].to_numpy().astype(np.int32))
        near = duplicates["rule"].to_numpy() == NEAR
        return pa.table(
            {
                "row": duplicates["row"].to_numpy() - part.offset,
                "step": pa.DictionaryArray.from_arrays(codes, pa.array(["exact", "near"])),
                "rule": pa.DictionaryArray.from_arrays(codes, pa.array(RULES)),
                "value": duplicates["similarity"].cast(pa.float64()),
                "bound": np.where(near, self.near_threshold, 1.0),
                "duplicate_of": duplicates["duplicate_of"].cast(pa.string()),
                "detail": pa.nulls(len(near), pa.string()),
            },
            schema=VERDICT_SCHEMA,
        )

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        """Totals by domain: what was read, kept, dropped and why."""
        domains: dict[str, dict[str, Any]] = {}
        for result in results:
            start = {"read": 0, "read_bytes": 0, "kept_bytes": 0, "train": 0, "validation": 0, "drops": {}}
            total = domains.setdefault(result["domain"], start)
            total["read"] += result["read"]
            total["read_bytes"] += result["read_bytes"]
            for split in SPLITS:
                total[split] += result["kept"][split]
                total["kept_bytes"] += result["kept_bytes"][split]
            for rule, count in result["drops"].items():
                total["drops"][rule] = total["drops"].get(rule, 0) + count
        return {"domains": domains}


def null_for_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(column.to_numpy(), from_pandas=True, type=pa.float64())])


def draws_validation(seed: int, id_lo: npt.NDArray[np.uint64], share: float) -> npt.NDArray[np.bool_]:
    """bool[rows]: whether a document, known by the low half of its id, is held out if it stays."""
    result: npt.NDArray[np.bool_] = keyed_uniform(seed, "validation", id_lo) < share
    return result


def ledger_file(ledger: Output, index: int) -> Path:
    return ledger.folder / str(ledger.tasks[index]["file"])
