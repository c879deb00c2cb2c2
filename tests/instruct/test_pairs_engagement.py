"""Pairs from engagement: posts of one context and time only, corrected for what they were shown, and marked weak."""

import pytest
from pair_data import check_conserved, make, write_jsonl

from redone_data.rng import stream

DAY = 86_400
TABLE = {
    "paths": ["posts.jsonl"],
    "id": "id",
    "lang": "en",
    "columns": {"text": "text", "group": "group", "likes": "likes", "at": "at", "views": "views"},
}
LIKED = {
    "table": "posts",
    "context": ["group"],
    "engagement": ["likes"],
    "created_at": "at",
    "prompts": {"en": ["Write a post for {{ group }}.", "A post for {{ group }}, please."]},
    "smoothing": 0.0,
    "select": {"length": {"control": "off"}},
}


def post(number, likes, *, group="tea", day=0.0, views=1000, text=None):
    text = text or f"post number {number} on {group}"
    at = int(1_700_000_000 + day * DAY)
    return {"id": f"p{number}", "text": text, "group": group, "likes": likes, "at": at, "views": views}


LATE = post(99, 0, group="clock", day=30)  # the newest post says when counts were taken


def liked(tmp_path, posts, *, held_out=0.0, **change):
    write_jsonl(tmp_path / "posts.jsonl", [*posts, LATE])
    sets = {"engagement": {"liked": {**LIKED, **change}}, "tables": {"posts": TABLE}, "held_out": {"share": held_out}}
    made = make(tmp_path, sets)
    if made.code == 0:
        check_conserved(made)
    return made


def texts(made):
    return [(pair.chosen[0].content, pair.rejected[0].content) for pair in made.pairs]


def test_the_post_that_readers_answered_to_is_chosen_and_the_pair_is_weak(tmp_path):
    made = liked(tmp_path, [post(1, 100), post(2, 10, day=1)])
    assert made.code == 0, made.said
    assert texts(made) == [("post number 1 on tea", "post number 2 on tea")]
    (pair,) = made.pairs
    assert pair.weak
    assert pair.kind == "engagement"
    assert pair.documents == ("p1", "p2")
    assert pair.margin == pytest.approx(2.302585, abs=1e-5)  # log of ten times the rate
    assert pair.prompt[0].content in ("Write a post for tea.", "A post for tea, please.")
    assert made.manifest["sets"]["liked"]["source"]["rows_dropped"] == {"too_young": 1}


@pytest.mark.parametrize(
    ("posts", "change", "reason"),
    [
        ([post(1, 100), post(2, 10, group="cake")], {}, "no_partner_in_time"),
        ([post(1, 100), post(2, 10, day=3.5)], {}, "no_partner_in_time"),
        ([post(1, 100), post(2, 60, day=1)], {}, "no_contrast"),
        ([post(1, 18), post(2, 2, day=1)], {}, "no_contrast"),  # nine times as many, and only 16 more
        ([post(1, 100, day=29), post(2, 10, day=29)], {}, "too_young"),
        ([post(1, 100, views=100_000), post(2, 10)], {"exposure": "views"}, "no_partner_in_time"),
        ([post(1, 150, views=1000), post(2, 100, views=500)], {"exposure": "views"}, "no_contrast"),
        ([post(1, None), post(2, 10)], {}, "missing_value"),
        ([post(1, 100, views=0), post(2, 10)], {"exposure": "views"}, "missing_value"),
    ],
)
def test_posts_that_cannot_be_compared_are_counted_with_their_reason(tmp_path, posts, change, reason):
    control = [post(3, 500, group="other"), post(4, 1, group="other")]  # one pair there is
    made = liked(tmp_path, [*posts, *control], **change)
    assert made.code == 0, made.said
    assert [pair.documents for pair in made.pairs] == [("p3", "p4")]
    assert set(made.ledger.filter(made.ledger["id"].is_in(["p1", "p2"]))["reason"]) >= {reason}


def test_a_post_that_was_shown_more_often_needs_more_likes_to_be_chosen(tmp_path):
    posts = [post(1, 100, views=4000), post(2, 90, views=1000)]
    assert liked(tmp_path, posts).code != 0  # by likes alone they are alike
    made = liked(tmp_path, posts, exposure="views")
    assert texts(made) == [("post number 2 on tea", "post number 1 on tea")]


def test_small_exposures_are_drawn_towards_what_is_usual_in_their_context(tmp_path):
    usual = [post(number, 50, day=20) for number in range(10, 40)]
    posts = [post(1, 3, views=20), post(2, 0, views=20), *usual]
    raw = liked(tmp_path, posts, exposure="views", min_gap=0.5, smoothing=0.0)
    assert raw.code != 0  # nothing at all against something: no ratio
    assert "no_contrast" in liked(tmp_path, posts, exposure="views", min_gap=0.5, smoothing=1.0).said


def test_a_post_is_in_one_pair_only_and_its_other_partners_are_counted(tmp_path):
    posts = [post(1, 100), *(post(number, 1) for number in range(2, 8))]
    made = liked(tmp_path, posts)
    assert len(made.pairs) == 1
    assert made.manifest["sets"]["liked"]["source"]["rows_dropped"] == {"partner_taken": 5, "too_young": 1}
    assert len(liked(tmp_path, posts, uses=3).pairs) == 3
    assert len(liked(tmp_path, posts, uses=6, max_per_context=2).pairs) == 2


def many(count):
    draws = stream(1, "posts")
    return [
        post(
            number,
            int(draws.gamma(1, 60)),
            group=f"group {number % 5}",
            day=float(draws.random() * 20),
            text=f"{number} " + "word " * int(1 + draws.random() * 30),
        )
        for number in range(count)
    ]


def test_pairs_of_like_length_are_taken_first_and_length_ends_up_telling_nothing(tmp_path):
    control = {"select": {"length": {"control": "match"}}}
    found = liked(tmp_path, many(600), **control).manifest["sets"]["liked"]["length"]["after"]
    assert abs(found["bias"]) <= 0.02
    assert found["longer_chosen"] == pytest.approx(0.5, abs=0.02)
    assert found["pairs"] > 100


def test_no_post_is_held_out_and_trained_on(tmp_path):
    made = liked(tmp_path, many(400), held_out=0.1, uses=2)
    by_split = {split: set() for split in ("train", "held_out")}
    for pair in made.pairs:
        by_split[pair.split] |= set(pair.documents)
    assert by_split["held_out"]
    assert not by_split["train"] & by_split["held_out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engagement": ["like"]}, "there is no column 'like'; did you mean 'likes'"),
        ({"engagement": ["text"]}, "text must be numbers"),
        ({"created_at": "text"}, "is no moment; ISO text or seconds since 1970"),
        ({"as_of": "yesterday"}, "as_of: 'yesterday' is no moment"),
        ({"table": "post"}, "did you mean 'posts'"),
        ({"prompts": {"en": ["For {{ grup }}"]}}, "prompts.en[0]: variable 'grup'"),
        ({"prompts": {"zh": ["写给 {{ group }}"]}}, "no template in 'en'"),
        ({"prompts": {}}, "at least one template"),
        ({"capability": "talking"}, "capability: 'talking'"),
        ({"min_ratio": 0.5}, "at least 1"),
        ({"min_gap": 1e9}, "set 'liked': no pair is left; of 3 rows and 0 candidates were dropped: no_contrast 2"),
    ],
)
def test_what_cannot_be_compared_at_all_is_an_error_with_its_place(tmp_path, change, message):
    made = liked(tmp_path, [post(1, 100), post(2, 10)], **change)
    assert made.code != 0
    assert message in made.said
