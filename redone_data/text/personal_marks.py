"""Where personal data may begin, 64 bytes at a time: a bit for each byte that personal_scan.py must look at.

Digits, ``@#%:``, a q, v or w that no letter precedes (and for w that ``e`` or ``x`` follows), their full-width forms,
and the Chinese characters that begin a contact word. Nearly all of a post is none of these.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from redone_data.text.buffers import Bytes
from redone_data.text.kernel import inlined
from redone_data.text.plain_text import BITS, BLOCK_READ, VECTOR, between, equals, three_blocks
from redone_data.text.simd import BLOCK

CONTACT_HEADS = ("微信", "威信", "薇信", "维信", "徽信", "卫星号", "扣", "企鹅", "群")
# From U+FF00 on, the second byte of full-width forms is one of two.
EVERY = np.uint64(2**64 - 1)
WIDE = [chr(ord(character) + 0xFEE0).encode() for character in "0123456789@#%:qQwWvV"]


def _any(builder: Any, masks: Sequence[Any]) -> Any:
    return reduce(builder.or_, masks)


def _lowered(builder: Any, block: Any) -> Any:
    return builder.or_(block, ir.Constant(VECTOR, [0x20] * BLOCK))


def _letter_mask(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, _, _ = three_blocks(context, builder, signature, arguments)
        return builder.bitcast(between(builder, _lowered(builder, first), ord("a"), ord("z")), BITS)

    return types.uint64(data, types.int64), generate


def _contact_mask(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second, _ = three_blocks(context, builder, signature, arguments)
        lower, after = _lowered(builder, first), _lowered(builder, second)
        wide = between(builder, second, 0x80, 0xFF)
        goes_on = _any(builder, [wide, equals(builder, after, ord("e")), equals(builder, after, ord("x"))])
        w = builder.and_(equals(builder, lower, ord("w")), goes_on)
        return builder.bitcast(_any(builder, [w, *(equals(builder, lower, ord(one)) for one in "qv")]), BITS)

    return types.uint64(data, types.int64), generate


def _sign_mask(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, _, _ = three_blocks(context, builder, signature, arguments)
        signs = [between(builder, first, ord("0"), ord(":")), *(equals(builder, first, ord(one)) for one in "@#%")]
        return builder.bitcast(_any(builder, signs), BITS)

    return types.uint64(data, types.int64), generate


def _wide_mask(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second, third = three_blocks(context, builder, signature, arguments)
        found = []
        starts = {*WIDE, *(head[0].encode() for head in CONTACT_HEADS)}
        for two in sorted({start[:2] for start in starts}):
            thirds = [equals(builder, third, start[2]) for start in sorted(starts) if start[:2] == two]
            both = builder.and_(equals(builder, first, two[0]), equals(builder, second, two[1]))
            found.append(builder.and_(both, _any(builder, thirds)))
        return builder.bitcast(_any(builder, found), BITS)

    return types.uint64(data, types.int64), generate


def _high_mask(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, _, _ = three_blocks(context, builder, signature, arguments)
        return builder.bitcast(between(builder, first, 0x80, 0xFF), BITS)

    return types.uint64(data, types.int64), generate


# Each reads BLOCK_READ bytes of ``data`` from ``position`` on without a check.
letter_mask = cast("Callable[[Bytes, int], np.uint64]", intrinsic(_letter_mask))
contact_mask = cast("Callable[[Bytes, int], np.uint64]", intrinsic(_contact_mask))
sign_mask = cast("Callable[[Bytes, int], np.uint64]", intrinsic(_sign_mask))
wide_mask = cast("Callable[[Bytes, int], np.uint64]", intrinsic(_wide_mask))
high_mask = cast("Callable[[Bytes, int], np.uint64]", intrinsic(_high_mask))


@inlined
def marks_at(data: Bytes, begin: int, position: int) -> np.uint64:
    """Bit i: whether byte ``position + i`` must be looked at; all of them where the data ends before a block does."""
    if position + BLOCK_READ > len(data):
        return EVERY
    letters = letter_mask(data, position) << np.uint64(1)
    if position > begin and ord("a") <= data[position - 1] | 0x20 <= ord("z"):
        letters |= np.uint64(1)
    marks = sign_mask(data, position) | (contact_mask(data, position) & ~letters)
    return marks | wide_mask(data, position) if high_mask(data, position) != 0 else marks
