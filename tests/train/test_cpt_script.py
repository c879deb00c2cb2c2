"""recipes/cpt.sh from raw text to a model, with recipes/train/cpt_tiny.yaml made shorter: all that a newcomer runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import SmallRecipe

from redone_train.data.evaluation import read_history, table

ROOT = Path(__file__).parents[2]
STEPS, ROWS, LENGTH = 30, 8, 64


@pytest.mark.on_demand
def test_the_way_from_raw_text_to_a_model_and_what_it_gained_by_domain(recipe: SmallRecipe, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    recipe.change(lambda values: values.update(output=str(data)))
    settings = {
        "output": run,
        "model.start": "0.1m",
        "data.sources.quickstart.path": data / "tokens",
        "data.length": LENGTH,
        "tokens": STEPS * ROWS * LENGTH,
        "evaluation.pools.held_out": data / "validation",
        "evaluation.every": 12,
    }
    arguments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"RECIPE": str(recipe.path), "OUTPUT": str(run)}
    command = [str(ROOT / "recipes" / "cpt.sh"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr

    history = read_history(run / "evaluation.jsonl")
    assert [line["step"] for line in history] == [0, 12, 24, STEPS]
    first, last = (line["bits_per_byte"] for line in (history[0], history[-1]))
    assert set(first) == {"held_out/notes", "held_out/posts", "held_out/wiki"}
    assert all(last[name] < 0.95 * first[name] for name in first)
    assert table(history) in done.stdout
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    measured = [line["eval_bpb_held_out/wiki"] for line in logged if "eval_bpb_held_out/wiki" in line]
    assert measured == pytest.approx([line["bits_per_byte"]["held_out/wiki"] for line in history])

    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in (run / "model").iterdir()}
