"""Who stays among duplicates: one total order over documents, decided by (domain priority, standing, id).

Of equal texts the best document stays. Then, going from the best text to the worst, each that still stays drops all its
verified near-duplicates that are worse: so no chains form, every dropped document names one that is kept, and the order
of files never matters. One task, linear in the documents that have a duplicate (some 55 bytes each, one for each of
the others): the only stage of curation that is not split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.corpus import Corpus, Part
from redone_data.curate.groups import groups_of_part, part_of
from redone_data.curate.identity import ids_of_part
from redone_data.curate.index import Index
from redone_data.curate.policy import read_verdicts
from redone_data.curate.standing import standing_of
from redone_data.engine import Output, Step
from redone_data.exchange import Slices, distinct, read_slices, write_slices
from redone_data.text.hashing import to_hex
from redone_data.text.kernel import kernel

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

EXACT, NEAR = 0, 1
RULES = ("exact_duplicate", "near_duplicate")
NONE = np.iinfo(np.int32).max
DECIMALS = 6  # of similarities, which are held in 32 bits


@dataclass(frozen=True)
class ResolveStep(Step):
    """Which duplicates are dropped, and for which document.

    Without `judged` every document passes; without `standing` engagement decides, as `judged` has it. The documents of
    an `index` have been accepted before: they all stay; `known` says which of them have a text that is here too.
    """

    name = "resolve"
    VERSION = 3

    corpus: Corpus
    judged: Output | None
    exact: Output
    near: Output | None
    priorities: dict[str, int]
    standing: Output | None = None
    index: Index | None = None
    known: Output | None = None
    ids: Output | None = None

    def config(self) -> Any:
        return {"priorities": self.priorities}

    def inputs(self) -> dict[str, str]:
        outputs = {
            "judge": self.judged,
            "exact": self.exact,
            "near": self.near,
            "standing": self.standing,
            "known": self.known,
            "ids": self.ids,
        }
        inputs = {label: output.fingerprint for label, output in outputs.items() if output is not None}
        return {**inputs, **({} if self.index is None else {"index": self.index.fingerprint})}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        nodes = self._nodes()
        # The text a document has, named by the first document with it.
        text = np.arange(len(nodes), dtype=np.int32)
        for rows, first in self._same_text():
            text[np.searchsorted(nodes, rows)] = np.searchsorted(nodes, first)
        passes, order = self._order(nodes)
        keeper, score = keep_greedily(order, passes, text, *self._edges(nodes, text))
        del passes, order

        dropped = np.flatnonzero((keeper >= 0) & (nodes < self.corpus.num_rows))
        kept = keeper[dropped]
        keepers = distinct(kept)
        hi, lo = self._ids(nodes[keepers])
        place = np.searchsorted(keepers, kept)
        columns: dict[str, Any] = {
            "row": nodes[dropped],
            "rule": np.where(text[kept] == text[dropped], EXACT, NEAR).astype(np.int8),
            "similarity": score[dropped].astype(np.float64).round(DECIMALS),
            "duplicate_of": to_hex(hi[place], lo[place]),
        }
        parts = part_of(self.corpus, columns["row"])
        write_slices(folder / "duplicates.arrow", parts, len(self.corpus.parts), columns)
        counts = np.bincount(columns["rule"], minlength=2)
        return {
            "documents_with_duplicates": len(nodes),
            RULES[EXACT]: int(counts[EXACT]),
            RULES[NEAR]: int(counts[NEAR]),
        }

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def _nodes(self) -> Int64:
        """The documents that have a duplicate, ascending; those of the index behind the corpus's own."""
        old = 0 if self.index is None else self.index.num_documents
        marked = np.zeros(self.corpus.num_rows + old, dtype=bool)
        for rows, first in self._same_text():
            marked[rows] = True
            marked[first] = True
        for edges in self._near_files():
            marked[edges["left"].to_numpy()] = True
            marked[edges["right"].to_numpy()] = True
        return np.flatnonzero(marked)

    def _same_text(self) -> Iterator[tuple[Int64, Int64]]:
        """Documents, and for each a document with the same text: the first in the corpus."""
        for part in self.corpus.parts:
            rows, first, _ = groups_of_part(self.exact, part)
            yield rows + part.offset, first
        if self.known is not None:
            texts = Slices(self.known.files(".arrow"))
            yield texts.column("document", 0, 1) + self.corpus.num_rows, texts.column("row", 0, 1)

    def _near_files(self) -> Iterator[pa.Table]:
        if self.near is not None:
            for path in self.near.files(".parquet"):
                yield pq.read_table(path)

    def _edges(self, nodes: Int64, text: Int32) -> tuple[Int32, Int32, Float32]:
        """Verified pairs of texts, by the nodes that stand for them, and their similarity."""
        a, b, similarity = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        for edges in self._near_files():
            for side, name in ((a, "left"), (b, "right")):
                side.append(text[np.searchsorted(nodes, edges[name].to_numpy())])
            similarity.append(edges["similarity"].to_numpy().astype(np.float32))
        return np.concatenate(a), np.concatenate(b), np.concatenate(similarity)

    def _order(self, nodes: Int64) -> tuple[Bool, Int32]:
        """For each node: does it pass; and the nodes from best to worst."""
        here = nodes < self.corpus.num_rows
        own = nodes[here]
        passes, value = np.ones(len(nodes), dtype=bool), np.zeros(len(nodes))
        priority = np.full(len(nodes), np.iinfo(np.int32).max, np.int32)
        passes[here], priority[here], value[here] = self._described(own)
        if self.standing is not None:
            value[here] = standing_of(self.corpus, self.standing, own).value
        if self.index is not None:
            value[~here] = self.index.standing(nodes[~here] - self.corpus.num_rows).value
        del here, own
        hi, lo = self._ids(nodes)
        np.negative(value, out=value)
        np.negative(priority, out=priority)
        return passes, np.lexsort((lo, hi, value, priority)).astype(np.int32)

    def _ids(self, nodes: Int64) -> tuple[UInt64, UInt64]:
        """The halves of the ids of these documents, ascending."""
        hi, lo = np.zeros(len(nodes), dtype=np.uint64), np.zeros(len(nodes), dtype=np.uint64)
        for part, start, end in self._by_part(nodes):
            local = nodes[start:end] - part.offset
            hi[start:end], lo[start:end] = (half[local] for half in ids_of_part(self.ids, part))
        old = np.searchsorted(nodes, self.corpus.num_rows)
        if self.index is not None:
            hi[old:], lo[old:] = self.index.ids(nodes[old:] - self.corpus.num_rows)
        return hi, lo

    def _by_part(self, rows: Int64) -> Iterator[tuple[Part, int, int]]:
        bounds = np.searchsorted(rows, [part.offset for part in self.corpus.parts] + [self.corpus.num_rows])
        for part, start, end in zip(self.corpus.parts, bounds[:-1], bounds[1:], strict=True):
            if start < end:
                yield part, start, end

    def _described(self, rows: Int64) -> tuple[Bool, Int32, Float64]:
        passes, priority = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=np.int32)
        engagement = np.zeros(len(rows))
        for part, start, end in self._by_part(rows):
            local = rows[start:end] - part.offset
            priority[start:end] = self.priorities[part.domain]
            if self.judged is not None:
                fails = np.zeros(part.rows, dtype=bool)
                fails[read_verdicts(self.judged, part.index)["row"].to_numpy()] = True
                passes[start:end] = ~fails[local]
            if self.standing is None:
                found = part.read(["engagement"])["engagement"].fill_null(-np.inf).to_numpy()
                engagement[start:end] = found[local]
        return passes, priority, engagement


def keep_greedily(
    order: Int32, passes: Bool, text: Int32, a: Int32, b: Int32, similarity: Float32
) -> tuple[Int32, Float32]:
    """For each node the kept node that it duplicates (-1: it stays, or does not pass) and their similarity.

    order: nodes from best to worst. text: the node that stands for the node's text. a, b, similarity: verified pairs of
    such nodes.
    """
    rank = _ranks(order, passes, text)
    starts, better, scores = _better_ones(rank, a, b, similarity)
    del a, b, similarity
    return _greedy(order, passes, text, rank, starts, better, scores)


@kernel
def _ranks(order: Int32, passes: Bool, text: Int32) -> Int32:
    """Of each text the place in ``order`` of its best document that passes; NONE where none does."""
    rank = np.full(len(order), NONE, np.int32)
    for place in range(len(order)):
        node = order[place]
        if passes[node] and rank[text[node]] == NONE:
            rank[text[node]] = place
    return rank


@kernel
def _better_ones(rank: Int32, a: Int32, b: Int32, similarity: Float32) -> tuple[Int64, Int32, Float32]:
    """The texts near text ``t`` that are better than it: ``better[starts[t]:starts[t + 1]]``, and how near."""
    starts = np.zeros(len(rank) + 1, np.int64)
    for k in range(len(a)):
        if rank[a[k]] != NONE and rank[b[k]] != NONE:
            starts[(a[k] if rank[a[k]] > rank[b[k]] else b[k]) + 1] += 1
    for node in range(len(rank)):
        starts[node + 1] += starts[node]
    better, scores = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    for k in range(len(a)):
        if rank[a[k]] != NONE and rank[b[k]] != NONE:
            worse, other = (a[k], b[k]) if rank[a[k]] > rank[b[k]] else (b[k], a[k])
            better[starts[worse]], scores[starts[worse]] = other, similarity[k]
            starts[worse] += 1  # at the end each start is that of the next
    for node in range(len(rank), 0, -1):
        starts[node] = starts[node - 1]
    starts[0] = 0
    return starts, better, scores


@kernel
def _greedy(
    order: Int32, passes: Bool, text: Int32, rank: Int32, starts: Int64, better: Int32, scores: Float32
) -> tuple[Int32, Float32]:
    keeper, score = np.full(len(order), -1, np.int32), np.ones(len(order), np.float32)
    for node in order:
        if not passes[node]:
            continue
        own = text[node]
        best = order[rank[own]]
        if best == node:
            first = NONE
            for k in range(starts[own], starts[own + 1]):
                place = rank[better[k]]
                if place < first and keeper[order[place]] < 0:
                    first = place
                    keeper[node], score[node] = order[place], scores[k]
        elif keeper[best] < 0:
            keeper[node] = best
        else:
            keeper[node], score[node] = keeper[best], score[best]
    return keeper, score


def duplicates_of_part(resolved: Output, index: int) -> pa.Table:
    """The dropped duplicates in one part: row (global), rule, similarity, duplicate_of."""
    return read_slices(resolved.files(".arrow"), index, index + 1)
