"""Bits per byte by domain while a model trains: the right documents, every token once, on any number of ranks."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from token_data import EOS, write_tokens
from torch.nn import functional as F  # noqa: N812
from transformers import LlamaConfig, LlamaForCausalLM

from redone_data.errors import RedoneError
from redone_data.manifest import write_json
from redone_data.tokens.dataset import TokenDataset
from redone_train.data.evaluation import DomainEvaluation, evaluate, rank_rows, read_history, table
from redone_train.data.held_out import HeldOut, open_pools
from redone_train.data.rows import IGNORED

VOCAB, BOS, LENGTH = 64, 63, 24


def write_pool(folder: Path, files: Sequence[Sequence[Sequence[int]]]) -> None:
    """A domain's folder as a run publishes it: no manifest."""
    made = write_tokens(folder, files, VOCAB)
    (made.folder / "manifest.json").unlink()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: training tokens, and two held-out domains, one of them in two files."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("run")
    documents = [rng.integers(1, 60, size).tolist() for size in rng.integers(3, 60, 90)]
    write_tokens(folder / "tokens", [documents[:50]], VOCAB)
    write_pool(folder / "validation" / "notes", [documents[50:60], documents[60:75]])
    write_pool(folder / "validation" / "wiki%2Fen", [documents[75:]])
    return folder


@pytest.fixture(scope="module")
def dataset(run: Path) -> TokenDataset:
    return TokenDataset.open(run / "tokens")


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    made: Any = LlamaForCausalLM
    return made(config).eval()


def opened(run: Path, dataset: TokenDataset, tokens: int = 10_000, bos: int = -1) -> list[HeldOut]:
    return open_pools({"held": run / "validation"}, dataset, length=LENGTH, bos=bos, tokens=tokens)


@torch.no_grad()
def alone(model: Any, pool: HeldOut, before: int) -> float:
    """The nats of each document by itself, in pieces of a row: the reference."""
    total = 0.0
    for document in np.split(pool.tokens.astype(np.int64), pool.ends_D[:-1].astype(np.int64)):
        for start in range(0, len(document), LENGTH - 1):
            piece = torch.from_numpy(document[start : start + LENGTH - 1])
            tokens = torch.cat([torch.tensor([before]), piece[:-1]])
            total += float(F.cross_entropy(model(tokens[None]).logits[0], piece, reduction="sum"))
    return total


@pytest.mark.parametrize("bos", [-1, BOS])
def test_every_token_of_a_document_costs_what_it_costs_alone(
    run: Path, dataset: TokenDataset, model: Any, bos: int
) -> None:
    """With a token before every text or the end-of-document token in its place; no document sees another one."""
    pools = opened(run, dataset, bos=bos)
    assert [pool.name for pool in pools] == ["held/notes", "held/wiki/en"]
    losses = evaluate(model, pools, rows_per_device=3)
    for pool in pools:
        nats = alone(model, pool, bos if bos >= 0 else EOS)
        loss = losses[pool.name]
        assert loss.tokens == len(pool.tokens)
        assert loss.nats_per_token == pytest.approx(nats / len(pool.tokens), rel=1e-5)
        # token_data.py says 3 bytes a token
        assert loss.bits_per_byte == pytest.approx(nats / math.log(2) / (3 * len(pool.tokens)), rel=1e-5)


def test_the_rows_of_a_batch_do_not_change_a_loss(run: Path, dataset: TokenDataset, model: Any) -> None:
    pools = opened(run, dataset)
    one, many = (evaluate(model, pools, rows_per_device=rows) for rows in (1, 64))
    for name in one:
        assert many[name].nats_per_token == pytest.approx(one[name].nats_per_token, rel=1e-6)


@pytest.mark.parametrize("ranks", [2, 3, 16])
def test_ranks_share_the_rows_and_pass_as_often_through_the_model(run: Path, dataset: TokenDataset, ranks: int) -> None:
    """With ZeRO-3 a rank that passed once more than the others would wait for them without end."""
    pools = opened(run, dataset)

    def targets(ranks: int, rank: int) -> list[tuple[int, ...]]:
        return [(d, *rows.target_NL[0]) for d, rows in rank_rows(pools, rank, ranks, 1)]

    shares = [targets(ranks, rank) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    nothing = {(d, *[IGNORED] * LENGTH) for d in range(len(pools))}
    assert sorted(row for share in shares for row in share if row not in nothing) == sorted(targets(1, 0))


def test_the_sample_is_whole_documents_within_the_tokens_and_always_the_same(run: Path, dataset: TokenDataset) -> None:
    all_of_it, sampled, again = (opened(run, dataset, tokens=tokens)[0] for tokens in (10_000, 200, 200))
    assert 100 < len(sampled.tokens) <= 200
    assert np.array_equal(sampled.tokens, again.tokens)
    # A larger sample begins with the smaller one.
    assert np.array_equal(all_of_it.tokens[: len(sampled.tokens)], sampled.tokens)
    assert len(opened(run, dataset, tokens=1)[0].ends_D) == 1
    assert sampled.num_bytes == 3 * len(sampled.tokens)


def test_a_domain_can_be_given_alone(run: Path, dataset: TokenDataset) -> None:
    (pool,) = open_pools({"notes": run / "validation" / "notes"}, dataset, length=LENGTH, tokens=100)
    assert pool.name == "notes"


def truncated(folder: Path) -> None:
    with (folder / "00000.ds").open("r+b") as file:
        file.truncate(7)


def another_index(folder: Path) -> None:
    ends = np.fromfile(folder / "00000.ds.index", "<u8")
    ends[0] += 1
    ends.tofile(folder / "00000.ds.index")


def without_spans(folder: Path) -> None:
    (folder / "00000.spans.parquet").unlink()


def broken_spans(folder: Path) -> None:
    (folder / "00000.spans.parquet").write_bytes(b"PAR1 no more")


def large_token(folder: Path) -> None:
    tokens = np.fromfile(folder / "00000.ds", "<u2")
    tokens[0] = VOCAB
    tokens.tofile(folder / "00000.ds")


def other_end(folder: Path) -> None:
    tokens = np.fromfile(folder / "00000.ds", "<u2")
    tokens[-1] = 5
    tokens.tofile(folder / "00000.ds")


def emptied(folder: Path) -> None:
    for name in ("00000.ds", "00000.ds.index"):
        (folder / name).write_bytes(b"")
    spans = pl.read_parquet(folder / "00000.spans.parquet").clear()
    spans.write_parquet(folder / "00000.spans.parquet")


def absent(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def other_tokenizer(folder: Path) -> None:
    write_json(folder.parent / "tokens" / "manifest.json", {"tokenizer": {"sha256": "another"}})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, r"00000\.ds: 7 bytes, but its index ends at token 9: damaged; copy"),
        (another_index, r"00000\.ds\.index: its documents are not those of 00000\.spans\.parquet"),
        (without_spans, r"00000\.spans\.parquet: absent"),
        (broken_spans, r"00000\.spans\.parquet: cannot be read"),
        (large_token, "has token 64, but the training data's tokenizer only 64"),
        (other_end, "ends a document with token 5, the training data with 0"),
        (emptied, "domain 'posts': .* has no document; leave this domain out"),
        (absent, r"evaluation\.pools\.posts: .* has no \.ds files"),
        (other_tokenizer, "names another tokenizer"),
    ],
)
def test_a_pool_that_cannot_be_measured_is_an_error_before_the_first_step(
    dataset: TokenDataset, tmp_path: Path, spoil: Any, message: str
) -> None:
    folder = tmp_path / "posts"
    write_pool(folder, [[[1, 2, 3], [4, 5, 6, 7]]])
    open_pools({"posts": folder}, dataset, length=LENGTH, tokens=100)
    (tmp_path / "tokens").mkdir()
    spoil(folder)
    with pytest.raises(RedoneError, match=message):
        open_pools({"posts": folder}, dataset, length=LENGTH, tokens=100)


def trained(callback: DomainEvaluation, model: Any, first: int, last: int, steps: int = 5) -> None:
    """What Trainer calls from step `first` to `last` of so many."""
    state = SimpleNamespace(global_step=first, max_steps=steps, is_world_process_zero=True)
    callback.on_train_begin(None, state, None, model=model)
    while state.global_step < last:
        state.global_step += 1
        callback.on_step_end(None, state, None, model=model)
    callback.on_train_end(None, state, None)


def test_a_run_is_measured_at_the_start_every_n_steps_and_at_the_end_once_each(
    run: Path, dataset: TokenDataset, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged: list[dict[str, float]] = []
    callback = DomainEvaluation(
        opened(run, dataset, tokens=100), every=2, rows_per_device=2, output=tmp_path, log=logged.append
    )
    trained(callback, model.train(), 0, 5)
    assert model.training
    history = read_history(tmp_path / "evaluation.jsonl")
    assert [line["step"] for line in history] == [0, 2, 4, 5]
    assert logged[0] == {f"eval_bpb_{name}": loss for name, loss in history[0]["bits_per_byte"].items()}
    assert capsys.readouterr().out.strip() == table(history)
    trained(callback, model, 4, 4)
    assert capsys.readouterr().out == ""  # stopped by a signal: there is nothing to sum up yet
    # Killed after step 4 and resumed from step 3: step 4 is measured anew, not twice; step 0 stays.
    trained(callback, model, 3, 5)
    assert [line["step"] for line in read_history(tmp_path / "evaluation.jsonl")] == [0, 2, 3, 4, 5]
    # A resumed run that was measured where it goes on is not measured there again.
    logged.clear()
    trained(callback, model, 4, 5)
    assert len(logged) == 1
