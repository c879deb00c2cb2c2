"""Rankings that people gave, as votes on pairs of answers; and what several raters agree on.

A table has a row a judgement in one of three forms: a chosen and a rejected answer; a list of answers, best first; or
an answer with its rank (1 is best) or score, gathered by prompt and rater. Votes of all raters on the same two answers
to one prompt are added up, whichever way round they were shown. The majority decides, a tie says nothing.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import MESSAGES
from redone_data.text.hashing import hash128, to_hex

MISSING, TIE, SAME, ONE = "missing_value", "raters_tie", "same_answer", "single_answer"
MAX_RANKED = 16

# One pair of answers to one prompt. `first` comes before `second` in code points: no order says who wins.
VOTES = pl.Schema(
    {
        "id": pl.String(),
        "prompt": MESSAGES,
        "first": pl.String(),
        "second": pl.String(),
        "votes_first": pl.Int64(),
        "votes_second": pl.Int64(),
        "lang": pl.String(),
        "document": pl.String(),
        "documents": pl.List(pl.String()),
        "rows": pl.List(pl.Int64()),  # of the table, from 0
    }
)
Drop = tuple[int, str, str | None]  # row of the table, reason, detail


@dataclass(frozen=True)
class RankedColumns:
    """Which columns of a table hold prompts and judgements."""

    table: str = field(metadata={"help": "of the recipe's tables"})
    prompt: str = field(default="prompt", metadata={"help": "column: text, or chat messages"})
    chosen: str | None = field(default=None, metadata={"help": "column: the better answer"})
    rejected: str | None = field(default=None, metadata={"help": "column: the worse answer"})
    answers: str | None = field(default=None, metadata={"help": "column: a list of answers, best first"})
    answer: str | None = field(default=None, metadata={"help": "column: one answer; with rank or score"})
    rank: str | None = field(default=None, metadata={"help": "column: 1 is best"})
    score: str | None = field(default=None, metadata={"help": "column: more is better"})
    rater: str | None = field(default=None, metadata={"help": "column: who judged"})

    def __post_init__(self) -> None:
        pair = (self.chosen is not None, self.rejected is not None)
        forms = [any(pair), self.answers is not None, self.answer is not None]
        if sum(forms) != 1 or pair.count(True) == 1:
            raise RedoneError("give chosen and rejected, or answers (best first), or answer with rank or score")
        if (self.answer is not None) != ((self.rank is None) != (self.score is None)):
            raise RedoneError("answer goes with one of rank and score, and they with it")

    def columns(self) -> list[str]:
        """Every column that is named."""
        named = (self.prompt, self.chosen, self.rejected, self.answers, self.answer, self.rank, self.score, self.rater)
        return [name for name in named if name is not None]


def check_columns(frame: pl.DataFrame, names: list[str], where: str) -> None:
    """Raises RedoneError for a name that is no column."""
    for name in names:
        if name not in frame.columns:
            raise RedoneError(f"{where}: there is no column '{name}'; {did_you_mean(name, frame.columns)}")


def as_messages(frame: pl.DataFrame, column: str, where: str) -> pl.DataFrame:
    """The prompt as chat messages, whichever way the table has it."""
    kind = frame.schema[column]
    if kind == pl.String:
        turn = pl.struct(role=pl.lit("user"), content=pl.col(column))
        made = pl.when(pl.col(column).is_not_null()).then(pl.concat_list(turn))
        return frame.with_columns(made.cast(MESSAGES).alias("_prompt"))
    if kind == MESSAGES:
        return frame.with_columns(pl.col(column).alias("_prompt"))
    raise RedoneError(f"{where}: column '{column}': a prompt is text or a list of {{role, content}}")


@dataclass(frozen=True)
class Agreement:
    """What raters agree on. `kappa`: agreement above chance, which is one half (Scott 1955, for two equal answers)."""

    pairs: int
    several: int  # pairs that more than one rater judged
    agreement: float | None
    kappa: float | None
    ties: int

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("pairs", "several", "agreement", "kappa", "ties")}


def votes_of(frame: pl.DataFrame, config: RankedColumns, where: str) -> tuple[pl.DataFrame, list[Drop]]:
    """Votes on pairs of answers, and the rows of the table that give none."""
    check_columns(frame, config.columns(), where)
    frame = as_messages(frame, config.prompt, where).with_row_index("_row")
    dropped: list[Drop] = []
    lines = []
    for rows, answers in _judgements(frame, config, where, dropped):
        ranked = list(_ordered(answers))
        if not ranked:
            texts = {text for text, _ in answers}
            why = ONE if len(answers) < 2 else SAME if len(texts) == 1 else TIE
            dropped += [(row["_row"], why, None) for row in rows]
        documents = list(dict.fromkeys(itertools.chain(*(row["documents"] for row in rows))))
        shared = [rows[0]["_prompt"], rows[0]["lang"], rows[0]["document"], documents, [row["_row"] for row in rows]]
        for better, worse in ranked:
            first, second = sorted((better, worse))
            lines.append([*shared, first, second, int(better == first), int(better != first)])
    schema: dict[str, Any] = {
        "prompt": MESSAGES,
        "lang": pl.String,
        "document": pl.String,
        "documents": pl.List(pl.String),
        "rows": pl.List(pl.Int64),
        "first": pl.String,
        "second": pl.String,
        "votes_first": pl.Int64,
        "votes_second": pl.Int64,
    }
    return gathered(pl.DataFrame(lines, schema=schema, orient="row")), dropped


def gathered(lines: pl.DataFrame) -> pl.DataFrame:
    """Lines on the same two answers to the same prompt as one."""
    said = lines["prompt"].list.eval(pl.element().struct.json_encode()).list.join("\x1e")
    key = pl.concat_str([said, pl.col("first"), pl.col("second")], separator="\x1f")
    hashes = hash128(lines.select(key).to_series().to_arrow().cast(pa.large_string()))
    lines = lines.with_columns(pl.Series("id", to_hex(*hashes), dtype=pl.String)).sort(
        "id", "document", maintain_order=True
    )
    votes = lines.group_by("id", maintain_order=True).agg(
        pl.col("prompt", "first", "second", "lang", "document").first(),
        pl.col("votes_first", "votes_second").sum(),
        pl.col("documents", "rows").explode().unique(maintain_order=True),
    )
    return votes.select(list(VOTES)).cast(dict(VOTES))  # type: ignore[arg-type]


def _judgements(
    frame: pl.DataFrame, config: RankedColumns, where: str, dropped: list[Drop]
) -> Iterator[tuple[list[dict[str, Any]], list[tuple[str, float]]]]:
    """Each judgement: its rows, and its answers with a number that is less for a better one."""
    if config.answer is None:
        for row in frame.iter_rows(named=True):
            texts = row[config.answers] if config.answers else [row[str(config.chosen)], row[str(config.rejected)]]
            if row["_prompt"] is None or not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
                dropped.append((row["_row"], MISSING, None))
            else:
                yield [row], [(text, float(place)) for place, text in enumerate(texts)]
        return
    by = config.rank or config.score
    assert by is not None
    try:
        frame = frame.with_columns(pl.col(by).cast(pl.Float64).alias("_by"))
    except pl.exceptions.PolarsError as error:
        raise RedoneError(f"{where}: column '{by}' must be numbers: {str(error).splitlines()[0]}") from None
    lacks = pl.any_horizontal(pl.col(name).is_null() for name in ("_prompt", config.answer, "_by"))
    dropped += [(row, MISSING, None) for row in frame.filter(lacks)["_row"]]
    keys = [config.prompt, *([config.rater] if config.rater else [])]
    sign = 1.0 if config.rank else -1.0
    for _, part in frame.filter(~lacks).group_by(keys, maintain_order=True):
        rows = part.to_dicts()
        yield rows, [(row[config.answer], sign * row["_by"]) for row in rows]


def _ordered(answers: list[tuple[str, float]]) -> Iterator[tuple[str, str]]:
    """(better, worse) of different answers with different places; of long rankings the best alone."""
    best = sorted(answers, key=lambda answer: answer[1])[:MAX_RANKED]
    for (a, at), (b, bt) in itertools.combinations(best, 2):
        if a != b and at != bt:
            yield (a, b) if at < bt else (b, a)


def agreement_of(votes: pl.DataFrame) -> Agreement:
    """How often two raters of one pair agree, over all pairs that several judged."""
    total = (votes["votes_first"] + votes["votes_second"]).cast(pl.Float64)
    shared = votes.filter(total > 1)
    first, second = (shared[name].cast(pl.Float64) for name in ("votes_first", "votes_second"))
    couples = float(((first + second) * (first + second - 1)).sum())
    equal = float((first * (first - 1) + second * (second - 1)).sum())
    agreement = equal / couples if couples else None
    ties = votes.filter(pl.col("votes_first") == pl.col("votes_second")).height
    return Agreement(len(votes), len(shared), agreement, None if agreement is None else 2 * agreement - 1, ties)
