"""What decides who stays among duplicates, beside the priority of domains and the id: one number a document.

The highest number stays: most engagement, longest, newest, oldest, or the highest value of a quality attribute. A
document without one (no engagement, no date) stands below all that have one. 16 bytes a document, memory-mapped where
only a few are asked for.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.config import plain
from redone_data.corpus import Corpus, Part
from redone_data.curate.attributes import Attributes
from redone_data.curate.groups import part_of
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.exchange import Slices, write_sliced

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]

COLUMNS = {"engagement": "engagement", "length": "num_bytes", "newest": "created_at", "oldest": "created_at"}


@dataclass(frozen=True)
class DuplicatesConfig:
    """Which of several duplicates stays."""

    keep: Literal["engagement", "length", "newest", "oldest", "quality"] = field(
        default="engagement",
        metadata={"help": "after domain priority: engagement, length (bytes of text), newest, oldest, or quality"},
    )
    quality: str | None = field(default=None, metadata={"help": "for keep: quality, the attribute; highest stays"})

    def __post_init__(self) -> None:
        if (self.keep == "quality") != (self.quality is not None):
            raise RedoneError(
                f"keep: {self.keep} with quality: {self.quality}; name an attribute under quality (quality_ads, "
                "num_words, ...) exactly when keep is quality"
            )


@dataclass(frozen=True)
class StandingStep(Step):
    """The number of every document, by part."""

    name = "standing"
    VERSION = 1

    corpus: Corpus
    duplicates: DuplicatesConfig
    attributes: Attributes | None = None

    def config(self) -> Any:
        return plain(self.duplicates)

    def inputs(self) -> dict[str, str]:
        asks = self.duplicates.quality is not None and self.attributes is not None
        return {**self.corpus.inputs(), **(self.attributes.inputs() if asks and self.attributes else {})}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        value = np.concatenate([np.zeros(0), *self._values(part)])
        columns = {"value": value, "key": part.read(["key_hi"])["key_hi"].to_numpy()}
        write_sliced(_file(folder, index), np.array([0, part.rows]), columns)
        return {}

    def _values(self, part: Part) -> list[Float64]:
        keep, quality = self.duplicates.keep, self.duplicates.quality
        if quality is not None:
            if self.attributes is None:
                raise RedoneError(f"keep: quality asks for the attribute '{quality}', and none are computed here")
            return [_floats(self.attributes.read(part, [quality])[quality].combine_chunks())]
        sign = -1 if keep == "oldest" else 1
        column = COLUMNS[keep]
        return [_floats(batch.column(column), sign) for batch in part.batches([column])]


def _floats(column: pa.Array, sign: int = 1) -> Float64:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: Float64 = column.to_numpy(zero_copy_only=False).astype(np.float64) * sign
    values[np.isnan(values)] = -np.inf
    return values


def _file(folder: Path, index: int) -> Path:
    return folder / f"standing-{index:05d}.arrow"


class Standing(NamedTuple):
    """Of some documents: the place of their domain, their number, and the upper half of their key."""

    domain: Int64
    value: Float64
    key: UInt64


def standing_of(corpus: Corpus, standing: Output, rows: Int64) -> Standing:
    """The standing of the documents at these global rows."""
    parts = part_of(corpus, rows)
    domains = {name: number for number, name in enumerate(corpus.domains)}
    found = Standing(np.zeros(len(rows), np.int64), np.zeros(len(rows)), np.zeros(len(rows), np.uint64))
    for index in np.unique(parts):
        part, here = corpus.parts[index], parts == index
        columns = Slices([_file(standing.folder, int(index))])
        local = rows[here] - part.offset
        found.domain[here] = domains[part.domain]
        found.value[here] = columns.column("value", 0, 1)[local]
        found.key[here] = columns.column("key", 0, 1)[local]
    return found
