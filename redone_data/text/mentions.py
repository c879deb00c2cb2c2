"""@mentions and links: kept, masked or dropped, in one kernel pass over the bytes.

What a mention and a link are is words.py's to say, with two additions: ``@name@host.tld`` of the Fediverse is one
mention, and ``www.`` begins a link too. A masked mention is ``@user``, the form that tweet corpora use
(https://arxiv.org/abs/2010.12421), so that features and duplicates still see a mention there.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, UInt32, from_buffers, string_buffers
from redone_data.text.characters import decode
from redone_data.text.kernel import kernel
from redone_data.text.normalize import BLANK, NEWLINE, TAB, blank_before
from redone_data.text.words import (
    AT,
    FULLWIDTH_AT,
    HYPHEN,
    URL_STOPS,
    URL_TAIL,
    follows_latin,
    mention_end,
    url_end,
)

Handling = Literal["keep", "mask", "drop"]
HANDLINGS = ("keep", "mask", "drop")
KEEP, MASK, DROP = range(3)
USER, URL = np.frombuffer(b"@user", np.uint8), np.frombuffer(b"<URL>", np.uint8)
DOT, LOWER_H, LOWER_W = 0x2E, 0x68, 0x77


def replace_mentions(texts: pa.Array, *, mentions: Handling, urls: Handling) -> tuple[pa.Array, UInt32, UInt32]:
    """The texts with mentions and links handled, and how many of each were in each text (uint32[n] twice).

    Of blanks about what is dropped one stays; two letters or digits that would meet are parted by one.
    """
    offsets, data = string_buffers(texts)
    new_offsets = np.zeros(len(offsets), np.int64)
    counts = np.zeros((2, len(offsets) - 1), np.uint32)
    how = HANDLINGS.index(mentions), HANDLINGS.index(urls)
    return from_buffers(new_offsets, _replace_rows(offsets, data, new_offsets, counts, *how)), counts[0], counts[1]


@kernel
def is_alphanumeric(byte: int) -> bool:
    return 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A


@kernel
def link_end(data: Bytes, begin: int, start: int, end: int) -> int:
    """The end of the link at ``start``, or ``start`` if there is none."""
    first = data[start] | 0x20
    if first == LOWER_H:
        return url_end(data, start, end)
    if first != LOWER_W or end - start < 5 or follows_latin(data, begin, start):
        return start
    if data[start + 1] | 0x20 != LOWER_W or data[start + 2] | 0x20 != LOWER_W or data[start + 3] != DOT:
        return start
    position = start + 4
    while position < end and 0x20 < data[position] < 0x7F and data[position] not in URL_STOPS:
        position += 1
    while position > start + 4 and data[position - 1] in URL_TAIL:
        position -= 1
    return position if position > start + 4 else start


@kernel
def handle_end(data: Bytes, begin: int, start: int, after: int, end: int) -> int:
    """The end of the mention whose sign is ``data[start:after]``, with the host that may follow; 0 if there is none."""
    if follows_latin(data, begin, start):
        return 0
    stop = mention_end(data, after, end)
    if stop == 0 or stop >= end or data[stop] != AT:
        return stop
    host, dots = stop + 1, 0
    while host < end and (is_alphanumeric(data[host]) or data[host] == HYPHEN or data[host] == DOT):
        dots += data[host] == DOT and is_alphanumeric(data[host - 1])
        host += 1
    while host > stop and not is_alphanumeric(data[host - 1]):
        dots -= data[host - 1] == DOT and is_alphanumeric(data[host - 2])
        host -= 1
    return host if dots > 0 else stop


@kernel
def _replace_rows(
    offsets: Int64,
    data: Bytes,
    new_offsets: Int64,
    counts: np.ndarray[tuple[int, int], np.dtype[np.uint32]],
    mentions: int,
    urls: int,
) -> Bytes:
    # A mask may be longer than what it stands for: @a, www.a
    out = np.empty(3 * (offsets[-1] - offsets[0]), np.uint8)
    to = 0
    for row in range(len(offsets) - 1):
        begin = to
        position, end = offsets[row], offsets[row + 1]
        first = position
        dropped = False
        while position < end:
            byte = data[position]
            stop = 0
            how = KEEP
            if byte == AT or byte == 0xEF:
                code, after = decode(data, position, end)
                if code in (AT, FULLWIDTH_AT):
                    stop = handle_end(data, first, position, after, end)
                    how = mentions
            elif byte | 0x20 == LOWER_H or byte | 0x20 == LOWER_W:
                stop = link_end(data, first, position, end)
                how = urls
            if stop <= position:
                out[to] = byte
                to += 1
                position += 1
                continue
            mask = USER if byte == AT or byte == 0xEF else URL
            same = how == KEEP or (how == MASK and stop - position == len(mask) and (data[position:stop] == mask).all())
            if same:
                for index in range(position, stop):
                    out[to] = data[index]
                    to += 1
            else:
                counts[0 if byte == AT or byte == 0xEF else 1, row] += 1
                if how == MASK:
                    for index in range(len(mask)):
                        out[to] = mask[index]
                        to += 1
                else:
                    dropped = True
                    if to == begin:
                        while stop < end and (data[stop] == BLANK or data[stop] == TAB or data[stop] == NEWLINE):
                            stop += 1
                    elif blank_before(out, begin, to) > 0:
                        if stop < end and (data[stop] == BLANK or data[stop] == TAB):
                            stop += 1
                    elif stop < end and is_alphanumeric(out[to - 1]) and is_alphanumeric(data[stop]):
                        out[to] = BLANK
                        to += 1
            position = stop
        if dropped:
            while blank_before(out, begin, to) > 0:
                to -= blank_before(out, begin, to)
        new_offsets[row + 1] = to
    return out[:to]
