"""Near-duplicate removal from texts to who stays, against brute force."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near_posts import NEAR, Post, corpus_of, deduplicate, ids_of, posts, similarity

from redone_data.curate.candidates import ALL_PAIRS_LIMIT
from redone_data.curate.near import NearConfig
from redone_data.curate.standing import DuplicatesConfig, StandingStep
from redone_data.engine import Engine
from redone_data.errors import RedoneError

# Posts that share a word share one of so many single-row bands: LSH misses next to nothing.
THOROUGH = NearConfig(ngram=1, bands=48, rows=1, threshold=0.5)


def best_first(found: list[Post]) -> list[Post]:
    keys = dict(zip([post.id for post in found], ids_of(found), strict=True))
    return sorted(found, key=lambda p: (-(float("-inf") if p.likes is None else p.likes), keys[p.id]))


def plain_kept(found: list[Post], threshold: float) -> set[str]:
    """Greedy over the total order, every document compared with every kept one."""
    kept: list[Post] = []
    for post in best_first(found):
        if not any(post.text == o.text or similarity(post.text, o.text) >= threshold for o in kept):
            kept.append(post)
    return set(ids_of(kept))


@settings(max_examples=8)
@given(posts(), st.integers(1, 3))
def test_a_corpus_keeps_what_comparing_all_with_all_would_keep(tmp_path_factory, found, num_parts):
    parts = [("d", found[i::num_parts]) for i in range(num_parts)]
    run = deduplicate(tmp_path_factory.mktemp("near"), parts, near=THOROUGH)
    assert set(ids_of(found)) - set(run.dropped) == plain_kept(found, THOROUGH.threshold)


@settings(max_examples=8)
@given(posts())
def test_a_dropped_document_names_a_kept_one_and_their_true_similarity(tmp_path_factory, found):
    run = deduplicate(tmp_path_factory.mktemp("near"), [("d", found)])
    texts = dict(zip(ids_of(found), (post.text for post in found), strict=True))
    for dropped, row in run.dropped.items():
        kept = row["duplicate_of"]
        assert kept not in run.dropped
        if row["rule"] == 0:
            assert (texts[kept], row["similarity"]) == (texts[dropped], 1)
        else:
            assert row["similarity"] == pytest.approx(similarity(texts[dropped], texts[kept]))
            assert row["similarity"] >= NEAR.threshold


@settings(max_examples=6)
@given(posts(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_neither_the_order_of_documents_nor_their_division_into_files_matters(
    tmp_path_factory, found, random, num_parts
):
    folder = tmp_path_factory.mktemp("near")
    once = deduplicate(folder / "a", [("d", found)])
    shuffled = random.sample(found, len(found))
    again = deduplicate(folder / "b", [("d", shuffled[i::num_parts]) for i in range(num_parts)])
    plain = [{key: {**row, "row": 0} for key, row in run.dropped.items()} for run in (once, again)]
    assert plain[0] == plain[1]


@settings(max_examples=6)
@given(posts())
def test_deduplicating_twice_drops_nothing_more(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("near")
    once = deduplicate(folder / "a", [("d", found)])
    left = [post for post, key in zip(found, ids_of(found), strict=True) if key not in once.dropped]
    assert deduplicate(folder / "b", [("d", left)]).dropped == {}


@pytest.mark.parametrize("size", [ALL_PAIRS_LIMIT, ALL_PAIRS_LIMIT + 1, 300])
def test_a_crowd_of_near_copies_ends_with_its_best_whichever_domain_that_is_in(tmp_path, size):
    template = "the shop on the corner gives one free cup of tea to all who come before noon today so come"
    crowd = [Post(f"c{i}", f"{template} {i}", likes=(i * 37) % 101) for i in range(size)]
    parts = [("low", crowd[::2]), ("high", crowd[1::2])]
    run = deduplicate(tmp_path, parts, near=NearConfig(), priorities={"high": 1})
    best = max(crowd[1::2], key=lambda post: post.likes)
    ties = {key for key, post in zip(ids_of(crowd), crowd, strict=True) if post.likes == best.likes}
    kept = set(ids_of(crowd)) - set(run.dropped)
    assert len(kept) == 1
    assert kept <= ties


def test_what_was_compared_is_told(tmp_path):
    crowd = [Post(f"c{i}", f"one two three four five six seven {i}") for i in range(40)]
    run = deduplicate(tmp_path, [("d", crowd)])
    statistics = run.near.candidates.statistics
    assert statistics["crowded_buckets"] > 0
    assert statistics["largest_bucket"] == 40
    assert statistics["pairs_found"] >= statistics["pairs"] >= run.near.verified.statistics["pairs"]
    assert 1 < run.near.candidates_per_document < 20


ANCIENT, RECENT = 1, 2_000_000_000_000_000
RIVALS = [
    Post("liked", "a quiet walk along the old river at dawn", likes=9, created_at=5_000_000),
    Post("long", "a quiet walk along the old river at dawn !!!!!!!!!!", likes=1, created_at=6_000_000),
    Post("new", "a quiet walk along the old river at dawn !", likes=None, created_at=RECENT),
    Post("old", "a quiet walk along the old river at dawn ?", likes=2, created_at=ANCIENT),
    Post("undated", "a quiet walk along the old river at dawn .", likes=0, created_at=None),
]


@pytest.mark.parametrize(("keep", "stays"), [("engagement", 0), ("length", 1), ("newest", 2), ("oldest", 3)])
def test_the_kept_one_is_the_one_the_policy_names(tmp_path, keep, stays):
    run = deduplicate(tmp_path, [("d", RIVALS)], duplicates=DuplicatesConfig(keep=keep))
    (kept,) = set(ids_of(RIVALS)) - set(run.dropped)
    assert kept == ids_of(RIVALS)[stays]


def test_a_quality_that_nobody_computed_is_refused(tmp_path):
    corpus = corpus_of(tmp_path, [("d", RIVALS)])
    with pytest.raises(RedoneError, match="'quality_ads', and none are computed"):
        Engine(tmp_path / "run").run(StandingStep(corpus, DuplicatesConfig("quality", "quality_ads")))


def test_texts_without_words_collide_with_nothing_but_their_equals(tmp_path):
    found = [Post("a", " "), Post("b", "\n"), Post("c", "   "), Post("d", " "), Post("e", "")]
    run = deduplicate(tmp_path, [("d", found)])
    rules = [row["rule"] for row in run.dropped.values()]
    assert rules == [0]


def test_an_empty_part_is_no_obstacle(tmp_path):
    run = deduplicate(tmp_path, [("d", []), ("d", RIVALS), ("d", [])])
    assert len(run.dropped) == len(RIVALS) - 1
