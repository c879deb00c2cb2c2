"""A token dataset on disk: the one thing that training reads.

A folder of ``00000.ds`` (tokens, little-endian), ``00000.ds.index`` (u64 cumulative document ends),
``00000.spans.parquet`` (id, domain, copy, start, num_tokens, num_bytes, lang of each document), ``tokenizer.json``, and
``manifest.json``, which says how it came to be. ``.ds`` and ``.index`` are datatrove's format. Shards are
memory-mapped: opening costs a few file sizes a shard, whatever the number of tokens, and any token is one lookup away.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt
import polars as pl

from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, file_digest, read_json, write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCHEMA_VERSION = 1
# The files of a shard, by their key in the manifest.
SHARD_FILES = ("tokens_file", "index_file", "spans_file")

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def write_manifest(
    folder: Path,
    *,
    tokenizer: Mapping[str, Any],
    token_bytes: int,
    seed: int,
    budget: int,
    weights: Mapping[str, float],
    epochs: Mapping[str, float],
    domains: Mapping[str, Mapping[str, int]],
    langs: Mapping[str, Mapping[str, int]],
    shards: Sequence[Mapping[str, Any]],
) -> None:
    """Write ``manifest.json``, last: a folder with one is complete.

    tokenizer: file, sha256, vocab_size, eos_token, eos_token_id. domains, langs: name -> documents, tokens, bytes.
    shards: documents, tokens, bytes, and for each of SHARD_FILES {name, bytes, sha256}.
    """
    totals = {name: sum(shard[name] for shard in shards) for name in ("documents", "tokens", "bytes")}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "tokenizer": dict(tokenizer),
        "token_bytes": token_bytes,
        "seed": seed,
        "budget": budget,
        "weights": dict(weights),
        "epochs": dict(epochs),
        **totals,
        "domains": {name: dict(counts) for name, counts in domains.items()},
        "langs": {name: dict(counts) for name, counts in langs.items()},
        "shards": [dict(shard) for shard in shards],
    }
    write_json(folder / MANIFEST, manifest)


@final
@dataclass(frozen=True)
class TokenDataset:
    """Tokens of all shards end to end, and which documents they are. Travels to workers as its folder's name."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str) -> "TokenDataset":
        """Open a dataset; raises :class:`RedoneError` where a file is absent, or its size contradicts the manifest."""
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise RedoneError(f"{folder}: no {MANIFEST}: not a token dataset, or one that is not finished")
        manifest = read_json(folder / MANIFEST)
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        if version != SCHEMA_VERSION:
            raise RedoneError(
                f"{folder / MANIFEST}: schema_version {version!r}; this release reads {SCHEMA_VERSION}: "
                "write the dataset again, or use the release that wrote it"
            )
        dataset = cls(folder, manifest)
        for shard in manifest["shards"]:
            dataset._check_sizes(shard)
        return dataset

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenDataset, (self.folder, self.manifest)

    @property
    def num_tokens(self) -> int:
        return int(self.manifest["tokens"])

    @property
    def num_documents(self) -> int:
        return int(self.manifest["documents"])

    @property
    def vocab_size(self) -> int:
        return int(self.manifest["tokenizer"]["vocab_size"])

    @property
    def eos_token_id(self) -> int:
        return int(self.manifest["tokenizer"]["eos_token_id"])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"<u{self.manifest['token_bytes']}")

    def tokens(self, start: int, stop: int) -> Tokens:
        """Tokens [start, stop) of the whole dataset: a view of the file, or a copy where they cross shards."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise IndexError(f"tokens [{start}, {stop}) of a dataset of {self.num_tokens}")
        bounds = self._token_bounds
        first = int(np.searchsorted(bounds, start, side="right")) - 1
        pieces = []
        while start < stop:
            begin, end = int(bounds[first]), int(bounds[first + 1])
            if end > start:
                pieces.append(self.shard_tokens(first)[start - begin : min(stop, end) - begin])
                start = min(stop, end)
            first += 1
        if not pieces:
            return np.zeros(0, self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def document(self, index: int) -> Tokens:
        """All tokens of document `index` in dataset order, its end token included."""
        start, stop = self.document_span(index)
        return self.tokens(start, stop)

    def document_span(self, index: int) -> tuple[int, int]:
        """First token and end of document `index`, counted over the whole dataset."""
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} of a dataset of {self.num_documents}")
        shard = int(np.searchsorted(self._document_bounds, index, side="right")) - 1
        row = index - int(self._document_bounds[shard])
        ends, begin = self.shard_ends(shard), int(self._token_bounds[shard])
        return begin + (int(ends[row - 1]) if row else 0), begin + int(ends[row])

    def document_ends(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Ends of documents in (start, stop], over the whole dataset: where a window is cut for document masks."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise IndexError(f"tokens [{start}, {stop}) of a dataset of {self.num_tokens}")
        bounds = self._token_bounds
        first = max(0, int(np.searchsorted(bounds, start, side="right")) - 1)
        pieces = [np.zeros(0, np.int64)]
        for shard in range(first, len(bounds) - 1):
            begin = int(bounds[shard])
            if begin >= stop:
                break
            ends = self.shard_ends(shard)
            low, high = np.searchsorted(ends, np.array([max(0, start - begin), stop - begin], np.uint64), side="right")
            pieces.append(ends[low:high].astype(np.int64) + begin)
        return np.concatenate(pieces)

    def spans(self) -> pl.LazyFrame:
        """One row a document, in dataset order: id, domain, copy, start, num_tokens, num_bytes, lang, shard.

        ``start`` counts over the whole dataset, as :meth:`tokens` does.
        """
        frames = [
            pl.scan_parquet(self._path(shard, "spans_file")).with_columns(
                pl.col("start") + int(self._token_bounds[number]), shard=pl.lit(number, pl.Int32)
            )
            for number, shard in enumerate(self.manifest["shards"])
        ]
        return pl.concat(frames)

    def find(self, document_id: str) -> pl.DataFrame:
        """The spans of every copy of a document; no row where it is not in the dataset."""
        return self.spans().filter(pl.col("id") == document_id).collect()

    def ids_at(self, tokens: Sequence[int]) -> list[str]:
        """The id of the document that each of these tokens is in. Reads the side files through."""
        rows = [self._document_at(token) for token in tokens]
        spans = self.spans().select("id").with_row_index("row").filter(pl.col("row").is_in(rows)).collect()
        ids = dict(spans.iter_rows())
        return [ids[row] for row in rows]

    def _document_at(self, token: int) -> int:
        shard = int(np.searchsorted(self._token_bounds, token, side="right")) - 1
        within = np.uint64(token - int(self._token_bounds[shard]))
        return int(self._document_bounds[shard]) + int(np.searchsorted(self.shard_ends(shard), within, side="right"))

    def decode(self, tokens: Tokens | Sequence[int], *, keep_special: bool = False) -> str:
        """Tokens as text, by the dataset's own tokenizer."""
        return str(self._tokenizer.decode(np.asarray(tokens).tolist(), skip_special_tokens=not keep_special))

    def verify(self) -> None:
        """Read every file and compare its hash; raises :class:`RedoneError` at the first that differs."""
        for shard in self.manifest["shards"]:
            for key in SHARD_FILES:
                path = self._path(shard, key)
                if file_digest(path) != shard[key]["sha256"]:
                    raise RedoneError(f"{path}: its content is not what {MANIFEST} says; write the dataset again")

    def shard_start(self, shard: int) -> int:
        """The number of tokens before this shard."""
        return int(self._token_bounds[shard])

    def shard_tokens(self, shard: int) -> npt.NDArray[Any]:
        """All tokens of one shard: a view of its file."""
        return self._map(shard, "tokens_file", self.dtype)

    def shard_ends(self, shard: int) -> npt.NDArray[np.uint64]:
        """The ends of one shard's documents, counted in the shard: a view of its file."""
        return self._map(shard, "index_file", np.dtype("<u8"))

    def _path(self, shard: Mapping[str, Any], key: str) -> Path:
        return self.folder / str(shard[key]["name"])

    def _check_sizes(self, shard: Mapping[str, Any]) -> None:
        remedy = "copy the file again, or write the dataset again"
        for key in SHARD_FILES:
            path = self._path(shard, key)
            if not path.is_file():
                raise RedoneError(f"{path}: absent, though {MANIFEST} lists it; {remedy}")
            if (size := path.stat().st_size) != shard[key]["bytes"]:
                raise RedoneError(f"{path}: {size} bytes, but {MANIFEST} says {shard[key]['bytes']}; {remedy}")
        counted = {
            "tokens_file": shard["tokens"] * self.dtype.itemsize,
            "index_file": shard["documents"] * 8,
        }
        for key, size in counted.items():
            if shard[key]["bytes"] != size:
                path = self._path(shard, key)
                raise RedoneError(f"{path}: {shard[key]['bytes']} bytes, where its counts make {size}; {remedy}")
        last = _last(self._path(shard, "index_file"))
        if last != shard["tokens"]:
            path = self._path(shard, "index_file")
            raise RedoneError(f"{path}: documents end at token {last}, but the shard has {shard['tokens']}; {remedy}")

    @functools.cached_property
    def _token_bounds(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *(shard["tokens"] for shard in self.manifest["shards"])], dtype=np.int64)

    @functools.cached_property
    def _document_bounds(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *(shard["documents"] for shard in self.manifest["shards"])], dtype=np.int64)

    @functools.cached_property
    def _maps(self) -> dict[tuple[int, str], npt.NDArray[Any]]:
        return {}

    def _map(self, shard: int, key: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if (shard, key) not in self._maps:
            path = self._path(self.manifest["shards"][shard], key)
            empty = path.stat().st_size == 0
            self._maps[shard, key] = np.zeros(0, dtype) if empty else np.asarray(np.memmap(path, dtype, mode="r"))
        return self._maps[shard, key]

    @functools.cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        path = self.folder / self.manifest["tokenizer"]["file"]
        if not path.is_file() or file_digest(path) != self.manifest["tokenizer"]["sha256"]:
            raise RedoneError(f"{path}: absent, or not the tokenizer that made these tokens; write the dataset again")
        return Tokenizer.from_file(str(path))


def _last(index: Path) -> int:
    """The last entry of an index file; 0 where it is empty."""
    with index.open("rb") as file:
        size = index.stat().st_size
        if size < 8:
            return 0
        file.seek(size - 8)
        return int.from_bytes(file.read(8), "little")
