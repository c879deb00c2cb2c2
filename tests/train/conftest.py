"""Small swarm folders of synthetic text: each domain walks its own Markov chain over a shared vocabulary."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_model.py, which importlib mode does not find

# Started by tests as programs; to be imported for their doctests they need a launcher's environment.
collect_ignore = ["two_ranks.py", "resume_ranks.py"]

VOCAB = 64
EOS = 0
DOCUMENT_TOKENS = 50


def markov_tokens(domain: int, num_tokens: int) -> np.ndarray:
    """Documents of 50 tokens; in each domain a token has two likely successors, which differ by domain."""
    rng = np.random.default_rng(domain)
    successors = rng.integers(1, VOCAB, size=(VOCAB, 2))
    which, noise = rng.integers(0, 2, num_tokens), rng.integers(1, VOCAB, num_tokens)
    noisy = rng.random(num_tokens) < 0.1
    tokens = np.empty(num_tokens, dtype=np.int64)
    token = EOS
    for i in range(num_tokens):
        token = EOS if (i + 1) % DOCUMENT_TOKENS == 0 else int(noise[i] if noisy[i] else successors[token, which[i]])
        tokens[i] = token
    return tokens


def write_pool(path: Path, tokens: np.ndarray, dtype: str = "<u2") -> None:
    tokens.astype(dtype).tofile(path)
    ends = np.append(np.flatnonzero(tokens[:-1] == EOS) + 1, len(tokens)) if len(tokens) else np.empty(0)
    ends.astype("<u8").tofile(path.with_name(path.name + ".index"))


def results_in(directory: Path) -> dict[str, bytes]:
    files = [*(directory / "results").iterdir(), directory / "metrics.csv"]
    return {file.name: file.read_bytes() for file in files}


class SwarmFolder:
    """A folder under test, with its files as plain values to spoil."""

    def __init__(self, directory: Path, domains: Sequence[str]) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.config: dict[str, Any] = {
            "schema_version": 1,
            "seed": 1,
            "vocab_size": VOCAB,
            "token_bytes": 2,
            "eos_token_id": EOS,
            "proxy": {
                "size": {"layers": 1, "width": 16, "heads": 1},
                "tokens": 16_384,
                "context": 32,
                "batch_tokens": 256,
                "learning_rate": None,
            },
            "domains": {},
        }
        for number, domain in enumerate(domains):
            # Two train files, so that windows cross from one to the other.
            train, validation = np.split(markov_tokens(number, 12_000), [10_000])
            for name, tokens in (("a", train[:3333]), ("b", train[3333:]), ("v", validation)):
                write_pool(directory / f"pool{number}-{name}.ds", tokens)
            self.config["domains"][domain] = {
                "train": [f"pool{number}-a.ds", f"pool{number}-b.ds"],
                "validation": [f"pool{number}-v.ds"],
                "validation_bytes": 6_000,
                "train_limit_tokens": None,
            }
        self.header = ["run_id", "seed", *domains]
        self.rows: list[list[Any]] = []
        self.write()

    def add_run(self, run_id: str, weights: Mapping[str, float], seed: int = 0) -> None:
        self.rows.append([run_id, seed, *(weights.get(domain, 0.0) for domain in self.header[2:])])
        self.write()

    def write(self) -> None:
        (self.directory / "swarm.json").write_text(json.dumps(self.config), encoding="utf-8")
        with (self.directory / "runs.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self.header, *self.rows])

    def results(self) -> dict[str, bytes]:
        """All that must be equal, byte for byte: every result and the table."""
        return results_in(self.directory)

    def result(self, run_id: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.directory / "results" / f"{run_id}.json").read_bytes())
        return value


@pytest.fixture
def folder(tmp_path: Path) -> SwarmFolder:
    return SwarmFolder(tmp_path / "swarm", ["notes", 'chat, "live"/..', "中文"])
