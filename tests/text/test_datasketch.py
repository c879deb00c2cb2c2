import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from posts import texts

from redone_data.errors import RedoneError
from redone_data.text.datasketch import from_datasketch, shingle_hash, to_datasketch
from redone_data.text.minhash import jaccard, shingles, signatures, text_signatures

datasketch = pytest.importorskip("datasketch", minversion="2.0")


def sketched(found, row, num_perm=128, seed=1, scheme="affine32"):
    """What datasketch makes of the shingles of one row."""
    sketch = datasketch.MinHash(num_perm, seed, hashfunc=shingle_hash, scheme=scheme)
    sketch.update_batch(found.hashes[found.offsets[row] : found.offsets[row + 1]].tolist())
    return sketch


@given(text=texts())
def test_signatures_equal_those_of_datasketch(text):
    found = shingles(pa.array([text, "one two three four"]))
    for num_perm, seed in ((128, 1), (125, 7)):
        signed = signatures(found, num_perm, seed)
        for row in (0, 1):
            assert (signed[row] == sketched(found, row, num_perm, seed).hashvalues).all()


def posts():
    """Fifty posts, and each again with its last quarter changed."""
    words = np.random.default_rng(0).integers(0, 5000, (100, 24)).astype(str)
    words[50:, :18] = words[:50, :18]
    return list(map(" ".join, words.tolist()))


def test_estimates_of_similarity_equal_those_of_datasketch():
    found = shingles(pa.array(posts()))
    signed = signatures(found, 128)
    left, right = np.arange(50), np.arange(50, 100)
    estimates = (signed[left] == signed[right]).mean(axis=1)
    theirs = [sketched(found, a).jaccard(sketched(found, b)) for a, b in zip(left, right, strict=True)]
    assert estimates.tolist() == theirs
    assert abs((estimates - jaccard(found, left, right)).mean()) < 0.02


def test_datasketch_finds_near_duplicates_among_exported_signatures():
    sketches = to_datasketch(text_signatures(pa.array(posts()), num_perm=128))
    index = datasketch.MinHashLSH(threshold=0.4, num_perm=128)
    for row, sketch in enumerate(sketches[:50]):
        index.insert(row, sketch)
    assert np.mean([row in index.query(sketch) for row, sketch in enumerate(sketches[50:])]) > 0.9


def test_signatures_survive_the_way_to_datasketch_and_back():
    signed = text_signatures(pa.array(["a b c d", "", "你好世界"]), num_perm=128, seed=5)
    assert (from_datasketch(to_datasketch(signed, seed=5), seed=5) == signed).all()
    assert from_datasketch([]).shape == (0, 0)
    assert to_datasketch(signed)[1].is_empty()


def test_a_sketch_that_cannot_be_compared_is_refused():
    found = shingles(pa.array(["a b c"]))
    with pytest.raises(RedoneError, match="scheme 'legacy'"):
        from_datasketch([sketched(found, 0, scheme="legacy")])
    with pytest.raises(RedoneError, match="sketch 1 has the scheme 'affine32' and the seed 2"):
        from_datasketch([sketched(found, 0), sketched(found, 0, seed=2)])
    with pytest.raises(RedoneError, match="sketch 1 has 64 permutations"):
        from_datasketch([sketched(found, 0), sketched(found, 0, num_perm=64)])


def test_without_datasketch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(RedoneError, match="pip install"):
        to_datasketch(np.zeros((1, 4), np.uint32))
