"""spaCy's rules for one chunk of English between white space, character by character.

Exceptions (``don't``, ``Mr.``, ``:-)``) first, then prefixes and suffixes from outside in, links left whole, infixes,
at last exceptions that the parts happen to form. Slow: english_words.py comes here for few.

One thing is left out: spaCy also finds exceptions across white space, which changes nothing but the choice between two
exceptions that overlap there.
"""

import numpy as np

from redone_data.text.buffers import Bytes, Int64
from redone_data.text.characters import CLASS_MASK, DIGIT, class_byte, decode
from redone_data.text.english_rules import (
    ALL_CASES,
    ALPHA,
    BEFORE_STOP,
    CURRENCY,
    EXCEPTION_DATA,
    EXCEPTION_OFFSETS,
    EXCEPTION_SLOTS,
    ICON,
    LETTER,
    LOWER,
    MAX_TOKENS_MERGED,
    OPENINGS,
    PIECE_LENGTHS,
    PIECE_OFFSETS,
    PLAIN_LENGTHS,
    PLAIN_OFFSETS,
    PREFIX,
    QUOTE,
    SUFFIX,
    TABLE_END,
    UNIT_DATA,
    UNIT_OFFSETS,
    UNIT_SLOTS,
    UPPER,
    UInt16,
    find_string,
    may_be_exception,
    text_hash,
)
from redone_data.text.kernel import lean

LONGEST_EXCEPTION, LONGEST_UNIT, LONGEST_LABEL = 40, 6, 64
JOINED_HAN = ((0x20000, 0x2A6DF), (0x2A700, 0x2EBEF), (0x2F800, 0x2FA1F))
HAN_BITS = ALL_CASES | BEFORE_STOP | LETTER

# Rows of the scratch for one chunk: its characters, their places and classes; where its parts begin and end, and again
# after merging; suffixes; exceptions found. One array, since numba hands on every field of a tuple by itself.
CODES, PLACES, CLASSES, FROM, TO, MERGED_FROM, MERGED_TO, STACK, FOUND = range(9)


@lean
def class_of(classes: UInt16, code: int) -> int:
    """The class bits of a code point."""
    if code < TABLE_END:
        return int(classes[code])
    for first, last in JOINED_HAN:
        if first <= code <= last:
            return HAN_BITS
    return LETTER if code < 0x40000 else 0


@lean
def is_digit(code: int) -> bool:
    return 0x30 <= code <= 0x39


@lean
def split_chunk(classes: UInt16, data: Bytes, start: int, end: int, room: Int64) -> tuple[int, int]:
    """(characters, words) of a chunk; word ``i`` is the characters from ``room[FROM][i]`` to ``room[TO][i]``."""
    size = 0
    position = start
    digits = 0
    while position < end:
        room[PLACES][size] = position
        code, position = decode(data, position, end)
        room[CODES][size] = code
        room[CLASSES][size] = class_of(classes, code)
        digits += is_digit(code)
        size += 1
    room[PLACES][size] = end
    count = split_affixes(data, size, digits > 0, room)
    if count > 1:
        count = merge_parts(data, count, room)
    return size, count


@lean
def exception_at(data: Bytes, room: Int64, first: int, last: int) -> int:
    """The exception that the characters from ``first`` to ``last`` are, or -1."""
    start, end = room[PLACES][first], room[PLACES][last]
    if end - start > LONGEST_EXCEPTION:
        return -1
    value = text_hash(data, start, end)
    if not may_be_exception(value):
        return -1
    return find_string(EXCEPTION_SLOTS, EXCEPTION_OFFSETS, EXCEPTION_DATA, data, start, end, value)


@lean
def split_affixes(data: Bytes, size: int, digits: bool, room: Int64) -> int:
    """spaCy's Tokenizer._split_affixes and _attach_tokens."""
    starts, ends, stack = room[FROM], room[TO], room[STACK]
    count = suffixes = 0
    first, last = 0, size
    before = -1
    while first < last and last - first != before:
        if exception_at(data, room, first, last) >= 0:
            break
        before = last - first
        prefix = prefix_length(room, first, last)
        if prefix > 0 and first + prefix < last and exception_at(data, room, first + prefix, last) >= 0:
            starts[count], ends[count] = first, first + prefix
            count += 1
            first += prefix
            break
        suffix = suffix_length(data, room, first + prefix, last, digits)
        if suffix > 0 and last - suffix > first and exception_at(data, room, first, last - suffix) >= 0:
            last -= suffix
            stack[suffixes] = last
            suffixes += 1
            break
        if prefix > 0:
            starts[count], ends[count] = first, first + prefix
            count += 1
            first += prefix
        if suffix > 0:
            last -= suffix
            stack[suffixes] = last
            suffixes += 1
    if first < last:
        exception = exception_at(data, room, first, last)
        if exception >= 0:
            at = first
            for piece in range(PIECE_OFFSETS[exception], PIECE_OFFSETS[exception + 1]):
                starts[count], ends[count] = at, at + PIECE_LENGTHS[piece]
                at = ends[count]
                count += 1
        elif is_link(room, first, last):
            starts[count], ends[count] = first, last
            count += 1
        else:
            count = split_infixes(room, first, last, count)
    while suffixes > 0:
        suffixes -= 1
        starts[count] = stack[suffixes]
        ends[count] = stack[suffixes - 1] if suffixes > 0 else size
        count += 1
    return count


@lean
def prefix_length(room: Int64, first: int, last: int) -> int:
    """How many characters spaCy's prefix rules take."""
    codes = room[CODES]
    code = codes[first]
    if room[CLASSES][first] & PREFIX:
        return 1
    if code == 0x2E:
        run = 1
        while first + run < last and codes[first + run] == 0x2E:
            run += 1
        return run if run > 1 else 0
    if code == 0x2B:
        return 0 if first + 1 < last and is_digit(codes[first + 1]) else 1
    if code == 0x55 and last - first >= 3 and codes[first + 1] == 0x53 and codes[first + 2] == 0x24:  # US$
        return 3
    if (code == 0x43 or code == 0x41) and last - first >= 2 and codes[first + 1] == 0x24:  # C$, A$
        return 2
    return 0


@lean
def suffix_length(data: Bytes, room: Int64, first: int, last: int, digits: bool) -> int:
    """How many characters spaCy's suffix rules take: of several, the one that begins first."""
    if first >= last:
        return 0
    codes, classes = room[CODES], room[CLASSES]
    code = codes[last - 1]
    sort = classes[last - 1]
    best = 0
    if sort & SUFFIX:
        best = 1
        if code == 0x2026 and last - 2 >= first and codes[last - 2] == 0x2026:
            best = 2
    if last - 2 < first:
        return best
    previous = codes[last - 2]
    if code == 0x2E:
        run = 1
        while last - run - 1 >= first and codes[last - run - 1] == 0x2E:
            run += 1
        if run > 1:
            return run
        if classes[last - 2] & BEFORE_STOP:
            return 1
        if last - 3 >= first:
            if classes[last - 2] & UPPER and classes[last - 3] & UPPER:
                return 1
            if codes[last - 3] == 0xB0 and (previous == 0x46 or previous == 0x43 or previous == 0x4B):
                return 1
        return 0
    if (code | 0x20) == 0x73 and (previous == 0x27 or previous == 0x2019):
        best = 2
    if not digits:
        return best
    if is_digit(previous) and (code == 0x2B or sort & CURRENCY):
        best = max(best, 1)
    if code == 0x24:
        if last - 3 >= first and is_digit(codes[last - 3]) and (previous == 0x43 or previous == 0x41):
            best = 2
        if last - 4 >= first and is_digit(codes[last - 4]) and previous == 0x53 and codes[last - 3] == 0x55:
            best = 3
    for length in range(1, min(LONGEST_UNIT, last - first - 1) + 1):
        if is_digit(codes[last - length - 1]):
            start, end = room[PLACES][last - length], room[PLACES][last]
            if find_string(UNIT_SLOTS, UNIT_OFFSETS, UNIT_DATA, data, start, end, text_hash(data, start, end)) >= 0:
                best = max(best, length)
            break
    return best


@lean
def split_infixes(room: Int64, first: int, last: int, count: int) -> int:
    """Adds the parts of what affixes left; an infix at its very start does not split."""
    starts, ends = room[FROM], room[TO]
    start = index = first
    while index < last:
        length = infix_length(room, first, last, index)
        if length > 0 and index > first:
            if index > start:
                starts[count], ends[count] = start, index
                count += 1
            starts[count], ends[count] = index, index + length
            count += 1
            start = index + length
        index += max(length, 1)
    if start < last:
        starts[count], ends[count] = start, last
        count += 1
    return count


@lean
def infix_length(room: Int64, first: int, last: int, index: int) -> int:
    """How many characters spaCy's infix rules take at ``index``."""
    codes, classes = room[CODES], room[CLASSES]
    code = codes[index]
    if code >= 0x80:
        if classes[index] & ICON or code == 0x2026:
            return 1
        if code != 0x2013 and code != 0x2014:
            return 0
    elif (code | 0x20) >= 97 and (code | 0x20) <= 122:
        return 0
    if code == 0x2E and index + 1 < last and codes[index + 1] == 0x2E:
        run = 2
        while index + run < last and codes[index + run] == 0x2E:
            run += 1
        return run
    if index == first or index + 1 >= last:
        return 0
    before, after = classes[index - 1], classes[index + 1]
    if code == 0x2E:
        return int((before & (LOWER | QUOTE)) > 0 and (after & (UPPER | QUOTE)) > 0)
    if code == 0x2C:
        return int((before & ALPHA) > 0 and (after & ALPHA) > 0)
    digit = is_digit(codes[index - 1])
    if digit and (code == 0x2B or code == 0x2D or code == 0x2A or code == 0x5E):
        following = codes[index + 1]
        if is_digit(following) or following == 0x2D:
            return 1
    if not (digit or before & ALPHA):
        return 0
    if code == 0x3A or code == 0x3C or code == 0x3D or code == 0x3E or code == 0x2F:
        return int((after & ALPHA) > 0)
    if code == 0x2D or code == 0x2014:
        for length in range(1, 4 if code == 0x2D else 3):
            if index + length >= last:
                return 0
            if classes[index + length] & ALPHA:
                return length
            if codes[index + length] != code:
                return 0
        return 0
    if code == 0x2013 or code == 0x7E:
        return int((after & ALPHA) > 0)
    return 0


@lean
def is_link(room: Int64, first: int, last: int) -> bool:
    """Whether spaCy's pattern of links and addresses matches the whole."""
    codes = room[CODES]
    dotted = False
    for index in range(first + 1, last - 2):
        dotted |= codes[index] == 0x2E
    if not dotted:
        return False
    if is_host(room, first, last):
        return True
    index = first
    while index < last and is_scheme(room, index):
        index += 1
    if (
        index - first >= 2
        and index + 3 < last
        and codes[index] == 0x3A
        and codes[index + 1] == 0x2F
        and codes[index + 2] == 0x2F
        and is_host(room, index + 3, last)
    ):
        return True
    named = False
    for index in range(first + 1, last - 1):
        named |= codes[index] == 0x40 and is_host(room, index + 1, last)
    return named


@lean
def is_scheme(room: Int64, index: int) -> bool:
    """``\\w``, ``+``, ``-`` or ``.``"""
    code = room[CODES][index]
    signs = code == 0x2B or code == 0x2D or code == 0x2E or code == 0x5F
    return signs or (room[CLASSES][index] & LETTER) > 0 or class_byte(code) & CLASS_MASK == DIGIT


@lean
def in_label(code: int) -> bool:
    return is_digit(code) or 97 <= (code | 0x20) <= 122 or 0xA1 <= code <= 0xFFFF


@lean
def is_host(room: Int64, first: int, last: int) -> bool:
    """Whether an address or a name of dotted labels, perhaps with port and path, runs to the end."""
    codes = room[CODES]
    if is_digit(codes[first]) and is_address(codes, first, last):
        return True
    labels = 0
    start = first
    while True:
        index = start
        while index < last and (in_label(codes[index]) or codes[index] == 0x5F or codes[index] == 0x2D):
            index += 1
        if index == start or index >= last or codes[index] != 0x2E:
            break
        if index - start > LONGEST_LABEL or not in_label(codes[start]) or not in_label(codes[index - 1]):
            return False
        labels += 1
        start = index + 1
    index = start
    while index < last and room[CLASSES][index] & LOWER:
        index += 1
    return labels > 0 and 2 <= index - start < LONGEST_LABEL and ends_host(codes, index, last)


@lean
def ends_host(codes: Int64, index: int, last: int) -> bool:
    """Whether only a port and a path follow."""
    if index < last and codes[index] == 0x3A:
        start = index + 1
        index = start
        while index < last and is_digit(codes[index]):
            index += 1
        if not 2 <= index - start <= 5:
            return False
    return index == last or codes[index] == 0x2F or codes[index] == 0x3F or codes[index] == 0x23


@lean
def is_address(codes: Int64, first: int, last: int) -> bool:
    """Four numbers with dots, not a private network, then port and path."""
    index = first
    a = b = 0
    fits = True
    for k in range(4):
        start = index
        number = 0
        while index < last and is_digit(codes[index]) and index - start < 4:
            number = number * 10 + codes[index] - 0x30
            index += 1
        length = index - start
        if length == 0 or length > 3 or (codes[start] == 0x30 and (k == 0 or k == 3 or length == 3)):
            return False
        if k == 0:
            a = number
        if k == 1:
            b = number
        fits &= number <= (223 if k == 0 else 254 if k == 3 else 255)
        if k < 3:
            if index >= last or codes[index] != 0x2E:
                return False
            index += 1
    private = a == 10 or a == 127 or (a == 169 and b == 254) or (a == 192 and b == 168) or (a == 172 and 16 <= b <= 31)
    return fits and not private and ends_host(codes, index, last)


@lean
def merge_parts(data: Bytes, count: int, room: Int64) -> int:
    """spaCy's Tokenizer._apply_special_cases within a chunk: parts that together are an exception become its words."""
    starts, ends, places = room[FROM], room[TO], room[PLACES]
    possible = False
    for index in range(count - 1):
        pair = (np.int64(data[places[starts[index]]]) & 63) << 6 | np.int64(data[places[starts[index + 1]]]) & 63
        possible |= OPENINGS[pair]
    if not possible:
        return count
    found, taken = room[FOUND], room[STACK]
    for index in range(count):
        found[index] = -1
        taken[index] = 0
    merges = 0
    # The longest first, of equal ones the earlier; a part that any candidate covers is taken.
    for length in range(min(MAX_TOKENS_MERGED, count), 1, -1):
        for index in range(count - length + 1):
            pair = (np.int64(data[places[starts[index]]]) & 63) << 6 | np.int64(data[places[starts[index + 1]]]) & 63
            if not OPENINGS[pair]:
                continue
            exception = exception_at(data, room, starts[index], ends[index + length - 1])
            if exception < 0 or PLAIN_OFFSETS[exception + 1] - PLAIN_OFFSETS[exception] != length:
                continue
            same = True
            for k in range(length):
                same &= ends[index + k] - starts[index + k] == PLAIN_LENGTHS[PLAIN_OFFSETS[exception] + k]
            if not same:
                continue
            if not taken[index] and not taken[index + length - 1]:
                found[index] = exception
                merges += 1
            for k in range(length):
                taken[index + k] = 1
    if merges == 0:
        return count
    merged = index = 0
    while index < count:
        exception = found[index]
        if exception < 0:
            room[MERGED_FROM][merged], room[MERGED_TO][merged] = starts[index], ends[index]
            merged += 1
            index += 1
            continue
        at = starts[index]
        for piece in range(PIECE_OFFSETS[exception], PIECE_OFFSETS[exception + 1]):
            room[MERGED_FROM][merged], room[MERGED_TO][merged] = at, at + PIECE_LENGTHS[piece]
            at = room[MERGED_TO][merged]
            merged += 1
        index += PLAIN_OFFSETS[exception + 1] - PLAIN_OFFSETS[exception]
    for index in range(merged):
        starts[index], ends[index] = room[MERGED_FROM][index], room[MERGED_TO][index]
    return merged
