"""recipes/train: each configuration is read strictly, and can be laid out on the ranks that it is written for."""

from pathlib import Path

import pytest

from redone_train.data.batches import BatchShape
from redone_train.evaluate.config import load_evaluation
from redone_train.train.config import CptConfig, load_run
from redone_train.train.deepspeed import deepspeed_values
from redone_train.train.post_config import DpoConfig, SftConfig

RECIPES = Path(__file__).parents[2] / "recipes" / "train"
RANKS = {"tiny": (1, 2), "gemma270m": (1, 8), "qwen2.5_7b": (8,), "qwen2.5_32b": (64,)}
VERBS = ("cpt", "sft", "dpo")
CONFIGS = {"cpt": CptConfig, "sft": SftConfig, "dpo": DpoConfig}
EVALUATIONS = {"eval_tiny": "tiny", "eval_sns": "gemma270m"}


def test_no_configuration_is_without_a_test() -> None:
    trained = {f"{verb}_{name}" for verb in VERBS for name in RANKS}
    assert {path.stem for path in RECIPES.glob("*.yaml")} == trained | set(EVALUATIONS)


@pytest.mark.parametrize("name", RANKS)
def test_a_configuration_is_read_and_fits_the_ranks_that_it_is_for(name: str) -> None:
    path = RECIPES / f"cpt_{name}.yaml"
    config = load_run(CptConfig, path)
    for ranks in RANKS[name]:
        shape = BatchShape(config.batch.rows, config.batch.rows_per_device, ranks)
        deepspeed_values(config, shape, path.parent, bf16=True)
    assert config.tokens is not None
    assert config.tokens // config.data.length >= config.batch.rows
    # All that a recipe reads or writes is below runs/ and models/, so that it can be run where it stands.
    folders = [config.output, *config.evaluation.pools.values(), *(s.path for s in config.data.sources.values())]
    assert all(folder.startswith("../../runs/") for folder in folders)
    assert config.evaluation.pools


@pytest.mark.parametrize("name", RANKS)
def test_stages_follow_one_another_and_fit_the_ranks_that_they_are_for(name: str) -> None:
    paths = {verb: RECIPES / f"{verb}_{name}.yaml" for verb in VERBS}
    cpt, sft, dpo = (
        load_run(CptConfig, paths["cpt"]),
        load_run(SftConfig, paths["sft"]),
        load_run(DpoConfig, paths["dpo"]),
    )
    for ranks in RANKS[name]:
        for verb, config in (("sft", sft), ("dpo", dpo)):
            shape = BatchShape(config.batch.rows, config.batch.rows_per_device, ranks)
            deepspeed_values(config, shape, paths[verb].parent, bf16=True)
    assert sft.model.start == cpt.output
    assert dpo.model.start == sft.output
    assert len(sft.steps) == 2
    files = [*(file for step in sft.steps for file in step.data), *sft.evaluation.data, *dpo.data.files]
    assert all(file.startswith("../../runs/") for file in [*files, *dpo.evaluation.data, sft.output, dpo.output])
    assert sft.evaluation.data
    assert dpo.evaluation.data


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_measures_each_stage_of_its_ladder(name: str) -> None:
    config, size = load_evaluation(RECIPES / f"{name}.yaml"), EVALUATIONS[name]
    cpt, sft, dpo = (load_run(kind, RECIPES / f"{verb}_{size}.yaml") for verb, kind in CONFIGS.items())
    assert [config.models[stage] for stage in VERBS] == [cpt.output, sft.output, dpo.output]
    assert config.bits.pools  # or retention is not measured
    # All that a stage and those before it learnt from is looked through for what is measured.
    learnt = [
        {source.path.removesuffix("tokens") + "corpus" for source in cpt.data.sources.values()},
        {file for step in sft.steps for file in step.data},
        set(dpo.data.files),
    ]
    for number, stage in enumerate(VERBS, 1):
        assert set(config.trained_on[stage]) == set().union(*learnt[:number])
