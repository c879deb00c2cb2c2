"""Rounds of proxies and reuse of earlier ones, as a recipe wires them; the trainer is planted and trains nothing."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from small_run import SmallRecipe, tree

from redone_data.errors import RedoneError
from redone_data.manifest import read_json
from redone_data.mix.record import MixtureRecord
from redone_data.mix.swarm import trained
from redone_data.pipeline import Run
from redone_data.recipe import load_recipe
from redone_data.summarize import summarize

# The loss of a domain falls with its weight and with that of `posts`, of which the prior has little; a little noise.
PLANTED = """
import csv, json, pathlib, random, sys
folder = pathlib.Path(sys.argv[1])
domains = sorted(json.loads((folder / "swarm.json").read_text())["domains"])
with (folder / "runs.csv").open() as runs, (folder / "metrics.csv").open("w", newline="") as metrics:
    writer = csv.writer(metrics, lineterminator="\\n")
    writer.writerow(["run_id", *domains])
    for run in csv.DictReader(runs):
        draw = random.Random(run["seed"])
        own, posts = (lambda name: float(run[name])), float(run.get("posts", 0))
        loss = lambda name: 1 + (0.3 + 0.1 * own(name) ** 0.5 + posts ** 0.5) ** -0.5 + draw.gauss(0, NOISE)
        writer.writerow([run["run_id"], *(loss(name) for name in domains)])
"""


def planted(recipe: SmallRecipe, noise: float = 1e-4, extra: str = "", **mix: Any) -> SmallRecipe:
    path = recipe.path.parent / "trainer.py"
    path.write_text(extra + PLANTED.replace("NOISE", str(noise)))
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{dir}}"
    values = {"design": {"runs": 16}, "fit": {"surrogates": ["linear", "saturating"]}, "validate": {"seeds": 0}}
    values |= {"rounds": {"max": 2, "runs": 4}, "swarm": {"command": command, "proxy": {"tokens": 5_000}}} | mix
    return recipe.change(lambda recipe_values: recipe_values.update(mix=values))


def finished(recipe: SmallRecipe, out: Path) -> Run:
    run = Run(load_recipe(recipe.path), out)
    run.execute("search")
    return run


def test_rounds_follow_the_first_swarm_and_say_why_they_ended(recipe: SmallRecipe, tmp_path: Path) -> None:
    run = finished(planted(recipe), tmp_path / "out")
    assert run.fitted is not None
    said = read_json(run.fitted.folder / "rounds.json")
    names = [swarm.folder.name.rpartition("-")[0] for swarm in run.swarms]
    assert names == ["swarm", "round-1", "round-2"]
    assert said["stopped"] == "the budget of rounds is spent (mix.rounds.max is 2)"
    assert said["next"] == []
    assert [(row["round"], row["runs"]) for row in said["trace"]] == [(0, 16), (1, 20), (2, 24)]
    assert all(row["expected_gain"] > row["noise_floor"] > 0 for row in said["trace"][:2])
    assert said["trace"][0]["next"] == {"again": 1, "diverse": 1, "improving": 2}
    ids = [run_id for swarm in run.swarms for run_id in trained(swarm.folder).run_ids]
    assert ids == [f"run-{i:04d}" for i in range(24)]
    assert [proxy.run_id for proxy in run.runs] == ids
    assert run.fitted.tasks[0]["runs"] == 24


def test_rounds_end_at_the_noise_floor_and_are_off_where_the_recipe_says_so(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    run = finished(planted(recipe, noise=0.02), tmp_path / "out")
    assert run.fitted is not None
    said = read_json(run.fitted.folder / "rounds.json")
    assert said["trace"][-1]["expected_gain"] is None or "is under the noise floor" in said["stopped"]
    assert len(run.swarms) < 3 or said["trace"][-1]["expected_gain"] is None
    without = finished(planted(recipe, rounds={"max": 0}), tmp_path / "without")
    assert without.fitted is not None
    assert len(without.swarms) == 1
    assert not (without.fitted.folder / "rounds.json").exists()


def test_a_run_that_ended_in_a_later_round_goes_on_there_to_the_same_bytes(recipe: SmallRecipe, tmp_path: Path) -> None:
    whole = finished(planted(recipe), tmp_path / "whole")
    stop = (
        "import sys, pathlib\nif 'run-0020' in (pathlib.Path(sys.argv[1]) / 'runs.csv').read_text(): sys.exit('lost')\n"
    )
    with pytest.raises(RuntimeError, match="lost"):
        finished(planted(recipe, extra=stop), tmp_path / "out")
    again = finished(planted(recipe), tmp_path / "out")
    assert {name.rpartition("-")[0] for name in again.engine.ran} == {"round-2", "fit", "search"}
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert whole.runs == again.runs


# Every run whose id matches diverges: it has a result that says so, and no row of metrics.
DIVERGING = """
import csv, json, pathlib, re, sys
folder = pathlib.Path(sys.argv[1])
ids = [run["run_id"] for run in csv.DictReader((folder / "runs.csv").open())]
lost = [run_id for run_id in ids if re.fullmatch(LOST, run_id)]
(folder / "results").mkdir(exist_ok=True)
for run_id in lost:
    result = {"run_id": run_id, "status": "diverged", "curve": []}
    (folder / "results" / f"{run_id}.json").write_text(json.dumps(result))
if lost == ids:
    domains = sorted(json.loads((folder / "swarm.json").read_text())["domains"])
    (folder / "metrics.csv").write_text(",".join(["run_id", *domains]) + "\\n")
    sys.exit(0)
"""


def test_a_later_batch_that_diverged_as_a_whole_is_named_and_does_not_cost_the_runs_before_it(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    lost = "run-00(16|17|18|19)"
    run = Run(load_recipe(planted(recipe, extra=DIVERGING.replace("LOST", repr(lost))).path), tmp_path / "out")
    run.execute()
    assert [swarm.folder.name.rpartition("-")[0] for swarm in run.swarms] == ["swarm", "round-1", "round-2"]
    assert run.fitted is not None
    assert run.fitted.tasks[0]["runs"] == 20
    assert run.proposal is not None
    assert run.proposal.diverged == tuple(f"round-1/run-{i:04d}" for i in range(16, 20))
    assert "4 proxies of the swarm diverged and are left out: run-0016, run-0017" in run.proposal.decision
    # Its runs are named to a recipe that would take them over, too.
    later = planted(recipe, rounds={"max": 0}, reuse=[str(tmp_path / "out")])
    (reused,) = finished(later, tmp_path / "later").reused
    assert read_json(reused.folder / "reuse.json")["left_out"] == dict.fromkeys(
        [f"run-{i:04d}" for i in range(16, 20)], "its proxy diverged"
    )


def test_a_first_swarm_that_diverged_as_a_whole_stops_the_run_with_the_remedy(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    with pytest.raises(RedoneError, match=r"all 16 proxy runs diverged; lower mix\.swarm\.proxy\.learning_rate"):
        finished(planted(recipe, extra=DIVERGING.replace("LOST", "'.*'")), tmp_path / "out")


def test_runs_of_an_earlier_recipe_stand_in_for_new_ones(recipe: SmallRecipe, tmp_path: Path) -> None:
    planted(recipe, rounds={"max": 0}).mixed(tmp_path / "earlier")
    first = read_json(tmp_path / "earlier" / "manifest.json")["steps"]
    planted(recipe, rounds={"max": 0}, reuse=[str(tmp_path / "earlier")], targets={"wiki": 1, "notes": 1})
    run = finished(recipe, tmp_path / "later")
    (reused,) = run.reused
    said = read_json(reused.folder / "reuse.json")
    assert len(said["reused"]) == 16
    assert (said["left_out"], said["not_measured"]) == ({}, [])
    assert said["metrics"] == ["notes", "posts", "wiki"]
    swarm = next(name for name in first if name.startswith("swarm-"))
    before, after = trained(tmp_path / "earlier" / "steps" / swarm), trained(reused.folder)
    assert after.run_ids == tuple(f"reused0-{run_id}" for run_id in before.run_ids)
    assert after.losses_RM.tolist() == before.losses_RM.tolist()
    assert len(run.runs) == 4  # the prior and uniform, and the prior twice again
    assert run.fitted is not None
    assert run.fitted.tasks[0]["runs"] == 20
    (tmp_path / "later" / "trainer-ran").touch()
    assert finished(recipe, tmp_path / "later").engine.ran == []


def test_a_domain_that_was_added_keeps_the_runs_and_is_fitted_on_its_own(recipe: SmallRecipe, tmp_path: Path) -> None:
    wiki = recipe.values["domains"].pop("wiki")
    planted(recipe, rounds={"max": 0}).mixed(tmp_path / "earlier")
    steps = tmp_path / "earlier" / "steps"
    (tokenizer,) = steps.glob("tokenizer-*/tokenizer.json")
    shutil.copyfile(tokenizer, recipe.path.parent / "tokenizer.json")
    recipe.values["tokens"]["tokenizer"] = {"path": "tokenizer.json", "eos": "<|endoftext|>"}
    # One text of `notes` is in `wiki` too, which would have gone to the domain of higher priority: `notes`.
    recipe.values["domains"]["wiki"] = wiki
    planted(recipe, rounds={"max": 0}, reuse=[str(tmp_path / "earlier")])
    run = finished(recipe, tmp_path / "later")
    (reused,) = run.reused
    said = read_json(reused.folder / "reuse.json")
    assert len(said["reused"]) == 16, said
    assert said["not_measured"] == ["wiki"]
    assert trained(reused.folder).metrics == ("notes", "posts")
    assert len(run.runs) == 8
    assert run.fitted is not None
    assert {row["metric"] for row in read_json(run.fitted.folder / "fit.json")["report"]} == {"notes", "posts", "wiki"}


def test_runs_that_do_not_hold_are_left_out_with_the_reason(recipe: SmallRecipe, tmp_path: Path) -> None:
    planted(recipe, rounds={"max": 0}).mixed(tmp_path / "earlier")
    reuse = {"rounds": {"max": 0}, "reuse": [str(tmp_path / "earlier")]}

    def reasons(name: str) -> set[str]:
        run = Run(load_recipe(recipe.path), tmp_path / name)
        run.execute("design")
        (reused,) = run.reused
        assert reused.statistics["reused"] + reused.statistics["left_out"] == 16
        return set(read_json(reused.folder / "reuse.json")["left_out"].values())

    command = planted(recipe).values["mix"]["swarm"]["command"]
    planted(recipe, **reuse, swarm={"command": command, "proxy": {"tokens": 6_000}})
    (proxy,) = reasons("proxy")
    assert proxy.startswith("mix.swarm.proxy was")
    planted(recipe, **reuse)
    recipe.change(lambda values: values["tokens"].update(budget=30_000))
    assert all("the budget or the proxies' tokens differ" in reason for reason in reasons("budget"))
    recipe.change(lambda values: values["tokens"].update(budget=20_000))
    recipe.change(lambda values: values["domains"]["notes"].update(rules={"bounds": {"num_words": {"min": 40}}}))
    assert reasons("tokenizer") == {
        "the text was tokenized by another tokenizer; set tokens.tokenizer.path to the earlier one"
    }
    (tokenizer,) = (tmp_path / "earlier" / "steps").glob("tokenizer-*/tokenizer.json")
    shutil.copyfile(tokenizer, recipe.path.parent / "tokenizer.json")
    recipe.change(lambda values: values["tokens"].update(tokenizer={"path": "tokenizer.json", "eos": "<|endoftext|>"}))
    assert "the documents of 'notes' differ" in reasons("documents")
    seeded = Run(load_recipe(recipe.path, seed=2), tmp_path / "seed")
    seeded.execute("design")
    left = read_json(seeded.reused[0].folder / "reuse.json")["left_out"]
    assert all("another seed" in reason for reason in left.values())


def test_an_earlier_folder_that_leads_elsewhere_or_is_not_one_is_refused(recipe: SmallRecipe, tmp_path: Path) -> None:
    planted(recipe, reuse=[str(tmp_path / "nothing")])
    with pytest.raises(RedoneError, match=r"has no manifest\.json; name the folder of a run that is finished"):
        finished(recipe, tmp_path / "out")
    planted(recipe, reuse=[str(tmp_path / "out")])
    with pytest.raises(RedoneError, match="is this run's own folder"):
        finished(recipe, tmp_path / "out")
    planted(recipe, rounds={"max": 0}).mixed(tmp_path / "earlier")
    planted(recipe, reuse=[str(tmp_path / "earlier")])
    (metrics,) = (tmp_path / "earlier" / "steps").glob("swarm-*/metrics.csv")
    elsewhere = metrics.rename(tmp_path / "metrics.csv")
    metrics.symlink_to(elsewhere)
    with pytest.raises(RedoneError, match="leads out of"):
        finished(recipe, tmp_path / "out")
    metrics.unlink()
    elsewhere.rename(metrics)
    (manifest,) = (tmp_path / "earlier" / "steps").glob("pool-*/manifest.json")
    values = read_json(manifest)
    values["tasks"][0]["files"]["train"] = "../../../../etc/passwd"
    manifest.write_text(json.dumps(values))
    with pytest.raises(RedoneError, match="is no pool's"):
        finished(recipe, tmp_path / "out")


def rows(record: MixtureRecord) -> dict[str, Any]:
    """Everything that the record tells."""
    names = [name for name, kind in vars(MixtureRecord).items() if hasattr(kind, "__get__") and name[0] != "_"]
    told = {name: getattr(record, name) for name in names}
    return {name: value for name, value in told.items() if not callable(value)}


def test_a_moved_mixture_folder_tells_notebooks_what_the_report_of_the_run_shows(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    validate = {"finalists": 2, "seeds": 2, "fresh_seeds": 2, "proxy": {"size": "0.1m", "tokens": 8_000}}
    planted(recipe, targets={"posts": 1}, retention={}, validate=validate)
    run = Run(load_recipe(recipe.path), tmp_path / "out")
    run.execute()
    copied = tmp_path / "copied"
    shutil.copytree(tmp_path / "out" / "mixture", copied / "mixture")
    shutil.copy(tmp_path / "out" / "proposal.json", copied)
    read = rows(MixtureRecord.open(copied))
    assert {name for name, value in read.items() if not value} <= {"curves", "weight_ranges"}
    assert [row.batch for row in read["proxies"]] == [0] * 16 + [1] * 4 + [2] * 4
    assert {len(row.measured) for row in read["measured"]} == {2}
    summary = summarize(run)
    for name in (
        "skill",
        "held_out",
        "measured",
        "finalists",
        "noise",
        "learning",
        "front",
        "rivals",
        "effects",
        "rounds",
        "proxies",
        "stopped",
    ):
        assert read[name] == getattr(summary, name), name
    nested = {row["metric"]: row["spearman"] for row in read_json(copied / "mixture" / "fit.json")["report"]}
    assert {row.metric: row.spearman for row in read["skill"] if row.chosen} == nested
    # A prediction at the swarm's scale does not stand beside a measurement at another one.
    carried = {item.name: item.carried for item in MixtureRecord.open(copied).proposal.finalists}
    prior = next(row for row in read["measured"] if (row.mixture, row.metric) == ("prior", "posts"))
    assert (prior.predicted, prior.low, prior.high) == (carried["prior"].get("posts"), None, None)
    assert {row.name: row.predicted for row in read["finalists"]} == {
        name: losses.get("objective") for name, losses in carried.items()
    }
    # The point that was chosen is what was predicted for it, and the prior lies where it was predicted.
    searched = read_json(copied / "mixture" / "search.json")
    assert read["rivals"]["prior"][0] == pytest.approx(searched["predicted"]["prior"]["posts"]["predicted"])
    again = Run(load_recipe(recipe.path, ["mix.weights={posts: 1, notes: 1, wiki: 1}"]), tmp_path / "out")
    again.execute()
    assert not (tmp_path / "out" / "mixture").exists(), "the mixture of an earlier recipe stays"
    with pytest.raises(RedoneError, match=r"there is no mixture/search.json"):
        MixtureRecord.open(tmp_path / "out")
