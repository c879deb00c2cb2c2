"""Exposure and ranking in an evaluation: scored by the model's own probabilities, once, and compared as scores are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_eval import endpoint, write_posts
from tiny_model import write_model

from redone_data.errors import RedoneError
from redone_train.evaluate import scored
from redone_train.evaluate.compare import compare
from redone_train.evaluate.head import fitted, hidden_states
from redone_train.evaluate.items import Item
from redone_train.evaluate.scored import option_scores
from redone_train.evaluation import run_evaluation
from redone_train.generate import LocalModel

OPTIONS = ["Yes", "No", "Not at all"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return LocalModel(write_model(tmp_path_factory.mktemp("model"), chat=False), "cpu", "float32")


def item(*prompts: str) -> Item:
    messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return Item(prompts[0], "t", "made", tuple(messages[0]), None, {"prompts": messages, "options": OPTIONS})


@torch.no_grad()
def test_scores_are_the_probabilities_of_whole_answers_and_are_computed_once(
    tmp_path: Path, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [item("Is it good?", "Is it bad?"), item("x" * 400)]
    found = option_scores(model, asked, tmp_path / "t.jsonl")
    alone = []
    for option in OPTIONS:
        start, whole = model.encoded("Is it bad?\n"), model.encoded(f"Is it bad?\n{option}\n")
        logs = model.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        alone.append(sum(float(logs[place - 1, whole[place]]) for place in range(len(start), len(whole))))
    assert json.loads(found[0].text)[1] == pytest.approx(alone, rel=1e-4)
    assert found[1].text == "[null]"
    assert "the model's context is 256" in str(found[1].error)
    monkeypatch.setattr(scored, "log_probs", None)  # all are known
    assert option_scores(model, asked, tmp_path / "t.jsonl") == found


def test_the_state_of_a_prompt_is_the_same_whatever_is_beside_it_in_the_batch(
    tmp_path: Path, model: LocalModel
) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("short", "a prompt that is longer", "x" * 400)]
    together, errors = hidden_states(model, prompts, 8, tmp_path / "a.npz")
    alone, _ = hidden_states(model, prompts, 1, tmp_path / "b.npz")
    assert together == pytest.approx(alone, abs=1e-4)
    assert [error is None for error in errors] == [True, True, False]
    assert hidden_states(model, prompts[:2], 8, tmp_path / "a.npz")[0] == pytest.approx(together[:2])


def test_a_head_finds_what_a_line_parts_and_refuses_what_it_cannot_learn() -> None:
    rng = np.random.default_rng(1)
    states = rng.normal(size=(200, 8))
    parted = (states[:, 0] + 0.1 * rng.normal(size=200) > 0).astype(float)
    said = fitted(states[:150], parted[:150], "t")(states[150:])
    assert np.mean((said > 0) == (parted[150:] > 0)) > 0.9
    graded = 3 * states[:, 1] - 1
    assert np.corrcoef(fitted(states[:150], graded[:150], "t")(states[150:]), graded[150:])[0, 1] > 0.99
    with pytest.raises(RedoneError, match="t: 200 rows to train a head on, with 1 different targets"):
        fitted(states, np.ones(200), "t")


def config(folder: Path, models: dict[str, Any]) -> Path:
    write_posts(folder, 40)
    notes = [{"id": f"n{i}", "title": f"word{i}", "text": f"a note of topic {i % 7} and number {i}"} for i in range(24)]
    (folder / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes), encoding="utf-8")
    posts = {"paths": ["posts.jsonl"], "columns": {"text": "text", "label": "offensive"}, "lang": "en", "id": "id"}
    table = {"paths": ["notes.jsonl"], "columns": {"text": "text", "query": "title"}, "lang": "en", "id": "id"}
    values = {
        "output": "out",
        "models": models,
        "exposure": {"rude": {"table": posts, "pass_rates": [0.5, 0.9], "head": {}}},
        "ranking": {"notes": {"table": table, "drawn": {"number": 3}, "max_queries": 6}},
        "resamples": 20,
    }
    (folder / "eval.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder / "eval.yaml"


def test_an_evaluation_has_intervals_differences_and_a_page_of_them(
    tmp_path: Path, model: LocalModel, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bm25s")
    path = config(tmp_path, {"one": str(model.folder), "two": str(model.folder)})
    results = run_evaluation(path)
    assert set(results.tasks) == {"exposure/rude", "exposure/rude head", "ranking/notes"}
    assert results.part("one", "exposure/rude", "exposure at 90 %").interval is not None
    assert results.part("one", "exposure/rude head", "area under ROC").value > 80  # the posts say that they are rude
    shown = capsys.readouterr().out
    assert "rude: harmless among the passed" in shown
    assert "notes: NDCG@10" in shown
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert "posts that pass, %" in page
    assert "rude head: area under ROC" in page
    rows = compare([tmp_path / "out"]).mapping()["rows"]
    assert rows["exposure/rude: exposure at 50 %"]["differences"]["two"]["interval"] == (0, 0)
    assert rows["ranking/notes: NDCG@10 over BM25"]["differences"]["two"]["value"] == 0


def test_an_endpoint_without_probabilities_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    with endpoint() as server:
        path = config(tmp_path, {"far": {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "model": "rule"}})
        with pytest.raises(RedoneError, match="exposure, ranking: scores are the model's own probabilities, and 'far'"):
            run_evaluation(path, confirmed=True)
        assert server.seen == []
