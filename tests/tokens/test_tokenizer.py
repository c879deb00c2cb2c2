import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import DOCUMENTS, Made, made_up_texts, make, write_keep

from redone_data.engine import Engine, Output
from redone_data.errors import RedoneError
from redone_data.manifest import file_digest
from redone_data.tokens.part import curated_parts
from redone_data.tokens.pool import survives
from redone_data.tokens.tokenizer import TokenizerConfig, TokenizerStep, fair_shares, tokenizer_of, train_bpe

TRAIN = """
import sys
sys.path[:0] = sys.argv[1:]
from tiny_corpus import made_up_texts
from redone_data.tokens.tokenizer import train_bpe
import hashlib
texts = [text for name in ("a", "b", "c") for text in made_up_texts(name, 400)]
print(hashlib.sha256(train_bpe(iter(texts), 600).to_str().encode()).hexdigest())
"""


def test_training_gives_the_same_bytes_on_one_thread_and_on_many() -> None:
    def digest(threads: int) -> str:
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        here = Path(__file__).parent
        command = [sys.executable, "-c", TRAIN, str(here), str(here.parents[1])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert digest(1) == digest(2) == digest(7)


def test_order_of_files_does_not_change_the_tokenizer(tmp_path: Path, made: Made) -> None:
    turned = make(tmp_path, DOCUMENTS, reverse=True)
    assert turned.tokenizer.statistics == made.tokenizer.statistics
    assert turned.tokenizer.folder.name == made.tokenizer.folder.name


def test_another_seed_trains_on_other_documents(tmp_path: Path, made: Made) -> None:
    config = TokenizerConfig(vocab_size=320, train_bytes=6_000)
    engine = Engine(tmp_path)
    digests = {engine.run(TokenizerStep(made.parts, config, seed)).statistics["sha256"] for seed in (1, 2)}
    assert len(digests) == 2


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_survives_a_trained_tokenizer(made: Made, text: str) -> None:
    assert survives(tokenizer_of(made.tokenizer), [text])


def test_a_forged_end_token_in_a_post_stays_text(made: Made) -> None:
    tokenizer = tokenizer_of(made.tokenizer)
    ids = tokenizer.encode("before <|endoftext|> after", add_special_tokens=False).ids
    assert made.tokenizer.statistics["eos_token_id"] not in ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == "before <|endoftext|> after"


def test_digits_and_scripts_are_split(made: Made) -> None:
    pre = tokenizer_of(made.tokenizer).pre_tokenizer
    text = "it's 42 iPhone手机 好!"
    pieces = [text[start:end] for _, (start, end) in pre.pre_tokenize_str(text)]
    assert pieces == ["it", "'s", " ", "4", "2", " iPhone", "手机", " ", "好", "!"]


def test_no_copy_of_documents_is_left_behind(made: Made) -> None:
    assert sorted(path.name for path in made.tokenizer.folder.iterdir()) == [
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_small_domain_is_heard_as_far_as_it_goes() -> None:
    assert fair_shares({"small": 10, "large": 10**9, "larger": 10**10}, 1010) == {
        "large": 500,
        "larger": 500,
        "small": 10,
    }
    assert fair_shares({"a": 5, "b": 5}, 100) == {"a": 5, "b": 5}


def given_tokenizer(folder: Path, **config: object) -> Path:
    folder.mkdir()
    tokenizer = train_bpe(iter(made_up_texts("given", 200)), 300, "<end>")
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("token", ["<end>", {"content": "<end>", "special": True}])
def test_a_folder_names_its_own_end_token(tmp_path: Path, token: object) -> None:
    folder = given_tokenizer(tmp_path / "given", eos_token=token)
    output = Engine(tmp_path).run(TokenizerStep((), TokenizerConfig(path=str(folder)), 1))
    assert output.statistics["eos_token"] == "<end>"
    assert output.statistics["sha256"] == file_digest(folder / "tokenizer.json")


def test_a_given_tokenizer_neither_truncates_nor_pads(tmp_path: Path) -> None:
    file = given_tokenizer(tmp_path / "given") / "tokenizer.json"
    config = TokenizerConfig(path=str(file), eos="<end>")
    output = Engine(tmp_path).run(TokenizerStep((), config, 1))
    text = "今天 the weather is so good, love it very much"
    ids = [encoding.ids for encoding in tokenizer_of(output).encode_batch([text, "a"], add_special_tokens=False)]
    assert tokenizer_of(output).decode(ids[0]) == text
    assert len(ids[1]) == 1


@pytest.mark.parametrize("eos", [None, "</s>", "a"])  # "a" is an ordinary token, which text may hold
def test_an_unknown_end_token_names_the_key_and_the_tokens_there_are(tmp_path: Path, eos: str | None) -> None:
    folder = given_tokenizer(tmp_path / "given")
    with pytest.raises(RedoneError, match=r"set tokenizer\.eos .*known: <end>"):
        Engine(tmp_path).run(TokenizerStep((), TokenizerConfig(path=str(folder), eos=eos), 1))


def test_a_changed_tokenizer_file_is_another_step(tmp_path: Path) -> None:
    folder = given_tokenizer(tmp_path / "given", eos_token="<end>")
    step = TokenizerStep((), TokenizerConfig(path=str(folder)), 1)
    before = step.folder_name()
    train_bpe(iter(made_up_texts("other", 200)), 300, "<end>").save(str(folder / "tokenizer.json"))
    assert step.folder_name() != before


def test_a_hub_name_offline_asks_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(RedoneError, match=r"nobody/nothing.*no route to host.*give the path of a tokenizer\.json"):
        TokenizerStep((), TokenizerConfig(path="nobody/nothing"), 1).config()


@pytest.mark.parametrize("path", ["/nowhere/tokenizer.json", "./nowhere"])
def test_a_wrong_path_is_not_looked_up_on_the_hub(path: str) -> None:
    with pytest.raises(RedoneError, match="no such file"):
        TokenizerStep((), TokenizerConfig(path=path), 1).config()


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RedoneError, match=r"tokenizer\.json: not a tokenizer"):
        Engine(tmp_path).run(TokenizerStep((), TokenizerConfig(path=str(tmp_path / "tokenizer.json")), 1))


def test_a_vocabulary_too_small_for_bytes_is_refused() -> None:
    with pytest.raises(RedoneError, match="at least 257"):
        TokenizerConfig(vocab_size=256)


def test_training_resumes_after_its_samples_are_gone(
    tmp_path: Path, made: Made, digests: Callable[[Output], dict[str, str]]
) -> None:
    parts = curated_parts(write_keep(tmp_path / "keep", DOCUMENTS))
    engine = Engine(tmp_path)
    step = TokenizerStep(parts, TokenizerConfig(vocab_size=320, train_bytes=20_000), 1)
    folder = engine.folder(step)
    results = []
    (folder / "tasks").mkdir(parents=True)
    for index, task in enumerate(step.tasks()):
        results.append(step.run(task, index, folder))
        (folder / "tasks" / f"{index:06d}.json").write_text(json.dumps(results[-1]))
    step.finish(folder, results)  # killed here: samples removed, no manifest yet
    assert digests(engine.run(step)) == digests(made.tokenizer)
