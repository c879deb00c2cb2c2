"""How near-duplicate removal and the index grow: time, memory and disk by number of documents.

Documents are made by perturbing real posts (near_corpus.py): a fifth stay near their source, the others share next to
nothing with it. Each size runs in a process of its own.

    python benchmarks/near_scaling.py --cache DIR --millions 0.1 0.3 1
    python benchmarks/near_scaling.py --cache DIR --index --old 10 --new 0.1
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from near_corpus import build, perturbed, read_texts
from near_duplicates import Clock
from near_ours import DOMAIN, Timings, corpus_of, deduplicate

from redone_data.corpus import Corpus, Part
from redone_data.curate.index import Index
from redone_data.curate.index_segments import add_segment
from redone_data.curate.near import NearConfig
from redone_data.curate.standing import DuplicatesConfig, StandingStep
from redone_data.engine import Engine, ExecutorConfig

CORES = 64
BILLION = 1_000_000_000


def blocks(texts: list[str], count: int, seed: int, prefix: str) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Parts of perturbed posts, with ids."""
    done = 0
    for block in perturbed(texts, count, seed):
        ids = [f"{prefix}{number}" for number in range(done, done + len(block))]
        done += len(block)
        yield pa.array(ids, pa.large_string()), pa.array(block, pa.large_string())


def made(folder: Path, texts: list[str], count: int, seed: int, prefix: str) -> Corpus:
    shutil.rmtree(folder, ignore_errors=True)
    return corpus_of(blocks(texts, count, seed, prefix), folder)


def bytes_of(corpus: Corpus) -> int:
    return sum(part.text_bytes for part in corpus.parts)


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def curve(cache: Path, count: int, workers: int) -> dict[str, Any]:
    """Deduplicate `count` documents that lie ready as Parquet."""
    corpus = open_corpus(cache / f"scaling-{count}")
    timings = deduplicate(corpus, NearConfig(), cache / "run", workers=workers)
    resolved = timings.outputs["resolve"].statistics
    return {
        "documents": corpus.num_rows,
        "mb": bytes_of(corpus) / 1e6,
        "cpu": sum(timings.cpu.values()),
        "wall": sum(timings.wall.values()),
        "disk": disk(cache / "run"),
        "resolve": timings.cpu["resolve"],
        "nodes": resolved["documents_with_duplicates"],
        "pairs": timings.outputs["near-verify"].statistics["pairs"],
        "stages": timings.cpu,
    }


def open_corpus(folder: Path) -> Corpus:
    """The corpus that `made` left in a folder: parts are described beside them."""
    described = json.loads((folder / "parts.json").read_bytes())
    parts = [Part(path=folder / part.pop("name"), **part) for part in described]
    return Corpus(tuple(parts), {folder.name: folder.name})


def describe(corpus: Corpus, folder: Path) -> None:
    keys = ("index", "domain", "source", "rows", "offset", "text_bytes", "named")
    rows = [{"name": part.path.name, **{key: getattr(part, key) for key in keys}} for part in corpus.parts]
    (folder / "parts.json").write_text(json.dumps(rows))


def build_index(cache: Path, workers: int) -> dict[str, Any]:
    """An index of the old corpus, all of it accepted."""
    shutil.rmtree(cache / "index", ignore_errors=True)
    corpus = open_corpus(cache / "old")
    engine, clock = Engine(cache / "run-old", ExecutorConfig(workers=workers)), Clock()
    standing = engine.run(StandingStep(corpus, DuplicatesConfig()))
    index = add_segment(cache / "index", corpus, NearConfig(), standing, engine=engine)
    return {
        **clock.stop(),
        "documents": index.num_accepted,
        "mb": bytes_of(corpus) / 1e6,
        "disk": disk(cache / "index"),
    }


def match(cache: Path, workers: int) -> dict[str, Any]:
    """New documents against the index."""
    corpus, clock = open_corpus(cache / "new"), Clock()
    index = Index.open(cache / "index", NearConfig())
    timings: Timings = deduplicate(corpus, NearConfig(), cache / "run-new", workers=workers, index=index)
    stages = {name: round(seconds, 2) for name, seconds in timings.cpu.items()}
    dropped = timings.outputs["resolve"].statistics
    return {**clock.stop(), "documents": corpus.num_rows, "mb": bytes_of(corpus) / 1e6, "stages": stages, **dropped}


def watch(pid: int, stop: threading.Event, peaks: dict[str, int]) -> None:
    """The largest proportional set size, and of it what is the process's own and no page of a mapped file; bytes."""
    while not stop.wait(0.25):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, kilobytes = line.split()[:2]
                if name in ("Pss:", "Anonymous:"):
                    peaks[name] = max(peaks.get(name, 0), 1024 * int(kilobytes))


def measured(mode: str, cache: Path, count: int, workers: int) -> dict[str, Any]:
    """One mode in a process of its own, with its peak memory."""
    result = cache / "result.json"
    command = [sys.executable, __file__, "--cache", str(cache), "--mode", mode, "--count", str(count)]
    child = subprocess.Popen([*command, "--workers", str(workers), "--result", str(result)])
    stop, peaks = threading.Event(), dict[str, int]()
    watcher = threading.Thread(target=watch, args=(child.pid, stop, peaks))
    watcher.start()
    failed = child.wait()
    stop.set()
    watcher.join()
    if failed:
        raise SystemExit(f"{mode} ended with code {failed}")
    values: dict[str, Any] = json.loads(result.read_bytes())
    return {**values, "pss": peaks["Pss:"], "anonymous": peaks["Anonymous:"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--millions", type=float, nargs="*", default=[1, 3, 10, 30])
    parser.add_argument("--index", action="store_true", help="measure the index instead")
    parser.add_argument("--old", type=float, default=10, help="millions of documents in the index")
    parser.add_argument("--new", type=float, default=0.1, help="millions of documents to match")
    parser.add_argument("--workers", type=int, default=1, help="CPU time is told for 1 alone")
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        pa.set_cpu_count(1)
        run = {"curve": lambda: curve(options.cache, options.count, options.workers)}
        run["build"] = lambda: build_index(options.cache, options.workers)
        run["match"] = lambda: match(options.cache, options.workers)
        options.result.write_text(json.dumps(run[options.mode]()))
        return
    path, _ = build(options.cache, seed=8)
    texts = read_texts(path)
    if options.index:
        for name, millions, seed in (("old", options.old, 1), ("new", options.new, 2)):
            count = round(millions * 1e6)
            describe(made(options.cache / name, texts, count, seed, name), options.cache / name)
        old = measured("build", options.cache, 0, options.workers)
        new = measured("match", options.cache, 0, options.workers)
        for name, row in (("build", old), ("match", new)):
            print(
                f"{name}: {row['documents']:,} documents, {row['mb']:.0f} MB, CPU {row['cpu']:.1f} s, wall "
                f"{row['wall']:.1f} s, peak memory {row['pss'] / 2**20:,.0f} MiB"
            )
        print(f"index on disk {old['disk'] / 1e6:,.0f} MB, {old['disk'] / old['documents']:.0f} bytes a document")
        print(f"matched: {new['exact_duplicate']:,} exact, {new['near_duplicate']:,} near; CPU s: {new['stages']}")
        return
    print(
        "| documents | MB | CPU s | us a document | MB/s a core | wall s | peak MiB (PSS) "
        "| without mapped files | disk, bytes a document |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for millions in options.millions:
        count = round(millions * 1e6)
        folder = options.cache / f"scaling-{count}"
        started = time.perf_counter()
        describe(made(folder, texts, count, 1, DOMAIN), folder)
        print(f"(made in {time.perf_counter() - started:.0f} s)", file=sys.stderr)
        row = measured("curve", options.cache, count, options.workers)
        print(
            f"| {row['documents']:,} | {row['mb']:.0f} | {row['cpu']:.1f} | {row['cpu'] / count * 1e6:.1f} "
            f"| {row['mb'] / row['cpu']:.1f} | {row['wall']:.1f} | {row['pss'] / 2**20:,.0f} "
            f"| {row['anonymous'] / 2**20:,.0f} | {row['disk'] / count:.0f} |",
            flush=True,
        )
        shutil.rmtree(folder)
    parallel = (row["cpu"] - row["resolve"]) / count * BILLION / CORES
    print(
        f"\n1e9 posts on {CORES} cores, from the last row: {parallel / 3600:.1f} h split, and "
        f"{row['resolve'] / count * BILLION / 3600:.2f} h for the single task (resolve), which holds "
        f"{row['nodes'] / count:.2f} documents with duplicates a document; {row['pairs'] / count:.2f} candidate pairs "
        f"a document; {row['disk'] / count:.0f} GB written. CPU s by stage: "
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["stages"].items())
    )


if __name__ == "__main__":
    main()
