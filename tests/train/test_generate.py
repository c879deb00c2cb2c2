"""Answers of a tiny random model: rubbish, but the right number of it, in order, once, and the same after any stop."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="redone-train generate needs transformers")

from tiny_model import write_model

from redone_data.curate.asking import read_cache
from redone_data.curate.judge import JudgeConfig, judge
from redone_data.errors import RedoneError
from redone_train import generate as module
from redone_train.generate import Generated, Sampling, generate

SHORT = Sampling(max_new_tokens=6)
DRAWN = Sampling(num_answers=3, max_new_tokens=6, temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def write_prompts(path: Path, prompts) -> Path:
    lines = [json.dumps({"id": f"p{i}", "prompt": prompt}, ensure_ascii=False) for i, prompt in enumerate(prompts)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ASKED = {"prompt": "Good? {text}", "answers": {"yes": "good", "no": "bad"}}
PROMPTS = [f"{'很' * (i % 4)} is post {i} good?" for i in range(11)]


def test_answers_come_in_the_order_of_the_prompts_as_many_as_asked(tmp_path, model):
    file = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    done = generate(model, file, tmp_path / "out.jsonl", DRAWN, batch_size=4)
    lines = read(tmp_path / "out.jsonl")
    assert done == Generated(prompts=11, asked=11, too_long=0)
    assert [line["id"] for line in lines] == [f"p{i}" for i in range(11)]
    assert {len(line["answers"]) for line in lines} == {3}
    assert any(len(set(line["answers"])) > 1 for line in lines)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.jsonl", "prompts.jsonl"]


def test_padding_and_company_do_not_change_a_greedy_answer(tmp_path, model):
    file = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    for size in (1, 11):
        generate(model, file, tmp_path / f"{size}.jsonl", SHORT, batch_size=size)
    assert read(tmp_path / "1.jsonl") == read(tmp_path / "11.jsonl")


def test_a_stop_at_any_batch_ends_with_the_answers_of_an_uninterrupted_run(tmp_path, model, monkeypatch):
    file = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    generate(model, file, tmp_path / "whole.jsonl", DRAWN, batch_size=3)

    class Stopped(Exception):  # noqa: N818
        pass

    asked = []
    original = module.LocalModel.answers

    def once(self, texts, *arguments):
        if asked and len(asked) % 2:
            asked.append(0)
            raise Stopped
        asked.append(len(texts))
        return original(self, texts, *arguments)

    monkeypatch.setattr(module.LocalModel, "answers", once)
    out = tmp_path / "out.jsonl"
    for _ in range(3):
        with pytest.raises(Stopped):
            generate(model, file, out, DRAWN, batch_size=3)
        with out.with_name("out.jsonl.partial").open("a") as partial:
            partial.write('{"key": "cut of')  # a kill in the middle of a line
    generate(model, file, out, DRAWN, batch_size=3)
    assert sum(asked) == len(PROMPTS)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_answer_ends_where_it_says_and_no_row_of_its_batch_is_cut_by_it(tmp_path, model):
    """Also: texts that end answers are part of what was asked, so answers without them are not taken for these."""
    file = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    free, cut = Sampling(max_new_tokens=12), tmp_path / "cut.jsonl"
    generate(model, file, tmp_path / "free.jsonl", free, batch_size=4)
    whole = [line["answers"][0] for line in read(tmp_path / "free.jsonl")]
    stop = next(answer[len(answer) // 2] for answer in whole if len(answer) > 4)
    assert generate(model, file, cut, replace(free, stop=(stop,)), batch_size=4).asked == len(PROMPTS)
    ended = [line["answers"][0] for line in read(cut)]
    assert ended == [answer.split(stop)[0].strip() for answer in whole]
    assert ended != whole


def test_answered_prompts_are_not_asked_again_and_other_settings_or_models_are(tmp_path, model):
    out = tmp_path / "out.jsonl"
    file = write_prompts(tmp_path / "prompts.jsonl", PROMPTS[:4])
    generate(model, file, out, SHORT)
    before = read(out)
    assert generate(model, file, out, SHORT).asked == 0
    more = write_prompts(tmp_path / "prompts.jsonl", [*PROMPTS[:6], PROMPTS[0]])
    assert generate(model, more, out, SHORT).asked == 2
    assert read(out)[:4] == before
    assert read(out)[6]["answers"] == before[0]["answers"]
    assert generate(model, more, out, Sampling(max_new_tokens=5)).asked == 6
    other = write_model(tmp_path / "other", seed=1)
    assert generate(other, more, out, Sampling(max_new_tokens=5)).asked == 6


def test_chat_messages_go_through_the_template_and_a_model_without_one_reads_plain_text(tmp_path, model):
    chat = [{"role": "system", "content": "judge"}, {"role": "user", "content": "hi"}]
    loaded = module.LocalModel(model, "cpu")
    assert loaded.text_of(chat, thinking=False) == "<system>judge<end><user>hi<end><assistant>"
    assert loaded.text_of(chat, thinking=True).endswith("<think>")
    assert loaded.num_tokens("<user>hi<end>") == 4
    plain = module.LocalModel(write_model(tmp_path / "plain", chat=False), "cpu")
    assert plain.text_of(chat, thinking=False) == "judge\nhi"
    file = write_prompts(tmp_path / "prompts.jsonl", [chat, "hi"])
    assert generate(model, file, tmp_path / "out.jsonl", SHORT).asked == 2


def test_a_prompt_over_the_context_is_told_and_the_others_answered(tmp_path, model):
    file = write_prompts(tmp_path / "prompts.jsonl", ["x" * 300, "short"])
    assert generate(model, file, tmp_path / "out.jsonl", SHORT).too_long == 1
    long, short = read(tmp_path / "out.jsonl")
    assert long["answers"] == []
    assert "the model's context of 256 leaves 250 for a prompt" in long["error"]
    assert len(short["answers"]) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": ', "line 2: not valid JSON"),
        ('{"text": "a"}', "line 2: prompt must be a text"),
        ('{"prompt": [{"role": "user"}]}', "line 2: prompt must be a text"),
        ("[1]", "line 2: prompt must be a text"),
    ],
)
def test_a_bad_prompt_is_named_with_its_line(tmp_path, model, line, message):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "fine"}\n' + line)
    with pytest.raises(RedoneError, match=message):
        generate(model, tmp_path / "prompts.jsonl", tmp_path / "out.jsonl", SHORT)


def test_what_cannot_be_asked_is_said(tmp_path, model):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(RedoneError, match="no prompts are in it"):
        generate(model, empty, tmp_path / "out.jsonl", SHORT)
    with pytest.raises(RedoneError, match=r"no config\.json"):
        generate(tmp_path, empty, tmp_path / "out.jsonl", SHORT)
    with pytest.raises(RedoneError, match="greedy answers are all the same; set --temperature"):
        Sampling(num_answers=2)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RedoneError, match="cannot be loaded as a language model"):
        generate(tmp_path, write_prompts(tmp_path / "p.jsonl", ["a"]), tmp_path / "out.jsonl", SHORT)


def test_a_judge_asks_a_local_model_once_and_counts_what_it_cannot_read(tmp_path, model, capfd):
    config = JudgeConfig(**ASKED, generate=str(model), max_tokens=4)
    cache = tmp_path / "labels.jsonl.answers"
    texts = [f"post {i}" for i in range(5)] + ["x" * 400]  # the last does not fit the model
    judged = judge(texts, config, cache, confirmed=False)
    assert judged.unreadable == len(texts)  # the weights are random
    assert len(read_cache(cache)) == len(texts)
    assert [path.name for path in tmp_path.iterdir()] == [cache.name]
    assert "6 prompts, 6 of them asked now, 1 too long" in capfd.readouterr().err
    assert judge(texts, config, cache, confirmed=False) == judged
    assert "prompts" not in capfd.readouterr().err, "the model was started again"


def test_a_judge_whose_model_is_not_there_says_so(tmp_path, capfd):
    config = JudgeConfig(**ASKED, generate=str(tmp_path / "nowhere"))
    with pytest.raises(RedoneError, match="redone-train generate did not finish"):
        judge(["post"], config, tmp_path / "answers", confirmed=False)
    assert "no config.json" in capfd.readouterr().err
