"""A note with its comments and queries as one training document, as RedOne's continued pretraining has them.

Whatever answers a note, at any depth of replies, follows it as a line of its own, best first, within limits on number
and length; what finds no place is in a ledger with its reason. Notes and answers may lie in different sources and in
any order: ids are joined by ranges of their hash, reply chains are followed in one array of 24 bytes a document, texts
move once, by thread (exchange.py). What comes out looks like what `read` wrote, so every later step is as before.

Source: RedOne, arXiv 2507.10605, section 3.1. Cost: see docs/curation.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.curate.sources import SourceConfig
from redone_data.engine import Output
from redone_data.errors import RedoneError, did_you_mean

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

NAME = "interactions"
REASONS = ("repeated_id", "orphan", "repeated_comment", "short_comment", "too_many_comments", "over_length")
# Spreads neighbouring rows evenly over the slices (2^64 divided by the golden ratio).
SPREAD = np.uint64(0x9E3779B97F4A7C15)
EMPTY = pa.scalar("", pa.large_string())


@dataclass(frozen=True)
class SectionConfig:
    """What answers a note from one source: its comments, or the queries that led to it."""

    source: str = field(metadata={"help": "the source's name"})
    prefix: str = field(metadata={"help": "what stands before each of its lines"})


@dataclass(frozen=True)
class InteractionsConfig:
    """How a note and what answers it become one document."""

    order: Literal["engagement", "time"] = field(
        default="engagement", metadata={"help": "which answers come first: the most liked, or the earliest"}
    )
    max_comments: int = field(default=50, metadata={"help": "answers in a document; the rest go to the ledger"})
    max_chars: int = field(default=8_000, metadata={"help": "characters of a document; a longer note stays whole"})
    min_chars: int = field(default=2, metadata={"help": "characters an answer must have"})
    orphans: Literal["keep", "drop"] = field(
        default="keep", metadata={"help": "an answer whose note is not there: keep as a note of its own, or drop"}
    )
    prefix: str = field(default="评论：", metadata={"help": "what stands before answers of sources without a section"})
    separator: str = field(default="\n", metadata={"help": "what stands between the lines of a document"})
    sections: tuple[SectionConfig, ...] = field(
        default=(), metadata={"help": "sources whose answers come first, in this order, each with its own prefix"}
    )

    def __post_init__(self) -> None:
        for name in ("max_comments", "max_chars", "min_chars"):
            if getattr(self, name) < 1:
                raise RedoneError(f"{name}: {getattr(self, name)}; at least 1 is needed")
        if not self.separator:
            raise RedoneError("separator: it must not be empty")
        named = [section.source for section in self.sections]
        for name in named:
            if named.count(name) > 1:
                raise RedoneError(f"sections: source '{name}' has two sections; give it one")


def check_sources(config: InteractionsConfig, sources: Sequence[SourceConfig], domain: str) -> None:
    """Raises RedoneError unless parents and sections name sources of this domain, and parents ones that have ids."""
    named = {source.name or domain: source for source in sources}
    wanted = [("fields.parent", p.source) for source in sources for p in source.fields.parent]
    if not wanted:
        raise RedoneError(
            "interactions: no source says what its records answer; set fields.parent, "
            "for example [{name: note_id, source: notes}]"
        )
    for where, name in [*wanted, *(("interactions.sections", section.source) for section in config.sections)]:
        if name not in named:
            raise RedoneError(f"{where}: this domain has no source '{name}'; {did_you_mean(name, named)}")
    for where, name in wanted:
        if named[name].fields.id is None:
            raise RedoneError(f"{where}: documents of source '{name}' have no ids to be answered by; set its fields.id")
    for source in sources:
        if NAME in source.fields.meta:
            raise RedoneError(f"fields.meta: '{NAME}' is where grouping lists its members; leave it out")


class Grouped(NamedTuple):
    """The documents, which stand in for all reads of the domain, and where the ledger of those without a place is."""

    documents: Output
    members: Output

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> documents without a place."""
        counts: dict[str, int] = self.documents.statistics["dropped"]
        return counts
