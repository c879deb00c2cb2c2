"""Where training starts: a Hugging Face folder, a run's, a hub name, a GGUF file, or a new model from a size name.

Transformers loads and peft adapts. Ours is what neither does: to look at a start point before anything heavy happens
(its configuration alone, in milliseconds, so that a wrong tokenizer, vocabulary or length is an error before the first
weight is read), and to refuse what would train well and mean nothing: weights that are missing, weights that have to be
unpickled, code that comes with a model, another tokenizer.

A new model is the swarm's own shape (pre-norm, rotary, SwiGLU, tied embedding) as a LlamaForCausalLM, so that any tool
reads it.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer

from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import file_digest
from redone_data.proxy_shape import SIZES, ProxyShape
from redone_data.rng import stream_seed
from redone_data.tokens.dataset import TokenDataset
from redone_train.pretrained import load_folder, quiet
from redone_train.train.config import LoraConfig, ModelConfig
from redone_train.train.gguf import converted
from redone_train.train.masks import Attention
from redone_train.train.stages import exported, is_stage

Kind = Literal["folder", "run", "hub", "gguf", "new"]
TOKENIZER_FILE = "tokenizer.json"
# All parameters at a vocabulary of 4,096, as the swarm's sizes; widths that tensor cores like. 313M and 1,020M.
NEW_SIZES: Mapping[str, ProxyShape] = {
    **SIZES,
    "300m": ProxyShape(layers=24, width=1024, heads=16),
    "1b": ProxyShape(layers=20, width=2048, heads=16),
}
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
PROBE_TEXTS = (
    "The 3 quick foxes didn't jump; they PAID $1,999.50!\n\n\tdef f(x): return x**2  # ok",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u5427\uff01\U0001f389 #\u5468\u672b#",
    "Stra\u00dfe, na\u00efve, \u0635\u0628\u0627\u062d, \u041f\u0440\u0438\u0432\u0435\u0442, \ud55c\uad6d\uc5b4",
)


@dataclass(frozen=True)
class DataTokenizer:
    """The tokenizer that made a run's tokens. file: None where the datasets do not say."""

    vocab_size: int
    eos_token_id: int
    file: Path | None = None

    @classmethod
    def of(cls, sources: Mapping[str, TokenDataset]) -> "DataTokenizer":
        """RedoneError: the sources were tokenized by different tokenizers, or the file is not the manifest's."""
        digests = {name: str(dataset.manifest["tokenizer"]["sha256"]) for name, dataset in sources.items()}
        first, dataset = next(iter(sources.items()))
        for name, found in digests.items():
            if found != digests[first]:
                raise RedoneError(
                    f"data.sources: '{first}' and '{name}' were made by different tokenizers; tokenize both with one"
                )
        if not digests[first]:
            return cls(dataset.vocab_size, dataset.eos_token_id)
        file = dataset.folder / str(dataset.manifest["tokenizer"]["file"])
        if not file.is_file() or file_digest(file) != digests[first]:
            raise RedoneError(f"{file}: absent, or not the tokenizer that made these tokens; write the dataset again")
        return cls(dataset.vocab_size, dataset.eos_token_id, file)


@dataclass(frozen=True)
class Start:
    """A start point that was found and fits the data; its weights are not loaded yet.

    config: of Transformers. folder: with config.json, safetensors and perhaps a tokenizer; None for a new model.
    bos_token_id: what its tokenizer puts before every text, so that rows begin with it.
    """

    kind: Kind
    name: str
    config: Any
    folder: Path | None
    bos_token_id: int | None
    tokenizer_file: Path | None

    @property
    def text_config(self) -> Any:
        """The language model's part, where there are others (images)."""
        return self.config.get_text_config()

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: the tokenizer's, and often some spare ones."""
        return int(self.text_config.vocab_size)

    @property
    def context(self) -> int | None:
        """The most tokens it reads; None where it does not say."""
        longest = getattr(self.text_config, "max_position_embeddings", None)
        return None if longest is None else int(longest)


def find_start(
    model: ModelConfig, directory: Path, *, tokenizer: DataTokenizer, length: int, cache: Path, main: bool = True
) -> Start:
    """Find what `model.start` names and check it against the data; RedoneError says what does not fit.

    directory: of the configuration, which paths are relative to. cache: a folder for a converted GGUF file. main: False
    on all ranks but one of a shared disk: call it there once the main one has returned, so that nothing is made twice.
    """
    kind, folder = _located(model, directory, cache, main=main)
    if folder is None:
        return _new(model.start, tokenizer, length)
    start = _found(kind, model.start, folder, tokenizer)
    _check(start, tokenizer, length)
    return start


def find_chat_start(model: ModelConfig, directory: Path, *, length: int, cache: Path, main: bool = True) -> Start:
    """As `find_start`, for data that is text: its tokenizer is the model's own."""
    kind, folder = _located(model, directory, cache, main=main)
    if folder is None:
        raise RedoneError(
            f"model.start: {model.start} is a new model, which has read nothing; pre-train it first (cpt)"
        )
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise RedoneError(f"model.start: {folder}: no {TOKENIZER_FILE}; the model's own tokenizer is needed")
    # Tokens are counted by those that are known, and the end token is the chat template's.
    tokenizer = DataTokenizer(_read_tokenizer(file).get_vocab_size(), -1, file)
    start = _found(kind, model.start, folder, tokenizer)
    _check(start, tokenizer, length)
    return start


def load_model(
    start: Start, model: ModelConfig, *, attention: Attention, weights: torch.dtype = torch.float32, seed: int = 1
) -> Any:
    """The model on the CPU, or sharded where ZeRO-3 is on (Transformers sees to it); with LoRA, a PeftModel.

    weights: what they are kept in. float32 where the optimizer has no copy of its own (a plain loop, with autocast);
    bfloat16 where it has one (DeepSpeed), or where they are frozen. The adapters of LoRA are float32 either way.
    """
    if start.folder is None:
        loaded = _initialised(start.config, attention, weights, seed)
    else:
        loaded = load_folder(start.folder, key="model.start", dtype=weights, attention=attention)
    if model.lora is not None:
        loaded = with_adapters(loaded, model.lora, seed)
        if model.gradient_checkpointing:
            # The frozen embedding gives activations without gradients, and checkpoints of those would have none.
            loaded.enable_input_require_grads()
    return loaded


def precision(config: ModelConfig, device: torch.device) -> torch.dtype:
    """What is computed in. RedoneError: bf16 on a GPU that has none."""
    if device.type == "cuda" and config.precision != "fp32" and not torch.cuda.is_bf16_supported():
        if config.precision == "bf16":
            raise RedoneError("model.precision: this GPU has no bf16; set precision: fp32")
        return torch.float32
    on_gpu = device.type != "cpu"
    return torch.bfloat16 if config.precision == "bf16" or (config.precision == "auto" and on_gpu) else torch.float32


def opening_token(file: Path) -> int | None:
    """The token that a tokenizer puts before every text (begin of sequence), if it puts one there."""
    tokenizer = _read_tokenizer(file)
    with_special, without = tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids
    return int(with_special[0]) if with_special[:1] != without[:1] else None


def _located(model: ModelConfig, directory: Path, cache: Path, *, main: bool) -> tuple[Kind, Path | None]:
    """The kind of start, and the folder that holds it."""
    name = model.start
    path = (directory / Path(name).expanduser()).resolve()
    is_hub_name = HUB_NAME.fullmatch(name) is not None and not path.exists()
    if model.revision is not None and not is_hub_name:
        raise RedoneError(f"model.revision: it belongs to a hub name, and '{name}' is none; leave it out")
    if name in NEW_SIZES:
        return "new", None
    if path.suffix == ".gguf":
        if not path.is_file():
            raise RedoneError(f"model.start: {path}: no such file")
        return "gguf", converted(path, cache)
    if path.is_dir():
        if not is_stage(path):
            return "folder", path
        here = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return "run", exported(path, cache, "bf16" if precision(model, here) == torch.bfloat16 else "fp32")
    if path.is_file():
        raise RedoneError(f"model.start: {path} is a file; give a Hugging Face folder, or a file that ends with .gguf")
    if is_hub_name:
        return "hub", _downloaded(name, model.revision, main=main)
    raise RedoneError(
        f"model.start: '{name}' is no folder or file here, no hub name (owner/name) and no size of a new model; "
        f"{did_you_mean(name, NEW_SIZES)}"
    )


def _downloaded(name: str, revision: str | None, *, main: bool) -> Path:
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja"]
    try:
        with quiet():
            return Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=not main))
    except Exception as error:  # of the hub's client: many, and of several packages
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RedoneError(
            f"model.start: '{name}' is no folder here, and did not come from the Hugging Face hub ({reason}); "
            "give a folder that holds it"
        ) from None


def _found(kind: Kind, name: str, folder: Path, tokenizer: DataTokenizer) -> Start:
    from transformers import AutoConfig

    if (folder / "adapter_config.json").is_file():
        raise RedoneError(f"model.start: {folder} holds an adapter; merge it into its model and save that")
    if not (folder / "config.json").is_file():
        others = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f"; for a GGUF file, name the file: {others[0]}" if others else ""
        raise RedoneError(f"model.start: {folder}: no config.json; give a Hugging Face causal model{hint}")
    if not any(folder.glob("*.safetensors")):
        raise RedoneError(f"model.start: {folder}: no *.safetensors; weights are read from safetensors only")
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RedoneError(f"model.start: {folder}: config.json cannot be used: {reason}") from None
    own = folder / TOKENIZER_FILE
    file = own if own.is_file() else tokenizer.file
    return Start(kind, name, config, folder, None if file is None else opening_token(file), file)


def _check(start: Start, tokenizer: DataTokenizer, length: int) -> None:
    largest = max(tokenizer.vocab_size, 1 + (start.bos_token_id or 0))
    if largest > start.vocab_size:
        raise RedoneError(
            f"model.start: {start.name} knows {start.vocab_size} tokens, the data's tokenizer has {largest}; "
            "tokenize with the model's own tokenizer"
        )
    if start.context is not None and length > start.context:
        raise RedoneError(
            f"data.length: {length} tokens; {start.name} reads {start.context} at most: set length to that or less"
        )
    if start.tokenizer_file is not None and tokenizer.file is not None:
        difference = tokenizers_differ(tokenizer.file, start.tokenizer_file)
        if difference is not None:
            raise RedoneError(
                f"model.start: the data was not tokenized with the tokenizer of {start.name}: {difference}; "
                f"set tokenizer.path to {start.tokenizer_file} and tokenize again"
            )


def tokenizers_differ(data: Path, model: Path) -> str | None:
    """The first difference that the model would see, or None. Tokens that only the model's has do not matter."""
    if file_digest(data) == file_digest(model):
        return None
    ours, theirs = _read_tokenizer(data), _read_tokenizer(model)
    known = theirs.get_vocab(with_added_tokens=True)
    for token, number in sorted(ours.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1]):
        if known.get(token) != number:
            return f"its token {number} is {token!r}, which the model has as {known.get(token, 'none')}"
    for text in PROBE_TEXTS:
        if ours.encode(text, add_special_tokens=False).ids != theirs.encode(text, add_special_tokens=False).ids:
            return f"they cut {text[:20]!r} differently"
    return None


def _read_tokenizer(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise RedoneError(f"{file}: not a tokenizer: {error}") from None


def _new(name: str, tokenizer: DataTokenizer, length: int) -> Start:
    from transformers import LlamaConfig

    shape = NEW_SIZES[name]
    bos = None if tokenizer.file is None else opening_token(tokenizer.file)
    wide = shape.width >= 1024
    config = LlamaConfig(
        vocab_size=-(-tokenizer.vocab_size // 64) * 64,  # whole tiles of a matrix product
        hidden_size=shape.width,
        intermediate_size=-(-shape.mlp_width // 128) * 128 if wide else shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    return Start("new", name, config, None, bos, tokenizer.file)


def _initialised(config: Any, attention: Attention, weights: torch.dtype, seed: int) -> Any:
    """Random weights that depend on the configuration and the seed alone."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "weights") % 2**63)
        made: Any = AutoModelForCausalLM
        return made.from_config(config, attn_implementation=attention, dtype=weights)


def with_adapters(loaded: Any, lora: LoraConfig, seed: int) -> Any:
    """Adapters on every linear layer but the output layer; nothing else learns."""
    config = adapter_config(lora)
    import peft

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks it
        torch.manual_seed(stream_seed(seed, "adapters") % 2**63)
        return peft.get_peft_model(loaded, config)


def adapter_config(lora: LoraConfig) -> Any:
    """As peft has it."""
    try:
        import peft
    except ImportError:
        raise RedoneError("model.lora needs the package peft; pip install 'redone[train]'") from None
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
