"""Which share each capability gets, found by the mixture optimizer: what `redone-data sft --shares` writes.

A finished set becomes a recipe of `redone-data mix`, with a domain a capability: proxies are trained on blends of the
conversations' texts, every capability's held-out loss is a target, and the proposal is what ``steps.NAME.proposal``
of the set's own recipe reads. Its weights are shares of tokens; conversations differ in length, so a step turns them
into shares of conversations by the mean length of each capability.

What it does not see: proxies learn questions and answers alike, from nothing (or, with mix.swarm.init, from a
checkpoint), and a loss is no task's score. Texts are a sample of at most 20 MB, which is more than proxies read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml

from redone_data.instruct.drawing import step_file
from redone_data.manifest import atomic
from redone_data.mix.proposal import Proposal

FOLDER, RECIPE = "shares", "recipe.yaml"
MOST_BYTES = 20_000_000
LEAST_CONVERSATIONS = 1_000  # of a capability, if it has so many: some are held out to measure its loss


def write_shares(root: Path, manifest: Mapping[str, Any], *, seed: int, step: str = "step2") -> Path:
    """A recipe of `redone-data mix` beside a finished set, and its texts; the recipe's path."""
    source, folder = root / step_file("step1"), root / FOLDER
    folder.mkdir(exist_ok=True)
    counts = {name: found["conversations"] for name, found in manifest["steps"]["step1"]["capabilities"].items()}
    counts = {name: count for name, count in counts.items() if count}
    rate = min(1.0, MOST_BYTES / source.stat().st_size)
    left = {name: max(round(rate * count), LEAST_CONVERSATIONS) for name, count in counts.items()}
    texts: dict[str, list[bytes]] = {name: [] for name in counts}
    with source.open("rb") as file:  # its order is random
        for line in file:
            row = orjson.loads(line)
            if left[row["capability"]]:
                left[row["capability"]] -= 1
                text = "\n\n".join(message["content"] for message in row["messages"])
                texts[row["capability"]].append(orjson.dumps({"id": row["id"], "text": text}) + b"\n")
    for name, lines in texts.items():
        with atomic(folder / f"{name}.jsonl") as aside:
            aside.write_bytes(b"".join(lines))
    recipe = {
        "output": "run",
        "seed": seed,
        "domains": {
            name: {
                "sources": [{"paths": [f"{name}.jsonl"], "fields": {"text": "text", "id": "id"}, "whitespace": "keep"}],
                "rules": {"preset": "none"},
            }
            for name in sorted(counts)
        },
        "read": {"redact": []},
        "curate": {"metrics": False, "deduplicate": False, "validation": {"max_documents": 300}},
        "tokens": {"tokenizer": {"vocab_size": 4096}},
        "mix": {
            "max_epochs": _max_epochs(manifest, step),
            "design": {"runs": max(20, 4 * len(counts)), "min_strength": 1.0},
            "swarm": {"proxy": {"size": "0.3m", "tokens": 200_000}, "validation_tokens": 20_000},
            "validate": {"finalists": 2, "seeds": 2, "fresh_seeds": 3},
        },
    }
    with atomic(folder / RECIPE) as aside:
        aside.write_text(
            "# Shares of capabilities: redone-data mix on this file, then steps.NAME.proposal: run/proposal.json\n"
            + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
    return folder / RECIPE


def _max_epochs(manifest: Mapping[str, Any], step: str) -> float:
    """How often the step repeats a conversation, in tokens of all of them: a step of half of them may take twice."""
    all_tokens, tokens = (manifest["steps"][name]["tokens"]["sum"] for name in ("step1", step))
    repetitions = manifest["recipe"]["steps"][step]["max_repetitions"]
    return float(round(repetitions * max(all_tokens / max(tokens, 1), 1.0), 3))


def read_token_shares(path: Path) -> dict[str, float]:
    """The weights of a proposal of `redone-data mix`."""
    return Proposal.from_json(path).weights
