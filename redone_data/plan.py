"""``--dry-run``: what a run would do. Reads names, sizes and manifests; writes nothing, computes nothing."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from redone_data.curation import step_names
from redone_data.engine import Engine, Output, Step
from redone_data.pipeline import STAGES, Run, Stage
from redone_data.recipe import LoadedRecipe

# Stage -> its steps, in order, after those of curation (curation.py); what a person sees of a plan.
STEPS_OF_STAGE: dict[str, tuple[str, ...]] = {
    "tokenize": ("tokenizer", "pool"),
    "design": (),
    "swarm": ("swarm",),
    "fit": ("fit",),
    "search": ("search",),
    "validate": ("finalists", "validation", "target"),
    "sample": ("sample-plan", "sample-scatter", "sample-shard"),
}


class _NotDoneError(Exception):
    """The first step that a run would have to compute."""


@dataclass
class _Looker(Engine):
    """An engine that only looks: finished steps are opened, the first unfinished one ends the walk."""

    found: list[str] = field(default_factory=list)

    def run_all(self, steps: Sequence[Step]) -> list[Output]:
        if not all(self.is_done(step) for step in steps):
            raise _NotDoneError
        self.found += {step.name for step in steps}
        return [Output.open(self.folder(step)) for step in steps]


def plan(loaded: LoadedRecipe, root: Path, until: Stage) -> tuple[Run, list[tuple[Stage, str, bool]]]:
    """The run, and (stage, step, is done) for every step it needs. Raises RedoneError as the run itself would."""
    run = Run(loaded, root)
    looker = _Looker(root)
    run.engine = run.curation.engine = looker
    stages = STAGES[: STAGES.index(until) + 1]
    try:
        for stage in stages:
            getattr(run, f"_{stage}")()
    except _NotDoneError:
        pass
    measured = STEPS_OF_STAGE["validate"]
    skipped = set() if loaded.recipe.mix.needs_swarm else {"swarm", "fit", "search", *measured}
    if not loaded.recipe.mix.validate.seeds:
        skipped.update(measured)
    if loaded.recipe.mix.validate.target is None:
        skipped.add("target")
    steps = {**step_names(loaded.recipe), **STEPS_OF_STAGE}
    rows = [(stage, step, step in looker.found) for stage in stages for step in steps[stage] if step not in skipped]
    return run, rows


def print_plan(loaded: LoadedRecipe, root: Path, until: Stage, console: Console, *, as_json: bool) -> None:
    """Show inputs with sizes, then steps with what is done."""
    run, steps = plan(loaded, root, until)
    sources = run.read_steps()
    if as_json:
        files = [
            {"domain": source.domain, "path": file.label, "format": file.format, "bytes": file.num_bytes}
            for source in sources
            for file in source.files
        ]
        listed = [{"stage": stage, "step": step, "done": done} for stage, step, done in steps]
        print(json.dumps({"folder": str(root), "inputs": files, "steps": listed}, indent=1, ensure_ascii=False))
        return
    table = Table("domain", "source", "files", "MB", "format", title="Inputs", title_justify="left", box=None)
    for source in sources:
        size = sum(file.num_bytes for file in source.files)
        formats = ", ".join(sorted({file.format for file in source.files}))
        table.add_row(source.domain, source.source_name, str(len(source.files)), f"{size / 1e6:.2f}", formats)
    console.print(table)
    table = Table("stage", "step", "", title="\nSteps", title_justify="left", box=None)
    for stage, name, done in steps:
        table.add_row(stage, name, "done" if done else "to do")
    console.print(table)
    console.print(f"\nEverything would be written below {root}; nothing was written now.", highlight=False)
