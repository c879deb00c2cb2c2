"""Runs trained as a stack against the same runs trained alone, from outside where that can be seen."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from test_swarm import add_runs, alive, children, one_thread, run_command, started, train_here, wait_for

from redone_train.proxy_batches import HostBatches, ResidentBatches
from redone_train.proxy_data import TrainPlan
from redone_train.proxy_group import train_group
from redone_train.swarm_files import Swarm
from redone_train.swarm_groups import groups_of, keep_stack, stack_by_rule

__all__ = ["one_thread"]
CPU = torch.device("cpu")
NEVER = math.inf
GIB = 1 << 30


def train_stacked(folder, run_ids, backend: str | None = None) -> dict:  # type: ignore[no-untyped-def, type-arg]
    swarm = Swarm(folder.directory)
    for name in ("results", "checkpoints", "timings"):
        (folder.directory / name).mkdir(exist_ok=True)
    group = [swarm.runs[run_id] for run_id in run_ids]
    train_group(swarm, group, CPU, lambda tokens: False, NEVER, backend)
    return {run_id: folder.result(run_id) for run_id in run_ids}


@pytest.mark.parametrize("backend", [None, "aot_eager"])
def test_a_run_has_the_same_losses_alone_and_in_a_stack(folder, backend: str | None) -> None:  # type: ignore[no-untyped-def]
    add_runs(folder)
    alone = {run_id: train_here(folder, run_id) for run_id in ("r0", "r1", "r2")}
    shutil.rmtree(folder.directory / "results")
    stacked = train_stacked(folder, ["r0", "r1", "r2"], backend)
    for run_id, result in alone.items():
        assert stacked[run_id]["loss_bpb"] == pytest.approx(result["loss_bpb"], abs=1e-4)
        assert [step for step, _ in stacked[run_id]["curve"]] == [step for step, _ in result["curve"]]
        assert stacked[run_id].keys() == result.keys()
        for key in ("status", "tokens", "parameters", "fingerprint"):
            assert stacked[run_id][key] == result[key]
    assert alone["r1"]["loss_bpb"] != pytest.approx(alone["r2"]["loss_bpb"], abs=1e-2)


def test_a_compiler_that_fails_is_said_and_training_goes_on(folder, capfd) -> None:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["tokens"] = 512
    add_runs(folder)
    assert train_stacked(folder, ["r0", "r1"], "no such backend")["r1"]["status"] == "ok"
    assert "torch.compile failed, training goes on without it" in capfd.readouterr().err


def test_a_diverged_run_is_named_and_leaves_its_neighbours_as_they_were(  # type: ignore[no-untyped-def]
    folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(folder)
    clean = train_stacked(folder, ["r0", "r1", "r2"])
    shutil.rmtree(folder.directory / "results")
    from redone_train import proxy_group

    class Poisoned(proxy_group.ProxyStack):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.embedding.data[1, 7] = math.inf

    monkeypatch.setattr(proxy_group, "ProxyStack", Poisoned)
    poisoned = train_stacked(folder, ["r0", "r1", "r2"])
    assert poisoned["r1"]["status"] == "diverged"
    assert poisoned["r1"]["loss_bpb"] == {}
    assert poisoned["r1"]["tokens"] < clean["r1"]["tokens"]
    assert (poisoned["r0"], poisoned["r2"]) == (clean["r0"], clean["r2"])


@pytest.mark.on_demand
def test_a_group_that_was_killed_and_stopped_gives_the_bytes_of_an_uninterrupted_one(folder, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["tokens"] = 32_768
    add_runs(folder)
    folder.add_run("s0", {"notes": 1.0}, seed=3)
    shutil.copytree(folder.directory, tmp_path / "whole")
    assert run_command(tmp_path / "whole", "--stack", "3").returncode == 0
    checkpoint = folder.directory / "checkpoints" / "r0.pt"
    options = ("--processes", "1", "--checkpoint-seconds", "0.02")
    with started(folder.directory, *options, "--stack", "3") as parent:
        wait_for(checkpoint.exists)
        workers = children(parent.pid)
        parent.kill()
        parent.wait()
        wait_for(lambda: workers and not any(map(alive, workers)))
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 128
    # K is not given again: the folder keeps it.
    assert run_command(folder.directory, "--processes", "2").returncode == 0
    results = {path.name: path.read_bytes() for path in (folder.directory / "results").iterdir()}
    assert results == {path.name: path.read_bytes() for path in (tmp_path / "whole" / "results").iterdir()}
    assert (folder.directory / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
    assert not checkpoint.exists()


def test_a_kill_between_two_results_takes_up_the_whole_group(folder) -> None:  # type: ignore[no-untyped-def]
    add_runs(folder)
    swarm = Swarm(folder.directory)
    checkpoint = swarm.file_of("checkpoints", "r0")
    whole = train_stacked(folder, ["r0", "r1", "r2"])
    saved: list[bytes] = []
    shutil.rmtree(folder.directory / "results")

    def keep_first(tokens: int) -> bool:
        if checkpoint.exists() and not saved:
            saved.append(checkpoint.read_bytes())
        return False

    (folder.directory / "results").mkdir()
    train_group(swarm, list(swarm.runs.values()), CPU, keep_first, 0.0)
    checkpoint.write_bytes(saved[0])
    for name in ("r1", "r2"):
        (folder.directory / "results" / f"{name}.json").unlink()
    assert train_stacked(folder, ["r0", "r1", "r2"]) == whole


def test_pools_on_the_device_give_the_rows_of_the_mapped_files(folder) -> None:  # type: ignore[no-untyped-def]
    add_runs(folder)
    for token_bytes in (2, 4):
        swarm = Swarm(folder.directory)
        sizes = {"context": 32, "rows_per_step": 8}
        plans = [
            TrainPlan(
                swarm.train, run.mixture, dict.fromkeys(swarm.domains), **sizes, num_steps=9, swarm_seed=1, run_seed=i
            )
            for i, run in enumerate(swarm.runs.values())
        ]
        mapped = list(HostBatches(plans, CPU).steps(2, 9))
        resident = ResidentBatches(plans, swarm.train, CPU, **sizes, token_bytes=token_bytes)
        assert all(map(torch.equal, mapped, resident.steps(2, 9)))
        assert resident.tokens.element_size() == token_bytes


def test_a_token_above_the_signed_range_survives_on_the_device(tmp_path: Path) -> None:
    from test_proxy_data import make_plan, numbered_pool

    pools = {"a": numbered_pool(tmp_path, 65_536)}
    plan = make_plan(pools, {"a": 1.0}, context=4096, num_steps=4)
    resident = ResidentBatches([plan], pools, CPU, context=4096, rows_per_step=4, token_bytes=2)
    assert torch.equal(torch.cat(list(resident.steps(0, 4)))[:, :, 0].flatten().sort()[0], torch.arange(16) * 4096)
    assert all(map(torch.equal, HostBatches([plan], CPU).steps(0, 4), resident.steps(0, 4)))


def test_k_is_chosen_from_memory_evenly_and_kept(folder) -> None:  # type: ignore[no-untyped-def]
    for i in range(20):
        folder.add_run(f"run-{i:02d}", {"notes": 1.0}, seed=i)
    swarm = Swarm(folder.directory)
    assert stack_by_rule(swarm, []) == 1  # on a CPU
    assert stack_by_rule(swarm, [80 * GIB]) == 20
    assert stack_by_rule(swarm, [80 * GIB] * 3) == 7
    assert stack_by_rule(swarm, [80 * GIB, 1]) == 1
    assert keep_stack(swarm, 6, []) == 6
    assert keep_stack(swarm, None, [80 * GIB]) == 6
    assert [len(group.runs) for group in groups_of(swarm, 6)] == [6, 6, 6, 2]
    folder.config["proxy"] |= {"size": {"layers": 12, "width": 768, "heads": 12}, "batch_tokens": 32_768}
    folder.write()
    assert 1 <= stack_by_rule(Swarm(folder.directory), [80 * GIB]) < 6


def test_groups_trained_apart_fill_the_folder_and_the_last_writes_the_table(folder) -> None:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["tokens"] = 512
    add_runs(folder)
    table = folder.directory / "metrics.csv"
    assert run_command(folder.directory, "--stack", "2", "--groups", "1").returncode == 0
    assert not table.exists()
    assert [path.name for path in (folder.directory / "results").iterdir()] == ["r2.json"]
    wrong = run_command(folder.directory, "--groups", "2")
    assert wrong.returncode == 2
    assert "--groups: 2; this swarm has groups 0 to 1" in wrong.stderr
    assert run_command(folder.directory, "--groups", "0,1").returncode == 0
    assert len(table.read_text(encoding="utf-8").splitlines()) == 4
