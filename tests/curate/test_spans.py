"""Repeated lines and duplicate substrings of whole corpora, against brute force."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation import sentence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import corpus_of

from redone_data.config import read_config
from redone_data.corpus import Corpus
from redone_data.curate.attributes import Attributes, corpus_file
from redone_data.curate.repeated import RepeatedLinesConfig, RepeatedLinesStep, repeated_lines
from redone_data.curate.substring import DuplicateSubstringsStep, SubstringConfig, duplicate_substrings
from redone_data.engine import Engine, Output
from redone_data.errors import RedoneError
from redone_data.text.hashing import hash128, to_hex

slow_examples = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIZE = 8
DOCUMENT = st.lists(st.sampled_from(["aa", "bb", "cc"]), min_size=1, max_size=30).map(" ".join)


def measured(corpus: Corpus, output: Output) -> pl.DataFrame:
    """Every document with its id, text and the attributes of one step."""
    frames = []
    for part in corpus.parts:
        names = list(pq.read_schema(corpus_file(output.folder, part)).names)
        table = Attributes(corpus, (output,)).read(part, names)
        keys = part.read(["key_hi", "key_lo", "text"])
        ids = to_hex(keys["key_hi"].to_numpy(), keys["key_lo"].to_numpy())
        frames.append(pl.DataFrame({"id": pl.Series(ids), "text": keys["text"].to_pylist(), **table.to_pydict()}))
    return pl.concat(frames)


def substrings(folder: Path, texts: list[str], words: int = SIZE, **read) -> pl.DataFrame:
    engine = Engine(folder / "run")
    corpus, exact = corpus_of(engine, folder, {"a": texts[::2], "b": texts[1::2] or ["-"]}, **read)
    return measured(corpus, duplicate_substrings(engine, corpus, exact, SubstringConfig(words)))


def lines(folder: Path, texts: list[str], **config) -> pl.DataFrame:
    engine = Engine(folder / "run")
    corpus, exact = corpus_of(engine, folder, {"a": texts[::2], "b": texts[1::2] or ["-"]}, part_bytes=400)
    return measured(corpus, repeated_lines(engine, corpus, exact, RepeatedLinesConfig(**config)))


def text_hash(text: str) -> int:
    return int(hash128(pa.array([text]))[0][0])


def bytes_of(words: list[str], first: int, end: int) -> set[int]:
    """The bytes of words `first` to `end` in a text that is joined by single spaces."""
    start = len(" ".join(words[:first])) + (first > 0)
    return set(range(start, start + len(" ".join(words[first:end]))))


def common_substrings(left: list[str], right: list[str], least: int) -> set[int]:
    """Bytes of `left` that lie in a run of at least `least` words that `right` has, by the table of suffixes."""
    marked: set[int] = set()
    suffix = np.zeros((len(left) + 1, len(right) + 1), int)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            if a == b:
                suffix[i + 1, j + 1] = suffix[i, j] + 1
                if suffix[i + 1, j + 1] >= least:
                    marked |= bytes_of(left, i + 1 - suffix[i + 1, j + 1], i + 1)
    return marked


def test_of_two_documents_one_is_covered_by_their_common_substrings(tmp_path):
    stream = np.random.default_rng(7)
    pairs = []
    for number in range(60):  # words of its own keep each pair apart

        def some(number: int = number) -> list[str]:
            return stream.choice([f"{letter}{number}" for letter in "abc"], stream.integers(1, 20)).tolist()

        left = some() + some()
        cut = int(stream.integers(0, len(left)))
        pairs.append([" ".join(left), " ".join(some() + left[cut : cut + 15] + some())])
    found = substrings(tmp_path, [text for pair in pairs for text in pair], part_bytes=2_000)
    got = dict(zip(found["text"], found["duplicate_substring_fraction"], strict=True))
    for left, right in pairs:
        held, holder = sorted([left, right], key=text_hash, reverse=True)
        marked = common_substrings(held.split(), holder.split(), SIZE)
        want = 0 if left == right else len(marked) / len(held)
        assert got[held] == pytest.approx(want, abs=1e-6)
        assert got[holder] == 0 or left == right
    assert 8 < sum(value > 0 for value in got.values()) < 55


@slow_examples
@given(st.lists(DOCUMENT, min_size=2, max_size=30))
def test_substrings_of_many_documents_agree_with_brute_force(tmp_path_factory, texts):
    found = substrings(tmp_path_factory.mktemp("many"), texts, part_bytes=100)
    texts_of: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for text in texts:
        words = text.split()
        for i in range(len(words) - SIZE + 1):
            texts_of[tuple(words[i : i + SIZE])].add(text)
    text_of = dict(zip(found["id"], found["text"], strict=True))
    for row in found.filter(pl.col("text") != "-").iter_rows(named=True):
        words, count = row["text"].split(), 0
        marked: set[int] = set()
        for i in range(len(words) - SIZE + 1):
            sharing = texts_of[tuple(words[i : i + SIZE])]
            if min(sharing, key=text_hash) != row["text"]:
                marked |= bytes_of(words, i, i + SIZE)
                count = max(count, len(sharing))
        want = len(marked) / len(row["text"])
        assert row["duplicate_substring_fraction"] == pytest.approx(want, abs=1e-6)
        assert row["duplicate_substring_count"] == count
        assert (row["duplicate_substring_of"] is not None) == bool(marked)
        if marked:
            named = text_of[row["duplicate_substring_of"]].split()
            assert common_substrings(words, named, SIZE)


def test_a_copied_passage_is_found_whatever_its_case_and_punctuation_and_its_place_is_listed(tmp_path):
    passage = sentence(1, 60)
    texts = [passage, f"{sentence(2, 30)} «{passage.upper().replace(' ', ', ')}» {sentence(3, 30)}", sentence(4, 60)]
    engine = Engine(tmp_path / "run")
    corpus, exact = corpus_of(engine, tmp_path, {"a": texts})
    output = duplicate_substrings(engine, corpus, exact, SubstringConfig(50))
    found = measured(corpus, output)
    copies = found.filter(pl.col("duplicate_substring_fraction") > 0)
    assert len(copies) == 1
    (run,) = pq.read_table(output.files("runs-00000.parquet")[0]).to_pylist()
    text = corpus.parts[0].read(["text"])["text"][run["row"]].as_py()
    assert text == copies["text"][0]
    stretch = text.encode()[run["start"] : run["end"]].decode()
    assert stretch.lower().replace(",", "") == passage
    assert run["of"] == copies["duplicate_substring_of"][0]
    assert run["documents"] == 2


def test_the_order_of_files_and_the_size_of_parts_change_nothing(tmp_path):
    texts = [f"{sentence(i, 12)} {sentence(i % 3, 20)} {sentence(50 + i, 12)}" for i in range(12)]
    columns = ["text", "duplicate_substring_fraction", "duplicate_substring_count"]
    one = substrings(tmp_path / "one", texts)[columns].sort("text")
    other = substrings(tmp_path / "two", texts[::-1], part_bytes=300)[columns].sort("text")
    assert one.equals(other)
    assert (one["duplicate_substring_fraction"] > 0).sum() == 9


@pytest.mark.parametrize("kind", ["lines", "substrings"])
def test_of_copies_that_exact_duplicates_will_judge_all_are_treated_alike(tmp_path, kind):
    texts = [f"{sentence(1)}.\n{sentence(2)}."] * 6
    found = lines(tmp_path, texts, documents=2) if kind == "lines" else substrings(tmp_path, texts)
    assert found[:, 2].to_list() == [0.0] * 6


# --- Lines -----------------------------------------------------------------------------------------------------------

TAIL = "Follow our page for more of this every single day!"


def test_one_document_keeps_a_line_that_many_repeat(tmp_path):
    odd = "follow our page, for MORE of this every single day 😂"
    texts = [f"{sentence(i)}\n{TAIL}" for i in range(12)]
    found = lines(tmp_path, [*texts, f"{sentence(99)}\n{odd}", sentence(500)])
    repeating = found.filter(pl.col("repeated_line_fraction") > 0)
    assert len(repeating) == 12
    assert set(repeating["repeated_line_count"]) == {13}
    (keeper,) = set(repeating["repeated_line_of"])
    keeping = found.filter(pl.col("id") == keeper).row(0, named=True)
    assert "every single day" in keeping["text"]
    assert keeping["repeated_line_fraction"] == 0
    for row in repeating.iter_rows(named=True):
        line = odd if odd in row["text"] else TAIL
        assert row["repeated_line_fraction"] == pytest.approx(len(line.encode()) / len(row["text"].encode()), abs=1e-6)


def test_a_line_of_too_few_documents_or_words_does_not_repeat(tmp_path):
    texts = [f"{sentence(i)}.\n{TAIL}\nhave a nice day" for i in range(9)]
    assert lines(tmp_path, texts)["repeated_line_fraction"].sum() == 0
    assert lines(tmp_path / "more", texts, documents=9)["repeated_line_fraction"].sum() > 0


def test_laughter_and_emoticons_do_not_make_a_line_repeat(tmp_path):
    texts = [f"{sentence(i)}.\n{'[哈哈]' * 9}" for i in range(6)]
    assert lines(tmp_path, texts, documents=2)["repeated_line_fraction"].sum() == 0


def test_a_line_that_one_document_repeats_is_its_own_affair(tmp_path):
    assert lines(tmp_path, ["\n".join([TAIL] * 20)], documents=2)["repeated_line_fraction"].sum() == 0


@pytest.mark.parametrize(("unit", "repeats"), [("sentence", 4), ("line", 0)])
def test_sentences_repeat_only_when_they_are_asked_for(tmp_path, unit, repeats):
    texts = [f"第{i}天的日记真的很好看{chr(0x4E00 + i)}。关注我每天更新好物推荐！" for i in range(5)]
    found = lines(tmp_path, texts, documents=5, unit=unit)
    assert (found["repeated_line_fraction"] > 0.4).sum() == repeats


# --- Steps -----------------------------------------------------------------------------------------------------------


def test_rules_may_ask_every_column_and_each_names_what_it_matched():
    for kind in (RepeatedLinesStep, DuplicateSubstringsStep):
        columns = kind.columns(kind.__new__(kind))
        assert set(kind.matches) == set(columns)
        assert set(kind.matches.values()) == {f"{kind.prefix}_of"}


def test_only_the_settings_that_decide_a_step_are_part_of_its_name(tmp_path):
    engine = Engine(tmp_path / "run")
    corpus, exact = corpus_of(engine, tmp_path, {"a": [f"{sentence(i)}.\n{TAIL}" for i in range(4)]})
    repeated_lines(engine, corpus, exact, RepeatedLinesConfig())
    engine.ran.clear()
    repeated_lines(engine, corpus, exact, RepeatedLinesConfig(documents=3))
    assert [name.rpartition("-")[0] for name in engine.ran] == ["lines-shared", "repeated-lines"]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (SubstringConfig, {"words": 7}, "at least 8"),
        (RepeatedLinesConfig, {"documents": 1}, "at least 2 documents"),
        (RepeatedLinesConfig, {"min_words": 0}, "1 word"),
        (RepeatedLinesConfig, {"unit": "page"}, "'page' is not allowed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, values, message):
    with pytest.raises(RedoneError, match=message):
        read_config(kind, values, where="recipe.yaml", path="curate")


@pytest.mark.parametrize("kind", ["lines", "substrings"])
def test_posts_too_short_to_share_anything_share_nothing(tmp_path, kind):
    found = lines(tmp_path, ["好", "ok", ""]) if kind == "lines" else substrings(tmp_path, ["好", "ok", ""])
    assert found[:, 2].to_list() == [0.0] * 3
    assert found[:, 4].to_list() == [None] * 3
