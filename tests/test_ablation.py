"""Ablation: a filter that helps is seen to help, noise is not, and no variant has seen the held-out text."""

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from small_run import made_up_posts, redone

from redone_data.ablation.measure import FOLDER, RECIPE, Ablator
from redone_data.ablation.page import remarks
from redone_data.ablation.result import NotMeasured, compare
from redone_data.ablation.variants import chosen, tried, variants
from redone_data.engine import Silent
from redone_data.errors import RedoneError
from redone_data.recipe import LoadedRecipe, load_recipe

JUNK = "#$%^&*+=<>~|0123456789"


@pytest.fixture
def recipe(tmp_path: Path) -> LoadedRecipe:
    """Two domains; three in four records of `posts` are signs and digits, which one rule drops."""
    rng = random.Random(1)
    posts = made_up_posts("posts", "en", 400)
    posts += [
        json.dumps({"id": f"junk-{i}", "text": " ".join("".join(rng.choices(JUNK, k=5)) for _ in range(40))})
        for i in range(1200)
    ]
    (tmp_path / "posts.jsonl").write_text("\n".join(posts) + "\n", encoding="utf-8")
    (tmp_path / "wiki.jsonl").write_text("\n".join(made_up_posts("wiki", "en", 400)) + "\n", encoding="utf-8")
    values: dict[str, Any] = {
        "domains": {
            name: {"sources": [{"paths": [f"{name}.jsonl"], "fields": {"id": "id"}}]} for name in ("posts", "wiki")
        },
        "read": {"max_bad_fraction": 0.05},
        "curate": {"validation": {"fraction": 0.1, "min_documents": 20}},
        "tokens": {"tokenizer": {"vocab_size": 600}},
        "mix": {
            "weights": {"posts": 1, "wiki": 1},
            "swarm": {"proxy": {"size": "0.1m", "tokens": 40_000, "context": 64}, "validation_tokens": 3_000},
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_recipe(path)


@pytest.mark.usefixtures("one_core")
def test_a_rule_that_drops_junk_is_seen_to_help_where_the_junk_was(recipe: LoadedRecipe, tmp_path: Path) -> None:
    wanted = chosen(variants(recipe.recipe), ["without alpha_fraction", "without deduplication"])
    ablator = Ablator(recipe, tmp_path / "run", Silent(), seeds=2, min_share=0.002)
    found = ablator.measure(wanted)
    by_name = {row.variant: row for row in found.measured}
    changes = {change.metric: change for change in by_name["without alpha_fraction"].changes}
    assert changes["posts"].verdict == "worse"
    assert by_name["without alpha_fraction"].share_by_domain["posts"] > 1
    assert by_name["without alpha_fraction"].share_by_domain["wiki"] == 0
    assert [row.variant for row in found.not_measured] == []
    assert found.mixture_from == "mix.weights"

    held_out = set(pl.read_parquet(tmp_path / "run" / FOLDER / "held-out.parquet")["text"])
    kept = [pl.read_parquet(path) for path in sorted((tmp_path / "run" / "steps").glob("keep-*/*/*.parquet"))]
    assert held_out
    with_copies = [frame for frame in kept if held_out & set(frame["text"])]
    # Only the recipe's own text holds them: its validation split, which nothing trains on.
    assert all(
        not held_out & set(frame.filter(pl.col("split").cast(pl.String) == "train")["text"]) for frame in with_copies
    )


@pytest.mark.on_demand
def test_the_verb_writes_a_page_and_says_what_it_did_not_train(recipe: LoadedRecipe, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "run", "--only", "without emoji_fraction", "--only", "without near_duplicates")
    done = redone("ablate", recipe.path, *arguments, "--seeds", 2)
    assert done.code == 0, done.err
    assert "Not trained, for no document changes: without emoji_fraction." in done.out
    assert "intervals, by domain and for the objective, about" in done.out
    page = (tmp_path / "run" / FOLDER / "ablation.html").read_text(encoding="utf-8")
    assert "without near_duplicates" in page
    stored = json.loads((tmp_path / "run" / FOLDER / "ablation.json").read_text(encoding="utf-8"))
    assert [row["variant"] for row in stored["measured"]] == ["without near_duplicates"]
    listed = redone("ablate", recipe.path, "--list")
    assert listed.out.splitlines()[:3] == ["without deduplication", "without near_duplicates", "without rules"]
    refused = redone("ablate", recipe.path, "--only", "without neer_duplicates", "--out", tmp_path / "run")
    assert refused.code == 2
    assert "without near_duplicates" in refused.error


def test_what_is_off_is_switched_on_and_own_variants_may_change_curation_only(recipe: LoadedRecipe) -> None:
    off = load_recipe(recipe.path, ["curate.deduplicate=false"])
    assert variants(off.recipe)[0].name == "with deduplication"
    # Neither recipe names languages, so there is nothing to switch off.
    assert "without languages" not in {variant.name for variant in variants(off.recipe)}
    (own,) = tried(recipe, ["curate.near.threshold=0.8"])
    assert own.recipe.curate.near.threshold == 0.8
    with pytest.raises(RedoneError, match="only curation is ablated"):
        tried(recipe, ["mix.max_epochs=2"])


def test_counted_proxies_are_refused_before_anything_is_curated(recipe: LoadedRecipe, tmp_path: Path) -> None:
    counted = load_recipe(recipe.path, ["mix.swarm.proxy.size=counts"])
    with pytest.raises(RedoneError, match=r"an ablation trains proxies.*--set mix\.swarm\.proxy\.size=0\.3m"):
        Ablator(counted, tmp_path / "run", Silent(), seeds=2, min_share=0.002)
    assert not (tmp_path / "run").exists()


def _compare(losses: dict[str, dict[str, list[float]]]) -> Any:
    documents = {name: {"a": 10} for name in losses}
    return compare(
        losses,
        recipe=RECIPE,
        objective={"a": 1.0},
        documents=documents,
        skipped=[],
        mixture={"a": 1.0},
        mixture_from="mix.weights",
        scale="",
        seeds=2,
    )


def test_a_difference_within_the_noise_of_seeds_is_not_called_one() -> None:
    found = _compare({RECIPE: {"a": [1.0, 1.1, 0.9, 1.0]}, "x": {"a": [1.05, 1.0]}, "y": {"a": [2.0, 2.1]}})
    verdicts = {row.variant: row.objective.verdict for row in found.measured}
    assert verdicts == {"x": "no difference seen", "y": "worse"}
    change = found.measured[0].objective
    # By hand: squared deviations .02 + .00125 + .005 over 5 degrees of freedom, t(.975, 5) = 2.5706.
    assert change.half_width == pytest.approx(2.5706 * (0.02625 / 5) ** 0.5 * (1 / 2 + 1 / 4) ** 0.5, rel=1e-4)


def test_the_table_shows_the_domain_that_a_switch_touches_not_the_one_that_differs_most_by_luck() -> None:
    losses = {RECIPE: {"a": [1.0, 1.1], "b": [1.0, 1.1]}, "x": {"a": [1.0, 1.1], "b": [9.0, 9.1]}}
    found = compare(
        losses,
        recipe=RECIPE,
        objective={"a": 1.0},
        documents={RECIPE: {"a": 10, "b": 10}, "x": {"a": 15, "b": 10}},
        skipped=[NotMeasured("few", 1), NotMeasured("none", 0)],
        mixture={"a": 1.0},
        mixture_from="mix.weights",
        scale="",
        seeds=2,
    )
    most = found.measured[0].most_touched
    assert most is not None
    assert most.metric == "a"
    assert found.intervals == 3
    lines = remarks(found, min_share=0.1)
    assert lines[2:] == [
        "Not trained, for under 10.0% of the documents change: few (1).",
        "Not trained, for no document changes: none.",
    ]


def test_a_variant_all_of_whose_proxies_diverged_is_said_to_be_unknown() -> None:
    found = _compare({RECIPE: {"a": [1.0, 1.1]}, "x": {"a": []}})
    assert found.measured[0].objective.verdict == "unknown"
