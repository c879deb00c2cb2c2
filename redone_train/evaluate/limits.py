"""How long the answer to an item may be, whether it is one line, and the options that it is one of.

Nothing of this is in a benchmark's files. Answers of SNS-Bench and translations are one line, so a model without a chat template, which
would go on with examples of its own, ends at a line break. The lengths leave room for the longest golds in tokens of a
Chinese text; a model with a chat template may think aloud, and gets as much as the evaluation's file says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redone_train.evaluate import fixed, official
from redone_train.evaluate.items import Item

Row = Mapping[str, Any]
Options = Callable[[Row], list[str]]


@dataclass(frozen=True)
class Limit:
    """max_new_tokens: None: the evaluation's. options: None: the answer is not one of a few."""

    max_new_tokens: int | None = None
    one_line: bool = False
    options: Options | None = None


def _yes_or_no(row: Row) -> list[str]:
    return ["Yes", "No"]


def _levels(row: Row) -> list[str]:
    return list(official.LEVELS)


def _candidates(row: Row) -> list[str]:
    return list(fixed.candidates(row))


LIMITS: Mapping[str, Limit] = {
    "Note-Taxonomy-single": Limit(32, one_line=True, options=_candidates),
    "Note-Taxonomy-multiple": Limit(64, one_line=True),
    "Note-Hashtag-single": Limit(32, one_line=True, options=_candidates),
    "Note-Hashtag-multiple": Limit(128, one_line=True),
    "Note-QueryCorr-explain": Limit(16, one_line=True, options=_yes_or_no),
    "Note-QueryCorr-topic": Limit(16, one_line=True, options=_levels),
    "Note-MRC-simple": Limit(256, one_line=True),
    "Note-MRC-complex": Limit(512, one_line=True),
    "Note-NER": Limit(64, one_line=True),
    "Note-Gender": Limit(16, one_line=True, options=_yes_or_no),
    "Note-CHLW": Limit(64, one_line=True),
    "Note-QueryGen": Limit(64, one_line=True),
    "zh-en": Limit(256, one_line=True),
    "en-zh": Limit(256, one_line=True),
}


def limit_of(item: Item) -> Limit:
    """What is known of an item's answer: by its task, or by what its benchmark wrote into `meta`."""
    if item.task in LIMITS:
        return LIMITS[item.task]
    options = item.meta.get("options")
    return Limit(
        item.meta.get("max_new_tokens"),
        bool(item.meta.get("one_line", False)),
        None if options is None else lambda row: list(options),
    )


def options_of(item: Item) -> list[str] | None:
    """Every answer that is allowed, as it is written; None where there are not a few."""
    options = limit_of(item).options
    return None if options is None else options(item.meta.get("row", {}))
