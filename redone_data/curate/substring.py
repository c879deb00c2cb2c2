"""Substrings of N words that another document has, too: copied passages inside texts that differ otherwise.

``duplicate_substring_fraction`` is the share of a document's bytes that lie in runs of at least ``words`` words which
another document holds (curate/spans.py): one document keeps each run. For curated subsets and long texts: a post of
fewer words has no such run.

Exact as a suffix array is (Lee et al. 2021, arXiv:2107.06499), without one: a text's shared substrings of at least N
words are the union of its shared windows of N words, and windows are found by hash. A suffix array holds some 5 to 9
bytes a byte of text in memory, so it works in batches and misses what lies across them; this needs 16 bytes of disk a
word, and memory for a part and a range of hashes. Words rather than bytes: case and punctuation do not hide a copy.
Two different windows agree by chance once in 2**64: about 3 pairs among ten billion windows.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from redone_data.corpus import Corpus
from redone_data.curate.spans import SharedSpanAttributes, SharedSpanConfig, SharedSpansStep, SpanHashStep
from redone_data.engine import Engine, Output
from redone_data.errors import RedoneError
from redone_data.text.windows import Spans, windows

MIN_WORDS = 8


@dataclass(frozen=True)
class SubstringConfig(SharedSpanConfig):
    """Which substrings count as duplicates."""

    words: int = field(
        default=50, metadata={"help": "a run of so many words that another document has; a Han character is a word"}
    )

    def __post_init__(self) -> None:
        if self.words < MIN_WORDS:
            raise RedoneError(f"words: {self.words}; at least {MIN_WORDS}: shorter runs are shared by chance")

    def spans(self, text: pa.Array) -> Spans:
        return windows(text, self.words)

    def cut(self) -> dict[str, Any]:
        return {"words": self.words}

    @property
    def least_documents(self) -> int:
        return 2


@dataclass(frozen=True)
class WindowHashStep(SpanHashStep):
    """Distinct windows of each part."""

    name = "window-hashes"
    VERSION = 1


@dataclass(frozen=True)
class SharedWindowsStep(SharedSpansStep):
    """Windows that two documents have."""

    name = "windows-shared"
    VERSION = 1


@dataclass(frozen=True)
class DuplicateSubstringsStep(SharedSpanAttributes):
    """How much of each document another one holds."""

    name = "duplicate-substrings"
    VERSION = 1
    prefix = "duplicate_substring"
    matches: ClassVar[dict[str, str]] = {
        "duplicate_substring_fraction": "duplicate_substring_of",
        "duplicate_substring_count": "duplicate_substring_of",
    }

    def columns(self) -> dict[str, str]:
        return {
            "duplicate_substring_fraction": "share of the text in long runs of words that another document has",
            "duplicate_substring_count": "documents that have the most copied of its runs",
        }


def duplicate_substrings(engine: Engine, corpus: Corpus, exact: Output, settings: SubstringConfig) -> Output:
    """The attributes of duplicate substrings of a whole corpus."""
    hashed = engine.run(WindowHashStep(corpus, exact, settings))
    shared = engine.run(SharedWindowsStep(corpus, hashed, settings))
    return engine.run(DuplicateSubstringsStep(corpus, shared, settings))
