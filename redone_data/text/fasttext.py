"""fastText models, read from their files and applied by kernels to Arrow buffers.

The library's own `predict` takes and returns Python lists and does 9 MB/s a core; the same sums over the same rows in
kernels do 110, without the interpreter lock, and agree with it within 1e-5 on 40,000 real posts. Sums are
made in text/fasttext_sums.py, files read in text/fasttext_file.py; training stays with the library.

Source: Joulin et al. 2016, 2017 (arXiv 1607.01759, 1612.03651).
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.text.buffers import Bytes, Int64, frozen, string_buffers
from redone_data.text.fasttext_file import HIERARCHICAL, FastTextFile
from redone_data.text.fasttext_sums import LABEL, Tables, average_rows
from redone_data.text.kernel import kernel
from redone_data.text.vectors import dot_rows, padded

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

LOG_GUARD = 1e-5  # the library adds it before every logarithm, so a probability may pass 1 a little


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
        hidden_ND, counts = average_rows(offsets, data, rows, self.tables)
        if self.loss == HIERARCHICAL:
            labels, probabilities = _best_leaves(hidden_ND, self.output_LD, self.left, self.right)
        else:
            probabilities_NL = self._probabilities(hidden_ND)
            labels = probabilities_NL.argmax(axis=1).astype(np.int32)
            probabilities = probabilities_NL.max(axis=1) + np.float32(LOG_GUARD)
        labels[counts == 0], probabilities[counts == 0] = -1, 0
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
        hidden_ND, counts = average_rows(offsets, data, np.arange(len(offsets) - 1), self.tables)
        chosen = self._probabilities(hidden_ND)[:, self.labels.index(label)]
        chosen[counts == 0] = 0
        return chosen

    def _probabilities(self, hidden_ND: Float32) -> Float32:
        # Row by row: a matrix product may round differently in a batch of another size.
        scores_NL: Float32 = np.stack([(hidden_ND * weights_D).sum(axis=1) for weights_D in self.output_LD], axis=1)
        scores_NL = np.exp(scores_NL - scores_NL.max(axis=1, keepdims=True))
        scores_NL /= scores_NL.sum(axis=1, keepdims=True)
        return scores_NL


@functools.lru_cache(maxsize=4)
def _load(path: str, size: int, modified: int) -> FastTextModel:
    # size and modified are part of the key, so that a file that is replaced is read again.
    try:
        file = FastTextFile.parse(Path(path).read_bytes())
    except OSError as error:
        raise RedoneError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise RedoneError(f"{path} is not a supervised fastText model: {error}; give a .bin or .ftz file") from None
    labels = tuple(label.decode("utf-8", "replace").removeprefix(LABEL.decode()) for label in file.labels)
    left, right = _huffman(file.label_counts)
    output_LD = frozen(padded(file.output_LD))
    return FastTextModel(labels, Tables.of(file), output_LD, file.loss, frozen(left), frozen(right))


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


@kernel
def _best_leaves(hidden_ND: Float32, output_LD: Float32, left: Int32, right: Int32) -> tuple[Int32, Float32]:
    """The most probable leaf under each row, and its probability: the likelier branch is followed first, and a branch
    below the best leaf so far is left. The library adds logarithms where this multiplies."""
    num_rows, num_labels = len(hidden_ND), len(output_LD)
    labels = np.zeros(num_rows, np.int32)
    probabilities = np.zeros(num_rows, np.float32)
    nodes, chances = np.empty(2 * num_labels, np.int64), np.empty(2 * num_labels, np.float64)
    for row in range(num_rows):
        best = 0.0
        nodes[0], chances[0] = 2 * num_labels - 2, 1.0
        depth = 1
        while depth > 0:
            depth -= 1
            node, chance = nodes[depth], chances[depth]
            if chance <= best:
                continue
            if left[node] < 0:
                best = chance
                labels[row] = node
                continue
            share = 1 / (1 + np.exp(-np.float64(dot_rows(hidden_ND, row, output_LD, node - num_labels))))
            to_left, to_right = chance * (1 - share + LOG_GUARD), chance * (share + LOG_GUARD)
            if share < 0.5:
                nodes[depth], chances[depth] = right[node], to_right
                nodes[depth + 1], chances[depth + 1] = left[node], to_left
            else:
                nodes[depth], chances[depth] = left[node], to_left
                nodes[depth + 1], chances[depth + 1] = right[node], to_right
            depth += 2
        probabilities[row] = best
    return labels, probabilities
