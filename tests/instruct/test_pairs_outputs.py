"""Pairs from model outputs: right against wrong by the task's own metric, of the same prompt, with a margin."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pair_data import LETTERS, check_conserved, choices, conversation, make, write_jsonl

from redone_data.rng import stream

LABELS = {"kind": "labels", "options": ["tea", "cake", "milk"]}


def sampled(tmp_path, rows, given, *options, **change):
    write_jsonl(tmp_path / "set.jsonl", rows)
    lines = [{"id": row["id"], "key": "k", "answers": texts} for row, texts in zip(rows, given, strict=True)]
    write_jsonl(tmp_path / "answers.jsonl", lines)
    outputs = {"conversations": ["set.jsonl"], "answers": ["answers.jsonl"], **change}
    outputs.setdefault("select", {"length": {"control": "off"}})
    made = make(tmp_path, {"outputs": {"mine": outputs}}, *options)
    if made.code == 0:
        check_conserved(made)
    return made


def test_a_right_answer_is_chosen_against_a_wrong_one_however_it_is_put(tmp_path):
    rows = choices(5)
    gold, other = (
        rows[1]["messages"][1]["content"],
        next(x for x in LETTERS if x != rows[1]["messages"][1]["content"]),
    )
    answers = [
        ["A", "B", "C", "D", "A"],
        [f"The answer is: {gold}.", f"Answer: {other}. Rain", f"The answer is: {gold}."],
        [rows[2]["messages"][1]["content"]] * 3,
        [*({"A", "B", "C", "D"} - {rows[3]["messages"][1]["content"]})],
        ["", " "],
    ]
    made = sampled(tmp_path, rows, answers)
    assert made.code == 0, made.said
    source = made.manifest["sets"]["mine"]["source"]
    assert source["rows_dropped"] == {"all_right": 1, "no_answer": 1, "none_right": 1}
    assert (source["answers"], source["answers_right"], source["answers_readable"]) == (4 + 2 + 1 + 3, 3, 10)
    told = {pair.prompt[0].content: pair for pair in made.pairs}
    pair = told[rows[1]["messages"][0]["content"]]
    assert (pair.chosen[0].content, pair.rejected[0].content) == (answers[1][0], answers[1][1])
    assert (pair.kind, pair.margin, pair.documents) == ("outputs", 1.0, ("doc-1",))
    assert Counter(p.prompt for p in made.pairs).most_common(1)[0][1] == 2  # select.pairs_per_prompt


def test_a_pair_needs_the_margin_and_its_score_is_the_metric_s(tmp_path):
    rows = [conversation(n, f"What is on the table {n}?", LABELS, ["tea", "cake"], "tea, cake") for n in (1, 2)]
    answers = [["cake, tea", "tea", "milk"], ["tea, cake", "cake"]]
    made = sampled(tmp_path, rows, answers, margin=0.5)
    assert [(p.chosen[0].content, p.rejected[0].content, p.margin) for p in made.pairs] == [("cake, tea", "milk", 1.0)]
    assert made.manifest["sets"]["mine"]["source"]["rows_dropped"] == {"margin_too_small": 1}
    closer = sampled(tmp_path, rows, answers, margin=0.3)
    assert sorted(p.margin for p in closer.pairs) == pytest.approx([1 / 3, 1 / 3, 1.0], abs=1e-6)


def test_what_its_parser_cannot_read_is_wrong_or_left_out(tmp_path):
    rows = choices(1)
    answers = [[rows[0]["messages"][1]["content"], "who knows"]]
    assert [p.rejected[0].content for p in sampled(tmp_path, rows, answers).pairs] == ["who knows"]
    assert "all_right 1" in sampled(tmp_path, rows, answers, unreadable="leave_out").said


def test_an_answer_that_is_right_by_accident_is_neither_chosen_nor_rejected(tmp_path):
    form = {"kind": "yes_no", "yes": "是", "no": "否"}
    rows = [conversation(n, f"这条评论{n}冒犯了他人吗？", form, True, "是", lang="zh") for n in (1, 2)]
    answers = [["我这次来是为了一件事", "否"], ["想了很久。答案：是。", "我这次来是为了一件事", "否。"]]
    made = sampled(tmp_path, rows, answers)
    assert [(p.chosen[0].content, p.rejected[0].content) for p in made.pairs] == [("想了很久。答案：是。", "否。")]
    source = made.manifest["sets"]["mine"]["source"]
    assert (source["answers_right"], source["answers_vague"]) == (3, 2)
    assert len(sampled(tmp_path, rows, answers, chosen="readable").pairs) == 3


def test_the_gold_answer_is_chosen_only_where_it_is_asked_for_and_none_is_right(tmp_path):
    rows = choices(3)
    golds = [row["messages"][1]["content"] for row in rows]
    wrong = [next(letter for letter in LETTERS if letter != gold) for gold in golds]
    answers = [[wrong[0]], [golds[1] + ".", wrong[1]], [golds[2]]]
    assert [p.documents for p in sampled(tmp_path, rows, answers).pairs] == [("doc-1",)]
    made = sampled(tmp_path, rows, answers, gold="none_right")
    told = {p.documents: (p.chosen[0].content, p.rejected[0].content) for p in made.pairs}
    assert told == {("doc-0",): (golds[0], wrong[0]), ("doc-1",): (golds[1] + ".", wrong[1])}
    source = made.manifest["sets"]["mine"]["source"]
    assert (source["answers_gold"], source["rows_dropped"]) == (1, {"all_right": 1})


def test_free_text_is_scored_where_its_task_or_the_recipe_says_how(tmp_path):
    texts = {"translation": "The tea is good today", "my_task": "Rain again tomorrow"}
    rows = [
        conversation(n, f"Say it {n}", None, None, text, task=task) for n, (task, text) in enumerate(texts.items(), 1)
    ]
    answers = [[row["messages"][1]["content"], "nothing of the kind"] for row in rows]
    made = sampled(tmp_path, rows, answers)
    assert [pair.task for pair in made.pairs] == ["translation"]
    assert made.manifest["sets"]["mine"]["source"]["rows_dropped"] == {"no_metric": 1}
    both = sampled(tmp_path, rows, answers, metrics={"my_task": "rouge_l"})
    assert {pair.task for pair in both.pairs} == set(texts)


def test_lengths_are_chosen_so_that_they_tell_nothing_although_right_answers_are_longer(tmp_path):
    draws, rows, answers = stream(1, "lengths"), choices(300), []
    for row in rows:
        gold = row["messages"][1]["content"]
        wrong = "ABCD".replace(gold, "")

        def put(letter, mean):
            return "Really " * max(0, int(draws.normal(mean, 4))) + f"The answer is: {letter}."

        answers.append([*(put(gold, 11) for _ in range(4)), *(put(letter, 8) for letter in wrong)])
    made = sampled(tmp_path, rows, answers, select={"pairs_per_prompt": 1})
    length = made.manifest["sets"]["mine"]["length"]
    assert length["before"]["longer_chosen"] > 0.65
    assert length["before"]["bias"] > 0.15
    assert abs(length["after"]["bias"]) <= 0.02
    assert length["after"]["longer_chosen"] == pytest.approx(0.5, abs=0.05)
    assert length["after"]["pairs"] > 200  # by choosing, not by dropping
    assert "longer chosen" in made.said


def test_prompts_are_written_for_redone_train_generate_and_no_more_than_asked_for(tmp_path):
    rows = choices(40)
    write_jsonl(tmp_path / "set.jsonl", rows)
    recipe = {"outputs": {"mine": {"conversations": ["set.jsonl"], "max_prompts": 10}}}
    assert "write the prompts with --prompts" in make(tmp_path, recipe).said
    made = make(tmp_path, recipe, "--prompts")
    assert made.code == 0, made.said
    lines = [json.loads(line) for line in (made.folder / "prompts" / "mine.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    by_id = {row["id"]: row for row in rows}
    assert all(line["prompt"] == by_id[line["id"]]["messages"][:-1] for line in lines)
    sets = {**recipe, "structure": {"hard": {"conversations": ["set.jsonl"], "answers": ["not there yet.jsonl"]}}}
    both = make(tmp_path, sets, "--prompts", out="both")
    assert both.code == 0, both.said
    assert len((both.folder / "prompts" / "hard.jsonl").read_text().splitlines()) == len(rows)
    answers = [{"id": line["id"], "answers": list("ABCD")} for line in lines]
    write_jsonl(tmp_path / "answers.jsonl", answers)
    recipe["outputs"]["mine"]["answers"] = ["answers.jsonl"]
    done = make(tmp_path, recipe)
    assert done.manifest["sets"]["mine"]["source"]["rows_dropped"] == {"beyond_max_prompts": 30}


@pytest.fixture
def server():
    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.seen.append(request)
            answer = LETTERS[request["seed"] % 4]
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    httpd.seen = []
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_an_endpoint_is_asked_n_times_a_prompt_and_never_again_for_the_same(tmp_path, server):
    write_jsonl(tmp_path / "set.jsonl", choices(6))
    sample = {
        "base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "model": "rule",
        "num_answers": 4,
        "concurrency": 2,
    }
    outputs = {"conversations": ["set.jsonl"], "sample": sample, "select": {"length": {"control": "off"}}}
    assert "set 'mine': this would take 24 calls" in make(tmp_path, {"outputs": {"mine": outputs}}).said
    made = make(tmp_path, {"outputs": {"mine": outputs}}, "--yes")
    assert made.code == 0, made.said
    check_conserved(made)
    assert len(server.seen) == 24
    assert {(one["temperature"], one["top_p"]) for one in server.seen} == {(0.8, 1.0)}
    assert len(made.pairs) == 2 * 6
    outputs["sample"] = {**sample, "num_answers": 5}  # one more to each: the others are there
    again = make(tmp_path, {"outputs": {"mine": outputs}}, "--yes")
    assert again.code == 0, again.said
    assert len(server.seen) == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 0}, "0 < margin <= min_right <= 1 is needed"),
        ({"metrics": {"city": "acuracy"}}, "did you mean 'accuracy'"),
        ({"sample": {"generate": "m", "num_answers": 1}, "answers": []}, "at least 2"),
        ({"sample": {"generate": "m", "temperature": 0}, "answers": []}, "temperature must be above 0"),
        ({"sample": {"generate": "m"}}, "give at most one of them"),
        ({"answers": ["twice.jsonl"]}, "twice.jsonl line 2: id 'a' is given twice"),
        ({"answers": ["others.jsonl"]}, "the answers' ids must be those of the prompts"),
    ],
)
def test_outputs_that_cannot_be_used_say_why(tmp_path, change, message):
    write_jsonl(tmp_path / "twice.jsonl", [{"id": "a", "answers": ["A"]}] * 2)
    write_jsonl(tmp_path / "others.jsonl", [{"id": "a", "answers": ["A"]}])
    made = sampled(tmp_path, choices(2), [["A"], ["B"]], **change)
    assert made.code != 0
    assert message in made.said
