"""Which checkpoint the proxies of a swarm go on from, and how fast they learn. No torch here.

The learning rate is 5e-5 x (2000 / hidden size)^0.781 for full weights and ten times as much for adapters, whatever
their rank: the fit of the Tinker cookbook over Llama models ("LoRA Without Regret", Thinking Machines, 2025). Their
runs are longer than a proxy's and their models larger, so set `proxy.learning_rate` where a sweep says otherwise.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redone_data.config import plain
from redone_data.errors import RedoneError

FULL_LEARNING_RATE = 5e-5
LORA_RATE_RATIO = 10.0
REFERENCE_WIDTH = 2000
WIDTH_EXPONENT = 0.781


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on every linear layer but the output layer; they count alpha / rank times."""

    rank: int = 16
    alpha: int = 32

    def __post_init__(self) -> None:
        if min(self.rank, self.alpha) < 1:
            raise RedoneError(f"lora: rank is {self.rank} and alpha {self.alpha}; both are 1 or more")


@dataclass(frozen=True)
class PretrainedConfig:
    """`init` of swarm.json. bos_token_id: what the checkpoint expects before every text, if anything."""

    path: str = field(metadata={"help": "a Hugging Face causal model with safetensors, relative to the swarm's folder"})
    sha256: str = field(default="", metadata={"help": "of the model's files; another one trains every run again"})
    adapt: Literal["lora", "full"] = "lora"
    lora: LoraConfig = field(default_factory=LoraConfig)
    bos_token_id: int | None = None

    @property
    def identity(self) -> list[Any]:
        """What the results depend on."""
        adapters = plain(self.lora) if self.adapt == "lora" else None
        return [self.sha256 or self.path, self.adapt, adapters, self.bos_token_id]

    def folder(self, directory: Path) -> Path:
        return (directory / self.path).resolve()

    def model_config(self, directory: Path) -> dict[str, Any]:
        """The language model's part of config.json."""
        path = self.folder(directory) / "config.json"
        try:
            config = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise RedoneError(f"init: {path}: cannot be read: {error}; give a Hugging Face causal model") from None
        text: dict[str, Any] = config.get("text_config") or config
        return text

    def learning_rate(self, directory: Path) -> float:
        config = self.model_config(directory)
        width = config.get("hidden_size") or config.get("n_embd")
        if not isinstance(width, int):
            raise RedoneError("init: config.json names no hidden_size to choose a rate by; set proxy.learning_rate")
        return learning_rate(width, self.adapt)

    def check(self, directory: Path, vocab_size: int, context: int) -> None:
        """Raise RedoneError where the checkpoint cannot read what the swarm would show it."""
        config = self.model_config(directory)
        known = config.get("vocab_size")
        needed = max(vocab_size, 1 + (self.bos_token_id or 0))
        if known is not None and needed > known:
            raise RedoneError(
                f"init: the checkpoint knows {known} tokens, the pools' tokenizer has {needed}; "
                "tokenize with the checkpoint's own tokenizer"
            )
        longest = config.get("max_position_embeddings") or config.get("n_positions")
        if longest is not None and context > longest:
            raise RedoneError(f"proxy: context is {context}; the checkpoint reads {longest} tokens at most")


def learning_rate(width: int, adapt: Literal["lora", "full"]) -> float:
    """The peak rate for a model of this hidden size.

    >>> round(learning_rate(2000, "full"), 7), round(learning_rate(2000, "lora"), 7)
    (5e-05, 0.0005)
    """
    rate: float = FULL_LEARNING_RATE * (REFERENCE_WIDTH / width) ** WIDTH_EXPONENT
    return rate * LORA_RATE_RATIO if adapt == "lora" else rate
