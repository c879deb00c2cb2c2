"""Token pools: every curated document tokenized once; the swarm and every mixture draw on the same pools.

A part becomes, for each split, ``pool-N-SPLIT.ds`` (tokens, little-endian u16, or u32 above 65,536 tokens, each
document closed by the end token), ``.ds.index`` (u64 cumulative document ends) and ``.spans.parquet`` (id, num_tokens
with the end token, num_bytes of UTF-8, lang), row by row in the order of the part: datatrove's format, and a side file.
Cost: that of the encoder (encoder.py). Memory: a batch of about 4 MB of text, encoded 1 MB at a time.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic
from redone_data.text.buffers import large_strings, string_buffers
from redone_data.tokens.encoder import Encoder, encoder_of
from redone_data.tokens.part import (
    SPLITS,
    CuratedPart,
    add_sums,
    fingerprint,
    in_order,
    languages,
    split_mask,
    sums_by,
)
from redone_data.tokens.tokenizer import TOKENIZER_FILE

_PROBE_DOCUMENTS = 8
_ENCODE_BYTES = 1_000_000
SPANS_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("num_tokens", pa.int64()),
        ("num_bytes", pa.int64()),
        ("lang", pa.large_string()),
    ]
)
# An id is met once: a dictionary of ids would be the column over again.
SPANS_WRITING: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["domain", "copy", "lang"]}


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Two bytes a token where the vocabulary allows it.

    >>> token_dtype(65_536).itemsize, token_dtype(65_537).itemsize
    (2, 4)
    """
    return np.dtype("<u2") if vocab_size <= 65_536 else np.dtype("<u4")


@dataclass(frozen=True)
class PoolStep(Step):
    """Tokenizes curated parts, one task a part; the split is the part's own column."""

    name: ClassVar[str] = "pool"
    VERSION: ClassVar[int] = 2

    parts: tuple[CuratedPart, ...]
    tokenizer: Output

    def config(self) -> Any:
        meta = self.tokenizer.statistics
        return {"tokenizer": meta["sha256"], "eos_token_id": meta["eos_token_id"]}

    def inputs(self) -> dict[str, str]:
        return {"curated": fingerprint(self.parts)}

    def tasks(self) -> Sequence[Any]:
        return [part.as_task() for part in in_order(self.parts)]

    def run(self, task: Any, index: int, folder: Path) -> dict[str, Any]:
        part = CuratedPart.of_task(task)
        meta = self.tokenizer.statistics
        encoder, dtype = encoder_of(self.tokenizer.folder / TOKENIZER_FILE), token_dtype(meta["vocab_size"])
        roundtrip: bool | None = None
        with contextlib.ExitStack() as stack:
            writers = {s: stack.enter_context(PoolWriter(folder / f"pool-{index:05d}-{s}", dtype)) for s in SPLITS}
            for batch in part.batches(["id", "text", "lang", "split"]):
                if roundtrip is None:
                    encoder = encoder.checked_on(batch["text"])
                    roundtrip = survives(encoder.tokenizer, batch["text"].slice(0, _PROBE_DOCUMENTS).to_pylist())
                rows = 0
                for split, writer in writers.items():
                    table = pa.Table.from_batches([batch]).filter(split_mask(batch, split))
                    writer.write(encoder, meta["eos_token_id"], table)
                    rows += table.num_rows
                if rows != batch.num_rows:
                    raise RedoneError(
                        f"{part.path}: a split other than {' and '.join(SPLITS)}; run the keep step again"
                    )
        totals = {split: writer.totals for split, writer in writers.items()}
        return {
            "domain": part.domain,
            "part": part.sha256,
            "files": {split: f"pool-{index:05d}-{split}" for split in SPLITS},
            "roundtrip": roundtrip is not False,
            "encoder": {"backend": encoder.backend, "reason": encoder.reason},
            **totals,
            "langs": {split: dict(sorted(writer.langs.items())) for split, writer in writers.items()},
        }

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        meta = self.tokenizer.statistics
        domains: dict[str, dict[str, dict[str, int]]] = {}
        for result in results:
            add_sums(domains.setdefault(result["domain"], {}), {split: result[split] for split in SPLITS})
        # A task of an earlier version says nothing of its encoder.
        encoders = [result["encoder"] for result in results if "encoder" in result]
        return {
            "encoders": dict(sorted(Counter(encoder["backend"] for encoder in encoders).items())),
            "encoder_reasons": sorted({encoder["reason"] for encoder in encoders} - {""}),
            "domains": dict(sorted(domains.items())),
            "token_bytes": token_dtype(meta["vocab_size"]).itemsize,
            "roundtrip": all(result["roundtrip"] for result in results),
        }


class PoolWriter(contextlib.ExitStack):
    """Writes one split of one part; its three files appear together when the block ends well."""

    def __init__(self, stem: Path, dtype: np.dtype[Any]) -> None:
        super().__init__()
        self.dtype = dtype
        self.totals = {"documents": 0, "tokens": 0, "bytes": 0}
        self.langs: dict[str, dict[str, int]] = {}
        self._tokens = self._open(stem.with_name(stem.name + ".ds"))
        self._index = self._open(stem.with_name(stem.name + ".ds.index"))
        spans = self.enter_context(atomic(stem.with_name(stem.name + ".spans.parquet")))
        self._spans = self.enter_context(pq.ParquetWriter(spans, SPANS_SCHEMA, **SPANS_WRITING))

    def _open(self, path: Path) -> Any:
        return self.enter_context(self.enter_context(atomic(path)).open("wb"))

    def write(self, encoder: Encoder, eos_id: int, table: pa.Table) -> None:
        if table.num_rows == 0:
            return
        texts = large_strings(table["text"])
        offsets, _ = string_buffers(texts)
        num_bytes = np.diff(offsets)
        # A batch may hold a few long documents: cut it again by bytes, so that memory follows text, not rows.
        groups = (offsets[:-1] - offsets[0]) // _ENCODE_BYTES
        edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(texts)]
        num_tokens = np.concatenate([self._encode(encoder, eos_id, texts.slice(a, b - a)) for a, b in pairwise(edges)])
        ends = np.cumsum(num_tokens) + self.totals["tokens"]
        self._index.write(ends.astype("<u8").tobytes())
        lang = languages(table["lang"].combine_chunks())
        ids = large_strings(table["id"])
        self._spans.write_table(
            pa.table({"id": ids, "num_tokens": num_tokens, "num_bytes": num_bytes, "lang": lang}, schema=SPANS_SCHEMA)
        )
        langs = sums_by(lang, {"tokens": num_tokens, "bytes": num_bytes})
        add_sums(self.langs, langs)
        self.totals = {
            "documents": self.totals["documents"] + len(texts),
            "tokens": self.totals["tokens"] + int(num_tokens.sum()),
            "bytes": self.totals["bytes"] + int(num_bytes.sum()),
        }

    def _encode(self, encoder: Encoder, eos_id: int, texts: pa.Array) -> npt.NDArray[np.int64]:
        """Write the tokens of some texts; the number of each, end token included."""
        ids, num_tokens = encoder.encode(texts, eos_id)
        self._tokens.write(ids.astype(self.dtype, copy=False).data)
        return num_tokens


def survives(tokenizer: Tokenizer, texts: list[str]) -> bool:
    """Whether these texts come back from their tokens unchanged."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [tokenizer.decode(encoding.ids, skip_special_tokens=False) for encoding in encodings] == texts


@dataclass(frozen=True)
class PoolFile:
    """One split of one curated part, tokenized."""

    folder: Path
    stem: str
    part: str  # SHA-256 of the curated part
    documents: int
    tokens: int
    bytes: int

    @property
    def ds(self) -> Path:
        return self.folder / f"{self.stem}.ds"

    @property
    def index(self) -> Path:
        return self.folder / f"{self.stem}.ds.index"

    @property
    def spans(self) -> Path:
        return self.folder / f"{self.stem}.spans.parquet"


@dataclass(frozen=True)
class Pool:
    """All tokens of one domain. Totals are of the training split."""

    domain: str
    train: tuple[PoolFile, ...]
    validation: tuple[PoolFile, ...]

    @property
    def tokens(self) -> int:
        return sum(file.tokens for file in self.train)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.train)

    @property
    def documents(self) -> int:
        return sum(file.documents for file in self.train)


def pools(output: Output) -> dict[str, Pool]:
    """Domain -> its pool, of a finished :class:`PoolStep`; domains in sorted order."""
    files: dict[str, dict[str, list[PoolFile]]] = {}
    for task in output.tasks:
        of_domain = files.setdefault(task["domain"], {split: [] for split in SPLITS})
        for split in SPLITS:
            of_domain[split].append(PoolFile(output.folder, task["files"][split], task["part"], **task[split]))
    return {d: Pool(d, tuple(files[d]["train"]), tuple(files[d]["validation"])) for d in sorted(files)}
