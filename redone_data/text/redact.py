"""Personal data out of posts: addresses, phone, identity, card and contact numbers become placeholders.

Few posts hold any. A kernel (personal_scan.py) finds the rows that might and says of which kind; only these go through
Python's ``re``, which alone has the look-around that Chinese text needs, then through check digits and context. The
result is the same as without the kernel. Mentions and links, which are many, are replaced by a kernel (mentions.py).
The measure is a table of labelled cases, tests/text/redact_cases.py; speed and peers: benchmarks/redaction.py.

Digits glued to letters, in links, after words such as "order no." or in versions, prices and decimals are left alone.
In the query of a link a number goes where its parameter says what it is (``?phone=``), an e-mail address anywhere.
What each kind looks like is in ``personal_data.py``.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError, did_you_mean
from redone_data.text.buffers import Int64, UInt32, large_strings, replace_rows
from redone_data.text.mentions import HANDLINGS, Handling, replace_mentions
from redone_data.text.personal_data import ALL, KINDS, data_span
from redone_data.text.personal_scan import kinds_possible

# Full-width ASCII read as half-width: one character for one, so that positions hold in the original.
HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def redact(
    array: pa.Array | pa.ChunkedArray,
    kinds: Sequence[str] = ALL,
    *,
    mentions: Handling = "keep",
    urls: Handling = "keep",
) -> tuple[pa.Array, dict[str, UInt32]]:
    """The texts (``large_string[n]``) with placeholders, and for each kind how many it replaced in each (uint32[n]).

    ``kinds`` are names of ``KINDS``, all by default; ``mentions`` and ``urls`` that are not kept are counted too, as
    ``mention`` and ``url``. Doing it twice changes nothing more, for a row is searched until nothing is found.
    Raises :class:`RedoneError` for an unknown kind or option and for nulls.
    """
    for name in kinds:
        if name not in KINDS:
            raise RedoneError(f"kind {name!r} is unknown; {did_you_mean(name, KINDS)}")
    for option, value in (("mentions", mentions), ("urls", urls)):
        if value not in HANDLINGS:
            raise RedoneError(f"{option} is {value!r}; allowed: {', '.join(HANDLINGS)}")
    texts = large_strings(array)
    names = [*kinds, *["mention"] * (mentions != "keep"), *["url"] * (urls != "keep")]
    counts = {name: np.zeros(len(texts), np.uint32) for name in names}
    rows: Int64 = np.arange(len(texts), dtype=np.int64)
    pending = texts
    while len(rows):
        if mentions != "keep" or urls != "keep":
            replaced, num_mentions, num_urls = replace_mentions(pending, mentions=mentions, urls=urls)
            for name, found in (("mention", num_mentions), ("url", num_urls)):
                if name in counts:
                    counts[name][rows] += found
            changed = (num_mentions + num_urls) > 0
        else:
            replaced, changed = pending, np.zeros(len(rows), np.bool_)
        masked = _mask(replaced, kinds)
        for at, (_, lost) in masked.items():
            changed[at] = True
            for name, number in lost.items():
                counts[name][rows[at]] += number
        at_changed = np.flatnonzero(changed)
        positions = np.searchsorted(at_changed, np.fromiter(masked, np.int64, len(masked)))
        placeholders = pa.array([text for text, _ in masked.values()], pa.large_string())
        pending = replace_rows(replaced.take(pa.array(at_changed)), positions, placeholders)
        rows = rows[changed]
        texts = replace_rows(texts, rows, pending)
    return texts, counts


def _mask(texts: pa.Array, kinds: Sequence[str]) -> dict[int, tuple[str, dict[str, int]]]:
    """Row -> (the text with what is of ``kinds`` masked, how many of each kind it lost), for rows that lost any."""
    wanted = sum(1 << ALL.index(name) for name in kinds)
    possible = kinds_possible(texts)
    candidates = np.flatnonzero(possible & wanted).astype(np.int64)
    masked = {}
    for row, text in zip(candidates.tolist(), texts.take(pa.array(candidates)).to_pylist(), strict=True):
        text, found = mask_once(text, int(possible[row]) & wanted, wanted)
        if found:
            masked[row] = text, found
    return masked


def mask_once(text: str, possible: int, wanted: int) -> tuple[str, dict[str, int]]:
    """One text after one round of the ``wanted`` kinds, and how many of each it lost.

    Kinds that are not ``possible`` in the text (bits, as personal_scan.py gives them) are passed over until something
    has changed: a placeholder may open the way for a kind that was not there.
    """
    counts = {}
    half = text if text.isascii() else text.translate(HALF_WIDTH)
    for bit, name in enumerate(ALL):
        if not possible >> bit & 1:
            continue
        kind = KINDS[name]
        parts, halves, last = [], [], 0
        for match in kind.pattern.finditer(half):
            if kind.accepts(half, match):
                start, end = data_span(match)
                parts += [text[last:start], kind.placeholder]
                halves += [half[last:start], kind.placeholder]
                last = end
        if parts:
            text = "".join([*parts, text[last:]])
            half = "".join([*halves, half[last:]])
            counts[name] = len(parts) // 2
            possible = wanted
    return text, counts


def redact_text(text: str, kinds: Sequence[str]) -> tuple[str, dict[str, int]]:
    """One text with placeholders, and how many of each kind it got."""
    redacted, counts = redact(pa.array([text], pa.large_string()), kinds)
    return redacted[0].as_py(), {name: int(found[0]) for name, found in counts.items()}
