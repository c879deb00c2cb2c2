"""Runs that are killed, stopped or moved to other ranks go on as if nothing had been; and what they export."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("deepspeed", reason="redone-train cpt needs the packages of redone[train]")

import torch
from launches import Launches
from safetensors.torch import load_file, save_file
from small_cpt import LENGTH, ROWS, write_config
from tiny_model import write_model

from redone_data.errors import RedoneError
from redone_train.train import checkpoints
from redone_train.train.export import export
from redone_train.train.stopping import STOPPED_EXIT_CODE

STAGES = ("zero2", "zero3")  # zero1 is read and written by the code of zero2
STEPS = 6
LORA = ("--set", "model.lora={rank: 4, dropout: 0.2}")


@pytest.fixture(scope="session")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Launches:
    folder = tmp_path_factory.mktemp("resume")
    model = write_model(folder / "model")
    described = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**described, "tie_word_embeddings": True}))
    weights = load_file(model / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    values = {
        "model.start": str(model),
        "tokens": STEPS * ROWS * LENGTH,
        "data.workers": 1,
        "checkpoints": {"every": 3, "keep": 2},
        "logging.every": 2,  # not a divisor of 3: a checkpoint falls between two lines
    }
    runs = Launches(folder, write_config(folder / "data", values))
    runs.add("whole-plain", "whole-plain", ranks=1)
    for stage in STAGES:
        zero = ("--set", f"deepspeed={stage}")
        runs.add(f"whole-{stage}", f"whole-{stage}", *zero)
        runs.add(f"killed-{stage}", stage, *zero, killed_at=6)
        copied = [str(folder / stage), str(folder / f"moved-{stage}")]
        runs.add(f"one-{stage}", f"moved-{stage}", *zero, ranks=1, copy=copied, told_at=5)
        runs.add(f"two-{stage}", f"moved-{stage}", *zero)
        runs.add(f"resumed-{stage}", stage, *zero)
    runs.add("whole-lora", "whole-lora", *LORA)
    runs.add("told-lora", "lora", *LORA, told_at=5)
    runs.add("changed", "lora", *LORA, "--set", "batch.rows=16", ranks=1)
    runs.add("resumed-lora", "lora", *LORA)
    runs.run()
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_in_its_checkpoint_goes_on_to_the_same_losses(launches: Launches, stage: str) -> None:
    assert launches.codes(f"killed-{stage}")[0] == -9
    assert launches.codes(f"resumed-{stage}") == [0, 0]
    assert "going on from" in launches.said(f"resumed-{stage}")
    assert launches.curve(stage) == launches.curve(f"whole-{stage}")
    assert set(launches.curve(stage)) == {2, 4, 6}


@pytest.mark.slow
def test_a_run_told_to_stop_on_one_rank_stops_on_all_and_goes_on_to_the_same_losses(launches: Launches) -> None:
    assert launches.codes("told-lora") == [STOPPED_EXIT_CODE, STOPPED_EXIT_CODE]
    assert launches.codes("resumed-lora") == [0, 0]
    assert "step-5" in launches.said("resumed-lora")
    assert launches.curve("lora") == launches.curve("whole-lora"), "dropout draws what it would have drawn"


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_on_one_rank_and_back_on_two(launches: Launches, stage: str) -> None:
    assert launches.codes(f"one-{stage}") == [STOPPED_EXIT_CODE]
    assert "step-3" in launches.said(f"one-{stage}")
    assert launches.codes(f"two-{stage}") == [0, 0]
    assert "step-5" in launches.said(f"two-{stage}")
    moved, whole = launches.curve(f"moved-{stage}"), launches.curve(f"whole-{stage}")
    for step, values in whole.items():
        assert moved[step] == pytest.approx(values, rel=1e-5), step
    folder = launches.folder / f"moved-{stage}" / checkpoints.FOLDER
    assert sorted(path.name for path in folder.iterdir()) == ["step-5", "step-6"], "nothing converted is left"


@pytest.mark.slow
def test_a_changed_run_is_refused_by_the_command_with_the_reason(launches: Launches) -> None:
    assert launches.codes("changed") == [2]
    assert "batch.rows was 8, is 16" in launches.said("changed")


@pytest.fixture
def plain(launches: Launches, tmp_path: Path) -> dict[str, torch.Tensor]:
    """What the same run without DeepSpeed learned."""
    export(launches.folder / "whole-plain", tmp_path / "plain", dtype="fp32")
    return load_file(tmp_path / "plain" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_weights_of_every_stage_are_exported(
    launches: Launches, plain: dict[str, torch.Tensor], tmp_path: Path, stage: str
) -> None:
    export(launches.folder / stage, tmp_path / "out", dtype="fp32")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert "lm_head.weight" not in weights, "tied weights are written once"
    assert weights.keys() == plain.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, plain[name], atol=2e-4, rtol=1e-3, msg=lambda text, name=name: name + text)


@pytest.mark.slow
def test_an_exported_model_reads_and_writes_text(launches: Launches, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = export(launches.folder / "zero3" / "checkpoints" / "step-6", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    assert done.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    written = model.generate(**tokenizer("hello", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert tokenizer.decode(written[0]).startswith("hello")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks it
def test_adapters_are_exported_alone_and_merged(launches: Launches, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    export(launches.folder / "lora", tmp_path / "adapter", dtype="fp32")
    export(launches.folder / "lora", tmp_path / "merged", dtype="fp32", merge=True)
    base = AutoModelForCausalLM.from_pretrained(launches.folder / "model")
    tokens = torch.arange(1, 40).unsqueeze(0)
    before = base(tokens).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")(tokens).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(tokens).logits
    torch.testing.assert_close(adapted, merged, atol=1e-5, rtol=1e-5)
    assert (adapted - before).abs().max() > 1e-3, "the adapters have learned something"
    with pytest.raises(RedoneError, match="give --base FOLDER"):
        export(launches.folder / "lora", tmp_path / "again", merge=True, base=tmp_path / "nowhere")


@pytest.mark.slow
def test_an_export_writes_over_nothing_and_leaves_nothing_half_done(launches: Launches, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(RedoneError, match="is there already, and not empty"):
        export(launches.folder / "zero2", full)
    with pytest.raises(RedoneError, match="--merge is for adapters"):
        export(launches.folder / "zero2", tmp_path / "out", merge=True)
    with pytest.raises(RedoneError, match="neither a checkpoint nor a run that has one"):
        export(tmp_path, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


@pytest.fixture(autouse=True)
def _accelerator() -> Iterator[None]:
    """DeepSpeed is told here that there is no GPU."""
    before = os.environ.get("DS_ACCELERATOR")
    yield
    if before is None:
        os.environ.pop("DS_ACCELERATOR", None)
