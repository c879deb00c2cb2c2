"""Grouping, candidate pairs and the choice of who stays, against plain Python."""

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redone_data.corpus import Corpus, Part
from redone_data.curate.bands import KEY_BITS, MOST_ROW_BITS, Packing, pack_keys
from redone_data.curate.candidates import (
    ALL_PAIRS_LIMIT,
    BEST_OF_A_CROWD,
    bucket_pairs,
    crowd_pairs,
    lefts,
    members_of,
    rights,
    slice_pairs,
)
from redone_data.curate.groups import ExactStep, GroupStep, IdentifyStep, groups_of_part, part_of
from redone_data.curate.likeness import (
    Letters,
    column_letters,
    join_letters,
    letters_column,
    letters_of,
    similarities,
    take_letters,
)
from redone_data.curate.near import NearConfig
from redone_data.curate.resolve import keep_greedily
from redone_data.curate.standing import DuplicatesConfig, Standing
from redone_data.engine import Engine
from redone_data.errors import RedoneError
from redone_data.exchange import NUM_BUCKETS, Slices, bucket_of, bucket_ranges, distinct, read_slices, write_slices

INT, UINT = np.int64, np.uint64


# --- Redistribution --------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 4), max_size=20), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 5))
def test_every_row_arrives_in_its_slice_once_and_in_order(tmp_path_factory, files, first, end):
    folder = tmp_path_factory.mktemp("slices")
    paths = []
    for number, slice_ids in enumerate(files):
        paths.append(folder / f"{number}.arrow")
        rows = np.arange(len(slice_ids), dtype=INT) + 100 * number
        write_slices(paths[-1], np.array(slice_ids, dtype=INT), 5, {"row": rows})
    expected = [
        100 * number + row
        for number, slice_ids in enumerate(files)
        for slice_id in range(first, end)
        for row, own in enumerate(slice_ids)
        if own == slice_id
    ]
    assert read_slices(paths, first, end)["row"].to_pylist() == expected
    assert Slices(paths).column("row", min(first, end), end).tolist() == expected


@given(st.integers(0, 10**10), st.integers(1, 10**7))
def test_tasks_cover_all_slices_without_overlap(num_rows, rows_per_task):
    ranges = bucket_ranges(num_rows, rows_per_task)
    assert [slice_ for first, end in ranges for slice_ in range(first, end)] == list(range(NUM_BUCKETS))


# --- Groups ----------------------------------------------------------------------------------------------------------

# Few values, so that rows meet; high bits, so that they fall into different slices.
HASHES = st.sampled_from([0, 1, 1 << 62, 1 << 63, (1 << 63) + 1])
ROWS = st.lists(st.tuples(HASHES, st.integers(0, 1), st.sampled_from([-5.0, 0.0, np.inf]), HASHES), max_size=12)


def corpus_of(folder: Path, parts: list[list[tuple[int, int, float, int]]]) -> Corpus:
    made, offset = [], 0
    for index, rows in enumerate(parts):
        path = folder / f"part-{index}.parquet"
        hi, lo, order, text = zip(*rows, strict=True) if rows else [()] * 4
        columns = {
            "hi": np.array(hi, dtype=UINT),
            "lo": np.array(lo, dtype=UINT),
            "order": np.array(order, dtype=float),
            "text_hi": np.array(text, dtype=UINT),
            "row": np.arange(len(rows), dtype=INT),
        }
        for suffix in (".keys.arrow", ".texts.arrow"):
            write_slices(path.with_suffix(suffix), bucket_of(columns["hi"]), NUM_BUCKETS, columns)
        made.append(Part(index, path, "d", "s", len(rows), offset, 0, True))
        offset += len(rows)
    return Corpus(tuple(made), {"folder": f"{folder}"})


@settings(max_examples=25)
@given(st.lists(ROWS, min_size=1, max_size=4), st.sampled_from([IdentifyStep, ExactStep]), st.integers(1, 4))
def test_groups_are_those_of_a_plain_dictionary_in_any_number_of_parts_and_tasks(tmp_path_factory, parts, kind, tasks):
    folder = tmp_path_factory.mktemp("groups")
    corpus = corpus_of(folder, parts)
    step: GroupStep = kind(corpus)
    for index, task in enumerate(bucket_ranges(tasks, 1)):
        step.run(task, index, folder)

    rows = [(*row, number) for number, row in enumerate(itertools.chain(*parts))]
    groups = defaultdict(list)
    for hi, lo, order, text, number in rows:
        groups[hi, lo].append((order, text, number) if kind is IdentifyStep else number)
    expected = {}
    for members in groups.values():
        numbers = [member[-1] if isinstance(member, tuple) else member for member in sorted(members)]
        if len(numbers) > 1:
            expected |= {number: (numbers[0], rank) for rank, number in enumerate(numbers)}

    class Done:
        def files(self, suffix: str) -> list[Path]:
            return sorted(folder.glob("groups-*.arrow"))

    found = {}
    for part in corpus.parts:
        for row, first, rank in zip(*groups_of_part(Done(), part), strict=True):
            assert 0 <= row < part.rows
            found[part.offset + row] = (first, rank)
    assert found == expected


def test_a_global_row_belongs_to_the_part_that_holds_it_even_beside_empty_ones(tmp_path):
    corpus = corpus_of(tmp_path, [[(0, 0, 0.0, 0)] * 3, [], [(0, 0, 0.0, 0)] * 2])
    assert part_of(corpus, np.arange(5)).tolist() == [0, 0, 0, 2, 2]


def test_grouping_again_does_nothing(tmp_path):
    corpus = corpus_of(tmp_path, [[(1, 1, 0.0, 0)] * 2])
    engine = Engine(tmp_path / "run")
    assert engine.run(ExactStep(corpus)).statistics == {}
    engine.run(ExactStep(corpus))
    assert len(engine.ran) == 1


@given(st.lists(st.integers(-3, 3)))
def test_distinct_values_are_a_set_in_order(values):
    assert distinct(np.array(values, dtype=INT)).tolist() == sorted(set(values))


# --- Packed keys -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 2**MOST_ROW_BITS), st.integers(1, 40))
def test_a_key_and_any_document_of_a_corpus_fit_into_one_word(documents, bands):
    packing = Packing.of(documents, bands)
    assert KEY_BITS - packing.slice_bits + packing.row_bits <= 64
    assert documents <= 1 << packing.row_bits


def test_more_documents_than_a_word_can_number_are_refused():
    with pytest.raises(RedoneError, match="too many to compare at once"):
        Packing.of(2**MOST_ROW_BITS + 1, 25)


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), max_size=20),
    st.integers(0, 6),
    st.integers(5, 24),
)
def test_each_key_lies_in_its_slice_with_its_document_and_keys_of_no_shingle_nowhere(keys, slice_bits, row_bits):
    row_bits = min(row_bits, 64 - KEY_BITS + slice_bits)  # what a word has room for
    keys = [[0, 0, 0], *keys]
    rows = np.arange(len(keys), dtype=INT)
    records, edges = pack_keys(np.array(keys, dtype=UINT), rows, slice_bits, row_bits)
    found = sorted(
        ((slice_id << (KEY_BITS - slice_bits)) | (int(word) >> row_bits), int(word) & ((1 << row_bits) - 1))
        for slice_id in range(1 << slice_bits)
        for word in records[edges[slice_id] : edges[slice_id + 1]]
    )
    assert found == sorted((key >> (64 - KEY_BITS), row) for row, own in enumerate(keys) if own[0] for key in own)


# --- Candidate pairs -------------------------------------------------------------------------------------------------

ROW_BITS = 20


def plain_candidates(entries: list[tuple[int, int, int, float]], first_old: int) -> tuple[set[tuple[int, int]], int]:
    buckets = defaultdict(list)
    for key, row, domain, value in entries:
        buckets[key].append((row, domain, value))
    pairs, crowded = set(), 0
    for members in buckets.values():
        if len(members) <= ALL_PAIRS_LIMIT:
            pairs |= {(min(a, b), max(a, b)) for (a, *_), (b, *_) in itertools.combinations(members, 2)}
            continue
        crowded += 1
        for domain in {domain for _, domain, _ in members}:
            own = sorted((-value, row) for row, own, value in members if own == domain)
            for _, best in own[:BEST_OF_A_CROWD]:
                pairs |= {(min(best, row), max(best, row)) for row, *_ in members if row != best}
    return {(left, right) for left, right in pairs if left < first_old}, crowded


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([0, 7, 2**20]), st.integers(0, 2), st.sampled_from([0.0, 1.0])), max_size=40),
    st.sampled_from([0, 0, ALL_PAIRS_LIMIT, ALL_PAIRS_LIMIT + 1, 40]),
    st.randoms(use_true_random=False),
)
def test_candidates_are_those_of_plain_python(small, crowd, random):
    keyed = [*small, *((2**30, number % 2, float(number % 5)) for number in range(crowd))]
    rows = list(range(len(keyed)))
    random.shuffle(rows)
    entries = [(key, row, domain, value) for (key, domain, value), row in zip(keyed, rows, strict=True)]
    first_old = len(entries) * 2 // 3
    described = {row: (domain, value) for _, row, domain, value in entries}
    records = np.sort(np.array([(key << ROW_BITS) | row for key, row, *_ in entries], dtype=UINT))

    found, crowds = bucket_pairs(records, ROW_BITS, first_old)
    members = records[members_of(crowds)] & UINT((1 << ROW_BITS) - 1)
    domains, values = np.array([described[row] for row in members.tolist()], dtype=float).reshape(-1, 2).T
    standing = Standing(domains.astype(INT), values, members)
    starred = crowd_pairs(members, np.diff(crowds, axis=1).ravel(), standing)
    words = distinct(np.concatenate([found, starred[lefts(starred) < first_old]]))
    pairs = set(zip(lefts(words).tolist(), rights(words).tolist(), strict=True))
    assert (pairs, len(crowds)) == plain_candidates(entries, first_old)


def test_a_viral_template_costs_pairs_by_its_size_and_not_by_its_square():
    size = 20_000
    members = np.arange(size, dtype=UINT)
    standing = Standing(np.zeros(size, dtype=INT), np.zeros(size), members)
    assert len(crowd_pairs(members, np.array([size]), standing)) == BEST_OF_A_CROWD * (size - 1)


@given(st.lists(st.integers(0, 2**64 - 1)), st.sampled_from([1, 2, 16]))
def test_all_finds_of_one_pair_and_all_pairs_of_one_document_meet_in_one_slice(pairs, num_slices):
    words, edges = slice_pairs(np.array([*pairs, *pairs], dtype=UINT), num_slices)
    assert sorted(words.tolist()) == sorted([*pairs, *pairs])
    slices = [set(lefts(words[start:end]).tolist()) for start, end in itertools.pairwise(edges)]
    assert len(slices) == num_slices
    assert sum(map(len, slices)) == len(set.union(*slices))


def test_pairs_of_neighbouring_documents_spread_evenly_over_slices():
    _, edges = slice_pairs(np.arange(40_000, dtype=UINT) << UINT(32), 256)
    counts = np.diff(edges)
    assert counts.min() > 0.6 * counts.mean()
    assert counts.max() < 1.5 * counts.mean()


# --- Verification ----------------------------------------------------------------------------------------------------

# Few letters, of one to four bytes, so that grams repeat within a text and are shared between texts.
LETTERS = st.lists(st.text("abé好𠀀", max_size=12), min_size=1, max_size=6)


def packed(texts: list[str]) -> Letters:
    return letters_of(pa.array(texts, pa.large_string()))


def plain_similarity(a: str, b: str) -> float:
    left, right = ({text[i : i + 5] for i in range(max(1, len(text) - 4))} - {""} for text in (a, b))
    return len(left & right) / max(1, len(left | right))


@given(LETTERS, st.data(), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_similarity_is_that_of_python_sets_wherever_the_letters_were_moved(texts, data, least):
    places = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1))
    stored = letters_column(packed(["skipped", *texts]))[1:]
    moved = join_letters([take_letters(packed(texts), np.array(places, dtype=INT)), column_letters(stored)])
    left, right = (side.ravel() for side in np.indices((len(places), len(texts))))
    found = similarities(moved, left, right + len(places), least)
    expected = [
        plain_similarity(texts[places[i]], texts[j]) for i, j in zip(left.tolist(), right.tolist(), strict=True)
    ]
    assert found.tolist() == [value if value >= least else 0 for value in expected]


def test_texts_less_alike_than_asked_are_not_alike_at_all():
    texts = packed(["aaaaa", "aaaaabaa"])
    assert similarities(texts, np.array([0]), np.array([1])).tolist() == [0.25]
    assert similarities(texts, np.array([0]), np.array([1]), 0.3).tolist() == [0]


def test_no_letters_are_like_nothing():
    assert similarities(packed(["", "", "a"]), np.array([0, 0]), np.array([1, 2])).tolist() == [0, 0]
    assert len(column_letters(letters_column(packed(["a"]))[1:]).data) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [({"threshold": 0}, "threshold: 0"), ({"threshold": 1.1}, "above 0 and at most 1"), ({"bands": 0}, "at least 1")],
)
def test_near_settings_that_could_find_nothing_are_refused(given, message):
    with pytest.raises(RedoneError, match=message):
        NearConfig(**given)


# --- Who stays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"keep": "quality"}, {"keep": "length", "quality": "num_words"}])
def test_a_quality_without_its_use_or_the_use_without_a_quality_is_refused(given):
    with pytest.raises(RedoneError, match="name an attribute under quality"):
        DuplicatesConfig(**given)


@given(
    st.permutations(range(10)),
    st.lists(st.booleans(), min_size=10, max_size=10),
    st.lists(st.integers(0, 5), min_size=10, max_size=10),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25),
)
def test_going_from_best_to_worst_each_text_yields_to_the_best_kept_one_near_it(order, passes, texts, pairs):
    first: dict[int, int] = {}
    text = [first.setdefault(texts[node], node) for node in range(10)]
    edges = {(min(text[a], text[b]), max(text[a], text[b])): 0.5 + (a + b) / 100 for a, b in pairs}
    edges = {pair: score for pair, score in edges.items() if pair[0] != pair[1]}
    a, b = np.array(list(edges), dtype=np.int32).reshape(-1, 2).T
    arrays = np.array(order, dtype=np.int32), np.array(passes), np.array(text, dtype=np.int32)
    keeper, score = keep_greedily(*arrays, a, b, np.array(list(edges.values()), dtype=np.float32))

    expected, expected_score = [-1] * 10, [1.0] * 10
    kept: list[int] = []
    yields: dict[int, tuple[int, float]] = {}
    for node in [node for node in order if passes[node]]:
        own = text[node]
        twin = [other for other in kept if text[other] == own]
        if own not in yields and not twin:
            near = [(other, edges.get((min(own, text[other]), max(own, text[other])))) for other in kept]
            found = [(other, similarity) for other, similarity in near if similarity is not None]
            if not found:
                kept.append(node)
                continue
            yields[own] = found[0]
        expected[node], expected_score[node] = yields.get(own, (twin[0], 1.0) if twin else (-1, 1.0))
    assert keeper.tolist() == expected
    assert score.tolist() == pytest.approx(expected_score)
