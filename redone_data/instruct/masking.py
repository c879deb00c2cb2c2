"""Personal data out of what conversations are made of, before any of it is written: as the main recipe does in reading.

Texts, lists of texts and messages are masked alike, so that a passage copied out of a note still stands in it. Ids and
labels are not touched: a number that looks like one of a telephone may be a post's.
"""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from redone_data.instruct.conversation import MESSAGES
from redone_data.text.redact import redact

_MESSAGES = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))


def masked(frame: pl.DataFrame, columns: Sequence[str], kinds: Sequence[str]) -> tuple[pl.DataFrame, dict[str, int]]:
    """The frame with placeholders in those of the columns that hold text, and how many of each kind there are."""
    counts: dict[str, int] = {}
    if not kinds:
        return frame, counts
    for name in columns:
        kind = frame.schema[name]
        if kind == pl.String():
            texts = frame[name].fill_null("").to_arrow().cast(pa.large_string())
            found = pl.Series(name, _masked(texts, kinds, counts))
            series = pl.select(pl.when(frame[name].is_not_null()).then(found).alias(name)).to_series()
        elif kind == pl.List(pl.String()):
            lists = _one(frame[name].to_arrow().cast(pa.large_list(pa.large_string())))
            series = _rebuilt(lists, _masked(lists.values.fill_null(""), kinds, counts), name)
        elif kind == MESSAGES:
            lists = _one(frame[name].to_arrow().cast(_MESSAGES))
            content = _masked(lists.values.field("content").fill_null(""), kinds, counts)
            turns = pa.StructArray.from_arrays([lists.values.field("role"), content], ["role", "content"])
            series = _rebuilt(lists, turns, name)
        else:
            continue
        frame = frame.with_columns(series)
    return frame, {kind: count for kind, count in sorted(counts.items()) if count}


def _masked(texts: pa.Array, kinds: Sequence[str], counts: dict[str, int]) -> pa.Array:
    """Texts with placeholders; what was found joins the counts."""
    found, numbers = redact(texts, kinds)
    for kind, number in numbers.items():
        counts[kind] = counts.get(kind, 0) + int(number.sum())
    return found


def _one(lists: pa.Array | pa.ChunkedArray) -> pa.Array:
    return lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists


def _rebuilt(lists: pa.Array, values: pa.Array, name: str) -> pl.Series:
    """The same lists of other values."""
    return pl.Series(name, pa.LargeListArray.from_arrays(lists.offsets, values, mask=lists.is_null()))
