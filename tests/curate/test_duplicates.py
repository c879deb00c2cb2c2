"""Grouping, candidate pairs and the choice of who stays, against plain Python."""

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redone_data.corpus import Corpus, Part
from redone_data.curate.groups import ExactStep, GroupStep, IdentifyStep, groups_of_part, part_of
from redone_data.curate.near import (
    ALL_PAIRS_LIMIT,
    BEST_OF_A_CROWD,
    NearConfig,
    _candidate_pairs,
    _pair_bucket,
    _standing,
    _unique_pairs,
)
from redone_data.curate.resolve import _best, _keep_greedily
from redone_data.engine import Engine
from redone_data.errors import RedoneError
from redone_data.exchange import NUM_BUCKETS, bucket_of, bucket_ranges, read_slices, write_slices

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


# --- Candidate pairs -------------------------------------------------------------------------------------------------


def plain_candidates(keys: list[int], rows: list[int], domains: list[int]) -> tuple[set[tuple[int, int]], int]:
    buckets = defaultdict(list)
    for key, row, domain in zip(keys, rows, domains, strict=True):
        buckets[key].append((row, domain))
    pairs, crowded = set(), 0
    for members in buckets.values():
        if len(members) <= ALL_PAIRS_LIMIT:
            pairs |= {(min(a, b), max(a, b)) for (a, _), (b, _) in itertools.combinations(members, 2)}
            continue
        crowded += 1
        for domain in {domain for _, domain in members}:
            for best, _ in [member for member in members if member[1] == domain][:BEST_OF_A_CROWD]:
                pairs |= {(min(best, row), max(best, row)) for row, _ in members if row != best}
    return pairs, crowded


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([0, 7, 2**64 - 1]), st.integers(0, 2)), max_size=40),
    st.sampled_from([0, 0, ALL_PAIRS_LIMIT, ALL_PAIRS_LIMIT + 1, 80]),
    st.randoms(use_true_random=False),
)
def test_candidates_are_those_of_plain_python(small, crowd, random):
    entries = sorted(small + [(2**63, number % 2) for number in range(crowd)])
    rows = list(range(len(entries)))
    random.shuffle(rows)
    keys, domains = [key for key, _ in entries], [domain for _, domain in entries]
    arrays = np.array(keys, dtype=UINT), np.array(rows, dtype=INT), np.array(domains, dtype=UINT)
    left, right, crowded = _candidate_pairs(*arrays)
    expected, expected_crowded = plain_candidates(keys, rows, domains)
    assert (set(zip(left.tolist(), right.tolist(), strict=True)), crowded) == (expected, expected_crowded)
    assert (left < right).all()


def test_a_key_of_one_document_gives_no_pair():
    left, right, crowded = _candidate_pairs(np.arange(5, dtype=UINT), np.arange(5), np.zeros(5, dtype=UINT))
    assert (len(left), len(right), crowded) == (0, 0, 0)


def test_a_viral_template_costs_pairs_by_its_size_and_not_by_its_square():
    size = 20_000
    left, _, crowded = _candidate_pairs(np.zeros(size, dtype=UINT), np.arange(size), np.zeros(size, dtype=UINT))
    assert crowded == 1
    assert len(left) == BEST_OF_A_CROWD * (size - 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40))
def test_unique_pairs_are_a_set_in_order(pairs):
    left, right = np.array(pairs, dtype=INT).reshape(-1, 2).T
    found = list(zip(*(side.tolist() for side in _unique_pairs(left, right)), strict=True))
    assert found == sorted(set(pairs))


def test_pairs_spread_evenly_over_slices():
    left, right = (side.ravel() for side in np.meshgrid(np.arange(200), np.arange(200)))
    counts = np.bincount(_pair_bucket(left, right), minlength=NUM_BUCKETS)
    assert counts.min() > 0.6 * counts.mean()
    assert counts.max() < 1.5 * counts.mean()


NUMBERS = st.floats(allow_nan=False, width=16)


@given(st.lists(st.tuples(st.integers(0, 3), NUMBERS, st.integers(0, 255)), min_size=1, max_size=30))
def test_standing_sorts_by_domain_then_engagement_downwards_then_id(documents):
    standing = [
        int(_standing(domain, np.array([engagement]), np.array([key << 56], dtype=UINT))[0])
        for domain, engagement, key in documents
    ]
    order = sorted(range(len(documents)), key=lambda i: standing[i])
    expected = [(domain, -engagement, key) for domain, engagement, key in documents]
    assert [expected[i] for i in order] == sorted(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"threshold": 0}, "threshold: 0"), ({"threshold": 1.1}, "above 0 and at most 1"), ({"bands": 0}, "at least 1")],
)
def test_near_settings_that_could_find_nothing_are_refused(given, message):
    with pytest.raises(RedoneError, match=message):
        NearConfig(**given)


# --- Who stays -------------------------------------------------------------------------------------------------------


@given(st.permutations(range(8)), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_going_from_best_to_worst_each_yields_to_the_best_kept_neighbour(rank, pairs):
    edges = {(min(a, b), max(a, b)): 0.5 + (a + b) / 100 for a, b in pairs if a != b}
    a, b = np.array(list(edges), dtype=INT).reshape(-1, 2).T
    winner, score = _keep_greedily(np.array(rank), a, b, np.array(list(edges.values()), dtype=float))

    expected, expected_score = [-1] * 8, [1.0] * 8
    kept: list[int] = []
    for node in sorted(range(8), key=lambda n: rank[n]):
        for better in sorted(kept, key=lambda n: rank[n]):
            pair = min(node, better), max(node, better)
            if pair in edges:
                expected[node], expected_score[node] = better, edges[pair]
                break
        else:
            kept.append(node)
    assert (winner.tolist(), score.tolist()) == (expected, expected_score)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=15), st.randoms(use_true_random=False))
def test_of_each_text_the_best_passing_document_is_chosen(documents, random):
    order = list(range(len(documents)))
    random.shuffle(order)
    text_of = np.array([text for text, _ in documents], dtype=INT)
    passes = np.array([passing for _, passing in documents], dtype=bool)
    expected = [-1] * 5
    for node in reversed(order):
        if passes[node]:
            expected[text_of[node]] = node
    assert _best(np.array(order, dtype=INT), passes, text_of, 5).tolist() == expected
