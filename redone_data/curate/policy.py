"""What a document must be to stay: the policy by domain, and the verdict on each document.

Judging reads stored columns only. Its steps are asked in this order, and the first that objects is the reason in the
ledger: identity (a record's id was seen before), language, rules. Ten million documents take seconds. Duplicates are
resolved after it, among the documents that pass, so that a duplicate never falls to one that is itself dropped.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.corpus import Corpus, Part
from redone_data.curate.attributes import Attributes
from redone_data.curate.datatrove_blocks import KEPT, REASON
from redone_data.curate.identity import repeated_of_part
from redone_data.curate.rules import ENGAGEMENT, EngagementAgeConfig, RulesConfig, judge
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic
from redone_data.text.buffers import replace_rows

FIRST = "first_of"

VERDICT_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("step", pa.dictionary(pa.int32(), pa.string())),
        ("rule", pa.dictionary(pa.int32(), pa.string())),
        ("value", pa.float64()),
        ("bound", pa.float64()),
        ("duplicate_of", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class DomainPolicy:
    """What one domain's documents must pass. Of duplicates in several domains, the higher priority stays."""

    priority: int = field(
        default=0, metadata={"help": "of duplicates in two domains, the higher priority keeps its own"}
    )
    languages: tuple[str, ...] = field(default=(), metadata={"help": "allowed languages (zh, en, ...); empty: any"})
    rules: RulesConfig = field(default_factory=RulesConfig)

    def __post_init__(self) -> None:
        for code in self.languages:
            if not re.fullmatch("[a-z]{2,3}(-[a-z]{4})?", code):
                raise RedoneError(
                    f"languages: {code!r} is not a language code; allowed are ISO 639 codes such as zh, en, fr, "
                    "and zh-hans, zh-hant"
                )


@dataclass(frozen=True)
class JudgeStep(Step):
    """Which documents fail the policy, and why: a line for each of them, none for those that pass."""

    name = "judge"
    VERSION = 2

    corpus: Corpus
    attributes: Attributes
    ids: Output
    policies: dict[str, DomainPolicy]
    min_confidence: float

    def config(self) -> Any:
        bounds = {name: plain(policy.rules.effective()) for name, policy in self.policies.items()}
        languages = {name: sorted(policy.languages) for name, policy in self.policies.items()}
        # The order of rules decides which of several reasons is given, so it is part of what identifies the step.
        order = {name: list(policy.rules.effective()) for name, policy in self.policies.items()}
        ages = {
            name: age.newest.isoformat()
            for name, policy in self.policies.items()
            if (age := policy.rules.engagement_age)
        }
        config = {"bounds": bounds, "order": order, "languages": languages, "min_confidence": self.min_confidence}
        return {**config, "engagement_until": ages} if ages else config

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), **self.attributes.inputs(), "ids": self.ids.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        policy = self.policies[part.domain]
        bounds = {name: b for name, b in policy.rules.effective().items() if (b.min, b.max) != (None, None)}
        asked = [name for name in bounds if name != ENGAGEMENT]
        metrics = {name: column.to_numpy() for name, column in zip_columns(self.attributes.read(part, asked))}
        if ENGAGEMENT in bounds:  # unknown engagement is not low engagement: NaN is outside no bound
            metrics[ENGAGEMENT] = part.read([ENGAGEMENT])[ENGAGEMENT].fill_null(np.nan).to_numpy()
        age = policy.rules.engagement_age
        verdict = judge(metrics, bounds, part.rows, {} if age is None else {ENGAGEMENT: too_young(part, age)})
        reasons = [("rules", rule) for rule in verdict.reasons]
        code, value, bound = verdict.broken, verdict.value, verdict.bound
        # judge() gives its reasons in this order: of each metric, first the lower bound.
        metric_of = [name for name, b in bounds.items() for end in (b.min, b.max) if end is not None]
        matched = self._matched(part, code, metric_of)
        if KEPT in bounds:
            self._name_filters(matched[REASON], code, metric_of.index(KEPT), reasons)

        if policy.languages:
            columns = self.attributes.read(part, ["language", "language_confidence"])
            confidence = columns["language_confidence"].to_numpy().astype(np.float64)
            foreign = ~is_allowed(columns["language"], policy.languages) & (confidence >= self.min_confidence)
            code[foreign] = len(reasons)
            reasons.append(("language", "other_language"))
            value[foreign], bound[foreign] = confidence[foreign], self.min_confidence

        repeated = repeated_of_part(self.ids, index)
        if repeated is not None:
            rows = repeated["row"].to_numpy()
            code[rows] = len(reasons)
            reasons.append(("identity", "repeated_id"))
            value[rows], bound[rows] = repeated["rank"].to_numpy(), 0
            matched[FIRST] = replace_rows(no_text(part.rows), rows, repeated["first"].combine_chunks())

        fails = np.flatnonzero(code >= 0)
        here, failed = pa.array(fails), pa.array(code[fails].astype(np.int32))
        values = {
            "row": fails,
            "step": pa.DictionaryArray.from_arrays(failed, pa.array([step for step, _ in reasons], pa.string())),
            "rule": pa.DictionaryArray.from_arrays(failed, pa.array([rule for _, rule in reasons], pa.string())),
            "value": value[fails],
            "bound": bound[fails],
            "duplicate_of": first_text(column.take(here) for name, column in matched.items() if is_id(name)),
            "detail": first_text(column.take(here) for name, column in matched.items() if not is_id(name)),
        }
        with atomic(folder / f"verdict-{index:05d}.parquet") as aside:
            pq.write_table(pa.table(values, schema=VERDICT_SCHEMA), aside, compression="zstd")
        return {"rows": part.rows, "dropped": len(fails)}

    def _matched(self, part: Part, broken: npt.NDArray[np.int32], metric_of: Sequence[str]) -> dict[str, pa.Array]:
        """What each document that fails was found to match, by the column that says so; null for the others."""
        found = {FIRST: no_text(part.rows), REASON: no_text(part.rows)}
        says = self.attributes.matches()
        for code, metric in enumerate(metric_of):
            rows = np.flatnonzero(broken == code)
            if metric in says and len(rows):
                column = self.attributes.read(part, [says[metric]])[says[metric]].combine_chunks()
                before = found.get(says[metric], no_text(part.rows))
                found[says[metric]] = replace_rows(before, rows, column.take(pa.array(rows)))
        return found

    def _name_filters(
        self, column: pa.Array, code: npt.NDArray[np.int32], filtered: int, reasons: list[tuple[str, str]]
    ) -> None:
        """Of documents that a datatrove filter drops, the filter and its reason are the rule."""
        named = column.dictionary_encode()
        rows = np.flatnonzero(code == filtered)
        code[rows] = named.indices.to_numpy(zero_copy_only=False)[rows] + len(reasons)
        reasons.extend(("datatrove", rule) for rule in named.dictionary.to_pylist())


def too_young(part: Part, age: EngagementAgeConfig) -> npt.NDArray[np.bool_]:
    """bool[rows]: documents after the date from which engagement counts; those without a date are among them."""
    created = part.read(["created_at"])["created_at"]
    newest = pa.scalar(age.newest, created.type)
    young: npt.NDArray[np.bool_] = pc.fill_null(pc.greater(created, newest), fill_value=True).to_numpy()
    return young


def no_text(rows: int) -> pa.Array:
    return pa.nulls(rows, pa.large_string())


def is_id(name: str) -> bool:
    return name.endswith("_of")


def first_text(columns: Iterable[pa.Array]) -> pa.Array:
    """Of some columns the first text of each row."""
    return pc.coalesce(*columns).cast(pa.string())


def is_allowed(languages: pa.ChunkedArray, allowed: Sequence[str]) -> npt.NDArray[np.bool_]:
    """bool[rows]: whether each language is one of `allowed`; ``zh`` allows ``zh-hans`` and ``zh-hant`` too."""
    found = pc.is_in(languages, pa.array(allowed, pa.string()))
    root = pc.replace_substring_regex(languages, "-.*", "")
    result: npt.NDArray[np.bool_] = pc.or_(found, pc.is_in(root, pa.array(allowed, pa.string()))).to_numpy()
    return result


def zip_columns(table: pa.Table) -> list[tuple[str, pa.ChunkedArray]]:
    return list(zip(table.column_names, table.columns, strict=True))


def read_verdicts(judged: Output, index: int) -> pa.Table:
    """The lines of :data:`VERDICT_SCHEMA` about one part, by row."""
    return pq.read_table(judged.folder / f"verdict-{index:05d}.parquet", schema=VERDICT_SCHEMA)
