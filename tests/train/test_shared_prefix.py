"""What prompts begin with is read once, and the model says what it says when it reads each prompt whole."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="redone-train generate needs transformers")

import torch
import transformers
from tiny_model import write_model

from redone_train import shared_prefix
from redone_train.evaluate.answers import log_probs
from redone_train.generate import LocalModel, Sampling, generate
from redone_train.shared_prefix import SharedPrefix

VOCAB, PAD = 64, 0
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": None,
    "pad_token_id": PAD,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "full attention": ("Qwen3", {"num_hidden_layers": 2, "head_dim": 8}),
    # The shared tokens are more than its window, and fewer.
    "a window of 8": ("Gemma3Text", {"num_hidden_layers": 2, "head_dim": 8, "sliding_window": 8}),
    "a window of 48": ("Gemma3Text", {"num_hidden_layers": 2, "head_dim": 8, "sliding_window": 48}),
}


def tiny(kind: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **settings)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def rows_after(prefix: list[int], lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [[*prefix, *torch.randint(1, VOCAB, (length,), generator=generator).tolist()] for length in lengths]


PREFIX = [1 + place % 7 * place % (VOCAB - 1) for place in range(32)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lengths", [[5, 5, 5], [1, 9, 4], [2, 60, 30]])  # the last: padding beyond what is shared
def test_logits_and_answers_are_those_of_prompts_read_whole(name: str, lengths: list[int]) -> None:
    model = tiny(*MODELS[name])
    rows = rows_after(PREFIX, lengths)
    longest = max(map(len, rows))
    inputs = {
        "input_ids": torch.tensor([[PAD] * (longest - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
    }
    asked: dict[str, Any] = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    whole = model.generate(**inputs, max_new_tokens=12, **asked)
    shared = SharedPrefix.of(model, rows)
    assert shared is not None
    assert list(shared.tokens) == PREFIX
    for _ in range(2):  # a batch leaves what is shared as it was
        cache = shared.cache((inputs["attention_mask"] == 0).sum(1))
        found = model.generate(**inputs, max_new_tokens=12, past_key_values=cache, **asked)
        assert torch.equal(found.sequences, whole.sequences)
        torch.testing.assert_close(torch.stack(found.logits), torch.stack(whole.logits), atol=1e-5, rtol=1e-4)


def test_prompts_that_share_too_little_and_models_that_keep_more_than_keys_are_read_whole() -> None:
    full = tiny(*MODELS["full attention"])
    rows = rows_after(PREFIX, [3, 4])
    assert SharedPrefix.of(full, rows[:1]) is None
    assert SharedPrefix.of(full, [row[25:] for row in rows]) is None
    assert SharedPrefix.of(full, rows_after(PREFIX, [0, 0])) is not None
    convolution = tiny("Lfm2", {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]})
    assert SharedPrefix.of(convolution, rows) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), chat=False)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens of every call of a model, rows times columns."""
    called: list[int] = []
    forward = transformers.Qwen3Model.forward

    def counted(model: Any, input_ids: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        called.append(input_ids.numel())
        return forward(model, input_ids, *arguments, **options)

    monkeypatch.setattr(transformers.Qwen3Model, "forward", counted)
    return called


@pytest.mark.parametrize(
    "sampling", [Sampling(max_new_tokens=1), Sampling(num_answers=2, max_new_tokens=1, temperature=1.0)]
)
def test_examples_before_every_prompt_are_read_once_and_change_no_answer(
    folder: Path, read: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    prompts = ["solved example; " * 8 + f"{n}?" for n in range(100, 108)]
    lines = "\n".join(json.dumps({"id": n, "prompt": prompt}) for n, prompt in enumerate(prompts))
    (tmp_path / "prompts.jsonl").write_text(lines, encoding="utf-8")
    generate(folder, tmp_path / "prompts.jsonl", tmp_path / "once.jsonl", sampling, batch_size=4)
    length = len(prompts[0])
    assert sum(read) < 2 * length
    monkeypatch.setattr(shared_prefix, "FEWEST", 1000)
    read.clear()
    generate(folder, tmp_path / "prompts.jsonl", tmp_path / "whole.jsonl", sampling, batch_size=4)
    assert sum(read) >= 8 * length
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("end", ["", " and more of it"])
def test_the_likelihood_of_options_is_the_same_after_what_is_shared(folder: Path, end: str) -> None:
    model = LocalModel(folder, "cpu")
    starts = [model.encoded("solved example; " * 4 + f"{n}{end}\n") for n in (1, 2)]
    prefix = SharedPrefix.of(model.model, starts)
    assert prefix is not None
    for start in starts:
        rows = [[*start, *model.encoded(option)] for option in ("yes\n", "no\n", "perhaps\n")]
        for size in (len(start), 20):  # 20: options that part before the prompts do
            assert log_probs(model, size, rows, prefix) == pytest.approx(log_probs(model, size, rows), rel=1e-5)
