"""A small run of instruction tuning and of preferences: made-up questions about words, a byte-level model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tiny_model import write_model

WORDS = ("sun", "tea", "cat", "red", "ink", "owl", "jam", "sky", "bee", "fig")
LABELS = ("good", "bad")


def label_of(number: int) -> str:
    return LABELS[number % 2]


def conversations(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Every word has a label; every fifth row is held out, some talk twice."""
    rows = []
    for number in range(count):
        word = WORDS[(number + seed) % len(WORDS)]
        label = label_of(WORDS.index(word))
        turns = [("user", f"{word}?"), ("assistant", label)]
        if number % 4 == 3:
            turns += [("user", "sure?"), ("assistant", f"yes {label}")]
        capability = "content_understanding" if number % 2 else "general"
        rows.append(
            {
                "id": f"{number:032x}",
                "messages": [{"role": role, "content": content} for role, content in turns],
                "capability": capability,
                "task": "words" if number % 2 else "talk",
                "lang": "en",
                "template": "words.en.1",
                "format": None,
                "answer": None,
                "documents": [str(number)],
                "split": "held_out" if number % 5 == 4 else "train",
            }
        )
    return rows


def pairs(count: int) -> list[dict[str, Any]]:
    """The right label is chosen, the wrong one rejected."""
    rows = []
    for number in range(count):
        word = WORDS[number % len(WORDS)]
        right = label_of(WORDS.index(word))
        wrong = LABELS[1 - LABELS.index(right)]
        rows.append(
            {
                "id": f"{number:032x}",
                "prompt": [{"role": "user", "content": f"{word}?"}],
                "chosen": [{"role": "assistant", "content": right}],
                "rejected": [{"role": "assistant", "content": wrong}],
                "capability": "content_understanding",
                "task": "words",
                "lang": "en",
                "kind": "structure",
                "weak": False,
                "margin": None,
                "documents": [str(number)],
                "split": "held_out" if number % 5 == 4 else "train",
            }
        )
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_sft(folder: Path, values: Mapping[str, Any] | None = None) -> Path:
    """FOLDER/sft.yaml, the conversations and the model beside it. values: `key.path` -> value, over what is here."""
    folder.mkdir(exist_ok=True)
    if not (folder / "model").exists():
        write_model(folder / "model", chat=False)
    write_lines(folder / "all.jsonl", conversations(60))
    write_lines(folder / "more.jsonl", conversations(40, seed=3))
    config: dict[str, Any] = {
        "output": "sft",
        "model": {"start": "model"},
        "data": {"length": 128},
        "steps": [{"name": "all", "data": ["all.jsonl"]}, {"name": "more", "data": ["more.jsonl"]}],
        "batch": {"rows": 4, "rows_per_device": 1},
        "optimizer": {"learning_rate": 0.01},
        "logging": {"every": 1},
    }
    return _write(folder / "sft.yaml", config, values)


def write_dpo(folder: Path, values: Mapping[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    if not (folder / "model").exists():
        write_model(folder / "model", chat=False)
    write_lines(folder / "pairs.jsonl", pairs(40))
    config: dict[str, Any] = {
        "output": "dpo",
        "model": {"start": "model"},
        "data": {"files": ["pairs.jsonl"], "length": 128},
        "batch": {"rows": 8, "rows_per_device": 2},
        "optimizer": {"learning_rate": 0.002},
        "logging": {"every": 1},
    }
    return _write(folder / "dpo.yaml", config, values)


def _write(path: Path, config: dict[str, Any], values: Mapping[str, Any] | None) -> Path:
    for name, value in (values or {}).items():
        *keys, last = name.split(".")
        inner = config
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = value
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
