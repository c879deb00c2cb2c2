"""What a document must be to stay: the policy by domain, and the verdict on each document.

Judging reads stored columns only. Its steps are asked in this order, and the first that objects is the reason in the
ledger: identity (a record's id was seen before), language, rules. Duplicates are resolved after it, among the documents
that pass, so that a duplicate never falls to one that is itself dropped.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.corpus import Corpus
from redone_data.curate.attributes import Attributes
from redone_data.curate.groups import groups_of_part
from redone_data.curate.language import LanguageConfig
from redone_data.curate.rules import RulesConfig, judge
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic
from redone_data.text.hashing import hash128, to_hex

VERDICT_SCHEMA = pa.schema(
    [
        ("id_hi", pa.uint64()),
        ("id_lo", pa.uint64()),
        ("engagement", pa.float64()),
        ("step", pa.dictionary(pa.int32(), pa.string())),
        ("rule", pa.dictionary(pa.int32(), pa.string())),
        ("value", pa.float64()),
        ("bound", pa.float64()),
        ("duplicate_of", pa.string()),
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
            if not (code.isascii() and code.isalpha() and code.islower() and len(code) in (2, 3)):
                raise RedoneError(f"languages: {code!r} is not a language code; ISO 639 codes such as zh, en, fr are")


@dataclass(frozen=True)
class JudgeStep(Step):
    """Id and verdict of every document."""

    name = "judge"
    VERSION = 1

    corpus: Corpus
    attributes: Attributes
    identified: Output
    policies: dict[str, DomainPolicy]
    language: LanguageConfig

    def config(self) -> Any:
        bounds = {name: plain(policy.rules.effective()) for name, policy in self.policies.items()}
        languages = {name: sorted(policy.languages) for name, policy in self.policies.items()}
        # The order of rules decides which of several reasons is given, so it is part of what identifies the step.
        order = {name: list(policy.rules.effective()) for name, policy in self.policies.items()}
        return {
            "bounds": bounds,
            "order": order,
            "languages": languages,
            "min_confidence": self.language.min_confidence,
        }

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), **self.attributes.inputs(), "identify": self.identified.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        policy = self.policies[part.domain]
        bounds = policy.rules.effective()
        columns = self.attributes.read(part, [*bounds, "language", "language_confidence"])
        step = np.full(part.rows, None, dtype=object)
        rule = np.full(part.rows, None, dtype=object)
        duplicate_of = np.full(part.rows, None, dtype=object)

        metrics = {name: columns[name].to_numpy().astype(np.float64) for name in bounds}
        verdict = judge(metrics, bounds, part.rows)
        broken = verdict.broken >= 0
        value, bound = verdict.value, verdict.bound
        step[broken] = "rules"
        rule[broken] = np.array([*verdict.reasons, None], dtype=object)[verdict.broken[broken]]

        if policy.languages:
            confidence = columns["language_confidence"].to_numpy().astype(np.float64)
            allowed = pc.is_in(columns["language"], pa.array(policy.languages, pa.string())).to_numpy()
            foreign = ~allowed & (confidence >= self.language.min_confidence)
            step[foreign], rule[foreign] = "language", "other_language"
            value[foreign], bound[foreign] = confidence[foreign], self.language.min_confidence

        keys = part.read(["key_hi", "key_lo", "engagement"])
        id_hi, id_lo = keys["key_hi"].to_numpy().copy(), keys["key_lo"].to_numpy().copy()
        rows, _, rank = groups_of_part(self.identified, part)
        again = rows[rank > 0]
        if len(again):
            first_ids = to_hex(id_hi[again], id_lo[again])
            ranks = pa.array(rank[rank > 0]).cast(pa.large_string())
            id_hi[again], id_lo[again] = hash128(
                pc.binary_join_element_wise(first_ids, ranks, pa.scalar("\x1f", pa.large_string()))
            )
            if part.named:
                step[again], rule[again] = "identity", "repeated_id"
                value[again], bound[again] = rank[rank > 0], 0
                duplicate_of[again] = first_ids.to_pylist()

        arrays = [id_hi, id_lo, keys["engagement"], step, rule, value, bound, duplicate_of]
        names = VERDICT_SCHEMA.names
        table = pa.table(
            [
                pc.if_else(pc.is_nan(array := pa.array(column)), None, array)
                if name in ("value", "bound")
                else column
                if name == "engagement"
                else pa.array(column, pa.string()).dictionary_encode()
                if name in ("step", "rule")
                else pa.array(column, pa.string() if name == "duplicate_of" else None)
                for name, column in zip(names, arrays, strict=True)
            ],
            schema=VERDICT_SCHEMA,
        )
        with atomic(folder / f"verdict-{index:05d}.parquet") as aside:
            pq.write_table(table, aside, compression="zstd")
        return {"rows": part.rows, "dropped": int((rule != None).sum())}  # noqa: E711 - elementwise


def verdict_file(judged: Output, index: int) -> Path:
    return judged.folder / f"verdict-{index:05d}.parquet"
