"""MinHash signatures alone: ours from Arrow text beside datasketch and rensa, each on one core.

Word 3-grams, 125 permutations. Every system runs in a fresh process that first signs a few texts: imports and
compilation do not count, making shingles does. Ours takes all of CORPUS.parquet (columns `text` and `language`, as
near_corpus.py writes it) in the batches of a curation step; the peers take its first --slice MB. datasketch signs our
shingles, and its signatures must equal ours.

    python benchmarks/signatures.py CORPUS.parquet [--slice 2] [--repeats 5]
"""

import argparse
import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from measuring import machine, measured

NGRAM, NUM_PERM, SEED = 3, 125, 1
BATCH_ROWS = 5_000  # as curate/bands.py does
WARM_ROWS = 100
WORDS = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
LANGUAGES = ("mixed", "en", "zh")


def read_texts(corpus: Path, lang: str, megabytes: float | None = None) -> pa.Array:
    """The texts of a language, or of all, up to so many MB."""
    table = pl.read_parquet(corpus, columns=["text", "language"])
    if lang != "mixed":
        table = table.filter(pl.col("language") == lang)
    if megabytes is not None:
        table = table.filter(pl.col("text").str.len_bytes().cum_sum() <= megabytes * 1e6)
    return pa.concat_arrays([table["text"].to_arrow().cast(pa.large_string())])


def size_of(texts: pa.Array) -> int:
    """Bytes of UTF-8."""
    return int(pl.Series(texts).str.len_bytes().sum())


def best_time(sign: Callable[[pa.Array], Any], texts: pa.Array, repeats: int) -> tuple[int, float]:
    """(bytes of text, CPU seconds of the thread in the best of so many runs, after a few texts to warm up)."""
    sign(texts[:WARM_ROWS])
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        sign(texts)
        seconds.append(time.thread_time() - start)
    return size_of(texts), min(seconds)


def ours(corpus: Path, lang: str, repeats: int) -> tuple[int, float]:
    from redone_data.text.minhash import text_signatures

    def sign(texts: pa.Array) -> None:
        for first in range(0, len(texts), BATCH_ROWS):
            text_signatures(texts.slice(first, BATCH_ROWS), NGRAM, NUM_PERM, SEED)

    return best_time(sign, read_texts(corpus, lang), repeats)


def datasketch(corpus: Path, lang: str, megabytes: float) -> tuple[int, float]:
    from datasketch import MinHash

    from redone_data.text.datasketch import shingle_hash
    from redone_data.text.minhash import shingles, text_signatures

    def sign(texts: pa.Array) -> list[Any]:
        found = shingles(texts, NGRAM)
        hashes, sketches = found.hashes.tolist(), []
        for first, last in itertools.pairwise(found.offsets.tolist()):
            sketch = MinHash(NUM_PERM, SEED, hashfunc=shingle_hash, scheme="affine32")
            sketch.update_batch(hashes[first:last])
            sketches.append(sketch.hashvalues)
        return sketches

    texts = read_texts(corpus, lang, megabytes)
    equal = all((a == b).all() for a, b in zip(sign(texts), text_signatures(texts, NGRAM, NUM_PERM, SEED), strict=True))
    if not equal:
        raise SystemExit("datasketch's signatures differ from ours")
    return best_time(sign, texts, 1)


def rensa_python(corpus: Path, lang: str, megabytes: float) -> tuple[int, float]:
    from rensa import RMinHash

    def sign(texts: pa.Array) -> Any:
        sets = []
        for text in texts.to_pylist():
            words = WORDS.findall(text.lower())
            size = min(NGRAM, len(words))
            sets.append([" ".join(words[at : at + size]) for at in range(len(words) - size + 1)])
        return RMinHash.digest_matrix_from_token_sets(sets, NUM_PERM, SEED)

    return best_time(sign, read_texts(corpus, lang, megabytes), 1)


def rensa_ours(corpus: Path, lang: str, megabytes: float) -> tuple[int, float]:
    from rensa import RMinHash

    from redone_data.text.minhash import shingles

    def sign(texts: pa.Array) -> Any:
        found = shingles(texts, NGRAM)
        offsets = found.offsets.astype(np.uint64)
        return RMinHash.digest_matrix_from_flat_token_hashes(found.hashes, offsets, NUM_PERM, SEED)

    return best_time(sign, read_texts(corpus, lang, megabytes), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="Parquet with columns text and language")
    parser.add_argument("--slice", type=float, default=2.0, help="MB of text for the peers (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of ours, of which the best counts (default: 5)")
    arguments = parser.parse_args()
    print("| signatures, MB of text a second of one core | " + " | ".join(LANGUAGES) + " |")
    print("|---|" + "---|" * len(LANGUAGES))
    systems: list[tuple[str, Callable[..., tuple[int, float]], float]] = [
        ("ours, from Arrow text", ours, arguments.repeats),
        ("datasketch, our shingles", datasketch, arguments.slice),
        ("rensa, Python shingles", rensa_python, arguments.slice),
        ("rensa, our shingles", rensa_ours, arguments.slice),
    ]
    for name, function, setting in systems:
        rates = []
        for lang in LANGUAGES:
            num_bytes, seconds = measured(function, arguments.corpus, lang, setting).result
            rates.append(f"{num_bytes / 1e6 / seconds:.1f}")
        print(f"| {name} | " + " | ".join(rates) + " |", flush=True)
    print(machine("numba", "datasketch", "rensa"))


if __name__ == "__main__":
    main()
