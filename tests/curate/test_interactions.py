"""A note with its comments: who joins whom, in which order, within which limits, and that nobody is lost."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from curation import inputs, write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from redone_data.corpus import CORPUS_SCHEMA, Corpus
from redone_data.curate.groups import ExactStep, IdentifyStep
from redone_data.curate.interactions import (
    InteractionsConfig,
    SectionConfig,
    check_sources,
    group_interactions,
    thread_roots,
)
from redone_data.curate.read import ReadConfig, ReadStep
from redone_data.curate.sources import FieldsConfig, ParentConfig, SourceConfig
from redone_data.engine import Engine
from redone_data.errors import RedoneError

TO_NOTE = ParentConfig("note", "notes")
COMMENT_FIELDS = FieldsConfig(id="id", engagement=("likes",), created_at="at", parent=(TO_NOTE,))
NOTE_FIELDS = FieldsConfig(id="id", engagement=("likes",), created_at="at", meta=("place",))


def source(name: str, fields: FieldsConfig, pattern: str | None = None, **settings: Any) -> SourceConfig:
    return SourceConfig((pattern or f"{name}*.jsonl",), name=name, fields=fields, **settings)


class Grouped:
    """Notes and comments written to files, read, and grouped."""

    def __init__(
        self,
        folder: Path,
        records: dict[str, Sequence[dict[str, Any]]],
        fields: dict[str, FieldsConfig] | None = None,
        part_bytes: int = 1 << 20,
        **config: Any,
    ) -> None:
        fields = fields or {"notes": NOTE_FIELDS, "comments": COMMENT_FIELDS}
        engine = Engine(folder / "run")
        steps = []
        for name, rows in records.items():
            write_jsonl(folder / f"{name}.jsonl", rows)
            described = source(name, fields.get(name, COMMENT_FIELDS))
            read = ReadConfig(part_bytes=part_bytes)
            steps.append(ReadStep("sns", described, read, tuple(inputs(described, folder))))
        self.reads = engine.run_all(steps)
        grouped = group_interactions(engine, "sns", self.reads, InteractionsConfig(**config), part_bytes)
        self.output = grouped.documents
        self.engine = engine
        parts = [path for path in self.output.files(".parquet") if path.name.startswith("part")]
        self.documents = pl.concat([pl.read_parquet(path) for path in parts])
        self.ledger = pl.concat(
            [
                pl.read_parquet(path).with_columns(pl.col(pl.Categorical).cast(pl.String))
                for path in grouped.ledger_files()
            ]
        )

    @property
    def texts(self) -> list[str]:
        return sorted(self.documents["text"].to_list())

    @property
    def reasons(self) -> dict[str, int]:
        return dict(self.ledger["rule"].value_counts().iter_rows())

    @property
    def members(self) -> list[str]:
        metas = [json.loads(meta or "{}") for meta in self.documents["meta"]]
        return [member for meta in metas for member in meta.get("interactions", {}).get("members", [])]


def note(key: Any, text: str, likes: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": key, "text": text, "likes": likes, **more}


def comment(key: Any, to: Any, text: str, likes: int = 0, at: int = 1_700_000_000) -> dict[str, Any]:
    return {"id": key, "note": to, "text": text, "likes": likes, "at": at}


def test_comments_follow_their_note_most_liked_first(tmp_path):
    notes = [note(1, "noodles"), note(2, "tents")]
    comments = [comment(1, 1, "spicy!", 2), comment(2, 2, "windy", 1), comment(3, 1, "where?", 9)]
    grouped = Grouped(tmp_path, {"notes": notes, "comments": comments})
    assert grouped.texts == ["noodles\n评论：where?\n评论：spicy!", "tents\n评论：windy"]
    assert grouped.ledger.is_empty()


def test_comments_follow_in_order_of_time_when_asked(tmp_path):
    comments = [comment(1, 1, "late", 9, at=1_700_000_300), comment(2, 1, "early", 0, at=1_700_000_100)]
    grouped = Grouped(tmp_path, {"notes": [note(1, "noodles")], "comments": comments}, order="time")
    assert grouped.texts == ["noodles\n评论：early\n评论：late"]


def test_the_note_keeps_its_own_id_engagement_moment_and_meta(tmp_path):
    records = {"notes": [note(1, "noodles", 7, place="Hangzhou")], "comments": [comment(1, 1, "spicy!", 99)]}
    grouped = Grouped(tmp_path, records)
    before = pl.read_parquet(grouped.reads[0].files(".parquet")[0]).row(0, named=True)
    after = grouped.documents.row(0, named=True)
    for name in ("key_hi", "key_lo", "domain", "source", "created_at", "engagement"):
        assert after[name] == before[name]
    assert json.loads(after["meta"])["place"] == "Hangzhou"
    assert after["text_hi"] != before["text_hi"]


def test_a_reply_to_a_reply_joins_the_note_at_the_head_of_its_thread(tmp_path):
    fields = FieldsConfig(id="id", parent=(ParentConfig("to", "posts"),))
    posts: list[dict[str, Any]] = [{"id": 0, "text": "note"}]
    posts += [{"id": i, "to": i - 1, "text": f"reply {i:02d}"} for i in range(1, 40)]
    grouped = Grouped(tmp_path, {"posts": posts}, {"posts": fields})
    assert len(grouped.texts) == 1
    assert grouped.texts[0].count("评论：reply") == 39


def test_the_first_parent_field_with_a_value_counts_and_a_prefix_bridges_ids(tmp_path):
    parents = (ParentConfig("to", "comments"), ParentConfig("note", "notes", "n-"))
    fields = {"notes": NOTE_FIELDS, "comments": FieldsConfig(id="id", parent=parents)}
    comments = [{"id": "a", "note": "1", "text": "first"}, {"id": "b", "to": "a", "note": "gone", "text": "second"}]
    grouped = Grouped(tmp_path, {"notes": [note("n-1", "noodles")], "comments": comments}, fields)
    assert len(grouped.texts) == 1
    assert sorted(grouped.texts[0].split("\n")) == ["noodles", "评论：first", "评论：second"]


def test_a_note_and_a_comment_with_the_same_number_are_not_mixed_up(tmp_path):
    records = {"notes": [note(5, "noodles")], "comments": [comment(5, 5, "spicy!")]}
    assert Grouped(tmp_path, records).texts == ["noodles\n评论：spicy!"]


def test_queries_stand_in_their_own_section_before_comments(tmp_path):
    sections = (SectionConfig("queries", "搜索："), SectionConfig("comments", "评论："))
    records = {
        "notes": [note(1, "noodles")],
        "comments": [comment(1, 1, "spicy!", 9)],
        "queries": [comment(1, 1, "noodles near me", 1)],
    }
    grouped = Grouped(tmp_path, records, sections=sections)
    assert grouped.texts == ["noodles\n搜索：noodles near me\n评论：spicy!"]


def test_limits_drop_the_least_liked_comments_with_their_reason_and_value(tmp_path):
    comments = [comment(i, 1, f"comment {i:03d}", 100 - i) for i in range(10)]
    grouped = Grouped(tmp_path / "a", {"notes": [note(1, "n" * 50)], "comments": comments}, max_comments=4)
    assert grouped.texts[0].count("评论：") == 4
    assert "comment 003" in grouped.texts[0]
    assert grouped.reasons == {"too_many_comments": 6}
    assert sorted(grouped.ledger["value"].to_list()) == [5, 6, 7, 8, 9, 10]
    # Each line is a separator, a prefix of three characters and eleven of text: 50 + 4 * 15 = 110.
    grouped = Grouped(tmp_path / "b", {"notes": [note(1, "n" * 50)], "comments": comments}, max_chars=110)
    assert len(grouped.texts[0]) == 110
    assert grouped.reasons == {"over_length": 6}
    assert grouped.ledger["bound"].unique().to_list() == [110]


def test_a_note_longer_than_the_limit_stays_whole(tmp_path):
    records = {"notes": [note(1, "n" * 500)], "comments": [comment(1, 1, "spicy!")]}
    grouped = Grouped(tmp_path, records, max_chars=100)
    assert grouped.texts == ["n" * 500]
    assert grouped.reasons == {"over_length": 1}


def test_a_comment_that_repeats_the_note_or_another_comment_is_dropped_and_names_it(tmp_path):
    comments = [comment(1, 1, "noodles"), comment(2, 1, "same", 9), comment(3, 1, "same", 5), comment(4, 2, "same")]
    grouped = Grouped(tmp_path, {"notes": [note(1, "noodles"), note(2, "tents")], "comments": comments})
    assert grouped.texts == ["noodles\n评论：same", "tents\n评论：same"]
    assert grouped.reasons == {"repeated_comment": 2}
    ids = {f"{row['key_hi']:016x}{row['key_lo']:016x}" for row in grouped.documents.iter_rows(named=True)}
    assert set(grouped.ledger["duplicate_of"]) <= ids | set(grouped.members)


def test_a_comment_crawled_twice_joins_once(tmp_path):
    comments = [comment(1, 1, "spicy!", 3), comment(1, 1, "spicy! (edited)", 8)]
    grouped = Grouped(tmp_path, {"notes": [note(1, "noodles")], "comments": comments})
    assert grouped.texts == ["noodles\n评论：spicy! (edited)"]
    assert grouped.reasons == {"repeated_id": 1}
    assert grouped.ledger["id"][0] not in grouped.members


def test_a_note_crawled_twice_is_one_document_with_all_comments(tmp_path):
    notes = [note(1, "noodles", 1), note(1, "noodles (edited)", 5)]
    grouped = Grouped(tmp_path, {"notes": notes, "comments": [comment(1, 1, "spicy!")]})
    assert grouped.texts == ["noodles (edited)\n评论：spicy!"]
    assert grouped.reasons == {"repeated_id": 1}


def test_too_short_comments_go_and_line_breaks_inside_a_comment_become_spaces(tmp_path):
    comments = [comment(1, 1, "？"), comment(2, 1, "one\n\n two")]
    grouped = Grouped(tmp_path, {"notes": [note(1, "a\nb")], "comments": comments})
    assert grouped.texts == ["a\nb\n评论：one two"]
    assert grouped.reasons == {"short_comment": 1}


def test_orphans_are_kept_as_notes_of_their_own_or_dropped_with_their_replies(tmp_path):
    parents = (ParentConfig("to", "comments"), TO_NOTE)
    fields = {"notes": NOTE_FIELDS, "comments": FieldsConfig(id="id", parent=parents)}
    comments = [comment(1, "gone", "orphan"), {"id": 2, "to": 1, "text": "reply"}, {"id": 3, "text": "answers nothing"}]
    records = {"notes": [note(1, "noodles")], "comments": comments}
    kept = Grouped(tmp_path / "keep", records, fields)
    assert kept.texts == ["answers nothing", "noodles", "orphan\n评论：reply"]
    dropped = Grouped(tmp_path / "drop", records, fields, orphans="drop")
    assert dropped.texts == ["answers nothing", "noodles"]
    assert dropped.reasons == {"orphan": 2}


def test_replies_in_a_circle_are_orphans_and_do_not_hang(tmp_path):
    fields = FieldsConfig(id="id", parent=(ParentConfig("to", "posts"),))
    posts = [{"id": i, "to": (i + 1) % 3, "text": f"post {i}"} for i in range(3)] + [{"id": 9, "to": 9, "text": "self"}]
    assert len(Grouped(tmp_path / "keep", {"posts": posts}, {"posts": fields}).texts) == 4
    posts.append({"id": 7, "text": "note"})
    assert Grouped(tmp_path / "drop", {"posts": posts}, {"posts": fields}, orphans="drop").texts == ["note"]


def many(seed: int) -> dict[str, list[dict[str, Any]]]:
    draw = random.Random(seed)
    notes = [note(i, f"note {i} " + "x" * draw.randrange(200), draw.randrange(5)) for i in range(30)]
    words = ["哈哈", "ok", "！", "好吃", "in der Tat", "where is it", "so cheap " * 8]
    comments = []
    for i in range(600):
        key, text = draw.randrange(500), draw.choice(words) + draw.choice(["", "!", str(i)])
        comments.append(comment(key, key % 34, text, draw.randrange(4)))
    return {"notes": notes, "comments": comments}


LIMITS = {"max_comments": 7, "max_chars": 300, "orphans": "drop"}


def test_every_record_is_in_one_document_or_in_the_ledger(tmp_path):
    grouped = Grouped(tmp_path, many(1), **LIMITS)
    assert len(grouped.documents) == 30
    everyone = grouped.members + grouped.ledger["id"].to_list()
    assert len(everyone) == len(set(everyone)) == 600
    assert set(grouped.reasons) == {
        "orphan", "repeated_comment", "repeated_id", "short_comment", "too_many_comments", "over_length",
    }  # fmt: skip
    assert grouped.output.statistics["documents"] == 630
    assert sum(grouped.output.statistics["dropped"].values()) == len(grouped.ledger)
    assert max(map(len, grouped.texts)) <= 300


def test_the_order_of_records_and_files_changes_nothing(tmp_path):
    records = many(2)
    expected = Grouped(tmp_path / "a", records, **LIMITS)
    shuffled = {name: random.Random(5).sample(rows, len(rows)) for name, rows in reversed(records.items())}
    found = Grouped(tmp_path / "b", shuffled, part_bytes=4_000, **LIMITS)
    assert found.texts == expected.texts
    assert sorted(found.members) == sorted(expected.members)
    assert found.reasons == expected.reasons
    assert len(found.output.files(".keys.arrow")) > 1


def test_a_second_run_writes_the_same_bytes(tmp_path):
    first, again = Grouped(tmp_path / "a", many(3), **LIMITS), Grouped(tmp_path / "b", many(3), **LIMITS)
    assert first.output.manifest == again.output.manifest


def test_later_steps_take_the_grouped_documents_for_a_read(tmp_path):
    grouped = Grouped(tmp_path, many(4))
    corpus = Corpus.of([grouped.output])
    assert corpus.domains == ("sns",)
    assert corpus.num_rows == len(grouped.documents)
    assert corpus.parts[0].read(CORPUS_SCHEMA.names).schema.equals(CORPUS_SCHEMA)
    for step in (IdentifyStep(corpus), ExactStep(corpus)):
        assert sum(task["rows"] for task in grouped.engine.run(step).tasks) == corpus.num_rows


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=30), st.sampled_from(["keep", "drop"]))
def test_thread_roots_equal_walking_up_one_reply_at_a_time(above, orphans):
    size = len(above)
    parents = {i: parent for i, parent in enumerate(above) if parent != i and parent < size and i % 3}

    def walk(row: int) -> int:
        seen = [row]
        while seen[-1] in parents:
            if parents[seen[-1]] < 0 or parents[seen[-1]] in seen:
                lost = parents[seen[-1]] >= 0
                return -1 if orphans == "drop" else row if lost else seen[-1]
            seen.append(parents[seen[-1]])
        return seen[-1]

    rows = np.array(sorted(parents), dtype=np.int64)
    found = thread_roots(size, rows, np.array([parents[i] for i in rows], dtype=np.int64), orphans)
    assert found.tolist() == [walk(i) for i in range(size)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_chars": 0}, "max_chars: 0"),
        ({"separator": ""}, "separator"),
        ({"sections": (SectionConfig("a", ""),) * 2}, "two sections"),
    ],
)
def test_impossible_settings_are_refused(config, message):
    with pytest.raises(RedoneError, match=message):
        InteractionsConfig(**config)


def test_sources_that_cannot_be_joined_are_refused_with_a_remedy():
    notes, comments = source("notes", NOTE_FIELDS), source("comments", COMMENT_FIELDS)
    check_sources(InteractionsConfig(), [notes, comments], "sns")
    with pytest.raises(RedoneError, match=r"set fields\.parent"):
        check_sources(InteractionsConfig(), [notes], "sns")
    with pytest.raises(RedoneError, match="no source 'notes'"):
        check_sources(InteractionsConfig(), [comments], "sns")
    with pytest.raises(RedoneError, match=r"set its fields\.id"):
        check_sources(InteractionsConfig(), [source("notes", FieldsConfig()), comments], "sns")
    with pytest.raises(RedoneError, match=r"interactions\.sections"):
        check_sources(InteractionsConfig(sections=(SectionConfig("query", "？"),)), [notes, comments], "sns")
