"""The models of an evaluation: a stage's run or checkpoint becomes a Hugging Face folder once, below the output."""

from pathlib import Path
from typing import Literal

import torch

from redone_data.errors import RedoneError
from redone_train.generate import LocalModel
from redone_train.train.gguf import converted
from redone_train.train.stages import exported, is_stage

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


def open_model(
    name: str, path: Path, cache: Path, *, device: str, precision: Literal["auto", "bf16", "fp32"]
) -> LocalModel:
    """What `models.NAME` is: its weights are loaded when it is first asked. Adapters of a run are merged."""
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    kind: Literal["bf16", "fp32"] = precision if precision != "auto" else ("bf16" if on_gpu else "fp32")
    if path.suffix == ".gguf" and path.is_file():
        folder = converted(path, cache)
    elif path.is_dir() and is_stage(path):
        folder = exported(path, cache / name, kind)
    elif (path / "adapter_config.json").is_file():
        raise RedoneError(
            f"models.{name}: {path} holds an adapter alone; give the run or checkpoint that it was exported from, or "
            "export it with --merge"
        )
    elif (path / "config.json").is_file():
        folder = path
    else:
        raise RedoneError(
            f"models.{name}: {path}: neither a Hugging Face folder (config.json), nor a run or a checkpoint of cpt, "
            "sft or dpo, nor a GGUF file"
        )
    return LocalModel(folder, device, DTYPES[kind])
