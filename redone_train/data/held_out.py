"""Held-out token pools as packed rows: what a model is measured on while it trains.

A domain is a folder of `.ds` files, each with `.index` and `.spans.parquet`, as RUN/validation/DOMAIN has them. Of each
domain the same documents are read whatever the run: the first of a fixed permutation, up to so many tokens.

Every token of a document is a target once, its first one and its end-of-document token too, as for the swarm's proxies
(docs/swarm.md). Something must stand before the first: the token that the model wants before every text, or, where it
wants none, the end-of-document token. lm-evaluation-harness does the same. So bits per byte are the length of a code
for the whole text, and models with different tokenizers, with and without such a token, can be compared. A document
that is longer than a row is cut, and each piece begins so.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError

from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, read_json
from redone_data.tokens.dataset import TokenDataset, Tokens
from redone_train.data.order import Int64, permuted
from redone_train.data.packing import packed
from redone_train.data.rows import IGNORED, NO_BOS, Plan, Rows, lay_out

SAMPLE_SEED = 1  # not the run's: runs of other seeds are measured on the same documents
REMEDY = "copy the run's validation folder again, or make it again"


@final
@dataclass(frozen=True)
class HeldOut:
    """The sampled documents of one domain, in rows. before: the token that stands before each document."""

    name: str
    tokens: Tokens
    ends_D: npt.NDArray[np.uint64]
    num_bytes: int
    length: int
    before: int
    padding: int

    @property
    def num_rows(self) -> int:
        return len(self._plan.row_ends_R)

    def read(self, first: int, rows: int) -> Rows:
        """So many rows from this one on; those beyond the last have no targets."""
        read = Rows.empty(rows, self.length)
        row_N = np.arange(first, min(first + rows, self.num_rows))
        lay_out(self.tokens, self._plan, row_N, read, np.arange(len(row_N)), self.before, self.padding)
        read.input_NL[len(row_N) :] = self.padding
        read.target_NL[len(row_N) :] = IGNORED
        read.position_NL[len(row_N) :] = np.arange(self.length)
        return read

    @functools.cached_property
    def _plan(self) -> Plan:
        plan = packed(self.ends_D, self.length)
        # The token after a cut is a target once: of `before` in its own piece, not of the piece before it too.
        return plan._replace(length_K=np.abs(plan.length_K))


def open_pools(
    pools: Mapping[str, Path], like: TokenDataset, *, length: int, bos: int = NO_BOS, tokens: int
) -> list[HeldOut]:
    """The domains of all pools, each a folder of `.ds` files or of such folders, whose domains are POOL/DOMAIN.

    like: the training data; a pool must have its tokenizer. tokens: of each domain at most, but always a document.
    RedoneError: a pool is absent, empty, damaged, or made by another tokenizer.
    """
    domains = {name: folder for pool, path in pools.items() for name, folder in _domains(pool, path)}
    opened = []
    for name, folder in domains.items():
        where = f"evaluation.pools: domain '{name}'"
        _same_tokenizer(where, folder, like)
        documents = [_File.open(path) for path in sorted(folder.glob("*.ds"))]
        sampled = list(_sample(documents, tokens))
        if not sampled:
            raise RedoneError(
                f"{where}: {folder} has no document; leave this domain out, or hold more back "
                "(curate.validation.fraction and min_documents in the recipe)"
            )
        read = [file.document(d) for file, d in sampled]
        _check(where, folder, read, like)
        opened.append(
            HeldOut(
                name,
                tokens=np.concatenate(read).astype(like.dtype),
                ends_D=np.cumsum([len(document) for document in read]).astype(np.uint64),
                num_bytes=sum(int(file.bytes_D[d]) for file, d in sampled),
                length=length,
                before=bos if bos >= 0 else like.eos_token_id,
                padding=like.eos_token_id,
            )
        )
    return opened


def _domains(pool: str, path: Path) -> Iterator[tuple[str, Path]]:
    if any(path.glob("*.ds")):
        yield pool, path
        return
    folders = sorted(folder for folder in path.glob("*") if any(folder.glob("*.ds")))
    if not folders:
        raise RedoneError(
            f"evaluation.pools.{pool}: {path} has no .ds files, nor have folders in it; "
            "give RUN/validation of a finished run, or RUN/validation/DOMAIN"
        )
    for folder in folders:
        yield f"{pool}/{unquote(folder.name)}", folder


def _same_tokenizer(where: str, folder: Path, like: TokenDataset) -> None:
    """By the manifest of the run that the pool lies in, where there is one; _check looks at the tokens themselves."""
    for manifest in (folder / MANIFEST, folder.parent / "tokens" / MANIFEST, folder.parents[1] / "tokens" / MANIFEST):
        if manifest.is_file() and "tokenizer" in (written := read_json(manifest)):
            if written["tokenizer"]["sha256"] != like.manifest["tokenizer"]["sha256"]:
                raise RedoneError(
                    f"{where}: {manifest} names another tokenizer than {like.folder / MANIFEST}; "
                    "tokenize both by the same one (tokens.tokenizer.path in the recipe)"
                )
            return


def _check(where: str, folder: Path, documents: list[Tokens], like: TokenDataset) -> None:
    largest = max(int(document.max()) for document in documents)
    if largest >= like.vocab_size:
        raise RedoneError(
            f"{where}: {folder} has token {largest}, but the training data's tokenizer only {like.vocab_size}: "
            "it was made by another one; tokenize both by the same"
        )
    ends = {int(document[-1]) for document in documents} - {like.eos_token_id}
    if ends:
        raise RedoneError(
            f"{where}: {folder} ends a document with token {min(ends)}, the training data with {like.eos_token_id}: "
            "it was made by another tokenizer; tokenize both by the same"
        )


def _sample(files: "list[_File]", tokens: int) -> "Iterator[tuple[_File, int]]":
    """Documents by a fixed permutation, while they are at most so many tokens together; one at least."""
    edges = np.cumsum([0, *(len(file.bytes_D) for file in files)])
    count = int(edges[-1])
    left = tokens
    for document in permuted(SAMPLE_SEED, "evaluation", size=max(count, 1), positions_N=np.arange(count)).tolist():
        which = int(np.searchsorted(edges, document, side="right")) - 1
        file, d = files[which], document - int(edges[which])
        size = int(file.edges_D[d + 1] - file.edges_D[d])
        if size > left and left < tokens:
            return
        yield file, d
        left -= size


@final
@dataclass(frozen=True)
class _File:
    """One `.ds` file, checked against its index and spans."""

    tokens: npt.NDArray[Any]
    edges_D: Int64  # D + 1 of them
    bytes_D: Int64

    def document(self, d: int) -> Tokens:
        read: Tokens = self.tokens[self.edges_D[d] : self.edges_D[d + 1]]
        return read

    @classmethod
    def open(cls, path: Path) -> "_File":
        index, side = path.with_name(f"{path.name}.index"), path.with_name(f"{path.stem}.spans.parquet")
        for file in (index, side):
            if not file.is_file():
                raise RedoneError(f"{file}: absent, though {path.name} is there; {REMEDY}")
        size = path.stat().st_size
        try:
            ends_D = np.fromfile(index, "<u8").astype(np.int64)
            spans = pl.read_parquet(side, columns=["num_tokens", "num_bytes"])
        except (OSError, PolarsError) as error:
            reason = str(error).splitlines()[0]
            raise RedoneError(f"{side}: cannot be read: {reason}; {REMEDY}") from None
        edges_D = np.concatenate([[0], ends_D])
        # No manifest says how wide a token is: it follows from the two sizes.
        width = size // int(edges_D[-1]) if edges_D[-1] > 0 else 2
        if width not in (2, 4) or size != width * edges_D[-1] or index.stat().st_size % 8:
            raise RedoneError(f"{path}: {size} bytes, but its index ends at token {edges_D[-1]}: damaged; {REMEDY}")
        if not np.array_equal(np.diff(edges_D), spans["num_tokens"].to_numpy()) or (np.diff(edges_D) < 1).any():
            raise RedoneError(f"{index}: its documents are not those of {side.name}: damaged; {REMEDY}")
        tokens = np.asarray(np.memmap(path, f"<u{width}", "r")) if size else np.zeros(0, "<u2")
        return cls(tokens, edges_D, spans["num_bytes"].to_numpy())
