"""fastText models, read from their files and applied by a kernel to Arrow buffers.

The library's own `predict` takes and returns Python lists and does 9 MB/s a core; the same sums over the same rows in a
kernel do 40, without the interpreter lock, and agree with it within 1e-5 on 40,000 real posts. Words of the dictionary
have the sum of their n-grams' rows ready; quantised models (.ftz) are unpacked when loaded (lid.176: 3 MB). Training
stays with the library (curate/quality_train.py).

Source: Joulin et al. 2016, 2017 (arXiv 1607.01759, 1612.03651); file format of fastText 0.9 (version 12), supervised
models with a softmax or a tree of labels. A model file is data from outside: its sizes are checked before they are
believed.
"""

import functools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.text.buffers import Bytes, Int64, UInt64, frozen, string_buffers
from redone_data.text.kernel import kernel

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

MAGIC, VERSION = 793712314, 12
HIERARCHICAL, SOFTMAX = 1, 3
SUPERVISED = 3
LABEL = b"__label__"
END_OF_LINE = b"</s>"
CENTROIDS = 256
# The file does not bear these out, so they are bounded: a broken one must not ask for all memory or time.
MAX_BUCKETS, MAX_NGRAM = 1 << 26, 64
NOT_KEPT = -1
LOG_GUARD = 1e-5  # the library adds it before every logarithm, so a probability may pass 1 a little
FNV_BASIS, FNV_PRIME, WORD_NGRAM_FACTOR = 2166136261, 16777619, 116049371


class Tables(NamedTuple):
    """What the kernel reads of a model. Word ``w`` has the bytes ``word_data[word_offsets[w]:word_offsets[w + 1]]``."""

    slots: Int32  # hash table of words, then labels; -1 is empty
    word_offsets: Int64
    word_data: Bytes
    num_words: int
    word_sums_WD: Float32  # of a word's own row and its n-grams' rows
    word_rows: Int32  # how many rows are in that sum
    rows_RD: Float32
    row_of_bucket: Int32  # of n-grams
    is_kept: UInt64  # a bit a bucket: a pruned model lacks 9 of 10 n-grams of a post, and the bits stay in the cache
    num_buckets: int
    min_chars: int
    max_chars: int
    word_ngrams: int


@dataclass(frozen=True, eq=False)
class FastTextModel:
    """A supervised fastText model. Text is given to it as to the library: words are what white space separates."""

    labels: tuple[str, ...]
    tables: Tables
    output_LD: Float32
    loss: int
    left: Int32  # children in the Huffman tree of labels; leaves come first
    right: Int32

    @classmethod
    def load(cls, path: Path) -> "FastTextModel":
        """The model in a .bin or .ftz file. Raises RedoneError for anything else."""
        status = path.stat()
        return _load(str(path), status.st_size, status.st_mtime_ns)

    def best(self, text: pa.Array | pa.ChunkedArray) -> tuple[Int32, Float32]:
        """Index of the most probable label of each text and its probability, as ``predict(text, k=1)`` gives them.

        -1 and 0 where the model knows nothing of the text at all.
        """
        offsets, data = string_buffers(text)
        return self.best_of(offsets, data, np.arange(len(offsets) - 1))

    def best_of(self, offsets: Int64, data: Bytes, rows: Int64) -> tuple[Int32, Float32]:
        """:meth:`best` of some of the texts that lie in buffers."""
        hidden_ND, known = self._hidden(offsets, data, rows)
        if self.loss == HIERARCHICAL:
            labels, probabilities = _best_leaves(hidden_ND, self.output_LD, self.left, self.right)
        else:
            probabilities_NL = self._probabilities(hidden_ND)
            labels = probabilities_NL.argmax(axis=1).astype(np.int32)
            probabilities = probabilities_NL.max(axis=1) + np.float32(LOG_GUARD)
        labels[~known], probabilities[~known] = -1, 0
        return labels, probabilities

    def probability(self, text: pa.Array | pa.ChunkedArray, label: str) -> Float32:
        """Probability of one label for each text; 0 where the model knows nothing of the text.

        Raises RedoneError for a label that the model lacks, and for a tree of labels (hierarchical softmax).
        """
        if label not in self.labels:
            raise RedoneError(f"the model has no label '{label}'; it has: {', '.join(self.labels[:20])}")
        if self.loss == HIERARCHICAL:
            raise RedoneError("the model was trained with a tree of labels (loss hs); train it with loss softmax")
        offsets, data = string_buffers(text)
        hidden_ND, known = self._hidden(offsets, data, np.arange(len(offsets) - 1))
        chosen: Float32 = np.where(known, self._probabilities(hidden_ND)[:, self.labels.index(label)], np.float32(0))
        return chosen

    def _hidden(self, offsets: Int64, data: Bytes, rows: Int64) -> tuple[Float32, npt.NDArray[np.bool_]]:
        hidden_ND = np.zeros((len(rows), self.output_LD.shape[1]), np.float32)
        counts = np.zeros(len(rows), np.int64)
        _average_rows(offsets, data, rows, self.tables, hidden_ND, counts)
        return hidden_ND, counts > 0

    def _probabilities(self, hidden_ND: Float32) -> Float32:
        # Row by row: a matrix product may round differently in a batch of another size.
        scores_NL: Float32 = np.stack([(hidden_ND * weights_D).sum(axis=1) for weights_D in self.output_LD], axis=1)
        scores_NL = np.exp(scores_NL - scores_NL.max(axis=1, keepdims=True))
        scores_NL /= scores_NL.sum(axis=1, keepdims=True)
        return scores_NL


# --- Reading ---------------------------------------------------------------------------------------------------------


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


@functools.lru_cache(maxsize=4)
def _load(path: str, size: int, modified: int) -> FastTextModel:
    # size and modified are part of the key, so that a file that is replaced is read again.
    try:
        return _read_model(_Reader(Path(path).read_bytes()))
    except OSError as error:
        raise RedoneError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise RedoneError(f"{path} is not a supervised fastText model: {error}; give a .bin or .ftz file") from None


def _read_model(reader: _Reader) -> FastTextModel:
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
    if (max_chars > 0 or word_ngrams > 1) and num_kept != 0 and buckets == 0:
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
        raise ValueError("its matrices do not fit its dictionary")
    row_of_bucket = np.full(max(buckets, 1), NOT_KEPT, np.int32)
    if num_kept < 0 and (max_chars > 0 or word_ngrams > 1):  # not pruned
        if len(rows_RD) < num_words + buckets:
            raise ValueError("its matrices do not fit its dictionary")
        row_of_bucket[:] = np.arange(num_words, num_words + max(buckets, 1))
    else:
        rows = num_words + kept_K2[:, 1].astype(np.int64)
        if len(kept_K2) and (
            kept_K2.min() < 0 or kept_K2[:, 0].max() >= len(row_of_bucket) or rows.max() >= len(rows_RD)
        ):
            raise ValueError("its matrices do not fit its dictionary")
        row_of_bucket[kept_K2[:, 0]] = rows
    tables = Tables(
        slots=frozen(_slots(words)),
        word_offsets=frozen(np.cumsum([0, *map(len, words)], dtype=np.int64)),
        word_data=frozen(np.frombuffer(b"".join(words), np.uint8).copy()),
        num_words=num_words,
        word_sums_WD=frozen(np.zeros((0, dim), np.float32)),
        word_rows=frozen(np.zeros(0, np.int32)),
        rows_RD=frozen(rows_RD),
        row_of_bucket=frozen(row_of_bucket),
        is_kept=frozen(_bits(row_of_bucket >= 0)),
        num_buckets=max(buckets, 1),
        min_chars=min_chars,
        max_chars=max_chars,
        word_ngrams=word_ngrams,
    )
    sums_WD, sizes = np.zeros((num_words, dim), np.float32), np.zeros(num_words, np.int32)
    _sum_words(tables, sums_WD, sizes)
    tables = tables._replace(word_sums_WD=frozen(sums_WD), word_rows=frozen(sizes))
    labels = tuple(word.decode("utf-8", "replace").removeprefix(LABEL.decode()) for word in words[num_words:])
    left, right = _huffman(counts[num_words:])
    return FastTextModel(labels, tables, frozen(output_LD), loss, frozen(left), frozen(right))


def _dense(reader: _Reader, dim: int) -> Float32:
    rows, columns = reader.numbers("qq")
    if rows < 0 or columns != dim:
        raise ValueError("its matrices do not fit its dictionary")
    return reader.array(np.float32, rows * dim).reshape(rows, dim).copy()


def _quantised(reader: _Reader, dim: int) -> Float32:
    """A product-quantised matrix, unpacked: each row is a norm times a centroid a piece."""
    has_norms, rows, columns, num_codes = reader.numbers("?qqi")
    if rows < 0 or columns != dim:
        raise ValueError("its matrices do not fit its dictionary")
    codes = reader.array(np.uint8, num_codes)
    pieces = _centroids(reader, dim)
    if num_codes != rows * len(pieces):
        raise ValueError("its matrices do not fit its dictionary")
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


def _bits(flags: npt.NDArray[np.bool_]) -> UInt64:
    packed = np.packbits(flags, bitorder="little")
    return np.pad(packed, (0, -len(packed) % 8)).view("<u8").astype(np.uint64)


def _slots(words: list[bytes]) -> Int32:
    size = 2
    while size < 2 * len(words):
        size *= 2
    slots = np.full(size, -1, np.int32)
    for index, word in enumerate(words):
        slot = int(_hash(frozen(np.frombuffer(word, np.uint8)), 0, len(word))) & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = index
    return slots


def _huffman(counts: list[int]) -> tuple[Int32, Int32]:
    """Children of each node of fastText's tree of labels (which come by falling count); -1 for leaves."""
    num_labels = len(counts)
    weights = [*counts, *[10**15] * (num_labels - 1)]
    left, right = np.full(2 * num_labels - 1, -1, np.int32), np.full(2 * num_labels - 1, -1, np.int32)
    leaf, node = num_labels - 1, num_labels
    for parent in range(num_labels, 2 * num_labels - 1):
        lightest = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                lightest.append(leaf)
                leaf -= 1
            else:
                lightest.append(node)
                node += 1
        left[parent], right[parent] = lightest
        weights[parent] = weights[lightest[0]] + weights[lightest[1]]
    return left, right


# --- Kernels ---------------------------------------------------------------------------------------------------------


@kernel
def _hash_byte(value: np.uint32, byte: int) -> np.uint32:
    # FNV-1a over bytes that are signed, as the library's are.
    signed = np.uint32(byte) if byte < 0x80 else np.uint32(byte) | np.uint32(0xFFFFFF00)
    return np.uint32((value ^ signed) * np.uint32(FNV_PRIME))


@kernel
def _hash(data: Bytes, begin: int, end: int) -> np.uint32:
    value = np.uint32(FNV_BASIS)
    for position in range(begin, end):
        value = _hash_byte(value, data[position])
    return value


@kernel
def _find(data: Bytes, begin: int, end: int, value: np.uint32, slots: Int32, offsets: Int64, words: Bytes) -> int:
    """The index of a word in the dictionary, or -1."""
    mask = len(slots) - 1
    slot = np.int64(value) & mask
    while slots[slot] >= 0:
        word = slots[slot]
        first = offsets[word]
        if offsets[word + 1] - first == end - begin:
            index = 0
            while index < end - begin and words[first + index] == data[begin + index]:
                index += 1
            if index == end - begin:
                return int(word)
        slot = (slot + 1) & mask
    return -1


@kernel
def _add_ngrams(
    word: Bytes,
    length: int,
    min_chars: int,
    max_chars: int,
    num_buckets: int,
    row_of_bucket: Int32,
    is_kept: UInt64,
    rows_RD: Float32,
    sums: Float32,
    target: int,
) -> int:
    """Add the rows of the character n-grams of ``word[:length]``, which stands in < and >, to ``sums[target]``.

    Returns how many there were.
    """
    # value * reciprocal >> 52 is value // num_buckets, or one less: a product is cheaper than a division.
    reciprocal = np.uint64((1 << 52) // num_buckets) if num_buckets > 1 << 20 else np.uint64(0)
    count = 0
    for begin in range(length):
        if word[begin] & 0xC0 == 0x80:
            continue
        value = np.uint32(FNV_BASIS)
        position = begin
        for chars in range(1, max_chars + 1):
            if position >= length:
                break
            value = _hash_byte(value, word[position])
            position += 1
            while position < length and word[position] & 0xC0 == 0x80:
                value = _hash_byte(value, word[position])
                position += 1
            if chars >= min_chars and not (chars == 1 and (begin == 0 or position == length)):
                if reciprocal:
                    bucket = np.int64(value) - np.int64((np.uint64(value) * reciprocal) >> np.uint64(52)) * num_buckets
                    if bucket >= num_buckets:
                        bucket -= num_buckets
                else:
                    bucket = np.int64(value) % num_buckets
                if is_kept[bucket >> 6] >> np.uint64(bucket & 63) & np.uint64(1):
                    row = row_of_bucket[bucket]
                    for column in range(rows_RD.shape[1]):
                        sums[target, column] += rows_RD[row, column]
                    count += 1
    return count


@kernel
def _sum_words(tables: Tables, sums_WD: Float32, sizes: Int32) -> None:
    """The sum of the rows of every word of the dictionary, and how many they are."""
    offsets, words, rows_RD = tables.word_offsets, tables.word_data, tables.rows_RD
    longest = 0
    for word in range(tables.num_words):
        longest = max(longest, offsets[word + 1] - offsets[word])
    framed = np.empty(longest + 2, np.uint8)
    for word in range(tables.num_words):
        begin, end = offsets[word], offsets[word + 1]
        sums_WD[word] = rows_RD[word]
        sizes[word] = 1
        if tables.max_chars > 0 and not _is_end(words, begin, end):
            sizes[word] += _add_ngrams(
                framed,
                _frame(words, begin, end, framed),
                tables.min_chars,
                tables.max_chars,
                tables.num_buckets,
                tables.row_of_bucket,
                tables.is_kept,
                rows_RD,
                sums_WD,
                word,
            )


@kernel
def _frame(data: Bytes, begin: int, end: int, framed: Bytes) -> int:
    framed[0] = 0x3C
    for index in range(end - begin):
        framed[index + 1] = data[begin + index]
    framed[end - begin + 1] = 0x3E
    return end - begin + 2


@kernel
def _is_end(data: Bytes, begin: int, end: int) -> bool:
    """Whether a word is the mark of a line's end, ``</s>``."""
    return (
        end - begin == 4
        and data[begin] == 0x3C
        and data[begin + 1] == 0x2F
        and data[begin + 2] == 0x73
        and data[begin + 3] == 0x3E
    )


@kernel
def _is_label(data: Bytes, begin: int, end: int) -> bool:
    """Whether a word that the dictionary lacks looks like a label; such words are left out."""
    if end - begin < len(LABEL):
        return False
    matching = 0
    while matching < len(LABEL) and data[begin + matching] == LABEL[matching]:
        matching += 1
    return matching == len(LABEL)


@kernel
def _average_rows(offsets: Int64, data: Bytes, rows: Int64, tables: Tables, hidden_ND: Float32, counts: Int64) -> None:
    """The mean row of each text, as the library's `getLine` and `computeHidden` make it. A line feed is a space."""
    longest = 0
    for text in rows:
        longest = max(longest, offsets[text + 1] - offsets[text])
    framed = np.empty(longest + 2, np.uint8)
    hashes = np.empty(longest // 2 + 2, np.uint64)
    # Unpacked once: an array taken out of a tuple costs two atomic operations.
    slots, word_offsets, word_data, num_words = tables.slots, tables.word_offsets, tables.word_data, tables.num_words
    word_sums_WD, word_rows, rows_RD = tables.word_sums_WD, tables.word_rows, tables.rows_RD
    row_of_bucket, is_kept, num_buckets = tables.row_of_bucket, tables.is_kept, tables.num_buckets
    min_chars, max_chars, word_ngrams = tables.min_chars, tables.max_chars, tables.word_ngrams
    num_columns = hidden_ND.shape[1]
    mark = np.frombuffer(END_OF_LINE, np.uint8)
    end_hash = _hash(mark, 0, 4)
    end_word = _find(mark, 0, 4, end_hash, slots, word_offsets, word_data)
    for row in range(len(rows)):
        position, stop = offsets[rows[row]], offsets[rows[row] + 1]
        count = num_hashes = 0
        ended = False
        while not ended:
            while position < stop and _is_blank(data[position]):
                position += 1
            begin = position
            value = np.uint32(FNV_BASIS)
            while position < stop and not _is_blank(data[position]):
                value = _hash_byte(value, data[position])
                position += 1
            ended = begin == position
            if ended:
                word, value = end_word, end_hash
            else:
                word = _find(data, begin, position, value, slots, word_offsets, word_data)
                ended = _is_end(data, begin, position)
            if word >= num_words or (word < 0 and not ended and _is_label(data, begin, position)):
                continue
            if word >= 0:
                for column in range(num_columns):
                    hidden_ND[row, column] += word_sums_WD[word, column]
                count += word_rows[word]
            elif not ended and max_chars > 0:
                count += _add_ngrams(
                    framed,
                    _frame(data, begin, position, framed),
                    min_chars,
                    max_chars,
                    num_buckets,
                    row_of_bucket,
                    is_kept,
                    rows_RD,
                    hidden_ND,
                    row,
                )
            # The library keeps these hashes as signed 32-bit numbers.
            hashes[num_hashes] = np.uint64(np.int64(np.int32(value)))
            num_hashes += 1
        for first in range(num_hashes if word_ngrams > 1 else 0):
            ngram = hashes[first]
            for last in range(first + 1, min(first + word_ngrams, num_hashes)):
                ngram = ngram * np.uint64(WORD_NGRAM_FACTOR) + hashes[last]
                bucket = np.int64(ngram % np.uint64(num_buckets))
                if is_kept[bucket >> 6] >> np.uint64(bucket & 63) & np.uint64(1):
                    found = row_of_bucket[bucket]
                    for column in range(num_columns):
                        hidden_ND[row, column] += rows_RD[found, column]
                    count += 1
        counts[row] = count
        if count > 0:
            scale = np.float32(1.0 / count)
            for column in range(num_columns):
                hidden_ND[row, column] *= scale


@kernel
def _is_blank(byte: int) -> bool:
    return byte == 0x20 or 0x09 <= byte <= 0x0D or byte == 0


@kernel
def _best_leaves(hidden_ND: Float32, output_LD: Float32, left: Int32, right: Int32) -> tuple[Int32, Float32]:
    """The most probable leaf under each row, and its probability: the likelier branch is followed first, and a branch
    below the best leaf so far is left."""
    num_rows, num_labels = len(hidden_ND), len(output_LD)
    labels = np.zeros(num_rows, np.int32)
    probabilities = np.zeros(num_rows, np.float32)
    nodes, scores = np.empty(2 * num_labels, np.int64), np.empty(2 * num_labels, np.float64)
    for row in range(num_rows):
        best = -np.inf
        nodes[0], scores[0] = 2 * num_labels - 2, 0.0
        depth = 1
        while depth > 0:
            depth -= 1
            node, score = nodes[depth], scores[depth]
            if score <= best:
                continue
            if left[node] < 0:
                best = score
                labels[row] = node
                continue
            dot = 0.0
            for column in range(hidden_ND.shape[1]):
                dot += hidden_ND[row, column] * output_LD[node - num_labels, column]
            share = 1 / (1 + np.exp(-dot))
            to_left, to_right = score + np.log(1 - share + LOG_GUARD), score + np.log(share + LOG_GUARD)
            if share < 0.5:
                nodes[depth], scores[depth] = right[node], to_right
                nodes[depth + 1], scores[depth + 1] = left[node], to_left
            else:
                nodes[depth], scores[depth] = left[node], to_left
                nodes[depth + 1], scores[depth + 1] = right[node], to_right
            depth += 2
        probabilities[row] = np.exp(best)
    return labels, probabilities
