"""The main job on a small recipe: what it leaves, that it is the same each time, and that it does nothing twice."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_run import SmallRecipe, tree, write_recipe

from redone_data.manifest import file_digest, read_json
from redone_data.pipeline import Run
from redone_data.recipe import load_recipe
from redone_data.tokens.dataset import TokenDataset

DOMAINS = ["notes", "posts", "wiki"]


def test_a_run_leaves_everything_that_others_build_on(reference: Path) -> None:
    names = {path.name for path in reference.iterdir()} - {".lock"}
    folders = {"corpus", "ledger", "quarantine", "tokens", "validation", "steps"}
    assert names == folders | {"proposal.json", "report.html", "manifest.json", "timings.json"}
    proposal = read_json(reference / "proposal.json")
    keys = {"domains", "weights", "prior", "uniform", "epochs", "metrics", "surrogate", "seed", "schema_version"}
    assert keys <= set(proposal)
    assert proposal["domains"] == DOMAINS
    assert proposal["weights"] == {"notes": 0.25, "posts": 0.5, "wiki": 0.25}
    for name in ("weights", "prior", "uniform"):
        assert sum(proposal[name].values()) == pytest.approx(1, abs=1e-6)
    dataset = TokenDataset.open(reference / "tokens")
    assert dataset.num_tokens == pytest.approx(20_000, rel=0.01)
    for name in read_json(reference / "tokens" / "manifest.json")["shards"]:
        assert name


def test_every_document_is_kept_or_has_one_line_in_the_ledger(reference: Path) -> None:
    kept = pl.read_parquet(sorted((reference / "corpus").rglob("*.parquet")))
    dropped = pl.read_parquet(sorted((reference / "ledger").rglob("*.parquet")))
    assert kept.height + dropped.height == 3 * 300 + 1
    assert not set(kept["id"]) & set(dropped["id"])
    assert {"exact_duplicate", "near_duplicate"} <= set(dropped["rule"].cast(pl.String))
    assert set(dropped["duplicate_of"].drop_nulls()) <= set(kept["id"])
    quarantined = pl.read_parquet(sorted((reference / "quarantine").rglob("*.parquet")))
    assert quarantined.height == 6
    assert not kept["text"].str.contains("@example.com|13800138", literal=False).any()


def test_two_runs_give_the_same_bytes(reference: Path, recipe: SmallRecipe, tmp_path: Path) -> None:
    assert tree(recipe.mixed(tmp_path / "again")) == tree(reference)


def test_two_workers_give_the_same_bytes(reference: Path, recipe: SmallRecipe, tmp_path: Path) -> None:
    out = recipe.mixed(tmp_path / "parallel", "executor.workers=2", until="curate")
    assert tree(out / "steps").items() <= tree(reference / "steps").items()


def test_the_order_and_the_names_of_input_files_do_not_matter(
    reference: Path, recipe: SmallRecipe, tmp_path: Path
) -> None:
    def shuffle(values: dict[str, Any]) -> None:
        values["domains"]["posts"]["sources"][0]["paths"].reverse()

    assert tree(recipe.change(shuffle).mixed(tmp_path / "shuffled")) == tree(reference)
    data = recipe.path.parent / "data"
    names = {"posts-0.jsonl": "z.jsonl", "posts-1.jsonl": "a.jsonl", "notes.jsonl": "b.jsonl", "wiki.jsonl": "0.jsonl"}
    for old, new in names.items():
        (data / old).rename(data / new)

    def rename(values: dict[str, Any]) -> None:
        for domain in values["domains"].values():
            domain["sources"][0]["paths"] = [f"data/{names[Path(path).name]}" for path in domain["sources"][0]["paths"]]

    out = recipe.change(rename).mixed(tmp_path / "renamed")
    # Where a record could not be read is told by the file's name, in the quarantine and in manifests.
    apart = ("manifest.json", "quarantine/", "steps/")
    assert tree(out, without=apart) == tree(reference, without=apart)
    assert [entry["sha256"] for entry in read_json(out / "manifest.json")["inputs"]] == [
        entry["sha256"] for entry in read_json(reference / "manifest.json")["inputs"]
    ]


def test_a_second_run_does_nothing_and_says_so(recipe: SmallRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe.mix(out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "timings.json" and path != out}
    finished = recipe.mix_here(out)
    assert "Nothing to do: everything was already done." in finished.out
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "timings.json" and path != out}
    assert before == after


def steps_run(recipe: SmallRecipe, out: Path, *assignments: str) -> set[str]:
    run = Run(load_recipe(recipe.path, assignments), out)
    run.execute()
    return {name.rpartition("-")[0] for name in run.engine.ran}


def test_changing_one_thing_runs_what_follows_from_it_and_no_more(
    recipe: SmallRecipe, reference: Path, tmp_path: Path
) -> None:
    out = recipe.mixed(tmp_path / "out")
    sampled = {"sample-plan", "sample-scatter", "sample-shard"}
    curated = {"judge", "resolve", "ledger", "keep", "tokenizer", "pool"} | sampled
    assert steps_run(recipe, out, "mix.weights={posts: 1, notes: 1, wiki: 1}") == sampled
    assert steps_run(recipe, out, "domains.notes.rules.bounds.num_words.min=40") == curated
    # Back to the first recipe: nothing is computed, but the folder shows that run again.
    assert steps_run(recipe, out) == set()
    assert tree(out, without=("steps/",)) == tree(reference, without=("steps/",))


def test_the_report_is_that_of_the_run_that_the_folder_shows(recipe: SmallRecipe, tmp_path: Path) -> None:
    out, other = tmp_path / "out", ("--set", "mix.weights={posts: 7, notes: 2, wiki: 1}")
    for options, shown in (((), False), (other, True), ((), False)):
        finished = recipe.mix_here(out, *options)
        assert finished.code == 0, finished.err
        assert "Nothing to do" not in finished.out
        assert ("70.0" in (out / "report.html").read_text(encoding="utf-8")) == shown


def test_emit_text_gives_the_documents_of_the_tokens(recipe: SmallRecipe, reference: Path, tmp_path: Path) -> None:
    both = recipe.mixed(tmp_path / "both", emit="both")
    text = recipe.mixed(tmp_path / "text", emit="text")
    assert not (text / "tokens").exists()
    same = ("steps/", "text/", "manifest.json")
    assert tree(both, without=same) == tree(reference, without=same)
    assert tree(both / "text") == tree(text / "text")
    rows = pl.read_parquet(sorted((text / "text").glob("*.parquet")))
    spans = pl.read_parquet(sorted((both / "tokens").glob("*.spans.parquet")))
    assert rows["id"].to_list() == spans["id"].to_list()
    recipe.mixed(both)
    assert not (both / "text").exists(), "text of an earlier --emit stays"


def test_another_seed_gives_another_order_and_is_recorded(recipe: SmallRecipe, reference: Path, tmp_path: Path) -> None:
    out = recipe.mixed(tmp_path / "out", seed=2)
    assert read_json(out / "proposal.json")["seed"] == 2
    assert file_digest(out / "tokens" / "00000.ds") != file_digest(reference / "tokens" / "00000.ds")


def test_a_dry_run_writes_nothing_and_says_what_is_to_do(recipe: SmallRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = recipe.mix_here(out, "--dry-run")
    assert finished.code == 0, finished.err
    assert "to do" in finished.out
    assert not out.exists()
    planned = json.loads(recipe.mix_here(out, "--dry-run", "--json").out)
    assert {step["done"] for step in planned["steps"]} == {False}
    assert sorted(Path(file["path"]).name for file in planned["inputs"]) == [
        "notes.jsonl",
        "posts-0.jsonl",
        "posts-1.jsonl",
        "wiki.jsonl",
    ]
    recipe.mixed(out, until="curate")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    planned = json.loads(recipe.mix_here(out, "--dry-run", "--json").out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert {step["stage"] for step in planned["steps"] if step["done"]} == {"read", "judge", "curate"}


def test_json_is_all_that_stands_on_standard_output(recipe: SmallRecipe, tmp_path: Path) -> None:
    result = json.loads(recipe.mix(tmp_path / "out", "--json").out)
    assert (result["complete"], result["proposal"]["domains"]) == (True, DOMAINS)
    assert result["domains"]["posts"]["read"] == 300


def test_a_published_folder_that_was_deleted_comes_back(recipe: SmallRecipe, tmp_path: Path) -> None:
    out = recipe.mixed(tmp_path / "out")
    whole = tree(out)
    shutil.rmtree(out / "tokens")
    recipe.mixed(out)
    assert tree(out) == whole


def test_a_run_can_be_moved_and_goes_on_elsewhere(recipe: SmallRecipe, reference: Path, tmp_path: Path) -> None:
    recipe.mixed(tmp_path / "here", until="tokenize")
    (tmp_path / "here").rename(tmp_path / "there")
    assert tree(recipe.mixed(tmp_path / "there")) == tree(reference)


def test_weights_of_an_earlier_proposal_are_taken(recipe: SmallRecipe, reference: Path, tmp_path: Path) -> None:
    shutil.copyfile(reference / "proposal.json", recipe.path.parent / "earlier.json")
    recipe.change(lambda values: values.update(mix={"proposal": "earlier.json"}))
    out = recipe.mixed(tmp_path / "out")
    assert tree(out / "tokens") == tree(reference / "tokens")
    assert "earlier.json" in read_json(out / "proposal.json")["decision"]


def test_the_main_job_runs_without_torch(recipe: SmallRecipe, reference: Path, tmp_path: Path) -> None:
    fake = tmp_path / "without"
    for name in ("torch", "transformers", "redone_train"):
        (fake / name).mkdir(parents=True)
        (fake / name / "__init__.py").write_text(f"raise ImportError('{name} was imported')\n")
    finished = recipe.mix(tmp_path / "out", PYTHONPATH=str(fake))
    assert finished.code == 0, finished.err
    assert tree(tmp_path / "out") == tree(reference)


def test_shuffled_lines_give_the_same_documents(recipe: SmallRecipe, reference: Path, tmp_path: Path) -> None:
    """Another order within a file is another file, so other bytes; but the same documents stay."""
    path = recipe.path.parent / "data" / "notes.jsonl"
    lines = path.read_text().splitlines()
    random.Random(0).shuffle(lines)
    path.write_text("\n".join(lines) + "\n")
    out = recipe.mixed(tmp_path / "out")

    def kept(root: Path) -> list[str]:
        return sorted(pl.read_parquet(sorted((root / "corpus").rglob("*.parquet")))["id"])

    assert kept(out) == kept(reference)


def test_a_recipe_and_its_data_can_lie_anywhere(reference: Path, tmp_path: Path) -> None:
    assert tree(write_recipe(tmp_path / "an other [place]").mixed(tmp_path / "out")) == tree(reference)
