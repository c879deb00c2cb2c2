"""Which rows may hold personal data, and of which kind: one pass over the bytes, without a regex.

It says yes too often and never no too often: a run of ten digits may be a telephone number, ``wx`` a contact. The kinds
it names are matched exactly in redact.py, and tests compare that with matching every row. Full-width forms are read as
half-width on the way, for nearly every Chinese post holds some.
"""

import numpy as np
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, string_buffers
from redone_data.text.characters import decode
from redone_data.text.kernel import kernel
from redone_data.text.personal_marks import CONTACT_HEADS, marks_at
from redone_data.text.simd import BLOCK, trailing_zeros

# Bit i of a row's answer is kind i of personal_data.ALL.
EMAIL, IP, CN_ID, BANK_CARD, PHONE, CONTACT = (1 << kind for kind in range(6))

SPACE, PERCENT, OPEN, SHUT, PLUS, HYPHEN, DOT, ZERO, FOUR, NINE, COLON, COMMA, AT, HASH = map(ord, " %()+-.049:,@#")
LOWER_A, LOWER_E, LOWER_F, LOWER_Q, LOWER_V, LOWER_W, LOWER_X, LOWER_Z = map(ord, "aefqvwxz")
UNDERSCORE = ord("_")
PHONE_DIGITS, MOST_PHONE_DIGITS, CARD_DIGITS, ID_DIGITS = 7, 15, 13, 17
MAX_LABEL, HEX_GROUP, IPV6_COLONS = 63, 4, 7
# A name of five characters or more must follow a contact word within so many.
NAME_CHARACTERS, NAME_WITHIN = 5, 48

CONTACT_WORDS = (b"wx", b"vx", b"qq", b"wechat", b"we chat", b"weixin")
ADD_SIGNS, LETTER = (ord("加"), ord("➕")), ord("信")
# What may stand between the head of a contact word and the account.
BETWEEN = tuple(map(ord, "信星扣鹅账号码群是为加联系咨询客服【『「"))
# The last word, and the last Chinese character, before a number that may be of any form; what may stand between.
TOLD_WORDS = (
    *[b"call", b"text", b"phone", b"elephone", b"tel", b"cell", b"mobile", b"whatsapp", b"wa", b"fax", b"dial", b"sms"],
    *[b"me", b"us", b"him", b"her", b"them", b"number", b"no", b"is", b"at", b"on", b"was"],
)
TOLD_HAN = tuple(map(ord, "话线电打真机号码是为"))
TOLD_GAP, MAX_TOLD_GAP = tuple(map(ord, " \t\n:.,!(#")), 4
PLAIN, ASKED, HAN_LEAD = range(3)


def _sorts() -> Bytes:
    sorts = np.full(256, PLAIN, np.uint8)
    sorts[[ord(character) for character in "0123456789@#%:qQwWvV"]] = ASKED
    sorts[0xEF] = ASKED
    sorts[0xE4:0xEA] = HAN_LEAD
    return sorts


def _heads() -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether the first two bytes of a character (4 bits, 6 bits) begin a contact word."""
    heads = np.zeros(1 << 10, np.bool_)
    for word in CONTACT_HEADS:
        lead, second, *_ = word.encode()
        heads[(lead & 15) << 6 | second & 63] = True
    return heads


TOLD = np.array([int.from_bytes(word, "big") for word in TOLD_WORDS], np.uint64)
SORTS, HEADS = _sorts(), _heads()
WORDS = np.array([list(word.ljust(8, b"\0")) for word in CONTACT_WORDS], np.uint8)


def kinds_possible(texts: pa.Array) -> Bytes:
    """For each text the kinds of personal data that it may hold, as bits (uint8[n])."""
    return _scan_rows(*string_buffers(texts))


@kernel
def folded(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """(the character as ASCII, 0 if it has no ASCII form, and the position after it)."""
    byte = int(data[position])
    if byte < 0x80:
        return byte, position + 1
    if position + 3 <= end:
        second, third = int(data[position + 1]), int(data[position + 2])
        if byte == 0xEF and second == 0xBC and third > 0x80:
            return third - 0x60, position + 3
        if byte == 0xEF and second == 0xBD and third < 0x9F:
            return third - 0x20, position + 3
        if byte == 0xE3 and second == 0x80 and third == 0x80:
            return SPACE, position + 3
    return 0, position + 1


@kernel
def folded_before(data: Bytes, begin: int, position: int) -> int:
    """The character before ``position`` as ASCII, 0 if there is none or it has no ASCII form."""
    if position <= begin:
        return 0
    if data[position - 1] < 0x80:
        return int(data[position - 1])
    return folded(data, position - 3, position)[0] if position - 3 >= begin and data[position - 3] >= 0xE0 else 0


@kernel
def is_name(code: int) -> bool:
    """Whether an ASCII code may stand in a name: a letter, a digit, ``_`` or ``-``."""
    return (LOWER_A <= code | 0x20 <= LOWER_Z or ZERO <= code <= NINE or code in (UNDERSCORE, HYPHEN)) and code < 0x80


@kernel
def is_hex(code: int) -> bool:
    return ZERO <= code <= NINE or LOWER_A <= code | 0x20 <= LOWER_F


@kernel
def escaped_at(data: Bytes, position: int, end: int) -> int:
    """The end of the 40 of ``%40``, an @ in the query of a link; 0 if it is not there."""
    if position >= end:
        return 0
    four, position = folded(data, position, end)
    if four != FOUR or position >= end:
        return 0
    zero, position = folded(data, position, end)
    return position if zero == ZERO else 0


@kernel
def is_address(data: Bytes, begin: int, sign: int, position: int, end: int) -> bool:
    """Whether a name stands before the sign and a label with a dot, as in ``example.``, from ``position`` on."""
    before = folded_before(data, begin, sign)
    if not (is_name(before) or before in (DOT, PLUS, PERCENT)):
        return False
    for _ in range(MAX_LABEL + 1):
        if position >= end:
            return False
        code, position = folded(data, position, end)
        if not is_name(code):
            return code == DOT
    return False


@kernel
def name_follows(data: Bytes, position: int, end: int) -> bool:
    """Whether an account may follow a contact word, with nothing but ``BETWEEN`` and what is ASCII before it."""
    run = 0
    for _ in range(NAME_WITHIN + NAME_CHARACTERS):
        if position >= end:
            break
        code, after = folded(data, position, end)
        if code == 0:
            letter, after = decode(data, position, end)
            if letter not in BETWEEN:
                break
        run = run + 1 if is_name(code) else 0
        if run == NAME_CHARACTERS:
            return True
        position = after
    return False


@kernel
def is_phone_shaped(data: Bytes, position: int, end: int) -> bool:
    """Whether the digits from ``position`` on begin and part as those of a telephone number do."""
    digits = gap = head = sizes = group = 0  # the sizes of the groups, four bits each
    while True:
        code = 0
        if position < end:
            code, position = folded(data, position, end)
        if ZERO <= code <= NINE:
            if digits == MOST_PHONE_DIGITS:
                return False
            gap = 0
            digits += 1
            group += 1
            head = head * 10 + code - ZERO if digits <= 3 else head
            continue
        if gap == 0:
            sizes = sizes << 4 | group
            group = 0
            mobile = (130 <= head < 200 and digits == 11) or (head == 8 and digits == 15)
            landline = 10 <= head < 100 and 10 <= digits <= 12
            if mobile or landline or (head // 10 == 86 and digits == 13) or sizes in (0x34, 0x334, 0x1334):
                return True
            if (head == 400 or head == 800) and digits == 10:
                return True
        gap += 1
        if gap > 2 or not is_separator(code):
            return False


@kernel
def is_separator(code: int) -> bool:
    """Whether the character may part two digits of one number."""
    return code in (SPACE, HYPHEN, DOT, OPEN, SHUT)


@kernel
def is_told(data: Bytes, begin: int, position: int) -> bool:
    """Whether the word before ``position`` may announce a telephone number."""
    for _ in range(MAX_TOLD_GAP):
        code = folded_before(data, begin, position)
        if code not in TOLD_GAP:
            break
        position -= 1 if data[position - 1] < 0x80 else 3
    if position <= begin:
        return False
    if data[position - 1] >= 0x80 and folded_before(data, begin, position) == 0:
        return position - begin >= 3 and decode(data, position - 3, position)[0] in TOLD_HAN
    word, letters = np.uint64(0), 0
    while letters < 8:
        code = folded_before(data, begin, position) | 0x20
        if not LOWER_A <= code <= LOWER_Z:
            break
        word |= np.uint64(code) << np.uint64(8 * letters)
        letters += 1
        position -= 1 if data[position - 1] < 0x80 else 3
    told: bool = (word == TOLD).any()
    return told


@kernel
def holds_phone(data: Bytes, position: int, end: int) -> bool:
    """Whether one of the groups of digits in ``data[position:end]`` begins what may be a telephone number."""
    inside = False
    while position < end:
        start = position
        code, position = folded(data, start, end)
        digit = ZERO <= code <= NINE
        if digit and not inside and is_phone_shaped(data, start, end):
            return True
        inside = digit
    return False


@kernel
def number_at(data: Bytes, begin: int, position: int, end: int) -> tuple[int, int]:
    """(the kinds that the number at ``position`` may be, its end); up to two of `` -.()`` may part two digits."""
    digits = tight = most = group = dots = gap = 0
    ip = False
    last = 0
    start = stop = position
    while position < end:
        code, position = folded(data, position, end)
        if ZERO <= code <= NINE:
            if gap > 0:
                dots = dots + 1 if gap == 1 and last == DOT and group <= 3 else 0
                ip |= dots >= 3
                group = 0
                if gap > 1 or (last != SPACE and last != HYPHEN):
                    tight = 0
            gap = 0
            group += 1
            digits += 1
            tight += 1
            most = max(most, tight)
            stop = position
        elif gap < 2 and is_separator(code):
            gap += 1
            last = code
        else:
            break
    kinds = IP if ip else 0
    if digits >= PHONE_DIGITS and (
        folded_before(data, begin, start) == PLUS or is_told(data, begin, start) or holds_phone(data, start, stop)
    ):
        kinds |= PHONE
    if most >= CARD_DIGITS:
        kinds |= BANK_CARD
    if most >= ID_DIGITS:
        kinds |= CN_ID
    return kinds, stop


@kernel
def colons_at(data: Bytes, begin: int, position: int, end: int) -> tuple[int, int]:
    """(``IP`` if the colon at ``position`` is the first of what may be an IPv6 address, where to read on)."""
    groups = 1 if is_hex(folded_before(data, begin, position)) else 0
    colons = width = 0
    double = False
    last = 0
    stop = position
    while position < end:
        code, position = folded(data, position, end)
        if code == COLON:
            double |= last == COLON
            colons += 1
            width = 0
        elif is_hex(code) and width < HEX_GROUP:
            width += 1
            groups += width == 1
        else:
            break
        last = code
        stop = position if code == COLON else stop
    return (IP if groups >= 2 and (double or colons >= IPV6_COLONS) else 0), stop


@kernel
def word_at(data: Bytes, position: int, end: int) -> int:
    """The end of the contact word in Latin letters, of either case, at ``position``; 0 if there is none."""
    for word in range(len(WORDS)):
        after, index = position, 0
        while WORDS[word, index] and after < end:
            code, beyond = folded(data, after, end)
            if code | 0x20 != WORDS[word, index]:
                break
            after = beyond
            index += 1
        if WORDS[word, index] == 0:
            return after
    return 0


@kernel
def contact_at(data: Bytes, begin: int, position: int, end: int) -> bool:
    """Whether the q, v or w at ``position`` begins a word for WeChat or QQ, and a name follows."""
    if position + 1 >= end:
        return False
    first, second = data[position] | 0x20, data[position + 1]
    # Nearly every w and q of an English text goes no further.
    if first == LOWER_W and second < 0x80 and second | 0x20 not in (LOWER_E, LOWER_X):
        return False
    if first == LOWER_Q and LOWER_A <= second | 0x20 <= LOWER_Z and second | 0x20 != LOWER_Q:
        return False
    before = folded_before(data, begin, position)
    if LOWER_A <= before | 0x20 <= LOWER_Z:
        return False
    after = word_at(data, position, end)
    if after == 0:
        code, beyond = folded(data, position, end)
        if beyond >= end:
            return False
        if code | 0x20 == LOWER_Q:
            for _ in range(MAX_TOLD_GAP + 1):
                if code > SPACE and code not in (LOWER_Q, LOWER_Q - 0x20, COLON, COMMA):
                    break
                code, beyond = folded(data, beyond, end) if beyond < end else (0, end)
            return ZERO <= code <= NINE and name_follows(data, beyond, end)
        if code | 0x20 != LOWER_V:
            return False
        # "add me on v", or v and the second half of a contact word
        gap = position
        if before == SPACE:
            gap -= 1 if data[position - 1] == SPACE else 3
        sign = decode(data, gap - 3, gap)[0] if gap - begin >= 3 else 0
        if sign not in ADD_SIGNS and folded_before(data, begin, gap) != PLUS and decode(data, beyond, end)[0] != LETTER:
            return False
        after = beyond
    return name_follows(data, after, end)


@kernel
def _scan_rows(offsets: Int64, data: Bytes) -> Bytes:
    out = np.zeros(len(offsets) - 1, np.uint8)
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        position = begin
        kinds = 0
        block, marks = position, marks_at(data, begin, position)
        while position < end:
            if position >= block + BLOCK:
                block, marks = position, marks_at(data, begin, position)
            rest = marks >> np.uint64(position - block)
            if rest == 0:
                position = block + BLOCK
                continue
            position += trailing_zeros(rest)
            if position >= end:
                break
            byte = data[position]
            sort = SORTS[byte]
            if sort == PLAIN:
                position += 1
                continue
            if sort == HAN_LEAD:
                head = position + 3 <= end and HEADS[(byte & 15) << 6 | data[position + 1] & 63]
                if head and kinds & CONTACT == 0 and name_follows(data, position + 3, end):
                    kinds |= CONTACT
                position += 3
                continue
            code, after = folded(data, position, end)
            if ZERO <= code <= NINE:
                found, after = number_at(data, begin, position, end)
                kinds |= found
            elif code == COLON:
                found, after = colons_at(data, begin, position, end)
                kinds |= found
            elif code in (AT, HASH):
                if is_address(data, begin, position, after, end):
                    kinds |= EMAIL
            elif code == PERCENT:
                stop = escaped_at(data, after, end)
                if stop > 0 and is_address(data, begin, position, stop, end):
                    kinds |= EMAIL
            elif (code | 0x20 == LOWER_Q or LOWER_V <= code | 0x20 <= LOWER_W) and code < 0x80:
                if kinds & CONTACT == 0 and contact_at(data, begin, position, end):
                    kinds |= CONTACT
            elif code == 0:
                after = position + 3
            position = after
        out[row] = kinds
    return out
