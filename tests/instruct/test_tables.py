"""Tables: every format alike, joins, sessions, named errors, and a split that holds across files."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from redone_data.config import read_config
from redone_data.errors import RedoneError
from redone_data.instruct.tables import Table, TableConfig, document_name, read_table, split_of

ROWS = [{"id": f"p{i}", "text": f"post {i} 帖子", "meta": {"mood": i % 2}} for i in range(6)]
POSTS = {
    "paths": ["posts.jsonl"],
    "id": "id",
    "lang": "en",
    "columns": {"text": "text", "label": {"name": "meta.mood", "values": {"0": "bad", "1": "good"}}},
}


def table(folder: Path, **tables: dict[str, Any]) -> Table:
    """The first of some tables."""
    configs = {name: read_config(TableConfig, values, where="r.yaml", path=name) for name, values in tables.items()}
    return read_table(next(iter(tables)), configs, folder)


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    write(tmp_path / "posts.jsonl", ROWS)
    frame = table(tmp_path, posts=POSTS).frame
    assert frame["label"].to_list() == ["bad", "good"] * 3
    (tmp_path / "posts.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "posts.jsonl.gz").write_bytes(gzip.compress((tmp_path / "posts.jsonl").read_bytes()))
    pl.DataFrame(ROWS).write_parquet(tmp_path / "posts.parquet")
    flat = [{"id": row["id"], "text": row["text"], "meta.mood": row["meta"]["mood"]} for row in ROWS]
    pl.DataFrame(flat).write_csv(tmp_path / "posts.csv")
    pl.DataFrame(flat).write_csv(tmp_path / "posts.tsv", separator="\t")
    for name in ("posts.json", "posts.jsonl.gz", "posts.parquet", "posts.csv", "posts.tsv"):
        assert table(tmp_path, posts={**POSTS, "paths": [name]}).frame.equals(frame), name


def test_the_order_of_rows_and_files_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "posts.jsonl", ROWS)
    frame = table(tmp_path, posts=POSTS).frame
    write(tmp_path / "a.jsonl", ROWS[:1:-1])
    write(tmp_path / "z.jsonl", ROWS[:2])
    assert table(tmp_path, posts={**POSTS, "paths": ["[az].jsonl"]}).frame.equals(frame)


def test_texts_are_cut_as_the_columns_say(tmp_path: Path) -> None:
    write(
        tmp_path / "t.jsonl", [{"t": "Query: tea\nNote: 茶 #green# and #black#", "c": "a, b, a", "q": "['x', \"y's\"]"}]
    )
    columns = {
        "query": {"name": "t", "extract": "Query: (.*)"},
        "note": {"name": "t", "remove": "(?s)^.*Note:|#"},
        "tags": {"name": "t", "find": "#([^# ]+)#"},
        "options": {"name": "c", "split": ","},
        "quoted": {"name": "q", "quoted_list": True},
    }
    made = table(tmp_path, t={"paths": ["t.jsonl"], "document_text": "note", "lang": "zh", "columns": columns})
    row = made.frame.select(list(columns)).row(0)
    assert row == ("tea", "茶 green and black", ["green", "black"], ["a", "b"], ["x", "y's"])


def test_a_comment_meets_its_post_and_the_comment_it_answers(tmp_path: Path) -> None:
    write(tmp_path / "posts.jsonl", ROWS)
    comments = [
        {"id": "c1", "text": "first", "post": "0", "parent": None},
        {"id": "c2", "text": "second", "post": "0", "parent": "c1"},
        {"id": "c3", "text": "lost", "post": "99", "parent": "c1"},
    ]
    write(tmp_path / "comments.jsonl", comments)
    config = {
        "paths": ["comments.jsonl"],
        "id": "id",
        "document": {"name": "post", "prefix": "p"},
        "lang": "en",
        "columns": {"text": "text", "post_id": {"name": "post", "prefix": "p"}, "answered": "parent"},
        "join": [
            {"table": "posts", "by": "post_id", "columns": {"post": "text"}},
            {"table": "comments", "by": "answered", "columns": {"parent": "text"}},
        ],
    }
    made = table(tmp_path, comments=config, posts=POSTS)
    assert made.frame.select("row", "document", "post", "parent").rows() == [("c2", "p0", "post 0 帖子", "first")]
    assert made.frame["documents"][0].to_list() == ["p0", "c2", "c1"]
    assert sorted(made.dropped.select("row", "rule").rows()) == [("c1", "no_partner"), ("c3", "no_partner")]


def test_a_log_becomes_sessions_in_the_order_of_time(tmp_path: Path) -> None:
    log = [{"id": f"q{i}", "user": f"u{i % 2}", "time": 20 - i, "text": f"query {i}"} for i in range(9)]
    write(tmp_path / "log.jsonl", log)
    config = {
        "paths": ["log.jsonl"],
        "id": "id",
        "lang": "en",
        "columns": {"text": "text", "user": "user", "time": "time"},
        "session": {"by": "user", "order": "time", "size": 3, "min_size": 3},
    }
    made = table(tmp_path, log=config)
    assert made.frame.select("document", "text").rows() == [("u1", "query 3"), ("u0", "query 4")]
    assert made.frame["history"].to_list() == [["query 7", "query 5"], ["query 8", "query 6"]]
    assert made.dropped["rule"].to_list() == ["short_session", "short_session"]


def test_a_record_with_several_questions_becomes_several_rows(tmp_path: Path) -> None:
    write(tmp_path / "wiki.jsonl", [{"id": "w", "text": "page", "meta": {"qas": [{"q": "who"}, {"q": "when"}]}}])
    config = {"paths": ["wiki.jsonl"], "id": "id", "lang": "en", "explode": "meta.qas", "columns": {"query": "item.q"}}
    assert table(tmp_path, wiki=config).frame["query"].to_list() == ["who", "when"]


def test_the_same_note_in_two_files_is_in_the_same_split(tmp_path: Path) -> None:
    notes = [
        f"Ｎote {i}: what to see in town number {i}, and where to eat when it is late and the last train has left!"
        for i in range(200)
    ]
    write(tmp_path / "taxonomy.jsonl", [{"t": note} for note in notes])
    write(tmp_path / "hashtags.jsonl", [{"t": note.replace("Ｎ", "n").upper() + " ... more of it"} for note in notes])
    splits = []
    for name in ("taxonomy", "hashtags"):
        config = {"paths": [f"{name}.jsonl"], "document_text": "text", "lang": "en", "columns": {"text": "t"}}
        frame = table(tmp_path, t=config).frame
        splits.append(frame.select("document", split=split_of(frame["document"], 7, 0.3)).sort("document"))
    assert splits[0].equals(splits[1])
    assert 30 < (splits[0]["split"] == "held_out").sum() < 90
    assert not splits[0]["split"].equals(split_of(splits[0]["document"], 8, 0.3))
    assert document_name("...") == "..."


def test_rows_of_unknown_labels_and_without_ids_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path / "posts.jsonl",
        [*ROWS, {"id": "p9", "text": "x", "meta": {"mood": 7}}, {"text": "y", "meta": ROWS[0]["meta"]}],
    )
    made = table(tmp_path, posts=POSTS)
    assert made.frame.height == 6
    assert made.dropped.select("row", "rule").rows() == [("posts.jsonl#7", "unknown_label"), (None, "missing_value")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"id": "a", "text": "b", "meta": {"mood": 1}}\n{"id": \n', r"posts\.jsonl line 2: not valid JSON"),
        (
            '{"id": "a", "text": "b", "meta": {"mood": 1}}\n{"id": "b", "text": 3}\n',
            "line 2: column 'text': a whole number",
        ),
        ('{"id": "a", "text": {"b": 1}}\n', "line 1: column 'text': text, a number"),
        ('{"id": "a", "text": true}\n', "line 1: column 'text': true/false"),
        ("[1, 2]\n", "line 1: a JSON object is expected"),
        ('{"id": "a", "txt": "b", "meta": {"mood": 1}}\n', "column 'text': no record has field 'text'"),
        ("", "no row of posts.jsonl is left"),
    ],
)
def test_a_bad_file_names_line_and_field(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "posts.jsonl").write_text(lines)
    with pytest.raises(RedoneError, match=message):
        table(tmp_path, posts=POSTS)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "posts.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(RedoneError, match=r"posts\.parquet: cannot be read as parquet"):
        table(tmp_path, posts={**POSTS, "paths": ["posts.parquet"]})
    (tmp_path / "posts.jsonl.zst").write_bytes(b"no zstd at all")
    with pytest.raises(RedoneError, match=r"posts\.jsonl\.zst: cannot be read as jsonl"):
        table(tmp_path, posts={**POSTS, "paths": ["posts.jsonl.zst"]})
    with pytest.raises(RedoneError, match="no files matched 'none"):
        table(tmp_path, posts={**POSTS, "paths": ["none.jsonl"]})
    (tmp_path / "posts.json").write_text('[{"id": 1},\n oops]')
    with pytest.raises(RedoneError, match=r"posts\.json line 2: not valid JSON"):
        table(tmp_path, posts={**POSTS, "paths": ["posts.json"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {}}, "columns: at least one"),
        ({"columns": {"row": "text"}}, "the name is taken"),
        ({"columns": {"text": {"name": "text", "find": "("}}}, "not a regular expression"),
        ({"columns": {"text": {"name": "text", "find": "a", "split": ","}}}, "give one of them"),
        ({"id": None}, "id or document_text"),
        ({"document": "id", "document_text": "text"}, "give one of them"),
        ({"id": None, "document_text": "txt"}, "did you mean 'text'"),
        ({"join": [{"table": "posters", "by": "text", "columns": {"a": "text"}}]}, "did you mean 'posts'"),
        ({"join": [{"table": "posts", "by": "texts", "columns": {"a": "text"}}]}, "did you mean 'text'"),
        ({"session": {"by": "user", "order": "text"}}, "session.by: 'user'"),
        ({"session": {"by": "text", "order": "text", "size": 1}}, "2 <= min_size <= size"),
        ({"column": {}}, "did you mean 'columns'"),
    ],
)
def test_a_bad_table_of_a_recipe_says_what_to_mend(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path / "posts.jsonl", ROWS)
    with pytest.raises(RedoneError, match=message):
        table(tmp_path, posts={**POSTS, **change})
