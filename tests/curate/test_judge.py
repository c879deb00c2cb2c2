"""The judge here is a real HTTP server on this machine; its answers come from a rule in place of a language model."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pytest

from redone_data.curate.asking import read_cache
from redone_data.curate.judge import JudgeConfig, agreement, estimate, judge
from redone_data.curate.quality import load_classifier
from redone_data.curate.quality_train import Examples, TrainConfig, train
from redone_data.errors import RedoneError

WORDS = ["soup", "lake", "面条", "公园"]


@pytest.fixture
def server():
    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.seen.append((self.path, self.headers.get("Authorization"), request))
            if self.server.faults and (fault := self.server.faults.pop()) is not None:
                self.send_error(fault)
                return
            post = request["messages"][0]["content"].partition("Post: ")[2]
            answer = "Maybe?" if "odd" in post else " NO.\n" if "buy" in post else "yes"
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    httpd.seen, httpd.faults = [], []
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def config_of(server, **changes):
    values = {
        "base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "model": "rule",
        "prompt": "Is this a post that people want to read? Post: {text}",
        "answers": {"yes": "good", "no": "bad"},
        "first_wait_seconds": 0.0,
        "concurrency": 2,
    }
    return JudgeConfig(**{**values, **changes})


def test_answers_become_labels_and_what_cannot_be_read_is_counted(server, tmp_path):
    judged = judge(["nice soup", "buy now", "odd one"], config_of(server), tmp_path / "cache.jsonl", confirmed=True)
    assert judged.labels == ("good", "bad", None)
    assert judged.unreadable == 1
    assert {path for path, _, _ in server.seen} == {"/v1/chat/completions"}


def test_nothing_is_asked_without_consent_and_the_cost_is_told(server, tmp_path):
    config = config_of(server, price_in=2.0, price_out=8.0)
    with pytest.raises(RedoneError, match=r"2 calls \(0 answers are at hand\), about 2\d tokens.*0\.00.*add --yes"):
        judge(["a", "b"], config, tmp_path / "cache.jsonl", confirmed=False)
    assert server.seen == []


def test_nothing_is_paid_for_twice_even_after_a_killed_run(server, tmp_path):
    cache, config = tmp_path / "cache.jsonl", config_of(server)
    judge(["nice", "buy", "nice"], config, cache, confirmed=True)
    assert len(server.seen) == 2
    with cache.open("a") as file:
        file.write('{"key": "cut sh')
    assert judge(["buy", "nice"], config, cache, confirmed=False).labels == ("bad", "good")
    assert estimate(["nice", "new"], config, cache).calls == 1
    # Another question is another answer.
    assert estimate(["nice"], config_of(server, prompt="Good? Post: {text}"), cache).calls == 1
    assert len(server.seen) == 2


def test_a_passing_fault_is_retried_and_a_lasting_one_keeps_what_came(server, tmp_path):
    server.faults = [503, 429]
    cache = tmp_path / "cache.jsonl"
    assert judge(["nice"], config_of(server), cache, confirmed=True).labels == ("good",)
    assert len(server.seen) == 3
    server.faults = [401]
    with pytest.raises(RedoneError, match="HTTP 401"):
        judge(["nice", "other"], config_of(server, concurrency=1), cache, confirmed=True)
    assert len(read_cache(cache)) == 1
    with pytest.raises(RedoneError, match="answers so far are kept"):
        judge(["x"], config_of(server, base_url="http://127.0.0.1:9/v1", retries=0), cache, confirmed=True)


def test_a_refusal_among_many_calls_ends_the_run_and_the_others_are_kept(server, tmp_path):
    server.faults = [402, *[None] * 3]  # popped from the end: three answers, then a refusal
    cache = tmp_path / "cache.jsonl"
    with pytest.raises(RedoneError, match="HTTP 402"):
        judge([f"post {i}" for i in range(40)], config_of(server), cache, confirmed=True)
    assert 3 <= len(read_cache(cache)) == len(server.seen) - 1 < 10


def test_the_key_is_sent_and_never_written(server, tmp_path, monkeypatch):
    config = config_of(server, api_key_env="JUDGE_KEY")
    with pytest.raises(RedoneError, match="JUDGE_KEY is not set"):
        judge(["nice"], config, tmp_path / "cache.jsonl", confirmed=True)
    monkeypatch.setenv("JUDGE_KEY", "s3cret")
    judge(["nice"], config, tmp_path / "cache.jsonl", confirmed=True)
    assert server.seen[0][1] == "Bearer s3cret"
    assert "s3cret" not in (tmp_path / "cache.jsonl").read_text()


def test_a_classifier_distilled_from_the_judge_agrees_with_it_on_new_posts(server, tmp_path):
    texts = [f"{WORDS[i % 4]} {'buy cheap' if i % 3 == 0 else 'was lovely'} {i}" for i in range(400)]
    labels = judge(texts, config_of(server, concurrency=4), tmp_path / "cache.jsonl", confirmed=True).labels
    table = pa.table({"text": texts[:300], "engagement": pa.nulls(300, pa.float64())})
    examples = Examples.of(table, np.array([label == "good" for label in labels[:300]]))
    train(examples, TrainConfig(buckets=1000, epochs=10), tmp_path / "model")
    unseen = pa.RecordBatch.from_arrays([pa.array(texts[300:], pa.large_string())], ["text"])
    scores = load_classifier(tmp_path / "model" / "model.bin", "fasttext").scores(unseen)
    assert agreement(labels[300:], scores.tolist(), 0.5) > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_url": "ftp://a"}, "base_url"),
        ({"prompt": "good?"}, "is missing"),
        ({"answers": {"yes": "good"}}, "at least one answer"),
        ({"answers": {"yes": "good", "Yes.": "bad"}}, "differ in case"),
        ({"concurrency": 0}, "above 0"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(server, change, message):
    with pytest.raises(RedoneError, match=message):
        config_of(server, **change)
