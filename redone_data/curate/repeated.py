"""Lines and sentences that many documents repeat: signatures, calls to follow, forum boilerplate.

``repeated_line_fraction`` is the share of a document's bytes that lie in lines which at least ``documents`` documents
have, and of which it is not the holder (curate/spans.py): one document keeps each line. Lines of few distinct words
(thanks, laughter, emoticons) repeat in honest posts and count for none; a text of one single line is left to exact and
near duplicates. Punctuation, case and emoji do not matter. Cost: two passes that split words, 16 bytes of disk a
distinct line.

Source: CCNet (arXiv:1911.00359) and C4 (arXiv:1910.10683, three-sentence spans), both of which keep the first.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pyarrow as pa

from redone_data.corpus import Corpus
from redone_data.curate.spans import SharedSpanAttributes, SharedSpanConfig, SharedSpansStep, SpanHashStep
from redone_data.engine import Engine, Output
from redone_data.errors import RedoneError
from redone_data.text.lines import lines
from redone_data.text.windows import Spans


@dataclass(frozen=True)
class RepeatedLinesConfig(SharedSpanConfig):
    """When a line counts as repeated."""

    documents: int = field(default=10, metadata={"help": "a line repeats when so many documents have it"})
    min_words: int = field(
        default=8, metadata={"help": "a line of fewer distinct words counts for none; a Han character is a word"}
    )
    unit: Literal["line", "sentence"] = field(
        default="sentence", metadata={"help": "sentence: lines are cut after full stops, too"}
    )

    def __post_init__(self) -> None:
        if self.documents < 2 or self.min_words < 1:
            raise RedoneError(
                f"documents: {self.documents}, min_words: {self.min_words}; at least 2 documents and 1 word are needed"
            )

    def spans(self, text: pa.Array) -> Spans:
        return lines(text, min_words=self.min_words, sentences=self.unit == "sentence")

    def cut(self) -> dict[str, Any]:
        return {"min_words": self.min_words, "unit": self.unit}

    @property
    def least_documents(self) -> int:
        return self.documents


@dataclass(frozen=True)
class LineHashStep(SpanHashStep):
    """Distinct lines of each part."""

    name = "line-hashes"
    VERSION = 1


@dataclass(frozen=True)
class SharedLinesStep(SharedSpansStep):
    """Lines that enough documents have."""

    name = "lines-shared"
    VERSION = 1


@dataclass(frozen=True)
class RepeatedLinesStep(SharedSpanAttributes):
    """How much of each document is repeated lines."""

    name = "repeated-lines"
    VERSION = 1
    prefix = "repeated_line"
    matches: ClassVar[dict[str, str]] = {
        "repeated_line_fraction": "repeated_line_of",
        "repeated_line_count": "repeated_line_of",
    }

    def columns(self) -> dict[str, str]:
        return {
            "repeated_line_fraction": "share of the text in lines that other documents repeat",
            "repeated_line_count": "documents that have the most repeated of its lines",
        }


def repeated_lines(engine: Engine, corpus: Corpus, exact: Output, settings: RepeatedLinesConfig) -> Output:
    """The attributes of repeated lines of a whole corpus."""
    hashed = engine.run(LineHashStep(corpus, exact, settings))
    return engine.run(RepeatedLinesStep(corpus, engine.run(SharedLinesStep(corpus, hashed, settings)), settings))
