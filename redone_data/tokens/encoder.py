"""Text to token ids, by the fastest way that proves to give the ids of ``tokenizers``.

The kernel of bpe.py serves byte-level BPE with a known pattern (ours, Qwen 2 to 3.5). It has to reproduce `PROBES` when
a process starts, and the first documents of every part; else ``tokenizers`` does the work, at 3 MB/s a core, and the
pool says why. Documents that the kernel does not claim to know (not in NFC where the tokenizer asks for it, characters
new to this Python's Unicode, the text of an added token) go to ``tokenizers``, and no others. So ids, and the bytes of
a pool, are the same whichever way is taken; that is why it is no part of a step's configuration.
"""

import functools
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from redone_data.text.buffers import Int64, frozen, large_strings, string_buffers
from redone_data.tokens.bpe import SPILL, doubtful_rows, encode_rows, new_cache
from redone_data.tokens.pretokens import UNKNOWN
from redone_data.tokens.spans import offsets_of
from redone_data.tokens.tables import Tables, UInt32, UnsupportedError, read_tables
from redone_data.tokens.tokenizer import read_tokenizer

KERNEL, TOKENIZERS = "kernel", "tokenizers"
PROBE_BYTES = 30_000
# What tokenizers disagree on. Special tokens in text are text.
PROBES = (
    "",
    " ",
    "a",
    "\n",
    "\x00",
    "'",
    "  two  blanks ",
    "tab\t\ttab \t ",
    "line\r\nline\n\n \n  end \n",
    "\u3000全角\u3000",
    "it's IT'S we'Re they'LL i'm 'd 'x ''s '\u017f",
    "don't \u2019tis n't 'll'll",
    "$9.99 1234567890 1,000 3.14 x2y 1e-9",
    "小红书iPhone手机 15Pro好用!!!",
    "今天天气真好,哈哈哈哈哈哈哈哈哈哈哈哈",
    "ﾊﾝｶｸ ＡＢＣ１２３ ㍿ ⺀⺈々〇〇七〆ー・",
    "カタカナとひらがなと漢字",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd \U0001f1e8\U0001f1f3 \u2764\ufe0f",
    "1\ufe0f\u20e3",
    "cafe\u0301 caf\u00e9 a\u0323\u0307 a\u0307\u0323 \u1e9b\u0323 \uac00 \u1100\u1161\u11a8 \u212b",
    "e" + "\u0301" * 30,
    "العربية ١٢٣ שלום \u202eabc\u202c",
    "สวัสดีครับ ที่นี่ น้ำ",
    "हिन्दी क्षत्रिय",
    "한국어 띄어쓰기 ㅋㅋㅋㅋ",
    "Привет, мир! Ёлка",
    "\x01\x02\x7f\x80\x85\xa0\xad",
    "\u2028\u2029\u200b\ufeff\ufffd",
    "\ue000\U000f0000\U000e0041\U0010ffff",
    "\u0378",
    "<|endoftext|> <|im_start|>user\n<|im_end|><s></s>[INST]",
    "<think>x</think> <tool_call>",
    "<|endoftext",
    "|><|",
    "a" * 500,
    " " * 300,
    "\n" * 300,
    "ab" * 300,
    "。" * 200,
    "!?" * 200,
    "哈" * 300,
    "1" * 300,
    "\u0301" * 100,
    "a " * 100,
    "https://www.example.com/a?b=c&d=%E4%BD%A0#x",
    "#话题[话题]# @user",
    "def f(x):\n    return x ** 2  # ok\n",
    "¯\\_(ツ)_/¯",
    "".join(chr(code) for code in range(0x20, 0x3000)),
)


class Encoder:
    """Encodes Arrow strings. ``backend`` names what does it; ``reason`` says why it is not the kernel."""

    def __init__(self, tokenizer: Tokenizer, tables: Tables | None, reason: str = "") -> None:
        self.tokenizer = tokenizer
        self.reason = reason
        self._tables = tables
        self._cache = new_cache()
        if tables is not None and not self.agrees(pa.array(PROBES, pa.large_string())):
            self._tables, self.reason = None, "the kernel's ids of the start-up texts differ"

    @property
    def backend(self) -> str:
        return KERNEL if self._tables is not None else TOKENIZERS

    def checked_on(self, texts: pa.Array) -> "Encoder":
        """This encoder, or a slower one where the two ways differ on the first 30 kB of these texts."""
        texts = large_strings(texts)
        offsets, _ = string_buffers(texts)
        count = int(np.searchsorted(offsets - offsets[0], PROBE_BYTES))
        if self._tables is None or self.agrees(texts.slice(0, count)):
            return self
        return Encoder(self.tokenizer, None, "the kernel's ids of the first documents differ")

    def agrees(self, texts: pa.Array) -> bool:
        """Whether the kernel gives the ids of ``tokenizers`` for these texts."""
        ids, num_tokens = self.encode(texts, 0)
        expected, lengths = self._by_tokenizers(texts)
        ends = np.cumsum(num_tokens)
        return np.array_equal(num_tokens - 1, lengths) and np.array_equal(np.delete(ids, ends - 1), expected)

    def encode(self, texts: pa.Array, end_id: int) -> tuple[UInt32, Int64]:
        """(ids of all texts end to end, each closed by ``end_id``; int64[texts] how many, the closing one included)."""
        texts = large_strings(texts)
        if self._tables is None:
            ids, lengths = self._by_tokenizers(texts)
            return np.insert(ids, np.cumsum(lengths), np.uint32(end_id)), lengths + 1
        offsets, data = string_buffers(texts)
        if len(texts) == 0:
            return np.zeros(0, np.uint32), np.zeros(0, np.int64)
        given_rows = doubtful_rows(offsets, data, self._tables)
        doubtful = np.flatnonzero(given_rows)
        if self._tables.normalizes and len(doubtful):
            # Most marks and joiners are in NFC where they stand.
            some = texts.take(pa.array(doubtful))
            composed = pl.Series(some, dtype=pl.String).str.normalize("NFC").to_arrow().cast(pa.large_string())
            given_rows[doubtful] = pc.not_equal(some, composed).to_numpy(zero_copy_only=False)
            given_rows[doubtful] |= doubtful_rows(*string_buffers(some), self._tables._replace(doubt=UNKNOWN))
        given, lengths = self._by_tokenizers(texts.filter(pa.array(given_rows)))
        out = np.empty(int(offsets[-1] - offsets[0]) + len(texts) + len(given) + SPILL, np.uint32)
        num_tokens = np.empty(len(texts), np.int64)
        size = encode_rows(
            offsets,
            data,
            self._tables,
            self._cache,
            given_rows,
            offsets_of(lengths),
            frozen(given),
            end_id,
            out,
            num_tokens,
        )
        return out[:size], num_tokens

    def _by_tokenizers(self, texts: pa.Array) -> tuple[UInt32, Int64]:
        """(ids end to end, how many of each), no closing token."""
        ids = [e.ids for e in self.tokenizer.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(chain.from_iterable(ids), np.uint32, int(lengths.sum())), lengths


@functools.lru_cache(maxsize=2)
def encoder_of(path: Path) -> Encoder:
    """The encoder of a tokenizer.json, checked on the start-up texts, once a process: 2 s for Qwen's."""
    tokenizer = read_tokenizer(path)
    try:
        return Encoder(tokenizer, read_tables(path.read_text(encoding="utf-8")))
    except UnsupportedError as reason:
        return Encoder(tokenizer, None, f"the kernel does not know {reason}")
