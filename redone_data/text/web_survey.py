"""Which bytes a text has at all, 64 at a time: the masks by which web_metrics.py finds words and skips questions.

Some 30 vector instructions a block. Most texts have no bracket, no ``...``, no policy's phrase, no white
space but blanks and line feeds: what asks for those is skipped for the whole text. Flags may be set for nothing, never
missing; counts are exact.
"""

from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from redone_data.text.buffers import Bytes, Int64, UInt64
from redone_data.text.kernel import inlined, lean
from redone_data.text.simd import BLOCK, trailing_zeros

PADDING = BLOCK + 4  # bytes that must be readable beyond a text
# Rows of the masks: ASCII letters, blanks and line feeds, all else, line feeds.
LETTERS, SPACES, SOLIDS, LINE_FEEDS = range(4)
MASKS = 4
# Counted: line feeds, #, ellipses, bytes that continue a character, first bytes of U+5000 to U+9FFF, of what may be
# Han or Kana, of all others beyond ASCII, ASCII letters. Flagged: {, [, phrases of C4, other line breaks, other white
# space.
FEEDS, HASHES, ELLIPSES, CONTINUED, HANS, MAYBE_HANS, LEADS, ASCII_LETTERS = range(8)
BRACES, BRACKETS, PHRASES, BREAKS, ODD_SPACES = range(8, 13)
MARKS = 13
# Of each phrase that C4 asks for: javascript, lorem ipsum, privacy policy, terms of use, cookies.
PHRASE_PARTS = ("javas", "ipsum", "acy p", "f use", "ookie")


class _Block:
    """64 bytes, and those up to four places on, as LLVM sees them."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.builder = builder
        self.kind = ir.VectorType(ir.IntType(8), BLOCK)
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        self.bytes = []
        for shift in range(5):
            place = builder.add(arguments[1], ir.Constant(ir.IntType(64), shift))
            pointer = builder.bitcast(builder.gep(array.data, [place]), self.kind.as_pointer())
            self.bytes.append(builder.load(pointer, align=1))

    def fill(self, value: int) -> Any:
        return ir.Constant(self.kind, [value] * BLOCK)

    def between(self, first: int, last: int, shift: int = 0) -> Any:
        distance = self.builder.sub(self.bytes[shift], self.fill(first))
        return self.builder.icmp_unsigned("<=", distance, self.fill(last - first))

    def equal(self, value: int, shift: int = 0) -> Any:
        return self.builder.icmp_unsigned("==", self.bytes[shift], self.fill(value))

    def both(self, *masks: Any) -> Any:
        result = masks[0]
        for mask in masks[1:]:
            result = self.builder.and_(result, mask)
        return result

    def either(self, *masks: Any) -> Any:
        result = masks[0]
        for mask in masks[1:]:
            result = self.builder.or_(result, mask)
        return result

    def lower(self) -> None:
        self.bytes = [self.builder.or_(block, self.fill(0x20)) for block in self.bytes]


def _masks(context: Any, block: _Block, signature: Any, masks: list[Any]) -> Any:
    values = [block.builder.bitcast(mask, ir.IntType(64)) for mask in masks]
    return context.make_tuple(block.builder, signature.return_type, values)


def _ascii_masks(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _Block(context, builder, signature, arguments)
        feeds = block.equal(0x0A)
        found = [
            block.either(block.equal(0x20), feeds),
            feeds,
            block.between(0x80, 0xFF),
            block.both(block.between(0, 0x1F), builder.not_(feeds)),
            block.equal(0x23),
            block.both(*(block.equal(0x2E, shift) for shift in range(3))),
            block.equal(0x7B),
            block.equal(0x5B),
        ]
        block.lower()
        phrases = [
            block.both(*(block.equal(ord(letter), shift) for shift, letter in enumerate(part))) for part in PHRASE_PARTS
        ]
        return _masks(context, block, signature, [block.between(0x61, 0x7A), *found, block.either(*phrases)])

    tuple_of: Any = types.UniTuple
    return tuple_of(types.uint64, 10)(data, types.int64), generate


def _wide_masks(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _Block(context, builder, signature, arguments)
        general = block.both(block.equal(0xE2), block.equal(0x80, 1))
        breaks = block.either(
            block.both(block.equal(0xC2), block.equal(0x85, 1)), block.both(general, block.between(0xA8, 0xA9, 2))
        )
        spaces = block.either(
            block.both(block.equal(0xC2), block.equal(0xA0, 1)),
            block.both(block.equal(0xE1), block.equal(0x9A, 1)),
            block.both(general, block.either(block.between(0x80, 0x8F, 2), block.equal(0xAF, 2))),
            block.both(block.equal(0xE2), block.equal(0x81, 1), block.equal(0x9F, 2)),
            block.both(block.equal(0xE3), block.equal(0x80, 1), block.equal(0x80, 2)),
            breaks,
        )
        return _masks(
            context,
            block,
            signature,
            [
                block.between(0x80, 0xBF),
                block.between(0xE5, 0xE9),
                block.between(0xE3, 0xFF),
                block.between(0xC0, 0xFF),
                block.both(general, block.equal(0xA6, 2)),
                breaks,
                spaces,
            ],
        )

    tuple_of: Any = types.UniTuple
    return tuple_of(types.uint64, 7)(data, types.int64), generate


def _bits(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


ascii_masks = cast("Any", intrinsic(_ascii_masks))
wide_masks = cast("Any", intrinsic(_wide_masks))
num_bits = cast("Any", intrinsic(_bits))


@lean
def survey(data: Bytes, begin: int, end: int, masks: UInt64, marks: Int64) -> None:
    """Fills ``masks`` and ``marks``; ``PADDING`` bytes beyond ``end`` are readable, ``masks`` ends in zeros."""
    for index in range(MARKS):
        marks[index] = 0
    letter_count = feed_count = hash_count = 0
    dots = braces = brackets = phrases = odd = np.uint64(0)
    for index in range(((end - begin) >> 6) + 1):
        position = begin + index * BLOCK
        left = min(end - position, BLOCK)
        inside = ~np.uint64(0)
        if left < BLOCK:
            inside = (np.uint64(1) << np.uint64(left)) - np.uint64(1)
        letters, spaces, feeds, wide, controls, hashes, dot, brace, bracket, phrase = ascii_masks(data, position)
        masks[LETTERS, index] = letters & inside
        masks[SPACES, index] = spaces & inside
        masks[SOLIDS, index] = ~spaces & inside
        masks[LINE_FEEDS, index] = feeds & inside
        letter_count += num_bits(letters & inside)
        feed_count += num_bits(feeds & inside)
        hash_count += num_bits(hashes & inside)
        dots |= dot & inside
        braces |= brace & inside
        brackets |= bracket & inside
        phrases |= phrase & inside
        odd |= controls & inside
        if wide & inside:
            continued, hans, maybe_hans, leads, ellipses, breaks, spaces = wide_masks(data, position)
            marks[CONTINUED] += num_bits(continued & inside)
            marks[HANS] += num_bits(hans & inside)
            marks[MAYBE_HANS] += num_bits(maybe_hans & inside)
            marks[LEADS] += num_bits(leads & inside)
            marks[ELLIPSES] += num_bits(ellipses & inside)
            marks[BREAKS] |= np.int64((breaks & inside) != 0)
            marks[ODD_SPACES] |= np.int64((spaces & inside) != 0)
    marks[ASCII_LETTERS], marks[FEEDS], marks[HASHES] = letter_count, feed_count, hash_count
    marks[BRACES], marks[BRACKETS], marks[PHRASES] = braces != 0, brackets != 0, phrases != 0
    if dots:
        marks[ELLIPSES] += count_ellipses(data, begin, end)
    if odd:
        marks[ODD_SPACES] = 1
        for position in range(begin, end):
            byte: Any = data[position]
            marks[BREAKS] |= np.int64((0x0B <= byte <= 0x0D) or (0x1C <= byte <= 0x1E))


@lean
def count_ellipses(data: Bytes, begin: int, end: int) -> int:
    """``...`` that do not overlap."""
    ellipses = run = 0
    for position in range(begin, end):
        run = run + 1 if data[position] == 0x2E else 0
        if run == 3:
            ellipses += 1
            run = 0
    return ellipses


@inlined
def next_bit(masks: UInt64, offset: int, limit: int) -> int:
    """The first offset from ``offset`` on whose bit is 1, or ``limit``."""
    if offset >= limit:
        return limit
    index = offset >> 6
    rest = masks[index] >> np.uint64(offset & 63)
    while rest == 0:
        index += 1
        offset = index * BLOCK
        if offset >= limit:
            return limit
        rest = masks[index]
    return offset + trailing_zeros(rest)
