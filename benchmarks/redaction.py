"""Redaction against datatrove's PIIFormatter, on the same posts in one run: speed of one core, and what each masks.

Prints a Markdown table. Speed is UTF-8 bytes over CPU time of the thread, best of several repeats after a warm-up; the
peer, slow, is timed on a slice of the same posts. Ours masks six kinds, the peer e-mail and IP addresses: the second
table counts only these two, on the slice, and the third all kinds on all posts.

    python benchmarks/redaction.py posts/*.jsonl.zst
"""

import argparse
import io
import json
import platform
import random
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from datatrove.pipeline.formatters import PIIFormatter

from redone_data.text.normalize import normalize
from redone_data.text.personal_scan import kinds_possible
from redone_data.text.redact import redact

REPEATS = 5
PACKAGES = ("polars", "pyarrow", "numba", "datatrove")
PEER_MARKS = {"email": ("<E1>",), "ip": ("<I1>",)}
SEED = 1


def read_texts(path: Path) -> list[str]:
    """The field ``text`` of every line of a JSON Lines file, zstd or plain."""
    with pa.input_stream(path, compression="zstd" if path.suffix == ".zst" else None) as file:
        return [json.loads(line)["text"] for line in io.TextIOWrapper(file, encoding="utf-8")]


def is_chinese(texts: list[str]) -> bool:
    """Whether the first texts of a file hold more Han than Latin letters."""
    head = "".join(texts[:500])
    return sum("\u4e00" <= letter <= "\u9fff" for letter in head) > sum(letter.isascii() for letter in head)


def cpu_seconds(run: Callable[[], object], repeats: int) -> float:
    """The best of several times, of the thread."""
    best = float("inf")
    for _ in range(repeats):
        started = time.thread_time()
        run()
        best = min(best, time.thread_time() - started)
    return best


def num_bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="JSON Lines with a field text, zstd or plain")
    parser.add_argument("--slice-mb", type=float, default=10.0, help="text that the peer is timed on, a language")
    arguments = parser.parse_args()
    corpora: dict[str, list[str]] = {"English and others": [], "Chinese": []}
    for path in sorted(arguments.files):
        texts = read_texts(path)
        corpora["Chinese" if is_chinese(texts) else "English and others"] += texts
    peer = PIIFormatter(email_replacement=PEER_MARKS["email"], ip_replacement=PEER_MARKS["ip"])
    speeds, counted, found = [], [], []
    for language, texts in corpora.items():
        if not texts:
            continue
        random.Random(SEED).shuffle(texts)
        array, megabytes = pa.array(texts, pa.large_string()), num_bytes(texts) / 1e6
        taken, size = 0, 0.0
        while taken < len(texts) and size < arguments.slice_mb:
            size += len(texts[taken].encode()) / 1e6
            taken += 1
        part = texts[:taken]
        for run in (normalize, kinds_possible, redact):
            run(array.slice(0, 1000))  # compiles
        options = {"mentions": "mask", "urls": "mask"}
        redact(array.slice(0, 1000), **options)
        rates = {
            "redact": megabytes / cpu_seconds(lambda array=array: redact(array), REPEATS),
            "with mentions and links": megabytes
            / cpu_seconds(lambda array=array, options=options: redact(array, **options), REPEATS),
            "the scan alone": megabytes / cpu_seconds(lambda array=array: kinds_possible(array), REPEATS),
            "normalize": megabytes / cpu_seconds(lambda array=array: normalize(array), REPEATS),
        }
        theirs = size / cpu_seconds(lambda part=part: [peer.format(text) for text in part], 2)
        ours = rates["redact"]
        columns = [f"{len(texts):,}", f"{megabytes:.1f}", *[f"{rate:.0f}" for rate in rates.values()]]
        speeds.append([language, *columns, f"{theirs:.2f}", f"{ours / theirs:.0f}x"])
        masked, counts = redact(pa.array(part, pa.large_string()), ["email", "ip"])
        formatted = [peer.format(text) for text in part]
        for kind, (mark,) in PEER_MARKS.items():
            said = [text.count(mark) for text in formatted]
            both = sum(min(one, other) for one, other in zip(counts[kind].tolist(), said, strict=True))
            total = int(counts[kind].sum())
            counted.append([language, kind, str(total), str(sum(said)), str(both)])
        assert len(masked) == taken
        for kind, numbers in redact(array, **options)[1].items():
            found.append([language, kind, f"{int(numbers.sum()):,}", f"{int((numbers > 0).sum()):,}"])
    print(f"Machine: {platform.machine()}; Python {platform.python_version()};", end=" ")
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES) + "\n")
    heads = [
        "posts",
        "number",
        "MB",
        "redact MB/s",
        "and mentions, links",
        "scan",
        "normalize",
        "PIIFormatter",
        "ratio",
    ]
    show(heads, speeds)
    show(["posts", "kind", "ours, on the slice", "PIIFormatter", "both, by post"], counted)
    show(["posts", "kind", "masked", "in posts"], found)


def show(heads: list[str], rows: list[list[str]]) -> None:
    """A Markdown table."""
    for cells in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(cells) + " |")
    print()


if __name__ == "__main__":
    main()
