"""Queries with candidate notes, out of a table: graded ones, and drawn ones where there are too few.

No click log is public. A table's rows with one query are its candidates, with their grades in the column `label`;
where there is no such column, a row's own note is right (grade 1), as a headline or a hashtag belongs to the post that
it was cut from. Drawn notes are other rows' (instruct/distractors.py: at random, of the same community, or those that
share most letters with the query's own note) and count as irrelevant; one with the query's very words in it is not
drawn, yet some that are fit as well. They are chosen by the note, not by the query, so that BM25 is not beaten by
construction.

BM25 (the package bm25s, Lucene's form, k1 1.5, b .75) stands beside every score: its words are characters of Chinese
and words of other scripts, its document frequencies those of all candidates.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from redone_data.errors import RedoneError
from redone_data.instruct.distractors import others
from redone_data.instruct.metrics import tokens
from redone_data.manifest import digest
from redone_train.evaluate.config import DrawnNotesConfig

QUERY, NOTE, LABEL = "query", "text", "label"
GRADES = {"yes": 1, "no": 0}
DRAWN = 0  # the grade of a drawn note
NEEDED = "ranking needs the package bm25s for its baseline; pip install 'redone[eval]'"


@dataclass(frozen=True)
class Candidate:
    text: str
    grade: int
    drawn: bool = False


@dataclass(frozen=True)
class Query:
    """Its candidates, in an order that says nothing about them."""

    text: str
    lang: str
    candidates: tuple[Candidate, ...]

    @property
    def id(self) -> str:
        return digest([self.lang, folded(self.text)])[:32]


def queries_of(frame: pl.DataFrame, drawn: DrawnNotesConfig | None, most: int, seed: int, where: str) -> list[Query]:
    """At most so many queries of a table, by a hash; those whose candidates all have one gain are not asked.

    RedoneError: a column is not there, a label is no grade, or no query has candidates of two gains.
    """
    for column in (QUERY, NOTE, *([drawn.group] if drawn and drawn.group else [])):
        if column not in frame.columns:
            raise RedoneError(f"{where}: the table has no column '{column}'; name its field under columns")
    rows = frame.filter(pl.col(QUERY).str.len_chars() > 0, pl.col(NOTE).str.len_chars() > 0).to_dicts()
    groups: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault((row["lang"], folded(row[QUERY])), []).append(place)
    chosen = sorted(groups.values(), key=lambda places: digest([seed, folded(rows[places[0]][QUERY])]))
    # For all queries, not those that are asked: more of them change no candidate, and no answer is asked again.
    pool = None if drawn is None else _pool(rows, [places[0] for places in chosen], drawn, seed, where)
    found: list[Query] = []
    for number, places in enumerate(chosen):
        ours = {rows[place][NOTE]: Candidate(rows[place][NOTE], _grade(rows[place], where)) for place in places}
        query = rows[places[0]][QUERY]
        if pool is not None and drawn is not None:
            fits = partial(_foreign, folded(query), {folded(text) for text in ours})
            picked = pool.pick(number, drawn.number, fits)
            ours |= {text: Candidate(text, DRAWN, drawn=True) for text in picked}
        candidates = sorted(ours.values(), key=lambda one: digest([seed, query, one.text]))
        if len({max(one.grade, 0) for one in candidates}) > 1:
            found.append(Query(query, rows[places[0]]["lang"], tuple(candidates)))
        if len(found) == most:
            break
    if not found:
        raise RedoneError(
            f"{where}: no query of {len(groups):,} has notes of two grades; draw some of other rows (`drawn: {{}}`)"
        )
    return found


def _pool(rows: Sequence[dict[str, Any]], asked: list[int], drawn: DrawnNotesConfig, seed: int, where: str) -> Any:
    keys = np.array([int(digest([row["row"], row[NOTE]])[:16], 16) for row in rows], np.uint64)
    groups = None if drawn.group is None else pl.Series([str(row[drawn.group]) for row in rows])
    texts = pl.Series([row[NOTE] for row in rows])
    return others(drawn.how, texts, keys, drawn.number, seed, where, asked=np.array(asked), groups=groups)


def _foreign(query: str, mine: Set[str], text: str, _: int) -> bool:
    """Neither a note of the query's own, nor one with its very words."""
    return query not in folded(text) and folded(text) not in mine


def _grade(row: dict[str, Any], where: str) -> int:
    if LABEL not in row:
        return 1
    label = str(row[LABEL])
    try:
        return GRADES[label] if label in GRADES else int(label)
    except ValueError:
        raise RedoneError(f"{where}: label {label!r} is no grade; a whole number, yes or no is needed") from None


def folded(text: str) -> str:
    """A text without regard to case and space."""
    return " ".join(text.split()).casefold()


def bm25_scores(queries: Sequence[Query]) -> list[list[float]]:
    """What BM25 scores each candidate of each query."""
    try:
        import bm25s
    except ImportError:
        raise RedoneError(NEEDED) from None
    places: dict[str, int] = {}
    for query in queries:
        for candidate in query.candidates:
            places.setdefault(candidate.text, len(places))
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index([tokens(text) or [""] for text in places], show_progress=False)
    found = []
    for query in queries:
        scores = index.get_scores(tokens(query.text))
        found.append([round(float(scores[places[one.text]]), 6) for one in query.candidates])
    return found
