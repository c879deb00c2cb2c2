"""Our near-duplicate removal from Parquet to kept ids, stage by stage, as the benchmarks run it."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.corpus import Corpus, Part
from redone_data.curate.bands import BandKeysStep
from redone_data.curate.candidates import CandidatesStep
from redone_data.curate.groups import ExactStep
from redone_data.curate.index import Index
from redone_data.curate.index_segments import IndexTextsStep
from redone_data.curate.near import NearConfig
from redone_data.curate.parts import write_part
from redone_data.curate.resolve import ResolveStep, duplicates_of_part
from redone_data.curate.standing import DuplicatesConfig, StandingStep
from redone_data.curate.verify import DistinctPairsStep, LettersStep, VerifyStep
from redone_data.engine import Engine, ExecutorConfig, Output, Step
from redone_data.exchange import NUM_BUCKETS, bucket_of, write_slices
from redone_data.text.hashing import hash128

PART_BYTES = 32 << 20
DOMAIN = "posts"


@dataclass
class Timings:
    """CPU and wall seconds by stage, and what each wrote."""

    cpu: dict[str, float] = field(default_factory=dict)
    wall: dict[str, float] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)

    def run(self, engine: Engine, step: Step) -> Output:
        cpu, wall = time.process_time(), time.perf_counter()
        output = engine.run(step)
        self.cpu[step.name] = time.process_time() - cpu
        self.wall[step.name] = time.perf_counter() - wall
        self.disk[step.name] = sum(file["bytes"] for file in output.manifest["files"].values())
        self.outputs[step.name] = output
        return output


def part_of_posts(folder: Path, index: int, offset: int, ids: pa.Array, texts: pa.Array, engagement: pa.Array) -> Part:
    """A part of a corpus as `read` writes it, the hashes of its texts included."""
    rows = len(texts)
    key_hi, key_lo = hash128(ids)
    hi, lo = hash128(texts)
    columns = {"key_hi": key_hi, "key_lo": key_lo, "text_hi": hi, "text_lo": lo, "text": texts}
    columns |= {"domain": pa.repeat(DOMAIN, rows), "source": pa.repeat(DOMAIN, rows), "engagement": engagement}
    columns |= dict.fromkeys(("meta", "native_id"), pa.nulls(rows, pa.large_string()))
    columns["created_at"] = pa.nulls(rows, pa.timestamp("us", "UTC"))
    described = write_part(folder, f"part-{index:05d}", columns, named=True)
    return Part(index, folder / described["file"], DOMAIN, DOMAIN, rows, offset, int(texts.nbytes), True)


def hash_texts(corpus: Corpus) -> None:
    """What `read` does beside a part for exact duplicates."""
    for part in corpus.parts:
        hashes = [hash128(batch.column("text")) for batch in part.batches(["text"])]
        hi, lo = (np.concatenate([pair[side] for pair in hashes]) for side in (0, 1))
        columns = {"hi": hi, "lo": lo, "row": np.arange(part.rows)}
        write_slices(part.beside(".texts.arrow"), bucket_of(hi), NUM_BUCKETS, columns)


def corpus_of(blocks: Iterator[tuple[pa.Array, pa.Array]], folder: Path) -> Corpus:
    """Parts from blocks of (ids, texts); the first come to stand best."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, offset = [], 0
    for index, (ids, texts) in enumerate(blocks):
        engagement = pa.array(-np.arange(offset, offset + len(ids), dtype=np.float64))
        parts.append(part_of_posts(folder, index, offset, ids, texts, engagement))
        offset += len(ids)
    return Corpus(tuple(parts), {folder.name: folder.name})


def blocks_of(path: Path) -> Iterator[tuple[pa.Array, pa.Array]]:
    """A Parquet file of ids and texts, in blocks of about a part."""
    table = pq.read_table(path, columns=["id", "text"]).combine_chunks()
    rows = max(1, round(len(table) * PART_BYTES / table["text"].nbytes))
    for start in range(0, len(table), rows):
        block = table.slice(start, rows)
        ids, texts = (pa.concat_arrays(block[name].chunks).cast(pa.large_string()) for name in ("id", "text"))
        yield ids, texts


def deduplicate(
    corpus: Corpus, near: NearConfig, folder: Path, *, workers: int = 1, index: Index | None = None
) -> Timings:
    """All stages into a fresh folder; the kept rows are written as Parquet, as a user would want them."""
    shutil.rmtree(folder, ignore_errors=True)
    engine, timings = Engine(folder, ExecutorConfig(workers=workers)), Timings()
    cpu, wall = time.process_time(), time.perf_counter()
    hash_texts(corpus)
    timings.cpu["hash"], timings.wall["hash"] = time.process_time() - cpu, time.perf_counter() - wall
    exact = timings.run(engine, ExactStep(corpus))
    standing = timings.run(engine, StandingStep(corpus, DuplicatesConfig()))
    step = BandKeysStep(corpus, exact, near, 0 if index is None else index.num_documents)
    bands = timings.run(engine, step)
    pairs = timings.run(engine, CandidatesStep(corpus, bands, standing, step.packing, index))
    distinct = timings.run(engine, DistinctPairsStep(corpus, pairs))
    letters = timings.run(engine, LettersStep(corpus, distinct))
    verified = timings.run(engine, VerifyStep(corpus, distinct, letters, near, index))
    known = None if index is None else timings.run(engine, IndexTextsStep(corpus, exact, index))
    priorities = {DOMAIN: 0}
    resolved = timings.run(engine, ResolveStep(corpus, None, exact, verified, priorities, standing, index, known))
    cpu, wall = time.process_time(), time.perf_counter()
    for part in corpus.parts:
        kept = np.ones(part.rows, dtype=bool)
        kept[duplicates_of_part(resolved, part.index)["row"].to_numpy() - part.offset] = False
        ids = part.read(["key_hi", "key_lo"]).filter(pa.array(kept))
        pq.write_table(ids, folder / f"kept-{part.index:05d}.parquet", compression="zstd")
    timings.cpu["kept ids"], timings.wall["kept ids"] = time.process_time() - cpu, time.perf_counter() - wall
    return timings


def duplicates_of(corpus: Corpus, timings: Timings) -> pa.Table:
    """All dropped documents: row, rule, similarity, and the id of the one that stays."""
    resolved = timings.outputs["resolve"]
    return pa.concat_tables([duplicates_of_part(resolved, part.index) for part in corpus.parts])
