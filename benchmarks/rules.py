"""All rule metrics against datatrove's Gopher, C4 and FineWeb filters on the same posts.

    python benchmarks/rules.py ../shared/data --megabytes 90 --peer-megabytes 2

CPU time of one thread, best of several repeats after warm-up. datatrove's filters run on an even sample, since they
take minutes for 10 MB; decisions and reasons are compared on that sample. Then bounds are judged on 10 million rows, as
after a change of thresholds.
"""

import argparse
import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from redone_data.curate.rules import PRESETS, judge
from redone_data.text.features import features
from redone_data.text.promotion import promotion_metrics
from redone_data.text.web_metrics import web_metrics

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "curate"))
from web_filters import peer_reasons

SOURCES = {
    "reddit_posts": 0.45,
    "tweets_tweeteval": 0.05,
    "tweets_crisis": 0.05,
    "reddit_titles": 0.07,
    "weibo_comments": 0.17,
    "zh_reviews": 0.12,
    "zh_offensive_comments": 0.05,
    "weibo_hotsearch": 0.04,
}  # share of the bytes


def posts(folder: Path, megabytes: float) -> list[str]:
    """The first posts of each source, up to its share of the bytes."""
    texts = []
    for name, share in SOURCES.items():
        left = share * megabytes * 1e6
        with pa.input_stream(folder / "sns" / f"{name}.jsonl.zst", compression="zstd") as file:
            for line in io.TextIOWrapper(file, encoding="utf-8"):
                text = json.loads(line)["text"]
                left -= len(text.encode())
                if left < 0:
                    break
                texts.append(text)
    return texts


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """The least CPU time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--megabytes", type=float, default=90)
    parser.add_argument("--peer-megabytes", type=float, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows to judge")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    texts = posts(arguments.data, arguments.megabytes)
    array = pa.array(texts, pa.large_string())
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} posts, {size:.1f} MB")
    measures = {"features": features, "web_metrics": web_metrics, "promotion_metrics": promotion_metrics}
    total = 0.0
    for name, measure in measures.items():
        measure(array[:100])
        took = seconds(lambda measure=measure: measure(array), arguments.repeats)
        total += took
        print(f"{name:20} {took:8.3f} s  {size / took:7.1f} MB/s  {len(texts) / took:12,.0f} documents/s")
    print(f"{'all':20} {total:8.3f} s  {size / total:7.1f} MB/s  {len(texts) / total:12,.0f} documents/s")

    step = max(1, round(arguments.megabytes / arguments.peer_megabytes))
    # Not Chinese posts: there our words are characters, where datatrove's English filters take phrases for words.
    sample = texts[::step]
    scripts = features(pa.array(sample))
    han = (scripts["han_fraction"] + scripts["kana_fraction"] > 0.5).to_list()
    sample = [text for text, is_han in zip(sample, han, strict=True) if not is_han]
    sample_size = sum(len(text.encode()) for text in sample) / 1e6
    frame = web_metrics(pa.array(sample))
    peers = 0.0
    for preset in ("gopher", "c4", "fineweb"):
        peer_reasons(preset, sample[:20])
        start = time.thread_time()
        theirs = peer_reasons(preset, sample)
        took = time.thread_time() - start
        peers += took
        columns = {name: frame[name].to_numpy().astype(np.float32).astype(np.float64) for name in PRESETS[preset]}
        verdict = judge(columns, PRESETS[preset], len(sample))
        ours = [None if index < 0 else verdict.reasons[index] for index in verdict.broken]
        decisions = sum((a is None) == (b is None) for a, b in zip(ours, theirs, strict=True))
        reasons = sum(a == b for a, b in zip(ours, theirs, strict=True))
        print(
            f"datatrove {preset:10} {took:8.1f} s  {sample_size / took:7.3f} MB/s on {sample_size:.2f} MB; of "
            f"{len(sample):,} posts {decisions:,} decisions and {reasons:,} reasons agree, "
            f"{sum(reason is None for reason in theirs):,} kept"
        )
    print(f"datatrove all        {peers:8.1f} s  {sample_size / peers:7.3f} MB/s")
    print(f"ratio: {(size / total) / (sample_size / peers):,.0f}")

    all_columns = {name: column for measure in measures.values() for name, column in columns_of(measure(array)).items()}
    for preset in ("sns", "gopher", "c4", "fineweb"):
        rows = {name: np.resize(all_columns[name], arguments.rows) for name in PRESETS[preset]}
        start = time.thread_time()
        verdict = judge(rows, PRESETS[preset], arguments.rows)
        took = time.thread_time() - start
        dropped = np.count_nonzero(verdict.broken >= 0) / arguments.rows
        print(f"judge {preset:10} {took:6.2f} s, {arguments.rows:,} rows, {len(rows)} metrics; {dropped:.1%} dropped")


def columns_of(frame: Any) -> dict[str, Any]:
    return {name: frame[name].to_numpy().astype(np.float64) for name in frame.columns}


if __name__ == "__main__":
    main()
