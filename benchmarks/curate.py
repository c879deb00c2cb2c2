"""The whole of curation, Parquet to Parquet, beside the same steps in datatrove: one run, one machine.

Ours: `redone-data curate` (normalise, redact, metrics, language, rules, exact and verified near-duplicates, ledger,
curated corpus). datatrove: PII formatter, language filter, Gopher repetition and quality, C4 and FineWeb filters,
MinHash in four stages, Parquet writer. datatrove works on a slice: it is slow.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from measuring import Measured, machine, measured


def ours(source: Path, folder: Path, workers: int) -> dict[str, float]:
    """Seconds of the clock by step."""
    from redone_data.config import read_config
    from redone_data.pipeline import Run
    from redone_data.recipe import LoadedRecipe, Recipe

    values = {
        "domains": {"posts": {"sources": [{"paths": [str(source)], "fields": {"id": "id"}}]}},
        "mix": {"weights": {"posts": 1}},
        "executor": {"workers": workers},
    }
    run = Run(LoadedRecipe(read_config(Recipe, values, where="benchmark"), source.with_name("benchmark")), folder)
    run.execute("curate")
    assert run.curation.ledger is not None
    counts = run.curation.ledger.statistics["domains"]["posts"]
    seconds = {name: timing["seconds"] for name, timing in run.engine.timings.items() if "seconds" in timing}
    return {**seconds, "kept": counts["train"] + counts["validation"]}


def theirs(source: Path, folder: Path) -> int:
    """The same in datatrove; what was kept."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils import lid
    from datatrove.utils.hashing import HashConfig

    from redone_data.curate.language import model_path

    # They ask for one build of fasttext by name; any will do.
    LanguageFilter._requires_dependencies = []
    lid.check_required_dependencies = lambda *_: None
    lid.FT176LID.MODEL_URL = str(model_path(None))
    # Its default hash, xxhash, refuses text in this version of the package.
    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))
    steps = [
        [
            ParquetReader(str(source.parent), glob_pattern=source.name, text_key="text", id_key="id"),
            PIIFormatter(),
            LanguageFilter(["en", "zh"], language_threshold=0.0, backend="ft176"),
            GopherRepetitionFilter(),
            GopherQualityFilter(min_doc_words=3, min_stop_words=None),
            C4QualityFilter(filter_no_terminal_punct=False, min_num_sentences=-1),
            FineWebQualityFilter(line_punct_thr=0.0, short_line_thr=1.01),
            ParquetWriter(str(folder / "filtered")),
        ],
        [ParquetReader(str(folder / "filtered")), MinhashDedupSignature(str(folder / "signatures"), config)],
        [MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config)],
        [MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"), config=config)],
        [
            ParquetReader(str(folder / "filtered")),
            MinhashDedupFilter(str(folder / "remove")),
            ParquetWriter(str(folder / "kept")),
        ],
    ]
    for number, pipeline in enumerate(steps):
        # One task a stage (the bucket stage needs one a bucket); each in this process.
        tasks = 14 if number == 2 else 1
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(folder / f"logs-{number}")).run()
    return sum(pq.read_metadata(path).num_rows for path in (folder / "kept").glob("*.parquet"))


def slice_of(source: Path, megabytes: float, target: Path) -> int:
    """The first documents of a file, as many as make so many MB; bytes of text."""
    table = pq.read_table(source, columns=["id", "text"])
    taken, size = 0, 0
    for length in table["text"].to_pylist():
        if size >= megabytes * 1e6:
            break
        size += len(length.encode())
        taken += 1
    pq.write_table(table.slice(0, taken), target)
    return size


def row(name: str, cost: Measured, num_bytes: int, documents: int) -> str:
    return (
        f"| {name} | {num_bytes / 1e6:.0f} | {cost.cpu:.1f} | {cost.wall:.1f} | {cost.rate(num_bytes):.2f} "
        f"| {documents / cost.cpu:,.0f} | {cost.peak / 2**30:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="a Parquet file of id and text (benchmarks/near_corpus.py makes one)")
    parser.add_argument("--slice", type=float, default=10.0, metavar="MB", help="of text for datatrove")
    parser.add_argument("--workers", type=int, default=0, help="of ours, beside one; 0: leave out")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="redone-bench-"))
    documents = pq.read_metadata(arguments.corpus).num_rows
    size = slice_of(arguments.corpus, float("inf"), folder / "all.parquet")
    small = slice_of(arguments.corpus, arguments.slice, folder / "slice.parquet")
    part = pq.read_metadata(folder / "slice.parquet").num_rows
    measured(ours, folder / "slice.parquet", folder / "warm", 1)
    rows = [
        "| curate, Parquet to Parquet | MB | CPU s | wall s | MB/s of CPU | documents/s | peak GiB |",
        "|---|" + "---|" * 6,
    ]
    whole = measured(ours, folder / "all.parquet", folder / "ours", 1)
    rows.append(row("redone, one worker", whole, size, documents))
    if arguments.workers:
        many = measured(ours, folder / "all.parquet", folder / "many", arguments.workers)
        name, peak = f"redone, {arguments.workers} workers", many.peak / 2**30  # CPU of their server is not seen
        rows.append(f"| {name} | {size / 1e6:.0f} | | {many.wall:.1f} | | | {peak:.2f} |")
    peer = measured(theirs, folder / "slice.parquet", folder / "theirs")
    rows.append(row("datatrove, a slice", peer, small, part))
    print("\n".join(rows))
    print(f"\nratio of MB/s of CPU: {whole.rate(size) / peer.rate(small):.0f}")
    print("wall seconds of ours by step:", {name: value for name, value in whole.result.items() if name != "kept"})
    print(f"kept: ours {whole.result['kept']} of {documents}; datatrove {peer.result} of {part}")
    print(machine("polars", "pyarrow", "numba", "datatrove", "fasttext-community", "spacy"))
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
