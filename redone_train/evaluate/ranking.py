"""Re-ranking: the notes of a query put in the order of a model's scores, and how good that order is.

RedOne reports clicks on searched notes online; offline it is NDCG@1, 3 and 10 and the mean reciprocal rank (ndcg.py)
over queries with graded or drawn candidates (candidates.py). A note's score is the expected grade under the grades'
probabilities, or log P(yes) - log P(no), one prompt a note; or a ridge regression on the last hidden state. The score
is NDCG@10; trivial is a random order, in expectation. BM25 is a part, and NDCG@10 less BM25's, with its interval: a
model that does not beat it adds nothing to word overlap. An interval draws queries, not notes. A note that could not
be read is last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import polars as pl

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import Conversation
from redone_data.instruct.tables import Table, read_table, split_of
from redone_data.instruct.task import Task, find_task
from redone_train.evaluate.candidates import LABEL, NOTE, QUERY, Query, bm25_scores, folded, queries_of
from redone_train.evaluate.config import RankingConfig
from redone_train.evaluate.items import Columns, Item, TaskScore, one_task
from redone_train.evaluate.ndcg import ndcg, reciprocal_rank
from redone_train.evaluate.one_wording import allowed, asked, conversations, examples_among, one_wording
from redone_train.evaluate.scored import HEAD, Scored, as_floats, expected_grades, log_odds, read_scores

K = 10  # of the score
NDCG_1, NDCG_3, MRR = "NDCG@1", "NDCG@3", "MRR"
BM25, OVER_BM25 = "NDCG@10 of BM25", "NDCG@10 over BM25"


@final
@dataclass(frozen=True)
class Ranking(Scored):
    """Queries with notes, in the order of their scores."""

    sets: Mapping[str, RankingConfig]

    name = "ranking"

    def items(self, task: str) -> list[Item]:
        return [replace(item, task=task) for item in self._queries[task.removesuffix(HEAD)][0]]

    def training(self, task: str) -> list[Item]:
        return self._queries[task.removesuffix(HEAD)][1]

    def targets(self, item: Item) -> list[float]:
        return [float(max(grade, 0)) for grade in item.gold]

    def score(self, items: Sequence[Item], answers: Sequence[str]) -> TaskScore:
        task = one_task(items, answers)
        relevant = self.sets[task.removesuffix(HEAD)].relevant
        columns: dict[str, list[float]] = {"parsed": []}
        chance: dict[str, list[float]] = {}
        for item, text in zip(items, answers, strict=True):
            given = read_scores(text, len(item.gold))
            scores = given if task.endswith(HEAD) else _scores(given, item.meta["values"])
            columns["parsed"].append(float(all(score is not None for score in scores)))
            ours = _figures(item.gold, as_floats(scores, -np.inf), relevant)
            ours["bm25"] = 100 * ndcg(item.gold, item.meta["bm25"], K)
            for name, value in ours.items():
                columns.setdefault(name, []).append(value)
            for name, value in _figures(item.gold, np.zeros(len(item.gold)), relevant).items():
                chance.setdefault(name, []).append(value)
        random = _means({name: np.array(values) for name, values in chance.items()})
        found = {name: np.array(values) for name, values in columns.items()}
        sizes = [len(item.gold) for item in items]
        return TaskScore(
            task=task,
            scorer=f"NDCG@{K}, relevant from {relevant}",
            columns=found,
            combine=_means,
            trivial=random["score"],
            trivial_rule="notes in a random order",
            ceiling=100.0,
            notes=(f"{min(sizes)} to {max(sizes)} notes a query; {self._drawn(items)} of {sum(sizes)} drawn",),
            title=f"{task}: NDCG@{K}",
            shown={
                **{name: (random[name], 100.0) for name in (NDCG_1, NDCG_3)},
                MRR: (random[MRR], float(np.mean([any(g >= relevant for g in item.gold) for item in items]) * 100)),
                BM25: (None, None),
                OVER_BM25: (None, None),
            },
        )

    def texts(self, item: Item) -> dict[str, str]:
        """The notes of the query's own rows."""
        return dict(item.meta["row"])

    def _drawn(self, items: Sequence[Item]) -> int:
        return sum(sum(item.meta["drawn"]) for item in items)

    @cached_property
    def _queries(self) -> dict[str, tuple[list[Item], list[Item]]]:
        """By name: the queries that are measured, and those that a head is trained on."""
        return {name: self._queries_of(name, config) for name, config in self.sets.items()}

    def _queries_of(self, name: str, config: RankingConfig) -> tuple[list[Item], list[Item]]:
        where = f"ranking.{name}"
        frame = read_table(name, {name: config.table}, self.base).frame
        share = config.head.measured if config.head else 1.0
        held = split_of(frame["document"], self.seed, share) == "held_out"
        # Notes of one part are never candidates of the other; a query that is measured trains nothing.
        measured = queries_of(frame.filter(held), config.drawn, config.max_queries, self.seed, where)
        training: list[Query] = []
        kept = max(self.shots, self.reserved)
        if config.head:
            known = {folded(query.text) for query in measured}
            rest = frame.filter(~held)
            fresh = [folded(query) not in known for query in rest[QUERY].fill_null("")]
            training = queries_of(
                rest.filter(pl.Series(fresh)), config.drawn, config.head.rows + kept, self.seed, f"{where}: head"
            )
        task = _pair_task(find_task(config.task, self.base), where)
        pairs = _Pairs(task, [*measured, *training], self.seed, config.relevant, where)
        shots = _first_of_each_language(training or measured, kept)
        examples = {lang: rows[: self.shots] for lang, rows in pairs.examples(shots, kept).items()}
        items = [
            [pairs.item(query, name, examples) for query in queries if query not in shots]
            for queries in (measured, training)
        ]
        if not items[0]:
            raise RedoneError(f"{where}: {len(measured)} queries, and {kept} shots take them all")
        return _with_bm25(items[0], [q for q in measured if q not in shots]), items[1]


def _first_of_each_language(queries: Sequence[Query], number: int) -> list[Query]:
    langs = sorted({query.lang for query in queries})
    return [query for lang in langs for query in [one for one in queries if one.lang == lang][:number]]


class _Pairs:
    """Each query and candidate asked in one wording."""

    def __init__(self, task: Task, queries: Sequence[Query], seed: int, relevant: int, where: str) -> None:
        self.where, self.relevant = where, relevant
        lines = []
        for query in queries:
            for place, one in enumerate(query.candidates):
                label = str(one.grade) if task.answer.kind == "grade" else ("yes" if one.grade >= relevant else "no")
                lines.append((f"{query.id}/{place}", query.lang, query.text, one.text, label))
        frame = pl.DataFrame(lines, schema=["row", "lang", QUERY, NOTE, LABEL], orient="row").with_columns(
            document=pl.col("row"), documents=pl.concat_list("row")
        )
        table = Table(where, frame, pl.DataFrame(), frame.height)
        rows = conversations(table, task, seed=seed, measured=1.0)
        self.rows = {row.documents[0]: row for row in rows}

    def examples(self, queries: Sequence[Query], shots: int) -> dict[str, list[Conversation]]:
        """A right and a wrong note by turns, each of another query."""
        kinds: dict[str, bool] = {}
        rows: list[Conversation] = []
        for number, query in enumerate(queries):
            fits = [one.grade >= self.relevant for one in query.candidates]
            wanted = number % 2 == 0
            place = fits.index(wanted) if wanted in fits else 0
            row = self.rows[f"{query.id}/{place}"]
            rows.append(row)
            kinds[row.id] = fits[place]
        return examples_among(rows, kinds, shots)

    def item(self, query: Query, task: str, examples: Mapping[str, Sequence[Conversation]]) -> Item:
        rows = [self.rows[f"{query.id}/{place}"] for place in range(len(query.candidates))]
        prompts = [asked(row, examples.get(query.lang, [])) for row in rows]
        values, options = allowed(rows[0], self.where)
        meta: dict[str, Any] = {
            "prompts": [list(prompt) for prompt in prompts],
            "options": options,
            "values": values,
            "drawn": [one.drawn for one in query.candidates],
            "row": {f"note {place}": one.text for place, one in enumerate(query.candidates) if not one.drawn},
        }
        return Item(query.id, task, Ranking.name, prompts[0], [one.grade for one in query.candidates], meta)


def _pair_task(task: Task, where: str) -> Task:
    if task.answer.kind not in ("yes_no", "grade"):
        raise RedoneError(
            f"{where}: task {task.name} has answers of kind {task.answer.kind}; yes_no or grade is needed"
        )
    for column in (QUERY, NOTE):
        if column not in task.columns:
            raise RedoneError(
                f"{where}: task {task.name} has no column '{column}'; choose one about a query and a text"
            )
    asked_of = one_wording(task, label=LABEL)
    # Every candidate is asked about: rows are not dropped for their length, and a note that does not fit is last.
    most = 1 << 30
    options = replace(asked_of.options, min_characters=0, prompt_characters=most, answer_characters=most)
    return replace(asked_of, options=options)


def _with_bm25(items: Sequence[Item], queries: Sequence[Query]) -> list[Item]:
    scores = bm25_scores(queries)
    return [replace(item, meta={**item.meta, "bm25": given}) for item, given in zip(items, scores, strict=True)]


def _scores(log_probs: Sequence[Any], values: Sequence[Any]) -> list[float | None]:
    """Of each note: the expected grade, or the log-odds of yes."""
    if any(isinstance(value, bool) for value in values):
        return log_odds(log_probs, [value is True for value in values])
    return expected_grades(log_probs, values)


def _figures(grades: Sequence[int], scores: Any, relevant: int) -> dict[str, float]:
    """Of one query, 0 to 100."""
    return {
        "item_score": 100 * ndcg(grades, scores, K),
        NDCG_1: 100 * ndcg(grades, scores, 1),
        NDCG_3: 100 * ndcg(grades, scores, 3),
        MRR: 100 * reciprocal_rank(grades, scores, relevant),
    }


def _means(columns: Columns) -> dict[str, float]:
    found = {name: float(np.mean(columns[name])) for name in (NDCG_1, NDCG_3, MRR)}
    found["score"] = float(np.mean(columns["item_score"]))
    if "bm25" in columns:
        found |= {BM25: float(np.mean(columns["bm25"])), OVER_BM25: found["score"] - float(np.mean(columns["bm25"]))}
    return found
