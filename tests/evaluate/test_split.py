"""A benchmark cut in two: no post on both sides, enough items in every file, conversations that the trainer reads."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import read_conversations
from redone_train.cli import app
from redone_train.evaluate.items import Item
from redone_train.evaluate.sns_bench import SnsBench
from redone_train.evaluate.split import split

WORDS = ["lantern", "pebble", "harbour", "violin", "teapot", "meadow", "cinder", "walnut", "ribbon", "saddle"]


def items_of(folder: Path) -> list[Item]:
    bench = SnsBench(folder, shots=0)
    return [item for task in bench.tasks for item in bench.items(task)]


def note(number: int) -> str:
    """Ten words that no other note has in this order."""
    return " ".join(f"{word}{number}" for word in WORDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files over the same posts, 20 each, and a copy of each post with another ending in the second."""
    bench = tmp_path / "bench"
    bench.mkdir()
    single = [{"content": note(n), "candidates": "A, B", "answer": "A"} for n in range(20)]
    reading = [{"content": note(n) + " again", "query": "what", "answer": [WORDS[0]]} for n in range(20)]
    (bench / "Note-Hashtag-single.json").write_text(json.dumps(single), encoding="utf-8")
    (bench / "Note-MRC-simple.json").write_text(json.dumps(reading), encoding="utf-8")
    return bench


def test_no_post_is_on_both_sides_not_even_an_edited_copy(folder: Path, tmp_path: Path) -> None:
    found = split(folder, tmp_path / "out", num_test=4, seed=1)
    sides = {
        side: {str(item.meta["row"]["content"]).removesuffix(" again") for item in items_of(tmp_path / "out" / side)}
        for side in ("train", "test")
    }
    assert not sides["train"] & sides["test"]
    assert min(found.test.values()) >= 4
    for task in ("Note-Hashtag-single", "Note-MRC-simple"):
        assert found.train[task] + found.test[task] + found.left_out.get(task, 0) == 20
    assert sum(found.left_out.values()) > 0


def test_what_every_item_says_is_not_taken_for_a_copy(tmp_path: Path) -> None:
    rows = [
        {
            "content": f"{note(n)} Please write down all that you find worth a highlight in the text above",
            "answer": "No",
        }
        for n in range(30)
    ]
    (tmp_path / "Note-Gender.json").write_text(json.dumps(rows), encoding="utf-8")
    assert split(tmp_path, tmp_path / "out", num_test=5, seed=1).left_out == {}


def test_conversations_have_the_prompt_of_the_benchmark_and_its_gold(folder: Path, tmp_path: Path) -> None:
    split(folder, tmp_path / "out", num_test=4, seed=1)
    rows = {row.id: row for row in read_conversations(tmp_path / "out" / "train.jsonl")}
    items = items_of(tmp_path / "out" / "train")
    assert rows.keys() == {item.id for item in items}
    for item in items:
        *prompt, answer = rows[item.id].messages
        assert [vars(message) for message in prompt] == list(item.messages)
        assert answer.content == (json.dumps(item.gold) if isinstance(item.gold, list) else item.gold)


def test_both_ways_of_a_translation_stay_together(tmp_path: Path) -> None:
    pairs = [
        {"zh": f"第{n}句", "en": f"sentence {n}", "src_lang": source, "dst_lang": target}
        for n in range(20)
        for source, target in (("zh", "en"), ("en", "zh"))
    ]
    (tmp_path / "RedTrans-Bench.json").write_text(json.dumps(pairs), encoding="utf-8")
    split(tmp_path, tmp_path / "out", num_test=6, seed=3)
    rows = {
        side: json.loads((tmp_path / "out" / side / "RedTrans-Bench.json").read_text()) for side in ("train", "test")
    }
    assert not {row["zh"] for row in rows["train"]} & {row["zh"] for row in rows["test"]}
    assert len(rows["test"]) == 12


def test_a_short_sentence_that_is_translated_twice_stays_on_one_side(tmp_path: Path) -> None:
    sides = [("zh", "en"), ("en", "zh")]
    pairs = [
        {"zh": f"这是第{n // 2}句很短很短的句子", "en": f"version {n} of it", "src_lang": source, "dst_lang": target}
        for n in range(60)
        for source, target in sides
    ]
    (tmp_path / "RedTrans-Bench.json").write_text(json.dumps(pairs), encoding="utf-8")
    found = split(tmp_path, tmp_path / "out", num_test=6, seed=1)
    files = {side: tmp_path / "out" / side / "RedTrans-Bench.json" for side in ("train", "test")}
    rows = {side: json.loads(file.read_text(encoding="utf-8")) for side, file in files.items()}
    assert not {row["zh"] for row in rows["train"]} & {row["zh"] for row in rows["test"]}
    assert sum(found.left_out.values()) > 0


def test_bad_splits_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match=r"Note-Hashtag-single: all of its posts .* --test 20 is too many"):
        split(folder, tmp_path / "out", num_test=20, seed=1)
    with pytest.raises(RedoneError, match="a new folder"):
        split(folder, folder, num_test=4, seed=1)
    with pytest.raises(RedoneError, match="neither SNS-Bench's files"):
        split(tmp_path / "nothing", tmp_path / "out", num_test=4, seed=1)


def test_the_verb_says_how_many_are_where(folder: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["split", str(folder), str(tmp_path / "out"), "--test", "4"])
    assert said.exit_code == 0
    assert "left_out: " in said.stdout
    assert (tmp_path / "out" / "split.json").is_file()
