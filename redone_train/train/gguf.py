"""A GGUF file as a Hugging Face folder, made once: 268M 4-bit weights take 8 s, their tokenizer 79.

Weights are kept in bf16 (their 4 bits have no more to give), the tokenizer beside them. The folder is named by the
file's name, size and time, and appears whole or not at all.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from redone_data.errors import RedoneError
from redone_data.manifest import digest
from redone_train.pretrained import quiet


def converted(file: Path, cache: Path) -> Path:
    """The folder of a GGUF file, below `cache`."""
    status = file.stat()
    folder = cache / f"{file.stem}-{digest([file.name, status.st_size, status.st_mtime_ns])[:12]}"
    if folder.is_dir():
        return folder
    try:
        unpack(file, folder)
    except RedoneError:
        if not folder.is_dir():  # another process may have been first
            raise
    return folder


def unpack(file: Path, folder: Path) -> int:
    """Write a GGUF file as a Hugging Face folder, whole or not at all. The number of its parameters."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RedoneError(f"{folder}: is there already, and not empty; give a new folder")
    aside = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        num_parameters = _write(file, aside)
        os.replace(aside, folder)
    except OSError as error:
        raise RedoneError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return num_parameters


def _write(file: Path, folder: Path) -> int:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    strict: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.bfloat16, **strict)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **strict)
    except ImportError:
        raise RedoneError(f"{file}: a GGUF file needs gguf and accelerate; pip install 'redone[train]'") from None
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RedoneError(f"{file}: cannot be read as a language model: {reason}") from None
    # The weights are plain now; with these fields the folder would be taken for a quantized model.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return int(model.num_parameters())
