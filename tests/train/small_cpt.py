"""A small run of continued pre-training: synthetic posts, a model of some thousand weights, a handful of steps."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from token_data import write_tokens

VOCAB = 64
POISON = VOCAB - 1  # in no document; of write_poisoned_model, the token without a finite embedding
ROWS, LENGTH, STEPS = 8, 32, 6


def posts(poisoned: Collection[str] = ()) -> list[list[list[int]]]:
    """Two shards of documents; those whose names are given hold POISON."""
    rng = np.random.default_rng(0)
    successor = rng.integers(1, POISON, (VOCAB, 2))
    shards = []
    for shard in range(2):
        documents = []
        for number in range(80):
            document = [int(rng.integers(1, POISON))]
            for which in rng.integers(0, 2, int(rng.integers(4, 60))):
                document.append(int(successor[document[-1], which]))
            if f"posts/doc-{shard}-{number}" in poisoned:
                document[1] = POISON
            documents.append(document)
        shards.append(documents)
    return shards


def write_config(folder: Path, values: Mapping[str, Any] | None = None, poisoned: Collection[str] = ()) -> Path:
    """FOLDER/cpt.yaml and the posts beside it. values: `key.path` -> value, over what is here."""
    write_tokens(folder / "posts", posts(poisoned), VOCAB)
    config: dict[str, Any] = {
        "output": "run",
        "model": {"start": "0.1m"},
        "data": {"sources": {"posts": {"path": "posts"}}, "length": LENGTH, "workers": 0},
        "tokens": STEPS * ROWS * LENGTH,
        "batch": {"rows": ROWS, "rows_per_device": 2},
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": 0.2},
        "logging": {"every": 1},
    }
    for path, value in (values or {}).items():
        *keys, last = path.split(".")
        inner = config
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = value
    path = folder / "cpt.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def write_poisoned_model(folder: Path) -> Path:
    """A model that is well, but for the embedding of one token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"hidden_size": 24, "intermediate_size": 64, "num_hidden_layers": 1}
    heads: dict[str, Any] = {"num_attention_heads": 1, "num_key_value_heads": 1}
    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": 0, "tie_word_embeddings": False}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(vocab_size=VOCAB, max_position_embeddings=LENGTH, **sizes, **heads, **ends)
        )
    with torch.no_grad():
        model.model.embed_tokens.weight[POISON] = float("nan")
    model.save_pretrained(folder)
    return folder


def logged(output: Path, name: str = "loss") -> dict[int, float]:
    """Step -> what log.jsonl says of it."""
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}
