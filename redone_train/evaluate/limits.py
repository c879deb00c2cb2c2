"""How long the answer to an item may be, what ends it, and the options that it is one of.

Nothing of this is in a benchmark's files. A model without a chat template would go on with examples of its own: it ends
at the line break after an answer of one line (SNS-Bench), or where the next example would begin (translations). The
lengths leave room for the longest golds; a model that chats may think aloud, and gets as much as the evaluation's file
says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redone_train.evaluate import fixed, official
from redone_train.evaluate.items import Item

LINE = ("\n",)
NEXT_PAIR = ("\nChinese:", "\nEnglish:")
Row = Mapping[str, Any]
Options = Callable[[Row], list[str]]


@dataclass(frozen=True)
class Limit:
    """max_new_tokens: None: the evaluation's. stop: of models that do not chat. options: None: not one of a few."""

    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    options: Options | None = None


def _yes_or_no(row: Row) -> list[str]:
    return ["Yes", "No"]


def _levels(row: Row) -> list[str]:
    return list(official.LEVELS)


def _candidates(row: Row) -> list[str]:
    return list(fixed.candidates(row))


LIMITS: Mapping[str, Limit] = {
    "Note-Taxonomy-single": Limit(32, stop=LINE, options=_candidates),
    "Note-Taxonomy-multiple": Limit(64, stop=LINE),
    "Note-Hashtag-single": Limit(32, stop=LINE, options=_candidates),
    "Note-Hashtag-multiple": Limit(128, stop=LINE),
    "Note-QueryCorr-explain": Limit(16, stop=LINE, options=_yes_or_no),
    "Note-QueryCorr-topic": Limit(16, stop=LINE, options=_levels),
    "Note-MRC-simple": Limit(256, stop=LINE),
    "Note-MRC-complex": Limit(512, stop=LINE),
    "Note-NER": Limit(64, stop=LINE),
    "Note-Gender": Limit(16, stop=LINE, options=_yes_or_no),
    "Note-CHLW": Limit(64, stop=LINE),
    "Note-QueryGen": Limit(64, stop=LINE),
    "zh-en": Limit(256, stop=NEXT_PAIR),
    "en-zh": Limit(256, stop=NEXT_PAIR),
}


def limit_of(item: Item) -> Limit:
    """What is known of an item's answer: by its task, or by what its benchmark wrote into `meta`."""
    if item.task in LIMITS:
        return LIMITS[item.task]
    options = item.meta.get("options")
    return Limit(
        item.meta.get("max_new_tokens"),
        tuple(item.meta.get("stop", ())),
        None if options is None else lambda row: list(options),
    )


def options_of(item: Item) -> list[str] | None:
    """Every answer that is allowed, as it is written; None where there are not a few."""
    options = limit_of(item).options
    return None if options is None else options(item.meta.get("row", {}))
