"""Shares of known passages found in texts, against the definition in plain Python."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from runs import words_of

from redone_data.text.overlap import index_passages

LETTERS = ["a", "b", "c", "好", "天", "d!", "#e", "。", "@x"]
WRITING = st.lists(st.sampled_from(LETTERS), max_size=24).map(" ".join)


def plain(text: str) -> list[str]:
    return [word for word, _, _ in words_of(text)]


def weight(words: list[str]) -> float:
    return sum(0.5 if word > "\u3000" else 1.0 for word in words)


def expected(passages, items, texts, ngram, min_words, max_items, enough):
    """{(text, passage): (fraction, words shared, longest run)}."""
    words = [plain(passage) for passage in passages]
    size = [min(len(w), ngram) if weight(w) >= min_words else 0 for w in words]
    grams = [
        [tuple(w[i : i + n]) for i in range(len(w) - n + 1)] if n else [] for w, n in zip(words, size, strict=True)
    ]
    in_items: dict[tuple[str, ...], set[int]] = {}
    for owner, listed in enumerate(grams):
        for gram in listed:
            in_items.setdefault(gram, set()).add(items[owner])
    found = {}
    for owner, listed in enumerate(grams):
        places = {}
        own, common = set(), set()
        for place, gram in enumerate(listed):
            covers = range(place, place + size[owner])
            if len(in_items[gram]) > max_items:
                common.update(covers)
            elif 2 * len(set(gram)) > len(gram) and gram not in places:
                places[gram] = place
                own.update(covers)
        own -= common
        if not places or weight([words[owner][i] for i in own]) < min_words:
            continue
        for row, text in enumerate(texts):
            spoken = plain(text)
            hits = [i for i in range(len(spoken)) if tuple(spoken[i : i + size[owner]]) in places]
            shared = {
                place
                for i in hits
                for place in range(
                    places[tuple(spoken[i : i + size[owner]])], places[tuple(spoken[i : i + size[owner]])] + size[owner]
                )
            } & own
            if hits:
                run = longest = 0
                for at, before in zip(hits, [None, *hits], strict=False):
                    run = run + 1 if before is not None and at == before + 1 else 1
                    longest = max(longest, run)
                fraction = min(1.0, len(shared) / min(len(own), enough))
                found[row, owner] = (fraction, len(shared), longest + size[owner] - 1)
    return found


@given(
    st.lists(st.tuples(WRITING, st.integers(0, 2)), max_size=6),
    st.lists(WRITING, max_size=5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(4, 9),
)
def test_shares_agree_with_plain_python(passages, texts, ngram, min_words, max_items, enough):
    min_words = min(min_words, ngram)
    written, items = [p for p, _ in passages], [i for _, i in passages]
    index = index_passages(
        pa.array(written, pa.large_string()),
        np.array(items, np.int64),
        ngram=ngram,
        min_words=min_words,
        max_items=max_items,
    )
    found = index.find(pa.array(["skip", *texts])[1:], enough_words=enough, min_fraction=0.0)
    got = {
        (row, passage): (fraction, shared, run)
        for row, passage, fraction, shared, run in zip(*(side.tolist() for side in found[:5]), strict=True)
    }
    want = expected(written, items, texts, ngram, min_words, max_items, enough)
    assert got.keys() == want.keys()
    for key in want:
        assert abs(got[key][0] - want[key][0]) < 1e-9
        assert got[key][1:] == want[key][1:]


def test_the_longest_run_is_given_as_bytes_of_the_text():
    index = index_passages(
        pa.array(["one two three four five six seven"]), np.zeros(1, np.int64), ngram=3, min_words=3, max_items=1
    )
    text = "好, one two three! x Two THREE four five six."
    found = index.find(pa.array([text]), enough_words=50, min_fraction=0.5)
    assert text.encode()[found.starts[0] : found.ends[0]].decode() == "Two THREE four five six"
    assert found.run_words.tolist() == [5]
    assert found.shared_words.tolist() == [6]


def test_texts_that_hold_little_of_a_passage_are_left_out():
    index = index_passages(
        pa.array([" ".join(f"w{i}" for i in range(20))]), np.zeros(1, np.int64), ngram=3, min_words=3, max_items=1
    )
    texts = pa.array(["w1 w2 w3", " ".join(f"w{i}" for i in range(12))])
    assert index.find(texts, enough_words=50, min_fraction=0.5).rows.tolist() == [1]
