"""Tokens a second that one core makes into batches, from the page cache: ours beside datatrove and a plain memmap loop.

    python benchmarks/data_loading.py                 # 20 million tokens of made-up posts in four shards
    python benchmarks/data_loading.py RUN/tokens      # a token dataset of yours

Every row of the table reads the same dataset in batches of 16 rows as 64-bit tensors and counts CPU seconds of one
process with one thread. Ours: tokens, targets and positions that start anew with each document, rows in shuffled order,
found by sample number alone. `numpy memmap` is the usual loop of small trainers: tokens and targets at random places,
no positions, no epochs. datatrove reads tokens (and positions, where said) window by window; in order is what it is
made for. `two workers`: read by two processes, the CPU time that is left for the training process.

The last column is that time as a share of a step of a 0.3 B model on a GPU of 989 TFLOP/s at 45 % of its peak, which
takes 247,000 tokens/s: worked out, not measured.
"""

import argparse
import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from measuring import machine

from redone_data.manifest import file_digest
from redone_data.mixture import Mixture
from redone_data.tokens.dataset import TokenDataset, write_manifest
from redone_train.data.batches import Batches, BatchShape, RankSampler, loader
from redone_train.data.blend import Blend, Phase
from redone_train.data.packing import Packed
from redone_train.data.rows import RowSource
from redone_train.data.windows import Windows

LENGTHS, ROWS, TOKENS_READ = (512, 1024, 4096), 16, 8_000_000
STEP_RATE = 0.45 * 989e12 / (6 * 0.3e9)
BOS = 1

Batch = dict[str, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description="data loading from the page cache")
    parser.add_argument("tokens", nargs="?", type=Path, help="a token dataset")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        dataset = TokenDataset.open(arguments.tokens or made_up(Path(scratch) / "tokens"))
        for file in dataset.folder.iterdir():
            file.read_bytes()
        mean = dataset.num_tokens / dataset.num_documents
        print(f"{dataset.num_tokens:,} tokens, {mean:.0f} a document, {len(dataset.manifest['shards'])} shards\n")
        print("| rows | " + " | ".join(f"length {length}" for length in LENGTHS) + " | share of a step |")
        print("|---" * (len(LENGTHS) + 2) + "|")
        for name in READERS:
            rates = [rate(READERS[name](dataset, length, Path(scratch) / "plans"), length) for length in LENGTHS]
            shown = " | ".join(f"{each / 1e6:.1f}" for each in rates)
            print(f"| {name} | {shown} | {100 * STEP_RATE / min(rates):.2f} % |", flush=True)
    print("\nmillions of tokens a second of CPU time. " + machine("numpy", "numba", "torch", "datatrove"))


def rate(batches: Iterator[Batch], length: int) -> float:
    """Tokens a second, after a batch that compiles and opens what it must."""
    next(batches)
    tokens, started = 0, time.process_time()
    for batch in batches:
        tokens += batch["input_ids"].numel()
        if tokens >= TOKENS_READ:
            break
    return tokens / (time.process_time() - started)


def samples(sources: dict[str, RowSource]) -> Batches:
    sizes = {name: source.num_rows for name, source in sources.items()}
    return Batches(sources, Blend(sizes, [Phase(4 * sum(sizes.values()), Mixture.of(sizes))], seed=1))


def ours(source: Callable[[TokenDataset, int, Path], RowSource], sources: int = 1) -> "Reader":
    def read(dataset: TokenDataset, length: int, plans: Path) -> Iterator[Batch]:
        batches = samples({f"source-{i}": source(dataset, length, plans) for i in range(sources)})
        for first in range(0, len(batches) - ROWS, ROWS):
            yield batches.__getitems__(range(first, first + ROWS))

    return read


def through_workers(dataset: TokenDataset, length: int, plans: Path) -> Iterator[Batch]:
    batches = samples({"posts": packed(dataset, length, plans)})
    yield from loader(batches, RankSampler(BatchShape(ROWS, ROWS), 0, len(batches) // ROWS), workers=2, pinned=False)


def memmap(dataset: TokenDataset, length: int, plans: Path) -> Iterator[Batch]:
    tokens, rng = dataset.shard_tokens(0), np.random.default_rng(1)
    while True:
        starts = rng.integers(0, len(tokens) - length - 1, ROWS)
        yield {
            "input_ids": torch.stack([torch.from_numpy(tokens[i : i + length].astype(np.int64)) for i in starts]),
            "targets": torch.stack([torch.from_numpy(tokens[i + 1 : i + 1 + length].astype(np.int64)) for i in starts]),
        }


def datatrove(*, positions: bool, shuffled: bool) -> "Reader":
    def read(dataset: TokenDataset, length: int, plans: Path) -> Iterator[Batch]:
        from datatrove.utils.dataset import DatatroveFolderDataset

        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            theirs = DatatroveFolderDataset(
                str(dataset.folder),
                seq_len=length - 1,
                token_size=dataset.dtype.itemsize,
                return_positions=positions,
                shuffle=shuffled,
                seed=1,
            )
        for first in range(0, len(theirs) - ROWS, ROWS):
            yield torch.utils.data.default_collate([theirs[i] for i in range(first, first + ROWS)])

    return read


def packed(dataset: TokenDataset, length: int, plans: Path) -> RowSource:
    return Packed(dataset, length, plans, dataset.eos_token_id)


Reader = Callable[[TokenDataset, int, Path], Iterator[Batch]]
READERS: dict[str, Reader] = {
    "packed": ours(packed),
    "packed, four sources": ours(packed, sources=4),
    "windows": ours(lambda dataset, length, plans: Windows(dataset, length)),
    "windows, no masks": ours(lambda dataset, length, plans: Windows(dataset, length, masked=False)),
    "windows, no masks, with BOS": ours(lambda dataset, length, plans: Windows(dataset, length, False, BOS)),
    "packed, two workers: left for training": through_workers,
    "numpy memmap, no positions": memmap,
    "datatrove in order, no positions": datatrove(positions=False, shuffled=False),
    "datatrove in order": datatrove(positions=True, shuffled=False),
    "datatrove shuffled, no positions": datatrove(positions=False, shuffled=True),
}


def made_up(folder: Path, shards: int = 4, tokens: int = 20_000_000) -> Path:
    """Posts of random tokens, 50 on average, most of them shorter."""
    folder.mkdir()
    rng, written = np.random.default_rng(1), []
    for shard in range(shards):
        sizes = np.minimum(2 + rng.lognormal(3.4, 1, tokens // shards // 50), 8192).astype(np.int64)
        ends, stem = np.cumsum(sizes), f"{shard:05d}"
        values = rng.integers(2, 4096, ends[-1]).astype("<u2")
        values[ends - 1] = 0
        values.tofile(folder / f"{stem}.ds")
        ends.astype("<u8").tofile(folder / f"{stem}.ds.index")
        (folder / f"{stem}.spans.parquet").touch()
        names = {"tokens_file": f"{stem}.ds", "index_file": f"{stem}.ds.index", "spans_file": f"{stem}.spans.parquet"}
        files = {
            key: {"name": name, "bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
            for key, name in names.items()
        }
        written.append({"documents": len(sizes), "tokens": int(ends[-1]), "bytes": 4 * int(ends[-1]), **files})
    write_manifest(
        folder,
        tokenizer={"file": "", "sha256": "", "vocab_size": 4096, "eos_token": "</s>", "eos_token_id": 0},
        token_bytes=2,
        seed=1,
        budget=tokens,
        weights={"posts": 1.0},
        epochs={"posts": 1.0},
        domains={},
        langs={},
        shards=written,
    )
    return folder


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
