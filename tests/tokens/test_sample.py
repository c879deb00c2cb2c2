import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import DOCUMENTS, Made, document_id, made_up_texts, make

from redone_data.engine import Engine, ExecutorConfig, Output
from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST
from redone_data.mixture import Mixture
from redone_data.tokens import shuffle
from redone_data.tokens.part import keyed_hash
from redone_data.tokens.pool import pools
from redone_data.tokens.sample import PlanStep, SampleConfig, choose, sample
from redone_data.tokens.shuffle import ScatterStep, ShardStep, shard_of
from redone_data.tokens.tokenizer import tokenizer_of
from redone_data.tokens.write import write_dataset

MIXTURE = Mixture.of({"chat": 0.3, "notes/旅行": 0.2, "wiki": 0.5})
CONFIG = SampleConfig(budget=20_000, shard_tokens=6_000)


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=300),
    hashes=st.sampled_from(["spread", "crowded", "equal"]),
    epochs=st.floats(0.001, 9),
    batches=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_realised_tokens_are_within_half_a_document_of_the_target(
    lengths: list[int], hashes: str, epochs: float, batches: int
) -> None:
    num_tokens = np.array(lengths, np.int64)
    random = np.random.default_rng(len(lengths))
    u = random.integers(0, 2**64, len(lengths), np.uint64)
    if hashes == "crowded":  # all in the last bin of the histogram
        u |= np.uint64(0xFFFF_0000_0000_0000)
    if hashes == "equal":
        u[:] = np.uint64(2**64 - 1)
    target = round(epochs * int(num_tokens.sum()))
    choice = choose(
        lambda: list(zip(np.array_split(u, batches), np.array_split(num_tokens, batches), strict=True)),
        target,
        int(num_tokens.sum()),
        len(lengths),
    )
    copies = choice.full + (u < np.uint64(choice.cut)).astype(np.int64)
    assert int((copies * num_tokens).sum()) == choice.tokens
    assert int(copies.sum()) == choice.documents
    step = num_tokens.sum() if hashes == "equal" else num_tokens.max()
    assert abs(choice.tokens - target) <= (step + 1) / 2
    assert copies.max() - copies.min() <= 1


def many_documents() -> tuple[Any, np.ndarray[Any, np.dtype[np.int64]]]:
    random = np.random.default_rng(5)
    return random.integers(0, 2**64, 200_000, np.uint64), random.geometric(0.01, 200_000)


@pytest.mark.parametrize("epochs", [0.0001, 0.37, 1.0, 2.5])
def test_a_large_pool_meets_its_share_to_one_part_in_ten_thousand(epochs: float) -> None:
    u, num_tokens = many_documents()
    total = int(num_tokens.sum())
    choice = choose(lambda: [(u, num_tokens)], round(epochs * total), total, len(u))
    assert abs(choice.tokens - epochs * total) <= max(num_tokens.max(), 1e-4 * epochs * total)


def test_shards_are_runs_of_the_whole_order() -> None:
    order = np.sort(np.random.default_rng(1).integers(0, 2**64, 10_000, np.uint64))
    shards = shard_of(order, 7)
    assert np.all(np.diff(shards) >= 0)
    assert set(shards.tolist()) == set(range(7))


def test_hashes_are_uniform_and_differ_by_purpose_seed_and_copy() -> None:
    ids = pl.Series([document_id("x", row) for row in range(4_000)]).to_arrow()
    zeros = np.zeros(4_000, np.int64)
    streams = [
        keyed_hash(ids, 1, "epoch"),
        keyed_hash(ids, 1, "order"),
        keyed_hash(ids, 2, "epoch"),
        keyed_hash(ids, 1, "order", zeros + 1),
        keyed_hash(ids, 1, "order", zeros + 2),
    ]
    units = np.array([stream.astype(np.float64) / 2.0**64 for stream in streams])
    assert np.all(np.abs(units.mean(axis=1) - 0.5) < 0.02)
    correlations = np.asarray(np.corrcoef(units)) - np.eye(len(units))
    assert np.abs(correlations).max() < 0.06
    assert np.array_equal(keyed_hash(ids, 1, "order", zeros), streams[1])


def test_shares_match_weights_and_every_token_is_a_documents_own(tmp_path: Path, made: Made) -> None:
    drawn = sample(made.engine, made.pool, MIXTURE, CONFIG, seed=3)
    dataset = write_dataset(tmp_path / "dataset", drawn, made.tokenizer)
    spans = dataset.spans().collect()
    longest = {domain: max(len(text.encode()) for text in texts) + 1 for domain, texts in DOCUMENTS.items()}
    for domain, weight in MIXTURE.items():
        tokens = int(spans.filter(pl.col("domain") == domain)["num_tokens"].sum())
        assert abs(tokens - weight * CONFIG.budget) <= longest[domain]
        assert dataset.manifest["epochs"][domain] == pytest.approx(tokens / pools(made.pool)[domain].tokens)
    tokenizer, eos = tokenizer_of(made.tokenizer), made.tokenizer.statistics["eos_token_id"]
    texts = {document_id(domain, row): text for domain in DOCUMENTS for row, text in enumerate(DOCUMENTS[domain])}
    for number, row in enumerate(spans.iter_rows(named=True)):
        expected = [*tokenizer.encode(texts[row["id"]], add_special_tokens=False).ids, eos]
        assert dataset.document(number).tolist() == expected
        assert dataset.tokens(row["start"], row["start"] + row["num_tokens"]).tolist() == expected
    held_out = {document_id(domain, row) for domain in DOCUMENTS for row in range(7, len(DOCUMENTS[domain]), 8)}
    assert held_out.isdisjoint(spans["id"])


def test_copies_of_documents_differ_by_at_most_one_and_are_numbered(tmp_path: Path, made: Made) -> None:
    drawn = sample(made.engine, made.pool, MIXTURE, CONFIG, seed=3)
    spans = write_dataset(tmp_path / "dataset", drawn, made.tokenizer).spans().collect()
    epochs = drawn.plan.statistics["epochs"]
    assert epochs["chat"] > 3
    assert epochs["notes/旅行"] < 1
    counts = spans.group_by("domain", "id").agg(pl.len(), pl.col("copy").sort())
    for row in counts.iter_rows(named=True):
        assert row["copy"] == list(range(row["len"]))
        assert row["len"] in (int(epochs[row["domain"]]), int(epochs[row["domain"]]) + 1)
    chat = counts.filter(pl.col("domain") == "chat")
    assert len(chat) == pools(made.pool)["chat"].documents


def test_a_larger_budget_keeps_the_documents_of_a_smaller_one(made: Made) -> None:
    plans = [made.engine.run(PlanStep(made.pool, MIXTURE, SampleConfig(n), 3)) for n in (4_000, 9_000)]
    for small, large in zip(plans[0].tasks, plans[1].tasks, strict=True):
        assert (small["full"], small["cut"]) <= (large["full"], large["cut"])


def test_the_shuffle_mixes_domains_and_separates_copies(tmp_path: Path, made: Made) -> None:
    drawn = sample(made.engine, made.pool, Mixture.of({"wiki": 1, "chat": 1}), SampleConfig(60_000), seed=1)
    spans = write_dataset(tmp_path / "dataset", drawn, made.tokenizer).spans().collect()
    halves = [spans[: len(spans) // 2], spans[len(spans) // 2 :]]
    shares = [half.filter(pl.col("domain") == "chat").height / half.height for half in halves]
    assert abs(shares[0] - shares[1]) < 0.05
    neighbours = (spans["id"][1:] == spans["id"][:-1]).sum()
    assert neighbours < 0.02 * len(spans)


def test_order_of_parts_and_number_of_workers_change_no_byte(
    tmp_path: Path, made: Made, digests: Callable[[Output], dict[str, str]]
) -> None:
    turned = make(tmp_path, DOCUMENTS, reverse=True)
    first = sample(made.engine, made.pool, MIXTURE, CONFIG, seed=3)
    second = sample(turned.engine, turned.pool, MIXTURE, CONFIG, seed=3)
    assert digests(first.shards) == digests(second.shards)
    assert digests(sample(made.engine, made.pool, MIXTURE, CONFIG, seed=4).shards) != digests(first.shards)
    engine = Engine(tmp_path / "two", ExecutorConfig(workers=2))
    scattered = engine.run(ScatterStep(first.plan, turned.pool))
    assert digests(turned.engine.run(ShardStep(second.plan, turned.pool, scattered))) == digests(first.shards)


def test_another_number_of_parts_gives_the_same_dataset(tmp_path: Path, made: Made) -> None:
    other = make(tmp_path, DOCUMENTS, parts=5)
    first = sample(made.engine, made.pool, MIXTURE, CONFIG, seed=3).shards
    second = sample(other.engine, other.pool, MIXTURE, CONFIG, seed=3).shards
    assert [path.read_bytes() for path in first.files(".ds")] == [path.read_bytes() for path in second.files(".ds")]


def test_size_of_exchange_files_does_not_show(
    tmp_path: Path, made: Made, digests: Callable[[Output], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sample(made.engine, made.pool, MIXTURE, CONFIG, seed=3)
    monkeypatch.setattr(shuffle, "_CHUNK_BYTES", 999)
    monkeypatch.setattr(shuffle, "_ROWS", 65_536)
    engine = Engine(tmp_path)
    scattered = engine.run(ScatterStep(first.plan, made.pool))
    assert len(scattered.files(".arrow")) > 10
    assert digests(engine.run(ShardStep(first.plan, made.pool, scattered))) == digests(first.shards)


def test_text_comes_out_in_the_order_of_the_tokens(tmp_path: Path, made: Made) -> None:
    tokens = sample(made.engine, made.pool, MIXTURE, CONFIG, seed=3)
    texts = sample(made.engine, made.pool, MIXTURE, CONFIG, seed=3, emit="text", parts=made.parts)
    dataset = write_dataset(tmp_path / "dataset", tokens, made.tokenizer)
    table = pl.concat([pl.read_parquet(path) for path in texts.shards.files(".parquet")])
    columns = ["id", "domain", "copy"]
    assert table.select(columns).equals(dataset.spans().select(columns).collect())
    assert table.columns == [*columns, "text"]
    for number, text in enumerate(table["text"]):
        assert dataset.decode(dataset.document(number)[:-1], keep_special=True) == text
    with pytest.raises(RedoneError, match="emit='tokens'"):
        write_dataset(tmp_path / "other", texts, made.tokenizer)


def test_text_of_other_parts_is_refused(made: Made) -> None:
    strangers = tuple(replace(part, sha256="0" * 64) for part in made.parts)
    with pytest.raises(RedoneError, match="not those behind these tokens"):
        sample(made.engine, made.pool, MIXTURE, SampleConfig(123), seed=3, emit="text", parts=strangers)


@pytest.mark.parametrize("stage", ["plan", "scatter", "shards"])
def test_a_killed_run_resumes_to_the_same_bytes(
    tmp_path: Path, made: Made, digests: Callable[[Output], dict[str, str]], stage: str
) -> None:
    engine = Engine(tmp_path)
    whole = sample(engine, made.pool, MIXTURE, CONFIG, seed=3)
    before = digests(whole.shards)
    scatter = engine.folder(ScatterStep(whole.plan, made.pool))
    order = {"plan": whole.plan.folder, "scatter": scatter, "shards": whole.shards.folder}
    folder = order[stage]
    (folder / MANIFEST).unlink()
    for path in sorted(folder.glob("*0.*"))[:2]:
        path.unlink()
    assert digests(sample(engine, made.pool, MIXTURE, CONFIG, seed=3).shards) == before


def test_a_weight_for_a_domain_without_documents_is_refused(tmp_path: Path) -> None:
    empty = make(tmp_path, {"wiki": DOCUMENTS["wiki"], "void": []})
    with pytest.raises(RedoneError, match=r"domain 'void' has weight 0\.5 but no training document"):
        sample(empty.engine, empty.pool, Mixture.of({"wiki": 1, "void": 1}), CONFIG, seed=1)
    assert sample(empty.engine, empty.pool, Mixture.of({"wiki": 1, "void": 0}), CONFIG, seed=1).shards.tasks


def test_wrong_domains_and_budgets_are_refused(made: Made) -> None:
    with pytest.raises(RedoneError, match="did you mean 'wiki'"):
        sample(made.engine, made.pool, Mixture.of({"wikis": 1}), CONFIG, seed=1)
    with pytest.raises(RedoneError, match="at least 1 token"):
        SampleConfig(0)
    with pytest.raises(RedoneError, match="choose no document at all"):
        sample(made.engine, made.pool, Mixture.of({"wiki": 1}), SampleConfig(1), seed=1)


def test_more_shards_than_documents_leaves_empty_shards_that_still_read(tmp_path: Path, made: Made) -> None:
    drawn = sample(made.engine, made.pool, Mixture.of({"wiki": 1}), SampleConfig(900, 10), seed=1)
    dataset = write_dataset(tmp_path / "dataset", drawn, made.tokenizer)
    assert any(shard["documents"] == 0 for shard in dataset.manifest["shards"])
    whole = np.concatenate([dataset.document(i) for i in range(dataset.num_documents)])
    assert np.array_equal(dataset.tokens(0, dataset.num_tokens), whole)


def test_golden_bytes_of_a_dataset(tmp_path: Path) -> None:
    """When this fails, output has changed: raise VERSION of the step that changed, then this digest."""
    fixed = make(tmp_path, {"a": made_up_texts("a", 50), "b": made_up_texts("b", 80)})
    drawn = sample(fixed.engine, fixed.pool, Mixture.uniform(["a", "b"]), SampleConfig(3_000, 1_000), seed=1)
    content = b"".join(path.read_bytes() for path in drawn.shards.files(".ds"))
    assert hashlib.sha256(content).hexdigest()[:16] == "5e5285e6eae09219"
