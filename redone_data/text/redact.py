"""Personal data out of posts: addresses, phone, identity, card and contact numbers become placeholders.

Few posts hold any. One cheap polars regex a kind (Rust) finds the rows that might; only these go
through Python's ``re``, which alone has the look-around that Chinese text needs, then through check digits and context.
So a candidate row costs what Python costs; the measure is a table of labelled cases, tests/text/redact_cases.py.

Digits glued to letters, in links, after words such as "order no." or in versions, prices and decimals are left alone.
What each kind looks like is in ``personal_data.py``.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.errors import RedoneError, did_you_mean
from redone_data.text.buffers import Int64, UInt32, large_strings, replace_rows
from redone_data.text.personal_data import ALL, KINDS

# Full-width ASCII read as half-width: one character for one, so that positions hold in the original.
HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def redact(array: pa.Array | pa.ChunkedArray, kinds: Sequence[str] = ALL) -> tuple[pa.Array, dict[str, UInt32]]:
    """The texts (``large_string[n]``) with placeholders, and for each kind how many it replaced in each (uint32[n]).

    ``kinds`` are names of ``KINDS``, all by default. Doing it twice changes nothing more, for a row is searched until
    nothing is found. Raises :class:`RedoneError` for an unknown kind and for nulls.
    """
    for name in kinds:
        if name not in KINDS:
            raise RedoneError(f"kind {name!r} is unknown; {did_you_mean(name, KINDS)}")
    texts = large_strings(array)
    counts = {name: np.zeros(len(texts), np.uint32) for name in kinds}
    rows = candidate_rows(texts, kinds)
    redacted = []
    for row, text in zip(rows.tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True):
        text, found = redact_text(text, kinds)
        redacted.append(text)
        for name, number in found.items():
            counts[name][row] = number
    return replace_rows(texts, rows, pa.array(redacted, pa.large_string())), counts


def candidate_rows(texts: pa.Array, kinds: Iterable[str]) -> Int64:
    """The rows in which one of ``kinds`` may be, ascending."""
    column = pl.Series(texts, dtype=pl.String)
    hit = np.zeros(len(texts), np.bool_)
    for prefilter in {KINDS[name].prefilter for name in kinds}:
        hit |= column.str.contains(prefilter).to_numpy()
    return np.flatnonzero(hit).astype(np.int64)


def redact_text(text: str, kinds: Sequence[str]) -> tuple[str, dict[str, int]]:
    """One text with placeholders, and how many of each kind it got."""
    counts = dict.fromkeys(kinds, 0)
    while True:
        before = text
        for name in (name for name in ALL if name in counts):
            kind = KINDS[name]
            half = text.translate(HALF_WIDTH)
            parts, last = [], 0
            for match in kind.pattern.finditer(half):
                if kind.accepts(half, match):
                    start, end = match.span("data") if "data" in kind.pattern.groupindex else match.span()
                    parts += [text[last:start], kind.placeholder]
                    last = end
                    counts[name] += 1
            if parts:
                text = "".join([*parts, text[last:]])
        if text == before:
            return text, counts
