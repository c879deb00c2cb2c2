"""The vector of a text under a fastText model: the mean of the rows of its words, their n-grams and pairs of words.

What is asked most has its sum ready: a word of the dictionary is one row, its own and those of its n-grams added when
the model is loaded, and so are the n-grams that begin at a letter of another word (text/fasttext_ngrams.py). With that
the kernel takes 8 ns a letter of English where hashing all took 32; sums differ from the library's by the order of
adding.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from redone_data.text.buffers import Bytes, Int64, UInt64, frozen
from redone_data.text.fasttext_file import FastTextFile
from redone_data.text.fasttext_ngrams import (
    BITS,
    BLANK,
    CODES,
    FNV_BASIS,
    HASHED,
    WINDOW,
    add_ngrams,
    hash_byte,
    hash_bytes,
    row_of_bucket,
    sum_windows,
)
from redone_data.text.kernel import inlined, kernel, lean
from redone_data.text.simd import load8
from redone_data.text.vectors import add_row, fetch_row, padded

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt16 = npt.NDArray[np.uint16]

LABEL = b"__label__"
END_OF_LINE = np.frombuffer(b"</s>", np.uint8)
WORD_NGRAM_FACTOR = 116049371
EMPTY = -1


class Tables(NamedTuple):
    """What the kernels read of a model. Rows of ``rows_RD``: words, n-grams by ascending bucket, sums of windows."""

    rows_RD: Float32
    sizes_R: Int32  # how many rows of the model are in each
    slots: Int32  # hash table of words, then labels
    word_offsets: Int64  # word w has the bytes word_data[word_offsets[w]:word_offsets[w + 1]]
    word_data: Bytes
    num_words: int
    is_kept: UInt64  # a bit a bucket; pruned models lack nine in ten n-grams of a post
    kept_before: Int32  # the bits set before each of those 64
    num_buckets: int
    windows: UInt16  # 0, HASHED, or one more than the row's distance from first_window
    first_window: int
    min_chars: int
    max_chars: int
    word_ngrams: int

    @classmethod
    def of(cls, model: FastTextFile) -> "Tables":
        num_words, num_rows = len(model.words), len(model.words) + len(model.buckets_K)
        flags = np.zeros(-(-model.num_buckets // 64) * 64, np.bool_)
        flags[model.buckets_K] = True
        kept_before = np.zeros(len(flags) // 64, np.int32)
        kept_before[1:] = np.cumsum(flags.reshape(-1, 64).sum(axis=1))[:-1]
        words = [*model.words, *model.labels]
        rows_RD = padded(np.concatenate([model.words_WD, model.ngrams_KD]))
        tables = cls(
            rows_RD=frozen(rows_RD),
            sizes_R=frozen(np.ones(num_rows, np.int32)),
            slots=frozen(_slots(words)),
            word_offsets=frozen(np.cumsum([0, *map(len, words)], dtype=np.int64)),
            word_data=frozen(np.frombuffer(b"".join(words), np.uint8).copy()),
            num_words=num_words,
            is_kept=frozen(np.packbits(flags, bitorder="little").view("<u8").astype(np.uint64)),
            kept_before=frozen(kept_before),
            num_buckets=model.num_buckets,
            windows=frozen(np.full(1 << BITS * WINDOW, HASHED, np.uint16)),
            first_window=num_rows,
            min_chars=model.min_chars,
            max_chars=model.max_chars,
            word_ngrams=model.word_ngrams,
        )
        return tables if model.max_chars <= 0 else tables._with_windows()._with_sums_of_words()

    def _with_windows(self) -> "Tables":
        """With the sums of windows, if n-grams are short enough and a uint16 can number the sums."""
        sums_SD, sizes_S = np.zeros((HASHED, self.rows_RD.shape[1]), np.float32), np.zeros(HASHED, np.int32)
        windows = np.zeros(len(self.windows), np.uint16)
        ngrams = (self.is_kept, self.kept_before, self.num_buckets, self.num_words, self.min_chars)
        num_sums = 0
        if self.max_chars <= WINDOW:
            num_sums = sum_windows(self.rows_RD, *ngrams, self.max_chars, windows, sums_SD, sizes_S)
        if num_sums == 0:
            return self
        return self._replace(
            rows_RD=frozen(np.concatenate([self.rows_RD, sums_SD[1:num_sums]])),
            sizes_R=frozen(np.concatenate([self.sizes_R, sizes_S[1:num_sums]])),
            windows=frozen(windows),
        )

    def _with_sums_of_words(self) -> "Tables":
        rows_RD, sizes_R = self.rows_RD.copy(), self.sizes_R.copy()
        _sum_words(*self, rows_RD, sizes_R)
        return self._replace(rows_RD=frozen(rows_RD), sizes_R=frozen(sizes_R))


def average_rows(offsets: Int64, data: Bytes, texts: Int64, tables: Tables) -> tuple[Float32, Int64]:
    """The mean row of each of some texts in buffers, and how many rows it is the mean of."""
    hidden_ND = np.zeros((len(texts), tables.rows_RD.shape[1]), np.float32)
    counts = np.zeros(len(texts), np.int64)
    _average_rows(offsets, data, texts, *tables, hidden_ND, counts)
    return hidden_ND, counts


# --- Words -----------------------------------------------------------------------------------------------------------


def _slots(words: list[bytes]) -> Int32:
    slots = np.full(1 << max(1, (2 * len(words) - 1).bit_length()), EMPTY, np.int32)
    for index, word in enumerate(words):
        slot = int(hash_bytes(frozen(np.frombuffer(word, np.uint8)), 0, len(word))) & (len(slots) - 1)
        while slots[slot] != EMPTY:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = index
    return slots


@inlined
def _find(
    data: Bytes, begin: int, end: int, value: np.uint32, slots: Int32, word_offsets: Int64, word_data: Bytes
) -> int:
    """The index of a word in the dictionary, or -1."""
    mask = len(slots) - 1
    slot = np.int64(value) & mask
    while slots[slot] != EMPTY:
        word = int(slots[slot])
        first = word_offsets[word]
        if word_offsets[word + 1] - first == end - begin:
            length = 0
            while length < end - begin and load8(word_data, first + length) == load8(data, begin + length):
                length += 1
            if length == end - begin:
                return word
        slot = (slot + 1) & mask
    return -1


@lean
def _sum_words(
    rows_RD: Float32,
    sizes_R: Int32,
    slots: Int32,
    word_offsets: Int64,
    word_data: Bytes,
    num_words: int,
    is_kept: UInt64,
    kept_before: Int32,
    num_buckets: int,
    windows: UInt16,
    first_window: int,
    min_chars: int,
    max_chars: int,
    word_ngrams: int,
    target_RD: Float32,
    target_sizes_R: Int32,
) -> None:
    """Add to the row of each word those of its n-grams."""
    for word in range(num_words):
        begin, end = word_offsets[word], word_offsets[word + 1]
        if not _is_end(word_data, begin, end):
            target_sizes_R[word] += add_ngrams(
                word_data,
                begin,
                end,
                rows_RD,
                sizes_R,
                num_words,
                is_kept,
                kept_before,
                num_buckets,
                windows,
                first_window,
                min_chars,
                max_chars,
                target_RD,
                word,
            )


# --- Texts -----------------------------------------------------------------------------------------------------------


@inlined
def _is_end(data: Bytes, begin: int, end: int) -> bool:
    """Whether a word is the mark of a line's end."""
    if end - begin != len(END_OF_LINE):
        return False
    matching = 0
    while matching < len(END_OF_LINE) and data[begin + matching] == END_OF_LINE[matching]:
        matching += 1
    return matching == len(END_OF_LINE)


@lean
def _is_label(data: Bytes, begin: int, end: int) -> bool:
    """Whether a word that the dictionary lacks looks like a label; such words are left out."""
    if end - begin < len(LABEL):
        return False
    matching = 0
    while matching < len(LABEL) and data[begin + matching] == LABEL[matching]:
        matching += 1
    return matching == len(LABEL)


@kernel
def _average_rows(
    offsets: Int64,
    data: Bytes,
    texts: Int64,
    rows_RD: Float32,
    sizes_R: Int32,
    slots: Int32,
    word_offsets: Int64,
    word_data: Bytes,
    num_words: int,
    is_kept: UInt64,
    kept_before: Int32,
    num_buckets: int,
    windows: UInt16,
    first_window: int,
    min_chars: int,
    max_chars: int,
    word_ngrams: int,
    hidden_ND: Float32,
    counts: Int64,
) -> None:
    longest = 0
    for text in texts:
        longest = max(longest, offsets[text + 1] - offsets[text])
    hashes = np.empty(longest // 2 + 2 if word_ngrams > 1 else 0, np.uint64)
    pairs = np.empty(len(hashes) * (word_ngrams - 1), np.int64)
    for index in range(len(texts)):
        text = texts[index]
        counts[index] = _sum_text(
            data,
            offsets[text],
            offsets[text + 1],
            rows_RD,
            sizes_R,
            slots,
            word_offsets,
            word_data,
            num_words,
            is_kept,
            kept_before,
            num_buckets,
            windows,
            first_window,
            min_chars,
            max_chars,
            word_ngrams,
            hashes,
            pairs,
            hidden_ND,
            index,
        )
        if counts[index] > 0:
            scale = np.float32(1.0 / counts[index])
            for column in range(hidden_ND.shape[1]):
                hidden_ND[index, column] *= scale


@lean
def _sum_text(
    data: Bytes,
    position: int,
    stop: int,
    rows_RD: Float32,
    sizes_R: Int32,
    slots: Int32,
    word_offsets: Int64,
    word_data: Bytes,
    num_words: int,
    is_kept: UInt64,
    kept_before: Int32,
    num_buckets: int,
    windows: UInt16,
    first_window: int,
    min_chars: int,
    max_chars: int,
    word_ngrams: int,
    hashes: UInt64,
    pairs: Int64,
    target_ND: Float32,
    target: int,
) -> int:
    """Add what the library's `getLine` finds in a text to a row of ``target_ND``. A line feed is a space."""
    count = num_hashes = 0
    ended = False
    while not ended:
        while position < stop and CODES[load8(data, position)] == BLANK:
            position += 1
        begin = position
        value = np.uint32(FNV_BASIS)
        while position < stop and CODES[load8(data, position)] != BLANK:
            value = hash_byte(value, load8(data, position))
            position += 1
        ended = begin == position
        if ended:
            value = hash_bytes(END_OF_LINE, 0, len(END_OF_LINE))
            word = _find(END_OF_LINE, 0, len(END_OF_LINE), value, slots, word_offsets, word_data)
        else:
            word = _find(data, begin, position, value, slots, word_offsets, word_data)
            ended = _is_end(data, begin, position)
        if 0 <= word < num_words:
            add_row(target_ND, target, rows_RD, word)
            count += sizes_R[word]
        elif word >= num_words or (not ended and _is_label(data, begin, position)):
            continue
        elif not ended and max_chars > 0:
            count += add_ngrams(
                data,
                begin,
                position,
                rows_RD,
                sizes_R,
                num_words,
                is_kept,
                kept_before,
                num_buckets,
                windows,
                first_window,
                min_chars,
                max_chars,
                target_ND,
                target,
            )
        if word_ngrams > 1:
            # The library keeps these hashes as signed 32-bit numbers.
            hashes[num_hashes] = np.uint64(np.int64(np.int32(value)))
            num_hashes += 1
    # A pair's row is seldom in a cache, so all are asked for before the first is added.
    num_pairs = 0
    for first in range(num_hashes):
        ngram = hashes[first]
        for last in range(first + 1, min(first + word_ngrams, num_hashes)):
            ngram = ngram * np.uint64(WORD_NGRAM_FACTOR) + hashes[last]
            row = row_of_bucket(int(np.int64(ngram % np.uint64(num_buckets))), is_kept, kept_before, num_words)
            fetch_row(rows_RD, max(row, 0))
            pairs[num_pairs] = row
            num_pairs += row >= 0
    for pair in range(num_pairs):
        add_row(target_ND, target, rows_RD, pairs[pair])
    return count + num_pairs
