"""recipes/train/cpt_tiny.yaml from start to end, shortened, on made-up text: the command, its files, what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import VOCAB, markov_tokens
from token_data import write_tokens

from redone_train.data.evaluation import read_history, table

ROOT = Path(__file__).parents[2]
STEPS, LENGTH = 30, 64


def documents(domain: int, tokens: int) -> list[list[int]]:
    """Text that can be learned: of each document all but its end token, which write_tokens adds."""
    return [chunk.tolist()[:-1] for chunk in markov_tokens(domain, tokens).reshape(-1, 50)]


def test_the_small_recipe_trains_and_says_what_it_gained_by_domain(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens", [documents(0, 10_000), documents(1, 10_000)], VOCAB)
    for domain, name in enumerate(("notes", "wiki")):
        write_tokens(tmp_path / "validation" / name, [documents(domain, 12_000)[-40:]], VOCAB)
        (tmp_path / "validation" / name / "manifest.json").unlink()
    settings = {
        "output": tmp_path / "run",
        "model.start": "0.1m",
        "data.sources.quickstart.path": tmp_path / "tokens",
        "data.length": LENGTH,
        "tokens": STEPS * 8 * LENGTH,
        "evaluation.pools.held_out": tmp_path / "validation",
        "evaluation.every": 12,
    }
    command = [sys.executable, "-m", "redone_train", "cpt", str(ROOT / "recipes" / "train" / "cpt_tiny.yaml")]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    history = read_history(tmp_path / "run" / "evaluation.jsonl")
    assert [line["step"] for line in history] == [0, 12, 24, STEPS]
    first, last = (line["bits_per_byte"] for line in (history[0], history[-1]))
    assert set(first) == {"held_out/notes", "held_out/wiki"}
    assert all(last[name] < 0.9 * first[name] for name in first)
    assert done.stdout.strip() == table(history)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    measured = [line["eval_bpb_held_out/wiki"] for line in logged if "eval_bpb_held_out/wiki" in line]
    assert measured == pytest.approx([line["bits_per_byte"]["held_out/wiki"] for line in history])
