"""Runs of `redone-train cpt`, here and on two ranks, against a plain Transformers loop on the same batches."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deepspeed", reason="redone-train cpt needs the packages of redone[train]")

import numpy as np
import torch
from small_cpt import LENGTH, ROWS, STEPS, logged, write_config, write_poisoned_model
from torch.nn import functional

from redone_data.errors import RedoneError
from redone_train.cpt import open_run, resolved, run_cpt
from redone_train.data import evaluation
from redone_train.data.evaluation import read_history
from redone_train.train.config import CptConfig, GuardConfig, ScheduleConfig, load_run
from redone_train.train.guard import FEWEST_NORMS, SKIPPED, Guard, carried
from redone_train.train.schedule import rate_factor
from redone_train.train.start import load_model
from redone_train.train.trainer import losses

POISONED_STEP = 3  # counted from 1
# Of the plain loop below on the poisoned run: what it gave when this was written.
GOLDEN = {1: 4.15807, 2: 3.95964, 4: 3.75027, 5: 3.74980, 6: 3.66238}
# Bits per byte of held-out posts before and after it, of one process.
GOLDEN_BITS_PER_BYTE = {0: 1.99889, STEPS: 1.73351}
# Steps of a run that sees spikes: what is usual is known after FEWEST_NORMS of them.
SPIKY = {"guard.spike": 0.95, "guard.stop_after": 100, "tokens": (FEWEST_NORMS + 6) * ROWS * LENGTH}
SPIKES = [11, 14, 16]  # the steps that it leaves out


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """A run in this process leaves variables behind that would be a launcher's to another."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def opened(path: Path) -> tuple[CptConfig, Any]:
    config = resolved(load_run(CptConfig, path), path.parent)
    _, data, _ = open_run(config, path.parent)
    return config, data


@pytest.fixture(scope="session")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run whose third batch has a document that makes the loss NaN; and that document."""
    folder = tmp_path_factory.mktemp("poisoned")
    model = str(write_poisoned_model(folder / "model"))
    _, data = opened(write_config(folder / "healthy", {"model.start": model}))
    first = (POISONED_STEP - 1) * ROWS
    documents = data.batches.documents(np.arange(first, first + ROWS))
    others = {name for step in range(STEPS) if step != POISONED_STEP - 1 for name in in_step(data, step)}
    document = next(name for name in documents if name not in others)
    held_out = {"pools": {"held": "../healthy/posts"}, "every": 0, "tokens": 1000}
    values = {"model.start": model, "evaluation": held_out}
    return write_config(folder / "run", values, poisoned=[document]), document


def in_step(data: Any, step: int) -> list[str]:
    names: list[str] = data.batches.documents(np.arange(ROWS) + step * ROWS)
    return names


def plain_loop(path: Path, *, skips: Callable[[list[float], float], bool]) -> dict[int, float]:
    """Losses by step of torch, Transformers and a few lines. skips: of norms so far and this one, whether to skip."""
    config, data = opened(path)
    start, _, _ = open_run(config, path.parent)
    model = load_model(start, config.model, attention="sdpa", seed=config.seed)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    found, norms = {}, []
    for step in range(data.num_steps):
        batch = data.batches.__getitems__(range(step * ROWS, (step + 1) * ROWS))
        logits = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch["shift_labels"].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * rate_factor(config.schedule, step, data.num_steps)
        if not skips(norms, norm):
            optimizer.step()
            norms.append(norm)
            found[step + 1] = loss.item()
    return found


def not_finite(_: list[float], norm: float) -> bool:
    return not math.isfinite(norm)


def spiky(norms: list[float], norm: float) -> bool:
    return len(norms) >= FEWEST_NORMS and norm > SPIKY["guard.spike"] * float(np.median(norms))


def launched(folder: Path, launches: dict[str, list[str]]) -> dict[str, list[tuple[int, str]]]:
    """Name of a launch -> exit code and output of each of two ranks."""
    (folder / "launches.json").write_text(json.dumps(launches))
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2", "--master_port"]
    port = 20_000 + os.getpid() % 20_000
    script = str(Path(__file__).with_name("two_ranks.py"))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    finished = subprocess.run(
        [*command, str(port), script, str(folder / "launches.json"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return {
        name: [
            (int((folder / f"{name}.{rank}.code").read_text()), (folder / f"{name}.{rank}.out").read_text())
            for rank in range(2)
        ]
        for name in launches
    }


STAGES = ("plain", "zero0", "zero1", "zero2", "zero3")


@pytest.fixture(scope="session")
def two_ranks(
    poisoned: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[tuple[int, str]]]]:
    """One launch through `deepspeed`, of everything that is looked at on two ranks."""
    folder = tmp_path_factory.mktemp("two-ranks")

    def run(path: Path, name: str, deepspeed: str, *settings: str) -> list[str]:
        values = [f"output={folder / name}", f"deepspeed={deepspeed}", *settings]
        return ["cpt", str(path), *(part for value in values for part in ("--set", value))]

    spikes = write_config(folder / "spiky", SPIKY)
    launches = {name: run(poisoned[0], name, "null" if name == "plain" else name) for name in STAGES}
    launches["spikes"] = run(spikes, "spikes", "zero3")
    launches["bf16"] = run(poisoned[0], "bf16", "zero1", "model.precision=bf16")
    launches["stops"] = run(poisoned[0], "stops", "zero2", "guard.stop_after=1")
    launches["wrong"] = run(poisoned[0], "wrong", "zero2", "batch.rows=7")
    return folder, launched(folder, launches)


def close(found: dict[int, float], expected: dict[int, float]) -> None:
    assert found.keys() == expected.keys()
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=2e-5)


def bits_per_byte(output: Path) -> dict[int, float]:
    return {line["step"]: line["bits_per_byte"]["held"] for line in read_history(output / evaluation.FILE)}


def test_the_plain_loop_still_gives_the_golden_losses(poisoned: tuple[Path, str]) -> None:
    close(plain_loop(poisoned[0], skips=not_finite), GOLDEN)


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_train_as_the_plain_loop_and_leave_out_the_poisoned_batch(
    two_ranks: tuple[Path, dict[str, list[tuple[int, str]]]], poisoned: tuple[Path, str], stage: str
) -> None:
    folder, results = two_ranks
    assert [code for code, _ in results[stage]] == [0, 0], results[stage]
    close(logged(folder / stage), GOLDEN)
    close(bits_per_byte(folder / stage), GOLDEN_BITS_PER_BYTE)
    record = json.loads((folder / stage / SKIPPED).read_text())
    assert record["step"] == POISONED_STEP
    assert poisoned[1] in record["documents"]
    assert logged(folder / stage, "skipped")[STEPS] == 1
    rates = logged(folder / stage, "learning_rate")
    assert rates[STEPS] == pytest.approx(0.01 * rate_factor(ScheduleConfig(warmup=0.2), STEPS - 1, STEPS))


def test_the_guard_sees_what_zero_1_in_bf16_leaves_out_itself(
    two_ranks: tuple[Path, dict[str, list[tuple[int, str]]]],
) -> None:
    folder, results = two_ranks
    assert [code for code, _ in results["bf16"]] == [0, 0], results["bf16"]
    assert logged(folder / "bf16") == pytest.approx(GOLDEN, abs=3e-3)
    assert json.loads((folder / "bf16" / SKIPPED).read_text())["step"] == POISONED_STEP


def test_zero_3_starts_a_new_model_from_the_same_weights_and_leaves_spikes_out_alike(
    two_ranks: tuple[Path, dict[str, list[tuple[int, str]]]],
) -> None:
    folder, results = two_ranks
    assert [code for code, _ in results["spikes"]] == [0, 0], results["spikes"]
    expected = plain_loop(folder / "spiky" / "cpt.yaml", skips=spiky)
    assert expected.keys() == set(range(1, FEWEST_NORMS + 7)) - set(SPIKES)
    close(logged(folder / "spikes"), expected)


def test_a_run_with_too_many_bad_steps_ends_with_one_line_that_names_the_documents(
    two_ranks: tuple[Path, dict[str, list[tuple[int, str]]]],
) -> None:
    (code, said), (other_code, other_said) = two_ranks[1]["stops"]
    assert (code, other_code) == (2, 2), said + other_said
    (line,) = [line for line in said.splitlines() if line.startswith("redone-train: ")]
    assert "1 of the last 100 steps were left out (3)" in line
    assert "posts/doc-" in line
    assert other_said == ""


def test_a_configuration_that_ranks_cannot_share_is_one_line_from_one_rank(
    two_ranks: tuple[Path, dict[str, list[tuple[int, str]]]],
) -> None:
    (code, said), (other_code, other_said) = two_ranks[1]["wrong"]
    assert (code, other_code) == (2, 2)
    assert said.startswith("redone-train: batch: 7 rows cannot be 2 ranks x 2 rows")
    assert other_said == ""


def run_here(path: Path, *settings: str) -> Path:
    """The run's folder."""
    assert run_cpt(path, settings)
    return path.parent / "run"


@pytest.mark.parametrize("rows_per_device", [ROWS, 1])
def test_one_process_trains_as_the_plain_loop_however_its_batch_is_split(
    poisoned: tuple[Path, str], rows_per_device: int, tmp_path: Path
) -> None:
    run_cpt(poisoned[0], (f"batch.rows_per_device={rows_per_device}", f"output={tmp_path}", "logging.every=2"))
    losses = {step: [GOLDEN[s] for s in (step - 1, step) if s in GOLDEN] for step in (2, 4, 6)}
    # A step that was left out is no part of the mean that is logged.
    close(logged(tmp_path), {step: sum(values) / len(values) for step, values in losses.items()})
    close(bits_per_byte(tmp_path), GOLDEN_BITS_PER_BYTE)


def test_z_loss_is_added_to_the_loss_and_logged_apart(tmp_path: Path) -> None:
    weighted = run_here(write_config(tmp_path / "z", {"optimizer.z_loss": 0.5}))
    without = run_here(write_config(tmp_path / "plain"))
    assert logged(weighted)[1] == pytest.approx(logged(without)[1], abs=1e-5)
    config, data = opened(tmp_path / "z" / "cpt.yaml")
    start, _, _ = open_run(config, tmp_path / "z")
    model = load_model(start, config.model, attention="sdpa", seed=config.seed)
    batch = data.batches.__getitems__(range(ROWS))
    logits = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    expected = logits[batch["shift_labels"] != -100].exp().sum(-1).log().square().mean().item()
    assert logged(weighted, "z_loss")[1] == pytest.approx(expected, rel=1e-5)
    assert logged(weighted, "z_loss")[STEPS] < 0.95 * expected  # log Z is pulled to 0
    assert logged(weighted, "grad_norm")[1] != pytest.approx(logged(without, "grad_norm")[1], rel=1e-2)


def test_z_loss_is_of_the_targets_alone() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1, -100, 4], [0, 2, -100]])
    cross_entropy, z_loss = losses(logits, targets)
    assert cross_entropy.item() == pytest.approx(
        functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    )
    assert z_loss.item() == pytest.approx(torch.logsumexp(logits, -1).square()[targets != -100].sum().item())


@pytest.mark.parametrize("norm", [math.nan, math.inf, -1.0, 1000.0])
def test_a_refused_step_leaves_weights_moments_and_gradient_buffers_as_they_were(norm: float, tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    guard, norms = Guard(GuardConfig(), tmp_path), iter([*[1.0] * FEWEST_NORMS, norm, 1.0])
    guard.watch(optimizer, lambda: next(norms))

    def step() -> tuple[list[float], float]:
        guard.on_step_begin(None, None, None)
        weight.grad = torch.ones(3)
        optimizer.step()
        assert weight.grad is not None
        return weight.tolist(), float(optimizer.state[weight]["exp_avg"].sum())

    taken = [step() for _ in range(FEWEST_NORMS)][-1]
    assert step() == taken
    assert guard.refusal() is not None
    assert step() != taken
    assert guard.norms == [1.0] * (FEWEST_NORMS + 1)  # what was refused is not what is usual


def test_a_guard_with_spikes_off_stops_at_what_is_not_finite_alone(tmp_path: Path) -> None:
    guard, norms = Guard(GuardConfig(spike=0), tmp_path), iter([*[1.0] * FEWEST_NORMS, 1e9, math.nan])
    guard.norm = lambda: next(norms)
    refused = []
    for _ in range(FEWEST_NORMS + 2):
        guard.on_step_begin(None, None, None)
        refused.append(guard.refusal())
    assert refused[:-1] == [None] * (FEWEST_NORMS + 1)
    assert refused[-1] == "loss or gradient is not finite"


def test_a_loss_that_is_not_finite_makes_its_gradient_so() -> None:
    logits = torch.tensor([0.0, -math.inf], requires_grad=True)
    loss = -torch.log_softmax(logits, -1)[1]  # inf, whose gradient is finite
    carried(loss).backward()
    assert logits.grad is not None
    assert not logits.grad.isfinite().any()


def test_a_run_stops_after_too_many_bad_steps_and_names_their_documents(poisoned: tuple[Path, str]) -> None:
    path, document = poisoned
    with pytest.raises(RedoneError, match=rf"1 of the last 100 steps were left out \({POISONED_STEP}\).*posts/doc-"):
        run_cpt(path, ("guard.stop_after=1", "output=stopped"))
    assert document in json.loads((path.parent / "stopped" / SKIPPED).read_text())["documents"]


def test_a_run_that_went_back_logs_each_step_once_and_knows_which_norms_are_usual(tmp_path: Path) -> None:
    path = write_config(tmp_path, {**SPIKY, "checkpoints.every": 13})
    output = run_here(path)
    before = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    shutil.rmtree(output / "checkpoints" / f"step-{before[-1]['step']}")
    with (output / "log.jsonl").open("a") as file:
        file.write('{"step": ')  # killed while it wrote
    run_here(path)
    after = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in after] == list(range(1, FEWEST_NORMS + 7))
    for name in ("loss", "grad_norm", "learning_rate", "skipped"):
        assert [line.get(name) for line in after] == [line.get(name) for line in before]
    skipped = [json.loads(line)["step"] for line in (output / SKIPPED).read_text().splitlines()]
    assert skipped == SPIKES  # the last one after it went back, by norms from before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tokens=100", "the run is 3 rows of 32 tokens, less than one batch of 8: raise tokens, or lower batch.rows"),
        pytest.param(
            "logging.wandb=posts",
            "the package wandb is not installed",
            marks=pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed"),
        ),
        pytest.param(
            "model.liger=true",
            "it needs a GPU and the package liger-kernel",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ("deepspeed=zero4", "'zero4' is no preset and no file"),
        ("data.sources.posts.path=nowhere", "nowhere: no manifest.json"),
        ("evaluation.pools={held: nowhere}", "nowhere"),
        ("model.start=nowhere", "'nowhere' is no folder or file here"),
        ("batch.rows_per_device=3", "8 rows cannot be 1 ranks x 3 rows"),
    ],
)
def test_what_cannot_be_trained_is_said_before_the_first_step(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match=message):
        run_cpt(write_config(tmp_path), (setting,))
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_adapters_train_with_checkpointed_activations_in_bf16(tmp_path: Path) -> None:
    values = {"model.lora": {"rank": 2}, "model.gradient_checkpointing": True, "model.precision": "bf16"}
    losses = logged(run_here(write_config(tmp_path, {**values, "logging.tensorboard": True})))
    assert losses[STEPS] < losses[1]
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
