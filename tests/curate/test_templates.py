"""Templates across documents: counted over distinct texts, ranked by engagement."""

import pytest
from curation import sentence
from reading import corpus_of

from redone_data.config import read_config
from redone_data.curate.attributes import Attributes
from redone_data.curate.templates import TemplatesConfig, TemplatesStep, shared_templates
from redone_data.engine import Engine
from redone_data.errors import RedoneError
from redone_data.text.hashing import to_hex

COLUMNS = ["template_count", "template_rank", "template_of"]


def measured(folder, domains, **read):
    """id -> (text, count, rank, text of the best)."""
    engine = Engine(folder / "run")
    corpus, _ = corpus_of(engine, folder, domains, **read)
    attributes = Attributes(corpus, (shared_templates(engine, corpus, TemplatesConfig()),))
    rows = {}
    for part in corpus.parts:
        keys = part.read(["key_hi", "key_lo", "text"])
        ids = to_hex(keys["key_hi"].to_numpy(), keys["key_lo"].to_numpy()).to_pylist()
        table = attributes.read(part, COLUMNS).to_pylist()
        for id_, text, row in zip(ids, keys["text"].to_pylist(), table, strict=True):
            rows[id_] = (text, *row.values())
    return sorted((text, count, rank, of and rows[of][0]) for text, count, rank, of in rows.values())


def spam(number: int, likes: int | None = None) -> dict:
    return {"id": f"s{number}", "text": f"恭喜@user{number} 获得第{number}名的大奖", "likes": likes}


def test_every_text_of_a_template_knows_how_many_share_it_and_which_is_best(tmp_path):
    found = measured(tmp_path, {"a": [spam(1, 5), spam(2, 9), sentence(1)], "b": [spam(3)]}, part_bytes=1)
    best = spam(2)["text"]
    assert found == sorted(
        [(spam(1)["text"], 3, 2, best), (best, 3, 1, best), (spam(3)["text"], 3, 3, best), (sentence(1), 1, 1, None)]
    )


def test_copies_of_one_text_count_once_and_share_its_rank(tmp_path):
    copies = [{**spam(1, likes), "id": f"c{likes}"} for likes in (1, 8)]
    found = measured(tmp_path, {"a": [*copies, spam(2, 3)]})
    assert [(count, rank) for _, count, rank, _ in found] == [(2, 1), (2, 1), (2, 2)]
    alone = measured(tmp_path / "alone", {"a": copies})
    assert [(count, rank) for _, count, rank, _ in alone] == [(1, 1), (1, 1)]


def test_files_and_parts_change_no_rank(tmp_path):
    posts = [spam(i, i % 3) for i in range(20)]
    one = measured(tmp_path / "one", {"a": posts})
    assert one == measured(tmp_path / "two", {"a": posts[::-1]}, part_bytes=100)
    assert sorted(rank for _, _, rank, _ in one) == list(range(1, 21))


def test_rules_may_ask_every_column_and_each_names_what_it_matched():
    assert set(TemplatesStep.matches) == set(TemplatesStep.columns(TemplatesStep.__new__(TemplatesStep)))


def test_a_template_without_words_is_refused():
    with pytest.raises(RedoneError, match="min_words: 0"):
        read_config(TemplatesConfig, {"min_words": 0}, where="recipe.yaml", path="curate.templates")


def test_posts_without_any_template_stand_alone(tmp_path):
    assert measured(tmp_path, {"a": ["好", "😂"]}) == [("好", 1, 1, None), ("😂", 1, 1, None)]
