"""Answers to prompts: redone_train/generate.py against Transformers' own batched generation.

    python benchmarks/generation.py                    # a tiny random model, prompts of mixed lengths
    python benchmarks/generation.py --model FOLDER     # and a real one
    python benchmarks/generation.py --model FOLDER --examples ../shared/data/sns_bench --dtype bfloat16
                                                       # items of a benchmark with the same solved examples

Both answer greedily in batches of one size, padded at the left. Transformers: `generate` on batches in the order of the
prompts, its own `stop_strings` where answers end at a text (of a line break it would take one that opens an answer).
Ours: batches of like length, our own stop, every batch written to disk. One process and thread, model and tokenizer
loaded before; CPU seconds; in turn, the better of two. With solved examples Transformers gets the batches of like
length, too, and ours is measured with and without what the prompts share being read once; one run each.
Answers may differ where two tokens are as likely and padding changes the rounding: those that are equal are counted.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redone_train import shared_prefix
from redone_train.evaluate.sns_bench import SnsBench
from redone_train.generate import LocalModel, Prompt, Sampling, answer, before_stop, read_answers

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "train"))

REPEATS = 2
WORDS = ["the", "market", "by", "an", "old", "harbour", "opens", "at", "six", "and", "sells", "warm", "bread", "daily"]


def prompts_of(number: int, longest: int) -> list[str]:
    """Posts of 8 to `longest` words, most of them short, as posts are."""
    rng = np.random.default_rng(0)
    sizes = np.clip(np.exp(rng.normal(np.log(longest / 6), 0.9, number)), 8, longest).astype(int)
    return [" ".join(rng.choice(WORDS, size)) + "\nAnswer:" for size in sizes]


def theirs(model: LocalModel, texts: Sequence[str], sampling: Sampling, batch_size: int) -> list[str]:
    """Transformers' `generate`, batch by batch."""
    found: list[str] = []
    more: dict[str, Any] = {}
    if sampling.stop:
        more = {"stop_strings": list(sampling.stop), "tokenizer": model.tokenizer}
    for first in range(0, len(texts), batch_size):
        inputs = model.tokenizer(list(texts[first : first + batch_size]), return_tensors="pt", padding=True)
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            tokens = model.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=model.tokenizer.pad_token_id,
                **more,
            )
        written = model.tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        found += [before_stop(text, sampling.stop) for text in written]
    return found


def ours(model: LocalModel, texts: Sequence[str], sampling: Sampling, batch_size: int) -> list[str]:
    asked_of = model.asked_of(sampling)
    prompts = [Prompt.of(number, [{"role": "user", "content": text}], asked_of) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        answer(model, prompts, Path(folder) / "answers.jsonl", sampling, batch_size=batch_size)
        lines = read_answers(Path(folder) / "answers.jsonl")
    return [lines[prompt.key]["answers"][0] for prompt in prompts]


def timed(run: Callable[[], list[str]]) -> tuple[list[str], float]:
    started = time.process_time()
    return run(), time.process_time() - started


def compare(name: str, model: LocalModel, texts: Sequence[str], sampling: Sampling, batch_size: int) -> None:
    model.text_of([{"role": "user", "content": "x"}], thinking=False)
    theirs(model, texts[:1], sampling, 1)  # what is made once
    best: dict[str, float] = {}
    answers: dict[str, list[str]] = {}
    for _ in range(REPEATS):
        for who, run in (("transformers", theirs), ("ours", ours)):
            answers[who], seconds = timed(lambda run=run: run(model, texts, sampling, batch_size))
            best[who] = min(best.get(who, seconds), seconds)
    same = sum(a == b for a, b in zip(answers["transformers"], answers["ours"], strict=True))
    ratio = best["transformers"] / best["ours"]
    stop = f"to {sampling.stop[0]!r}" if sampling.stop else f"{sampling.max_new_tokens} tokens"
    row = f"{best['transformers']:12.2f} {best['ours']:8.2f} {ratio:8.2f} {same:5d}/{len(texts)}"
    print(f"{name:<14} {stop:<16} {row}", flush=True)


def compare_examples(model: LocalModel, folder: Path, number: int, batch_size: int) -> None:
    """Prompts that begin with the same solved examples."""
    items = SnsBench(folder).items("Note-Hashtag-single")[:number]
    texts = sorted((model.text_of(list(item.messages), thinking=False) for item in items), key=model.num_tokens)
    rows = [model.encoded(text) for text in texts]
    shared = shared_prefix.shared_length(rows)
    print(f"{len(texts)} prompts, mean {np.mean([len(row) for row in rows]):.0f} tokens, of which shared {shared}")
    sampling, fewest, found = Sampling(max_new_tokens=8), shared_prefix.FEWEST, {}
    theirs(model, ["x"], sampling, 1)  # what is made once
    for name, run, least in (
        ("transformers", theirs, fewest),
        ("ours, whole", ours, 1 << 30),
        ("ours, shared", ours, fewest),
    ):
        shared_prefix.FEWEST = least
        found[name], seconds = timed(lambda run=run: run(model, texts, sampling, batch_size))
        same = sum(a == b for a, b in zip(found["transformers"], found[name], strict=True))
        print(f"{name:<14} {seconds:8.2f} CPU seconds, {same}/{len(texts)} answers as Transformers'", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--prompts", type=int, default=16, help="of the real model")
    parser.add_argument("--examples", type=Path, help="SNS-Bench's folder; with --model")
    parser.add_argument("--dtype", default="float32", help="of the real model")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.examples is not None:
        compare_examples(LocalModel(given.model, "cpu", given.dtype), given.examples, given.prompts, 16)
        return
    from tiny_model import write_model

    print(f"{'model':<14} {'answers':<16} {'transformers':>12} {'ours':>8} {'times':>8} {'equal':>8}   (CPU seconds)")
    with tempfile.TemporaryDirectory() as folder:
        tiny = LocalModel(write_model(Path(folder), chat=False, context=8192), "cpu", "float32")
        for stop in ((), ("z",)):
            compare("tiny random", tiny, prompts_of(96, 120), Sampling(max_new_tokens=32, stop=stop), 16)
    if given.model is not None:
        model = LocalModel(given.model, "cpu", given.dtype)
        for stop in ((), (" the",)):
            compare(given.model.name, model, prompts_of(given.prompts, 240), Sampling(max_new_tokens=24, stop=stop), 8)


if __name__ == "__main__":
    main()
