"""The index of accepted documents: the same answers as deduplicating everything together, at the cost of the new."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near_posts import NEAR, Deduplicated, Post, deduplicate, ids_of, posts

from redone_data.curate import index_segments
from redone_data.curate.candidates import ALL_PAIRS_LIMIT
from redone_data.curate.index import INDEX_FILE, Index
from redone_data.curate.index_removal import forget
from redone_data.curate.index_segments import add_segment
from redone_data.errors import RedoneError


def accept(folder: Path, run: Deduplicated) -> Index:
    """Add what stays of a run."""
    return add_segment(folder, run.corpus, NEAR, run.standing, resolved=run.resolved)


def without_rows(dropped: dict) -> dict:
    return {key: {**row, "row": 0} for key, row in dropped.items()}


def stays(run: Deduplicated, given_posts: list[Post]) -> list[Post]:
    return [post for post, key in zip(given_posts, ids_of(given_posts), strict=True) if key not in run.dropped]


@settings(max_examples=6)
@given(posts("o"), posts("n", max_size=20), st.integers(0, 30))
def test_new_documents_fall_as_if_old_and_new_were_deduplicated_together(tmp_path_factory, old, new, cut):
    folder = tmp_path_factory.mktemp("index")
    once = deduplicate(folder / "once", [("old", old)])
    accepted = stays(once, old)
    # In two additions, so that documents of both segments are met.
    accept(folder / "index", deduplicate(folder / "first", [("old", accepted[:cut])]))
    index = accept(folder / "index", deduplicate(folder / "second", [("old", accepted[cut:])]))
    assert index.num_accepted == len(accepted)

    alone = deduplicate(folder / "alone", [("new", new[::2]), ("new", new[1::2])], index=index)
    together = deduplicate(folder / "together", [("new", new), ("old", accepted)], priorities={"old": 1})
    assert without_rows(alone.dropped) == without_rows(together.dropped)


def test_crowds_of_old_and_new_end_as_they_would_together(tmp_path):
    template = "the shop on the corner gives one free cup of tea to all who come before noon {}"
    new = [Post(f"n{i}", template.format(f"number {i}"), likes=i) for i in range(3 * ALL_PAIRS_LIMIT)]
    once = deduplicate(tmp_path / "once", [("old", [Post("o", template.format("today"))])])
    index = accept(tmp_path / "index", once)
    run = deduplicate(tmp_path / "new", [("new", new)], index=index)
    assert {row["duplicate_of"] for row in run.dropped.values()} == set(ids_of([Post("o", "")]))
    assert len(run.dropped) == len(new)


def test_an_equal_text_is_an_exact_duplicate_of_the_old_document_even_without_words(tmp_path):
    old = [Post("o1", "six words are in this text"), Post("o2", "  ")]
    index = accept(tmp_path / "index", deduplicate(tmp_path / "old", [("d", old)]))
    new = [Post("n1", old[0].text), Post("n2", old[1].text), Post("n3", old[0].text, likes=100)]
    run = deduplicate(tmp_path / "new", [("d", new)], index=index)
    assert [row["rule"] for row in run.dropped.values()] == [0, 0, 0]
    o1, o2 = ids_of(old)
    assert [run.dropped[key]["duplicate_of"] for key in ids_of(new)] == [o1, o2, o1]


def test_a_repetition_of_an_addition_changes_nothing_and_a_rerun_repeats_nothing(tmp_path):
    run = deduplicate(tmp_path / "old", [("d", [Post("a", "one two three"), Post("b", "four five six")])])
    first = accept(tmp_path / "index", run)
    again = accept(tmp_path / "index", run)
    assert again.fingerprint == first.fingerprint
    assert again.num_accepted == 2


def test_a_kill_between_the_segment_and_the_list_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    old = deduplicate(tmp_path / "old", [("d", [Post("a", "one two three")])])
    before = accept(tmp_path / "index", old)
    new = deduplicate(tmp_path / "new", [("d", [Post("b", "four five six")])])

    class Killed(Exception):  # noqa: N818
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(index_segments, "write_json", killed)
        with pytest.raises(Killed):
            accept(tmp_path / "index", new)
    assert Index.open(tmp_path / "index", NEAR).fingerprint == before.fingerprint
    assert accept(tmp_path / "index", new).num_accepted == 2


def test_a_deleted_document_is_no_longer_met_and_others_are(tmp_path):
    old = [Post("a", "one two three four five"), Post("b", "six seven eight nine ten")]
    accept(tmp_path / "index", deduplicate(tmp_path / "old", [("d", old)]))
    assert forget(tmp_path / "index", [ids_of(old)[0], "0" * 32]) == 1
    assert forget(tmp_path / "index", [ids_of(old)[0]]) == 0
    index = Index.open(tmp_path / "index", NEAR)
    assert index.num_accepted == 1
    new = [replace(post, id=post.id + "2") for post in old]
    run = deduplicate(tmp_path / "new", [("d", new)], index=index)
    assert list(run.dropped) == ids_of(new)[1:]


def test_settings_that_differ_are_named_with_what_to_do(tmp_path):
    accept(tmp_path / "index", deduplicate(tmp_path / "old", [("d", [Post("a", "one two three")])]))
    with pytest.raises(RedoneError, match=r"made with bands: 20, and near\.bands is 10; set near\.bands to 20"):
        Index.open(tmp_path / "index", replace(NEAR, bands=10))


def test_an_index_of_another_format_or_none_at_all_is_refused(tmp_path):
    with pytest.raises(RedoneError, match="no index is here"):
        Index.open(tmp_path, NEAR)
    (tmp_path / INDEX_FILE).write_text(json.dumps({"version": 99}))
    with pytest.raises(RedoneError, match="format 99; this version reads format 2"):
        Index.open(tmp_path, NEAR)


def test_what_travels_to_a_worker_is_the_name_of_an_index_and_not_its_content(tmp_path):
    run = deduplicate(tmp_path / "old", [("d", [Post(f"p{i}", f"one two three {i} {i}") for i in range(300)])])
    index = accept(tmp_path / "index", run)
    index.ids(np.arange(5))
    assert len(pickle.dumps(index)) < 2_000


def test_an_index_holds_nothing_of_the_texts_that_were_dropped(tmp_path):
    posts = [
        Post("a", "nobody may find these seven words here", likes=1),
        Post("b", "Nobody may find these seven words"),
    ]
    accept(tmp_path / "index", deduplicate(tmp_path / "old", [("d", posts)]))
    held = b"".join(path.read_bytes() for path in sorted((tmp_path / "index").rglob("*")) if path.is_file())
    assert held.count(b"nobodymayfindthesesevenwords") == 1
