"""What `--dry-run` says a run needs is what it takes: beside real models, and the published figures of ZeRO."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

import torch
from rich.console import Console
from small_cpt import write_config
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from redone_data.errors import RedoneError
from redone_train.dry_run import dry_run_cpt, report
from redone_train.train.config import BatchConfig, CptConfig, DataConfig, LoraConfig, ModelConfig, SourceConfig
from redone_train.train.estimate import (
    Estimate,
    Machine,
    Memory,
    Size,
    counted,
    estimate,
    kept_bytes,
    offloaded,
    plain_states,
    zero_states,
)
from redone_train.train.start import Start, load_model

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "pad_token_id": None,
}
FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "gemma3": Gemma3TextConfig(sliding_window=1024, layer_types=["full_attention"] * 3, **SIZES),
}
ROWS, LENGTH = 2, 96
H100 = Machine("H100", 8, 989e12, 80e9, assumed=True)


def config_of(length: int = LENGTH, rows: int = 64, deepspeed: str | None = None, **model: Any) -> CptConfig:
    return CptConfig(
        output="out",
        model=ModelConfig("here", **model),
        data=DataConfig({"posts": SourceConfig("posts")}, length=length),
        batch=BatchConfig(rows, ROWS),
        deepspeed=deepspeed,
    )


def start_of(architecture: PreTrainedConfig) -> Start:
    return Start("folder", "here", architecture, Path("here"), None, None)


@pytest.mark.parametrize("case", ["fp32", "bf16", "autocast", "checkpointed", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_counted_without_data_is_what_a_real_model_keeps(family: str, case: str) -> None:
    lora = LoraConfig(rank=4) if case == "lora" else None
    config = config_of(gradient_checkpointing=case == "checkpointed", lora=lora)
    precision = torch.float32 if case == "fp32" else torch.bfloat16
    autocast = case in ("autocast", "lora")
    start = start_of(FAMILIES[family])
    size, kept = counted(start, config, precision, autocast=autocast)

    made: Any = AutoModelForCausalLM
    real = made.from_config(FAMILIES[family], attn_implementation="sdpa")
    real.to(torch.float32 if case == "autocast" else precision)
    if lora is not None:
        from redone_train.train.start import with_adapters

        real = with_adapters(real, lora, seed=1)
    assert size.parameters == sum(value.numel() for value in real.parameters())
    assert size.trained == sum(value.numel() for value in real.parameters() if value.requires_grad)
    expected = kept_bytes(real, ROWS, LENGTH, autocast=autocast)
    if case == "checkpointed":
        real.activation_checkpointing_enable({"use_reentrant": False})
        expected = kept_bytes(real, ROWS, LENGTH, autocast=autocast) + expected / 3
    assert kept == pytest.approx(expected, rel=0.01)


def test_states_without_deepspeed_are_what_torch_holds_after_a_step() -> None:
    made: Any = AutoModelForCausalLM
    model = made.from_config(FAMILIES["llama"], dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.zeros(1, 8, dtype=torch.long), use_cache=False).logits.square().mean().backward()
    optimizer.step()
    values = list(model.parameters())
    moments = [s[name] for s in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    size = Size(sum(value.numel() for value in values), sum(value.numel() for value in values), 0)
    found = plain_states(size, torch.float32, 1, activations=0, logits=0)
    assert found.weights == sum(value.nbytes for value in values)
    assert found.gradients == sum(value.grad.nbytes for value in values)
    assert found.optimizer == sum(value.nbytes for value in moments)
    assert found.buffers == 0


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_states_of_each_zero_stage_are_those_of_the_paper(stage: int, gigabytes: float) -> None:
    size = Size(7_500_000_000, 7_500_000_000, 0)  # arXiv 1910.02054, figure 1
    weights, gradients, optimizer, _ = zero_states(size, stage, torch.bfloat16, 64, accumulates=False)
    assert (weights + gradients + optimizer) / 1e9 == pytest.approx(gigabytes, rel=0.02)


def test_offloading_moves_states_to_the_host_and_loses_none() -> None:
    before = Memory(10, 20, 30, 1, 2, 3)
    for stage, weights in ((2, 10), (3, 0)):
        after = offloaded(before, stage)
        assert (after.weights, after.gradients, after.optimizer) == (weights, 0, 0)
        assert after.total + after.host == before.total


def estimated(architecture: PreTrainedConfig, config: CptConfig, machine: Machine = H100) -> Estimate:
    return estimate(config, start_of(architecture), {"posts": 4.0}, num_steps=1000, machine=machine)


def qwen_7b() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )


def test_a_model_of_7b_is_sized_without_its_weights() -> None:
    found = estimated(qwen_7b(), config_of(4096, rows=1024, gradient_checkpointing=True, deepspeed="zero3"))
    assert found.size.parameters == 7_615_616_512  # what Qwen2.5-7B has
    assert found.size.flops_per_token == 6 * (7_615_616_512 - 152_064 * 3584)
    assert [preset for preset in found.memory if found.fits(preset)] == [
        "zero2",
        "zero2_offload",
        "zero3",
        "zero3_offload",
    ]


def test_checkpointing_and_adapters_need_less_and_their_time_is_said_so() -> None:
    plain = estimated(FAMILIES["llama"], config_of())
    checkpointed = estimated(FAMILIES["llama"], config_of(gradient_checkpointing=True))
    adapters = estimated(FAMILIES["llama"], config_of(lora=LoraConfig(rank=2)))
    assert checkpointed.memory["zero2"].activations < 0.5 * plain.memory["zero2"].activations
    assert checkpointed.seconds == pytest.approx(plain.seconds / 0.75)
    assert adapters.memory["none"].optimizer < 0.1 * plain.memory["none"].optimizer
    assert adapters.seconds < plain.seconds


def test_a_dry_run_says_what_the_run_is_and_how_it_is_launched(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=80).print(
        report(estimated(FAMILIES["llama"], config_of(deepspeed="zero2")), "cpt cpt.yaml"), soft_wrap=True
    )
    text = capsys.readouterr().out
    assert "4.00 of posts" in text
    assert "6.14M = 1,000 steps x 64 rows x 96" in text
    assert re.search(r"> zero2 .* yes", text)
    assert all(len(line) <= 80 for line in text.splitlines() if "torchrun" not in line)
    assert "a guess" in text
    for line in (
        "torchrun --standalone --nproc-per-node 8 -m redone_train cpt cpt.yaml",
        "deepspeed --num_gpus 8 --module redone_train cpt cpt.yaml",
        "srun --ntasks 8 --gpus 8 redone-train cpt cpt.yaml",
    ):
        assert line in text


def test_a_dry_run_looks_at_all_that_the_run_reads_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path)
    dry_run_cpt(path, ("seed=2",), gpus=2)
    text = capsys.readouterr().out
    assert "0.1m: 8,520 parameters" in text
    assert "6 steps x 8 rows x 32" in text
    assert f"torchrun --standalone --nproc-per-node 2 -m redone_train cpt {path} --set seed=2\n" in text
    assert not (tmp_path / "run" / "checkpoints").exists()
    with pytest.raises(RedoneError, match="ZeRO-0 in bf16"):
        dry_run_cpt(path, ("deepspeed=zero0",), gpus=2)
    with pytest.raises(RedoneError, match="8 rows cannot be 3 ranks x 2 rows"):
        dry_run_cpt(path, gpus=3)
    (tmp_path / "posts" / "00001.ds").unlink()
    with pytest.raises(RedoneError, match=r"00001\.ds: absent"):
        dry_run_cpt(path)


def test_a_batch_that_so_many_devices_cannot_share_is_an_error() -> None:
    with pytest.raises(RedoneError, match="64 rows cannot be 24 ranks x 2 rows"):
        estimated(FAMILIES["llama"], config_of(), Machine("H100", 24, 989e12, 80e9, assumed=True))


def test_a_new_model_of_a_size_name_is_estimated_as_it_is_made(tmp_path: Path) -> None:
    from redone_train.train.start import DataTokenizer, find_start

    model = ModelConfig("1m")
    start = find_start(model, tmp_path, tokenizer=DataTokenizer(4096, 0), length=LENGTH, cache=tmp_path)
    size, _ = counted(start, config_of(), torch.float32, autocast=False)
    real = load_model(start, model, attention="sdpa")
    assert size.parameters == sum(value.numel() for value in real.parameters())
