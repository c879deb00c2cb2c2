"""Rows, their order and the batches: every token once an epoch, the same batches on any number of ranks."""

import itertools
import multiprocessing
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from token_data import EOS, write_tokens

from redone_data.errors import RedoneError
from redone_data.mixture import Mixture
from redone_data.tokens.dataset import TokenDataset
from redone_train.data.batches import Batches, BatchShape, RankSampler, loader
from redone_train.data.blend import Blend, Phase
from redone_train.data.order import permuted
from redone_train.data.packing import Packed, packed
from redone_train.data.rows import IGNORED, RowSource
from redone_train.data.windows import Windows

BOS = 99


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    rng = np.random.default_rng(0)
    shards = [[rng.integers(1, 90, size).tolist() for size in rng.integers(0, 40, count)] for count in (60, 1, 45)]
    return write_tokens(tmp_path_factory.mktemp("tokens") / "posts", shards)


def whole(dataset: TokenDataset) -> list[int]:
    return [int(token) for token in dataset.tokens(0, dataset.num_tokens)]


def sources(dataset: TokenDataset, folder: Path, length: int) -> list[RowSource]:
    packings: list[RowSource] = [Packed(dataset, length, folder, before) for before in (EOS, BOS)]
    return [Windows(dataset, length), Windows(dataset, length, masked=False), *packings]


@pytest.mark.parametrize("length", [4, 16, 33, 4096])
def test_an_epoch_reads_every_token_once_and_predicts_the_one_that_follows(
    dataset: TokenDataset, tmp_path: Path, length: int
) -> None:
    tokens = whole(dataset)
    for source in sources(dataset, tmp_path, length):
        seen = np.zeros(len(tokens), np.int64)
        rows = source.read(np.arange(source.num_rows))
        before = source.identity.get("before")
        for row in range(source.num_rows):
            at = 0
            for start, stop in source.pieces(row):
                seen[start:stop] += 1
                if before is not None:
                    assert rows.input_NL[row, at] == before
                    assert rows.target_NL[row, at] == tokens[start]
                    at += 1
                assert rows.input_NL[row, at : at + stop - start].tolist() == tokens[start:stop]
                for i in range(start, stop):
                    target = int(rows.target_NL[row, at + i - start])
                    if target != IGNORED:
                        assert target == tokens[i + 1]
                    else:
                        assert tokens[i] == EOS or i + 1 == stop
                at += stop - start
            assert (rows.target_NL[row, at:] == IGNORED).all()
        assert (seen == 1).all(), source.identity


def test_no_target_is_lost_but_those_across_documents(dataset: TokenDataset, tmp_path: Path) -> None:
    """A row cut in the middle of a document still trains its last token."""
    for source in sources(dataset, tmp_path, 16):
        rows = source.read(np.arange(source.num_rows))
        targets = int((rows.target_NL != IGNORED).sum())
        if isinstance(source, Windows) and not source.masked:
            assert targets == dataset.num_tokens - 1
        else:
            pieces = sum(len(source.pieces(row)) for row in range(source.num_rows))
            assert targets == dataset.num_tokens - dataset.num_documents + ("before" in source.identity) * pieces


def test_positions_start_anew_with_each_document_and_nowhere_else(dataset: TokenDataset, tmp_path: Path) -> None:
    masked = Windows(dataset, 32).read(np.array([3]))
    starts = np.flatnonzero(masked.position_NL[0] == 0)
    assert starts.tolist() == [0, *(np.flatnonzero(masked.input_NL[0][:-1] == EOS) + 1)]
    assert set(np.diff(masked.position_NL[0])) <= {1, *(1 - np.diff([*starts, 32]))}
    unmasked = Windows(dataset, 32, masked=False).read(np.array([3]))
    assert unmasked.position_NL[0].tolist() == list(range(32))


def test_windows_with_masks_refuse_a_model_that_wants_a_token_before_every_text(dataset: TokenDataset) -> None:
    with pytest.raises(RedoneError, match="layout: packed"):
        Windows(dataset, 32, bos=BOS)


@given(sizes=st.lists(st.integers(1, 70), max_size=200), length=st.integers(2, 64))
@settings(deadline=None, max_examples=200)
def test_packing_is_best_fit_decreasing(sizes: list[int], length: int) -> None:
    """The reference: pieces from long to short, each into the row with the least room that is enough."""
    ends = np.cumsum(sizes).astype(np.uint64)
    plan = packed(ends, length)
    lead = 1
    pieces = []
    for size in sizes:
        whole_pieces, rest = divmod(size, length - lead)
        pieces += [length - lead] * whole_pieces + [rest] * (rest > 0)
    rooms: list[int] = []
    for size in sorted(pieces, reverse=True):
        fitting = [room for room in rooms if room >= size + lead and room > lead]
        if fitting:
            rooms[rooms.index(min(fitting))] -= size + lead
        else:
            rooms.append(length - size - lead)
    assert len(plan.row_ends_R) == len(rooms)
    edges = [0, *plan.row_ends_R.tolist()]
    used = [np.abs(plan.length_K[a:b]).sum() + lead * (b - a) for a, b in itertools.pairwise(edges)]
    assert sorted(length - int(total) for total in used) == sorted(rooms)


def test_a_packing_plan_is_found_again_and_not_made_twice(dataset: TokenDataset, tmp_path: Path) -> None:
    first = Packed(dataset, 64, tmp_path, EOS)
    rows = first.read(np.arange(first.num_rows))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = Packed(dataset, 64, tmp_path, EOS)
    assert np.array_equal(again.read(np.arange(again.num_rows)).input_NL, rows.input_NL)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps


@given(size=st.integers(1, 3000), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_an_order_is_a_permutation(size: int, seed: int) -> None:
    assert sorted(permuted(seed, "rows", size=size, positions_N=np.arange(size)).tolist()) == list(range(size))


@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda weights: sum(weights) > 0.01),
    seed=st.integers(0, 3),
)
@example(weights=[0.5, 0.125, 0.6640625, 0.01171875], seed=1)
@settings(deadline=None, max_examples=100)
def test_shares_hold_at_every_moment_of_a_run(weights: list[float], seed: int) -> None:
    names = [f"source-{i}" for i in range(len(weights))]
    mixture = Mixture.of(dict(zip(names, weights, strict=True)))
    blend = Blend(dict.fromkeys(names, 1000), [Phase(500, mixture)], seed)
    source_N, _ = blend.lookup(np.arange(500))
    counts_NS = np.cumsum(np.eye(len(weights), dtype=np.int64)[source_N], axis=0)
    expected_NS = np.arange(1, 501)[:, None] * np.array(mixture.shares)
    assert np.abs(counts_NS - expected_NS).max() < max(1, len(weights) - 1)
    assert blend.rows_read() == dict(zip(names, counts_NS[-1].tolist(), strict=True))


def test_each_epoch_of_a_source_shows_all_its_rows_in_another_order() -> None:
    phases = [Phase(60, Mixture.of({"a": 1, "b": 2})), Phase(40, Mixture.of({"a": 1}))]
    blend = Blend({"a": 20, "b": 100}, phases, seed=1)
    source_N, row_N = blend.lookup(np.arange(100))
    rows_of_a = row_N[source_N == 0]
    assert len(rows_of_a) == 60
    epochs = rows_of_a.reshape(3, 20)
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    assert len(set(row_N[source_N == 1].tolist())) == 40


def test_any_sample_can_be_asked_for_alone() -> None:
    blend = Blend({"a": 7, "b": 13}, [Phase(200, Mixture.of({"a": 0.3, "b": 0.7}))], seed=2)
    together = np.stack(blend.lookup(np.arange(200)))
    alone = np.array([np.concatenate(blend.lookup(np.array([i]))) for i in range(200)]).T
    assert np.array_equal(together, alone)


def test_a_weight_for_a_source_without_rows_is_an_error() -> None:
    with pytest.raises(RedoneError, match="source 'b' has a weight"):
        Blend({"a": 5, "b": 0}, [Phase(10, Mixture.of({"a": 1, "b": 1}))], seed=1)
    with pytest.raises(RedoneError, match="'c' is not in"):
        Blend({"a": 5}, [Phase(10, Mixture.of({"c": 1}))], seed=1)


@pytest.fixture(scope="module")
def batches(dataset: TokenDataset, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    rows: dict[str, RowSource] = {
        "packed": Packed(dataset, 24, tmp_path_factory.mktemp("plans"), EOS),
        "windows": Windows(dataset, 24),
    }
    sizes = {name: source.num_rows for name, source in rows.items()}
    return Batches(rows, Blend(sizes, [Phase(240, Mixture.of({"packed": 0.6, "windows": 0.4}))], seed=3))


def global_batches(batches: Batches, rank_rows: int, ranks: int, first_step: int = 0, workers: int = 0) -> np.ndarray:
    shape = BatchShape(24, rank_rows, ranks)
    read = []
    for rank in range(ranks):
        sampler = RankSampler(shape, rank, num_steps=10)
        sampler.first_step = first_step
        read.append(np.stack([b["input_ids"].numpy() for b in loader(batches, sampler, workers, pinned=False)]))
    # ranks x (steps x micro-batches) x rows x L -> steps x rows x L
    return np.stack(read, axis=1).reshape(10 - first_step, 24, 24)


@pytest.mark.parametrize(("rank_rows", "ranks"), [(24, 1), (4, 1), (6, 2), (1, 8), (3, 8)])
def test_a_step_is_the_same_on_any_number_of_ranks_and_however_the_batch_is_split(
    batches: Batches, rank_rows: int, ranks: int
) -> None:
    assert np.array_equal(global_batches(batches, rank_rows, ranks), global_batches(batches, 12, 1))


def test_a_run_goes_on_at_any_step_with_the_batches_that_would_have_come(batches: Batches) -> None:
    assert np.array_equal(global_batches(batches, 6, 2, first_step=7), global_batches(batches, 6, 2)[7:])
    assert np.array_equal(global_batches(batches, 6, 2, workers=2), global_batches(batches, 6, 2))


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system does not say who sent a signal")
def test_workers_read_on_when_a_scheduler_tells_all_processes_to_stop_and_end_when_the_parent_does(
    batches: Batches,
) -> None:
    iterator = iter(loader(batches, RankSampler(BatchShape(24, 24), 0, num_steps=10), 1, pinned=False))
    next(iterator)
    (worker,) = multiprocessing.active_children()
    for name in ("TERM", "INT", "USR1"):
        subprocess.run(["sh", "-c", f"kill -{name} {worker.pid}"], check=True)  # another process than the parent
    assert sum(1 for _ in iterator) == 9
    iterator = iter(loader(batches, RankSampler(BatchShape(24, 24), 0, num_steps=10), 1, pinned=False))
    next(iterator)
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


def test_a_global_batch_that_cannot_be_split_is_an_error() -> None:
    with pytest.raises(RedoneError, match="24 rows cannot be 5 ranks x 2 rows"):
        BatchShape(24, 2, 5)


def test_the_documents_of_a_batch_can_be_named(batches: Batches, dataset: TokenDataset) -> None:
    named = batches.documents(np.arange(240))
    assert {name.split("/")[1] for name in named} <= set(dataset.spans().collect()["id"])
    source_N, row_N = batches.blend.lookup(np.array([5]))
    source = batches.sources[int(source_N[0])]
    spans = dataset.spans().collect()
    expected = [
        spans.filter((spans["start"] <= start) & (start < spans["start"] + spans["num_tokens"]))["id"].item()
        for start, _ in source.pieces(int(row_N[0]))
    ]
    assert [name.split("/")[1] for name in batches.documents(np.array([5]))] == list(dict.fromkeys(expected))
