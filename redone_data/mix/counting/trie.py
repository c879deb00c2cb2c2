"""The n-grams of the held-out text, and how often a domain's training tokens contain each of them.

Nothing else matters for the held-out loss, so memory follows the held-out text, and the training tokens stream by once.
The n-grams are the nodes of a trie: a node is its context (the n-gram without its last token) and a token, so a 64-bit
key is exact and nothing collides. No n-gram reaches over the end of a document. One core counts about 10 million
training tokens a second against the n-grams of 160,000 held-out tokens.

Shapes: P held-out positions, N nodes, K slots of the hash table.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redone_data.text.buffers import Int64, UInt64
from redone_data.text.hash_table import build_table, find_key
from redone_data.text.kernel import inlined, kernel

ORDERS = 5  # the longest n-grams, in tokens
ROOT = 0  # the empty n-gram: its count is the number of tokens
NOWHERE = -1

Nodes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Trie:
    """The n-grams of a text; those that a node refers to come before it.

    keys_N: context << 32 | token, ascending; of the root, 0, which no other node has (`build_table` wants them mixed).
    context_N: the n-gram without its last token. suffix_N: without its first. The root's are the root.
    position_PO: the node that ends at each token, by order 1..ORDERS; NOWHERE where a document is too short for it.
    """

    keys_N: UInt64
    context_N: Nodes
    suffix_N: Nodes
    position_PO: Nodes
    eos: int

    @classmethod
    def of(cls, tokens_P: NDArray[Any], eos: int) -> "Trie":
        """Of documents on end, each closed by `eos`."""
        # The first document begins like all others: after an end.
        tokens_Q = np.concatenate([[eos], tokens_P.astype(np.uint64)]).astype(np.uint64)
        ended_Q = tokens_Q == eos
        at_QO = np.full((len(tokens_Q), ORDERS + 1), NOWHERE, dtype=np.int64)
        at_QO[:, 0] = ROOT
        keys, suffixes = [np.zeros(1, np.uint64)], [np.zeros(1, np.int64)]
        count = 1
        for order in range(1, ORDERS + 1):
            context_Q = np.concatenate([[ROOT if order == 1 else NOWHERE], at_QO[:-1, order - 1]])
            if order > 2:  # an end may only begin an n-gram
                context_Q[1:][ended_Q[:-1]] = NOWHERE
            there_H = np.flatnonzero(context_Q >= 0)
            key_H = _key(context_Q[there_H].astype(np.uint64), tokens_Q[there_H])
            found, first, inverse = np.unique(key_H, return_index=True, return_inverse=True)
            at_QO[there_H, order] = count + inverse
            keys.append(found)
            suffixes.append(at_QO[there_H[first], order - 1])
            count += len(found)
        keys_N = np.concatenate(keys)
        context_N = ((keys_N >> np.uint64(32)) - np.uint64(1)).astype(np.int32)
        context_N[ROOT] = ROOT
        suffix_N = np.concatenate(suffixes).astype(np.int32)
        return cls(keys_N, context_N, suffix_N, at_QO[1:, 1:].astype(np.int32), eos)

    def __len__(self) -> int:
        return len(self.keys_N)

    def count(self, files: Iterable[Iterable[NDArray[Any]]]) -> Int64:
        """How often each n-gram occurs in training tokens: files of documents on end, each cut anywhere into chunks."""
        mixed_N = _mix_all(self.keys_N)
        slots_K = build_table(mixed_N)
        counts_N = np.zeros(len(self), np.int64)
        eos_key = _key(np.array([ROOT], np.uint64), np.array([self.eos], np.uint64))
        after_end = int(np.searchsorted(self.keys_N, eos_key)[0])
        for chunks in files:
            at_O = np.full(ORDERS + 1, NOWHERE, np.int64)
            at_O[0], at_O[1] = ROOT, after_end
            for chunk in chunks:
                _count(chunk, self.eos, slots_K, mixed_N, at_O, counts_N)
        return counts_N


def _key(context: UInt64, token: UInt64) -> UInt64:
    # Contexts count from one here, so that no key is the root's.
    key: UInt64 = (context + np.uint64(1)) << np.uint64(32) | token
    return key


@inlined
def _mixed(key: np.uint64) -> np.uint64:
    """A bijection (SplitMix64's): neighbours in the trie must not be neighbours in the table."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@kernel
def _mix_all(keys_N: UInt64) -> UInt64:
    mixed_N = np.empty_like(keys_N)
    for node in range(len(keys_N)):
        mixed_N[node] = _mixed(keys_N[node])
    return mixed_N


@kernel
def _count(tokens: NDArray[Any], eos: int, slots_K: Int64, mixed_N: UInt64, at_O: Int64, counts_N: Int64) -> None:
    """Add a chunk's counts; `at_O` holds the n-grams that ended at the last token, and is left at the chunk's."""
    orders = len(at_O) - 1
    for position in range(len(tokens)):
        token = np.uint64(tokens[position])
        counts_N[0] += 1
        context = int(at_O[0])
        for order in range(1, orders + 1):
            node = -1
            if context >= 0:
                key = ((np.uint64(context) + np.uint64(1)) << np.uint64(32)) | token
                node = find_key(slots_K, mixed_N, _mixed(key))
            context = int(at_O[order])
            at_O[order] = node
            if node < 0:  # no longer n-gram ends here either: each has this one as its end
                for longer in range(order + 1, orders + 1):
                    at_O[longer] = -1
                break
            counts_N[node] += 1
        if token == np.uint64(eos):
            for longer in range(2, orders + 1):
                at_O[longer] = -1
