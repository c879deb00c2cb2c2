"""Near-duplicate removal from Parquet to kept ids: ours beside datatrove, datasketch and rensa, in one run.

Speed is CPU time on one thread over the UTF-8 text; each contender runs in a process of its own, after a warm-up on a
hundredth of the corpus. Recall is over planted near-duplicates (near_corpus.py), found when the copy and its original
are not both kept; precision is the share of (dropped, kept) pairs with a Jaccard similarity of character 5-grams of at
least .5. Settings were chosen on seed 7; report another.

    python benchmarks/near_duplicates.py --cache DIR                 # speed; slow peers on a tenth of the corpus
    python benchmarks/near_duplicates.py --cache DIR --accuracy      # every contender on all of it
"""

import argparse
import collections
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from near_corpus import SIMILAR, Planted, build, character_jaccard, plain_jaccard, read_texts

SLICE_SHARE = 0.1
PAIRS_TO_READ = 200
SLOW = ("datatrove", "datasketch", "rensa R, Python shingles")
WORD = re.compile(r"[一-鿿]|[^\W_一-鿿]+")  # the fastest splitting that serves both scripts

Kept = list[int]  # for each document the kept one that it falls to, itself if it stays, -1 if that is not told


# --- Contenders: a Parquet file of ids and texts -> who stays --------------------------------------------------------


def ours(path: Path, folder: Path, workers: int, settings: dict[str, Any]) -> tuple[Kept, dict[str, Any]]:
    """Every stage of the toolkit. Bringing the input into parts, as `read` would, is not counted."""
    import near_ours

    from redone_data.curate.near import NearConfig
    from redone_data.text.hashing import from_hex

    corpus = near_ours.corpus_of(near_ours.blocks_of(path), folder / "parts")
    clock = Clock()
    timings = near_ours.deduplicate(corpus, NearConfig(**settings), folder / "run", workers=workers)
    used = clock.stop()
    keys = pa.concat_tables([part.read(["key_hi"]) for part in corpus.parts])["key_hi"].to_numpy()
    row_of = {key: row for row, key in enumerate(keys.tolist())}
    kept = list(range(len(keys)))
    dropped = near_ours.duplicates_of(corpus, timings)
    keepers, _ = from_hex(dropped["duplicate_of"])
    for row, keeper in zip(dropped["row"].to_pylist(), keepers.tolist(), strict=True):
        kept[row] = row_of[keeper]
    stages = {name: {"cpu": timings.cpu[name], "wall": timings.wall[name]} for name in timings.cpu}
    candidates = timings.outputs["near-pairs"].statistics
    return kept, {**used, "stages": stages, "disk": sum(timings.disk.values()), "candidates": candidates}


def datatrove(path: Path, folder: Path, workers: int, settings: dict[str, Any]) -> tuple[Kept, dict[str, Any]]:
    """Its four stages at its default settings, English and Chinese apart, each with its own word splitting."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.typeshelper import Languages

    # Its default, xxhash, fails with xxhash 4, which takes no strings; word splitting dominates either way.
    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))

    table = pq.read_table(path)
    kept = list(range(len(table)))
    row_of = {name: row for row, name in enumerate(table["id"].to_pylist())}
    stages: dict[str, Any] = {}
    clock = Clock()
    for language, code in (("en", Languages.english), ("zh", "zho_Hani")):
        here = folder / language
        (here / "in").mkdir(parents=True)
        chosen = table.filter(pa.array(np.array(table["language"].to_pylist()) == language))
        rows = -(-len(chosen) // workers)
        for number in range(workers):
            pq.write_table(chosen.slice(number * rows, rows), here / "in" / f"{number}.parquet")
        reader = ParquetReader(str(here / "in"), text_key="text", id_key="id")
        cut = ParquetReader(str(here / "in"), text_key="text", id_key="id")
        writers = [JsonlWriter(str(here / name), compression=None) for name in ("kept", "dropped")]
        signature, buckets, pairs = (str(here / name) for name in ("signatures", "buckets", "clusters"))
        steps: dict[str, tuple[list[Any], int]] = {
            "signatures": ([reader, MinhashDedupSignature(signature, config, language=code)], workers),
            "buckets": ([MinhashDedupBuckets(signature, buckets, config=config)], 14),
            "clusters": ([MinhashDedupCluster(buckets, pairs, config, save_cluster_id=True)], 1),
            "filter": ([cut, MinhashDedupFilter(pairs, writers[1], load_cluster_ids=True), writers[0]], workers),
        }
        for name, (pipeline, tasks) in steps.items():
            start = Clock()
            LocalPipelineExecutor(
                pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=str(here / name)
            ).run()
            stages[f"{name} {language}"] = start.stop()
        clusters: dict[int, int] = {}
        for record in read_jsonl(here / "kept"):
            cluster = record["metadata"].get("minhash_cluster_id", -1)
            if cluster is not None and cluster >= 0:
                clusters[cluster] = row_of[record["id"]]
        for record in read_jsonl(here / "dropped"):
            kept[row_of[record["id"]]] = clusters.get(record["metadata"]["minhash_cluster_id"], -1)
    return kept, {**clock.stop(), "stages": stages}


def datasketch(path: Path, folder: Path, workers: int, settings: dict[str, Any]) -> tuple[Kept, dict[str, Any]]:
    """Word 5-grams, 112 permutations in 14 bands of 8, signatures in bulk."""
    from datasketch import MinHash, MinHashLSH

    clock = Clock()
    texts = read_texts(path)
    sets = [[gram.encode() for gram in python_shingles(text)] for text in texts]
    signatures = MinHash.bulk(sets, num_perm=112)
    index, kept = MinHashLSH(num_perm=112, params=(14, 8)), []
    for row, signature in enumerate(signatures):
        found = index.query(signature)
        kept.append(min(found) if found else row)
        if not found:
            index.insert(row, signature, check_duplication=False)
    return kept, clock.stop()


def rensa_python(path: Path, folder: Path, workers: int, settings: dict[str, Any]) -> tuple[Kept, dict[str, Any]]:
    """R signatures over word 5-grams made by Python; bands grouped by numpy."""
    from rensa import RMinHash

    clock = Clock()
    sets = [python_shingles(text) for text in read_texts(path)]
    matrix = np.array(RMinHash.digest_matrix_from_token_sets(sets, 112, 42).to_rows(), dtype=np.uint32)
    filled = np.array([bool(own) for own in sets])
    kept = first_of_bands(matrix, 14, 8, filled)
    return kept, clock.stop()


def rensa_ours(path: Path, folder: Path, workers: int, settings: dict[str, Any]) -> tuple[Kept, dict[str, Any]]:
    """R signatures over our shingles, then our candidates, verification and choice, all in memory."""
    from rensa import RMinHash

    from redone_data.curate.bands import Packing, pack_keys
    from redone_data.curate.candidates import bucket_pairs, crowd_pairs, lefts, members_of, rights
    from redone_data.curate.likeness import letters_of, similarities
    from redone_data.curate.near import NearConfig
    from redone_data.curate.resolve import keep_greedily
    from redone_data.curate.standing import Standing
    from redone_data.exchange import distinct
    from redone_data.text.minhash import band_keys, shingles

    near = NearConfig(**settings)
    clock = Clock()
    text = pq.read_table(path, columns=["text"])["text"].combine_chunks().cast(pa.large_string())
    grams = shingles(text, ngram=near.ngram)
    rows, num_perm = len(text), near.bands * near.rows
    digest = RMinHash.digest_matrix_from_flat_token_hashes(grams.hashes, grams.offsets.astype(np.uint64), num_perm, 42)
    matrix = np.array(digest.to_rows(), dtype=np.uint32)
    keys = band_keys(matrix, near.bands, near.rows)
    keys[np.diff(grams.offsets) == 0] = 0
    packing = Packing.of(rows, near.bands)
    records, edges = pack_keys(keys, np.arange(rows), packing.slice_bits, packing.row_bits)
    found = []
    for start, end in itertools.pairwise(edges):
        ordered = np.sort(records[start:end])
        pairs, crowds = bucket_pairs(ordered, packing.row_bits, rows)
        members = ordered[members_of(crowds)] & np.uint64((1 << packing.row_bits) - 1)
        best = Standing(np.zeros(len(members), np.int64), -members.astype(np.float64), members)
        found += [pairs, crowd_pairs(members, np.diff(crowds, axis=1).ravel(), best)]
    words = distinct(np.concatenate(found))
    a, b = lefts(words), rights(words)
    asked = np.zeros(rows, bool)
    asked[a], asked[b] = True, True
    score = similarities(letters_of(text, asked), a, b, near.threshold)
    near_enough = score >= near.threshold
    everything = np.arange(rows, dtype=np.int32)
    pairs32 = (side[near_enough].astype(np.int32) for side in (a, b))
    keeper, _ = keep_greedily(everything, np.ones(rows, bool), everything, *pairs32, score[near_enough])
    return np.where(keeper < 0, everything, keeper).tolist(), clock.stop()


def python_shingles(text: str) -> set[str]:
    """Word 5-grams of a text; a Chinese character is a word."""
    words = WORD.findall(text.lower())
    if len(words) <= 5:
        return {" ".join(words)} if words else set()
    return set(map(" ".join, zip(*(words[i:] for i in range(5)), strict=False)))


def first_of_bands(matrix: Any, bands: int, rows: int, filled: Any) -> Kept:
    """Documents joined by any equal band; the first of each component stays."""
    parent = list(range(len(matrix)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    places = np.flatnonzero(filled)
    for band in range(bands):
        block = np.ascontiguousarray(matrix[places, band * rows : (band + 1) * rows]).view(f"V{4 * rows}").ravel()
        _, first, group = np.unique(block.view(np.dtype((np.void, 4 * rows))), return_index=True, return_inverse=True)
        leaders = places[first[group.ravel()]]
        for row in np.flatnonzero(leaders != places).tolist():
            a, b = root(int(places[row])), root(int(leaders[row]))
            parent[max(a, b)] = min(a, b)
    return [root(row) for row in range(len(parent))]


def read_jsonl(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.open(encoding="utf-8")]


FIXED = {"ngram": 5, "bands": 14, "rows": 8}
CONTENDERS: dict[str, tuple[Callable[..., tuple[Kept, dict[str, Any]]], dict[str, Any]]] = {
    "ours": (ours, {}),
    "ours, 5-grams 14 x 8": (ours, FIXED),
    "datatrove": (datatrove, {}),
    "datasketch": (datasketch, {}),
    "rensa R, Python shingles": (rensa_python, {}),
    "rensa R, our shingles and verification": (rensa_ours, {}),
}
PARALLEL = ("ours", "ours, 5-grams 14 x 8", "datatrove")


# --- Measuring -------------------------------------------------------------------------------------------------------


class Clock:
    """CPU seconds of this process and its ended children, and wall seconds."""

    def __init__(self) -> None:
        self.cpu, self.wall = self._cpu(), time.perf_counter()

    @staticmethod
    def _cpu() -> float:
        used = os.times()
        return used.user + used.system + used.children_user + used.children_system

    def stop(self) -> dict[str, float]:
        return {"cpu": self._cpu() - self.cpu, "wall": time.perf_counter() - self.wall}


def peak_pss(process: psutil.Process, stop: threading.Event, found: list[int]) -> None:
    """The largest proportional set size of a process tree, sampled."""
    while not stop.wait(0.25):
        total = 0
        try:
            for member in [process, *process.children(recursive=True)]:
                total += member.memory_full_info().pss
        except psutil.Error:
            continue
        found.append(total)


def measure(name: str, path: Path, cache: Path, workers: int) -> dict[str, Any]:
    """One contender in a process of its own."""
    result = cache / "result.json"
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--contender", name, "--corpus", str(path), "--result", str(result)]
    child = subprocess.Popen(
        [*command, "--cache", str(cache), "--workers", str(workers)], env={**os.environ, **one_thread}
    )
    stop, found = threading.Event(), [0]
    watcher = threading.Thread(target=peak_pss, args=(psutil.Process(child.pid), stop, found))
    watcher.start()
    failed = child.wait()
    stop.set()
    watcher.join()
    if failed:
        raise SystemExit(f"{name} ended with code {failed}")
    values: dict[str, Any] = json.loads(result.read_bytes())
    return {**values, "pss": max(found)}


def contend(name: str, path: Path, result: Path, cache: Path, workers: int) -> None:
    """What the child does: warm up, run, write down."""
    pa.set_cpu_count(1)
    function, settings = CONTENDERS[name]
    warm = cache / "warm.parquet"
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        pq.write_table(pq.read_table(path).slice(0, 2_000), warm)
        function(warm, Path(folder), 1, settings)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        kept, used = function(path, Path(folder), workers, settings)
    result.write_text(json.dumps({"kept": kept, **used}))


def accuracy(kept: Kept, texts: list[str], planted: list[Planted], seed: int) -> dict[str, Any]:
    """Recall by kind, language and length class; precision by language, on at most 4,000 pairs each."""
    groups: dict[str, list[bool]] = collections.defaultdict(list)
    for row in planted:
        found = kept[row.copy] != row.copy or kept[row.original] != row.original
        for group in ("all", row.language, row.length, f"{row.kind}, {row.language}"):
            groups[group].append(found)
    pairs: dict[str, list[tuple[int, int]]] = {"en": [], "zh": []}
    for row, keeper in enumerate(kept):
        if keeper >= 0 and keeper != row and texts[row] != texts[keeper]:
            pairs["zh" if re.search("[一-鿿]", texts[row]) else "en"].append((row, keeper))
    rng, precision, weight = random.Random(seed), {}, {}
    for language, all_pairs in pairs.items():
        sample = rng.sample(all_pairs, min(4_000, len(all_pairs)))
        for name, likeness in ((language, character_jaccard), (f"{language}, whole text", plain_jaccard)):
            hits = sum(likeness(texts[a], texts[b]) >= SIMILAR for a, b in sample)
            precision[name] = hits / max(1, len(sample))
        weight[language] = len(all_pairs)
    total = max(1, sum(weight.values()))
    precision["all"] = sum(precision[name] * weight[name] for name in weight) / total
    recall = {name: sum(values) / len(values) for name, values in groups.items()}
    return {"recall": recall, "precision": precision, "pairs": pairs}


def write_pairs(path: Path, pairs: dict[str, list[tuple[int, int]]], texts: list[str], seed: int) -> None:
    """Reported pairs of each language, to be read and labelled. Holds real text: keep it out of the project."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for language, all_pairs in pairs.items():
            for a, b in rng.sample(all_pairs, min(PAIRS_TO_READ, len(all_pairs))):
                score = character_jaccard(texts[a], texts[b])
                record = {"language": language, "similarity": round(score, 3), "dropped": texts[a], "kept": texts[b]}
                file.write(json.dumps({**record, "label": None}, ensure_ascii=False) + "\n")


# --- The table -------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where the corpus and working files go")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--accuracy", action="store_true", help="run the slow peers on the whole corpus too")
    parser.add_argument("--only", nargs="*", help="these contenders alone")
    parser.add_argument("--share", type=float, default=1.0, help="of the documents of each file")
    parser.add_argument("--out", type=Path, help="where the Markdown table is written; the pairs to read beside it")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contend(options.contender, options.corpus, options.result, options.cache, options.workers)
        return
    path, planted = build(options.cache, options.seed, options.share)
    texts = read_texts(path)
    part, _ = build(options.cache, options.seed, options.share * SLICE_SHARE)
    cores = len(os.sched_getaffinity(0))
    lines, details = [], []
    for name in options.only or CONTENDERS:
        slow = name in SLOW and not options.accuracy
        corpus = part if slow else path
        own = read_texts(corpus)
        size = sum(len(text.encode()) for text in own) / 1e6
        one = measure(name, corpus, options.cache, 1)
        wall = measure(name, corpus, options.cache, cores)["wall"] if name in PARALLEL else one["wall"]
        speed = (
            f"{size / one['cpu']:.2f} | {len(own) / one['cpu']:,.0f} | {size / wall:.2f} | {one['pss'] / 2**20:,.0f}"
        )
        if slow:
            lines.append(f"| {name} (on {size:.0f} MB) | {speed} | | | | |")
            print(lines[-1], flush=True)
            continue
        found = accuracy(one["kept"], texts, planted, options.seed)
        shown = [found["recall"][key] for key in ("all", "en", "zh")] + [found["precision"]["all"]]
        lines.append(f"| {name} | {speed} | " + " | ".join(f"{value:.3f}" for value in shown) + " |")
        print(lines[-1], flush=True)
        details.append(f"- {name}: precision " + ", ".join(f"{k} {v:.3f}" for k, v in found["precision"].items()))
        details.append("  recall " + ", ".join(f"{k} {v:.3f}" for k, v in sorted(found["recall"].items())))
        if "stages" in one:
            stages = ", ".join(f"{stage} {used['cpu'] * 1000 / size:.2f}" for stage, used in one["stages"].items())
            details.append(f"  CPU ms per MB: {stages}")
        if "candidates" in one:
            details.append(f"  candidates: {one['candidates']}; disk written {one['disk'] / 1e6:.0f} MB")
        if name == "ours" and options.out:
            write_pairs(options.out.with_suffix(".pairs.jsonl"), found["pairs"], texts, options.seed)
    size = sum(len(text.encode()) for text in texts) / 1e6
    packages = ("numpy", "numba", "pyarrow", "datatrove", "datasketch", "rensa")
    table = [
        f"{len(texts):,} documents, {size:.1f} MB, {len(planted):,} planted; seed {options.seed}; {cores} cores; "
        + ", ".join(f"{name} {version(name)}" for name in packages),
        "",
        "| near-duplicate removal | MB/s a core | documents/s a core | MB/s wall, all cores | peak MiB (PSS) "
        "| recall | en | zh | precision |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
        *details,
    ]
    print("\n".join(table))
    if options.out:
        options.out.write_text("\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
