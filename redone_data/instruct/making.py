"""Tables and tasks to conversations, as steps of the engine: a table is read once, whatever number of tasks ask of it.

1. sft-table: rows read, joined, and those that say what another row says taken out (alike.py);
2. sft-select: what a task takes of a table (build.py): label balance, distractors, partners;
3. sft-render: the prompts, slice by slice, each a task of its own that a kill or another worker may part.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from redone_data.config import plain, read_config
from redone_data.curate.sources import InputFile
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.alike import DuplicateRowsConfig, distinct_rows, text_columns
from redone_data.instruct.build import Built, check_readable, render, select
from redone_data.instruct.ledger import CONVERSATIONS, DROPPED, SELECTED, ledger_frame
from redone_data.instruct.masking import masked
from redone_data.instruct.repeats import repeats_of
from redone_data.instruct.tables import DROPPED as ROW_DROPS
from redone_data.instruct.tables import Table, TableConfig, read_table
from redone_data.instruct.task import Task
from redone_data.manifest import atomic

TABLE = "table.parquet"
SLICE_ROWS = 20_000
NAMED = ("text", "csv")  # formats of which the file's name decides something


TEXT_KINDS = ("text", "list", "messages")  # of a task's columns; labels and numbers are no text


@dataclass(frozen=True)
class TaskEntry:
    """Which tables a task is made of, and what is set otherwise than its file has it."""

    tables: tuple[str, ...] = field(metadata={"help": "of the recipe; each has the columns that the task needs"})
    options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "the task's own, in place of those of its file"}
    )
    duplicates: DuplicateRowsConfig = field(default_factory=DuplicateRowsConfig)

    def __post_init__(self) -> None:
        if not self.tables or len(set(self.tables)) < len(self.tables):
            raise RedoneError("tables: at least one is needed, and each once")


@dataclass(frozen=True)
class TableStep(Step):
    """The distinct rows of one table, personal data masked.

    tables: itself and those that it joins; files: of each of them. texts: columns that tasks read as text.
    """

    name = "sft-table"
    VERSION = 1

    table: str
    tables: Mapping[str, TableConfig]
    files: Mapping[str, Sequence[InputFile]]
    base: Path
    duplicates: DuplicateRowsConfig
    texts: tuple[str, ...]
    redact: tuple[str, ...]

    def config(self) -> Any:
        settings = {name: plain(config) for name, config in sorted(self.tables.items())}
        for values in settings.values():
            del values["paths"]
        # A column may be the file's name (table_files.py), and the separator of a CSV file goes by its suffix.
        names = {name: [Path(f.path).name for f in files if f.format in NAMED] for name, files in self.files.items()}
        masking = {"texts": sorted(self.texts), "redact": sorted(self.redact)}
        duplicates = plain(self.duplicates)
        return {"table": self.table, "tables": settings, "duplicates": duplicates, "names": names, **masking}

    def inputs(self) -> dict[str, str]:
        return {
            f"{name}/{i:06d}.{file.format}": file.sha256
            for name, files in self.files.items()
            for i, file in enumerate(files)
        }

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        table = read_table(self.table, self.tables, self.base)
        here = [name for name in self.texts if name in table.frame.columns]
        frame, counts = masked(table.frame, here, self.redact)
        kept, repeats = distinct_rows(frame.with_columns(id="row"), self._texts(frame), self.duplicates)
        lines = pl.concat([_ledger(table.dropped, "table"), ledger_frame(repeats, stage="table")])
        _write(folder / TABLE, kept.drop("id"))
        _write(folder / DROPPED, lines)
        return {"read": table.rows_read, "rows": kept.height, "dropped": lines.height, "masked": counts}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def _texts(self, frame: pl.DataFrame) -> list[pa.Array]:
        """What each row says: the columns that are compared."""
        schema = frame.schema
        for name in self.duplicates.by:
            if name not in schema:
                raise RedoneError(f"duplicates.{self.table}.by: the table has no column '{name}'")
        own = [name for name in (*self.tables[self.table].columns, "history") if name in schema]
        names = self.duplicates.by or own
        said = frame.select(text_columns(frame, names))
        return [column.to_arrow().cast(pa.large_string()) for column in said.iter_columns()]


@dataclass(frozen=True)
class SelectStep(Step):
    """The rows of a table that a task takes."""

    name = "sft-select"
    VERSION = 1

    task: str  # as JSON: compiled templates do not travel
    table_name: str
    table: Output
    seed: int

    def config(self) -> Any:
        return {"task": json.loads(self.task), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"table": self.table.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        rows = pl.read_parquet(self.table.folder / TABLE)
        table = Table(self.table_name, rows, pl.DataFrame(schema=ROW_DROPS), rows.height)
        selected = select(table, task_of(self.task), seed=self.seed)
        if selected.frame.is_empty():
            counts = selected.dropped["rule"].value_counts().sort("count", "rule", descending=True)
            why = ", ".join(f"{rule} {count}" for rule, count in counts.head(3).iter_rows()) or "it is empty"
            raise RedoneError(
                f"task {task_of(self.task).name}: no row of table '{self.table_name}' can be used ({why}); mend the "
                "table's columns or the task's options, or leave it out"
            )
        _write(folder / SELECTED, selected.frame)
        _write(folder / DROPPED, _ledger(selected.dropped, "build"))
        return {"read": rows.height, "rows": selected.frame.height, "dropped": selected.dropped.height}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


@dataclass(frozen=True)
class RenderStep(Step):
    """The conversations of the rows that a task took, a file a slice."""

    name = "sft-render"
    VERSION = 1

    task: str
    table_name: str
    selected: Output
    repeats: Output
    seed: int
    held_out_share: float

    def config(self) -> Any:
        return {"seed": self.seed, "held_out_share": self.held_out_share, "slice_rows": SLICE_ROWS}

    def inputs(self) -> dict[str, str]:
        return {"selected": self.selected.fingerprint, "repeats": self.repeats.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(0, self.selected.statistics["rows"], SLICE_ROWS))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        rows = pl.scan_parquet(self.selected.folder / SELECTED, row_index_name="place")
        frame = rows.slice(task, SLICE_ROWS).collect()
        lines = repeats_of(self.repeats, self.table_name)
        repeated = frame.select("place", "row").join(lines, on="place", maintain_order="left")
        frame = frame.join(lines, on="place", how="anti", maintain_order="left").drop("place")
        built = render(frame, task_of(self.task), seed=self.seed, held_out_share=self.held_out_share)
        dropped = pl.concat([repeated.select(list(ROW_DROPS)), built.dropped])
        _write(folder / f"{index:05d}.{CONVERSATIONS}", built.conversations)
        _write(folder / f"{index:05d}.{DROPPED}", dropped)
        return {"conversations": built.conversations.height, "dropped": dropped.height}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        count = sum(result["conversations"] for result in results)
        lost = [pl.read_parquet(path) for path in sorted(folder.glob(f"*.{DROPPED}"))]
        every = pl.DataFrame({"id": pl.repeat("", count, eager=True)})
        check_readable(Built(every, pl.concat(lost)), task_of(self.task), self.table_name)
        before = pl.read_parquet(self.selected.folder / DROPPED)
        lines = pl.concat([before, *(_ledger(frame, "build") for frame in lost)])
        for path in folder.glob(f"*.{DROPPED}"):
            path.unlink()
        _write(folder / DROPPED, lines)
        return {"read": self.selected.statistics["read"], "conversations": count, "dropped": lines.height}


def task_values(task: Task) -> str:
    """A task as JSON, its keys in their order: fields are written in it, and options where the task says so."""
    return json.dumps(plain(task), ensure_ascii=False)


@functools.lru_cache(maxsize=256)
def task_of(values: str) -> Task:
    """What :func:`task_values` wrote."""
    return read_config(Task, json.loads(values), where="task")


def _ledger(dropped: pl.DataFrame, stage: str) -> pl.DataFrame:
    """Lines of tables.DROPPED as lines of the ledger: the row is id and document."""
    named = dropped.with_columns(pl.col("row").alias("id"), pl.concat_list("row").alias("documents"))
    return ledger_frame(named, stage=stage)


def _write(path: Path, frame: pl.DataFrame) -> None:
    with atomic(path) as aside:
        frame.write_parquet(aside, compression="zstd", row_group_size=SLICE_ROWS)
