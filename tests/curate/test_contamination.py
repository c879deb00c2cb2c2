"""Decontamination on planted copies of evaluation items, and of the files and errors around it."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation import sentence, write_jsonl
from reading import read_posts

from redone_data.config import read_config
from redone_data.corpus import Corpus
from redone_data.curate.attributes import Attributes
from redone_data.curate.contamination import (
    ContaminationConfig,
    ContaminationIndexStep,
    ContaminationStep,
    EvaluationIndex,
    EvaluationSet,
    Passage,
    contamination,
    evaluation_files,
    hit_table,
    read_hits,
    read_passages,
)
from redone_data.curate.sources import DigestCache
from redone_data.engine import Engine
from redone_data.errors import RedoneError

BOUND = 0.5
CONFIG = ContaminationConfig()
# Two draws of thirty share no run of eight.
HAN = [chr(code) for code in range(0x4E00, 0x5000)]


def chinese(seed: int, num_characters: int = 30) -> str:
    return "".join(np.random.default_rng(seed).choice(HAN, num_characters))


def index_of(*texts: str, config: ContaminationConfig = CONFIG) -> EvaluationIndex:
    return EvaluationIndex.of([Passage(f"bench/a.json#{i}", "q", text) for i, text in enumerate(texts, 1)], config)


def fractions(index: EvaluationIndex, *texts: str, config: ContaminationConfig = CONFIG) -> list[float]:
    found = contamination(pa.array(texts, pa.large_string()), index, config)
    return [round(value, 3) for value in found.frame["contamination_fraction"].to_list()]


def edited(text: str, every: int) -> str:
    """One unit in `every` replaced, from the middle of the first stretch."""
    words = text.split() if " " in text else list(text)
    words[every // 2 :: every] = ["zzz" if " " in text else "囍"] * len(words[every // 2 :: every])
    return (" " if " " in text else "").join(words)


@pytest.mark.parametrize("write", [lambda seed: sentence(seed, 24), lambda seed: chinese(seed, 40)], ids=["en", "zh"])
def test_every_kind_of_leak_is_found_and_nothing_else(write):
    items = [write(seed) for seed in range(60)]
    index = index_of(*items)
    glue = " " if " " in items[0] else ""
    leaks = {
        "verbatim": items,
        "upper case, other punctuation": [f"「{item.upper()}」！！" for item in items],
        "inside a long post": [
            glue.join([write(1000 + i), write(2000 + i), item, write(3000 + i)]) for i, item in enumerate(items)
        ],
        "cut off": [item[: int(len(item) * 0.7)] for item in items],
        "one unit in sixteen changed": [edited(item, 16) for item in items],
        "full width": ["".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in item) for item in items],
    }
    for kind, texts in leaks.items():
        found = contamination(pa.array(texts, pa.large_string()), index, CONFIG).frame
        caught = found["contamination_fraction"].to_numpy() > BOUND
        named = [item == f"bench/a.json#{i}" for i, item in enumerate(found["contamination_item"], 1)]
        assert np.mean(caught & np.array(named)) == 1.0, kind
    others = [write(10_000 + seed) for seed in range(2_000)]
    assert not np.any(np.array(fractions(index, *others)) > BOUND)


def test_a_cut_of_a_long_passage_counts_from_half_of_enough_words():
    index = index_of(sentence(1, 400))
    words = sentence(1, 400).split()
    assert fractions(index, " ".join(words[100:130]), " ".join(words[100:150]), " ".join(words[:8])) == [0.6, 1.0, 0.16]


def test_a_short_prompt_is_found_whole_and_only_whole():
    index = index_of("Which flute is easier to learn?")
    posts = ["so... WHICH flute is easier to learn, tell me", "which flute is easier to play", "is easier to learn"]
    assert fractions(index, *posts) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "prompt", ["Is it true?", "越来越不好吃了", "哈哈哈哈哈哈哈哈哈哈哈哈哈哈", "ha " * 20, "😂 @ann http://t.cn/a", ""]
)
def test_a_prompt_that_anyone_might_write_convicts_nobody(prompt):
    index = index_of(prompt, sentence(1))
    assert index.counts()["indexed_passages"] == 1
    assert fractions(index, prompt, f"{prompt} {prompt}") == [0.0, 0.0]


def test_the_wording_of_the_task_convicts_nobody_but_the_item_inside_it_still_does():
    task = "Please read the following note and choose the hashtag that fits it best from the list"
    items = [f"{task}: {sentence(seed, 12)}" for seed in range(11)]
    index = index_of(*items)
    assert fractions(index, task, f"{task}: {sentence(99)}", sentence(3, 12)) == [0.0, 0.0, 1.0]


def test_a_translation_is_not_found():
    index = index_of("今天在北京的一家小餐馆里吃到了非常好吃的山东菜下次还会再来")
    assert fractions(
        index, "Today I had very good Shandong food at a small restaurant in Beijing and will come again"
    ) == [0.0]


def test_of_two_items_the_one_found_most_is_named():
    index = index_of(sentence(1, 40), sentence(2, 40))
    text = " ".join([*sentence(1, 40).split()[:12], *sentence(2, 40).split()[:25]])
    found = contamination(pa.array([text]), index, CONFIG)
    assert found.frame["contamination_item"].to_list() == ["bench/a.json#2"]
    assert found.frame["contamination_words"].to_list() == [25]
    table = hit_table(pa.array([text]), pa.array(["id"]), found.hits, index)
    assert table["item"].to_pylist() == ["bench/a.json#2", "bench/a.json#1"]
    assert table["excerpt"].to_pylist()[0] == " ".join(sentence(2, 40).split()[:25])


# --- Evaluation sets -------------------------------------------------------------------------------------------------


def passages_of(folder: Path, name: str, *fields: str) -> list[Passage]:
    config = ContaminationConfig(sets={"s": EvaluationSet((name,), fields)})
    files = evaluation_files(config, folder, "recipe.yaml: curate.contamination", DigestCache())
    return [p for f in files for p in read_passages(f.set_name, f.evaluation, f.file)]


def test_items_are_read_from_every_format_alike(tmp_path):
    records = [{"question": "one, two", "answer": "three", "n": 4}, {"question": "five", "answer": "six", "n": 7}]
    write_jsonl(tmp_path / "a.jsonl", records)
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "b.json").write_text(json.dumps({"first": records[0], "second": records[1]}))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('question,answer\n"one, two",three\nfive,six\n')
    (tmp_path / "a.tsv").write_text("question\tanswer\none, two\tthree\nfive\tsix\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    for name in ("a.jsonl", "a.json", "b.json", "a.parquet", "a.csv", "a.tsv", "a.jsonl.gz"):
        assert passages_of(tmp_path, name) == [
            Passage(f"s/{name}#1", "question", "one, two"),
            Passage(f"s/{name}#1", "answer", "three"),
            Passage(f"s/{name}#2", "question", "five"),
            Passage(f"s/{name}#2", "answer", "six"),
        ]
        assert [p.text for p in passages_of(tmp_path, name, "answer")] == ["three", "six"]


def test_the_files_of_a_benchmark_are_one_set_though_each_has_its_own_fields(tmp_path):
    """As SNS-Bench's files are: JSON lists, the post under `content` or `sentence2`, labels beside it."""
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "Note-NER.json").write_text(json.dumps([{"question": "q", "content": "post", "answer": "a"}]))
    pair = {"sentence1": "query", "sentence2": "another post", "answer": "Yes"}
    (tmp_path / "test" / "Note-QueryCorr-explain.json").write_text(json.dumps([pair], indent=1))
    found = passages_of(tmp_path, "test/*.json", "content", "sentence2")
    assert {(p.item, p.field, p.text) for p in found} == {
        ("s/Note-NER.json#1", "content", "post"),
        ("s/Note-QueryCorr-explain.json#1", "sentence2", "another post"),
    }


def test_chats_and_lists_of_answers_are_items_too(tmp_path):
    record = {"messages": [{"role": "user", "content": "why"}], "answers": ["x", "y"], "gold": 3, "none": None}
    write_jsonl(tmp_path / "a.jsonl", [record])
    assert [p.text for p in passages_of(tmp_path, "a.jsonl")] == ["user", "why", "x", "y"]


def test_a_field_that_only_some_records_have_is_taken_where_it_is(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"query": "q"}, {"content": "c"}])
    assert [p.text for p in passages_of(tmp_path, "a.jsonl", "content", "query")] == ["q", "c"]


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ('{"question": "q"}', ("qestion",), r"a.jsonl: no record has the field 'qestion'; did you mean 'question'\?"),
        ('{"question": ', (), "a.jsonl: cannot be read as jsonl"),
        ("[1]", (), "a.jsonl record 1: not a record"),
        ("\x00", (), "a.jsonl: cannot be read as jsonl"),
    ],
)
def test_a_set_that_cannot_be_read_says_what_is_wrong(tmp_path, content, fields, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(RedoneError, match=message):
        passages_of(tmp_path, "a.jsonl", *fields)


def test_a_set_whose_files_are_missing_says_where_it_looked(tmp_path):
    with pytest.raises(RedoneError, match=r"contamination.sets.s.paths: no files matched 'no.json'"):
        passages_of(tmp_path, "no.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_words": 9}, "min_words <= ngram"),
        ({"max_items": 0}, "max_items: 0"),
        ({"report_from": 2}, "report_from: 2"),
        ({"sets": {"a": {"paths": []}}}, "at least one path"),
        ({"sets": {"a": {"paths": ["x"], "format": "warc"}}}, "format: warc"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(RedoneError, match=message):
        read_config(ContaminationConfig, values, where="recipe.yaml", path="curate.contamination")


# --- Steps -----------------------------------------------------------------------------------------------------------


def run_steps(engine: Engine, folder: Path, posts, items) -> tuple[Corpus, Attributes, pa.Table]:
    reads = read_posts(engine, folder, posts, part_bytes=1)
    write_jsonl(folder / "eval.jsonl", items)
    config = ContaminationConfig(sets={"mine": EvaluationSet(("eval.jsonl",), ("question",))})
    files = tuple(evaluation_files(config, folder, "recipe.yaml", DigestCache()))
    index = engine.run(ContaminationIndexStep(files, config))
    outputs = engine.run_all([ContaminationStep(read, index, config) for read in reads])
    corpus = Corpus.of(reads)
    return corpus, Attributes(corpus, tuple(outputs)), pa.concat_tables([read_hits(output) for output in outputs])


def test_attributes_and_hits_lie_beside_every_document(tmp_path):
    posts = {"a": [sentence(1), sentence(2)], "b": [sentence(3), f"look: {sentence(9)} wow"]}
    items = [{"question": sentence(9)}, {"question": sentence(8)}]
    corpus, attributes, hits = run_steps(Engine(tmp_path / "run"), tmp_path, posts, items)
    found = {}
    for part in corpus.parts:
        table = attributes.read(part, ["contamination_fraction", "contamination_words", "contamination_item"])
        found.update(zip(part.read(["text"])["text"].to_pylist(), table.to_pylist(), strict=True))
    clean = {"contamination_fraction": 0.0, "contamination_words": 0, "contamination_item": None}
    leaked = {"contamination_fraction": 1.0, "contamination_words": 20, "contamination_item": "mine/eval.jsonl#1"}
    assert found == {text: leaked if "look" in text else clean for texts in posts.values() for text in texts}
    hit = hits.to_pylist()
    assert [(h["item"], h["field"], h["excerpt"], h["start"]) for h in hit] == [
        ("mine/eval.jsonl#1", "question", sentence(9), 6)
    ]
    assert set(ContaminationStep.matches) == set(attributes.meanings())


def test_the_same_files_give_the_same_bytes_and_a_renamed_set_another_index(tmp_path):
    posts, items = {"a": [sentence(9)]}, [{"question": sentence(9)}]
    files = []
    for name in ("one", "two"):
        run_steps(Engine(tmp_path / name), tmp_path / name, posts, items)
        files.append(
            {
                p.relative_to(tmp_path / name): p.read_bytes()
                for p in (tmp_path / name / "steps").rglob("*.*")
                if p.is_file()
            }
        )
    assert files[0] == files[1]
    (tmp_path / "one" / "eval.jsonl").rename(tmp_path / "one" / "other.jsonl")
    config = ContaminationConfig(sets={"mine": EvaluationSet(("*.jsonl",), ("question",))})
    step = ContaminationIndexStep(
        tuple(
            evaluation_files(
                ContaminationConfig(sets={"mine": EvaluationSet(("other.jsonl",))}),
                tmp_path / "one",
                "r",
                DigestCache(),
            )
        ),
        config,
    )
    assert step.folder_name() not in {p.name for p in (tmp_path / "one" / "steps").iterdir()}


def test_an_index_without_a_single_usable_item_finds_nothing(tmp_path):
    _, attributes, hits = run_steps(Engine(tmp_path / "run"), tmp_path, {"a": ["a b c d e f g"]}, [{"question": "a b"}])
    assert hits.num_rows == 0
    assert attributes.histogram("a", "contamination_fraction")[1][0] == 1
