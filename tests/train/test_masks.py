"""Documents of a packed row do not see one another: tiny random models of each family, against the documents alone."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from redone_data.errors import RedoneError
from redone_train.train.config import ModelConfig
from redone_train.train.masks import Attention, attention_for, check_masks, model_inputs, probe_rows

VOCAB = 97
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": None,
}
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(num_hidden_layers=2, **SIZES),
    "qwen2": lambda: Qwen2Config(num_hidden_layers=2, **SIZES),
    "qwen3": lambda: Qwen3Config(num_hidden_layers=2, **SIZES),
    # Windows shorter than the documents.
    "mistral": lambda: MistralConfig(num_hidden_layers=2, sliding_window=5, **SIZES),
    "gemma3": lambda: Gemma3TextConfig(
        num_hidden_layers=2, sliding_window=5, layer_types=["sliding_attention", "full_attention"], **SIZES
    ),
}
# The lengths of the documents of each row.
ROWS = [[9, 1, 14, 6, 10], [23, 17]]


def model_of(family: str, attention: Attention = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made: Any = AutoModelForCausalLM
        return made.from_config(FAMILIES[family](), attn_implementation=attention, dtype=dtype).eval()


def packed_batch() -> dict[str, torch.Tensor]:
    tokens = torch.randint(0, VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))
    positions = torch.stack([torch.cat([torch.arange(n) for n in lengths]) for lengths in ROWS])
    return {"input_ids": tokens, "position_ids": positions}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_of_packed_documents_are_those_of_the_documents_alone(family: str, attention: Attention) -> None:
    model, batch = model_of(family, attention), packed_batch()
    packed = model(**model_inputs(batch, attention)).logits
    for row, lengths in enumerate(ROWS):
        start = 0
        for length in lengths:
            alone = model(input_ids=batch["input_ids"][row : row + 1, start : start + length]).logits[0]
            assert float((packed[row, start : start + length] - alone).abs().max()) < 1e-5
            start += length
    assert check_masks(model, batch, attention, torch.float32) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_stops_where_a_mask_that_came_along_turns_document_masks_off(family: str) -> None:
    class Masked(torch.nn.Module):
        """What a collator that pads does to a packed batch."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: Any) -> Any:
            return self.model(**inputs, attention_mask=torch.ones_like(inputs["input_ids"]))

    batch = packed_batch()
    with pytest.raises(RedoneError, match="with sdpa the documents of a row see one another"):
        check_masks(Masked(model_of(family)), batch, "sdpa", torch.float32)
    with pytest.raises(RedoneError, match="where rounding explains 8"):
        check_masks(Masked(model_of(family, dtype=torch.bfloat16)), batch, "sdpa", torch.bfloat16)


@pytest.mark.parametrize("family", FAMILIES)
def test_rounding_to_16_bits_does_not_stop_a_run(family: str) -> None:
    difference = check_masks(model_of(family, dtype=torch.bfloat16), packed_batch(), "sdpa", torch.bfloat16)
    assert 0 < difference < 0.04


def test_a_cache_that_is_kept_turns_document_masks_off_and_so_none_is() -> None:
    batch = packed_batch()
    assert model_inputs(batch, "sdpa")["use_cache"] is False
    assert "attention_mask" not in model_inputs(batch, "sdpa")


@torch.no_grad()
def test_flash_attention_is_given_one_row_in_which_every_row_begins_a_document() -> None:
    inputs = model_inputs(packed_batch(), "flash_attention_2")
    assert inputs["input_ids"].shape == (1, 80)
    assert inputs["position_ids"][0, 40] == 0
    model = model_of("llama")  # the flattened form means the same to any attention
    expected = model(**model_inputs(packed_batch(), "sdpa")).logits.flatten(0, 1)
    assert float((model(**inputs).logits[0] - expected).abs().max()) < 1e-5


def test_rows_of_one_long_document_are_cut_so_that_the_probe_has_several() -> None:
    batch = {"input_ids": torch.zeros(3, 900, dtype=torch.long), "position_ids": torch.arange(900).repeat(3, 1)}
    tokens, positions = probe_rows(batch)
    assert tokens.shape == positions.shape == (2, 192)
    assert positions.eq(0).sum(1).tolist() == [4, 4]


def test_the_probe_leaves_a_model_in_the_mode_it_was_in() -> None:
    model = model_of("llama").train()
    check_masks(model, packed_batch(), "sdpa", torch.float32)
    assert model.training


def test_attention_is_chosen_by_the_device_and_what_the_model_can() -> None:
    from transformers import Gemma2Config

    cpu, gpu, auto = torch.device("cpu"), torch.device("cuda"), ModelConfig("m")
    llama, gemma2 = FAMILIES["llama"](), Gemma2Config()
    assert attention_for(auto, cpu, torch.float32, llama) == "sdpa"
    assert attention_for(auto, cpu, torch.float32, gemma2) == "eager"  # its softcapping is not in sdpa
    assert attention_for(auto, gpu, torch.float32, llama) == "flex_attention"
    assert attention_for(ModelConfig("m", attention="eager"), gpu, torch.bfloat16, llama) == "eager"
