"""The tokenizer of a run: one that exists (a file, a folder, a name on the hub), or a byte-level BPE trained here.

A given tokenizer is copied and known by its file's SHA-256. A trained one reads about equal bytes of every domain,
chosen by a hash of the document id; it holds all 256 bytes, so every text survives encoding, and it splits Chinese and
Japanese runs from other letters and numbers into digits. Training is a function of the chosen documents: one thread or
many, and any order of files, give the same bytes. 20 MB take 14 s on two cores and 1 GB of memory.

Text of users is text: ``<|endoftext|>`` in a post is encoded letter by letter, never as the end of a document.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import atomic, file_digest, write_json
from redone_data.text.buffers import large_strings, string_buffers
from redone_data.tokens.part import CuratedPart, fingerprint, in_order, keyed_hash, split_mask
from redone_data.tokens.pretokens import PRETOKENIZER_PATTERN

TOKENIZER_FILE, TOKENIZER_CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
DEFAULT_EOS = "<|endoftext|>"
# Room above each domain's share of bytes, so that chance rarely leaves the sample short.
_OVERSAMPLE = 1.25


@dataclass(frozen=True)
class TokenizerConfig:
    """Which tokenizer, or how one is trained."""

    path: str | None = field(
        default=None, metadata={"help": "a tokenizer.json, a folder with one, or a hub name; none: train one"}
    )
    vocab_size: int = field(default=4096, metadata={"help": "of a trained tokenizer, end-of-document token included"})
    train_bytes: int = field(default=20_000_000, metadata={"help": "text to train on, shared equally by the domains"})
    eos: str | None = field(
        default=None, metadata={"help": "the token that ends a document; none: the tokenizer's own"}
    )

    def __post_init__(self) -> None:
        smallest = len(pre_tokenizers.ByteLevel.alphabet()) + 1
        if self.vocab_size < smallest:
            raise RedoneError(
                f"vocab_size: {self.vocab_size}; at least {smallest} (256 bytes and the end of a document)"
            )
        if self.train_bytes < 1:
            raise RedoneError(f"train_bytes: {self.train_bytes}; at least 1 is needed, or give a tokenizer under path")


@dataclass(frozen=True)
class TokenizerStep(Step):
    """Leaves tokenizer.json and tokenizer_config.json; statistics: vocab_size, eos_token(_id), sha256, source."""

    name: ClassVar[str] = "tokenizer"
    VERSION: ClassVar[int] = 1

    parts: tuple[CuratedPart, ...]
    settings: TokenizerConfig
    seed: int

    def config(self) -> Any:
        if self.settings.path is None:
            return {**plain(self.settings), "seed": self.seed}
        given = _locate(self.settings.path)
        return {"eos": self.settings.eos, "given": [file and file_digest(file) for file in given]}

    def inputs(self) -> dict[str, str]:
        return {"curated": fingerprint(self.parts)} if self.settings.path is None else {}

    def tasks(self) -> Sequence[Any]:
        if self.settings.path is not None:
            return []
        available = self._bytes_by_domain()
        targets = fair_shares(available, self.settings.train_bytes)
        shares = {domain: min(1.0, _OVERSAMPLE * targets[domain] / max(1, size)) for domain, size in available.items()}
        return [{"part": part.as_task(), "share": shares[part.domain]} for part in in_order(self.parts) if part.rows]

    def run(self, task: Any, index: int, folder: Path) -> dict[str, Any]:
        """Set aside the documents of one part that may be trained on."""
        part = CuratedPart.of_task(task["part"])
        limit = np.uint64(min(2**64 - 1, int(task["share"] * 2**64)))
        pieces = []
        for batch in part.batches(["id", "text", "split"]):
            hashes = keyed_hash(batch["id"], self.seed, "tokenizer-sample")
            chosen = (hashes <= limit) & split_mask(batch, "train").to_numpy(zero_copy_only=False)
            texts = large_strings(batch["text"]).filter(pa.array(chosen))
            pieces.append(pa.table({"hash": hashes[chosen], "text": texts}))
        with atomic(folder / _sample_file(index)) as aside:
            pq.write_table(pa.concat_tables(pieces), aside, compression="zstd")
        return {"domain": part.domain, "candidates": sum(piece.num_rows for piece in pieces)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        trained = self.settings.path is None
        samples = [folder / _sample_file(i) for i in range(len(results))]
        if trained and not (folder / TOKENIZER_FILE).exists():
            self._train(folder, samples, [result["domain"] for result in results])
        # The sample is a copy of documents, and copies are what a deletion would miss.
        for sample in samples:
            sample.unlink(missing_ok=True)
        if self.settings.path is not None:
            for file, name in zip(_locate(self.settings.path), (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE), strict=True):
                if file is not None:
                    _copy(file, folder / name)
        tokenizer = read_tokenizer(folder / TOKENIZER_FILE)
        eos = self.settings.eos or (DEFAULT_EOS if trained else _eos_of(folder / TOKENIZER_CONFIG_FILE))
        eos_id = _token_id(tokenizer, eos, str(self.settings.path or "the trained tokenizer"))
        if not (folder / TOKENIZER_CONFIG_FILE).exists():
            minimal = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": eos,
                "clean_up_tokenization_spaces": False,
            }
            write_json(folder / TOKENIZER_CONFIG_FILE, minimal)
        return {
            "vocab_size": vocab_size(tokenizer),
            "eos_token": eos,
            "eos_token_id": eos_id,
            "sha256": file_digest(folder / TOKENIZER_FILE),
            "source": self.settings.path or "trained",
        }

    def _bytes_by_domain(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for part in self.parts:
            total[part.domain] = total.get(part.domain, 0) + part.text_bytes
        return total

    def _train(self, folder: Path, samples: list[Path], domains: list[str]) -> None:
        targets = fair_shares(self._bytes_by_domain(), self.settings.train_bytes)
        by_domain: dict[str, list[Path]] = {}
        for sample, domain in zip(samples, domains, strict=True):
            by_domain.setdefault(domain, []).append(sample)
        texts = (_lowest(by_domain[domain], targets[domain]) for domain in sorted(by_domain))
        tokenizer = train_bpe((text for batch in texts for text in batch), self.settings.vocab_size, self.settings.eos)
        with atomic(folder / TOKENIZER_FILE) as aside:
            tokenizer.save(str(aside))


def train_bpe(texts: Iterator[str], size: int, eos: str | None = None) -> Tokenizer:
    """A byte-level BPE of at most `size` tokens whose only special token is `eos`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZER_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(eos or DEFAULT_EOS, special=True, normalized=False)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file, made safe for corpora: no truncation or padding, special tokens in text are text."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise RedoneError(f"{path}: not a tokenizer.json that tokenizers can read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def opening_token(path: Path) -> int | None:
    """The token that a tokenizer puts before every text (begin of sequence), if it puts one there."""
    tokenizer = read_tokenizer(path)
    with_special, without = tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids
    return int(with_special[0]) if with_special[:1] != without[:1] else None


def vocab_size(tokenizer: Tokenizer) -> int:
    """One more than the greatest id: vocabularies may have holes."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1


def tokenizer_of(step: Output) -> Tokenizer:
    return read_tokenizer(step.folder / TOKENIZER_FILE)


def fair_shares(available: dict[str, int], total: int) -> dict[str, int]:
    """Split `total` equally; what a small one cannot use goes to the others.

    >>> fair_shares({"a": 10, "b": 100, "c": 100}, 110)
    {'a': 10, 'b': 50, 'c': 50}
    """
    shares: dict[str, int] = {}
    left = total
    for position, name in enumerate(sorted(available, key=lambda name: (available[name], name))):
        shares[name] = min(available[name], left // (len(available) - position))
        left -= shares[name]
    return dict(sorted(shares.items()))


def _sample_file(index: int) -> str:
    return f"sample-{index:05d}.parquet"


def _lowest(samples: list[Path], num_bytes: int) -> list[str]:
    """Texts of the lowest hashes among some files, in that order, up to about `num_bytes`."""
    table = pa.concat_tables([pq.read_table(sample) for sample in samples]).sort_by("hash")
    if table.num_rows == 0:
        return []
    offsets, _ = string_buffers(table["text"])
    count = int(np.searchsorted(offsets[1:] - offsets[0], num_bytes)) + 1
    texts: list[str] = table["text"].slice(0, count).to_pylist()
    return texts


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as aside:
        aside.write_bytes(source.read_bytes())


def _eos_of(config_file: Path) -> str:
    """The end-of-document token that a tokenizer_config.json names, or the empty string."""
    if not config_file.exists():
        return ""
    try:
        token = json.loads(config_file.read_bytes()).get("eos_token")
    except (ValueError, AttributeError) as error:
        raise RedoneError(f"{config_file}: not a tokenizer_config.json: {error}") from None
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _token_id(tokenizer: Tokenizer, eos: str, where: str) -> int:
    special = {token.content: key for key, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    if eos in special:
        return int(special[eos])
    # An ordinary token of that name will not do: the text of a document may hold it.
    problem = f"no special token '{eos}'" if eos else "it does not say which token ends a document"
    raise RedoneError(
        f"{where}: {problem}; set tokenizer.eos to one of its special tokens; {did_you_mean(eos, special)}"
    )


@functools.cache
def _locate(path: str) -> tuple[Path, Path | None]:
    """tokenizer.json and, where there is one, tokenizer_config.json: here, or downloaded."""
    here = Path(path).expanduser()
    file = here / TOKENIZER_FILE if here.is_dir() else here
    if file.is_file():
        beside = file.with_name(TOKENIZER_CONFIG_FILE)
        return file, beside if beside.is_file() else None
    if here.is_dir():
        raise RedoneError(f"tokenizer.path: {path}: the folder has no {TOKENIZER_FILE}; save the fast tokenizer there")
    if path.endswith(".json") or path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise RedoneError(f"tokenizer.path: {path}: no such file; give a tokenizer.json, its folder, or a hub name")
    return _download(path)


def _download(repo: str) -> tuple[Path, Path | None]:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        file = Path(huggingface_hub.hf_hub_download(repo, TOKENIZER_FILE))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RedoneError(
            f"tokenizer.path: '{repo}' is not a file here and did not come from the Hugging Face hub ({reason}); "
            f"give the path of a {TOKENIZER_FILE}"
        ) from None
    try:
        return file, Path(huggingface_hub.hf_hub_download(repo, TOKENIZER_CONFIG_FILE))
    except LocalEntryNotFoundError as error:
        raise RedoneError(f"tokenizer.path: {repo}: {TOKENIZER_CONFIG_FILE} could not be fetched: {error}") from None
    except EntryNotFoundError:
        return file, None
