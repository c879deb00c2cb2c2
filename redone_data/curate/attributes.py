"""Attributes: columns beside the documents, computed once, stored row by row with each part.

Documents never change; what later steps learn of them lies beside them. A rule (curate/rules.py) may ask any attribute
by its name, so a changed bound costs a second and not a pass over the text. Two kinds of step make attributes: those
that look at one document at a time work source by source (a new source leaves the others' results alone), those that
look across documents work on the whole corpus.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.corpus import Corpus, Part
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import atomic

HISTOGRAM_BINS = 40
BATCH_ROWS = 50_000

Float64 = npt.NDArray[np.float64]


class AttributeStep(Step):
    """A step that writes one Parquet file a part, with a row for each document of the part, in its order.

    matches: column that rules may ask -> text column that says what was matched, for the ledger. One whose name ends in
    ``_of`` holds the id of a document.
    """

    matches: ClassVar[dict[str, str]] = {}

    @abstractmethod
    def columns(self) -> dict[str, str]:
        """Name -> meaning of each column that rules may ask."""

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "columns": self.columns(), "matches": self.matches}


@dataclass(frozen=True)
class SourceAttributes(AttributeStep):
    """Attributes of the parts of one `read` step, each document by itself. Subclasses say what they measure."""

    source: Output

    @abstractmethod
    def measure(self, batch: pa.RecordBatch) -> pl.DataFrame:
        """A row for each row of `batch`, which has the columns of :meth:`needs`."""

    def needs(self) -> list[str]:
        """The columns of the part that :meth:`measure` looks at."""
        return ["text"]

    def inputs(self) -> dict[str, str]:
        return {"read": self.source.fingerprint}

    def tasks(self) -> list[str]:
        return [part["file"] for task in self.source.tasks for part in task["parts"]]

    def run(self, task: str, index: int, folder: Path) -> dict[str, Any]:
        with pq.ParquetFile(self.source.folder / task) as part:
            batches = part.iter_batches(batch_size=BATCH_ROWS, columns=self.needs(), use_threads=False)
            frame = pl.concat([self.measure(batch) for batch in batches])
        write_attributes(folder / task, frame)
        return {"domain": self.source.manifest["config"]["domain"], **self.summary(frame)}

    def summary(self, frame: pl.DataFrame) -> dict[str, Any]:
        """What the manifest keeps of one part."""
        return {"histograms": histograms(frame, self.columns())}


def write_attributes(path: Path, frame: pl.DataFrame) -> None:
    """Shares need no more than 32 bits; texts among the attributes repeat."""
    kinds = {pl.Float64: pa.float32(), pl.Float32: pa.float32(), pl.String: pa.string(), pl.Boolean: pa.bool_()}
    schema = pa.schema([(name, kinds.get(type(kind), pa.int64())) for name, kind in frame.schema.items()])
    with atomic(path) as aside:
        pq.write_table(frame.to_arrow().cast(schema), aside, compression="zstd")


def corpus_file(folder: Path, part: Part) -> Path:
    """Where a step over the whole corpus writes the attributes of one part."""
    return folder / f"attributes-{part.index:05d}.parquet"


@dataclass(frozen=True)
class Attributes:
    """Finished attribute steps, seen as one table beside each part."""

    corpus: Corpus
    outputs: tuple[Output, ...]

    def read(self, part: Part, columns: Iterable[str]) -> pa.Table:
        """Some columns of one part, row by row. Raises RedoneError for a name that no step makes."""
        wanted = list(dict.fromkeys(columns))
        found: dict[str, pa.ChunkedArray] = {}
        for output in self.outputs:
            path = self._file(output, part)
            if path is None:
                continue
            here = [name for name in wanted if name not in found and name in pq.read_schema(path).names]
            if here:
                table = pq.read_table(path, columns=here)
                found.update({name: table[name] for name in here})
        for name in wanted:
            if name not in found:
                raise RedoneError(f"attribute '{name}' is not computed; {did_you_mean(name, self.meanings())}")
        return pa.table({name: found[name] for name in wanted})

    def names(self, part: Part) -> set[str]:
        """All columns there are beside one part."""
        paths = [self._file(output, part) for output in self.outputs]
        return {name for path in paths if path is not None for name in pq.read_schema(path).names}

    def _file(self, output: Output, part: Part) -> Path | None:
        read = output.manifest["inputs"].get("read")
        if read is None:
            return corpus_file(output.folder, part)
        mine = read == self.corpus.fingerprint_of_folder[part.path.parent.name]
        return output.folder / part.path.name if mine else None

    def meanings(self) -> dict[str, str]:
        """Name -> meaning of every attribute that rules may ask."""
        return {name: text for output in self.outputs for name, text in output.manifest["columns"].items()}

    def matches(self) -> dict[str, str]:
        """Name -> the text column that says what was matched."""
        return {name: text for output in self.outputs for name, text in output.manifest["matches"].items()}

    def histogram(self, domain: str, name: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """(edges, counts) of one attribute over the documents of a domain, from what the steps counted."""
        counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
        for output in self.outputs:
            for task in output.tasks:
                if task["domain"] == domain and name in task["histograms"]:
                    counts += np.array(task["histograms"][name], dtype=np.int64)
        return tuple(edges_of(name).tolist()), tuple(counts.tolist())

    def inputs(self) -> dict[str, str]:
        return {f"attributes{i:05d}": print_ for i, print_ in enumerate(sorted(o.fingerprint for o in self.outputs))}


def edges_of(name: str) -> Float64:
    """The fixed bins of an attribute: equal ones from 0 to 1 for shares and scores, doubling in size for counts."""
    if name.endswith(("_fraction", "_ratio", "_confidence")) or name.startswith("quality_"):
        return np.linspace(0, 1, HISTOGRAM_BINS + 1)
    return np.concatenate([[0.0], np.logspace(0, 20, HISTOGRAM_BINS, base=2)])


def histograms(frame: pl.DataFrame, columns: Mapping[str, str] | Sequence[str]) -> dict[str, list[int]]:
    """Counts in the fixed bins of each column."""
    return {name: _histogram(frame[name].to_numpy().astype(np.float64), name) for name in columns}


def _histogram(values: Float64, name: str) -> list[int]:
    edges = edges_of(name)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, HISTOGRAM_BINS - 1)
    counts: list[int] = np.bincount(bins, minlength=HISTOGRAM_BINS).tolist()
    return counts
