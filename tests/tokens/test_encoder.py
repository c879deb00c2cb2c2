import io
import json
import unicodedata
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_corpus import DOCUMENTS, Made, made_up_texts
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from redone_data.engine import Engine, Output
from redone_data.text.buffers import frozen
from redone_data.tokens import encoder, tables
from redone_data.tokens.encoder import PROBES, Encoder, encoder_of
from redone_data.tokens.pool import PoolStep
from redone_data.tokens.pretokens import SCHEMES, pretoken_ends
from redone_data.tokens.tokenizer import read_tokenizer

SHARED = Path(__file__).parents[2].parent / "shared"
PATTERNS = list(SCHEMES)
# Pieces that meet at awkward borders: part of a character's bytes may be merged with a neighbour.
PIECES = [
    *[
        "'s",
        "'LL",
        "'",
        "'\u017f",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u3000",
        "\u00a0",
        "\x85",
        "1",
        "٣",
        "〇",
        "Ⅷ",
        "a",
        "Zoe",
        "é",
    ],
    *[
        "e\u0301",
        "\u0301",
        "小红书",
        "好",
        "ー",
        "カ",
        "ひ",
        "㍿",
        "⺀",
        "한",
        "ก็",
        "क्ष",
        "ب",
        "Ж",
        "。",
        "!",
        "…",
        "“",
        "#",
        "\u200d",
    ],
    *[
        "😀",
        "👍🏽",
        "❤️",
        "🇨🇳",
        "\ufffd",
        "\ue000",
        "\U0010ffff",
        "\x00",
        "<|endoftext|>",
        "<think>",
        "<thin",
        "https://x.y/?a=1&b=2",
    ],
]


def trained(pattern: str, *, nfc: bool) -> Tokenizer:
    """A small tokenizer like Qwen's: NFC, one special token, one that is not."""
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [AddedToken("<|endoftext|>", special=True, normalized=False)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    texts = [*(text for name in ("a", "b") for text in made_up_texts(name, 300)), *PROBES, *(" ".join(PIECES),) * 3]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[Encoder]:
    folder = tmp_path_factory.mktemp("tokenizers")
    made = []
    for number, pattern in enumerate(PATTERNS):
        path = folder / f"{number}.json"
        trained(pattern, nfc=number > 0).save(str(path))
        made.append(encoder_of(path))
    return made


def assert_same_ids(mine: Encoder, texts: list[str]) -> None:
    ids, num_tokens = mine.encode(pa.array(texts, pa.large_string()), 7)
    expected = [mine.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    ends = np.cumsum(num_tokens)
    for text, wanted, end, count in zip(texts, expected, ends, num_tokens, strict=True):
        assert ids[end - count : end].tolist() == [*wanted, 7], text


def test_the_kernel_serves_all_known_patterns(encoders: list[Encoder]) -> None:
    assert [(made.backend, made.reason) for made in encoders] == [("kernel", "")] * len(PATTERNS)


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=12).map("".join))
@example("")
@settings(max_examples=300, deadline=None)
def test_ids_are_those_of_tokenizers_for_any_text(encoders: list[Encoder], text: str) -> None:
    for made in encoders:
        assert_same_ids(made, [text, "", text + text])


@given(st.text(st.sampled_from("abe好天 \u0301'哈"), max_size=400))
@settings(max_examples=60, deadline=None)
def test_long_pretokens_are_merged_as_short_ones(encoders: list[Encoder], text: str) -> None:
    for made in encoders:
        assert_same_ids(made, [text, text.replace(" ", "")])


@given(st.lists(st.text(st.sampled_from("abZ zé好天气'1"), min_size=1, max_size=24), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_words_and_parts_of_words_met_before_get_the_same_ids_again(encoders: list[Encoder], texts: list[str]) -> None:
    for made in encoders:
        assert_same_ids(made, [*texts, *texts[::-1], *(text + text for text in texts)])


@pytest.mark.parametrize("size", range(1, 34))
def test_words_end_where_they_end_at_any_distance_from_the_end_of_the_texts(encoders: list[Encoder], size: int) -> None:
    word = ("abcdefghijklmnopqrstuvwxyzABCDEFGH" * 2)[:size]
    for made in encoders:
        for end in ["", "é", "\u0301", "好", "1", "'s", "@", "[", "`", "{", " ", "\x7f"]:
            assert_same_ids(made, [f"{word} {word}{end}", f" {word}{end}{word}", word + end])


def test_a_megabyte_without_a_space_costs_no_square(encoders: list[Encoder]) -> None:
    assert_same_ids(encoders[0], ["哈哈" * 50_000, "ab" * 100_000])


@pytest.mark.parametrize("number", range(len(PATTERNS)))
def test_every_assigned_character_is_split_as_by_the_regex(encoders: list[Encoder], number: int) -> None:
    known = tables.read_tables(encoders[number].tokenizer.to_str())
    pattern = pre_tokenizers.Split(Regex(PATTERNS[number]), "isolated")
    assigned = [
        code
        for code in [
            *range(0x3400),
            *range(0xA000, 0xAC10),
            *range(0xD7A0, 0xD800),
            *range(0xF8F0, 0x12000),
            *range(0x1AFF0, 0x1FC00),
        ]
        if unicodedata.category(chr(code)) != "Cn" and not 0xD800 <= code < 0xE000
    ]
    for first in range(0, len(assigned), 4000):
        text = "".join(f" {chr(code)}a{chr(code)}好1{chr(code)}" for code in assigned[first : first + 4000])
        data = np.frombuffer(text.encode(), np.uint8)
        ends = np.empty(len(data), np.int64)
        found = ends[: pretoken_ends(data, 0, len(data), known.classes, known.scheme, ends)]
        sizes = [len(piece.encode()) for piece, _ in pattern.pre_tokenize_str(text)]
        assert found.tolist() == np.cumsum(sizes).tolist()


def test_a_pool_has_the_same_bytes_whichever_way_it_is_encoded(
    tmp_path: Path, made: Made, digests: Callable[[Output], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.pool.statistics["encoders"] == {"kernel": len(made.parts)}
    path = made.tokenizer.folder / "tokenizer.json"
    slow = Encoder(read_tokenizer(path), None, "asked for")
    monkeypatch.setattr("redone_data.tokens.pool.encoder_of", lambda _: slow)
    output = Engine(tmp_path).run(PoolStep(made.parts, made.tokenizer))
    assert output.statistics["encoders"] == {"tokenizers": len(made.parts)}
    assert output.statistics["encoder_reasons"] == ["asked for"]
    assert output.folder.name == made.pool.folder.name
    assert digests(output) == digests(made.pool)


def test_a_kernel_that_errs_is_found_at_start_and_not_used(made: Made) -> None:
    path = made.tokenizer.folder / "tokenizer.json"
    known = tables.read_tables(path.read_text())
    wrong = known.merged_ids.copy()
    wrong[[5, 6]] = wrong[[6, 5]]
    fallen = Encoder(read_tokenizer(path), known._replace(merged_ids=frozen(wrong)))
    assert (fallen.backend, fallen.reason) == ("tokenizers", "the kernel's ids of the start-up texts differ")
    assert_same_ids(fallen, list(DOCUMENTS["wiki"][:5]))


def test_a_kernel_that_errs_on_the_corpus_alone_is_not_used_for_it(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.tokenizer.folder / "tokenizer.json"
    known = tables.read_tables(path.read_text())
    wrong = known.merged_ids.copy()
    wrong[[5, 6]] = wrong[[6, 5]]
    monkeypatch.setattr(encoder, "PROBES", ("",))
    passed = Encoder(read_tokenizer(path), known._replace(merged_ids=frozen(wrong)))
    assert passed.backend == "kernel"
    texts = pa.array([text for documents in DOCUMENTS.values() for text in documents], pa.large_string())
    assert passed.checked_on(texts).reason == "the kernel's ids of the first documents differ"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizer Lowercase"),
        ({"pre_tokenizer": None}, "pre_tokenizer other than"),
        ({"pattern": r"\w+|\W+"}, "the pre_tokenizer pattern"),
        ({"model": {"byte_fallback": True}}, r"model\.byte_fallback"),
        ({"model": {"dropout": 0.1}}, r"model\.dropout"),
        ({"model": {"ignore_merges": True}}, r"model\.ignore_merges"),
        ({"merges": "reversed"}, "merges out of order"),
    ],
)
def test_what_the_kernel_does_not_know_it_refuses_by_name(made: Made, change: dict[str, object], reason: str) -> None:
    content = json.loads((made.tokenizer.folder / "tokenizer.json").read_text())
    for key, value in change.items():
        if key == "pattern":
            content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = value
        elif key == "merges":
            content["model"]["merges"].reverse()
        elif isinstance(value, dict) and key == "model":
            content["model"].update(value)
        else:
            content[key] = value
    with pytest.raises(tables.UnsupportedError, match=reason):
        tables.read_tables(json.dumps(content))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    packed = SHARED / "data/tokenizer/qwen3/tokenizer.json.zst"
    if not packed.exists():
        pytest.skip("needs the real data of ../shared/data")
    path = tmp_path_factory.mktemp("qwen") / "tokenizer.json"
    path.write_bytes(zstandard.ZstdDecompressor().decompress(packed.read_bytes(), max_output_size=1 << 26))
    return encoder_of(path)


REAL = [
    "sns/multilingual_social",
    "sns/weibo_comments",
    "sns/reddit_posts",
    "general/code_python",
    "general/wiki_fr_es",
]


@pytest.mark.parametrize("name", REAL)
def test_real_posts_get_the_ids_of_the_qwen_tokenizer(qwen: Encoder, name: str) -> None:
    assert qwen.backend == "kernel"
    with (SHARED / f"data/{name}.jsonl.zst").open("rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        texts = [json.loads(line)["text"] for line in islice(lines, 400)]
    assert qwen.agrees(pa.array(texts, pa.large_string()))
