"""The command line: every verb has help, docs, and runs; every mistake of a user is one line and exit code 2."""

import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from small_run import SmallRecipe, redone, redone_here, tree

from redone_data.inspection import show
from redone_data.pipeline import STAGES, Stage

STAGE_VERBS = ["mix", "report", *STAGES]
VERBS = [*STAGE_VERBS, "init", "inspect"]
DOCS = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_a_section_in_the_docs(verb: str) -> None:
    finished = redone(verb, "--help")
    assert finished.code == 0
    described = finished.out.split("Options")[0].splitlines()
    assert max(map(len, described)) > 30, "no text"
    assert f"\n## redone-data {verb}\n" in DOCS
    for option in re.findall(r"--[a-z][a-z-]+", finished.out) if verb in STAGE_VERBS else []:
        assert option == "--help" or f"| `{option}" in DOCS, f"{option} is not in the table of docs/cli.md"


def test_help_lists_every_verb() -> None:
    finished = redone("--help")
    assert finished.code == 0
    assert set(VERBS) <= set(finished.out.split())


def test_verbs_run_one_after_another_and_inspect_shows_what_they_wrote(recipe: SmallRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for verb in ("curate", "validate", "sample", "report"):
        assert not (out / "manifest.json").exists() or verb == "report"
        finished = redone(verb, recipe.path, "--out", out)
        assert finished.code == 0, finished.err
    assert (out / "report.html").is_file()
    for what in (out / "tokens", out / "corpus", out / "ledger", out / "proposal.json"):
        console = Console(file=io.StringIO(), width=120)
        show(what, console, examples=2, dropped=None, document=None)
        assert len(console.file.getvalue()) > 50
    shown = redone("inspect", out, "--dropped", "exact_duplicate", "-n", 2).out
    assert "documents were dropped by exact_duplicate" in shown
    kept = re.findall(r"\b[0-9a-f]{32}\b", shown)[-1]
    assert kept in redone("inspect", out, "--id", kept).out


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_the_last(stage: Stage, recipe: SmallRecipe, tmp_path: Path) -> None:
    recipe.mixed(tmp_path, until=stage)
    assert (tmp_path / "manifest.json").exists() == (stage == "sample")


def test_the_recipe_that_init_writes_is_a_start(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    assert redone("init", path).code == 0
    before = path.read_bytes()
    assert "exists; give another name, or --force" in redone("init", path).error
    assert path.read_bytes() == before
    assert redone("init", path, "--force").code == 0
    refused = redone_here("mix", path, "--dry-run")
    assert refused.code == 2
    assert "domains.notes.sources[0].paths: no files matched 'data/notes-*.jsonl.zst'" in refused.error


def change_domain(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda values: edit(values["domains"][name])


def set_source(**keys: object) -> Callable[[dict[str, Any]], object]:
    return change_domain("notes", lambda domain: domain["sources"][0].update(keys))


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a wrong field": (
        set_source(fields={"text": "body"}),
        r"domain 'notes': 30\d of 30\d records cannot be read .*data/notes.jsonl line 1: .*'body'.*"
        r"mend fields or format under domains\.notes\.sources",
    ),
    "no files": (
        set_source(paths=["data/none-*.jsonl"]),
        r"recipe\.yaml: domains\.notes\.sources\[0\]\.paths: no files matched 'data/none-\*\.jsonl'",
    ),
    "an unknown format": (set_source(paths=["recipe.yaml"]), r"format of recipe\.yaml cannot be told.*set format"),
    "the same files twice": (
        change_domain(
            "notes", lambda domain: domain["sources"].append({**domain["sources"][0], "paths": ["data/not*"]})
        ),
        r"domains\.notes\.sources\[1\]\.paths: the same files as an earlier source",
    ),
    "rules that drop all": (
        change_domain("notes", lambda domain: domain.update(rules={"bounds": {"num_words": {"min": 10_000}}})),
        r"domain 'notes' has no training documents after curation: 300 read, most dropped by .*too_few_words .*"
        r"loosen domains\.notes\.rules",
    ),
    "a weight for no domain": (
        lambda values: values["mix"]["weights"].update(note=1),
        r"recipe\.yaml: mix\.weights: 'note' is not a domain; did you mean 'notes'",
    ),
    "too many epochs": (
        lambda values: values["tokens"].update(budget=200_000),
        r"domain 'posts' would be repeated .* times at weight .*mix\.max_epochs allows 4: lower the weight or",
    ),
    "a misspelt key": (lambda values: values.update(mixx={}), r"recipe\.yaml: mixx: unknown key; did you mean 'mix'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_in_a_recipe_is_one_line_and_mending_it_goes_on(
    recipe: SmallRecipe, reference: Path, tmp_path: Path, name: str
) -> None:
    edit, message = BROKEN[name]
    whole = yaml.safe_load(recipe.path.read_text(encoding="utf-8"))
    out = tmp_path / "out"
    finished = redone_here("mix", recipe.change(edit).path, "--out", out)
    assert finished.code == 2, finished.err
    assert re.search(message, finished.error), finished.error
    recipe.values = whole
    recipe.change(lambda _: None).mixed(out)
    assert tree(out, without=("steps/",)) == tree(reference, without=("steps/",))


def test_a_truncated_file_is_named_and_a_whole_one_goes_on(
    recipe: SmallRecipe, reference: Path, tmp_path: Path
) -> None:
    import pyarrow as pa

    path = recipe.path.parent / "data" / "notes.jsonl"
    packed, out = path.with_suffix(".jsonl.zst"), tmp_path / "out"
    with pa.CompressedOutputStream(str(packed), "zstd") as file:
        file.write(path.read_bytes())
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    recipe.change(set_source(paths=["data/notes.jsonl.zst"]))
    finished = recipe.mix(out)
    assert finished.code == 2, finished.err
    assert "notes.jsonl.zst" in finished.error
    finished_steps = set(out.glob("steps/read-*/tasks/*.json")) | set(out.glob("steps/read-*/part-*"))
    packed.write_bytes(whole)
    assert finished_steps
    recipe.mixed(out)
    apart = ("steps/", "manifest.json", "quarantine/")
    assert {k: v for k, v in tree(out, without=apart).items() if k.startswith("corpus/")} == {
        k: v for k, v in tree(reference, without=apart).items() if k.startswith("corpus/")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mix"], "Missing argument 'RECIPE'"),
        (["mixx", "r.yaml"], "No such command 'mixx'"),
        (["mix", "r.yaml", "--sed", "3"], "No such option: --sed"),
        (["mix", "r.yaml", "--emit", "tokes"], "'tokes' is not one of"),
        (
            ["tokenize", "r.yaml", "--emit", "text"],
            "--emit: nothing is sampled up to tokenize; it goes with mix, sample",
        ),
        (
            ["fit", "r.csv", "m.csv", "--emit", "text", "--dry-run"],
            "--emit, --dry-run goes with a RECIPE, not with two",
        ),
        (["fit", "r.csv", "m.csv", "--set", "seed=2"], "--set goes with a RECIPE, not with two tables"),
        (["fit", "r.yaml", "--scale", "1b", "--surrogate", "gp"], "--surrogate, --scale goes with two tables"),
        (["mix", "r.yaml", "--seed", "x"], "Invalid value for '--seed'"),
        (["mix", "r.yaml"], "r.yaml: there is no such recipe; write one to start from with: redone-data init r.yaml"),
        (["inspect", "nothing"], "nothing: there is nothing here"),
    ],
)
def test_a_wrong_command_is_one_line(arguments: list[str], message: str) -> None:
    finished = redone_here(*arguments)
    assert finished.code == 2
    assert message in finished.error


def test_a_wrong_set_is_one_line(recipe: SmallRecipe, tmp_path: Path) -> None:
    finished = redone_here("mix", recipe.path, "--out", tmp_path / "out", "--set", "mix.swarm.run=3")
    assert finished.code == 2
    assert "mix.swarm.run: unknown key" in finished.error


def test_a_folder_that_cannot_be_made_is_one_line(recipe: SmallRecipe, tmp_path: Path) -> None:
    finished = redone_here("mix", recipe.path, "--out", recipe.path / "out")
    assert finished.code == 2
    assert "cannot be written: Not a directory; choose another --out" in finished.error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None or os.name != "posix", reason="no mount command")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_more_room_goes_on(
    recipe: SmallRecipe, reference: Path, small_disk: Path, workers: int
) -> None:
    out = small_disk / "out"
    finished = recipe.mix(out, "--set", f"executor.workers={workers}")
    assert finished.code == 2, finished.err
    assert "cannot be written: " in finished.error
    assert "No space left on device" in finished.error
    done = {path: path.stat().st_mtime_ns for path in out.glob("steps/*/manifest.json")}
    assert done
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    recipe.mixed(out)
    assert tree(out) == tree(reference)
    assert done.items() <= {path: path.stat().st_mtime_ns for path in out.glob("steps/*/manifest.json")}.items()


def test_a_read_only_disk_is_one_line(recipe: SmallRecipe, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    finished = recipe.mix(small_disk / "out")
    assert finished.code == 2
    assert "Read-only file system; choose another --out" in finished.error
