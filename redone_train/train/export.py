"""A checkpoint as a Hugging Face folder: safetensors, configuration and tokenizer, from any ZeRO stage and from LoRA.

One process, no GPU. DeepSpeed's own reader puts the 32-bit weights of ZeRO's shards together; Transformers writes them,
so that tied weights are written once (where DeepSpeed's `zero_to_fp32 --safe_serialization` fails). Memory: 4 bytes a
parameter and those of the result; twice the 4 for ZeRO-1 and 2. The checkpoint is compared with its hashes first.
"""

import contextlib
import io
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from redone_data.errors import RedoneError
from redone_data.manifest import read_json, write_json
from redone_train.pretrained import load_folder, quiet
from redone_train.train.checkpoints import Checkpoint
from redone_train.train.stages import result_of

DTYPES: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
GENERATION_CONFIG = "generation_config.json"
# What goes with a model so that it reads and writes text; a checkpoint keeps what its start point had.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Exported:
    """kind: of what was written."""

    checkpoint: Checkpoint
    folder: Path
    kind: Literal["model", "adapter", "merged model"]
    num_parameters: int


def export(
    source: Path, out: Path, *, dtype: Literal["bf16", "fp32"] = "bf16", merge: bool = False, base: Path | None = None
) -> Exported:
    """Write the model of a checkpoint, or of a run's newest good one, to a new folder.

    merge: adapters into the model that they were trained on; base: where that one is now, if it has moved.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed says aloud that it found no GPU
    checkpoint = result_of(source)
    adapter = (checkpoint.folder / ADAPTER_CONFIG).is_file()
    if merge and not adapter:
        raise RedoneError(
            f"{checkpoint.folder}: --merge is for adapters (LoRA), and this is a whole model; leave it out"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RedoneError(f"{out}: is there already, and not empty; give a new folder")
    aside = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        if not adapter:
            written = _write_model(checkpoint, aside, DTYPES[dtype])
        elif merge:
            written = _write_merged(checkpoint, aside, DTYPES[dtype], base)
        else:
            written = _write_adapter(checkpoint, aside, DTYPES[dtype])
        _write_tokenizer(checkpoint, aside)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        raise RedoneError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(checkpoint, out, "model" if not adapter else "merged model" if merge else "adapter", written)


def tokenizer_files(start: Path | None, data: Path | None) -> list[Path]:
    """Those of the start point's folder, or else the one that made the data."""
    own = [start / name for name in TOKENIZER_FILES if (start / name).is_file()] if start is not None else []
    return own or [path for path in (data,) if path is not None]


def _write_model(checkpoint: Checkpoint, out: Path, dtype: torch.dtype) -> int:
    if checkpoint.zero_stage:
        model = _assembled(checkpoint, dtype)
    else:
        model = load_folder(checkpoint.folder, key="export", dtype=dtype)
    return _save(model, out, checkpoint)


def _save(model: Any, out: Path, checkpoint: Checkpoint) -> int:
    if (checkpoint.folder / GENERATION_CONFIG).is_file():  # which token ends an answer: adapters have no place for it
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder)
        if (ends := model.generation_config.eos_token_id) is not None:
            model.config.get_text_config().eos_token_id = ends if isinstance(ends, int) else ends[0]
    with quiet():
        model.save_pretrained(out)
    return sum(parameter.numel() for parameter in model.parameters())


def _assembled(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model of a checkpoint's configuration, with the weights of ZeRO's shards."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    weights = _zero_weights(checkpoint, dtype)
    model, differing = _with_weights(config, weights, dtype)
    if differing and config.tie_word_embeddings:  # Transformers unties what a start point's files hold twice
        config.tie_word_embeddings = False
        model, differing = _with_weights(config, weights, dtype)
    if differing:
        raise RedoneError(f"{checkpoint.folder}: {len(differing)} weights do not fit its config.json: {differing[0]}")
    return model


def _with_weights(config: Any, weights: Mapping[str, Tensor], dtype: torch.dtype) -> tuple[Any, list[str]]:
    """A model that holds these tensors, and the names of those that it does not hold as they are."""
    from transformers import AutoModelForCausalLM

    made: Any = AutoModelForCausalLM
    with quiet(), torch.device("meta"):
        model = made.from_config(config, dtype=dtype)
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    held = model.state_dict()
    absent = [name for name, value in held.items() if value.is_meta]
    return model, absent or [name for name, value in weights.items() if not _same(held.get(name), value)]


def _same(held: Tensor | None, value: Tensor) -> bool:
    return held is not None and (held.data_ptr() == value.data_ptr() or torch.equal(held, value))


def _zero_weights(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    """The trained weights by name. Their bytes were compared with the mark: DeepSpeed unpickles them."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lazy = get_fp32_state_dict_from_zero_checkpoint(
            str(checkpoint.folder), exclude_frozen_parameters=True, lazy_mode=True
        )
    weights: dict[str, Tensor] = {}
    for name in list(lazy):  # one at a time: what a rank's shard holds of it, joined
        tensor = lazy.pop(name).contiguous()
        weights[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return weights


def _adapter_weights(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    """By their names in a file of peft's, which leave out that of the adapter."""
    if checkpoint.zero_stage:
        found = {name.replace(".default.", "."): value for name, value in _zero_weights(checkpoint, dtype).items()}
        return {name: value.clone() for name, value in found.items() if "lora_" in name}
    from safetensors.torch import load_file

    return {name: value.to(dtype) for name, value in load_file(checkpoint.folder / ADAPTER).items()}


def _write_adapter(checkpoint: Checkpoint, out: Path, dtype: torch.dtype) -> int:
    from safetensors.torch import save_file

    weights = _adapter_weights(checkpoint, dtype)
    save_file(weights, out / ADAPTER, metadata={"format": "pt"})
    write_json(out / ADAPTER_CONFIG, read_json(checkpoint.folder / ADAPTER_CONFIG))
    return sum(value.numel() for value in weights.values())


def _write_merged(checkpoint: Checkpoint, out: Path, dtype: torch.dtype, base: Path | None) -> int:
    """Merged in 32 bits, and rounded once."""
    import peft

    folder = base or Path(str(read_json(checkpoint.folder / ADAPTER_CONFIG)["base_model_name_or_path"]))
    if not (folder / "config.json").is_file():
        raise RedoneError(
            f"{checkpoint.folder}: its adapters were trained on {folder}, which is not there; give --base FOLDER"
        )
    model = load_folder(folder, key="export")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks it
        adapted: Any = peft.get_peft_model(model, peft.PeftConfig.from_pretrained(str(checkpoint.folder)))
    loaded: Any = peft.set_peft_model_state_dict(adapted, _adapter_weights(checkpoint, torch.float32))
    absent = [name for name in loaded.missing_keys if "lora_" in name]
    if absent or loaded.unexpected_keys:
        raise RedoneError(f"{folder}: not the model of these adapters: {[*absent, *loaded.unexpected_keys][0]} differs")
    return _save(adapted.merge_and_unload().to(dtype), out, checkpoint)


def _write_tokenizer(checkpoint: Checkpoint, out: Path) -> None:
    for name in TOKENIZER_FILES:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, out / name)
    if (out / "tokenizer.json").is_file() and not (out / "tokenizer_config.json").is_file():
        _describe_tokenizer(out)


def _describe_tokenizer(out: Path) -> None:
    """A token dataset's tokenizer.json alone: what Transformers wants beside it, with the model's own end token."""
    from transformers import PreTrainedTokenizerFast

    config = read_json(out / "config.json") if (out / "config.json").is_file() else {}
    described: Any = PreTrainedTokenizerFast
    tokenizer = described(tokenizer_file=str(out / "tokenizer.json"))
    for key in ("bos_token", "eos_token"):
        if isinstance(number := config.get(f"{key}_id"), int):
            setattr(tokenizer, key, tokenizer.convert_ids_to_tokens(number))
    tokenizer.save_pretrained(out)
