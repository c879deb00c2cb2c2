"""Two steps of instruction tuning against one, with and without general data: scores by task, and what is forgotten.

Four runs on the same conversations from the same model: step1 then step2, both at once, and each without general data.
Prints, of the conversations that `redone-data sft` held out: nats a token of the answers by capability before and after
(general: what is forgotten), and what greedy answers score by the task's own metric, with the share that can be read.

    python benchmarks/two_step.py runs/instruct-sns models/gemma-3-270m runs/two_step --share 0.02 --lora

Of Gemma 3 270M with adapters a core trains some 120 tokens a second where few of them are learnt: a share of .02 of
50,000 conversations of 150 tokens is some 40 core-minutes for the four. Goes on where it was.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from redone_data.instruct.answers import read_format
from redone_data.instruct.conversation import GENERAL, Conversation, read_conversations, write_rows
from redone_data.instruct.metrics import aggregate
from redone_data.instruct.task import shipped_tasks
from redone_data.rng import stream

RUNS: Mapping[str, tuple[Sequence[Sequence[str]], bool]] = {
    "two steps": ((("step1",), ("step2",)), True),
    "one step": ((("step1", "step2"),), True),
    "two steps, no general data": ((("step1",), ("step2",)), False),
    "one step, no general data": ((("step1", "step2"),), False),
}


def sampled(file: Path, share: float, seed: int) -> list[Conversation]:
    """A share of a file's conversations."""
    rows = list(read_conversations(file))
    drawn = stream(seed, "two_step", file.name).random(len(rows))
    return [row for row, value in zip(rows, drawn, strict=True) if value < share]


def train(name: str, data: Path, arguments: argparse.Namespace) -> Path:
    """One of the runs; the folder that it ended in."""
    steps, general = RUNS[name]
    out = arguments.out / name.replace(", ", "_").replace(" ", "_")
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for number, sources in enumerate(steps, 1):
        rows = [row for source in sources for row in sampled(data / f"{source}.jsonl", arguments.share, arguments.seed)]
        files.append(out / f"step{number}.jsonl")
        write_rows(files[-1], [row for row in rows if general or row.capability != GENERAL])
    config = {
        "output": str(out / "run"),
        "model": {
            "start": str(arguments.model.resolve()),
            "lora": {"rank": 16, "alpha": 32} if arguments.lora else None,
            "precision": arguments.precision,
        },
        "data": {"length": arguments.length, "most_dropped": 0.5},
        "steps": [
            {"name": f"step{n}", "data": [str(file)], "epochs": arguments.epochs} for n, file in enumerate(files, 1)
        ],
        "batch": {"rows": 8, "rows_per_device": 1},
        "optimizer": {"learning_rate": arguments.rate, "weight_decay": 0},
        "schedule": {"warmup": 0.1},
        "evaluation": {"data": [str(held_out(data, arguments))], "every": 0, "conversations": arguments.held_out},
        "seed": arguments.seed,
    }
    (out / "sft.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command("redone_train", "sft", str(out / "sft.yaml"))
    return out / "run"


def held_out(data: Path, arguments: argparse.Namespace) -> Path:
    """So many held-out conversations of each task, the same for all runs."""
    by_task: dict[str, list[Conversation]] = defaultdict(list)
    for row in sorted(read_conversations(data / "held_out.jsonl"), key=lambda row: row.id):
        if len(by_task[row.task]) < arguments.held_out:
            by_task[row.task].append(row)
    file: Path = arguments.out / "held_out.jsonl"
    write_rows(file, [row for rows in by_task.values() for row in rows])
    return file


def answered(run: Path, arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Task -> what greedy answers score, and the share of them that can be read."""
    model = run / "exported"
    if not model.is_dir():
        command("redone_train", "export", str(run), str(model), *(["--merge"] if arguments.lora else []))
    rows = [row for row in read_conversations(arguments.out / "held_out.jsonl") if row.format is not None]
    prompts, answers = run / "prompts.jsonl", run / "answers.jsonl"
    lines = [{"id": row.id, "prompt": [vars(message) for message in row.messages[:-1]]} for row in rows]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    command("redone_train", "generate", str(model), str(prompts), "--out", str(answers), "--max-new-tokens", "48")
    written = {line["id"]: line["answers"] for line in map(json.loads, answers.read_text("utf-8").splitlines())}
    parsed: dict[str, list[Any]] = defaultdict(list)
    golds: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        assert row.format is not None
        said = written[row.id]
        parsed[row.task].append(read_format(row.format).parse(said[0]) if said else None)
        golds[row.task].append(row.answer)
    scores = {}
    for task, found in parsed.items():
        metric = shipped_tasks()[task].metric if task in shipped_tasks() else "exact_match"
        read = sum(answer is not None for answer in found) / len(found)
        scores[task] = (aggregate(metric, found, golds[task]), read)
    return scores


def losses(run: Path) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Nats a token by task, before the first step and after the last."""
    folders = sorted(run.glob("step*"))
    first, last = (
        [json.loads(line) for line in (folder / "evaluation.jsonl").read_text("utf-8").splitlines()]
        for folder in (folders[0], folders[-1])
    )
    return first[0]["nats_per_token"], last[-1]["nats_per_token"]


def command(package: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", package, *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that redone-data sft wrote")
    parser.add_argument("model", type=Path, help="a Hugging Face folder, or a run of redone-train cpt")
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the conversations")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--held-out", type=int, default=20, help="conversations of each task")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--precision", default="auto", help="bf16 is twice as fast on a CPU that has it")
    parser.add_argument("--answers", action="store_true", help="score greedy answers too")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = {name: train(name, arguments.data, arguments) for name in RUNS}
    found = {name: losses(run) for name, run in runs.items()}
    before = next(iter(found.values()))[0]
    capabilities = [task for task in before if "/" not in task]
    print("\n| nats a token | before | " + " | ".join(runs) + " |\n" + "|---" * (len(runs) + 2) + "|")
    for task in capabilities:
        after = " | ".join(f"{found[name][1][task]:.3f}" for name in runs)
        print(f"| {task} | {before[task]:.3f} | {after} |")
    if not arguments.answers:
        return
    scores = {name: answered(run, arguments) for name, run in runs.items()}
    print("\n| score (readable) | " + " | ".join(runs) + " |\n|---" + "|---" * len(runs) + "|")
    for task in next(iter(scores.values())):
        cells = (scores[name][task] for name in runs)
        print(f"| {task} | " + " | ".join(f"{100 * value:.1f} ({100 * read:.0f} %)" for value, read in cells) + " |")


if __name__ == "__main__":
    main()
