"""`proxy: {size: counts}`: the whole way to a proposal without a trainer, marked as what it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import SmallRecipe, redone, redone_here, tree

from redone_data.errors import RedoneError
from redone_data.manifest import read_json
from redone_data.mix.counting.step import CountStep
from redone_data.pipeline import Run
from redone_data.recipe import load_recipe


def counting(recipe: SmallRecipe, **mix: Any) -> SmallRecipe:
    values = {
        "targets": {"posts": 1},
        "design": {"runs": 8},
        "rounds": {"max": 0},
        # A command that fails: nothing is trained.
        "swarm": {"proxy": {"size": "counts", "tokens": 20_000}, "command": "false {dir}"},
        "search": {"candidates": 64, "top": 8},
        "validate": {"seeds": 1, "fresh_seeds": 1},
    }
    return recipe.change(lambda recipe_values: recipe_values.update(mix=values | mix))


def test_counts_lead_to_a_proposal_that_says_that_nothing_was_trained(recipe: SmallRecipe, tmp_path: Path) -> None:
    out = counting(recipe).mixed(tmp_path / "out")
    proposal = read_json(out / "proposal.json")
    assert proposal["decision"].endswith("By counted n-grams, not by trained models: a screen, not a measurement.")
    assert proposal["scale"] == "counted n-grams x 0.02M tokens"
    # Posts alone are wanted, and nothing is like posts but posts.
    assert proposal["weights"]["posts"] > proposal["prior"]["posts"]


def test_counted_runs_are_the_same_bytes_with_two_workers(recipe: SmallRecipe, tmp_path: Path) -> None:
    alone = counting(recipe).mixed(tmp_path / "alone", until="swarm")
    beside = recipe.mixed(tmp_path / "beside", "executor.workers=2", until="swarm")
    assert tree(alone / "steps") == tree(beside / "steps")


def test_counts_are_of_the_documents_that_proxies_are_measured_on(recipe: SmallRecipe, tmp_path: Path) -> None:
    counted = counting(recipe)
    run = Run(load_recipe(counted.path), tmp_path / "out")
    run.execute("tokenize")
    step = run.count().step
    assert isinstance(step, CountStep)
    with pytest.raises(RedoneError, match="the swarm command stopped"):
        Run(
            load_recipe(counted.path, ["mix.swarm.proxy.size=0.1m", "mix.swarm.command=bash -c 'exit 2' {dir}"]),
            tmp_path / "out",
        ).execute("swarm")
    (folder,) = (tmp_path / "out" / "steps").glob("swarm-*")
    for number, documents in enumerate(step.held_out().values()):
        np.testing.assert_array_equal(np.fromfile(folder / f"validation-{number:03d}.ds", "<u2"), documents.tokens)


def test_a_screen_joins_a_trained_swarm_and_the_search(recipe: SmallRecipe, tmp_path: Path) -> None:
    """Trained here by counts too, so the screen is right and must be chosen."""
    out = counting(recipe, screen=True).mixed(tmp_path / "out", until="search")
    (fitted,) = (out / "steps").glob("fit-*")
    rows = {row["metric"]: row for row in read_json(fitted / "fit.json")["report"]}
    assert {row["surrogate"] for row in rows.values()} == {"screened"}
    assert min(row["spearman"] for row in rows.values()) > 0.95


def test_what_if_prints_the_loss_of_any_mixture_beside_prior_and_uniform(recipe: SmallRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = redone("what-if", counting(recipe).path, "--out", out, "--weights", "posts=.8,wiki=.2", "--json")
    answer = json.loads(finished.out)
    assert answer["counted"] is True
    assert answer["weights"]["asked"] == {"notes": 0.0, "posts": 0.8, "wiki": 0.2}
    assert answer["losses"]["asked"]["posts"] < answer["losses"]["uniform"]["posts"]
    table = redone_here("what-if", recipe.path, "--out", out, "--weights", "posts=.8,wiki=.2").out
    assert f"{answer['losses']['asked']['posts']:.3f}" in table
    assert "not by trained models" in table


@pytest.mark.parametrize("weights", ["posts", "posts=a", "posts=.5,posts=.5", "=1"])
def test_weights_that_cannot_be_read_are_said_in_one_line(recipe: SmallRecipe, tmp_path: Path, weights: str) -> None:
    finished = redone_here("what-if", recipe.path, "--out", tmp_path / "out", "--weights", weights)
    assert finished.code == 2
    assert "expected domain=share" in finished.error
