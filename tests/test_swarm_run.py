"""The whole way to a proposal: a real swarm of tiny proxies, and trainers of the user's own."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from small_run import SmallRecipe, tree

from redone_data.errors import RedoneError
from redone_data.manifest import read_json

PROXY = {"size": "0.1m", "tokens": 4_000, "context": 32, "batch_tokens": 256}

# A trainer that trains nothing: the loss of a domain falls with the log of its weight, `posts` by far the fastest.
PLANTED = """
import csv, json, math, pathlib, sys
folder = pathlib.Path(sys.argv[1])
domains = sorted(json.loads((folder / "swarm.json").read_text())["domains"])
slope = {"posts": 1.0, "notes": 0.05, "wiki": 0.05}
with (folder / "runs.csv").open() as runs, (folder / "metrics.csv").open("w", newline="") as metrics:
    writer = csv.writer(metrics, lineterminator="\\n")
    writer.writerow(["run_id", *domains])
    for run in csv.DictReader(runs):
        writer.writerow([run["run_id"], *(3 - slope[name] * math.log(0.02 + float(run[name])) for name in domains)])
"""


def swarm_recipe(recipe: SmallRecipe, command: str | None = None, **mix: Any) -> SmallRecipe:
    values = {
        "design": {"runs": 4},
        "swarm": {"proxy": PROXY, "command": command},
        "validate": {"finalists": 2, "seeds": 1, "fresh_seeds": 1},
    } | mix
    return recipe.change(lambda recipe_values: recipe_values.update(mix=values))


def trainer(tmp_path: Path, text: str) -> str:
    path = tmp_path / "trainer.py"
    path.write_text(text)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{dir}}"


@pytest.mark.usefixtures("one_core")
@pytest.mark.on_demand  # the twin of recipes/tiny.sh has a real swarm, too
def test_a_real_swarm_gives_a_measured_or_an_honest_proposal(recipe: SmallRecipe, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    swarm_recipe(recipe)
    finished = recipe.mix(tmp_path / "first", "--json")
    assert finished.code == 0, finished.err
    proposal = json.loads(finished.out)["proposal"]
    for domain in ("notes", "posts", "wiki"):
        record = proposal["metrics"][domain]
        assert record["measured_prior"] > 0
        assert record["measured_uniform"] > 0
        assert record["measured"] > 0
    assert sum(proposal["weights"].values()) == pytest.approx(1, abs=1e-6)
    if "the prior is proposed" in proposal["decision"]:
        assert proposal["weights"] == proposal["prior"]
    assert len(proposal["seeds"]) == 1
    leftovers = [path.name for path in (tmp_path / "first").rglob("*") if path.suffix in (".log", ".pt")]
    assert not leftovers
    timings = read_json(tmp_path / "first" / "timings.json")["steps"]
    assert {"swarm", "validation"} <= set(timings)


@pytest.mark.on_demand
def test_a_real_swarm_gives_the_same_bytes_twice(recipe: SmallRecipe, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    swarm_recipe(recipe)
    recipe.mixed(tmp_path / "first")
    recipe.mixed(tmp_path / "second")
    assert tree(tmp_path / "first") == tree(tmp_path / "second")


def test_a_trainer_of_the_users_own_plugs_in_and_its_planted_optimum_is_found(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    command = trainer(tmp_path, PLANTED)
    swarm_recipe(recipe, command, design={"runs": 24}, validate={"seeds": 2, "fresh_seeds": 2})
    proposal = read_json(recipe.mixed(tmp_path / "out") / "proposal.json")
    assert proposal["weights"]["posts"] > proposal["prior"]["posts"] + 0.1
    objective = proposal["metrics"]["objective"]
    assert objective["measured"] < min(objective["measured_prior"], objective["measured_uniform"])
    assert "measured better than prior and uniform" in proposal["decision"]
    assert proposal["epochs"]["posts"] <= 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit('the cluster is down')", r"exited with 1:\n.*the cluster is down"),
        (
            "import sys; print('quota: 0 hours left; ask for more'); sys.exit(2)",
            "swarm command stopped: quota: 0 hours",
        ),
        ("pass", r"the swarm command ended without writing metrics\.csv"),
        (
            "import sys; open(sys.argv[1] + '/metrics.csv', 'w').write('run_id,posts\\nrun-0000,1\\n')",
            "runs without a row",
        ),
        ("import sys; open(sys.argv[1] + '/metrics.csv', 'w').write('')", r"metrics\.csv"),
        (
            PLANTED.replace("for name in domains", "for name in domains[1:]").replace("*domains", "*domains[1:]"),
            "no column",
        ),
    ],
)
def test_a_trainer_that_fails_is_quoted(recipe: SmallRecipe, tmp_path: Path, text: str, message: str) -> None:
    swarm_recipe(recipe, trainer(tmp_path, text), design={"runs": 8})
    with pytest.raises((RedoneError, RuntimeError), match=message):
        recipe.mixed(tmp_path / "out")
    trainer(tmp_path, PLANTED)  # mended, the same command goes on
    recipe.mixed(tmp_path / "out")


def test_runs_that_diverged_are_left_out_and_all_of_them_are_an_error(recipe: SmallRecipe, tmp_path: Path) -> None:
    diverging = (
        PLANTED
        + """
lost = sys.argv[2]
rows = (folder / "metrics.csv").read_text().splitlines(keepends=True)
(folder / "metrics.csv").write_text("".join(row for row in rows if not row.startswith(lost)))
(folder / "results").mkdir(exist_ok=True)
for row in rows[1:]:
    name = row.split(",")[0]
    result = {"run_id": name, "status": "diverged" if name.startswith(lost) else "ok", "curve": []}
    (folder / "results" / f"{name}.json").write_text(json.dumps(result))
"""
    )
    for lost, decision in (("run-0003", "measured better"), ("uniform", "the prior is proposed")):
        swarm_recipe(
            recipe,
            f"{trainer(tmp_path, diverging)} {lost}",
            design={"runs": 12},
            validate={"seeds": 2, "fresh_seeds": 2},
        )
        assert decision in read_json(recipe.mixed(tmp_path / lost) / "proposal.json")["decision"]
    swarm_recipe(recipe, f"{trainer(tmp_path, diverging)} run-", design={"runs": 12})
    with pytest.raises(RedoneError, match=r"all 12 proxy runs diverged; lower mix\.swarm\.proxy\.learning_rate"):
        recipe.mixed(tmp_path / "all")


def test_a_command_that_is_not_there_or_without_a_folder_is_the_users_to_mend(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    finished = swarm_recipe(recipe, "no-such-trainer {dir}").mix_here(tmp_path / "out")
    assert finished.code == 2, finished.err
    assert "mix.swarm.command: no-such-trainer: No such file or directory" in finished.error
    finished = swarm_recipe(recipe, "trainer").mix_here(tmp_path / "out")
    assert "mix.swarm: command: 'trainer' does not say where the swarm's folder goes; put {dir} in it" in finished.error


def test_a_proxy_size_that_is_not_known_is_the_users_to_mend(recipe: SmallRecipe, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    swarm_recipe(recipe)
    finished = recipe.mix_here(tmp_path / "out", "--set", "mix.swarm.proxy.size=0.2m")
    assert finished.code == 2, finished.err
    assert "mix.swarm: proxy.size: unknown size '0.2m'" in finished.error
    assert not (tmp_path / "out").exists(), "read and tokenized before it was said"
    assert "known: 0.1m, 0.3m" in finished.error
