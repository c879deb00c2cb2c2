"""The conversations that pairs are made from: files of ``redone-data sft``, read once, strictly, into columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from redone_data.curate.sources import InputFile
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.conversation import FRAME, read_conversations, to_frame
from redone_data.manifest import atomic

CONVERSATIONS = "conversations.parquet"
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class ConversationsStep(Step):
    """The conversations of some files, of some tasks, each once. 50,000 in 2 s."""

    name = "conversations"
    VERSION = 1

    files: tuple[InputFile, ...]
    only: tuple[str, ...]  # tasks; empty: all

    def config(self) -> Any:
        return {"only": list(self.only)}

    def inputs(self) -> dict[str, str]:
        return {f"{i:06d}.jsonl": file.sha256 for i, file in enumerate(self.files)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        seen: set[str] = set()
        tasks: set[str] = set()
        rows = 0
        with (
            atomic(folder / CONVERSATIONS) as aside,
            pq.ParquetWriter(aside, pl.DataFrame(schema=FRAME).to_arrow().schema, compression="zstd") as writer,
        ):
            for file in self.files:
                conversations = read_conversations(Path(file.path))
                while batch := list(islice(conversations, _BATCH_ROWS)):
                    tasks |= {row.task for row in batch}
                    # Step 2 of a blend has many of step 1's conversations.
                    new = {
                        row.id: row for row in batch if row.id not in seen and (not self.only or row.task in self.only)
                    }
                    seen |= set(new)
                    rows += len(new)
                    writer.write_table(to_frame(new.values()).to_arrow())
        if not rows:
            labels = ", ".join(file.label for file in self.files)
            known = f"; its tasks: {', '.join(sorted(tasks))}" if tasks else ""
            wanted = f" of the tasks {', '.join(self.only)}" if self.only else ""
            raise RedoneError(f"{labels}: no conversation{wanted} is in it{known}")
        return {"conversations": rows}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


def conversation_rows(output: Output) -> Iterator[dict[str, Any]]:
    """The rows of a finished step, as mappings with `format` and `answer` as JSON text."""
    with pq.ParquetFile(output.folder / CONVERSATIONS) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            yield from batch.to_pylist()
