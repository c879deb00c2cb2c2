"""A threshold is changed on a large judged corpus: how long until counts, ledger and report are there again.

Documents are perturbed real posts (near_corpus.py), in Parquet files of 500,000. They are judged once, as a recipe does
it; then `redone-data judge` runs again with another bound.

    python benchmarks/redraw.py --cache DIR --millions 10 --workers 2
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Measured, machine, measured
from near_corpus import build, perturbed, read_texts

FILE_ROWS = 500_000


def write_posts(cache: Path, count: int) -> list[Path]:
    """Parquet files of so many posts; made once."""
    paths = [cache / f"posts-{count}-{start}.parquet" for start in range(0, count, FILE_ROWS)]
    if not all(path.exists() for path in paths):
        source, _ = build(cache, seed=8)
        blocks = perturbed(read_texts(source), count, seed=1)
        done = 0
        for path in paths:
            with pq.ParquetWriter(path, pa.schema({"id": pa.large_string(), "text": pa.large_string()})) as writer:
                for _ in range(-(-min(FILE_ROWS, count - done) // 100_000)):
                    texts = next(blocks)
                    ids = [str(number) for number in range(done, done + len(texts))]
                    writer.write(pa.table({"id": ids, "text": texts}, schema=writer.schema))
                    done += len(texts)
    return paths


def judge(recipe: Path, *options: str) -> dict[str, Any]:
    """`redone-data judge` as a user would run it; what it prints as JSON."""
    command = [sys.executable, "-m", "redone_data", "judge", str(recipe), "--json", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def row(name: str, found: Measured, domain: dict[str, Any]) -> None:
    kept = domain["train"] + domain["validation"]
    print(f"| {name} | {found.wall:.1f} | {found.cpu:.1f} | {found.peak / 2**20:,.0f} | {kept:,} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--millions", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    count = round(options.millions * 1e6)
    paths = write_posts(options.cache, count)
    recipe = options.cache / "redraw.yaml"
    files = json.dumps([str(path.resolve()) for path in paths])
    recipe.write_text(
        f"output: redraw-run\ndomains: {{posts: {{rules: {{preset: sns}}, "
        f"sources: [{{paths: {files}, fields: {{id: id}}}}]}}}}\n"
        f"mix: {{weights: {{posts: 1}}}}\nexecutor: {{workers: {options.workers}}}\n"
    )
    print("| what | wall s | CPU s | peak MiB (PSS) | kept |\n|---|---|---|---|---|")
    for name, arguments in (
        (f"{count:,} documents judged", ()),
        ("a bound changed", ("--set", "domains.posts.rules.bounds.num_words.min=12")),
        ("and another", ("--set", "domains.posts.rules.bounds.top_ngram_fraction.max=0.3")),
    ):
        started = time.perf_counter()
        found = measured(judge, recipe, *arguments)
        row(name, found, found.result["domains"]["posts"])
        print(f"({time.perf_counter() - started:.0f} s)", file=sys.stderr)
    print("\n" + machine("polars", "pyarrow", "numba"))


if __name__ == "__main__":
    main()
