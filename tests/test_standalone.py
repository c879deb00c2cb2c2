"""The verbs that do one step over files: what they write, and that it is what a recipe would do."""

import json
from pathlib import Path

import polars as pl
import pytest
from small_run import redone, redone_here

from redone_data.errors import RedoneError
from redone_data.standalone import Files, run

WORDS = ["river", "garden", "window", "copper", "market", "summer", "letter", "bridge", "silver", "forest"]
WORDS += ["planet", "coffee", "winter"]


def sentence(seed: int) -> str:
    return " ".join(WORDS[(seed * 7 + i * (seed + 3)) % len(WORDS)] + str(seed) for i in range(12))


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Eight posts: two equal, two nearly, one Chinese, one with a telephone number, one of two words."""
    texts = [sentence(i) for i in range(3)] + [sentence(0), sentence(1) + " 😂", "今天天气真好我们去公园玩吧"]
    texts += [f"call me on 13800138000 please {sentence(9)}", "hello there"]
    rows = [{"no": i, "body": text, "likes": i % 4, "shop": "a"} for i, text in enumerate(texts)]
    path = tmp_path / "posts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def files(path: Path, **changes: object) -> Files:
    return Files((str(path),), text_field="body", id_field="no", **changes)  # type: ignore[arg-type]


def test_dedup_keeps_or_names_every_record_by_its_own_id(posts: Path, tmp_path: Path) -> None:
    result = run("dedup", files(posts, engagement=("likes",), carry=("shop",)), tmp_path / "out")
    kept, duplicates = (pl.read_parquet(result.tables[name]) for name in ("kept", "duplicates"))
    assert sorted([*kept["id"], *duplicates["id"]]) == sorted(map(str, range(8)))
    rows = {row["id"]: row for row in duplicates.to_dicts()}
    assert rows["0"] == {"id": "0", "duplicate_of": "3", "similarity": 1.0, "kind": "exact"}  # 3 has more likes
    assert (rows["4"]["duplicate_of"], rows["4"]["kind"]) == ("1", "near")
    assert set(duplicates["duplicate_of"]) <= set(kept["id"])
    assert result.documents == 8
    assert result.counts == {"kept": 6, "exact_duplicate": 1, "near_duplicate": 1}
    assert {json.loads(meta)["shop"] for meta in kept["meta"]} == {"a"}
    only_exact = run("dedup", files(posts), tmp_path / "exact", {"curate": {"near": {"enabled": False}}})
    assert only_exact.counts == {"kept": 7, "exact_duplicate": 1}


def test_dedup_touches_no_text_and_does_not_redact(posts: Path, tmp_path: Path) -> None:
    kept = pl.read_parquet(run("dedup", files(posts), tmp_path / "out").tables["kept"])
    assert any("13800138000" in text for text in kept["text"])


def test_redact_masks_and_counts(posts: Path, tmp_path: Path) -> None:
    result = run("redact", files(posts), tmp_path / "out")
    table = pl.read_parquet(result.tables["redacted"])
    assert table.height == 8
    assert [text for text in table["text"] if "<PHONE>" in text] == [f"call me on <PHONE> please {sentence(9)}"]
    assert result.counts == {"phone": 1}


def test_language_names_the_language_of_every_record(posts: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(run("language", files(posts), tmp_path / "out").tables["languages"])
    assert table.columns == ["id", "language", "language_confidence"]
    assert dict(zip(table["id"], table["language"], strict=True))["5"].startswith("zh")
    assert table.height == 8


def test_rules_give_the_reason_and_a_changed_bound_measures_nothing_again(posts: Path, tmp_path: Path) -> None:
    preset = {"domains": {"documents": {"rules": {"preset": "sns"}}}}
    result = run("rules", files(posts), tmp_path / "out", preset)
    assert pl.read_parquet(result.tables["dropped"]).to_dicts() == [
        {"id": "7", "rule": "too_few_words", "value": 2.0, "bound": 3.0}
    ]
    assert result.counts == {"kept": 7, "too_few_words": 1}  # duplicates stay: nobody asked
    assert pl.read_parquet(result.tables["attributes"])["num_words"].min() == 2
    measured = {path.name for path in (tmp_path / "out" / "steps").glob("metrics-*")}
    changed = files(posts, assignments=("domains.documents.rules.bounds.num_words.min=13",))
    assert run("rules", changed, tmp_path / "out", preset).counts["too_few_words"] > 1
    assert {path.name for path in (tmp_path / "out" / "steps").glob("metrics-*")} == measured


def test_a_wrong_field_or_key_says_what_to_do(posts: Path, tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match=r"field 'text' is missing.*body"):
        run("dedup", Files((str(posts),)), tmp_path / "out")
    with pytest.raises(RedoneError, match=r"unknown key; did you mean 'threshold'"):
        run("dedup", files(posts, assignments=("curate.near.treshold=1",)), tmp_path / "out")
    with pytest.raises(RedoneError, match="no files matched"):
        run("dedup", files(tmp_path / "none-*.jsonl"), tmp_path / "out")


@pytest.mark.parametrize(
    ("verb", "table"),
    [("dedup", "duplicates"), ("redact", "redacted"), ("language", "languages"), ("rules", "attributes")],
)
def test_each_verb_runs_from_the_command_line_twice(verb: str, table: str, posts: Path, tmp_path: Path) -> None:
    arguments = (verb, posts, "--out", tmp_path / "out", "--text-field", "body", "--id-field", "no", "--json")
    first = redone(*arguments)
    assert first.code == 0, first.err
    said = json.loads(first.out)
    assert said["documents"] == 8
    before = Path(said["tables"][table]).read_bytes()
    assert redone_here(*arguments).out == first.out
    assert Path(said["tables"][table]).read_bytes() == before
