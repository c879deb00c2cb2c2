"""Who stays among duplicates: one total order over documents, decided by (domain priority, standing, id).

Of equal texts the best document stays. Then, going from the best text to the worst, each that still stays drops all its
verified near-duplicates that are worse: so no chains form, every dropped document names one that is kept, and the order
of files never matters. One task, linear in the documents that have a duplicate (about 60 bytes each, none for the
others): the only stage of curation that is not split.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.corpus import Corpus
from redone_data.curate.groups import groups_of_part, part_of
from redone_data.curate.identity import ids_of_part
from redone_data.curate.index import Index
from redone_data.curate.policy import read_verdicts
from redone_data.curate.standing import standing_of
from redone_data.curate.verify import read_edges
from redone_data.engine import Output, Step
from redone_data.exchange import Slices, concatenated, distinct, read_slices, write_slices
from redone_data.text.hashing import to_hex
from redone_data.text.kernel import kernel

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

EXACT, NEAR = 0, 1
RULES = ("exact_duplicate", "near_duplicate")


@dataclass(frozen=True)
class ResolveStep(Step):
    """Which duplicates are dropped, and for which document.

    Without `judged` every document passes; without `standing` engagement decides, as `judged` has it. The documents of
    an `index` have been accepted before: they all stay; `known` says which of them have a text that is here too.
    """

    name = "resolve"
    VERSION = 2

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
        rows, first = self._exact_members()
        left, right, similarity = self._edges()
        ours, old = self._known()
        nodes = distinct(np.concatenate([rows, left, right, ours, old]))
        # The text a document has, named by the first document with it.
        text = np.arange(len(nodes), dtype=np.int32)
        text[np.searchsorted(nodes, rows)] = np.searchsorted(nodes, first)
        text[np.searchsorted(nodes, old)] = np.searchsorted(nodes, ours)
        a, b = (text[np.searchsorted(nodes, side)] for side in (left, right))
        del rows, first, left, right, ours, old
        passes, order, hi, lo = self._order(nodes)
        keeper, score = keep_greedily(order, passes, text, a, b, similarity)

        dropped = np.flatnonzero((keeper >= 0) & (nodes < self.corpus.num_rows))
        kept = keeper[dropped]
        columns: dict[str, Any] = {
            "row": nodes[dropped],
            "rule": np.where(text[kept] == text[dropped], EXACT, NEAR).astype(np.int8),
            "similarity": score[dropped],
            "duplicate_of": to_hex(hi[kept], lo[kept]),
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

    def _exact_members(self) -> tuple[Int64, Int64]:
        rows, firsts = [], []
        for part in self.corpus.parts:
            local, first, _ = groups_of_part(self.exact, part)
            rows.append(local + part.offset)
            firsts.append(first)
        return concatenated(rows, np.int64), concatenated(firsts, np.int64)

    def _edges(self) -> tuple[Int64, Int64, Float64]:
        if self.near is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        edges = read_edges(self.near)
        return edges["left"].to_numpy(), edges["right"].to_numpy(), edges["similarity"].to_numpy()

    def _known(self) -> tuple[Int64, Int64]:
        """Rows of new texts, and the documents of the index that have the same."""
        if self.known is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        texts = Slices(self.known.files(".arrow"))
        return texts.column("row", 0, 1), texts.column("document", 0, 1) + self.corpus.num_rows

    def _order(self, nodes: Int64) -> tuple[Bool, Int32, UInt64, UInt64]:
        """For each node: does it pass; the nodes from best to worst; the halves of their ids."""
        here = nodes < self.corpus.num_rows
        own = nodes[here]
        passes = np.ones(len(nodes), dtype=bool)
        value, priority = np.zeros(len(nodes)), np.full(len(nodes), np.iinfo(np.int64).max)
        hi, lo = np.zeros(len(nodes), dtype=np.uint64), np.zeros(len(nodes), dtype=np.uint64)
        passes[here], priority[here], value[here], hi[here], lo[here] = self._described(own)
        if self.standing is not None:
            value[here] = standing_of(self.corpus, self.standing, own).value
        if self.index is not None:
            others = nodes[~here] - self.corpus.num_rows
            hi[~here], lo[~here] = self.index.ids(others)
            value[~here] = self.index.standing(others).value
        return passes, np.lexsort((lo, hi, -value, -priority)).astype(np.int32), hi, lo

    def _described(self, rows: Int64) -> tuple[Bool, Int64, Float64, UInt64, UInt64]:
        passes, priority = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=np.int64)
        engagement = np.zeros(len(rows))
        hi, lo = np.zeros(len(rows), dtype=np.uint64), np.zeros(len(rows), dtype=np.uint64)
        bounds = np.searchsorted(rows, [part.offset for part in self.corpus.parts] + [self.corpus.num_rows])
        for part, start, end in zip(self.corpus.parts, bounds[:-1], bounds[1:], strict=True):
            if start == end:
                continue
            local = rows[start:end] - part.offset
            priority[start:end] = self.priorities[part.domain]
            if self.judged is not None:
                fails = np.zeros(part.rows, dtype=bool)
                fails[read_verdicts(self.judged, part.index)["row"].to_numpy()] = True
                passes[start:end] = ~fails[local]
            hi[start:end], lo[start:end] = (half[local] for half in ids_of_part(self.ids, part))
            engagement[start:end] = part.read(["engagement"])["engagement"].fill_null(-np.inf).to_numpy()[local]
        return passes, priority, engagement, hi, lo


def keep_greedily(
    order: Int32, passes: Bool, text: Int32, a: Int32, b: Int32, similarity: Float64
) -> tuple[Int32, Float64]:
    """For each node the kept node that it duplicates (-1: it stays, or does not pass) and their similarity.

    order: nodes from best to worst. text: the node that stands for the node's text. a, b, similarity: verified pairs of
    such nodes.
    """
    keeper, score = np.full(len(order), -1, np.int32), np.ones(len(order))
    edges = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.bincount(a, minlength=len(order)) + np.bincount(b, minlength=len(order)), out=edges[1:])
    neighbours, scores = _adjacent(edges, a, b, similarity)
    _greedy(order, passes, text, edges, neighbours, scores, keeper, score)
    return keeper, score


@kernel
def _adjacent(edges: Int64, a: Int32, b: Int32, similarity: Float64) -> tuple[Int32, Float64]:
    to = edges[:-1].copy()
    neighbours, scores = np.empty(edges[-1], np.int32), np.empty(edges[-1], np.float64)
    for k in range(len(a)):
        neighbours[to[a[k]]], scores[to[a[k]]] = b[k], similarity[k]
        to[a[k]] += 1
        neighbours[to[b[k]]], scores[to[b[k]]] = a[k], similarity[k]
        to[b[k]] += 1
    return neighbours, scores


@kernel
def _greedy(
    order: Int32,
    passes: Bool,
    text: Int32,
    edges: Int64,
    neighbours: Int32,
    scores: Float64,
    keeper: Int32,
    score: Float64,
) -> None:
    # Of each text: the best document that passes, then the kept document that the whole text yields to.
    best, winner = np.full(len(order), -1, np.int32), np.full(len(order), -1, np.int32)
    won_by = np.ones(len(order), np.float64)
    for node in order:
        if not passes[node]:
            continue
        own = text[node]
        if best[own] < 0:
            best[own] = node
            if winner[own] < 0:
                for k in range(edges[own], edges[own + 1]):
                    other = neighbours[k]
                    # The better ones have had their turn: a kept one would have dropped this text.
                    if best[other] < 0 and winner[other] < 0:
                        winner[other], won_by[other] = node, scores[k]
        if winner[own] >= 0:
            keeper[node], score[node] = winner[own], won_by[own]
        elif best[own] != node:
            keeper[node] = best[own]


def duplicates_of_part(resolved: Output, index: int) -> pa.Table:
    """The dropped duplicates in one part: row (global), rule, similarity, duplicate_of."""
    return read_slices(resolved.files(".arrow"), index, index + 1)
