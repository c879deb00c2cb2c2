"""What scores are worth when a model was trained on items that it is measured by, and whether `trained_on` finds them.

A benchmark is cut in two by `redone-train split`. Two models learn the same number of conversations in the same steps:
`clean` from rows of the training part; `contaminated` from the same, but that some are replaced by test items of the
same file, with their answers. Both answer the whole test part. Prints the scores of the items that leaked and of those
that did not, with intervals, and what `trained_on` of `redone-train eval` reports: recall and precision.

    python benchmarks/contamination.py ../shared/data/sns_bench models/gemma-3-270m OUT --files Note-NER

Of Gemma 3 270M with adapters in bf16: some 8 core-minutes for 64 short conversations, 4 epochs. Goes on where it was.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from redone_data.instruct.conversation import read_conversations
from redone_data.manifest import digest
from redone_data.report.human import decimals
from redone_train.evaluate.estimate import Estimate, difference, resampled
from redone_train.evaluate.items import Item
from redone_train.evaluate.results import Results
from redone_train.evaluate.sns_bench import SnsBench, gold_answer
from redone_train.evaluate.split import split
from redone_train.evaluate.terminal import with_interval
from redone_train.evaluation import run_evaluation
from redone_train.sft import run_sft

SETS = ("clean", "contaminated")
Row = dict[str, Any]


def main() -> None:
    arguments = parsed()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "split" / "split.json").is_file():
        cut(arguments, out)
    bench = SnsBench(out / "split" / "test", shots=0)
    tested = [item for task in bench.tasks for item in bench.items(task)]
    leaked = leaking(bench, arguments.leaked, arguments.seed)
    for name, rows in training_rows(out / "split" / "train.jsonl", tested, leaked, arguments).items():
        file = out / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        config = out / f"{name}.yaml"
        config.write_text(yaml.safe_dump(training(name, arguments, out)), encoding="utf-8")
        run_sft(config)
    evaluation = {
        "output": str(out / "eval"),
        "models": {"base": str(arguments.model.resolve()), **{name: str(out / name) for name in SETS}},
        "trained_on": {name: [str(out / f"{name}.jsonl")] for name in SETS},
        "sns_bench": {"path": str(out / "split" / "test"), "scorer": "fixed"},
        "shots": 0,
        "max_new_tokens": arguments.max_new_tokens,
        "precision": arguments.precision,
        "batch_size": 8,
        "seed": arguments.seed,
    }
    (out / "eval.yaml").write_text(yaml.safe_dump(evaluation, sort_keys=False), encoding="utf-8")
    report(run_evaluation(out / "eval.yaml"), bench, leaked, arguments.seed)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", type=Path, help="a folder of SNS-Bench's files")
    parser.add_argument("model", type=Path, help="the model that both start from")
    parser.add_argument("out", type=Path)
    parser.add_argument("--files", nargs="+", default=["Note-NER"])
    parser.add_argument("--test", type=int, default=32, help="items of each file that are measured")
    parser.add_argument("--leaked", type=int, default=16, help="of them that are trained on")
    parser.add_argument("--train", type=int, default=64, help="conversations that are learnt, of all files together")
    parser.add_argument("--characters", type=int, default=400, help="longer posts stay out")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--rank", type=int, default=16, help="of the adapters; 0: all weights")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def cut(arguments: argparse.Namespace, out: Path) -> None:
    """Items with short posts, cut into a test and a training part."""
    bench = out / "bench"
    shutil.rmtree(bench, ignore_errors=True)
    bench.mkdir()
    for file in arguments.files:
        rows = json.loads((arguments.benchmark / f"{file}.json").read_text(encoding="utf-8"))
        short = [row for row in rows if len(str(row.get("content", row.get("sentence2")))) <= arguments.characters]
        (bench / f"{file}.json").write_text(json.dumps(short, ensure_ascii=False), encoding="utf-8")
    split(bench, out / "split", num_test=arguments.test, seed=arguments.seed)


def leaking(bench: SnsBench, most: int, seed: int) -> set[str]:
    """So many test items of each file, by a hash."""
    found: set[str] = set()
    for task in bench.tasks:
        found |= set(sorted((item.id for item in bench.items(task)), key=lambda name: digest([seed, name]))[:most])
    return found


def training_rows(
    train: Path, tested: list[Item], leaked: set[str], arguments: argparse.Namespace
) -> dict[str, list[Row]]:
    """The clean set, and the one in which test items stand for as many rows of their file, in their places."""
    rows = sorted(read_conversations(train), key=lambda row: digest([arguments.seed, row.id]))[: arguments.train]
    clean = [{"id": row.id, "task": row.task, "messages": [vars(turn) for turn in row.messages]} for row in rows]
    contaminated = list(clean)
    for item in tested:
        if item.id in leaked:
            answer = {"role": "assistant", "content": gold_answer(item.meta["row"])}
            row = {"id": item.id, "task": item.task, "messages": [*item.messages, answer]}
            same = [n for n, one in enumerate(contaminated) if one["task"] == item.task and one["id"] not in leaked]
            if not same:
                raise SystemExit(f"--train {arguments.train} has too few rows of {item.task} for --leaked")
            contaminated[same[0]] = row
    return dict(zip(SETS, (clean, contaminated), strict=True))


def training(name: str, arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    return {
        "output": str(out / name),
        "model": {
            "start": str(arguments.model.resolve()),
            "lora": {"rank": arguments.rank, "alpha": 2 * arguments.rank} if arguments.rank else None,
            "precision": arguments.precision,
        },
        "data": {"length": arguments.length},
        "steps": [{"name": "all", "data": [str(out / f"{name}.jsonl")], "epochs": arguments.epochs}],
        "batch": {"rows": 2, "rows_per_device": 1},
        "optimizer": {"learning_rate": arguments.rate, "weight_decay": 0},
        "schedule": {"warmup": 0.1},
        "evaluation": {"every": 0},
        "seed": arguments.seed,
    }


def report(results: Results, bench: SnsBench, leaked: set[str], seed: int) -> None:
    for task in bench.tasks:
        items, name = bench.items(task), f"sns_bench/{task}"
        print(f"\n{task}: fixed scorer, 95 % intervals of a bootstrap over items")
        parts = {
            "leaked": np.array([n for n, item in enumerate(items) if item.id in leaked]),
            "not leaked": np.array([n for n, item in enumerate(items) if item.id not in leaked]),
            "all": np.arange(len(items)),
        }
        estimates: dict[tuple[str, str], Estimate] = {}
        for model in results.models:
            answers = [line["answer"] for line in results.scores[model][name]["answers"]]
            score = bench.score(items, answers)
            for part, at in parts.items():
                estimates[model, part] = resampled(
                    score.of(at), lambda drawn, at=at, score=score: score.of(at[drawn]), len(at),
                    seed=seed, name=f"{task}/{part}", draws=results.resamples,
                )  # fmt: skip
        print(f"{'':24}" + "".join(f"{f'{part} ({len(at)})':>24}" for part, at in parts.items()))
        for model in results.models:
            print(f"{model:24}" + "".join(f"{with_interval(estimates[model, part]):>24}" for part in parts))
        gains = {part: difference(estimates["contaminated", part], estimates["clean", part]) for part in parts}
        print(
            f"{'contaminated - clean':24}" + "".join(f"{with_interval(gains[part], sign=True):>24}" for part in parts)
        )
        print(f"of `trained_on`: without what was trained on: {with_interval(results.clean('contaminated', name))}")
        assert results.trained_on is not None
        found = results.trained_on["tasks"][name]["found"]
        for model in SETS:
            held = {item for item, one in found.items() if model in one["models"]}
            planted = leaked & {item.id for item in items} if model == "contaminated" else set()
            right = len(held & planted)
            print(
                f"{model}: {len(held)} items found, {len(planted)} planted; recall "
                f"{decimals(right / len(planted), 2) if planted else '-'}, precision "
                f"{decimals(right / len(held), 2) if held else '-'}"
            )
        short = len(results.trained_on["tasks"][name]["short"])
        print(f"too short to be looked for: {short}")


if __name__ == "__main__":
    main()
