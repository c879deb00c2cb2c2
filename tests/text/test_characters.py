import sys
import unicodedata

import pyarrow as pa

from redone_data.text import reference
from redone_data.text.buffers import string_buffers
from redone_data.text.characters import BLOCK_OF, BLOCKS, CLASS_MASK, MARK, NFC_FLAG, SPACE, TABLE_END, decode


def byte_of(code):
    return int(BLOCKS[int(BLOCK_OF[code >> 8]) * 256 + (code & 255)])


def test_no_character_that_composes_or_reorders_escapes_normalization():
    for code in range(TABLE_END):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            assert byte_of(int(parts[1], 16)) & NFC_FLAG, hex(code)
        if unicodedata.combining(chr(code)):
            assert byte_of(code) & NFC_FLAG, hex(code)


def test_white_space_is_what_python_strips():
    for code in range(TABLE_END):
        assert (byte_of(code) & CLASS_MASK == SPACE) == chr(code).isspace(), hex(code)


def test_marks_are_those_of_unicode_and_the_joiners():
    for code in range(0, TABLE_END, 7):
        assert (byte_of(code) & CLASS_MASK == MARK) == reference.is_mark(chr(code)), hex(code)


def test_every_sample_of_unicode_decodes_to_itself():
    for code in [*range(0, 0xD800, 101), *range(0xE000, sys.maxunicode + 1, 1009), sys.maxunicode]:
        data = string_buffers(pa.array([chr(code)])).data
        size = len(chr(code).encode())
        assert decode(data, 0, size) == (code, size)
