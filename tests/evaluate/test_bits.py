"""Bits per byte by document: what each costs alone, an interval over documents, and no pool of another tokenizer."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_model import write_model
from token_data import write_tokens
from tokenizers import Tokenizer
from torch.nn import functional as F  # noqa: N812

from redone_data.errors import RedoneError
from redone_data.manifest import file_digest, read_json, write_json
from redone_train.evaluate import bits
from redone_train.evaluate.bits import bits_per_byte, general_domains, pool_texts
from redone_train.evaluate.config import BitsConfig
from redone_train.evaluate.results import Results
from redone_train.evaluation import run_evaluation
from redone_train.generate import LocalModel

VOCAB = 261
CONFIG = BitsConfig(pools={"held": "run/validation"}, tokens=10_000, length=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's tokens and two held-out domains; a model."""
    folder, rng = tmp_path_factory.mktemp("bits"), np.random.default_rng(0)
    documents = [rng.integers(5, VOCAB, size).tolist() for size in rng.integers(3, 60, 40)]
    write_tokens(folder / "run" / "tokens", [documents[:10]], VOCAB)
    for name, own in (("wiki", documents[10:30]), ("notes", documents[30:])):
        write_tokens(folder / "run" / "validation" / name, [own], VOCAB)
        (folder / "run" / "validation" / name / "manifest.json").unlink()
    write_model(folder / "model", chat=False)
    return folder


def measured(folder: Path, cache: Path, config: BitsConfig = CONFIG) -> dict:
    model = LocalModel(folder / "model", "cpu", "float32")
    return bits_per_byte(model, config, folder, cache, seed=1, resamples=200)


@torch.no_grad()
def test_a_document_costs_what_it_costs_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "LOGITS_AT_ONCE", VOCAB * 60)  # two or three pieces at a time
    found = measured(folder, tmp_path)
    assert list(found) == ["held/notes", "held/wiki"]
    model = LocalModel(folder / "model", "cpu", "float32").model
    tokens = np.fromfile(folder / "run/validation/wiki/00000.ds", "<u2").astype(np.int64)
    ends = np.fromfile(folder / "run/validation/wiki/00000.ds.index", "<u8").astype(np.int64)
    nats = 0.0
    for document in np.split(tokens, ends[:-1]):
        for start in range(0, len(document), 23):
            piece = torch.from_numpy(document[start : start + 23])
            shown = torch.cat([torch.tensor([0]), piece[:-1]])
            nats += float(F.cross_entropy(model(shown[None]).logits[0], piece, reduction="sum"))
    value = found["held/wiki"]["bits_per_byte"]["value"]
    assert value == pytest.approx(nats / math.log(2) / (3 * len(tokens)), rel=1e-5)  # token_data.py: 3 bytes a token
    assert found["held/wiki"]["documents"] == 20
    low, high = found["held/wiki"]["bits_per_byte"]["interval"]
    assert low < value < high


def test_an_evaluation_of_text_alone_has_the_retention_of_each_model_against_the_first(
    folder: Path, tmp_path: Path
) -> None:
    """The same weights lose nothing, draw by draw; other weights have an interval of their own."""
    other = write_model(tmp_path / "other", chat=False, seed=5)
    bits = {"pools": {"held": str(folder / "run/validation")}, "general": ["held/wiki"], "length": 24}
    models = {"base": str(folder / "model"), "same": str(folder / "model"), "other": str(other)}
    values = {"output": "out", "models": models, "bits": bits, "resamples": 60}
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    run_evaluation(tmp_path / "eval.yaml")
    results = Results.read(tmp_path / "out")
    same, changed = results.retention("same"), results.retention("other")
    assert same is not None
    assert changed is not None
    assert same.interval == (0, 0)
    assert changed.value != 0
    first, now = (results.domain_bits(model, "held/wiki").value for model in ("base", "other"))
    assert changed.value == pytest.approx(100 * ((now or 0) / (first or 1) - 1))
    assert "retention: general bits per byte" in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")


def test_documents_that_were_trained_on_are_found_in_a_pool_and_left_out_of_its_clean_bits(tmp_path: Path) -> None:
    """A pool of real text: one of its documents stands in the training file, in capitals."""
    model = write_model(tmp_path / "model", chat=False)
    encode = Tokenizer.from_file(str(model / "tokenizer.json")).encode
    texts = [
        " ".join(f"{word}{n}" for word in ("sun", "tea", "cat", "red", "ink", "owl", "jam", "sky")) for n in range(6)
    ]
    data = write_tokens(tmp_path / "run" / "tokens", [[encode(text).ids for text in texts]], VOCAB)
    write_tokens(tmp_path / "run" / "validation" / "wiki", [[encode(text).ids for text in texts]], VOCAB)
    (tmp_path / "run" / "validation" / "wiki" / "manifest.json").unlink()
    (data.folder / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    tokenizer = {**data.manifest["tokenizer"], "sha256": file_digest(data.folder / "tokenizer.json")}
    write_json(data.folder / "manifest.json", {**data.manifest, "tokenizer": tokenizer})
    (tmp_path / "corpus.jsonl").write_text(
        json.dumps({"id": "d", "text": f"So: {texts[4].upper()}."}), encoding="utf-8"
    )
    values = {"output": "out", "models": {"m": "model"}, "bits": {"pools": {"held": "run/validation"}}, "resamples": 20}
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump({**values, "trained_on": {"m": ["corpus.jsonl"]}}), "utf-8")
    results = run_evaluation(tmp_path / "eval.yaml")
    (place,) = results.removed("bits/held/wiki")
    kept = next((tmp_path / "out" / "bits").glob("*.json"))
    nats, told = np.array(read_json(kept)), pool_texts(BitsConfig(pools={"held": "run/validation"}), tmp_path)
    assert told["bits/held/wiki"][place]["text"] == texts[4]
    num_bytes = 3 * np.array([len(encode(one["text"]).ids) + 1 for one in told["bits/held/wiki"].values()])
    rest = [n for n in range(6) if n != int(place)]
    clean = results.clean_bits("m", "held/wiki")
    assert clean.value == pytest.approx(nats[rest].sum() / num_bytes[rest].sum() / math.log(2))
    assert clean.value != results.domain_bits("m", "held/wiki").value
    assert results.bits["m"]["held/wiki"]["clean"]["n"] == 5
    values |= {"trained_on": {"m": ["corpus.jsonl"]}, "leave_out_trained_on": True}
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    others = run_evaluation(tmp_path / "eval.yaml")
    assert others.domain_bits("m", "held/wiki").value == clean.value
    assert others.bits["m"]["held/wiki"]["documents"] == 5
    assert others.bits["m"]["held/wiki"]["clean"] is None
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    with pytest.raises(RedoneError, match="all 6 documents of bits/held/wiki stand in what was trained on"):
        run_evaluation(tmp_path / "eval.yaml")


def test_what_was_measured_is_not_measured_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(folder, tmp_path)
    monkeypatch.setattr(bits, "document_nats", None)
    assert measured(folder, tmp_path) == found


def test_retention_is_of_the_domains_that_are_named(folder: Path) -> None:
    assert general_domains(CONFIG, ["held/notes", "held/wiki"]) == ["held/notes", "held/wiki"]
    named = dataclasses.replace(CONFIG, general=("held/wiki",))
    assert general_domains(named, ["held/notes", "held/wiki"]) == ["held/wiki"]
    with pytest.raises(RedoneError, match=r"bits\.general: 'news' is no pool and no domain"):
        general_domains(dataclasses.replace(CONFIG, general=("news",)), ["held/notes"])


def test_pools_of_another_tokenizer_are_refused(folder: Path, tmp_path: Path) -> None:
    """A base model's bits on tokens that it reads as other text would be a large number that means nothing."""
    tokens = folder / "run" / "tokens"
    manifest = read_json(tokens / "manifest.json")
    other = (folder / "model" / "tokenizer.json").read_text(encoding="utf-8").replace('"<think>"', '"<other>"')
    (tokens / "tokenizer.json").write_text(other, encoding="utf-8")
    changed = {**manifest["tokenizer"], "sha256": file_digest(tokens / "tokenizer.json")}
    write_json(tokens / "manifest.json", {**manifest, "tokenizer": changed})
    try:
        with pytest.raises(RedoneError, match=r"bits\.pools: not tokenized with the tokenizer of .*<other>"):
            measured(folder, tmp_path)
    finally:
        write_json(tokens / "manifest.json", manifest)


def test_pools_without_a_token_dataset_beside_them_say_what_to_give(folder: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, pools={"wiki": str(tmp_path / "deep" / "wiki")})
    with pytest.raises(RedoneError, match=r"bits\.data: no token dataset lies beside .*wiki"):
        measured(folder, tmp_path, config)
