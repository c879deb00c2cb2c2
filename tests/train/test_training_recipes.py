"""recipes/train: each configuration is read strictly, and can be laid out on the ranks that it is written for."""

from pathlib import Path

import pytest

from redone_train.data.batches import BatchShape
from redone_train.train.config import load_cpt
from redone_train.train.deepspeed import deepspeed_values

RECIPES = Path(__file__).parents[2] / "recipes" / "train"
RANKS = {"cpt_tiny": (1, 2), "cpt_gemma270m": (1, 8), "cpt_qwen2.5_7b": (8,), "cpt_qwen2.5_32b": (64,)}


def test_no_configuration_is_without_a_test() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(RANKS)


@pytest.mark.parametrize("name", RANKS)
def test_a_configuration_is_read_and_fits_the_ranks_that_it_is_for(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    config = load_cpt(path)
    for ranks in RANKS[name]:
        shape = BatchShape(config.batch.rows, config.batch.rows_per_device, ranks)
        deepspeed_values(config, shape, path.parent, bf16=True)
    assert config.tokens is not None
    assert config.tokens // config.data.length >= config.batch.rows
    # All that a recipe reads or writes is below runs/ and models/, so that it can be run where it stands.
    folders = [config.output, *config.evaluation.pools.values(), *(s.path for s in config.data.sources.values())]
    assert all(folder.startswith("../../runs/") for folder in folders)
    assert config.evaluation.pools
