"""Which conversations stay: rules on answers, length, repeated prompts, evaluation items, quality scores.

One reason a conversation, the first that it meets, in the order of `RULES`; each with its value and bound, as in the
ledger of curation. Rules on wording apply to free answers only: an answer with a format is checked by its parser. Text
is read once, in batches; what comes out is a slim row beside each conversation, so the blend and the report read no
text. Near-duplicates are found among the rows of a table, before a template adds words of its own (alike.py).

The refusals are those that Alpaca and ShareGPT cleaners look for (e.g. FastChat's `optional_clean`), in two languages.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.curate.contamination import ContaminationConfig, EvaluationIndex, contamination
from redone_data.curate.likeness import join_letters, letters_of, similarities
from redone_data.curate.quality import PREFIX, ClassifierConfig, load_classifier
from redone_data.curate.rules import Bound
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.ledger import CONVERSATIONS
from redone_data.instruct.lengths import Lengths
from redone_data.instruct.repeats import repeats_of
from redone_data.manifest import atomic, file_digest
from redone_data.text.features import METRICS, features
from redone_data.text.hashing import hash128
from redone_data.text.normalize import normalize

ROWS = "rows.parquet"
BATCH_ROWS = 20_000
VISIBLE = r"[^\s\p{C}\p{Z}]"
OPENING_CHARACTERS = 300  # a refusal says so at once

REFUSALS = (
    r"\bas an? (?:large )?(?:ai|artificial intelligence)(?: language)?(?: model| assistant)?\b",
    r"^(?:i(?:'|’)?m sorry|i am sorry|my apologies|sorry|i apologi[sz]e|unfortunately)\b[^.!?]{0,60}"
    r"\b(?:cannot|can(?:'|’)?t|unable|not able|not capable|don(?:'|’)?t have|not possible for me)\b",
    r"^(?:作为|身为)[^，。]{0,6}(?:人工智能|AI|ai|语言模型)",
    r"^(?:很)?(?:抱歉|对不起)[^。！]{0,12}(?:无法|不能|没有办法|没办法|不可以)",
)
RULES = (
    "exact_duplicate",
    "near_duplicate",
    "repeated_conversation",
    "repeated_prompt",
    "empty_answer",
    "too_long",
    "answer_too_short",
    "answer_too_long",
    "refusal",
    "repeats_prompt",
    "metric",
    "quality",
    "contamination",
)
# What stays or goes, a row a conversation. rule: null where it stays.
ROW_SCHEMA = pl.Schema(
    [
        *((name, pl.String()) for name in ("id", "capability", "task", "lang", "template", "split")),
        ("documents", pl.List(pl.String())),
        ("prompt", pl.UInt64()),  # its hash
        ("tokens", pl.Int64()),
        ("rule", pl.String()),
        ("value", pl.Float64()),
        ("bound", pl.Float64()),
        ("detail", pl.String()),
    ]
)


@dataclass(frozen=True)
class CleanConfig:
    """What a conversation must pass."""

    max_answers: int = field(
        default=1, metadata={"help": "to one prompt, of free answers; an answer with a format has one gold"}
    )
    min_characters: int | None = field(default=None, metadata={"help": "of a free answer; none: no bound"})
    max_characters: int | None = field(default=None, metadata={"help": "of a free answer; none: no bound"})
    refusals: bool = field(default=True, metadata={"help": "drop free answers that open with a refusal"})
    refusal_patterns: tuple[str, ...] = field(
        default=(), metadata={"help": "regular expressions (Rust's syntax) beside the built-in ones"}
    )
    max_prompt_similarity: float | None = field(
        default=0.9,
        metadata={"help": "of a free answer to what it answers, by character 5-grams; none: no bound"},
    )
    bounds: dict[str, Bound] = field(
        default_factory=dict, metadata={"help": "metric of a free answer's text, or quality_NAME -> {min, max}"}
    )
    quality: dict[str, ClassifierConfig] = field(
        default_factory=dict, metadata={"help": "name -> classifier of free answers (redone-data quality train)"}
    )

    def __post_init__(self) -> None:
        if self.max_answers < 1:
            raise RedoneError(f"max_answers: {self.max_answers}; at least 1")
        least, most = self.min_characters, self.max_characters
        if (least is not None and least < 1) or (most is not None and most < (least or 1)):
            raise RedoneError("min_characters: at least 1 (none: no bound), and max_characters is not below it")
        if self.max_prompt_similarity is not None and not 0 < self.max_prompt_similarity <= 1:
            raise RedoneError(f"max_prompt_similarity: {self.max_prompt_similarity}; above 0 and at most 1")
        known = [*METRICS, *(PREFIX + name for name in self.quality)]
        for name in self.bounds:
            if name not in known:
                raise RedoneError(f"bounds.{name}: no such metric; {did_you_mean(name, known)}")
        for pattern in self.refusal_patterns:
            try:
                pl.Series([""]).str.contains(pattern)
            except pl.exceptions.PolarsError:
                raise RedoneError(
                    f"refusal_patterns: {pattern!r} is not a regular expression of Rust's syntax"
                ) from None


@dataclass(frozen=True)
class CleanStep(Step):
    """Judge the conversations of one source: rows.parquet, in their order."""

    name = "sft-clean"
    VERSION = 1

    source: Output
    label: str  # of the source, for people
    clean: CleanConfig
    lengths: Lengths
    max_tokens: int
    tokenizer: Output | None
    index: Output | None
    contamination: ContaminationConfig
    models: Mapping[str, Path]  # of the classifiers, by name
    repeats: Output | None = None  # of general data: what other sources ask alike

    def config(self) -> Any:
        return {
            "clean": plain(self.clean) | {"quality": {name: file_digest(p) for name, p in sorted(self.models.items())}},
            "max_tokens": self.max_tokens,
            "overhead_tokens": self.lengths.overhead_tokens,
            "contamination": [self.contamination.enough_words, self.contamination.max_fraction],
        }

    def inputs(self) -> dict[str, str]:
        outputs = {"source": self.source, "tokenizer": self.tokenizer, "index": self.index, "repeats": self.repeats}
        return {label: output.fingerprint for label, output in outputs.items() if output is not None}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        seen: dict[int, int] = {}
        with (
            atomic(folder / ROWS) as aside,
            pq.ParquetWriter(aside, pl.DataFrame(schema=ROW_SCHEMA).to_arrow().schema, compression="zstd") as writer,
        ):
            counts: dict[str, int] = {}
            lines = None if self.repeats is None else repeats_of(self.repeats, self.label)
            place = 0
            for frame in conversations_of(self.source):
                places = pl.DataFrame({"place": np.arange(place, place + frame.height, dtype=np.uint32)})
                repeats = None if lines is None else places.join(lines, on="place", how="left", maintain_order="left")
                judged = self.judge(frame, seen, repeats)
                place += frame.height
                writer.write_table(judged.to_arrow())
                for rule, count in judged.group_by("rule").len().iter_rows():
                    counts[rule or "kept"] = counts.get(rule or "kept", 0) + count
        return {"label": self.label, **dict(sorted(counts.items()))}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def judge(self, frame: pl.DataFrame, seen: dict[int, int], repeats: pl.DataFrame | None = None) -> pl.DataFrame:
        """ROW_SCHEMA of some conversations. seen: how often a text came before, by hash; these join them.

        repeats: row by row the rule, value, bound and detail of a duplicate in another source.
        """
        texts = frame.select(
            prompt=pl.col("messages").list.head(pl.col("messages").list.len() - 1).list.eval(_CONTENT).list.join("\n"),
            question=pl.col("messages").list.get(-2).struct.field("content"),
            answer=pl.col("messages").list.get(-1).struct.field("content"),
            everything=pl.col("messages").list.eval(_CONTENT).list.join("\n"),
            free=pl.col("format").is_null(),
        )
        answer = texts["answer"]
        verdict = _Verdict(frame.height)
        if repeats is not None:
            verdict.take(repeats)
        prompts = _hashes(texts["prompt"])
        verdict.drop("repeated_conversation", _times_before(_hashes(texts["everything"]), seen) > 0)
        allowed = np.where(texts["free"].to_numpy(), self.clean.max_answers, 1)
        verdict.drop("repeated_prompt", _times_before(prompts, seen, verdict.stays) >= allowed)
        verdict.drop("empty_answer", ~answer.str.contains(VISIBLE).to_numpy())
        tokens = self.lengths.tokens(frame["messages"])
        verdict.above("too_long", tokens.to_numpy(), self.max_tokens)
        self._judge_free(verdict, texts)
        self._judge_contamination(verdict, texts["everything"])
        names = [name for name in ROW_SCHEMA if name in frame.columns]
        found = [tokens.alias("tokens"), pl.Series("prompt", prompts), *verdict.columns()]
        return frame.select(names).with_columns(found).select(list(ROW_SCHEMA))

    def _judge_free(self, verdict: "_Verdict", texts: pl.DataFrame) -> None:
        """The rules on wording."""
        rows = np.flatnonzero(texts["free"].to_numpy() & verdict.stays)
        if not len(rows):
            return
        free = texts[rows]
        answer = free["answer"].str.strip_chars()
        characters = answer.str.len_chars().to_numpy().astype(np.float64)
        settings = self.clean
        if settings.min_characters is not None:
            verdict.below("answer_too_short", characters, settings.min_characters, rows)
        if settings.max_characters is not None:
            verdict.above("answer_too_long", characters, settings.max_characters, rows)
        if settings.refusals:
            patterns = "|".join(f"(?:{pattern})" for pattern in (*REFUSALS, *settings.refusal_patterns))
            found = answer.str.head(OPENING_CHARACTERS).str.contains(f"(?i){patterns}").to_numpy()
            verdict.drop("refusal", found, rows)
        if settings.max_prompt_similarity is not None:
            likeness = _likeness(free["question"], answer)
            verdict.above("repeats_prompt", likeness, settings.max_prompt_similarity, rows)
        if settings.bounds:
            self._judge_bounds(verdict, answer, rows)

    def _judge_bounds(self, verdict: "_Verdict", answer: pl.Series, rows: "np.ndarray[Any, Any]") -> None:
        text = normalize(answer.to_arrow().cast(pa.large_string()))
        measured = features(text)
        batch = pa.record_batch([text], names=["text"])
        for name, config in sorted(self.clean.quality.items()):
            classifier = load_classifier(self.models[name], config.kind, config.good)
            measured = measured.with_columns(pl.Series(PREFIX + name, classifier.scores(batch).astype(np.float64)))
        for name, bound in sorted(self.clean.bounds.items()):
            rule, values = ("quality" if name.startswith(PREFIX) else "metric"), measured[name].to_numpy()
            if bound.min is not None:
                verdict.below(rule, values, bound.min, rows, detail=name)
            if bound.max is not None:
                verdict.above(rule, values, bound.max, rows, detail=name)

    def _judge_contamination(self, verdict: "_Verdict", everything: pl.Series) -> None:
        if self.index is None:
            return
        text = normalize(everything.to_arrow().cast(pa.large_string()))
        found = contamination(text, evaluation_index(self.index.folder), self.contamination).frame
        verdict.above(
            "contamination",
            found["contamination_fraction"].to_numpy().astype(np.float64),
            self.contamination.max_fraction,
            detail=found["contamination_item"],
        )


_CONTENT = pl.element().struct.field("content")


class _Verdict:
    """The first rule that each row breaks."""

    def __init__(self, rows: int) -> None:
        self.rule = np.full(rows, None, object)
        self.value, self.bound = np.full(rows, np.nan), np.full(rows, np.nan)
        self.detail = np.full(rows, None, object)

    @property
    def stays(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        return np.array([rule is None for rule in self.rule], bool)

    def take(self, found: pl.DataFrame) -> None:
        """Verdicts that are there already, where they are."""
        self.rule, self.detail = found["rule"].to_numpy().copy(), found["detail"].to_numpy().copy()
        self.value, self.bound = (found[name].fill_null(np.nan).to_numpy().copy() for name in ("value", "bound"))

    def drop(self, rule: str, fails: Any, rows: Any = None) -> None:
        self._mark(rule, fails, None, None, rows, None)

    def above(self, rule: str, values: Any, most: float, rows: Any = None, detail: Any = None) -> None:
        self._mark(rule, values > most, values, most, rows, detail)

    def below(self, rule: str, values: Any, least: float, rows: Any = None, detail: Any = None) -> None:
        self._mark(rule, values < least, values, least, rows, detail)

    def _mark(self, rule: str, fails: Any, values: Any, bound: float | None, rows: Any, detail: Any) -> None:
        rows = np.arange(len(self.rule)) if rows is None else rows
        hit = np.flatnonzero(fails)
        hit = hit[self.stays[rows[hit]]]
        to = rows[hit]
        self.rule[to] = rule
        if values is not None:
            self.value[to], self.bound[to] = values[hit], bound
        if detail is not None:
            self.detail[to] = detail if isinstance(detail, str) else detail.to_numpy()[hit]

    def columns(self) -> list[pl.Series]:
        return [
            pl.Series("rule", self.rule.tolist(), pl.String),
            pl.Series("value", self.value).fill_nan(None),
            pl.Series("bound", self.bound).fill_nan(None),
            pl.Series("detail", self.detail.tolist(), pl.String),
        ]


def conversations_of(source: Output) -> Iterator[pl.DataFrame]:
    """The conversations that a step made, some at a time."""
    for path in source.files(CONVERSATIONS):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame


def _hashes(text: pl.Series) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """64 bits a text: one chance in a million that two of five million share them."""
    return hash128(text.to_arrow().cast(pa.large_string()))[1]


def _times_before(
    hashes: "np.ndarray[Any, np.dtype[np.uint64]]",
    seen: dict[int, int],
    counted: "np.ndarray[Any, np.dtype[np.bool_]] | None" = None,
) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """How often each text came before; only those `counted` join what was seen."""
    joins = [True] * len(hashes) if counted is None else counted.tolist()
    times = np.zeros(len(hashes), np.int64)
    for row, (key, joined) in enumerate(zip(hashes.tolist(), joins, strict=True)):
        times[row] = seen.get(key, 0)
        if joined:
            seen[key] = seen.get(key, 0) + 1
    return times


def _likeness(left: pl.Series, right: pl.Series) -> "np.ndarray[Any, np.dtype[np.float64]]":
    rows = len(left)
    letters = join_letters([letters_of(side.to_arrow().cast(pa.large_string())) for side in (left, right)])
    return similarities(letters, np.arange(rows), np.arange(rows) + rows)


@functools.lru_cache(maxsize=2)
def evaluation_index(folder: Path) -> EvaluationIndex:
    """What a step left of the passages to look for."""
    return EvaluationIndex.open(folder)
