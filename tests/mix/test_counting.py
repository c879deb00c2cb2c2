"""Counted n-grams: the loss of a mixture is that of a plain-Python model, whatever way the training tokens are cut."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redone_data.errors import RedoneError
from redone_data.mix.counting.model import CONCENTRATION, CountModel
from redone_data.mix.counting.trie import ORDERS, Trie

EOS, VOCAB = 0, 6
documents = st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=9), min_size=1, max_size=6)
Documents = Sequence[Sequence[int]]


def on_end(texts: Documents) -> NDArray[Any]:
    return np.array([token for text in texts for token in [*text, EOS]], np.uint16)


def ngrams_of(text: Sequence[int]) -> list[tuple[int, ...]]:
    """Every n-gram that ends within a document, the end before it included, the empty one once a token."""
    tokens = (EOS, *text, EOS)
    found = []
    for end in range(2, len(tokens) + 1):
        found += [tokens[end - order : end] for order in range(min(ORDERS, end) + 1)]
    return found


def reference_loss(held_out: Documents, domains: Sequence[Documents], weights: Sequence[float], sample: float) -> float:
    """Bits in all held-out tokens, by the formula of model.py."""
    count: Counter[tuple[int, ...]] = Counter()
    for texts, weight in zip(domains, weights, strict=True):
        tokens = len(on_end(texts))
        for text in texts:
            for ngram in ngrams_of(text):
                count[ngram] += sample * weight / tokens

    def probability(ngram: tuple[int, ...]) -> float:
        if not ngram:
            return 1 / VOCAB
        # As a context an n-gram does not stand at a document's end, but for the end itself.
        above = count[ngram] + CONCENTRATION * probability(ngram[1:])
        return above / (count[ngram[:-1]] + CONCENTRATION)

    bits = 0.0
    for text in held_out:
        tokens = (EOS, *text, EOS)
        for end in range(2, len(tokens) + 1):
            bits -= math.log2(probability(tokens[max(0, end - ORDERS) : end]))
    return bits


def model_of(held_out: Sequence[Documents], domains: Sequence[Documents]) -> CountModel:
    trie = Trie.of(np.concatenate([on_end(texts) for texts in held_out]), EOS)
    counts_ND = np.stack([trie.count([[on_end(texts)]]) for texts in domains], axis=1)
    metric_P = np.repeat(np.arange(len(held_out)), [len(on_end(texts)) for texts in held_out])
    names = [f"domain{d}" for d in range(len(domains))]
    return CountModel.of(trie, counts_ND, metric_P, names, [1] * len(domains), VOCAB)


def drawn(domains: int, seed: int, length: int = 30) -> list[Documents]:
    rng = np.random.default_rng(seed)
    return [[rng.integers(1, VOCAB, length).tolist() for _ in range(4)] for _ in range(domains)]


@settings(deadline=None, max_examples=60)
@given(documents, documents, documents, documents, st.floats(0, 1), st.floats(0.5, 200))
def test_the_loss_is_that_of_a_plain_model_of_mixed_counts(
    held_0: Documents, held_1: Documents, train_0: Documents, train_1: Documents, weight: float, sample: float
) -> None:
    weights = [weight, 1 - weight]
    losses_CM = model_of([held_0, held_1], [train_0, train_1]).losses(np.array([weights]), sample)
    expected = [reference_loss(held, [train_0, train_1], weights, sample) for held in (held_0, held_1)]
    np.testing.assert_allclose(losses_CM[0], expected, rtol=1e-9)


@given(documents, documents, st.integers(1, 7))
def test_where_a_file_is_cut_into_chunks_changes_no_count(held: Documents, train: Documents, size: int) -> None:
    trie, tokens = Trie.of(on_end(held), EOS), on_end(train)
    chunks = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    np.testing.assert_array_equal(trie.count([chunks]), trie.count([[tokens]]))


def test_two_files_count_as_two_not_as_one_text() -> None:
    trie, texts = Trie.of(on_end([[1, 2, 3]]), EOS), [[1, 2], [3, 1, 2, 3]]
    apart = trie.count([[on_end(texts[:1])], [on_end(texts[1:])]])
    np.testing.assert_array_equal(apart, trie.count([[on_end(texts)]]))


def test_a_mixture_is_the_same_alone_and_among_many() -> None:
    model = model_of(drawn(3, 1), drawn(3, 2))
    weights_CD = np.random.default_rng(3).dirichlet(np.ones(3), size=21)
    together_CM = model.losses(weights_CD, 50.0)
    alone_CM = np.concatenate([model.losses(weights_D[None], 50.0) for weights_D in weights_CD])
    np.testing.assert_array_equal(together_CM, alone_CM)
    assert model.losses(weights_CD[:0], 50.0).shape == (0, 3)


def test_one_metric_alone_has_the_loss_it_has_among_all() -> None:
    model = model_of(drawn(3, 1), drawn(3, 2))
    weights_CD = np.random.default_rng(3).dirichlet(np.ones(3), size=5)
    for column, metric in enumerate(model.metrics):
        alone_C = model.only(metric).losses(weights_CD, 50.0)[:, 0]
        np.testing.assert_allclose(alone_C, model.losses(weights_CD, 50.0)[:, column], rtol=1e-12)
    with pytest.raises(RedoneError, match="metric 'domain9' is not counted"):
        model.only("domain9")


def test_slopes_are_those_of_the_loss() -> None:
    model = model_of(drawn(3, 1), drawn(3, 2)).only("domain1")
    weights_CD = np.random.default_rng(3).dirichlet(np.full(3, 5.0), size=11)
    slopes_CD = model.gradient(weights_CD, 50.0)
    for domain in range(3):
        step_D = 1e-6 * np.eye(3)[domain]
        rise_C = (model.losses(weights_CD + step_D, 50.0) - model.losses(weights_CD - step_D, 50.0))[:, 0] / 2e-6
        np.testing.assert_allclose(slopes_CD[:, domain], rise_C, rtol=1e-5, atol=1e-7)


def test_more_of_a_domain_lowers_its_own_loss() -> None:
    rng = np.random.default_rng(5)
    kinds = [
        [rng.choice([1, 2, 3], p=p, size=40).tolist() for _ in range(20)] for p in ([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    ]
    model = model_of([kind[:4] for kind in kinds], [kind[4:] for kind in kinds])
    shares_C = np.linspace(0.1, 0.9, 5)
    losses_CM = model.losses(np.stack([shares_C, 1 - shares_C], axis=1), 30.0)
    assert (np.diff(losses_CM[:, 0]) < 0).all()
    assert (np.diff(losses_CM[:, 1]) > 0).all()
