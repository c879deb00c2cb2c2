"""Exports of checkpoints that are made by hand; those of runs are in test_resume.py."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="redone-train export needs the packages of redone[train]")

from tiny_model import write_model

from redone_data.errors import RedoneError
from redone_train.train import checkpoints
from redone_train.train.checkpoints import Checkpoint
from redone_train.train.export import TOKENIZER_FILES, export, tokenizer_files


def checkpoint_of(model: Path, output: Path) -> Checkpoint:
    """As a run without DeepSpeed writes it."""
    aside = checkpoints.begin(output, 1)
    shutil.copytree(model, aside, dirs_exist_ok=True)
    files = checkpoints.describe(aside, checkpoints.files_in(aside))
    return checkpoints.finish(aside, output, 1, files=files, identity={}, ranks=1, zero_stage=None)


def test_a_token_datasets_tokenizer_becomes_one_that_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = write_model(tmp_path / "model")
    for name in TOKENIZER_FILES:
        if name != "tokenizer.json":
            (model / name).unlink(missing_ok=True)
    checkpoint_of(model, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.eos_token == "<end>"
    assert tokenizer.decode(tokenizer("two words").input_ids) == "two words"


def test_the_start_points_own_tokenizer_goes_before_the_datas(tmp_path: Path) -> None:
    model, data = write_model(tmp_path / "model"), tmp_path / "tokenizer.json"
    assert [path.parent for path in tokenizer_files(model, data)] == [model] * 3
    assert tokenizer_files(None, data) == [data]
    assert tokenizer_files(None, None) == []


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    folder = checkpoint_of(write_model(tmp_path / "model"), tmp_path / "run").folder
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(RedoneError, match=r"model\.safetensors is not what was written"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
