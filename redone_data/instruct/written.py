"""A file of conversations in an order that is a function of seed and ids: step1.jsonl, step2.jsonl, held_out.jsonl.

The order is drawn on ids alone; text is then gathered bucket by bucket of that order, each bucket a task that reads the
conversations once: memory is that of a bucket, and a kill costs at most one.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.engine import Output, Step
from redone_data.instruct.clean import conversations_of
from redone_data.instruct.conversation import FRAME, write_frame
from redone_data.manifest import atomic

BUCKET_ROWS = 400_000


@dataclass(frozen=True)
class WriteStep(Step):
    """One file of conversations. `order`: a Parquet file with the ids in the order of the lines."""

    name = "sft-write"
    VERSION = 1

    file: str
    order: Output
    sources: tuple[Output, ...]

    def config(self) -> Any:
        return {"file": self.file, "bucket_rows": BUCKET_ROWS}

    def inputs(self) -> dict[str, str]:
        return {"order": self.order.fingerprint, **{f"{i:04d}": o.fingerprint for i, o in enumerate(self.sources)}}

    def tasks(self) -> list[int]:
        rows = pl.scan_parquet(self._order).select(pl.len()).collect().item()
        return list(range(0, max(rows, 1), BUCKET_ROWS))

    @property
    def _order(self) -> Path:
        return self.order.folder / f"{self.file}.parquet"

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        wanted = pl.scan_parquet(self._order).slice(task, BUCKET_ROWS).select("id").with_row_index("line").collect()
        found = [pl.DataFrame(schema=FRAME)]
        for source in self.sources:
            for frame in conversations_of(source):
                found.append(frame.select(list(FRAME)).join(wanted.select("id"), on="id", how="semi"))
        rows = wanted.join(pl.concat(found), on="id", how="left", maintain_order="left")
        return {"rows": write_frame(folder / _piece(self.file, index), [rows.select(list(FRAME))])}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        pieces = [folder / _piece(self.file, index) for index in range(len(results))]
        if not (folder / self.file).exists():  # else a kill came while pieces were taken away
            with atomic(folder / self.file) as aside, aside.open("wb") as whole:
                for piece in pieces:
                    with piece.open("rb") as part:
                        shutil.copyfileobj(part, whole, 1 << 20)
        for piece in pieces:
            piece.unlink(missing_ok=True)
        return {"rows": sum(result["rows"] for result in results)}


def _piece(file: str, index: int) -> str:
    return f"{file}.{index:05d}"
