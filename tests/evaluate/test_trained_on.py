"""What models were trained on and are measured by: planted leaks are found and named, wording is not, clean scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_eval import write_config
from sns_rows import write_bench
from tiny_model import write_model

from redone_data.errors import RedoneError
from redone_train.evaluate.config import load_evaluation
from redone_train.evaluate.items import Item
from redone_train.evaluate.results import Answered, Results
from redone_train.evaluate.sns_bench import SnsBench
from redone_train.evaluate.sns_sets import SnsSets
from redone_train.evaluate.terminal import WITHOUT
from redone_train.evaluate.trained_on import NOT_CHECKED, find_trained_on, read_documents, statement, training_files
from redone_train.evaluate.trans_bench import TransBench
from redone_train.evaluation import run_evaluation

WORDS = ["lantern", "pebble", "harbour", "violin", "teapot", "meadow", "cinder", "walnut", "ribbon", "saddle"]


def note(number: int) -> str:
    """Ten words that no other note has."""
    return " ".join(f"{word}{number}" for word in WORDS)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(question: str, answer: str = "fine", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more}


def found(texts: Any, trained_on: dict[str, list[str]], folder: Path, **asked: list[str]) -> dict[str, Any]:
    measured = {task: list(items) for task, items in texts.items()} | asked
    return find_trained_on(texts, measured, trained_on, folder, folder / "cache")


def test_a_planted_leak_is_found_in_every_kind_of_training_file_and_named_by_file_and_id(tmp_path: Path) -> None:
    write_lines(tmp_path / "sft.jsonl", [chat("hello", id="a"), chat(f"Sum up: {note(1).upper()}!", id="b")])
    two = [{"role": "assistant", "content": text} for text in (note(2), "no")]
    pair = {"prompt": [{"role": "user", "content": "say"}], "chosen": [two[1]], "rejected": [two[0]]}
    write_lines(tmp_path / "pairs.jsonl", [pair])
    write_lines(tmp_path / "raw.jsonl", [{"text": "nothing"}, {"text": note(3)}])
    (tmp_path / "run" / "corpus" / "notes").mkdir(parents=True)
    corpus = pa.table({"id": ["x", "y"], "text": [note(4), note(5)], "split": ["train", "validation"]})
    pq.write_table(corpus, tmp_path / "run" / "corpus" / "notes" / "part-00000.parquet")
    texts = {"t": {str(n): {"content": note(n)} for n in range(8)}}
    result = found(texts, {"m": ["*.jsonl", "run"]}, tmp_path)
    leaks = {item: one["documents"][0] for item, one in result["tasks"]["t"]["found"].items()}
    places = {item: (Path(leak["file"]).name, leak["document"]) for item, leak in leaks.items()}
    assert places == {
        "1": ("sft.jsonl", "b"),
        "2": ("pairs.jsonl", "line 1"),
        "3": ("raw.jsonl", "line 2"),
        "4": ("part-00000.parquet", "x"),
    }
    assert leaks["1"]["fraction"] == 1
    assert leaks["1"]["words"] == 10
    assert leaks["1"]["text"].lower() == note(1)
    documents = {Path(file["file"]).name: file["documents"] for file in result["models"]["m"]["files"]}
    assert documents == {"sft.jsonl": 2, "pairs.jsonl": 1, "raw.jsonl": 2, "part-00000.parquet": 1}


def test_what_was_held_out_from_training_was_not_trained_on(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [chat(note(1), split="held_out"), chat(note(2), split="train")])
    texts = {"t": {str(n): {"content": note(n)} for n in range(4)}}
    assert list(found(texts, {"m": ["a.jsonl"]}, tmp_path)["tasks"]["t"]["found"]) == ["2"]


def test_each_model_has_its_own_training_and_only_measured_items_are_reported(tmp_path: Path) -> None:
    write_lines(tmp_path / "first.jsonl", [chat(note(1)), chat(note(3))])
    write_lines(tmp_path / "second.jsonl", [chat(note(2))])
    texts = {"t": {str(n): {"content": note(n)} for n in range(4)} | {"short": {"content": "two words"}}}
    trained_on = {"sft": ["first.jsonl"], "dpo": [str(tmp_path / "first.jsonl"), "second.jsonl"]}
    result = found(texts, trained_on, tmp_path, t=["0", "1", "2", "short"])
    task = result["tasks"]["t"]
    assert {item: one["models"] for item, one in task["found"].items()} == {"1": ["sft", "dpo"], "2": ["dpo"]}
    assert task["short"] == ["short"]
    said = " ".join(statement(result, ["base", "sft", "dpo"]))
    assert "base: not checked" in said
    assert "sft: 1 of 4 items stand in what it was trained on: 2 documents" in said
    assert "dpo: 2 of 4 items stand in what it was trained on: 3 documents" in said
    assert "more than 50 %" in said
    assert statement(None, ["base"]) == [NOT_CHECKED]


def test_the_fixed_wording_of_prompts_and_the_options_are_no_overlap(tmp_path: Path) -> None:
    """A model that was tuned on the benchmark's own prompts, with other posts in them, was not trained on its items."""
    folder = tmp_path / "bench"
    folder.mkdir()
    tags = "Rainy Day Mood In The City Tonight, Car Loans For Young People Without Income"
    ask = "Please read the comment above and write all words worth a highlight as a list"
    hashtags = [{"content": note(n), "candidates": tags, "answer": tags.split(", ")[n % 2]} for n in range(20)]
    gender = [{"content": f"{note(100 + n)} {ask}", "answer": "No"} for n in range(20)]
    for name, rows in (("Note-Hashtag-single", hashtags), ("Note-Gender", gender)):
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    bench = SnsBench(folder)
    texts = {task: {item.id: bench.texts(item) for item in bench.items(task)} for task in bench.tasks}
    prompts = [[dict(turn) for turn in bench.items(task)[0].messages] for task in bench.tasks]
    for messages in prompts:
        for n in range(20):
            messages[-1]["content"] = (
                messages[-1]["content"].replace(note(n), note(900)).replace(note(100 + n), note(901))
            )
    rows = [{"messages": [*messages, {"role": "assistant", "content": tags}]} for messages in prompts]
    write_lines(tmp_path / "train.jsonl", [*rows, chat(f"{ask} {tags}"), chat(note(7))])
    # Eight of each file are asked; what is wording shows in all that the file has.
    asked = {task: list(items)[:8] for task, items in texts.items()}
    result = found(texts, {"m": ["train.jsonl"]}, tmp_path, **asked)
    assert [list(one["found"]) for one in result["tasks"].values()] == [[bench.items("Note-Hashtag-single")[7].id], []]


def test_of_a_set_the_post_is_looked_for_and_not_the_template_around_it(tmp_path: Path) -> None:
    """Of a short post in a template most words are the template's, and all that were tuned on the task have seen it."""
    path = write_config(tmp_path, {"base": "model"})
    rows = [{"id": f"p{n}", "text": note(n), "offensive": ("no", "yes")[n % 2]} for n in range(4)]
    write_lines(tmp_path / "posts.jsonl", rows)
    sets = SnsSets(load_evaluation(path).sets, tmp_path)
    items = sets.items("rude")
    texts = {"sets/rude": {one.id: sets.texts(one) for one in items}}
    assert {text for one in texts["sets/rude"].values() for text in one.values()} == {row["text"] for row in rows}
    prompts = [one.messages[-1]["content"] for one in items]
    strange = [
        chat(prompt.replace(note(n), note(800 + n))) for prompt in prompts for n in range(4) if note(n) in prompt
    ]
    write_lines(tmp_path / "train.jsonl", [*strange, chat(prompts[2])])
    assert list(found(texts, {"m": ["train.jsonl"]}, tmp_path)["tasks"]["sets/rude"]["found"]) == [items[2].id]


def test_of_a_translation_both_sides_are_looked_for(tmp_path: Path) -> None:
    zh = ["今天天气很好我们一起去海边看日出吧", "这家店的咖啡真的太好喝了推荐给大家"]
    pairs = [{"zh": zh[n], "en": note(n), "src_lang": "zh", "dst_lang": "en"} for n in range(2)]
    (tmp_path / "RedTrans-Bench.json").write_text(json.dumps(pairs), encoding="utf-8")
    bench = TransBench(tmp_path)
    items = bench.items("zh-en")
    texts = {"t": {one.id: bench.texts(one) for one in items}}
    write_lines(tmp_path / "a.jsonl", [chat(zh[0], "another translation"), chat("x", note(1))])
    leaks = found(texts, {"m": ["a.jsonl"]}, tmp_path)["tasks"]["t"]["found"]
    assert [leaks[one.id]["documents"][0]["field"] for one in items] == ["zh", "en"]


def item(number: int) -> Item:
    return Item(f"i{number}", "t", "made", ({"role": "user", "content": note(number)},), "x", {})


def test_a_score_without_what_was_trained_on_is_that_of_the_other_items(tmp_path: Path) -> None:
    from small_eval import mean_score

    items = [item(number) for number in range(6)]
    values = [100.0, 100.0, 0.0, 40.0, 20.0, 0.0]
    results = Results(["m"], seed=1, resamples=200)
    one = {"models": ["m"], "files": {"f": 1}, "documents": []}
    results.trained_on = {"tasks": {"made/t": {"n": 6, "short": [], "found": {"i0": one, "i1": one}}}, "models": {}}
    answers = [Answered("x")] * 6
    results.add("m", items, answers, mean_score("t", values))
    assert results.score("m", "made/t").value == pytest.approx(260 / 6)
    clean = results.clean("m", "made/t")
    assert clean.value == pytest.approx(15)
    assert clean.interval is not None
    assert 0 <= clean.interval[0] < 15 < clean.interval[1] <= 40
    assert set(np.round(clean.draws % 5, 6)) <= {0, 5}  # of the four clean values alone
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json").clean("m", "made/t").value == clean.value


def test_when_all_was_trained_on_there_is_no_clean_score() -> None:
    from small_eval import mean_score

    one = {"models": ["m"], "files": {"f": 1}, "documents": []}
    results = Results(["m"], seed=1, resamples=20)
    results.trained_on = {"tasks": {"made/t": {"n": 2, "short": [], "found": {"i0": one, "i1": one}}}, "models": {}}
    results.add("m", [item(0), item(1)], [Answered("x")] * 2, mean_score("t", [1.0, 2.0]))
    assert results.clean("m", "made/t").value is None


def test_training_text_passes_by_in_batches_whatever_the_file_holds(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "big.jsonl", [{"text": "x" * 1_500_000} for _ in range(8)])
    write_lines(tmp_path / "many.jsonl", [{"text": "x"} for _ in range(25_000)])
    assert [len(ids) for ids, _ in read_documents(path)] == [3, 3, 2]
    assert [len(ids) for ids, _ in read_documents(tmp_path / "many.jsonl")] == [10_000, 10_000, 5_000]


def test_many_copies_of_an_item_are_counted_and_a_few_of_them_kept(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [chat(note(1), id=str(n)) for n in range(40)])
    one = found({"t": {"1": {"content": note(1)}}}, {"m": ["a.jsonl"]}, tmp_path)["tasks"]["t"]["found"]["1"]
    assert list(one["files"].values()) == [40]
    assert len(one["documents"]) == 5


def test_what_was_looked_through_is_not_looked_through_again_until_a_file_changes(tmp_path: Path) -> None:
    texts = {"t": {str(n): {"content": note(n)} for n in range(4)}}
    path = write_lines(tmp_path / "a.jsonl", [chat(note(1))])
    found(texts, {"m": ["a.jsonl"]}, tmp_path)
    found(texts, {"m": ["a.jsonl"]}, tmp_path)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    write_lines(path, [chat(note(2)), chat("hello")])
    assert list(found(texts, {"m": ["a.jsonl"]}, tmp_path)["tasks"]["t"]["found"]) == ["2"]


def test_an_evaluation_says_what_was_trained_on_and_what_scores_are_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(write_model(tmp_path / "model", chat=False))
    path = write_config(tmp_path, {"base": base, "tuned": base}, sns_bench={"path": "bench", "tasks": ["Note-Gender"]})
    (tmp_path / "bench").mkdir()
    write_bench(tmp_path / "bench")
    rows = json.loads((tmp_path / "bench" / "Note-Gender.json").read_text(encoding="utf-8"))
    rows = [{**row, "content": note(place)} for place, row in enumerate(rows * 4)]
    (tmp_path / "bench" / "Note-Gender.json").write_text(json.dumps(rows), encoding="utf-8")
    run_evaluation(path)
    assert NOT_CHECKED in " ".join(capsys.readouterr().out.split())
    assert NOT_CHECKED in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    write_lines(tmp_path / "sft.jsonl", [chat(f"Title: {note(2)}", id="leaked")])
    path.write_text(path.read_text(encoding="utf-8") + "trained_on: {tuned: [sft.jsonl]}\n", encoding="utf-8")
    results = run_evaluation(path)
    task, n = "sns_bench/Note-Gender", len(rows)
    assert results.trained_on is not None
    (leak,) = results.trained_on["tasks"][task]["found"].values()
    assert leak["documents"][0]["document"] == "leaked"
    assert results.scores["base"][task]["clean"]["n"] == n - 1
    assert results.scores["base"]["sets/rude"]["clean"] is None
    shown = capsys.readouterr().out
    assert WITHOUT in shown
    assert "tuned: 1 of" in shown
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert "Trained on what is measured" in page
    assert "leaked" in page
    # Left out, it is not measured at all, and another takes its place where only some are asked.
    path.write_text(path.read_text(encoding="utf-8") + "leave_out_trained_on: true\nmax_items: 3\n", encoding="utf-8")
    others = run_evaluation(path)
    assert others.trained_on is not None
    assert others.trained_on["left_out"] == {task: 1}
    assert others.removed(task) == []
    assert len(others.tasks[task]["items"]) == 3
    assert "Not measured, because they stand in it: 1 items, of 1 tasks." in " ".join(capsys.readouterr().out.split())


def test_nothing_is_measured_when_all_of_a_task_was_trained_on(tmp_path: Path) -> None:
    base = str(write_model(tmp_path / "model", chat=False))
    settings = {"sns_bench": {"path": "bench", "tasks": ["Note-Gender"]}, "leave_out_trained_on": True}
    (tmp_path / "bench").mkdir()
    write_bench(tmp_path / "bench")
    rows = json.loads((tmp_path / "bench" / "Note-Gender.json").read_text(encoding="utf-8"))
    rows = [{**row, "content": note(place)} for place, row in enumerate(rows)]
    (tmp_path / "bench" / "Note-Gender.json").write_text(json.dumps(rows), encoding="utf-8")
    write_lines(tmp_path / "sft.jsonl", [chat(note(place)) for place in range(len(rows))])
    path = write_config(tmp_path, {"base": base}, trained_on={"base": ["sft.jsonl"]}, **settings)
    with pytest.raises(RedoneError, match="items of sns_bench/Note-Gender stand in what was trained on"):
        run_evaluation(path)


@pytest.mark.parametrize(
    ("trained_on", "message"),
    [
        ({"tunned": ["a.jsonl"]}, "trained_on.tunned: no such model; did you mean 'tuned'"),
        ({"tuned": ["nowhere.jsonl"]}, "trained_on.tuned: nowhere.jsonl: no such file"),
        ({"tuned": ["eval.yaml"]}, r"eval.yaml: conversations, pairs or documents as \.jsonl"),
        ({"tuned": ["empty.jsonl"]}, "empty.jsonl line 1: no text under messages, prompt"),
    ],
)
def test_training_text_that_cannot_be_read_is_said_before_a_model_is_loaded(
    tmp_path: Path, trained_on: dict[str, list[str]], message: str
) -> None:
    write_lines(tmp_path / "empty.jsonl", [{"words": "none"}])
    model = str(write_model(tmp_path / "model", chat=False))
    path = write_config(tmp_path, {"base": model, "tuned": model}, trained_on=trained_on)
    with pytest.raises(RedoneError, match=message):
        run_evaluation(path)
    assert not (tmp_path / "out" / "answers").exists()


def test_a_folder_is_its_conversations_and_documents(tmp_path: Path) -> None:
    (tmp_path / "set" / "more").mkdir(parents=True)
    write_lines(tmp_path / "set" / "b.jsonl", [chat("x")])
    write_lines(tmp_path / "set" / "more" / "a.jsonl", [chat("x")])
    (tmp_path / "set" / "manifest.json").write_text("{}", encoding="utf-8")
    names = [file.name for file in training_files(["set", "set/b.jsonl"], tmp_path, "trained_on.m")]
    assert names == ["b.jsonl", "a.jsonl"]
