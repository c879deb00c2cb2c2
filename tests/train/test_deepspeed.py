"""DeepSpeed's configuration is filled from ours, contradictions are refused, and every launcher finds its ranks."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from redone_data.errors import RedoneError
from redone_train.data.batches import BatchShape
from redone_train.train.config import CptConfig, DataConfig, ModelConfig, SourceConfig
from redone_train.train.deepspeed import PRESETS, deepspeed_values, launch_environment, preset_names

SHAPE = BatchShape(rows=64, rank_rows=4, ranks=2)


def values(name: str | None, directory: Path = PRESETS, *, bf16: bool = True) -> dict[str, Any] | None:
    data = DataConfig(sources={"posts": SourceConfig("posts")})
    config = CptConfig(output="run", model=ModelConfig(start="1m"), data=data, deepspeed=name)
    return deepspeed_values(config, SHAPE, directory, bf16=bf16)


def test_no_deepspeed_is_none() -> None:
    assert values(None) is None


def test_the_presets_of_the_package_are_those_that_recipes_show() -> None:
    recipes = Path(__file__).parents[2] / "recipes" / "deepspeed"
    assert sorted(path.stem for path in recipes.glob("*.json")) == preset_names()
    assert preset_names() == ["zero0", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_filled_from_our_configuration(name: str) -> None:
    filled = values(name, bf16=name != "zero0")
    assert filled is not None
    assert (filled["train_batch_size"], filled["train_micro_batch_size_per_gpu"]) == (64, 4)
    assert (filled["gradient_accumulation_steps"], filled["gradient_clipping"]) == (8, 1.0)
    assert filled["bf16"]["enabled"] is (name != "zero0")
    assert filled["zero_optimization"]["stage"] == int(name[4])
    assert ("offload_optimizer" in filled["zero_optimization"]) == name.endswith("offload")


def test_micro_batches_are_added_up_in_float32() -> None:
    filled, exact = values("zero2"), values("zero2", bf16=False)
    assert filled is not None
    assert exact is not None
    assert filled["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "data_types" not in exact


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"train_batch_size": 32}', "train_batch_size is 32, but batch.rows makes it 64; set it to auto"),
        ('{"gradient_clipping": 0.5}', "gradient_clipping is 0.5, but optimizer.clip makes it 1.0"),
        ('{"bf16": {"enabled": false}}', "enabled is False, but model.precision makes it True"),
        ('{"optimizer": {"type": "Adam"}}', "sets `optimizer`; leave it out: use the section `optimizer`"),
        ('{"fp16": {"enabled": true}}', "use model.precision: bf16"),
        ("{zero: 2}", "not JSON"),
        ("[2]", "an object is expected"),
    ],
)
def test_a_file_that_contradicts_the_configuration_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(content)
    with pytest.raises(RedoneError, match=f"^deepspeed: .*{message}"):
        values("own.json", tmp_path)


def test_zero_0_in_bf16_is_refused_as_its_first_steps_are_wrong() -> None:
    with pytest.raises(RedoneError, match="use zero1, or leave deepspeed out"):
        values("zero0")


def test_a_file_of_ones_own_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps({"zero_optimization": {"stage": 1}, "train_batch_size": "auto"}))
    filled = values("own.json", tmp_path)
    assert filled is not None
    assert (filled["zero_optimization"], filled["train_batch_size"]) == ({"stage": 1}, 64)


def test_a_preset_that_is_misspelt_is_suggested() -> None:
    with pytest.raises(RedoneError, match="'zero2_ofload' is no preset and no file; did you mean 'zero2_offload'"):
        values("zero2_ofload")


SLURM = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "123456"}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu[03-04,07]", "gpu03"), ("gpu-a1,gpu-a2", "gpu-a1"), ("node7", "node7"), ("r1c[9,11]", "r1c9")],
)
def test_a_task_of_srun_finds_the_first_node(nodes: str, first: str) -> None:
    found = launch_environment({**SLURM, "SLURM_STEP_NODELIST": nodes}, alone=False)
    port = str(20_000 + 123456 % 20_000)
    expected = {"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "MASTER_ADDR": first, "MASTER_PORT": port}
    assert found == expected


def test_what_a_launcher_set_is_left_alone() -> None:
    assert launch_environment({**SLURM, "SLURM_STEP_NODELIST": "a,b", "RANK": "3"}, alone=True) == {}


def test_one_process_of_a_batch_script_does_not_wait_for_others() -> None:
    batch_script = {"SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}
    assert launch_environment(batch_script, alone=False) == {}
    assert launch_environment(batch_script, alone=True)["WORLD_SIZE"] == "1"
