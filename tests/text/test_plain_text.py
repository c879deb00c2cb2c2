import numpy as np
import pytest

from redone_data.text.characters import CLASS_MASK, NFC_FLAG, SPACE, TABLE_END, class_byte
from redone_data.text.kernel import kernel
from redone_data.text.normalize import is_removed
from redone_data.text.plain_text import BLOCK_READ, copy_plain, may_be_plain, odd_mask
from redone_data.text.simd import BLOCK


@kernel
def plain_codes(blocks, plain):
    for row in range(len(plain)):
        plain[row] = odd_mask(blocks, row * BLOCK_READ) & np.uint64(1) == 0


@kernel
def copied(data, start, end, out):
    return copy_plain(data, start, end, out, 0)


@kernel
def begins_plain(data):
    return may_be_plain(data[0])


@pytest.fixture(scope="module")
def plain():
    """The code points that are copied unseen."""
    codes = [code for code in range(TABLE_END) if not 0xD800 <= code < 0xE000]
    blocks = b"".join(chr(code).encode().ljust(BLOCK_READ, b"x") for code in codes)
    found = np.zeros(len(codes), np.bool_)
    plain_codes(np.frombuffer(blocks, np.uint8), found)
    return [chr(code) for code, is_plain in zip(codes, found.tolist(), strict=True) if is_plain]


def test_nothing_that_normalizing_changes_is_copied_unseen(plain):
    assert len(plain) > 20_000
    for character in plain:
        flags = class_byte(ord(character))
        assert not flags & NFC_FLAG, hex(ord(character))
        assert character == " " or flags & CLASS_MASK != SPACE, hex(ord(character))
        assert not is_removed(ord(character)), hex(ord(character))
        assert character != "]"  # may close markup


def test_plain_text_is_never_missed_for_its_first_byte(plain):
    for character in plain:
        assert begins_plain(np.frombuffer(character.encode(), np.uint8)), hex(ord(character))


@pytest.mark.parametrize(
    ("plain", "rest"),
    [
        ("good, \u597d\uff0c\u3002 \u2026 [a", ""),
        ("two ", " blanks"),
        ("a", "\nb"),
        ("a", "\u00e9"),
        ("a" * BLOCK, "]"),
    ],
)
@pytest.mark.parametrize("shift", [0, 1, BLOCK - 4, BLOCK - 1, BLOCK])
def test_a_copy_ends_where_something_is_not_plain(plain, rest, shift):
    wanted = ("b" * shift + plain).encode()
    data = wanted + rest.encode()
    out = np.zeros(len(data) + BLOCK, np.uint8)
    assert copied(np.frombuffer(data + b"b" * BLOCK_READ, np.uint8), 0, len(data), out) == len(wanted)
    assert out[: len(wanted)].tobytes() == wanted


def test_a_copy_never_reads_beyond_the_data():
    data = np.frombuffer(b"a" * (BLOCK_READ - 1), np.uint8)
    assert copied(data, 0, len(data), np.zeros(2 * BLOCK, np.uint8)) == 0
