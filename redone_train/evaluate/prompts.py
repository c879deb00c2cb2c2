"""Prompts of a benchmark's items: our own with made-up shots, or the published ones out of a copy of their code.

The published prompts are the benchmark's text and no part of this project. Their configuration files are parsed, never
run: `published_prompts(FOLDER)` takes the strings of `prompt_template` for each data set's name.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from redone_data.errors import RedoneError

_CONFIGS = "configs/datasets/sns_bench"


@dataclass(frozen=True)
class Prompt:
    """A system text, a template of the user's turn, and shots: each the fields of a made-up item."""

    system: str
    user: str
    shots: tuple[Mapping[str, str], ...] = ()

    def messages(self, row: Mapping[str, Any], *, shots: int | None = None) -> tuple[dict[str, str], ...]:
        """The chat that asks an item, after so many of the shots (all when None)."""
        turns = [{"role": "system", "content": self.system}]
        for shot in self.shots[: len(self.shots) if shots is None else shots]:
            turns += [_user(self.user, shot), {"role": "assistant", "content": shot["answer"]}]
        return (*turns, _user(self.user, row))


def own_prompts() -> dict[str, Prompt]:
    """Ours, by file."""
    return dict(_own_prompts())


@lru_cache(maxsize=1)
def _own_prompts() -> Mapping[str, Prompt]:
    text = (files("redone_train.evaluate") / "sns_prompts.yaml").read_text(encoding="utf-8")
    return {name: Prompt(p["system"], p["user"], tuple(p["shots"])) for name, p in yaml.safe_load(text).items()}


def published_prompts(folder: Path) -> dict[str, Prompt]:
    """The published prompts with their shots, by file, out of a copy of HC-Guo/SNS-Bench."""
    paths = sorted(folder.rglob(f"{_CONFIGS}/*_gen.py"))
    if not paths:
        raise RedoneError(f"{folder}: no {_CONFIGS}/*_gen.py below; give the folder of a copy of HC-Guo/SNS-Bench")
    prompts: dict[str, Prompt] = {}
    for path in paths:
        prompt = None
        for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            if node.targets[0].id == "prompt_template":
                texts = _texts(node.value)
                prompt = Prompt(texts["SYSTEM"], texts["HUMAN"]) if {"SYSTEM", "HUMAN"} <= set(texts) else None
            elif prompt is not None:
                for name in (_keywords(call).get("name") for call in ast.walk(node) if isinstance(call, ast.Call)):
                    prompts |= {} if name is None else {_file(name): prompt}
    return prompts


def _texts(tree: ast.expr) -> dict[str, str]:
    """role -> prompt of every turn of a template."""
    turns = [_keywords(call) for call in ast.walk(tree) if isinstance(call, ast.Call)]
    return {turn["role"]: turn["prompt"] for turn in turns if {"role", "prompt"} <= set(turn)}


def _keywords(call: ast.Call) -> dict[str, str]:
    return {k.arg: text for k in call.keywords if k.arg is not None and (text := _string(k.value)) is not None}


def _string(node: ast.expr) -> str | None:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def _file(name: str) -> str:
    """note_querycorr_explain -> note-querycorr-explain: compared without regard to case."""
    return name.replace("_", "-").lower()


def _user(template: str, row: Mapping[str, Any]) -> dict[str, str]:
    text = re.sub(r"\{(\w+)\}", lambda match: str(row.get(match[1], match[0])), template)
    return {"role": "user", "content": text}
