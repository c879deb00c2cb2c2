"""Proxies an hour: stacks of K runs against one process a proxy, on the same machine, runs and tokens.

    python benchmarks/proxies.py                    # on a GPU if there is one: 64 runs; on a CPU: 4
    python benchmarks/proxies.py --size 1m --tokens 1000000 --runs 64

Every row is the command `redone-train swarm` on one synthetic swarm (Markov text, vocabulary 4,096, four domains, a
mixture and seed for each run), from start to metrics.csv: process start, compiling, training and evaluation are all in
it. On a GPU the baselines are 1 to 16 processes side by side, each with a compiled proxy at a time; on a CPU 1 and 2
processes of one thread. The last column is the largest difference of any loss from the first row's, in bits per byte;
it must be less than what another seed makes of it, which the last line says. On a machine that others use, CPU seconds
are the figure to compare on a CPU.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import machine

from redone_train.swarm_devices import find_devices

VOCAB, EOS, DOMAINS = 4096, 0, ("a", "b", "c", "d")
TRAIN_TOKENS, VALIDATION_TOKENS, BYTES_PER_TOKEN = 2_000_000, 20_000, 4


def main() -> None:
    parser = argparse.ArgumentParser(description="stacked proxies against one process a proxy")
    parser.add_argument("--size", action="append", help="of the proxies; default: 0.3m and 1m")
    parser.add_argument("--tokens", type=int, help="of a run; default: 200,000 on a GPU, 100,000 on a CPU")
    parser.add_argument("--runs", type=int, help="default: 64 on a GPU, 4 on a CPU")
    arguments = parser.parse_args()
    on_gpu = find_devices("auto")[0].name != "cpu"
    num_runs = arguments.runs or (64 if on_gpu else 4)
    tokens = arguments.tokens or (200_000 if on_gpu else 100_000)
    alone = ("--stack", "1", "--processes")
    variants = [(*alone, str(n)) for n in ((1, 2, 4, 8, 16) if on_gpu else (1, 2))]
    variants += [()] if on_gpu else [("--stack", "2", "--processes", "1"), ("--stack", "2", "--processes", "2"), ()]
    print("| size | redone-train swarm | seconds | proxies an hour | CPU seconds | largest difference, bits per byte |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for size in arguments.size or ["0.3m", "1m"]:
            swarm = Path(scratch) / size
            write_swarm(swarm, size, tokens, num_runs)
            losses: list[np.ndarray] = []
            for options in variants:
                seconds, cpu, found = train(swarm, options)
                losses.append(found)
                difference = np.abs(found - losses[0]).max()
                shown = " ".join(options) or "(default)"
                rate = 3600 * num_runs / seconds
                print(f"| {size} | {shown} | {seconds:.1f} | {rate:,.0f} | {cpu:.1f} | {difference:.1e} |", flush=True)
            # Runs 0 and 1 have the same mixture and another seed.
            noise = np.abs(losses[0][0] - losses[0][1]).max()
            print(f"\n{size}: another seed, the same mixture: {noise:.1e} bits per byte\n")
    print(machine("torch"))


def train(swarm: Path, options: tuple[str, ...]) -> tuple[float, float, np.ndarray]:
    """Seconds of the clock and of CPU, and the losses as runs x domains."""
    for name in ("results", "timings", "checkpoints"):
        shutil.rmtree(swarm / name, ignore_errors=True)
    for name in ("metrics.csv", "stack.json"):
        (swarm / name).unlink(missing_ok=True)
    started, used = time.perf_counter(), sum(os.times()[2:4])
    command = [sys.executable, "-m", "redone_train", "swarm", str(swarm), *options]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds, cpu = time.perf_counter() - started, sum(os.times()[2:4]) - used
    with (swarm / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return seconds, cpu, np.array([[float(row[domain]) for domain in DOMAINS] for row in rows])


def write_swarm(directory: Path, size: str, tokens: int, num_runs: int) -> None:
    directory.mkdir(parents=True)
    domains = {}
    for number, domain in enumerate(DOMAINS):
        rng = np.random.default_rng(number)
        for split, length in (("train", TRAIN_TOKENS), ("validation", VALIDATION_TOKENS)):
            stream = markov(rng, number, length)
            stream.astype("<u2").tofile(directory / f"{domain}-{split}.ds")
            np.array([length], dtype="<u8").tofile(directory / f"{domain}-{split}.ds.index")
        domains[domain] = {
            "train": [f"{domain}-train.ds"],
            "validation": [f"{domain}-validation.ds"],
            "validation_bytes": VALIDATION_TOKENS * BYTES_PER_TOKEN,
            "train_limit_tokens": None,
        }
    proxy = {"size": size, "tokens": tokens, "context": 128, "batch_tokens": 1024, "learning_rate": None}
    config = {"schema_version": 1, "seed": 1, "vocab_size": VOCAB, "token_bytes": 2, "eos_token_id": EOS}
    (directory / "swarm.json").write_text(json.dumps({**config, "proxy": proxy, "domains": domains}))
    mixtures = np.random.default_rng(7).dirichlet(np.ones(len(DOMAINS)), num_runs)
    mixtures[1] = mixtures[0]
    with (directory / "runs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run_id", "seed", *DOMAINS])
        writer.writerows([f"run-{i:04d}", i, *mixture] for i, mixture in enumerate(mixtures))


def markov(rng: np.random.Generator, domain: int, length: int) -> np.ndarray:
    """Half of the tokens follow from the one before by a permutation of the domain's own, half are Zipf's."""
    follows = np.random.default_rng(1000 + domain).permutation(VOCAB)
    rank = 1 / np.arange(1, VOCAB + 1)
    tokens = np.random.default_rng(2000 + domain).permutation(VOCAB)[rng.choice(VOCAB, length, p=rank / rank.sum())]
    follow = np.flatnonzero(rng.random(length - 1) < 0.5) + 1
    tokens[follow] = follows[tokens[follow - 1]]
    return tokens


if __name__ == "__main__":
    main()
