"""How long a conversation is, in tokens, under a chat template.

Exact with the model's own Jinja template (rendered in Transformers' sandbox conventions: messages,
add_generation_prompt); without one, the tokens of the messages and a stated number around each (5 in ChatML:
`<|im_start|>`, role, line break, `<|im_end|>`, line break). Without a tokenizer, an estimate by bytes, marked as one.
Encoding is the fast path of token pools (tokens/encoder.py): 60,000 short conversations in some seconds.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
import pyarrow as pa
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from redone_data.curate.asking import BYTES_A_TOKEN
from redone_data.curate.sources import COMPRESSION_OF_SUFFIX
from redone_data.engine import Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic, file_digest
from redone_data.tokens.encoder import encoder_of
from redone_data.tokens.tokenizer import TOKENIZER_FILE, read_tokenizer

TEMPLATE_FILE = "chat_template.jinja"
ESTIMATED, APPROXIMATE, EXACT = "estimated from bytes", "messages and overhead", "chat template"


@dataclass(frozen=True)
class LengthConfig:
    """The longest conversation that is kept, and how length is measured."""

    max_tokens: int = field(default=4096, metadata={"help": "longer conversations are dropped, and counted"})
    tokenizer: str | None = field(
        default=None, metadata={"help": "a tokenizer.json (also .zst) or its folder; none: estimated from bytes"}
    )
    chat_template: str | None = field(
        default=None, metadata={"help": "the model's Jinja chat template, a file; none: overhead_tokens a message"}
    )
    overhead_tokens: int = field(
        default=5, metadata={"help": "of the template around each message; 5 in ChatML as Qwen has it"}
    )

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.overhead_tokens < 0:
            raise RedoneError("max_tokens: at least 1; overhead_tokens: at least 0")
        if self.chat_template is not None and self.tokenizer is None:
            raise RedoneError("chat_template: it needs a tokenizer")


@dataclass(frozen=True)
class TokenizerFilesStep(Step):
    """The tokenizer and the template that lengths are measured with, unpacked."""

    name = "sft-tokenizer"
    VERSION = 1

    tokenizer: Path
    chat_template: Path | None

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        files = {"tokenizer": self.tokenizer, "chat_template": self.chat_template}
        return {label: file_digest(path) for label, path in files.items() if path is not None}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        with pa.input_stream(str(self.tokenizer), compression=COMPRESSION_OF_SUFFIX.get(self.tokenizer.suffix)) as file:
            unpacked = file.read()
        with atomic(folder / TOKENIZER_FILE) as aside:
            aside.write_bytes(unpacked)
        read_tokenizer(folder / TOKENIZER_FILE)
        if self.chat_template is not None:
            with atomic(folder / TEMPLATE_FILE) as aside:
                aside.write_bytes(self.chat_template.read_bytes())
            _template(folder / TEMPLATE_FILE)
        return {}


def located_files(lengths: LengthConfig, base: Path, where: str) -> TokenizerFilesStep | None:
    """The step that unpacks what the settings name, relative to `base`; None where they name no tokenizer."""
    if lengths.tokenizer is None:
        return None
    path = base / lengths.tokenizer
    named = [path / f"{TOKENIZER_FILE}{suffix}" for suffix in ("", ".zst")] if path.is_dir() else [path]
    template = None if lengths.chat_template is None else base / lengths.chat_template
    found = next((file for file in named if file.is_file()), None)
    if found is None:
        raise RedoneError(f"{where}: lengths.tokenizer: {path}: no such tokenizer.json, nor a folder with one")
    if template is not None and not template.is_file():
        raise RedoneError(f"{where}: lengths.chat_template: {template}: there is no such file")
    return TokenizerFilesStep(found, template)


@dataclass(frozen=True)
class Lengths:
    """Measures conversations. `folder`: what a :class:`TokenizerFilesStep` left; None estimates."""

    folder: Path | None
    overhead_tokens: int

    @property
    def measured(self) -> str:
        """How, for people."""
        if self.folder is None:
            return ESTIMATED
        return EXACT if (self.folder / TEMPLATE_FILE).exists() else APPROXIMATE

    def tokens(self, messages: pl.Series) -> pl.Series:
        """One number a conversation; `messages` as in conversation.FRAME."""
        if self.measured == EXACT:
            assert self.folder is not None
            return _rendered_tokens(messages, self.folder)
        flat = pl.DataFrame({"messages": messages}).with_row_index("row").explode("messages").unnest("messages")
        if self.folder is None:
            counts = (flat["content"].str.len_bytes() / BYTES_A_TOKEN).ceil().cast(pl.Int64)
        else:
            encoder = encoder_of(self.folder / TOKENIZER_FILE)
            texts = flat["content"].to_arrow().cast(pa.large_string())
            counts = pl.Series(encoder.encode(texts, 0)[1] - 1)
        flat = flat.select("row", (counts + self.overhead_tokens).alias("tokens"))
        return flat.group_by("row", maintain_order=True).agg(pl.col("tokens").sum())["tokens"].cast(pl.Int64)


def _rendered_tokens(messages: pl.Series, folder: Path) -> pl.Series:
    template, tokenizer = _template(folder / TEMPLATE_FILE), _template_tokenizer(folder / TOKENIZER_FILE)
    try:
        texts = [template.render(messages=turns, add_generation_prompt=False) for turns in messages.to_list()]
    except jinja2.TemplateError as error:
        raise RedoneError(f"lengths.chat_template: it cannot render a conversation: {error}") from None
    found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return pl.Series(np.fromiter((len(encoding.ids) for encoding in found), np.int64, len(found)))


@functools.lru_cache(maxsize=2)
def _template_tokenizer(path: Path) -> Tokenizer:
    """Reads the template's special tokens as such, unlike a tokenizer for documents."""
    tokenizer = read_tokenizer(path)
    tokenizer.encode_special_tokens = False
    return tokenizer


@functools.lru_cache(maxsize=2)
def _template(path: Path) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = refuse
    text = path.read_text(encoding="utf-8")
    # The trainer's marks around what is learnt (transformers' {% generation %}) change no text.
    for mark in ("generation", "endgeneration"):
        for tag in (f"{{%- {mark} -%}}", f"{{%- {mark} %}}", f"{{% {mark} -%}}", f"{{% {mark} %}}"):
            text = text.replace(tag, tag.replace(mark, "if true" if mark == "generation" else "endif"))
    try:
        return environment.from_string(text)
    except jinja2.TemplateError as error:
        raise RedoneError(f"lengths.chat_template: not a Jinja template: {error}") from None
