"""A small run of instruction tuning and of preferences: made-up questions about words, a byte-level model."""

import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tiny_model import write_model

WORDS = ("sun", "tea", "cat", "red", "ink", "owl", "jam", "sky", "bee", "fig")
HELD_OUT = 7  # one row in so many
GOOD, BAD = "fine", "evil"  # as long as each other


def conversations(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Words and what is said of them, of two capabilities; every fourth goes on for another turn."""
    rows = []
    for number in range(count):
        turns = [("user", f"{WORDS[(number + seed) % len(WORDS)]}?"), ("assistant", (GOOD, BAD)[number % 2])]
        if number % 4 == 3:
            turns += [("user", "sure?"), ("assistant", f"yes {(GOOD, BAD)[number % 2]}")]
        named = {"capability": "content_understanding", "task": "words"} if number % 2 else {"capability": "general"}
        split = "held_out" if number % HELD_OUT == 0 else "train"
        rows.append({"messages": messages(turns), **named, "split": split})
    return rows


def pairs(count: int, *, chosen: str = GOOD, rejected: str = BAD) -> list[dict[str, Any]]:
    """One answer is always the better one."""
    rows = []
    for number in range(count):
        rows.append(
            {
                "prompt": messages([("user", f"{WORDS[number % len(WORDS)]}?")]),
                "chosen": messages([("assistant", chosen)]),
                "rejected": messages([("assistant", rejected)]),
                "capability": "content_understanding",
                "task": "words",
                "weak": number % 10 == 9,
                "split": "held_out" if number % HELD_OUT == 0 else "train",
            }
        )
    return rows


def messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


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
    gc.freeze()  # a run ends with a collection, which would look at all of torch and Transformers: a second each time
    for name, value in (values or {}).items():
        *keys, last = name.split(".")
        inner = config
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = value
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
