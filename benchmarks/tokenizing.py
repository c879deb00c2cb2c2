"""Tokenizing a corpus into shuffled .ds shards, beside datatrove's tokenizer; and encoding alone, by library.

One run, CPU time of a fresh single-threaded process each; the time to load a tokenizer is told apart for ours and for
encoding alone. Texts are real posts, English and Chinese, in a fixed composition; datatrove reads an even slice.
Ids of every document are compared with those of `tokenizers`. All is done twice: with the tokenizer given, and with one
trained here as the quickstart trains it (4,096 tokens), whose pattern most other libraries refuse.
"""

import argparse
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from measuring import machine, measured

# File of the data folder -> rows at most. About 60 % English by bytes; posts first, then longer general text.
COMPOSITION = {
    "sns/reddit_posts": 40_000,
    "sns/reddit_titles": 30_000,
    "sns/tweets_tweeteval": 40_000,
    "sns/weibo_comments": 200_000,
    "sns/zh_reviews": 58_533,
    "sns/zh_offensive_comments": 32_157,
    "general/zh_mixed_domains": 60_000,
}
ROWS = 8_000


def texts_of(data: Path, name: str, rows: int) -> list[str]:
    with (data / f"{name}.jsonl.zst").open("rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8", newline="\n")
        return [json.loads(line)["text"] for line, _ in zip(lines, range(rows), strict=False)]


def write_corpus(data: Path, folder: Path, every: int) -> dict[str, int]:
    """A keep step's folder: one part a source, every `every`-th document of it."""
    import hashlib

    from redone_data.manifest import file_digest, write_json

    tasks, files, total = [], {}, {"documents": 0, "bytes": 0}
    for name, rows in COMPOSITION.items():
        texts = texts_of(data, name, rows)[::every]
        domain = name.split("/")[1]
        (folder / domain).mkdir(parents=True)
        ids = [hashlib.sha256(f"{name} {row}".encode()).hexdigest()[:32] for row in range(len(texts))]
        table = pa.table(
            {
                "id": pa.array(ids, pa.large_string()),
                "text": pa.array(texts, pa.large_string()),
                "lang": pa.array(["und"] * len(texts), pa.large_string()),
                "split": pa.array(["train"] * len(texts), pa.large_string()),
            }
        )
        file = f"{domain}/part-00000.parquet"
        pq.write_table(table, folder / file, compression="zstd")
        size = sum(len(text.encode()) for text in texts)
        files[file] = {"bytes": (folder / file).stat().st_size, "sha256": file_digest(folder / file)}
        kept = {"train": len(texts), "validation": 0}
        tasks.append({"domain": domain, "file": file, "rows": len(texts), "kept": kept, "text_bytes": size})
        total["documents"] += len(texts)
        total["bytes"] += size
    write_json(folder / "manifest.json", {"step": "keep", "files": files, "tasks": tasks, "statistics": {}})
    return total


def batches(keep: Path) -> Any:
    for path in sorted(keep.glob("*/*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS, columns=["text"]):
                yield batch["text"]


def without_specials(tokenizer: Path) -> str:
    """The tokenizer as the other libraries have to be given it, so that special tokens in text are text."""
    content = json.loads(tokenizer.read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
    return json.dumps(content)


def load_ours(tokenizer: Path) -> Callable[[pa.Array], tuple[Any, Any]]:
    from redone_data.tokens.encoder import encoder_of

    encoder = encoder_of(tokenizer)
    assert encoder.backend == "kernel", encoder.reason
    return lambda texts: encoder.encode(texts, 0)


def load_tokenizers(tokenizer: Path) -> Callable[[pa.Array], tuple[Any, Any]]:
    from redone_data.tokens.encoder import Encoder
    from redone_data.tokens.tokenizer import read_tokenizer

    encoder = Encoder(read_tokenizer(tokenizer), None)
    return lambda texts: encoder.encode(texts, 0)


def load_gigatoken(tokenizer: Path) -> Callable[[pa.Array], tuple[Any, Any]]:
    import awkward
    import gigatoken

    backend = gigatoken.Tokenizer.from_json(without_specials(tokenizer)).backend

    def encode(texts: pa.Array) -> tuple[Any, Any]:
        found = backend.encode_batch(awkward.from_arrow(texts), parallel=False).layout
        lengths = np.diff(np.asarray(found.offsets.data))
        return np.insert(np.asarray(found.content.data), np.cumsum(lengths), np.uint32(0)), lengths + 1

    return encode


def load_kitoken(tokenizer: Path) -> Callable[[pa.Array], tuple[Any, Any]]:
    import kitoken

    backend = kitoken.Kitoken.from_tokenizers(without_specials(tokenizer).encode())
    return lambda texts: joined(backend.encode_all(texts.to_pylist()))


def load_tokie(tokenizer: Path) -> Callable[[pa.Array], tuple[Any, Any]]:
    import tokie

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(without_specials(tokenizer))
        file.flush()
        backend = tokie.Tokenizer.from_json(file.name)
    return lambda texts: joined([found.ids for found in backend.encode_batch(texts.to_pylist(), False)])


def joined(documents: list[list[int]]) -> tuple[Any, Any]:
    lengths = np.fromiter(map(len, documents), np.int64, len(documents))
    flat = np.concatenate([np.asarray(document, np.uint32) for document in documents])
    return np.insert(flat, np.cumsum(lengths), np.uint32(0)), lengths + 1


LIBRARIES = {
    "ours": load_ours,
    "tokenizers": load_tokenizers,
    "gigatoken": load_gigatoken,
    "kitoken": load_kitoken,
    "tokie": load_tokie,
}


def encode_all(library: str, tokenizer: Path, keep: Path, out: Path) -> dict[str, float]:
    """CPU seconds to load and to encode; leaves the ids and their numbers."""
    before = time.process_time()
    encode = LIBRARIES[library](tokenizer)
    encode(pa.array(["a kernel is compiled once"], pa.large_string()))
    loaded = time.process_time()
    seconds, ids, lengths = 0.0, [], []
    for texts in batches(keep):
        started = time.process_time()
        found = encode(texts)
        seconds += time.process_time() - started
        ids.append(found[0].astype(np.uint32))
        lengths.append(found[1])
    np.save(out / f"{library}.ids.npy", np.concatenate(ids))
    np.save(out / f"{library}.lengths.npy", np.concatenate(lengths))
    return {"load": loaded - before, "encode": seconds}


def different(folder: Path, library: str) -> int:
    """Documents whose ids are not those of tokenizers."""
    ids, lengths = np.load(folder / f"{library}.ids.npy"), np.load(folder / f"{library}.lengths.npy")
    wanted, expected = np.load(folder / "tokenizers.ids.npy"), np.load(folder / "tokenizers.lengths.npy")
    if np.array_equal(lengths, expected) and np.array_equal(ids, wanted):
        return 0
    mine, theirs = np.split(ids, np.cumsum(lengths)[:-1]), np.split(wanted, np.cumsum(expected)[:-1])
    return sum(not np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))


def ours_to_shards(keep: Path, tokenizer: Path, eos: str, folder: Path) -> dict[str, float]:
    """CPU seconds by step, from curated Parquet to a shuffled token dataset."""
    from redone_data.engine import Engine, Output
    from redone_data.mixture import Mixture
    from redone_data.tokens.encoder import encoder_of
    from redone_data.tokens.part import curated_parts
    from redone_data.tokens.pool import PoolStep
    from redone_data.tokens.sample import SampleConfig, sample
    from redone_data.tokens.tokenizer import TOKENIZER_FILE, TokenizerConfig, TokenizerStep
    from redone_data.tokens.write import write_dataset

    engine, parts = Engine(folder), curated_parts(Output.open(keep))
    given = engine.run(TokenizerStep((), TokenizerConfig(path=str(tokenizer), eos=eos), 1))
    marks = [time.process_time()]
    encoder_of(given.folder / TOKENIZER_FILE)
    marks.append(time.process_time())
    pool = engine.run(PoolStep(parts, given))
    marks.append(time.process_time())
    domains = pool.statistics["domains"]
    tokens = {domain: counts["train"]["tokens"] for domain, counts in domains.items()}
    total = sum(tokens.values())
    mixture = Mixture.of(tokens)
    drawn = sample(engine, pool, mixture, SampleConfig(budget=total, shard_tokens=10_000_000), seed=1)
    write_dataset(folder / "dataset", drawn, given)
    marks.append(time.process_time())
    return {"load": marks[1] - marks[0], "pool": marks[2] - marks[1], "shuffle": marks[3] - marks[2]}


def datatrove_to_shards(keep: Path, tokenizer: Path, eos: str, folder: Path) -> float:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer, DocumentTokenizerMerger

    names = {"tokenizer_name_or_path": str(tokenizer), "eos_token": eos}
    started = time.process_time()
    LocalPipelineExecutor(
        pipeline=[
            ParquetReader(str(keep), glob_pattern="*/*.parquet", text_key="text", id_key="id"),
            DocumentTokenizer(str(folder / "tokens"), **names, shuffle_documents=True, seed=1, save_filename="t"),
        ],
        logging_dir=str(folder / "logs"),
    ).run()
    LocalPipelineExecutor(
        pipeline=[
            DocumentTokenizerMerger(
                str(folder / "tokens"),
                str(folder / "merged"),
                "all",
                max_tokens_per_file=10_000_000,
                shuffle=True,
                seed=1,
            )
        ],
        logging_dir=str(folder / "logs2"),
    ).run()
    return time.process_time() - started


def trained_here(keep: Path, folder: Path) -> tuple[Path, str]:
    """A tokenizer trained on the corpus with the settings of a recipe that says nothing of it, and its end token."""
    from redone_data.engine import Engine, Output
    from redone_data.tokens.part import curated_parts
    from redone_data.tokens.tokenizer import TOKENIZER_FILE, TokenizerConfig, TokenizerStep

    step = Engine(folder).run(TokenizerStep(curated_parts(Output.open(keep)), TokenizerConfig(), 1))
    return step.folder / TOKENIZER_FILE, step.statistics["eos_token"]


def report(
    work: Path,
    keep: Path,
    part_keep: Path,
    total: dict[str, int],
    part: dict[str, int],
    tokenizer: Path,
    eos: str,
    libraries: list[str],
) -> None:
    """Measure and print all rows of one tokenizer."""
    work.mkdir()
    megabytes = total["bytes"] / 1e6
    ours_to_shards(part_keep, tokenizer, eos, work / "warm")  # kernels compiled
    found = measured(ours_to_shards, keep, tokenizer, eos, work / "ours")
    load, pool, shuffle = found.result["load"], found.result["pool"], found.result["shuffle"]
    rate = megabytes / (pool + shuffle)
    print(
        f"{work.name} tokenizer: ours, Parquet to shuffled .ds: {rate:.1f} MB/s a core (pool {megabytes / pool:.0f}, "
        f"shuffle {megabytes / shuffle:.0f}) after {load:.1f} s to load; "
        f"{megabytes / (load + pool + shuffle):.1f} in all; peak memory {found.peak / 2**20:.0f} MB"
    )
    peer = measured(datatrove_to_shards, part_keep, tokenizer, eos, work / "datatrove")
    peer_rate = part["bytes"] / 1e6 / peer.result
    print(f"datatrove, the same: {peer_rate:.2f} MB/s a core; ours is {rate / peer_rate:.0f} times as fast")
    for library in sorted(libraries, key=lambda name: name != "tokenizers"):
        try:
            cost = measured(encode_all, library, tokenizer, keep, work).result
        except RuntimeError as error:
            print(f"  {library:10s} failed: {error}")
            continue
        print(
            f"  {library:10s} {megabytes / cost['encode']:6.1f} MB/s a core, {cost['load']:.1f} s to load; "
            f"{different(work, library)} of {total['documents']:,} documents differ from tokenizers"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder of real data")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a tokenizer.json")
    parser.add_argument("--eos", default="<|endoftext|>")
    parser.add_argument("--slice", type=int, default=10, help="datatrove reads every so manieth document")
    parser.add_argument("--libraries", nargs="*", default=list(LIBRARIES))
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="redone-tokenizing-"))
    total = write_corpus(arguments.data, work / "keep", 1)
    part = write_corpus(arguments.data, work / "slice", arguments.slice)
    print(f"{total['documents']:,} documents, {total['bytes'] / 1e6:.1f} MB; datatrove: {part['bytes'] / 1e6:.1f} MB")
    report(
        work / "given",
        work / "keep",
        work / "slice",
        total,
        part,
        arguments.tokenizer,
        arguments.eos,
        arguments.libraries,
    )
    trained, eos = trained_here(work / "keep", work / "training")
    report(work / "trained", work / "keep", work / "slice", total, part, trained, eos, arguments.libraries)
    print(machine("tokenizers", "datatrove", "numba", "pyarrow"))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
