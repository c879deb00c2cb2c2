"""Answers of a model: the same whoever else is in the batch and however often it was killed, and asked only once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_eval import endpoint, items
from tiny_model import write_model

from redone_data.errors import RedoneError
from redone_train import generate
from redone_train.evaluate.answers import Asking, EndpointAnswers, LocalAnswers, log_probs
from redone_train.evaluate.config import EndpointConfig
from redone_train.evaluate.items import Item
from redone_train.generate import LocalModel

ASKING = Asking(max_new_tokens=6, batch_size=3)
CHOOSE = Asking(max_new_tokens=6, batch_size=3, by="likelihood")
OPTIONS = ["Yes", "No", "Not at all"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), chat=False)


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return LocalModel(folder, "cpu", "float32")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each batch had."""
    made: list[int] = []
    original = LocalModel.answers

    def counted(self: LocalModel, texts: Any, *arguments: Any) -> Any:
        made.append(len(texts))
        return original(self, texts, *arguments)

    monkeypatch.setattr(generate.LocalModel, "answers", counted)
    return made


def test_what_was_answered_is_not_asked_again_by_another_run_or_with_more_items(tmp_path, model, calls) -> None:
    file = tmp_path / "t.jsonl"
    first = LocalAnswers(model).answers(items(7), ASKING, file)
    assert sum(calls) == 7
    again = LocalAnswers(model).answers(items(9)[2:], ASKING, file)
    assert sum(calls) == 9
    assert again[:5] == first[2:]
    assert LocalAnswers(model).answers(items(7), ASKING, file) == first
    assert sum(calls) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_an_evaluation_killed_in_any_batch_ends_with_the_answers_of_one_that_was_not(
    tmp_path, model, monkeypatch
) -> None:
    whole = LocalAnswers(model).answers(items(8), ASKING, tmp_path / "whole.jsonl")
    original = LocalModel.answers
    left = [0]

    def mortal(self: LocalModel, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(LocalModel, "answers", mortal)
    for lives in (1, 1):
        left[0] = lives
        with pytest.raises(KeyboardInterrupt):
            LocalAnswers(model).answers(items(8), ASKING, tmp_path / "killed.jsonl")
    left[0] = 1
    assert LocalAnswers(model).answers(items(8), ASKING, tmp_path / "killed.jsonl") == whole


def test_items_keep_their_own_limits_and_places(tmp_path, model) -> None:
    """Answers of one line end there for a model without a chat template, which would go on with examples of its own."""
    mixed = [*items(3, max_new_tokens=2), *items(3, "u", max_new_tokens=9, stop=["\n"])]
    order = [mixed[place] for place in (0, 3, 1, 4, 2, 5)]
    found = LocalAnswers(model).answers(order, ASKING, tmp_path / "t.jsonl")
    assert all(len(one.text) <= 2 for one in found[::2])
    assert not any("\n" in one.text for one in found[1::2])
    assert ASKING.limits(mixed[3], chat=False) == (9, ("\n",))
    assert ASKING.limits(mixed[3], chat=True) == (9, ())


def test_a_prompt_over_the_context_is_an_empty_answer_with_its_reason(tmp_path, model) -> None:
    long = Item("long", "t", "made", ({"role": "user", "content": "x" * 400},), "x")
    found = LocalAnswers(model).answers([long, *items(1)], ASKING, tmp_path / "t.jsonl")
    assert found[0].text == ""
    assert "leaves 250 for a prompt" in str(found[0].error)
    assert found[1].error is None
    chosen = replace(long, meta={"options": OPTIONS})
    (answer,) = LocalAnswers(model).answers([chosen], CHOOSE, tmp_path / "t.jsonl")
    assert answer.text == ""
    assert "the model's context is 256" in str(answer.error)


@torch.no_grad()
def _alone(model: LocalModel, prompt: str, option: str) -> float:
    """One row, no padding, no cache: the reference."""
    start, whole = model.encoded(prompt), model.encoded(prompt + option)
    logs = model.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return float(sum(logs[place - 1, whole[place]] for place in range(len(start), len(whole))))


def test_the_likelihood_of_an_option_is_what_it_is_alone(model) -> None:
    prompt = "Is it good?\n"
    rows = [model.encoded(prompt + option + "\n") for option in OPTIONS]
    found = log_probs(model, len(model.encoded(prompt)), rows)
    assert found == pytest.approx([_alone(model, prompt, option + "\n") for option in OPTIONS], rel=1e-4)
    assert log_probs(model, 1, rows) == pytest.approx(
        [value + _alone(model, prompt[:1], prompt[1:]) for value in found], rel=1e-4
    )


def test_by_likelihood_items_with_options_get_one_of_them_and_the_others_are_generated(
    tmp_path, model, calls, monkeypatch
) -> None:
    asked = [*items(4, options=OPTIONS), *items(2, "free")]
    found = LocalAnswers(model).answers(asked, CHOOSE, tmp_path / "t.jsonl")
    assert sum(calls) == 2
    for item, one in zip(asked[:4], found, strict=False):
        prompt = item.messages[0]["content"] + "\n"
        assert one.text == max(OPTIONS, key=lambda option, p=prompt: _alone(model, p, option + "\n"))
    monkeypatch.setattr("redone_train.evaluate.answers.log_probs", None)  # all are known
    assert LocalAnswers(model).answers(asked, CHOOSE, tmp_path / "t.jsonl") == found


def endpoint_config(server: Any) -> EndpointConfig:
    return EndpointConfig(base_url=f"http://127.0.0.1:{server.server_port}/v1", model="rule", first_wait_seconds=0.0)


def test_an_endpoint_is_asked_once_with_the_limits_of_the_items_and_only_when_told_to(tmp_path) -> None:
    asked = [
        Item(f"i{i}", "t", "made", ({"role": "user", "content": text},), "x") for i, text in enumerate(("rude", "kind"))
    ]
    with endpoint() as server:
        config, file = endpoint_config(server), tmp_path / "answers" / "t.jsonl"
        with pytest.raises(RedoneError, match=r"this would take 2 calls .*--yes"):
            EndpointAnswers(config, confirmed=False).answers(asked, ASKING, file)
        limited = Asking(max_new_tokens=6, stop=("\n",))
        for _ in range(2):
            found = EndpointAnswers(config, confirmed=True).answers(asked, limited, file)
            assert [one.text for one in found] == ["Yes", "No"]
        assert len(server.seen) == 2
        assert server.seen[0]["max_tokens"] == 6
        assert server.seen[0]["stop"] == ["\n"]
        assert server.seen[0]["temperature"] == 0
