"""Start points: what is loaded is what was asked for, and what does not fit the data is an error before a weight is."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

import torch
from tiny_model import write_model
from token_data import write_tokens
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

from redone_data.errors import RedoneError
from redone_data.manifest import file_digest, write_json
from redone_data.tokens.dataset import TokenDataset
from redone_train.cli import app
from redone_train.train.config import LoraConfig, ModelConfig
from redone_train.train.gguf import unpack
from redone_train.train.start import NEW_SIZES, DataTokenizer, Start, find_start, load_model, precision

VOCAB = 261  # of tiny_model.py


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with its tokenizer."""
    return write_model(tmp_path / "model")


def found(directory: Path, start: str = "model", length: int = 64, **tokenizer: Any) -> Start:
    facts = DataTokenizer(**{"vocab_size": VOCAB, "eos_token_id": 0, **tokenizer})
    return find_start(ModelConfig(start), directory, tokenizer=facts, length=length, cache=directory / "cache")


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def test_a_folder_is_loaded_as_transformers_itself_loads_it(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    start = found(folder.parent, file=folder / "tokenizer.json")
    assert (start.kind, start.vocab_size, start.context, start.bos_token_id) == ("folder", VOCAB, 256, None)
    loaded = load_model(start, ModelConfig("model"), attention="sdpa")
    expected = weights(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    assert weights(loaded).keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in weights(loaded).items())
    assert loaded.config._attn_implementation == "sdpa"
    half = load_model(start, ModelConfig("model"), attention="eager", weights=torch.bfloat16)
    assert {value.dtype for value in weights(half).values()} == {torch.bfloat16}


def test_a_new_model_depends_on_its_size_and_the_seed_alone_and_says_what_it_ends_documents_with(
    tmp_path: Path,
) -> None:
    start = found(tmp_path, "0.3m", vocab_size=1000, eos_token_id=7)
    assert (start.kind, start.folder, start.vocab_size, start.context) == ("new", None, 1024, 64)
    assert start.config.eos_token_id == 7
    config = ModelConfig("0.3m")
    torch.manual_seed(1)
    first = weights(load_model(start, config, attention="sdpa", seed=3))
    torch.manual_seed(2)
    again, other = (weights(load_model(start, config, attention="sdpa", seed=seed)) for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("size", "millions"), [("1m", 1), ("10m", 10), ("100m", 100), ("300m", 313), ("1b", 1020)])
def test_the_name_of_a_size_is_its_number_of_parameters(tmp_path: Path, size: str, millions: int) -> None:
    from transformers import AutoModelForCausalLM

    assert size in NEW_SIZES
    with torch.device("meta"):
        made: Any = AutoModelForCausalLM
        model = made.from_config(found(tmp_path, size, vocab_size=4096).config)
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.12)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_adapters_alone_learn_on_every_linear_layer_but_the_output(folder: Path, checkpointed: bool) -> None:
    config = ModelConfig("model", lora=LoraConfig(rank=2), gradient_checkpointing=checkpointed)
    start = found(folder.parent)
    model = load_model(start, config, attention="sdpa", weights=torch.bfloat16)
    if checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": True})  # the form that needs gradients of its inputs
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert {value.dtype for value in trained.values()} == {torch.float32}
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trained}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    model.train()
    tokens = torch.arange(5, 25)[None]
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=tokens, use_cache=False).logits.float().square().mean().backward()
    assert all(value.grad is not None for value in trained.values())
    assert any(value.grad is not None and bool(value.grad.any()) for value in trained.values())
    assert all(value.grad is None for value in model.parameters() if not value.requires_grad)


def test_adapters_start_from_the_seed(folder: Path) -> None:
    config, start = ModelConfig("model", lora=LoraConfig(rank=2)), found(folder.parent)
    first, again, other = (weights(load_model(start, config, attention="sdpa", seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_token_that_the_tokenizer_puts_before_every_text_is_known(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.post_processor = TemplateProcessing(single="<user> $A", special_tokens=[("<user>", 1)])
    tokenizer.save(str(path))
    assert found(folder.parent).bos_token_id == 1
    # A new model reads what the data's tokenizer makes.
    assert found(folder.parent, "1m", file=path).bos_token_id == 1


def swapped(folder: Path, target: Path) -> Path:
    """The tokenizer of a folder with two tokens exchanged."""
    values = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = values["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    target.write_text(json.dumps(values), encoding="utf-8")
    return target


def test_data_of_another_tokenizer_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match=r"not tokenized with the tokenizer of model: its token \d+ is '[AB]'"):
        found(tmp_path, file=swapped(folder, tmp_path / "other.json"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = None
    tokenizer.save(str(tmp_path / "uncut.json"))
    with pytest.raises(RedoneError, match=r"they cut .* differently"):
        found(tmp_path, file=tmp_path / "uncut.json")


def test_the_same_tokenizer_saved_by_another_tool_or_with_further_tokens_in_the_model_is_no_error(
    folder: Path, tmp_path: Path
) -> None:
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    (tmp_path / "data.json").write_text(json.dumps(values, indent=4), encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens(["<tool>"])
    tokenizer.save(str(path))
    assert found(tmp_path, file=tmp_path / "data.json").vocab_size == VOCAB


def test_a_vocabulary_or_a_length_that_the_model_cannot_hold_is_an_error(folder: Path) -> None:
    with pytest.raises(RedoneError, match="knows 261 tokens, the data's tokenizer has 300"):
        found(folder.parent, vocab_size=300)
    with pytest.raises(RedoneError, match="257 tokens; model reads 256 at most"):
        found(folder.parent, length=257)


def spoil_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def spoil_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def spoil_gguf(folder: Path) -> None:
    (folder / "config.json").rename(folder / "weights.gguf")


def spoil_code(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_bytes())
    values["model_type"] = "mine"
    values["auto_map"] = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    write_json(folder / "config.json", values)
    (folder / "mine.py").write_text("raise SystemExit('code of a model was run')")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "'model' is no folder or file here, no hub name .* and no size"),
        (spoil_adapter, "holds an adapter; merge it"),
        (spoil_pickled, "weights are read from safetensors only"),
        (spoil_gguf, r"no config\.json; .* name the file: weights\.gguf"),
        (spoil_code, r"config\.json cannot be used"),
    ],
)
def test_a_folder_that_is_no_model_is_the_users_to_mend(folder: Path, spoil: Any, message: str) -> None:
    spoil(folder)
    with pytest.raises(RedoneError, match=message):
        found(folder.parent)


def test_weights_that_are_missing_are_an_error_not_a_random_start(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    values = load_file(folder / "model.safetensors")
    dropped = sorted(values)[-1]
    del values[dropped]
    save_file(values, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RedoneError, match=f"model.start: .* 1 weights are not in its files, such as {dropped}"):
        load_model(found(folder.parent), ModelConfig("model"), attention="sdpa")


def test_a_size_that_does_not_exist_and_a_revision_of_no_hub_name_are_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match="did you mean '300m'"):
        found(tmp_path, "3000m")
    with pytest.raises(RedoneError, match="it belongs to a hub name"):
        find_start(
            ModelConfig("model", revision="main"),
            tmp_path,
            tokenizer=DataTokenizer(VOCAB, 0),
            length=64,
            cache=tmp_path,
        )


def test_a_hub_name_without_a_network_says_what_to_give_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RedoneError, match=r"'some/model' is no folder here, and did not come from .* give a folder"):
        found(tmp_path, "some/model")


def with_tokenizer(dataset: TokenDataset, source: Path) -> TokenDataset:
    """The dataset of token_data.py with a tokenizer of its own."""
    shutil.copyfile(source, dataset.folder / "tokenizer.json")
    manifest = dict(dataset.manifest)
    manifest["tokenizer"] = {**manifest["tokenizer"], "sha256": file_digest(source)}
    write_json(dataset.folder / "manifest.json", manifest)
    return TokenDataset.open(dataset.folder)


def test_sources_of_different_tokenizers_and_a_tokenizer_that_was_changed_are_errors(
    folder: Path, tmp_path: Path
) -> None:
    documents = [[[5, 6, 7]]]
    first = with_tokenizer(write_tokens(tmp_path / "a", documents), folder / "tokenizer.json")
    second = with_tokenizer(write_tokens(tmp_path / "b", documents), swapped(folder, tmp_path / "other.json"))
    assert DataTokenizer.of({"a": first}) == DataTokenizer(256, 0, first.folder / "tokenizer.json")
    with pytest.raises(RedoneError, match="'a' and 'b' were made by different tokenizers"):
        DataTokenizer.of({"a": first, "b": second})
    (first.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(RedoneError, match="not the tokenizer that made these tokens"):
        DataTokenizer.of({"a": first})


def test_precision_follows_the_device_unless_it_is_given() -> None:
    cpu = torch.device("cpu")
    assert precision(ModelConfig("m"), cpu) == torch.float32
    assert precision(ModelConfig("m", precision="bf16"), cpu) == torch.bfloat16


def write_gguf(path: Path) -> dict[str, torch.Tensor]:
    """A llama of one layer in 8 bits, with a tokenizer of bytes."""
    import gguf
    import numpy as np
    from tokenizers import pre_tokenizers

    width, vocab = 32, 261
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(vocab)
    tokens = ["<s>", "</s>", "<unk>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {
        "token_embd": (vocab, width),
        "output": (vocab, width),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (width, width),
        "blk.0.attn_v": (width, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_gate": (64, width),
        "blk.0.ffn_up": (64, width),
        "blk.0.ffn_down": (width, 64),
    }
    written = {}
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32) / math.sqrt(width)
        packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        written[name] = torch.from_numpy(values)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written


def test_a_gguf_file_is_unpacked_once_into_a_folder_of_plain_weights(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    written = write_gguf(tmp_path / "tiny.gguf")
    start = found(tmp_path, "tiny.gguf")
    assert start.kind == "gguf"
    assert start.folder is not None
    assert (start.vocab_size, start.context) == (261, 128)
    assert start.tokenizer_file == start.folder / "tokenizer.json"
    model = load_model(start, ModelConfig("tiny.gguf"), attention="sdpa")
    assert "quantization_config" not in json.loads((start.folder / "config.json").read_bytes())
    torch.testing.assert_close(model.model.layers[0].mlp.down_proj.weight, written["blk.0.ffn_down"], atol=0.01, rtol=0)
    torch.testing.assert_close(model.get_output_embeddings().weight, written["output"], atol=0.01, rtol=0)
    made = (start.folder / "model.safetensors").stat().st_mtime_ns
    assert found(tmp_path, "tiny.gguf").folder == start.folder
    assert (start.folder / "model.safetensors").stat().st_mtime_ns == made
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [start.folder.name]


def test_export_writes_a_gguf_file_as_the_folder_that_a_start_point_is(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    write_gguf(tmp_path / "tiny.gguf")
    exported = CliRunner().invoke(app, ["export", str(tmp_path / "tiny.gguf"), str(tmp_path / "tiny")])
    assert exported.exit_code == 0, exported.output
    start, folder = found(tmp_path, "tiny.gguf"), tmp_path / "tiny"
    assert start.folder is not None
    names = sorted(path.name for path in start.folder.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all((folder / name).read_bytes() == (start.folder / name).read_bytes() for name in names)
    with pytest.raises(RedoneError, match="is there already, and not empty"):
        unpack(tmp_path / "tiny.gguf", folder)


def test_a_file_that_is_no_gguf_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not at all")
    with pytest.raises(RedoneError, match=r"bad\.gguf: cannot be read as a language model"):
        found(tmp_path, "bad.gguf")
    with pytest.raises(RedoneError, match=r"absent\.gguf: no such file"):
        found(tmp_path, "absent.gguf")
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(RedoneError, match=r"is a file; give a Hugging Face folder"):
        found(tmp_path, "weights.bin")
