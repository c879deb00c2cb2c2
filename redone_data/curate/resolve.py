"""Who stays among duplicates: one total order over documents, decided by (domain priority, engagement, id).

Of equal texts the best document stays. Then, going from the best text to the worst, a text stays unless a text that
stays already is a verified near-duplicate of it: so no chains form, every dropped document names one that is kept, and
the order of files never matters. One task, linear in the documents that have a duplicate.
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
from redone_data.curate.near import read_edges
from redone_data.curate.policy import read_verdicts
from redone_data.engine import Output, Step
from redone_data.exchange import read_slices, write_slices
from redone_data.text.hashing import to_hex
from redone_data.text.kernel import kernel

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

EXACT, NEAR = 0, 1
RULES = ("exact_duplicate", "near_duplicate")


@dataclass(frozen=True)
class ResolveStep(Step):
    """Which duplicates are dropped, and for which document."""

    name = "resolve"
    VERSION = 1

    corpus: Corpus
    ids: Output
    judged: Output
    exact: Output
    near: Output | None
    priorities: dict[str, int]

    def config(self) -> Any:
        return {"priorities": self.priorities, "near": self.near is not None}

    def inputs(self) -> dict[str, str]:
        near = {} if self.near is None else {"near": self.near.fingerprint}
        return {"ids": self.ids.fingerprint, "judge": self.judged.fingerprint, "exact": self.exact.fingerprint, **near}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        rows, first = self._exact_members()
        left, right, similarity = self._edges()
        nodes = np.unique(np.concatenate([rows, left, right]))
        text = nodes.copy()  # the text a document has, named by the first document with it
        text[np.searchsorted(nodes, rows)] = first
        passes, order, ids = self._ranks(nodes)

        texts, text_of = np.unique(text, return_inverse=True)
        best = _best(order, passes, text_of, len(texts))
        has = best >= 0
        rank = np.full(len(texts), np.iinfo(np.int64).max)
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        rank[has] = position[best[has]]

        a, b = np.searchsorted(texts, left), np.searchsorted(texts, right)
        real = has[a] & has[b]
        winner, score = _keep_greedily(rank, a[real], b[real], similarity[real])

        # A text that yields to another takes all its documents with it; of one that stays, only the best remains.
        yields = winner >= 0
        keeper = best.copy()
        keeper[yields] = best[winner[yields]]
        drop = passes & (keeper[text_of] != np.arange(len(nodes)))
        columns: dict[str, Any] = {
            "row": nodes[drop],
            "rule": np.where(yields[text_of], NEAR, EXACT)[drop].astype(np.int8),
            "similarity": np.where(yields, score, 1.0)[text_of][drop],
            "duplicate_of": to_hex(*(part[keeper[text_of[drop]]] for part in ids)),
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
        rows, firsts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part in self.corpus.parts:
            local, first, _ = groups_of_part(self.exact, part)
            rows.append(local + part.offset)
            firsts.append(first)
        return np.concatenate(rows), np.concatenate(firsts)

    def _edges(self) -> tuple[Int64, Int64, Float64]:
        if self.near is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        edges = read_edges(self.near)
        return edges["left"].to_numpy(), edges["right"].to_numpy(), edges["similarity"].to_numpy()

    def _ranks(self, nodes: Int64) -> tuple[npt.NDArray[np.bool_], Int64, tuple[Any, Any]]:
        """For each node: does it pass; the nodes from best to worst; their ids' halves."""
        passes = np.zeros(len(nodes), dtype=bool)
        engagement = np.zeros(len(nodes))
        priority = np.zeros(len(nodes), dtype=np.int64)
        hi, lo = np.zeros(len(nodes), dtype=np.uint64), np.zeros(len(nodes), dtype=np.uint64)
        parts = part_of(self.corpus, nodes)
        for index in np.unique(parts):
            part, here = self.corpus.parts[index], parts == index
            rows = nodes[here] - part.offset
            fails = np.zeros(part.rows, dtype=bool)
            fails[read_verdicts(self.judged, int(index))["row"].to_numpy()] = True
            passes[here] = ~fails[rows]
            engagement[here] = part.read(["engagement"])["engagement"].fill_null(-np.inf).to_numpy()[rows]
            hi[here], lo[here] = (half[rows] for half in ids_of_part(self.ids, int(index)))
            priority[here] = self.priorities[part.domain]
        return passes, np.lexsort((lo, hi, -engagement, -priority)), (hi, lo)


def _best(order: Int64, passes: npt.NDArray[np.bool_], text_of: Int64, num_texts: int) -> Int64:
    """The best passing node of each text, -1 where none passes. order: nodes from best to worst."""
    best = np.full(num_texts, -1, dtype=np.int64)
    candidates = order[passes[order]][::-1]  # written worst first, so the best is what stays
    best[text_of[candidates]] = candidates
    return best


def _keep_greedily(rank: Int64, a: Int64, b: Int64, similarity: Float64) -> tuple[Int64, Float64]:
    """For each text the kept text it yields to (-1: it stays) and their similarity. Lower rank goes first."""
    source, target = np.concatenate([a, b]), np.concatenate([b, a])
    score = np.concatenate([similarity, similarity])
    order = np.lexsort((rank[target], source))
    edges = np.searchsorted(source[order], np.arange(len(rank) + 1)).astype(np.int64)
    winner = np.full(len(rank), -1, dtype=np.int64)
    won_by = np.ones(len(rank))
    _greedy(np.argsort(rank, kind="stable").astype(np.int64), rank, edges, target[order], score[order], winner, won_by)
    return winner, won_by


@kernel
def _greedy(
    order: Int64, rank: Int64, edges: Int64, target: Int64, score: Float64, winner: Int64, won_by: Float64
) -> None:
    for node in order:
        for k in range(edges[node], edges[node + 1]):
            other = target[k]
            if rank[other] >= rank[node]:
                break  # neighbours come best first: the rest are worse
            if winner[other] < 0:
                winner[node], won_by[node] = other, score[k]
                break


def duplicates_of_part(resolved: Output, index: int) -> pa.Table:
    """The dropped duplicates in one part: row (global), rule, similarity, duplicate_of."""
    return read_slices(resolved.files(".arrow"), index, index + 1)
