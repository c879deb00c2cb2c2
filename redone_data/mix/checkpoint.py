"""The pretrained model that proxies go on from: a copy of a Hugging Face folder, known by the hash of its files.

Continued pre-training asks another question than training from scratch: not which mixture teaches most, but which one
adds most to what a model knows already, and costs least of it. So with ``swarm.init`` every proxy starts from the
checkpoint (LoRA, or all of its weights), and the checkpoint is measured untouched too (``base.json``): what a mixture
makes it forget is told against that. Cost: one copy of the weights a run of a recipe, a disk read for the hash.

Weights are read as safetensors and nothing else; code that a folder brings along is never run, and not even copied.
"""

import functools
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redone_data.engine import Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic, file_digest, folder_stamp, read_json

MODEL_CONFIG = "config.json"
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
_HEADER_LENGTH_BYTES = 8


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on every linear layer but the output layer (arXiv 2106.09685)."""

    rank: int = field(default=16, metadata={"help": "of the two factors"})
    alpha: int = field(default=32, metadata={"help": "adapters count alpha / rank times"})

    def __post_init__(self) -> None:
        if min(self.rank, self.alpha) < 1:
            raise RedoneError(f"lora: rank is {self.rank} and alpha {self.alpha}; both are 1 or more")


@dataclass(frozen=True)
class CheckpointStep(Step):
    """Copies the model's configuration and weights; statistics: sha256, model_type, context, parameters."""

    name = "checkpoint"
    VERSION = 1

    folder: Path

    def config(self) -> Any:
        return _digests(self.folder, folder_stamp(self.folder))

    def inputs(self) -> dict[str, str]:
        return {}

    def tasks(self) -> list[str]:
        return model_files(self.folder)

    def run(self, task: str, index: int, folder: Path) -> dict[str, Any]:
        with atomic(folder / task) as aside:
            shutil.copyfile(self.folder / task, aside)
        return {"file": task, "sha256": file_digest(folder / task)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        digests = {result["file"]: result["sha256"] for result in results}
        if digests != self.config():
            raise RedoneError(f"{self.folder}: changed while it was copied; run the same command again")
        config = read_json(folder / MODEL_CONFIG)
        text = config.get("text_config", config)
        return {
            "files": digests,
            "model_type": str(config.get("model_type", "")),
            "context": text.get("max_position_embeddings") or text.get("n_positions"),
            "parameters": sum(num_weights(folder / name) for name in digests if name.endswith(".safetensors")),
        }


def model_files(folder: Path) -> list[str]:
    """The files that make up the model. Raises RedoneError for a folder whose weights are not safetensors."""
    if not (folder / MODEL_CONFIG).is_file():
        raise RedoneError(
            f"mix.swarm.init: {folder}: no {MODEL_CONFIG}; give the folder of a Hugging Face causal model"
        )
    if (folder / "adapter_config.json").is_file():
        raise RedoneError(f"mix.swarm.init: {folder} holds an adapter; merge it into its model and save that")
    if (folder / SHARDS).is_file():
        shards = sorted(set(read_json(folder / SHARDS)["weight_map"].values()))
        names = [MODEL_CONFIG, *shards, SHARDS]
    else:
        names = [MODEL_CONFIG, WEIGHTS]
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise RedoneError(
                f"mix.swarm.init: {folder}: no {name}; weights are read from safetensors only: "
                "save the model again with save_pretrained"
            )
    return names


def num_weights(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little"))
    total = 0
    for name, tensor in json.loads(header).items():
        if name != "__metadata__":
            size = 1
            for length in tensor["shape"]:
                size *= length
            total += size
    return total


@functools.lru_cache(maxsize=4)
def _digests(folder: Path, stamp: str) -> dict[str, str]:
    """Hex SHA-256 of each of the model's files; the stamp is there so that a changed folder is read again."""
    return {name: file_digest(folder / name) for name in model_files(folder)}
