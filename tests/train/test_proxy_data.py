from pathlib import Path

import numpy as np
import pytest

from redone_train.proxy_data import TokenPool, TrainPlan, spread_rows

CONTEXT = 8


def numbered_pool(path: Path, num_tokens: int, *cuts: int) -> TokenPool:
    """A pool whose i-th token is i, in one file or cut into several."""
    files = []
    for number, tokens in enumerate(np.split(np.arange(num_tokens), cuts)):
        file = path / f"{num_tokens}-{number}.ds"
        tokens.astype("<u4").tofile(file)
        np.array([len(tokens)], dtype="<u8").tofile(path / f"{file.name}.index")
        files.append(file)
    return TokenPool(files, token_bytes=4)


def make_plan(pools: dict[str, TokenPool], weights: dict[str, float], **changes: object) -> TrainPlan:
    options = {"context": CONTEXT, "rows_per_step": 4, "num_steps": 100, "swarm_seed": 1, "run_seed": 2} | changes
    limits = options.pop("limits", dict.fromkeys(pools))
    return TrainPlan(pools, weights, limits, **options)  # type: ignore[arg-type]


def test_a_pool_reads_across_files_and_around_its_end(tmp_path: Path) -> None:
    pool = numbered_pool(tmp_path, 100, 30, 30, 37)
    assert len(pool) == 100
    assert pool.read(25, 20).tolist() == list(range(25, 45))
    assert pool.read(95, 10).tolist() == [95, 96, 97, 98, 99, 0, 1, 2, 3, 4]
    assert numbered_pool(tmp_path, 3).read(2, 7).tolist() == [2, 0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.3, 0.2], [0.97, 0.01, 0.02], [1e-9, 1 - 1e-9]])
def test_realised_shares_are_the_weights_to_a_row_over_the_run_and_evenly(weights: list[float]) -> None:
    for seed in range(20):
        domains = spread_rows(weights, 1000, np.random.default_rng(seed))
        for end in (1000, 500, 100):
            counts = np.bincount(domains[:end], minlength=len(weights))
            slack = 1 if end == 1000 else len(weights) + 1
            assert np.abs(counts - np.array(weights) * end).max() <= slack


def test_an_epoch_shows_every_window_once(tmp_path: Path) -> None:
    pool = numbered_pool(tmp_path, 400)
    plan = make_plan({"a": pool}, {"a": 1.0})
    num_windows = 400 // CONTEXT
    for epoch in np.split(plan.window_R, len(plan.window_R) // num_windows):
        assert sorted(epoch) == list(range(num_windows))
    assert not np.array_equal(*np.split(plan.window_R[: 2 * num_windows], 2))
    batch = plan.batch(7)
    assert np.array_equal(batch[:, 0], plan.window_R[28:32] * CONTEXT)
    assert (np.diff(batch, axis=1) % 400 == 1).all()


def test_every_run_repeats_the_same_limited_tokens(tmp_path: Path) -> None:
    pools = {"a": numbered_pool(tmp_path, 4000), "b": numbered_pool(tmp_path, 800)}
    seen = []
    for run_seed, weight in ((1, 0.5), (2, 0.9)):
        plan = make_plan(pools, {"a": weight, "b": 1 - weight}, run_seed=run_seed, limits={"a": 101, "b": None})
        seen.append(set(plan.window_R[plan.domain_R == 0].tolist()))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 13  # ceil(101 / 8)


def test_the_order_of_domains_changes_nothing(tmp_path: Path) -> None:
    pools = {"a": numbered_pool(tmp_path, 4000), "b": numbered_pool(tmp_path, 800)}
    first = make_plan(pools, {"a": 0.3, "b": 0.7})
    again = make_plan(dict(reversed(pools.items())), {"b": 0.7, "a": 0.3})
    assert np.array_equal(first.batch(5), again.batch(5))


def test_a_pool_shorter_than_a_window_is_repeated(tmp_path: Path) -> None:
    assert make_plan({"a": numbered_pool(tmp_path, 3)}, {"a": 1.0}).batch(0).tolist()[0] == [0, 1, 2] * 3
