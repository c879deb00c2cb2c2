"""What a fastText model file holds, as arrays: dictionary, matrices (unpacked where quantised), tree of labels.

The file format of fastText 0.9 (version 12), supervised models with a softmax or a tree of labels, .bin or .ftz;
lid.176 takes 20 ms. A model file is data from outside: its sizes are checked before they are believed.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.text.buffers import Int64

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

MAGIC, VERSION = 793712314, 12
HIERARCHICAL, SOFTMAX = 1, 3
SUPERVISED = 3
CENTROIDS = 256
# The file does not bear these out, so they are bounded: a broken one must not ask for all memory or time.
MAX_BUCKETS, MAX_NGRAM = 1 << 26, 64
NOT_KEPT = -1
ILL_FITTING = "its matrices do not fit its dictionary"


@dataclass(frozen=True, eq=False)
class FastTextFile:
    """A supervised model as its file has it. ``buckets_K`` ascend and have the rows ``ngrams_KD``."""

    words: list[bytes]
    labels: list[bytes]
    label_counts: list[int]  # falling
    words_WD: Float32
    buckets_K: Int64
    ngrams_KD: Float32
    num_buckets: int
    min_chars: int
    max_chars: int
    word_ngrams: int
    output_LD: Float32
    loss: int

    @classmethod
    def parse(cls, data: bytes) -> "FastTextFile":
        """Raises ValueError for bytes that are no such file."""
        reader = _Reader(data)
        magic, version = reader.numbers("ii")
        if magic != MAGIC or version != VERSION:
            raise ValueError("it does not begin as one of version 12 does")
        dim, _, _, _, _, word_ngrams, loss, kind, buckets, min_chars, max_chars, _, _ = reader.numbers("12id")
        if not 0 <= buckets <= MAX_BUCKETS or max(min_chars, max_chars, word_ngrams) > MAX_NGRAM:
            raise ValueError("its n-grams are beyond all use")
        if kind != SUPERVISED or loss not in (HIERARCHICAL, SOFTMAX):
            raise ValueError("its loss is neither softmax nor hs")
        size, num_words, num_labels, _, num_kept = reader.numbers("iiiqq")
        if not 0 < num_labels <= size or num_words != size - num_labels or not 0 < dim <= 4096:
            raise ValueError("its sizes contradict each other")
        has_ngrams = max_chars > 0 or word_ngrams > 1
        if has_ngrams and num_kept != 0 and buckets == 0:
            raise ValueError("its sizes contradict each other")
        words, counts = [], []
        for _ in range(size):
            words.append(reader.word())
            count, _ = reader.numbers("qb")
            counts.append(count)
        kept_K2 = reader.array(np.int32, 2 * max(num_kept, 0)).reshape(-1, 2)
        quantised = reader.numbers("?")[0]
        rows_RD = _quantised(reader, dim) if quantised else _dense(reader, dim)
        quantised_output = reader.numbers("?")[0]
        output_LD = _quantised(reader, dim) if quantised and quantised_output else _dense(reader, dim)
        if len(output_LD) != num_labels or len(rows_RD) < num_words:
            raise ValueError(ILL_FITTING)
        num_buckets = max(buckets, 1)
        if num_kept < 0 and has_ngrams:  # not pruned
            buckets_K = np.arange(num_buckets)
            rows_K = buckets_K
        else:
            row_of_bucket = np.full(num_buckets, NOT_KEPT, np.int64)
            if len(kept_K2) and (kept_K2.min() < 0 or kept_K2[:, 0].max() >= num_buckets):
                raise ValueError(ILL_FITTING)
            row_of_bucket[kept_K2[:, 0]] = kept_K2[:, 1]
            buckets_K = np.flatnonzero(row_of_bucket != NOT_KEPT)
            rows_K = row_of_bucket[buckets_K]
        if len(rows_K) and num_words + rows_K.max() >= len(rows_RD):
            raise ValueError(ILL_FITTING)
        return cls(
            words=words[:num_words],
            labels=words[num_words:],
            label_counts=counts[num_words:],
            words_WD=rows_RD[:num_words],
            buckets_K=buckets_K,
            ngrams_KD=rows_RD[num_words:][rows_K],
            num_buckets=num_buckets,
            min_chars=min_chars,
            max_chars=max_chars,
            word_ngrams=word_ngrams,
            output_LD=output_LD,
            loss=loss,
        )


class _Reader:
    """Numbers and arrays off a file's bytes; never past their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def numbers(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + layout)
        return struct.unpack("<" + layout, self._take(size))

    def array(self, kind: type[np.generic], count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self._take(count * np.dtype(kind).itemsize), kind)

    def word(self) -> bytes:
        end = self.data.index(b"\0", self.position)
        word = self.data[self.position : end]
        self.position = end + 1
        return word

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.position:
            raise ValueError("it ends too early")
        piece = self.data[self.position : self.position + size]
        self.position += size
        return piece


def _dense(reader: _Reader, dim: int) -> Float32:
    rows, columns = reader.numbers("qq")
    if rows < 0 or columns != dim:
        raise ValueError(ILL_FITTING)
    return reader.array(np.float32, rows * dim).reshape(rows, dim).copy()


def _quantised(reader: _Reader, dim: int) -> Float32:
    """A product-quantised matrix, unpacked: each row is a norm times a centroid a piece."""
    has_norms, rows, columns, num_codes = reader.numbers("?qqi")
    if rows < 0 or columns != dim:
        raise ValueError(ILL_FITTING)
    codes = reader.array(np.uint8, num_codes)
    pieces = _centroids(reader, dim)
    if num_codes != rows * len(pieces):
        raise ValueError(ILL_FITTING)
    codes_RP = codes.reshape(rows, len(pieces))
    unpacked_RD = np.concatenate([piece[codes_RP[:, index]] for index, piece in enumerate(pieces)], axis=1)
    if has_norms:
        norm_codes = reader.array(np.uint8, rows)
        unpacked_RD *= _centroids(reader, 1)[0][norm_codes]
    return unpacked_RD


def _centroids(reader: _Reader, expected_dim: int) -> list[Float32]:
    dim, num_pieces, width, last_width = reader.numbers("iiii")
    if dim != expected_dim or num_pieces < 1 or min(width, last_width) < 1:
        raise ValueError("its centroids do not fit its matrix")
    if (num_pieces - 1) * width + last_width != dim:
        raise ValueError("its centroids do not fit its matrix")
    values = reader.array(np.float32, dim * CENTROIDS)
    whole = (num_pieces - 1) * CENTROIDS * width
    pieces = list(values[:whole].reshape(num_pieces - 1, CENTROIDS, width))
    return [*pieces, values[whole:].reshape(CENTROIDS, last_width)]
