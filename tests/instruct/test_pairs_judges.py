"""Pairs from judges. The judge here is a real HTTP server on this machine that answers by a rule: no model judged."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from pair_data import check_conserved, make, write_jsonl

from redone_data.errors import RedoneError
from redone_data.instruct.pairs.calibration import Verdicts, calibrate, rate
from redone_data.instruct.pairs.judge_model import PairJudgeConfig
from redone_data.rng import stream


def by_quality(prompt, first, second):
    """What people think: the answer with the greater number is better."""
    grades = [int(re.search(r"\d+", text)[0]) for text in (first, second)]
    return "A" if grades[0] > grades[1] else "B."


RULES = {
    "good": by_quality,
    "first": lambda *_: "A",
    "longer": lambda _, first, second: "A" if len(first) > len(second) else "B",
    "vague": lambda *_: "A is better than B, or not",
    "worse": lambda *asked: "B" if by_quality(*asked) == "A" else "A",
}


@pytest.fixture
def server():
    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = request["messages"][0]["content"]
            self.server.seen.append(content)
            if self.server.limit is not None and len(self.server.seen) > self.server.limit:
                self.send_error(402)
                return
            asked = re.fullmatch(r"Q:(.*)\nA:(.*)\nB:(.*)", content, re.DOTALL).groups()
            body = json.dumps({"choices": [{"message": {"content": RULES[self.server.rule](*asked)}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    httpd.seen, httpd.rule, httpd.limit = [], "good", None
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def answer(grade, words=4):
    return f"Grade {grade}" + " word" * words


def human_rows(count):
    """Answers whose number says how good they are; lengths are drawn."""
    draws = stream(1, "answers")
    rows = []
    for number in range(count):
        better, worse = 50 + number % 50, number % 50
        words = draws.integers(3, 12, 2)
        rows.append(
            {
                "id": f"h{number}",
                "prompt": f"Question {number % (count // 2)}?",
                "chosen": answer(better, words[0]),
                "rejected": answer(worse, words[1]),
                "rater": f"rater {number % 3}",
            }
        )
    return rows


def open_rows(count):
    return [
        {"id": f"o{number}", "prompt": f"Open {number}?", "answers": [answer(10 + number), answer(90 + number, 5), ""]}
        for number in range(count)
    ]


def recipe(server=None, **change):
    tables = {
        "human": {
            "paths": ["human.jsonl"],
            "id": "id",
            "lang": "en",
            "columns": {name: name for name in ("prompt", "chosen", "rejected", "rater")},
        },
        "open": {
            "paths": ["open.jsonl"],
            "id": "id",
            "lang": "en",
            "columns": {"prompt": "prompt", "answers": "answers"},
        },
    }
    judges = {
        "rankings": {"table": "human", "chosen": "chosen", "rejected": "rejected", "rater": "rater"},
        "select": {"length": {"max_ratio": None}},
    }
    if server is not None:
        judges["judge"] = {
            "base_url": f"http://127.0.0.1:{server.server_port}/v1",
            "model": "rule",
            "prompt": "Q:{prompt}\nA:{a}\nB:{b}",
            "first_wait_seconds": 0.0,
            "concurrency": 2,
        }
        judges["expand"] = {"table": "open", "answers": "answers"}
        judges["calibration_pairs"] = 40
    return {"tables": tables, "judges": {"liked": {**judges, **change}}}


def write_tables(folder, people=60, others=30):
    write_jsonl(folder / "human.jsonl", human_rows(people))
    write_jsonl(folder / "open.jsonl", open_rows(others))


def test_a_judge_that_agrees_with_people_is_used_and_both_orders_must_agree(tmp_path, server):
    write_tables(tmp_path)
    made = make(tmp_path, recipe(server), "--yes")
    assert made.code == 0, made.said
    check_conserved(made)
    source = made.manifest["sets"]["liked"]["source"]
    judge = source["judge"]
    assert judge["used"]
    assert judge["agreement"]["value"] == judge["both_orders_agree"]["value"] == 1.0
    assert judge["first_taken"]["value"] == 0.5
    assert judge["unreadable"] == 0
    assert judge["log_loss_left_out"] < 0.3  # of a coin .693
    assert source["judge_pairs"] == 30
    assert source["verdicts"] == {"used": 30}
    assert len(server.seen) == 2 * 40 + 2 * 30
    added = [pair for pair in made.pairs if pair.prompt[0].content.startswith("Open")]
    assert added
    for pair in added:
        grades = [int(re.search(r"\d+", side[0].content)[0]) for side in (pair.chosen, pair.rejected)]
        assert grades[0] > grades[1]
        assert (pair.kind, pair.weak) == ("judge", False)
        assert 0.2 < pair.margin < 1


@pytest.mark.parametrize(("rule", "first_taken", "agree"), [("worse", 0.5, 0.0), ("longer", None, None)])
def test_a_judge_no_better_than_chance_is_reported_and_asked_about_nothing_more(
    tmp_path, server, rule, first_taken, agree
):
    write_tables(tmp_path)
    server.rule = rule
    made = make(tmp_path, recipe(server), "--yes")
    assert made.code == 0, made.said
    check_conserved(made)
    source = made.manifest["sets"]["liked"]["source"]
    assert not source["judge"]["used"]
    assert source["judge_pairs"] == 0
    assert source["rows_dropped"] == {"judge_not_used": 30}
    assert len(server.seen) <= 80
    assert "not used" in made.said
    if rule == "longer":
        assert source["judge"]["judge_takes_longer"]["value"] == 1.0
    else:
        assert source["judge"]["agreement"]["value"] == agree
        assert source["judge"]["first_taken"]["value"] == first_taken


@pytest.mark.parametrize("rule", ["first", "vague"])
def test_a_judge_that_never_says_the_same_twice_is_an_error(tmp_path, server, rule):
    write_tables(tmp_path)
    server.rule = rule
    made = make(tmp_path, recipe(server), "--yes")
    assert made.code != 0
    assert "the same readable answer in both orders to none of 40 pairs" in made.said


def test_nothing_is_asked_without_consent_and_no_answer_is_paid_for_twice(tmp_path, server):
    write_tables(tmp_path)
    made = make(tmp_path, recipe(server))
    assert "set 'liked': this would take 80 calls (0 answers are at hand)" in made.said
    assert "add --yes" in made.said
    assert server.seen == []
    server.limit = 30
    assert "HTTP 402" in make(tmp_path, recipe(server), "--yes").said
    paid = len((tmp_path / "out" / "asked" / "liked.jsonl").read_text().split())
    server.limit = None
    before = len(server.seen)
    made = make(tmp_path, recipe(server), "--yes")
    assert made.code == 0, made.said
    assert len(server.seen) - before == 80 - paid + 60
    seen = len(server.seen)
    whole = made.files()
    for step in (made.folder / "steps").iterdir():  # the work is gone, what was paid for is not
        if step.name.startswith("pairs"):
            (step / "manifest.json").unlink()
    assert make(tmp_path, recipe(server)).files() == whole
    assert len(server.seen) == seen


def test_raters_decide_by_majority_and_their_agreement_is_told(tmp_path):
    def row(number, chosen, rejected, rater, prompt="Which?"):
        return {"id": f"r{number}", "prompt": prompt, "chosen": chosen, "rejected": rejected, "rater": rater}

    rows = [row(1, "yes one", "no one", "a"), row(2, "yes one", "no one", "b"), row(3, "no one", "yes one", "c")]
    rows += [row(4, "left", "right", "a", "Where?"), row(5, "right", "left", "b", "Where?")]
    rows += [row(6, "same", "same", "a"), row(7, None, "b", "a")]
    write_jsonl(tmp_path / "human.jsonl", rows)
    made = make(tmp_path, recipe(select={"length": {"control": "off"}}))
    assert made.code == 0, made.said
    check_conserved(made)
    source = made.manifest["sets"]["liked"]["source"]
    assert source["rows_dropped"] == {"missing_value": 1, "raters_tie": 2, "same_answer": 1}
    # of four couples of raters one agrees
    assert source["raters"] == {"pairs": 2, "several": 2, "agreement": 0.25, "kappa": -0.5, "ties": 1}
    (pair,) = made.pairs
    assert (pair.chosen[0].content, pair.margin) == ("yes one", pytest.approx(1 / 3))
    assert pair.documents == ("r1", "r2", "r3")


@pytest.mark.parametrize("form", ["list", "rank", "score"])
def test_rankings_of_any_form_become_the_same_pairs(tmp_path, form):
    ranked = [(f"Question {number}?", [f"best {number}", f"middle {number}", f"worst {number}"]) for number in range(3)]
    if form == "list":
        rows = [{"id": prompt, "prompt": prompt, "answers": answers} for prompt, answers in ranked]
        columns, named = {"prompt": "prompt", "answers": "answers"}, {"answers": "answers"}
    else:
        rows = [
            {"id": f"{prompt}{place}", "prompt": prompt, "answer": text, "rank": place + 1, "score": 0.5 - place}
            for prompt, answers in ranked
            for place, text in enumerate(answers)
        ]
        columns, named = {"prompt": "prompt", "answer": "answer", form: form}, {"answer": "answer", form: form}
    write_jsonl(tmp_path / "human.jsonl", rows)
    table = {"paths": ["human.jsonl"], "id": "id", "lang": "en", "columns": columns}
    select = {"pairs_per_prompt": 3, "length": {"control": "off"}}
    judges = {"rankings": {"table": "human", **named}, "select": select}
    made = make(tmp_path, {"tables": {"human": table}, "judges": {"ranked": judges}})
    assert made.code == 0, made.said
    check_conserved(made)
    order = ["best", "middle", "worst"]
    said = [(pair.chosen[0].content.split()[0], pair.rejected[0].content.split()[0]) for pair in made.pairs]
    assert len(said) == 9
    assert all(order.index(chosen) < order.index(rejected) for chosen, rejected in said)


def test_pairs_that_people_judged_are_not_asked_again(tmp_path, server):
    write_tables(tmp_path, others=5)
    human = human_rows(60)[0]
    rows = [*open_rows(5), {"id": "again", "prompt": human["prompt"], "answers": [human["rejected"], human["chosen"]]}]
    rows += [
        {"id": "alone", "prompt": "Alone?", "answers": ["one"]},
        {"id": "empty", "prompt": "Empty?", "answers": None},
    ]
    write_jsonl(tmp_path / "open.jsonl", rows)
    made = make(tmp_path, recipe(server), "--yes")
    assert made.code == 0, made.said
    check_conserved(made)
    dropped = made.manifest["sets"]["liked"]["source"]["rows_dropped"]
    assert dropped == {"judged_by_people": 1, "missing_value": 1, "single_answer": 1}


def test_what_a_judge_cannot_decide_is_counted_by_what_it_said(tmp_path, server):
    write_tables(tmp_path, others=12)

    def moody(prompt, first, second):
        number = int(re.search(r"\d+", prompt)[0])
        if prompt.startswith("Open") and number < 3:
            return "A"  # whatever it is
        if prompt.startswith("Open") and number < 5:
            return "Neither."
        return by_quality(prompt, first, second)

    server.rule = "moody"
    RULES["moody"] = moody
    made = make(tmp_path, recipe(server), "--yes")
    assert made.code == 0, made.said
    check_conserved(made)
    source = made.manifest["sets"]["liked"]["source"]
    assert source["verdicts"] == {"orders_disagree": 3, "unreadable_verdict": 2, "used": 7}
    assert source["rows_dropped"] == {"orders_disagree": 3, "unreadable_verdict": 2}
    assert "orders_disagree" in (made.folder / "report.html").read_text(encoding="utf-8")


def test_a_prompt_with_a_hundred_answers_is_no_ten_thousand_questions(tmp_path, server):
    write_tables(tmp_path, others=1)
    answers = [answer(number, number % 7) for number in range(100)]
    write_jsonl(
        tmp_path / "open.jsonl", [{"id": f"x{n}", "prompt": "One?", "text": text} for n, text in enumerate(answers)]
    )
    asked = recipe(server, expand={"table": "open", "answer": "text", "pairs_asked": 3})
    asked["tables"]["open"]["columns"] = {"prompt": "prompt", "text": "text"}
    made = make(tmp_path, asked, "--yes")
    assert made.code == 0, made.said
    check_conserved(made)
    assert len(server.seen) == 80 + 2 * 3
    assert set(made.manifest["sets"]["liked"]["source"]["rows_dropped"]) == {"beyond_pairs_asked"}


def test_braces_in_an_answer_are_not_filled_in():
    judge = PairJudgeConfig(generate="m", prompt="{prompt}|{a}|{b}")
    assert judge.question("{a} {b}", "{prompt}", "x").messages[0]["content"] == "{a} {b}|{prompt}|x"


def planted(number, judge_likes_length=0.0, first=0.0, noise=1.0):
    """People prefer by quality; the judge by quality and length, and it likes what stands first."""
    draws = stream(3, "planted")
    quality, length = draws.normal(0, 1.5, number), draws.normal(0, 1, number)
    people = np.where(quality + draws.logistic(0, 1, number) > 0, 1, -1)
    view = quality + judge_likes_length * length
    orders = [np.where(view + sign * first + draws.logistic(0, noise, number) > 0, 1, -1) for sign in (1, -1)]
    return Verdicts(*orders), people, length, np.arange(number) // 2


def test_a_judge_that_likes_length_is_found_out_and_corrected():
    fair = calibrate(*planted(4000))
    biased = calibrate(*planted(4000, judge_likes_length=1.5))
    assert abs(fair.length) < 0.15
    assert biased.length < -0.3
    # Its verdict on a much longer answer is worth less than on one of equal length.
    long, equal = biased.probability(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
    assert long < equal - 0.1
    taken = [found.report["judge_takes_longer"]["value"] for found in (fair, biased)]
    assert taken[1] > taken[0] + 0.2


def test_probabilities_are_what_they_say_on_prompts_left_out():
    verdicts, people, length, prompts = planted(8000, judge_likes_length=0.7, first=0.5)
    half = prompts < 2000
    cut = Verdicts(verdicts.x_first[half], verdicts.y_first[half])
    found = calibrate(cut, people[half], length[half], prompts[half])
    said = found.probability(verdicts.mean[~half], length[~half])
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        inside = (said >= low) & (said < high)
        assert said[inside].mean() == pytest.approx((people[~half][inside] > 0).mean(), abs=0.05)
    assert found.report["first_taken"]["low"] > 0.5  # it likes what stands first, and that shows


def test_intervals_hold_the_truth_as_often_as_they_say_and_widen_where_prompts_repeat():
    draws = stream(5, "coverage")
    prompts = np.repeat(np.arange(50), 4)
    held = 0
    for _ in range(400):
        of_prompt = draws.beta(3, 2, 50)  # pairs of one prompt go together; .6 on average
        found = rate(draws.random(200) < np.repeat(of_prompt, 4), prompts)
        held += found.low <= 0.6 <= found.high
    assert held / 400 > 0.92
    hits = np.repeat([True, False] * 25, 4)
    alone, together = rate(hits, np.arange(200)), rate(hits, prompts)
    assert together.high - together.low > 1.8 * (alone.high - alone.low)
    sure = rate(np.ones(30, bool), np.arange(30))
    assert (sure.high, sure.low < 0.95) == (1.0, True)
    assert rate(np.ones(0, bool), np.arange(0)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rankings": {"table": "human"}}, "give chosen and rejected, or answers"),
        ({"rankings": {"table": "human", "chosen": "chosen"}}, "give chosen and rejected"),
        ({"rankings": {"table": "human", "answer": "chosen"}}, "goes with one of rank and score"),
        ({"rankings": {"table": "human", "chosen": "chosen", "rejected": "wrong"}}, "there is no column 'wrong'"),
        (
            {"rankings": {"table": "people", "chosen": "chosen", "rejected": "rejected"}},
            "judges.liked.rankings.table: 'people'",
        ),
        ({"rankings": {"table": "human", "answer": "chosen", "rank": "rejected"}}, "column 'rejected' must be numbers"),
        ({"expand": {"table": "human", "answer": "chosen"}}, "expand needs a judge"),
        ({"judge": {"base_url": "http://x"}}, "give either base_url and model"),
        ({"judge": {"generate": "m", "prompt": "{a} or {b}?"}}, "{prompt} is missing"),
        ({"judge": {"generate": "m", "a": "1", "b": "1."}}, "two different answers"),
        ({"min_agreement": 0.2}, "between 0.5 and 1"),
        ({"calibration_pairs": 3}, "fewer than 20 say nothing"),
    ],
)
def test_rankings_that_cannot_be_used_are_errors_with_their_place(tmp_path, change, message):
    write_tables(tmp_path, people=4)
    made = make(tmp_path, recipe(**change))
    assert made.code != 0
    assert message in made.said


def test_a_judge_that_was_never_readable_is_no_judge():
    none = np.zeros(5, np.int64)
    with pytest.raises(RedoneError, match="none of 5 pairs"):
        calibrate(Verdicts(none, none), none + 1, none.astype(float), none)
