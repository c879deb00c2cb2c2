"""One spelling for one text: Unicode NFC, one kind of line break, nothing invisible, no white space that says nothing.

A single kernel pass that copies plain text 64 bytes at a time (plain_text.py); only rows holding a code point that NFC
might touch visit polars' normaliser, so clean Chinese or English costs no Unicode work. 0.7 ms/MB of mixed posts.
Zero-width joiner and non-joiner stay: emoji, Indic and Persian spelling need them. NFC: https://www.unicode.org/reports/tr15/
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, UInt64, from_buffers, replace_rows, string_buffers
from redone_data.text.characters import CLASS_MASK, HAN, NFC_FLAG, SPACE, class_byte, decode
from redone_data.text.kernel import kernel
from redone_data.text.plain_text import copy_plain, may_be_plain
from redone_data.text.simd import BLOCK

Whitespace = Literal["keep", "collapse"]
Markup = Literal["keep", "topics", "strip"]

NEWLINE, TAB, RETURN, BLANK = 0x0A, 0x09, 0x0D, 0x20
LINE_BREAKS = (0x85, 0x2028, 0x2029)
ZERO_WIDTH_SPACE, WORD_JOINER, BYTE_ORDER_MARK = 0x200B, 0x2060, 0xFEFF
OPEN, CLOSE, PARENTHESIS = 0x5B, 0x5D, 0x28

# What platforms write into a hashtag: #coffee[Topic]#.
TOPICS = ("话题", "話題", "超话", "超話", "Topic", "topic")
# Stickers of Weibo and RedNote in Latin letters; those of Han characters are told by their shape.
LATIN_STICKERS = ("doge", "good", "ok", "haha", "cry", "vs", "nobaby")
# Brackets of the same shape that say something: sorts of posts, places of media, notes to the reader.
LABELS = (
    *[
        "原创",
        "转载",
        "公告",
        "求助",
        "分享",
        "讨论",
        "问题",
        "更新",
        "置顶",
        "视频",
        "图片",
        "图",
        "链接",
        "附件",
        "音频",
    ],
    *["注", "编辑", "引用", "来源", "新闻", "测评", "教程", "攻略", "招聘", "出售", "求购", "已解决", "摘要", "目录"],
)
MAX_STICKER_BYTES, MAX_STICKER_HAN, MAX_STICKER_LATIN, MAX_REDNOTE_LATIN = 24, 5, 4, 14


def normalize(
    array: pa.Array | pa.ChunkedArray, *, whitespace: Whitespace = "collapse", markup: Markup = "topics"
) -> pa.Array:
    """``large_string[n]``: each text in NFC, cleaned and stripped. Doing it twice changes nothing more.

    - ``\\r\\n``, ``\\r``, U+0085, U+2028 and U+2029 become ``\\n``;
    - control characters other than ``\\n`` and ``\\t`` go (C0, DEL, C1), and so do U+200B, U+2060, U+FEFF and the
      directional controls U+202A-202E, U+2066-2069;
    - white space goes at both ends. ``whitespace="collapse"``: inside a line the first of a run of blanks stays, blanks
      at its end go, two or more blank lines become one; indentation stays, for it is what code and lists are made of;
    - ``markup="topics"``: ``[Topic]``, ``[话题]``, ``[超话]`` go, so ``#coffee[Topic]#`` becomes ``#coffee#``. With
      ``"strip"`` stickers go too (see :func:`bracket_sort`), with one blank where they stood between two. A bracket
      followed by ``(`` is a Markdown link and stays.

    Raises :class:`RedoneError` for nulls.
    """
    offsets, data = string_buffers(array)
    new_offsets = np.zeros(len(offsets), np.int64)
    flagged = np.zeros(len(offsets) - 1, np.bool_)
    level = ("keep", "topics", "strip").index(markup)
    cleaned = from_buffers(
        new_offsets, _clean_rows(offsets, data, new_offsets, flagged, whitespace == "collapse", level)
    )
    # Removal comes first: it can bring a letter and its accent together. A cut of text in NFC is in NFC, and NFC makes
    # neither white space nor controls of anything else, so one round of each suffices.
    rows = np.flatnonzero(flagged).astype(np.int64)
    before = pl.Series(cleaned.take(pa.array(rows)), dtype=pl.String)
    composed = before.str.normalize("NFC")
    if level:
        # NFC makes Latin letters of U+212A and the like, and Latin letters may be the name of a sticker.
        changed = (composed != before).to_numpy()
        rows, composed = rows[changed], composed.filter(pl.Series(changed))
        if len(rows):
            texts = composed.to_arrow().cast(pa.large_string())
            return replace_rows(cleaned, rows, normalize(texts, whitespace=whitespace, markup=markup))
    return replace_rows(cleaned, rows, composed.to_arrow())


def name_hash(name: bytes) -> int:
    """FNV-1a, 64 bits, of the name in a bracket; :func:`bracket_sort` computes the same."""
    value = 0xCBF29CE484222325
    for byte in name:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def _hashes(names: tuple[str, ...]) -> UInt64:
    return np.array([name_hash(name.encode()) for name in names], np.uint64)


TOPIC_HASHES, STICKER_HASHES, LABEL_HASHES = _hashes(TOPICS), _hashes(LATIN_STICKERS), _hashes(LABELS)
FNV_BASIS, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@kernel
def is_removed(code: int) -> bool:
    """Whether :func:`normalize` removes the code point; those that become a line break are asked for first."""
    if code < 0x20:
        return code != NEWLINE and code != TAB
    if code < 0x200B:
        return 0x7F <= code < 0xA0
    return code in (ZERO_WIDTH_SPACE, WORD_JOINER, BYTE_ORDER_MARK) or 8234 <= code <= 8238 or 8294 <= code <= 8297


@kernel
def bracket_sort(data: Bytes, start: int, end: int) -> int:
    """What the name ``data[start:end]`` in a bracket is: 0 no markup, 1 a mark of a topic, 2 a sticker.

    A sticker is one to five Han characters with at most four Latin letters about them (``[笑哭]``, ``[微笑R]``,
    ``[笑cry]``) that are no label such as ``[原创]``; Latin letters and RedNote's ``R`` (``[WowR]``, ``[Wow R]``);
    or one of ``LATIN_STICKERS``.
    """
    value = FNV_BASIS
    for position in range(start, end):
        value = (value ^ np.uint64(data[position])) * FNV_PRIME
    if (value == TOPIC_HASHES).any():
        return 1
    if (value == STICKER_HASHES).any():
        return 2
    han = latin = blanks = 0
    position = start
    while position < end:
        byte = data[position]
        if 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A:
            latin += 1
            position += 1
        elif byte == BLANK and position == end - 2:
            blanks += 1
            position += 1
        else:
            code, position = decode(data, position, end)
            if class_byte(code) & CLASS_MASK != HAN:
                return 0
            han += 1
    if han > 0:
        sticker = han <= MAX_STICKER_HAN and latin <= MAX_STICKER_LATIN and blanks == 0
        return 2 if sticker and not (value == LABEL_HASHES).any() else 0
    last_small = end - 2 - blanks
    rednote = latin <= MAX_REDNOTE_LATIN and last_small >= start and data[end - 1] == 0x52 and data[last_small] >= 0x61
    return 2 if rednote else 0


@kernel
def bracket_start(out: Bytes, begin: int, end: int) -> int:
    """Where the bracket that closes at ``end`` opens, -1 if its name is too long to be markup."""
    for position in range(end - 2, max(begin, end - 2 - MAX_STICKER_BYTES) - 1, -1):
        if out[position] == OPEN:
            return position
        if out[position] == CLOSE or out[position] == NEWLINE:
            break
    return -1


@kernel
def blank_before(out: Bytes, begin: int, position: int) -> int:
    """The bytes of the white space that ends at ``position``, 0 if there is none."""
    if position <= begin:
        return 0
    start = position - 1
    while start > begin and position - start < 4 and 0x80 <= out[start] < 0xC0:
        start -= 1
    code, after = decode(out, start, position)
    return position - start if after == position and class_byte(code) & CLASS_MASK == SPACE else 0


@kernel
def _clean_rows(
    offsets: Int64, data: Bytes, new_offsets: Int64, flagged: npt.NDArray[np.bool_], collapse: bool, markup: int
) -> Bytes:
    out = np.empty(offsets[-1] - offsets[0] + BLOCK, np.uint8)  # plain text is written in blocks
    to = 0
    for row in range(len(offsets) - 1):
        position, end = offsets[row], offsets[row + 1]
        begin = to
        first = -1  # the first solid character of this line in `out`
        unsafe = False
        while position < end:
            byte = data[position]
            if may_be_plain(byte) and (byte != BLANK or (to > begin and BLANK < out[to - 1] < 0x7F)):
                num_plain = copy_plain(data, position, end, out, to)
                if num_plain > 0:
                    first = to if first < 0 else first
                    to += num_plain
                    position += num_plain
                    continue
            if 0x20 < byte < 0x7F:
                if first < 0:
                    first = to
                out[to] = byte
                to += 1
                position += 1
                if byte == CLOSE and markup > 0 and not (position < end and data[position] == PARENTHESIS):
                    # Looked for in what is written, from the inside out, so that nothing is left for a second time.
                    opened = bracket_start(out, begin, to)
                    sort = bracket_sort(out, opened + 1, to - 1) if opened >= 0 else 0
                    if 0 < sort <= markup:
                        to = opened
                        if first >= to:
                            first = -1
                        at_gap = to == begin or blank_before(out, begin, to) > 0
                        if at_gap and position < end and (data[position] == BLANK or data[position] == TAB):
                            position += 1
                continue
            if byte == BLANK and to > begin and BLANK < out[to - 1] < 0x7F:
                out[to] = BLANK
                to += 1
                position += 1
                continue
            code, after = decode(data, position, end)
            if code == RETURN or code in LINE_BREAKS:
                if code == RETURN and after < end and data[after] == NEWLINE:
                    after += 1
                code = NEWLINE
            elif is_removed(code):
                position = after
                continue
            flags = class_byte(code)
            if (flags & CLASS_MASK) != SPACE:
                if first < 0:
                    first = to
            elif to == begin or (collapse and first >= 0 and code != NEWLINE and blank_before(out, begin, to) > 0):
                position = after
                continue
            if code == NEWLINE:
                first = -1
                if collapse:
                    while out[to - 1] != NEWLINE and blank_before(out, begin, to) > 0:
                        to -= blank_before(out, begin, to)
                    if to - begin >= 2 and out[to - 1] == NEWLINE and out[to - 2] == NEWLINE:
                        position = after
                        continue
                out[to] = NEWLINE
                to += 1
            else:
                for index in range(position, after):
                    out[to] = data[index]
                    to += 1
            unsafe |= (flags & NFC_FLAG) != 0
            position = after
        while blank_before(out, begin, to) > 0:
            to -= blank_before(out, begin, to)
        new_offsets[row + 1] = to
        flagged[row] = unsafe
    return out[:to]
