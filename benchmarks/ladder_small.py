"""The ladder and its ablations at the size of a few CPU cores: docs/results.md, from data to tables.

Draws small samples of conversations, writes a ladder over them and runs it: base, CPT, SFT in one step and in two, two
steps without general data, DPO on pairs of the tuned model's own wrong answers against the gold ones, one task alone
from the base and from the final model, and SFT on more and more tasks with the same number of conversations. Nothing
that stands in training text is measured. Goes on where it was; a table of all at the end.

    redone-data mix recipes/sns.yaml --out MIX --set tokens.tokenizer.path=MODEL/tokenizer.json   # the text of CPT
    redone-data sft recipes/instruct/sns.yaml --out SET --set held_out.share=0.05
    redone-train split SNS_BENCH BENCH && redone-train split REDTRANS TRANS
    python benchmarks/ladder_small.py MODEL MIX SET BENCH TRANS OUT

Of Gemma 3 270M with adapters in bf16, some four hours of one core: 190 tokens a second trained, 550 read.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from redone_train.data.conversations import json_lines

Row = dict[str, Any]
OUT_OF_DISTRIBUTION = {"irony", "stance", "rumour", "emotion", "crisis", "harmful_speech"}  # never trained on
# Made of whole benchmarks: their training parts stand in for these.
OF_BENCHMARKS = {"taxonomy", "taxonomy_path", "hashtag", "hashtags", "entities", "reading", "reading_options"} | {
    "highlight_words",
    "gender_topic",
    "query_note_grade",
    "query_answered",
    "query_generation",
    "translation",
}
ALONE = {"ner": "Note-NER", "hashtag": "Note-Hashtag-single", "sentiment": "sentiment"}
SAMPLED = ("own_hashtags", "own_hashtag", "emotions", "sentiment", "topic")  # tasks that pairs are made of
BREADTH = (1, 4, 16)
STEPS = {"step1": (25, 330, 60), "step2": (40, 90, 50)}  # of a file of a benchmark, of the set, general ones
LENGTH, SHORT, PAIRED = 500, 300, 220  # tokens: of a benchmark's conversation, of another, of one that is sampled from


class Draw:
    """Conversations, each given once, by a seed."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self.tokenizer, self.random = tokenizer, random.Random(seed)

    def read(self, *files: Path) -> list[Row]:
        rows = [row for file in files for _, row in json_lines(file)]
        self.random.shuffle(rows)
        return rows

    def take(self, rows: list[Row], number: int, longest: int) -> list[Row]:
        found: list[Row] = []
        while rows and len(found) < number:
            row = rows.pop()
            if self.tokens(row) <= longest:
                found.append(row)
        return found

    def tokens(self, row: Row) -> int:
        return sum(len(self.tokenizer(turn["content"])["input_ids"]) + 5 for turn in row["messages"])


def by_task(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["task"]].append(row)
    return dict(sorted(found.items()))


def write(path: Path, rows: Iterable[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def draw(given: argparse.Namespace, data: Path) -> None:
    """The files of all runs."""
    draws = Draw(AutoTokenizer.from_pretrained(given.model, local_files_only=True), given.seed)
    left_out = OUT_OF_DISTRIBUTION | OF_BENCHMARKS
    bench = by_task(draws.read(given.bench / "train.jsonl", given.trans / "train.jsonl"))
    blended = {
        name: [r for r in draws.read(given.set / f"{name}.jsonl") if r["task"] not in left_out] for name in STEPS
    }
    replayed = [row for row in blended["step1"] if row["capability"] == "general"]
    social = {name: [row for row in rows if row["capability"] != "general"] for name, rows in blended.items()}
    for name, (of_file, of_set, general) in STEPS.items():
        rows = [row for file in bench.values() for row in draws.take(file, of_file, LENGTH)]
        rows += draws.take(social[name], of_set, SHORT) + draws.take(replayed, general, SHORT)
        draws.random.shuffle(rows)
        write(data / f"{name}.jsonl", rows)
    held_out = [row for row in draws.read(given.set / "held_out.jsonl") if row["task"] not in OF_BENCHMARKS]
    write(data / "held_out.jsonl", held_out)
    pool = by_task([*(row for rows in bench.values() for row in rows), *social["step1"]])
    for name, task in ALONE.items():
        write(data / f"{name}.jsonl", draws.take(pool[task], 120, SHORT))
    beside = draws.take(replayed, 40, SHORT)
    tasks = sorted(pool, key=lambda task: -len(pool[task]))
    for count in sorted({min(number, len(tasks)) for number in (*BREADTH, len(tasks))}):
        rows = [row for task in tasks[:count] for row in draws.take(pool[task][:400], -(-240 // count), SHORT)]
        write(data / f"tasks_{count:02d}.jsonl", [*rows[:240], *beside])
    asked = {"train": social["step2"], "held_out": held_out}
    sampled = [
        row
        for name, number in (("train", 60), ("held_out", 30))
        for task, rows in by_task(asked[name]).items()
        if task in SAMPLED
        for row in draws.take(rows, number, PAIRED)
    ]
    write(data / "sampled.jsonl", sampled)
    write(data / "prompts.jsonl", ({"id": row["id"], "prompt": row["messages"][:-1]} for row in sampled))


def configure(given: argparse.Namespace, out: Path) -> Path:
    """The files of the ladder; the path of the ladder's own."""
    model = {"start": str(given.model), "lora": {"rank": 16, "alpha": 32}, "precision": "bf16"}
    once = {"evaluation": {"every": 0}, "checkpoints": {"every": 1000, "keep": 1}, "logging": {"every": 4}}
    sft = {
        "output": "x",
        "model": model,
        "data": {"length": 512, "most_dropped": 0.1},
        "steps": steps(out, "step1", "step2"),
        "batch": {"rows": 4, "rows_per_device": 1},
        "optimizer": {"learning_rate": 5.0e-4, "weight_decay": 0},
        "schedule": {"warmup": 0.05},
        "seed": given.seed,
        **once,
    }
    runs = {
        "cpt": {
            "output": "x",
            "model": model,
            "data": {"sources": {"mixture": {"path": str(given.mix / "tokens")}}, "length": 256, "workers": 0},
            "tokens": given.cpt_tokens,
            "batch": {"rows": 4, "rows_per_device": 4},
            "optimizer": {"learning_rate": 3.0e-4},
            "schedule": {"kind": "wsd", "warmup": 0.1, "decay": 0.3, "floor": 0},
            "seed": given.seed,
            **once,
        },
        "sft": sft,
        "dpo": {
            "output": "x",
            "model": model,
            "data": {"files": [str(out / "pairs/train.jsonl")], "length": 320, "most_dropped": 0.2},
            "loss": {"beta": 0.1, "likelihood": 1.0},
            "batch": {"rows": 8, "rows_per_device": 4},
            "optimizer": {"learning_rate": 2.0e-5, "weight_decay": 0},
            "schedule": {"warmup": 0.1},
            **once,
            "evaluation": {"data": [str(out / "pairs/held_out.jsonl")], "every": 0},
        },
        "eval": {
            "output": "x",
            "models": {},
            "sns_bench": {"path": str(given.bench / "test"), "scorer": "official"},
            "trans_bench": {"path": str(given.trans / "test")},
            "sets": {"held_out": {"files": [str(out / "data/held_out.jsonl")]}},
            "bits": {
                "pools": {name: str(given.mix / "validation" / name) for name in given.general},
                "data": str(given.mix / "tokens"),
                "tokens": 32_000,
                "length": 512,
            },
            "leave_out_trained_on": True,
            "shots": 0,
            "max_items": given.items,
            "max_new_tokens": 64,
            "precision": "bf16",
        },
        "pairs": {
            "output": str(out / "pairs"),
            "held_out": {"share": 0.05},
            "outputs": {
                "sampled": {
                    "conversations": [str(out / "data/sampled.jsonl")],
                    "answers": [str(out / "sampled.jsonl")],
                    "gold": "none_right",
                }
            },
        },
        "ladder": {"output": "ladder", "evaluation": "eval.yaml", "stages": stages(given, out)},
    }
    for name, values in runs.items():
        (out / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return out / "ladder.yaml"


def steps(out: Path, *files: str) -> list[dict[str, Any]]:
    return [{"name": name, "data": [str(out / "data" / f"{name}.jsonl")], "epochs": 1} for name in files]


def stages(given: argparse.Namespace, out: Path) -> dict[str, Any]:
    both = [str(out / "data" / f"{name}.jsonl") for name in STEPS]
    one_step = {"steps": [{"name": "all", "data": both, "epochs": 1}]}
    found: dict[str, Any] = {
        "base": {"start": str(given.model), "shots": 2},
        "cpt": {"after": "base", "cpt": "cpt.yaml", "shots": 2},
        "one_step": {"after": "cpt", "sft": "sft.yaml", "set": one_step},
        "sft": {"after": "cpt", "sft": "sft.yaml"},
        "dpo": {"after": "sft", "dpo": "dpo.yaml"},
        "without_general": {"after": "cpt", "sft": "sft.yaml", "set": {"data.without": ["general"]}},
    }
    for name in ALONE:
        for start, after in (("base", "base"), ("final", "dpo")):
            found[f"{name}_from_{start}"] = {"after": after, "sft": "sft.yaml", "set": {"steps": steps(out, name)}}
    for file in sorted((out / "data").glob("tasks_*.jsonl")):
        found[file.stem] = {"after": "cpt", "sft": "sft.yaml", "set": {"steps": steps(out, file.stem)}}
    return found


def command(package: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", package, *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "mix", "set", "bench", "trans", "out"):
        parser.add_argument(name, type=lambda path: Path(path).resolve())
    parser.add_argument("--cpt-tokens", type=int, default=24_576)
    parser.add_argument("--items", type=int, default=32, help="of a file, at most")
    parser.add_argument(
        "--general", nargs="+", default=["news_zh", "tech_zh", "wiki_en"], help="domains of MIX to keep"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    out = given.out
    if not (out / "data" / "prompts.jsonl").is_file():  # written last
        draw(given, out / "data")
    ladder = configure(given, out)
    if not (out / "pairs" / "manifest.json").is_file():  # the pairs are of the tuned model's answers
        train_alone(ladder, "sft")
        tuned = out / "tuned"
        if not tuned.is_dir():
            command("redone_train", "export", out / "ladder/stages/sft", tuned, "--merge")
        sampling = ("--num-answers", 5, "--temperature", 0.8, "--max-new-tokens", 48)
        command(
            "redone_train", "generate", tuned, out / "data/prompts.jsonl", "--out", out / "sampled.jsonl", *sampling
        )
        command("redone_data", "pairs", out / "pairs.yaml")
    command("redone_train", "ladder", ladder)
    command("redone_train", "results", out / "ladder")


def train_alone(ladder: Path, stage: str) -> None:
    """A stage and what it stands on, as the whole ladder trains them; it measures little of them."""
    little = json.dumps({"max_items": 1, "bits.tokens": 500, "max_new_tokens": 4})
    command("redone_train", "ladder", ladder, "--only", stage, "--set", f"settings.eval={little}")


if __name__ == "__main__":
    main()
