"""What a post is made of: words, Chinese and Japanese characters, hashtags, mentions, links, emoji.

One splitter for every script, over UTF-8 bytes, in one left-to-right pass without a dictionary; other kernels draw
units one at a time from :func:`next_word`. It is not a tokenizer: Thai and Lao, written without spaces, give one word a
phrase. Punctuation and symbols give no unit. Emoji sequences follow https://www.unicode.org/reports/tr51/

- ``WORD`` letters, digits, combining marks; an apostrophe between two of them. Latin beside Han makes two units.
- ``CJK`` one Han or Kana character, with its marks. Hangul goes by ``WORD``.
- ``HASHTAG`` ``#word`` of letters, digits, ``_`` and not only digits; or ``#topic#`` closed within 40 characters,
  without white space, if it has a Han or Kana character or no Latin letter or digit follows. Not after a Latin
  letter or digit, as in ``C#``, unless that is part of a hashtag: ``#a#b``.
- ``MENTION`` ``@name`` of up to 30 letters, digits, ``_``, ``-``. Not right after a Latin letter or digit: an address.
- ``URL`` ``http(s)://`` up to white space, ``< > "``, a Han, Kana or Hangul character, or any non-ASCII sign.
- ``EMOJI`` one picture: flag, keycap, skin tone, family joined by U+200D.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, UInt64, string_buffers
from redone_data.text.characters import (
    CLASS_MASK,
    DIGIT,
    EMOJI,
    HAN,
    HANGUL,
    KANA,
    LATIN,
    MARK,
    OTHER_LETTER,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    class_byte,
    decode,
)
from redone_data.text.kernel import inlined, kernel, lean
from redone_data.text.simd import (
    BLOCK,
    below,
    count_ones,
    is_alphanumeric,
    load8,
    mark_alphanumeric,
    range_mask,
    run_end,
    trailing_zeros,
)

MAX_TOPIC, MAX_NAME = 40, 30
ZWJ, TEXT_STYLE, EMOJI_STYLE, KEYCAP = 0x200D, 0xFE0E, 0xFE0F, 0x20E3
FULLWIDTH_HASH, FULLWIDTH_AT, APOSTROPHE, CURLY_APOSTROPHE = 0xFF03, 0xFF20, 0x27, 0x2019
HASH, AT, UNDERSCORE, HYPHEN, ASTERISK, LOWER_H, LOWER_T = 0x23, 0x40, 0x5F, 0x2D, 0x2A, 0x68, 0x74
WHOLE_HASHTAGS, OPEN_HASHTAGS = 0, 1
URL_HEAD = np.frombuffer(b"https://", np.uint8)
URL_STOPS = (0x22, 0x3C, 0x3E)  # " < >
URL_TAIL = tuple(b".,;:!?')]")


class WordKind:
    """What a unit is; ``NONE`` only at the end of a text."""

    NONE, WORD, CJK, HASHTAG, MENTION, URL, EMOJI = range(7)


NONE, WORD, CJK, HASHTAG, MENTION, URL, PICTURE = range(7)  # kernels cannot read class attributes


class Words(NamedTuple):
    """Units of row ``i`` are ``row_offsets[i]:row_offsets[i + 1]``; starts, ends are bytes from the row's start."""

    row_offsets: Int64
    starts: Int64
    ends: Int64
    kinds: Bytes


def split(array: pa.Array | pa.ChunkedArray) -> Words:
    """The units of each text: row_offsets int64[n + 1]; starts, ends int64[m]; kinds uint8[m] (:class:`WordKind`).

    Raises :class:`RedoneError` for nulls.
    """
    offsets, data = string_buffers(array)
    return Words(*_split_rows(offsets, data))


class Units(NamedTuple):
    """Room for the units of one text; starts and ends are positions in the data. See :func:`split_text`."""

    starts: Int64
    ends: Int64
    kinds: Bytes
    masks: UInt64


@kernel
def room_for_units(longest: int) -> Units:
    """Room for any text of up to ``longest`` bytes: no more units than bytes, written in fours."""
    return Units(
        np.empty(longest + 3, np.int64),
        np.empty(longest + 3, np.int64),
        np.empty(longest + 3, np.uint8),
        np.empty((longest >> 6) + 1, np.uint64),
    )


@inlined
def split_text(
    data: Bytes, begin: int, end: int, starts: Int64, ends: Int64, kinds: Bytes, masks: UInt64, hashtags: int
) -> int:
    """Writes the units of the text ``data[begin:end]`` and gives their number.

    They are those of :func:`next_word`. Blocks of 64 bytes are split by masks into words of ASCII and Han characters,
    whose starts and ends each come in order; the rest of the text by :func:`split_slowly`. With ``OPEN_HASHTAGS`` the
    sign of a hashtag is skipped, and what follows the sign is read as plain text.
    """
    mark_alphanumeric(data, begin, end, masks)
    count = ended = 0
    position = begin  # what lies before was split slowly
    base = begin
    before = words_before = plain_before = han_before = np.uint64(0)  # bits carried over from the block before
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    while base <= end and base + BLOCK + 2 <= len(data):
        index = (base - begin) >> 6
        inside = below(end - base)
        solid = masks[index]
        following = solid >> one
        if base + BLOCK <= end:
            following |= masks[index + 1] << np.uint64(63)
        inner = range_mask(data, base, APOSTROPHE, APOSTROPHE) & (solid << one | before) & following
        word = solid | inner
        past = word << one | words_before
        start, stop = word & ~past, past & ~word
        before, words_before = solid >> np.uint64(63), word >> np.uint64(63)
        h = range_mask(data, base, LOWER_H, LOWER_H) | range_mask(data, base, LOWER_H - 32, LOWER_H - 32)
        t = range_mask(data, base + 1, LOWER_T, LOWER_T) | range_mask(data, base + 1, LOWER_T - 32, LOWER_T - 32)
        odd = start & h & t | range_mask(data, base, AT, AT) & inside
        if hashtags == WHOLE_HASHTAGS:
            odd |= range_mask(data, base, HASH, HASH) & inside
        high = range_mask(data, base, 0x80, 0xFF) & inside
        han = np.uint64(0)
        if high | plain_before:
            whole = (
                range_mask(data, base + 1, 0x80, 0xBF) & range_mask(data, base + 2, 0x80, 0xBF) & below(end - base - 2)
            )
            han = han_mask(data, base) & whole
            plain = han | skipped_mask(data, base) & whole
            odd |= high & ~(plain | plain << one | plain << two | plain_before)
            plain_before = plain >> np.uint64(63) | plain >> np.uint64(62)
        start |= han
        stop |= han << three | han_before
        han_before = han >> np.uint64(61)
        if position >= base:
            start &= ~below(position - base)
            odd &= ~below(position - base)
            stop &= ~below(position - base + 1)
        while odd:
            place = trailing_zeros(odd)
            count = write_units(start & below(place), han, base, count, starts, kinds)
            ended = write_places(stop & below(place + 1), base, ended, ends)
            position, count = split_slowly(
                data, begin, position, base + place, end, starts, ends, kinds, masks, hashtags, count, base + place + 1
            )
            ended = count
            start &= ~below(position - base)
            odd &= ~below(position - base)
            stop &= ~below(position - base + 1)
        count = write_units(start, han, base, count, starts, kinds)
        ended = write_places(stop, base, ended, ends)
        base += BLOCK
    if base <= end and position < end:
        if ended < count:
            count -= 1
            base = starts[count]
        else:
            base += count_ones(plain_before)
        _, count = split_slowly(
            data, begin, position, max(base, position), end, starts, ends, kinds, masks, hashtags, count, end
        )
    return count


@inlined
def write_units(mask: np.uint64, han: np.uint64, base: int, count: int, starts: Int64, kinds: Bytes) -> int:
    """Writes where units start, four at a time, and gives their number with these."""
    total = count + count_ones(mask)
    while mask:
        for place in range(count, count + 4):
            bit = trailing_zeros(mask)
            starts[place], kinds[place] = base + bit, WORD + np.int64(han >> np.uint64(bit & 63) & np.uint64(1))
            mask &= mask - np.uint64(1)
        count += 4
    return total


@inlined
def write_places(mask: np.uint64, base: int, count: int, places: Int64) -> int:
    """Writes where the bits are, four at a time, and gives the number of places with these."""
    total = count + count_ones(mask)
    while mask:
        for place in range(count, count + 4):
            places[place] = base + trailing_zeros(mask)
            mask &= mask - np.uint64(1)
        count += 4
    return total


@inlined
def han_mask(data: Bytes, position: int) -> np.uint64:
    """Bit ``i``: whether three bytes from ``position + i`` on are U+4E00 to U+9FFF, if they are one character."""
    return range_mask(data, position, 0xE5, 0xE9) | range_mask(data, position, 0xE4, 0xE4) & range_mask(
        data, position + 1, 0xB8, 0xBF
    )


@inlined
def skipped_mask(data: Bytes, position: int) -> np.uint64:
    """Bit ``i``: whether three bytes from ``position + i`` on are a frequent sign that is in no unit by itself.

    U+2010 to U+2027 without U+2019, U+3000 to U+3004, U+3008 to U+301F, U+FF01 to U+FF0F without U+FF03, U+FF1A to
    U+FF1F.
    """
    third = position + 2
    general = range_mask(data, position, 0xE2, 0xE2) & range_mask(data, position + 1, 0x80, 0x80)
    general &= range_mask(data, third, 0x90, 0xA7) & ~range_mask(data, third, 0x99, 0x99)
    cjk = range_mask(data, position, 0xE3, 0xE3) & range_mask(data, position + 1, 0x80, 0x80)
    cjk &= range_mask(data, third, 0x80, 0x84) | range_mask(data, third, 0x88, 0x9F)
    wide = range_mask(data, position, 0xEF, 0xEF) & range_mask(data, position + 1, 0xBC, 0xBC)
    wide &= range_mask(data, third, 0x81, 0x8F) & ~range_mask(data, third, 0x83, 0x83) | range_mask(
        data, third, 0x9A, 0x9F
    )
    return general | cjk | wide


@lean
def split_slowly(
    data: Bytes,
    begin: int,
    resume: int,
    position: int,
    end: int,
    starts: Int64,
    ends: Int64,
    kinds: Bytes,
    masks: UInt64,
    hashtags: int,
    count: int,
    until: int,
) -> tuple[int, int]:
    """(where it stopped, number of units): units one at a time from ``position`` to ``until``, or a little further.

    It goes back where the character at ``position`` may belong to what lies before, though not before ``resume``, and
    on to where no word is cut.
    """
    if position < end and load8(data, position) >= 0x80:
        last = count - 1
        apostrophe = position > resume and load8(data, position - 1) == APOSTROPHE
        if last >= 0 and starts[last] >= resume and kinds[last] == WORD and ends[last] >= position - apostrophe:
            position, count = starts[last], last
        elif position > resume and load8(data, position - 1) in (ASTERISK, HASH):
            position -= 1
        elif position >= resume + 3 and load8(data, position - 1) >= 0x80 and (last < 0 or ends[last] < position):
            position -= 3
    while position < end and (
        position < until or is_alphanumeric(load8(data, position)) or load8(data, position) == APOSTROPHE
    ):
        kind = NONE
        byte = load8(data, position)
        if byte < 0x80:
            if is_alphanumeric(byte):
                stop = ascii_word_end(data, begin, position, end, masks)
                # A first digit may begin a keycap; ht may begin a link.
                link = byte | 0x20 == LOWER_H and stop > position + 1 and load8(data, position + 1) | 0x20 == LOWER_T
                if stop > 0 and not link:
                    kind = WORD
            elif byte != HASH and byte != AT and byte != ASTERISK:
                position += 1
                continue
        else:
            code, stop = decode(data, position, end)
            sort = class_byte(code) & CLASS_MASK
            if sort in (HAN, KANA):
                kind = CJK
            elif is_wordlike(sort):
                stop = word_end(data, stop, end)
                kind = WORD
            elif sort == MARK:
                if count > 0 and kinds[count - 1] == CJK and ends[count - 1] == position:
                    ends[count - 1] = stop
                position = stop
                continue
            elif sort == PUNCTUATION and not (code in (FULLWIDTH_HASH, FULLWIDTH_AT) or styled(data, stop, end)):
                position = stop
                continue
        start = position
        if kind == NONE:
            start, stop, kind = next_word(data, begin, position, end)
            if kind == NONE:
                return end, count
            if kind == HASHTAG and hashtags == OPEN_HASHTAGS:
                position = decode(data, start, end)[1]
                continue
        starts[count], ends[count], kinds[count] = start, stop, kind
        count += 1
        position = stop
    return position, count


@inlined
def ascii_word_end(data: Bytes, begin: int, position: int, end: int, masks: UInt64) -> int:
    """The end of the word that begins with the ASCII letter or digit at ``position``; 0 if that may be a keycap."""
    stop = begin + run_end(masks, position - begin)
    while stop < end:
        following = load8(data, stop)
        if following == APOSTROPHE and stop + 1 < end and is_alphanumeric(load8(data, stop + 1)):
            stop = begin + run_end(masks, stop + 1 - begin)
            continue
        if following >= 0x80 and stop == position + 1:
            return 0
        if following >= 0x80 or following == APOSTROPHE:
            return word_end(data, stop, end)
        break
    return stop


@inlined
def styled(data: Bytes, position: int, end: int) -> bool:
    """Whether the sign that makes an emoji of the character before it, U+FE0F (EF B8 8F), stands at ``position``."""
    return position < end and load8(data, position) == 0xEF and decode(data, position, end)[0] == EMOJI_STYLE


@lean
def next_word(data: Bytes, begin: int, position: int, end: int) -> tuple[int, int, int]:
    """(start, end, kind) of the first unit at or after ``position`` in the text ``data[begin:end]``.

    ``(end, end, WordKind.NONE)`` when there is none. ``position`` is ``begin`` or the end of a unit.
    """
    while position < end:
        code, after = decode(data, position, end)
        sort = class_byte(code) & CLASS_MASK
        if sort in (HAN, KANA):
            return position, marks_end(data, after, end), CJK
        if is_wordlike(sort):
            stop = url_end(data, position, end)
            if stop > position:
                return position, stop, URL
            if sort == DIGIT:
                stop = keycap_end(data, code, after, end)
                if stop > 0:
                    return position, stop, PICTURE
            return position, word_end(data, after, end), WORD
        if sort == EMOJI:
            return position, emoji_end(data, code, after, end), PICTURE
        if sort in (SYMBOL, PUNCTUATION):
            stop = keycap_end(data, code, after, end)
            if stop > 0:
                return position, stop, PICTURE
            if code >= 0x80 and after < end and decode(data, after, end)[0] == EMOJI_STYLE:
                return position, emoji_end(data, code, after, end), PICTURE
            hashed = code in (HASH, FULLWIDTH_HASH)
            sign = hashed or code in (AT, FULLWIDTH_AT)
            if sign and (not follows_latin(data, begin, position) or (hashed and in_chain(data, begin, position))):
                stop = hashtag_end(data, after, end) if hashed else mention_end(data, after, end)
                if stop > 0:
                    return position, stop, HASHTAG if hashed else MENTION
        position = after
    return end, end, NONE


@inlined
def is_wordlike(sort: int) -> bool:
    """Whether a character of this class begins a word: a letter other than Han and Kana, or a digit."""
    return DIGIT <= sort <= HANGUL


@lean
def follows_latin(data: Bytes, begin: int, position: int) -> bool:
    """Whether the character before ``position`` is an ASCII letter or digit."""
    if position <= begin:
        return False
    byte: int = data[position - 1]
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@lean
def in_chain(data: Bytes, begin: int, position: int) -> bool:
    """Whether the word that ends at ``position`` has a ``#`` before it, as in ``#a#b``."""
    while position > begin:
        position -= 1
        byte: int = data[position]
        alphanumeric = 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122
        if not (alphanumeric or byte == UNDERSCORE or byte >= 0x80):
            return byte == HASH
    return False


@lean
def marks_end(data: Bytes, position: int, end: int) -> int:
    """The first position that holds no combining mark."""
    while position < end and data[position] >= 0x80:
        code, after = decode(data, position, end)
        if class_byte(code) & CLASS_MASK != MARK:
            break
        position = after
    return position


@lean
def word_end(data: Bytes, position: int, end: int) -> int:
    """The end of the word whose first character ends at ``position``."""
    while position < end:
        code, after = decode(data, position, end)
        sort = class_byte(code) & CLASS_MASK
        if code in (APOSTROPHE, CURLY_APOSTROPHE):
            if after >= end or not is_wordlike(class_byte(decode(data, after, end)[0]) & CLASS_MASK):
                break
        elif not is_wordlike(sort) and sort != MARK:
            break
        position = after
    return position


@lean
def url_end(data: Bytes, start: int, end: int) -> int:
    """The end of the link at ``start``, or ``start`` if there is none."""
    if end - start < 8 or (data[start] | 0x20) != URL_HEAD[0]:
        return start
    position = start
    for index in range(8):
        if index == 4 and data[position] == 0x3A:
            continue
        byte = data[position]
        if (byte | 0x20 if index < 5 else byte) != URL_HEAD[index]:
            return start
        position += 1
    body = position
    while position < end:
        code, after = decode(data, position, end)
        if code < 0x80:
            if code <= 0x20 or code == 0x7F or code in URL_STOPS:
                break
        else:
            sort = class_byte(code) & CLASS_MASK
            if sort != MARK and not DIGIT <= sort < HANGUL:
                break
        position = after
    while position > body and data[position - 1] in URL_TAIL:
        position -= 1
    return position if position > body else start


@lean
def keycap_end(data: Bytes, code: int, position: int, end: int) -> int:
    """The end of a keycap emoji (a digit, # or *, perhaps U+FE0F, then U+20E3) after its first character, or 0."""
    if (48 <= code <= 57 or code == HASH or code == 0x2A) and position < end:
        code, after = decode(data, position, end)
        if code == EMOJI_STYLE and after < end:
            code, after = decode(data, after, end)
        if code == KEYCAP:
            return after
    return 0


@lean
def emoji_end(data: Bytes, code: int, position: int, end: int) -> int:
    """The end of the emoji sequence whose first character, ``code``, ends at ``position``."""
    flag = 0x1F1E6 <= code <= 0x1F1FF
    while position < end:
        code, after = decode(data, position, end)
        if code == ZWJ and after < end:
            joined, beyond = decode(data, after, end)
            sort = class_byte(joined) & CLASS_MASK
            if sort != EMOJI and (sort != SYMBOL or joined < 0x80):
                break
            after = beyond
        elif flag and 0x1F1E6 <= code <= 0x1F1FF:
            flag = False
        elif not (code in (EMOJI_STYLE, TEXT_STYLE, KEYCAP) or 127995 <= code <= 127999 or 917536 <= code <= 917631):
            break
        position = after
    return position


@lean
def hashtag_end(data: Bytes, start: int, end: int) -> int:
    """The end of the hashtag whose sign ends at ``start``, or 0."""
    position = start
    characters = cjk = 0
    while position < end and characters <= MAX_TOPIC:
        code, after = decode(data, position, end)
        sort = class_byte(code) & CLASS_MASK
        if code in (HASH, FULLWIDTH_HASH):
            if characters > 0 and (cjk > 0 or not latin_at(data, after, end)):
                return after
            break
        if sort == SPACE:
            break
        cjk += sort in (HAN, KANA)
        characters += 1
        position = after
    position = start
    solid = False
    while position < end:
        code, after = decode(data, position, end)
        sort = class_byte(code) & CLASS_MASK
        if not (DIGIT <= sort <= KANA or sort == MARK or code == UNDERSCORE):
            break
        solid |= OTHER_LETTER <= sort <= KANA
        position = after
    return position if solid else 0


@lean
def latin_at(data: Bytes, position: int, end: int) -> bool:
    """Whether a Latin letter or a digit stands at ``position``."""
    if position >= end:
        return False
    sort = class_byte(decode(data, position, end)[0]) & CLASS_MASK
    return sort in (LATIN, DIGIT)


@lean
def mention_end(data: Bytes, start: int, end: int) -> int:
    """The end of the name whose sign ends at ``start``, or 0."""
    position = start
    for _ in range(MAX_NAME):
        if position >= end:
            break
        code, after = decode(data, position, end)
        sort = class_byte(code) & CLASS_MASK
        if not (DIGIT <= sort <= KANA or sort == MARK or code in (UNDERSCORE, HYPHEN)):
            break
        position = after
    return position if position > start else 0


@lean
def longest_row(offsets: Int64, first: int, last: int) -> int:
    """The bytes of the longest of the rows from ``first`` to before ``last``."""
    longest = 0
    for row in range(first, last):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@kernel
def _split_rows(offsets: Int64, data: Bytes) -> tuple[Int64, Int64, Int64, Bytes]:
    # No more units than bytes; pages of memory that are never touched cost nothing.
    most = offsets[-1] - offsets[0]
    starts, ends, kinds = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.uint8)
    row_offsets = np.zeros(len(offsets), np.int64)
    units = room_for_units(longest_row(offsets, 0, len(offsets) - 1))
    total = 0
    for row in range(len(offsets) - 1):
        begin = offsets[row]
        count = split_text(
            data, begin, offsets[row + 1], units.starts, units.ends, units.kinds, units.masks, WHOLE_HASHTAGS
        )
        for unit in range(count):
            starts[total + unit], ends[total + unit] = units.starts[unit] - begin, units.ends[unit] - begin
            kinds[total + unit] = units.kinds[unit]
        total += count
        row_offsets[row + 1] = total
    return row_offsets, starts[:total].copy(), ends[:total].copy(), kinds[:total].copy()
