"""Plain text, 64 bytes at a time: what normalising copies as it is, so that most posts cost hardly more than a copy.

Plain are printable ASCII but ``]``, which may close markup; Han characters; the punctuation of Chinese and English
(U+2010-2027, U+3001-301F, U+FF01-FF7F). None of it is removed, changed by NFC, or white space, but for single blanks.
What is not plain is looked at character by character, so a script left out here is slower, never wrong.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from redone_data.text.buffers import Bytes
from redone_data.text.kernel import inlined
from redone_data.text.simd import BLOCK, trailing_zeros

# A block is classified with the two bytes after it.
BLOCK_READ = BLOCK + 2
BITS, VECTOR = ir.IntType(BLOCK), ir.VectorType(ir.IntType(8), BLOCK)
BLANK = 0x20


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, first: int = 0) -> Any:
    array = context.make_array(signature.args[first])(context, builder, arguments[first])
    return builder.bitcast(builder.gep(array.data, [arguments[first + 1]]), VECTOR.as_pointer())


def equals(builder: Any, block: Any, value: int) -> Any:
    return builder.icmp_unsigned("==", block, ir.Constant(VECTOR, [value] * BLOCK))


def between(builder: Any, block: Any, first: int, last: int) -> Any:
    distance = builder.sub(block, ir.Constant(VECTOR, [first] * BLOCK))
    return builder.icmp_unsigned("<=", distance, ir.Constant(VECTOR, [last - first] * BLOCK))


def three_blocks(context: Any, builder: Any, signature: Any, arguments: Any) -> tuple[Any, Any, Any]:
    """The block at a position of an array, and those one and two bytes on: each byte, and what follows it."""
    start = _pointer(context, builder, signature, arguments)
    byte = builder.bitcast(start, ir.IntType(8).as_pointer())

    def after(num_bytes: int) -> Any:
        address = builder.gep(byte, [ir.Constant(ir.IntType(64), num_bytes)])
        return builder.load(builder.bitcast(address, VECTOR.as_pointer()), align=1)

    return after(0), after(1), after(2)


def _blank_mask(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = builder.load(_pointer(context, builder, signature, arguments), align=1)
        return builder.bitcast(equals(builder, block, BLANK), BITS)

    return types.uint64(data, types.int64), generate


def _odd_mask(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lead, second, third = three_blocks(context, builder, signature, arguments)
        wide = builder.or_(  # FF01-FF3F, FF40-FF7F
            builder.and_(equals(builder, second, 0xBC), builder.not_(equals(builder, third, 0x80))),
            equals(builder, second, 0xBD),
        )
        ideographic = between(builder, third, 0x81, 0x9F)
        general = between(builder, third, 0x90, 0xA7)
        in_block = equals(builder, second, 0x80)
        plain = [
            builder.and_(between(builder, lead, BLANK, 0x7E), builder.not_(equals(builder, lead, ord("]")))),
            between(builder, lead, 0x80, 0xBF),  # what follows a lead
            between(builder, lead, 0xE4, 0xE9),  # U+4000-9FFF
            builder.and_(equals(builder, lead, 0xEF), wide),
            builder.and_(equals(builder, lead, 0xE3), builder.and_(in_block, ideographic)),
            builder.and_(equals(builder, lead, 0xE2), builder.and_(in_block, general)),
        ]
        any_plain = plain[0]
        for one in plain[1:]:
            any_plain = builder.or_(any_plain, one)
        return builder.bitcast(builder.not_(any_plain), BITS)

    return types.uint64(data, types.int64), generate


def _copy_block(typing_context: Any, data: Any, position: Any, out: Any, to: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = builder.load(_pointer(context, builder, signature, arguments), align=1)
        builder.store(block, _pointer(context, builder, signature, arguments, 2), align=1)
        return context.get_dummy_value()

    return types.void(data, types.int64, out, types.int64), generate


# Each reads ``data`` from ``position`` on without a check: bytes that are blanks, and bytes where what is not plain
# begins. The caller knows that BLOCK_READ bytes are there, and for `copy_block` room for a block in ``out``.
blank_mask = cast("Callable[[Bytes, int], np.uint64]", intrinsic(_blank_mask))
odd_mask = cast("Callable[[Bytes, int], np.uint64]", intrinsic(_odd_mask))
copy_block = cast("Callable[[Bytes, int, Bytes, int], None]", intrinsic(_copy_block))


@inlined
def may_be_plain(byte: int) -> bool:
    """Whether plain text may begin with this byte."""
    return BLANK <= byte < 0x7F or 0xE2 <= byte <= 0xE9 or byte == 0xEF


@inlined
def copy_plain(data: Bytes, position: int, end: int, out: Bytes, to: int) -> int:
    """Copies plain text from ``position`` on up to what is not plain, or to ``end``; how many bytes.

    A character must begin at ``position``, and no second blank. ``out`` has room for a block beyond the text.
    """
    start = position
    blank_before = np.uint64(0)
    while position < end and position + BLOCK_READ <= len(data):
        blanks = blank_mask(data, position)
        odd = odd_mask(data, position) | (blanks & ((blanks << np.uint64(1)) | blank_before))
        copy_block(data, position, out, to)
        num_plain = BLOCK if odd == 0 else trailing_zeros(odd)
        num_plain = min(num_plain, end - position)
        position += num_plain
        to += num_plain
        if num_plain < BLOCK:
            break
        blank_before = blanks >> np.uint64(63)
    return position - start
