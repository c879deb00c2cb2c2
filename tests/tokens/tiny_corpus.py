"""Tiny outputs of the keep step, as the token layer meets them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.engine import Engine, Output
from redone_data.manifest import file_digest, write_json
from redone_data.tokens.part import CuratedPart, curated_parts
from redone_data.tokens.pool import PoolStep
from redone_data.tokens.tokenizer import TokenizerConfig, TokenizerStep

ENGLISH = ["the", "a", "so", "post", "today", "coffee", "love", "#tag", "@user", "2024", "ok\n", "don't", "cafe\u0301"]
CHINESE = ["好", "今天", "天气", "真的", "喜欢", "小红书", "ありがとう", "😀"]
WORDS = [*ENGLISH, *CHINESE]
Documents = Mapping[str, Sequence[str]]


def document_id(domain: str, number: int) -> str:
    return hashlib.sha256(f"{domain} {number}".encode()).hexdigest()[:32]


def made_up_texts(domain: str, count: int, *, mean_words: int = 12) -> list[str]:
    """Posts of very different lengths, the same for the same domain."""
    random = np.random.default_rng(list(domain.encode()))
    lengths = random.geometric(1 / mean_words, count)
    return [" ".join(random.choice(WORDS, length)) for length in lengths]


def write_keep(folder: Path, documents: Documents, *, parts: int = 2, reverse: bool = False) -> Output:
    """A keep step's folder: every eighth document is for validation; `reverse` turns parts and files around."""
    tasks: list[dict[str, Any]] = []
    files: dict[str, Any] = {}
    for domain, texts in documents.items():
        (folder / quote(domain, safe="")).mkdir(parents=True)
        for number in range(parts):
            rows = list(range(number, len(texts), parts))
            label = parts - 1 - number if reverse else number
            name = f"{quote(domain, safe='')}/part-{label:05d}.parquet"
            split = ["validation" if row % 8 == 7 else "train" for row in rows]
            table = pa.table(
                {
                    "id": pa.array([document_id(domain, row) for row in rows], pa.large_string()),
                    "text": pa.array([texts[row] for row in rows], pa.large_string()),
                    "domain": pa.array([domain] * len(rows), pa.large_string()),
                    "source": pa.array(["test"] * len(rows), pa.large_string()),
                    "lang": pa.array([("zh", "en", None)[row % 3] for row in rows], pa.large_string()),
                    "split": pa.array(split, pa.large_string()),
                }
            )
            pq.write_table(table, folder / name)
            files[name] = {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
            kept = {"train": split.count("train"), "validation": split.count("validation")}
            text_bytes = sum(len(texts[row].encode()) for row in rows)
            tasks.append({"domain": domain, "file": name, "rows": len(rows), "kept": kept, "text_bytes": text_bytes})
    if reverse:
        tasks.reverse()
    write_json(folder / "manifest.json", {"step": "keep", "files": files, "tasks": tasks, "statistics": {}})
    return Output.open(folder)


@dataclass
class Made:
    """A run up to its pools."""

    engine: Engine
    documents: Documents
    parts: tuple[CuratedPart, ...]
    tokenizer: Output
    pool: Output


SMALL_TOKENIZER = TokenizerConfig(vocab_size=320, train_bytes=20_000)


def make(root: Path, documents: Documents, config: TokenizerConfig = SMALL_TOKENIZER, **keep: Any) -> Made:
    parts = curated_parts(write_keep(root / "keep", documents, **keep))
    engine = Engine(root)
    tokenizer = engine.run(TokenizerStep(parts, config, 1))
    return Made(engine, documents, parts, tokenizer, engine.run(PoolStep(parts, tokenizer)))


DOCUMENTS = {
    "notes/旅行": made_up_texts("notes", 300),
    "wiki": made_up_texts("wiki", 120, mean_words=40),
    "chat": [*made_up_texts("chat", 198, mean_words=3), "", "forged <|endoftext|> end"],
}
