"""Which known passages a text holds, and how much of each: n-grams of words asked of an index, in one pass.

The index holds passages (fields of evaluation items) by the hashes of their n-grams; a text's n-grams are asked from
left to right, each first of a bit filter over their leading words, which turns nearly all away: asking costs little
beside splitting words. A text that shares something is then measured passage by passage. Passages of fewer words than
an n-gram are indexed whole.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.text.buffers import Bytes, Float64, Int64, UInt64, frozen, string_buffers
from redone_data.text.characters import CLASS_MASK, HAN, KANA, class_byte, decode
from redone_data.text.hash_table import build_table, find_key
from redone_data.text.kernel import kernel
from redone_data.text.windows import base_power, collect_words, longest_row, run_hash, sum_prefixes, windows
from redone_data.text.words import room_for_units

Flags = npt.NDArray[np.bool_]
FILTER_BITS_PER_GRAM = 16


class Overlaps(NamedTuple):
    """A passage found in a text, one a row: text and passage by number; the share found of the passage; its words
    found; the longest run of them in the text, in words and as bytes of the text."""

    rows: Int64
    passages: Int64
    fractions: Float64
    shared_words: Int64
    run_words: Int64
    starts: Int64
    ends: Int64

    def take(self, order: Int64) -> "Overlaps":
        """Some of them, in a given order."""
        return Overlaps(*(side[order] for side in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class PassageIndex:
    """Passages by their n-grams.

    hashes, prefixes: an n-gram and its leading words, ascending by (hash, passage); passages, positions: where it
    stands. own_offsets, own: for each passage, which of its words count. sizes: words an n-gram of it has.
    """

    hashes: UInt64
    prefixes: UInt64
    passages: Int64
    positions: Int64
    own_offsets: Int64
    own: Flags
    sizes: Int64

    @cached_property
    def lookup(self) -> tuple[UInt64, Int64, Int64, Bytes, Int64]:
        """Distinct n-grams, their slots and postings, the filter, and the n-gram sizes, ascending."""
        keys, first = np.unique(self.hashes, return_index=True)
        postings = np.append(first, len(self.hashes)).astype(np.int64)
        bits = 1 << max(6, (FILTER_BITS_PER_GRAM * max(1, len(keys)) - 1).bit_length())
        sizes = np.unique(self.sizes[np.unique(self.passages)])
        return keys, build_table(keys), postings, _filter(self.prefixes, bits), sizes.astype(np.int64)

    @cached_property
    def own_words(self) -> Int64:
        """For each passage, how many of its words count."""
        sums = np.append(0, np.cumsum(self.own))
        counts: Int64 = sums[self.own_offsets[1:]] - sums[self.own_offsets[:-1]]
        return counts

    def find(self, array: pa.Array | pa.ChunkedArray, *, enough_words: int, min_fraction: float) -> Overlaps:
        """The passages of which a text holds at least ``min_fraction``.

        The share found of a passage is its own words found over all of them, or over ``enough_words`` if it has more.
        Raises :class:`RedoneError` for nulls.
        """
        offsets, data = string_buffers(array)
        keys, slots, postings, bits, sizes = self.lookup
        if not len(keys):
            none = np.zeros(0, np.int64)
            return Overlaps(none, none, none.astype(np.float64), none, none, none, none)
        needed = np.minimum(self.own_words, enough_words).astype(np.int64)
        found = _find_rows(
            offsets,
            data,
            sizes,
            bits,
            keys,
            slots,
            postings,
            self.passages,
            self.positions,
            self.own_offsets,
            self.own,
            self.sizes,
            needed,
            min_fraction,
        )
        numbers = found[:, :6]
        return Overlaps(
            numbers[:, 0],
            numbers[:, 1],
            numbers[:, 2] / needed[numbers[:, 1]].clip(min=numbers[:, 2]),
            numbers[:, 2],
            numbers[:, 3],
            numbers[:, 4],
            numbers[:, 5],
        )


def index_passages(passages: pa.Array, items: Int64, *, ngram: int, min_words: int, max_items: int) -> PassageIndex:
    """The n-grams of passages; ``items[k]`` is the item that passage ``k`` belongs to.

    A passage of fewer than ``min_words`` words, Han and Kana characters counted half, is not indexed. Left out, with
    the words that they alone cover: n-grams in more than ``max_items`` items (the wording of the task), and n-grams of
    which half the words repeat others (laughter). A passage with fewer than ``min_words`` words left is not indexed.
    """
    words = windows(passages, 1)
    weights = np.append(0, np.cumsum(_weights(*string_buffers(passages), words.offsets, words.starts)))
    counts = np.diff(words.offsets)
    sizes = np.where(np.diff(weights[words.offsets]) >= min_words, np.minimum(counts, ngram), 0)
    shortest = int(sizes[sizes > 0].min(initial=ngram))
    leading = windows(passages, shortest)
    hashes, prefixes, varied = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.bool_)]
    owners, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for size in np.unique(sizes[sizes > 0]).tolist():
        among = np.flatnonzero(sizes == size)
        grams = windows(passages.take(pa.array(among)), size)
        in_each = np.diff(grams.offsets)
        position = np.arange(len(grams.hashes)) - np.repeat(grams.offsets[:-1], in_each)
        hashes.append(grams.hashes)
        owners.append(np.repeat(among, in_each))
        positions.append(position)
        prefixes.append(leading.hashes[leading.offsets[owners[-1]] + position])
        of_gram = words.hashes[(words.offsets[owners[-1]] + position)[:, None] + np.arange(size)]
        of_gram.sort(axis=1)
        varied.append(2 * (1 + (np.diff(of_gram) != 0).sum(axis=1)) > size)
    hash_, owner, position = np.concatenate(hashes), np.concatenate(owners), np.concatenate(positions)
    order = np.lexsort((position, owner, hash_))
    hash_, owner, position = hash_[order], owner[order], position[order]
    prefix, varies = np.concatenate(prefixes)[order], np.concatenate(varied)[order]

    common = _occurrences(hash_, items[owner]) > max_items
    covered_by_common = _covered(words.offsets, owner[common], position[common], sizes)
    # Of an n-gram that a passage repeats, the first place stands for all.
    again = np.append(False, (hash_[1:] == hash_[:-1]) & (owner[1:] == owner[:-1]))[: len(hash_)]
    kept = ~common & ~again & varies
    own = _covered(words.offsets, owner[kept], position[kept], sizes) & ~covered_by_common
    own_weights = np.append(0, np.cumsum(np.where(own, np.diff(weights), 0)))
    kept &= (np.diff(own_weights[words.offsets]) >= min_words)[owner]
    return PassageIndex(hash_[kept], prefix[kept], owner[kept], position[kept], words.offsets, own, sizes)


def _occurrences(hashes: UInt64, items: Int64) -> Int64:
    """For each row, in how many items its hash occurs; rows come sorted by hash."""
    order = np.lexsort((items, hashes))
    sorted_items = items[order]
    starts = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
    new_item = starts | np.append(True, sorted_items[1:] != sorted_items[:-1])[: len(hashes)]
    group = np.cumsum(starts) - 1
    counts: Int64 = np.bincount(group, weights=new_item).astype(np.int64)[group]
    return counts


def _covered(word_offsets: Int64, owners: Int64, positions: Int64, sizes: Int64) -> Flags:
    """Which words of all passages lie in the given n-grams."""
    edges = np.zeros(word_offsets[-1] + 1, np.int64)
    starts = word_offsets[owners] + positions
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + sizes[owners], -1)
    covered: Flags = np.cumsum(edges[:-1]) > 0
    return covered


@kernel
def _weights(offsets: Int64, data: Bytes, word_offsets: Int64, starts: Int64) -> Float64:
    """How much each word tells: a Han or Kana character half as much as a word of letters."""
    weights = np.ones(len(starts), np.float64)
    for row in range(len(offsets) - 1):
        for word in range(word_offsets[row], word_offsets[row + 1]):
            sort = class_byte(decode(data, offsets[row] + starts[word], offsets[row + 1])[0]) & CLASS_MASK
            if sort in (HAN, KANA):
                weights[word] = 0.5
    return weights


def _filter(prefixes: UInt64, bits: int) -> Bytes:
    flags = np.zeros(bits, np.bool_)
    flags[(prefixes >> np.uint64(32)) & np.uint64(bits - 1)] = True
    return frozen(np.packbits(flags, bitorder="little"))


@kernel
def _find_rows(
    offsets: Int64,
    data: Bytes,
    sizes: Int64,
    bits: Bytes,
    keys: UInt64,
    slots: Int64,
    postings: Int64,
    passages: Int64,
    positions: Int64,
    own_offsets: Int64,
    own: Flags,
    size_of: Int64,
    needed: Int64,
    min_fraction: float,
) -> Int64:
    longest = longest_row(offsets)
    words, sums, units = np.empty(longest, np.uint64), np.empty(longest + 1, np.uint64), room_for_units(longest)
    starts, ends = units.starts, units.ends
    powers = np.empty(len(sizes), np.uint64)
    for index in range(len(sizes)):
        powers[index] = base_power(sizes[index])
    mask = np.uint64(len(bits) * 8 - 1)
    seen = np.zeros(np.max(np.diff(own_offsets)), np.bool_)
    found = np.empty((64, 6), np.int64)
    num_found = 0
    # What one text shares: passage, position in it, position in the text.
    shared = np.empty((3, 1024), np.int64)
    for row in range(len(offsets) - 1):
        count = collect_words(data, offsets[row], offsets[row + 1], units, words)
        if count < sizes[0]:
            continue
        sum_prefixes(words, count, sums)
        num_shared = 0
        for first in range(count - sizes[0] + 1):
            leading = run_hash(sums, first, sizes[0], powers[0])
            bit = (leading >> np.uint64(32)) & mask
            if not bits[np.int64(bit >> np.uint64(3))] >> np.uint8(bit & np.uint64(7)) & 1:
                continue
            for index in range(len(sizes)):
                if first + sizes[index] > count:
                    break
                gram = find_key(slots, keys, run_hash(sums, first, sizes[index], powers[index]))
                if gram < 0:
                    continue
                for posting in range(postings[gram], postings[gram + 1]):
                    if num_shared == shared.shape[1]:
                        more = np.empty((3, 2 * num_shared), np.int64)
                        more[:, :num_shared] = shared
                        shared = more
                    shared[0, num_shared] = passages[posting]
                    shared[1, num_shared] = positions[posting]
                    shared[2, num_shared] = first
                    num_shared += 1
        if num_shared == 0:
            continue
        order = np.argsort(shared[0, :num_shared], kind="mergesort")
        begin = 0
        while begin < num_shared:
            passage = shared[0, order[begin]]
            end = begin
            own_begin = own_offsets[passage]
            size = size_of[passage]
            total = 0
            while end < num_shared and shared[0, order[end]] == passage:
                for place in range(shared[1, order[end]], shared[1, order[end]] + size):
                    total += not seen[place] and own[own_begin + place]
                    seen[place] = True
                end += 1
            if total >= min_fraction * needed[passage]:
                best_first, best_last = 0, -1
                run_first = run_last = shared[2, order[begin]]
                for index in range(begin, end):
                    at = shared[2, order[index]]
                    if at > run_last + 1:
                        run_first = at
                    run_last = at
                    if run_last - run_first > best_last - best_first:
                        best_first, best_last = run_first, run_last
                if num_found == len(found):
                    wider = np.empty((2 * num_found, 6), np.int64)
                    wider[:num_found] = found
                    found = wider
                found[num_found, 0], found[num_found, 1], found[num_found, 2] = row, passage, total
                found[num_found, 3] = best_last - best_first + size
                found[num_found, 4] = starts[best_first] - offsets[row]
                found[num_found, 5] = ends[best_last + size - 1] - offsets[row]
                num_found += 1
            for index in range(begin, end):
                for place in range(shared[1, order[index]], shared[1, order[index]] + size):
                    seen[place] = False
            begin = end
    return found[:num_found].copy()
