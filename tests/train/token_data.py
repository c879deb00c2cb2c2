"""Small token datasets by hand: documents as lists of token ids, cut into shards."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from redone_data.manifest import file_digest
from redone_data.tokens.dataset import TokenDataset, write_manifest

EOS = 0


def write_tokens(folder: Path, shards: Sequence[Sequence[Sequence[int]]], vocab_size: int = 256) -> TokenDataset:
    """A dataset of these documents, each closed with EOS; `doc-S-I` is the I-th of shard S."""
    folder.mkdir(parents=True)
    written = []
    for number, documents in enumerate(shards):
        closed = [[*document, EOS] for document in documents]
        sizes = np.array([len(document) for document in closed], np.int64)
        stem = f"{number:05d}"
        np.concatenate([np.zeros(0), *closed]).astype("<u2").tofile(folder / f"{stem}.ds")
        np.cumsum(sizes).astype("<u8").tofile(folder / f"{stem}.ds.index")
        spans = {
            "id": [f"doc-{number}-{i}" for i in range(len(closed))],
            "domain": ["posts"] * len(closed),
            "copy": [0] * len(closed),
            "start": np.cumsum(sizes) - sizes,
            "num_tokens": sizes,
            "num_bytes": 3 * sizes,
            "lang": ["en"] * len(closed),
        }
        pl.DataFrame(spans).write_parquet(folder / f"{stem}.spans.parquet")
        files = {"tokens_file": f"{stem}.ds", "index_file": f"{stem}.ds.index", "spans_file": f"{stem}.spans.parquet"}
        described = {
            key: {"name": name, "bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
            for key, name in files.items()
        }
        written.append(
            {"documents": len(closed), "tokens": int(sizes.sum()), "bytes": int(3 * sizes.sum()), **described}
        )
    total = sum(shard["tokens"] for shard in written)
    write_manifest(
        folder,
        tokenizer={
            "file": "tokenizer.json",
            "sha256": "",
            "vocab_size": vocab_size,
            "eos_token": "</s>",
            "eos_token_id": EOS,
        },
        token_bytes=2,
        seed=1,
        budget=total,
        weights={"posts": 1.0},
        epochs={"posts": 1.0},
        domains={},
        langs={},
        shards=written,
    )
    return TokenDataset.open(folder)
