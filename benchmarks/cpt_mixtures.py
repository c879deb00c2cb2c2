"""Continued pre-training of one model on the mixture that the optimizer found, on the natural and on the uniform one.

Same documents, tokens, order of steps and seeds; the mixture alone differs. Prints bits per byte of held-out documents
by domain, before and after, the mean of the recipe's targets and that of all other domains.

    python benchmarks/cpt_mixtures.py recipes/sns.yaml runs/sns/proposal.json models/gemma-3-270m runs/cpt_mixtures

proposal.json is of `redone-data mix` with that recipe. Of Gemma 3 270M in bf16 with adapters, a core trains some
100 tokens a second: three mixtures and their evaluations are 20 core-minutes. Goes on where it was.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from redone_data.config import load_yaml

BPB = "bits_per_byte"


def command(package: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", package, *arguments], check=True)


def absolute(value: Any, base: Path) -> Any:
    """A recipe's domains, with paths that do not depend on where it lies."""
    if isinstance(value, dict):
        return {
            key: [str((base / path).resolve()) for path in inner] if key == "paths" else absolute(inner, base)
            for key, inner in value.items()
        }
    return [absolute(inner, base) for inner in value] if isinstance(value, list) else value


def trained(out: Path, name: str, weights: Mapping[str, float], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The evaluations of a run on this mixture."""
    recipe = load_yaml(arguments.recipe)
    made = {
        "output": str(out / "data"),
        "seed": arguments.seed,
        "domains": absolute(recipe["domains"], arguments.recipe.parent),
        "curate": recipe.get("curate", {}),
        "tokens": {
            "tokenizer": {"path": str(arguments.model.resolve() / "tokenizer.json")},
            "budget": 4 * arguments.tokens,  # so that what is packed into rows never repeats
        },
        "mix": {"weights": dict(weights)},
    }
    config = {
        "output": str(out / name),
        "model": {
            "start": str(arguments.model.resolve()),
            "lora": {"rank": 16, "alpha": 32} if arguments.adapters else None,
            "precision": arguments.precision,
        },
        "data": {"sources": {"mixture": {"path": str(out / "data" / "tokens")}}, "length": 256, "workers": 0},
        "tokens": arguments.tokens,
        "batch": {"rows": 4, "rows_per_device": 4},
        "optimizer": {"learning_rate": arguments.rate},
        "schedule": {"kind": "wsd", "warmup": 0.1, "decay": 0.3, "floor": 0},
        "checkpoints": {"every": 1000},
        "evaluation": {
            "pools": {"held_out": str(out / "data" / "validation")},
            "every": 0,
            "tokens": arguments.evaluation_tokens,
        },
        "logging": {"every": 4},
        "seed": arguments.seed,
    }
    for values, file in ((made, "recipe.yaml"), (config, f"{name}.yaml")):
        (out / file).write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    command("redone_data", "mix", str(out / "recipe.yaml"))
    command("redone_train", "cpt", str(out / f"{name}.yaml"))
    lines = (out / name / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def change(after: Iterable[float], before: Iterable[float]) -> float:
    """In per cent, of the mean."""
    return 100 * (fmean(after) / fmean(before) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("proposal", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=24_576)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--evaluation-tokens", type=int, default=1500, help="of each domain")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--all-weights", dest="adapters", action="store_false")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    proposal = json.loads(arguments.proposal.read_text(encoding="utf-8"))
    targets = [f"held_out/{name}" for name in proposal["objective"]]
    mixtures = {"found": proposal["weights"], "natural": proposal["prior"], "uniform": proposal["uniform"]}
    runs = {
        name: trained(arguments.out.resolve(), name, weights, arguments)
        for name, weights in mixtures.items()
        if weights
    }
    before = runs["found"][0][BPB]
    others = [name for name in before if name not in targets]
    print(f"\n{arguments.tokens:,} tokens, {len(targets)} targets (*) and {len(others)} other domains; bits per byte")
    print(f"{'domain':<28}{'before':>9}" + "".join(f"{name:>20}" for name in runs))
    for name in [*targets, *others]:
        after = [lines[-1][BPB][name] for lines in runs.values()]
        marked = name.removeprefix("held_out/") + " *" * (name in targets)
        cells = "".join(f"{value:12.4f} {100 * (value / before[name] - 1):+5.1f} %" for value in after)
        print(f"{marked:<28}{before[name]:9.4f}{cells}")
    for title, names in (("mean of the targets", targets), ("mean of the others", others)):
        values = [[lines[-1][BPB][name] for name in names] for lines in runs.values()]
        first = [before[name] for name in names]
        cells = "".join(f"{fmean(after):12.4f} {change(after, first):+5.1f} %" for after in values)
        print(f"{title:<28}{fmean(first):9.4f}{cells}")


if __name__ == "__main__":
    main()
