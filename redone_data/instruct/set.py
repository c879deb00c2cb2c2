"""An instruction set, from a recipe to its folder: what ``redone-data sft`` does.

```
tables + tasks ─▶ conversations ─┐                                          ┌▶ step1.jsonl  step2.jsonl  held_out.jsonl
                                 ├▶ clean ─▶ held-out index ─▶ leaks ─▶ draw ─┼▶ ledger.parquet  lineage.parquet
general data ───▶ conversations ─┘                                          └▶ manifest.json  report.html
```
Each arrow is a step of the engine, so the same command goes on after a kill and does nothing twice; DIR/steps holds the
work. The manifest is written last: a folder with one is complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redone_data.curate.contamination import ContaminationIndexStep, evaluation_files
from redone_data.curate.quality import check_classifier_name, classifier_path
from redone_data.curate.sources import SourceConfig, resolve_inputs
from redone_data.engine import Output
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.alike import DuplicateRowsConfig
from redone_data.instruct.blend import StepConfig
from redone_data.instruct.clean import CleanStep
from redone_data.instruct.distill import PROMPTS, DistillStep, write_prompts
from redone_data.instruct.drawing import HELD_OUT, LEDGER, LINEAGE, PAPER, DrawStep, Source, step_file
from redone_data.instruct.general import GeneralStep, check_columns
from redone_data.instruct.held_out import HeldOutIndexStep, LeaksStep
from redone_data.instruct.lengths import Lengths, located_files
from redone_data.instruct.making import TEXT_KINDS, RenderStep, SelectStep, TableStep, task_values
from redone_data.instruct.recipe import SftRecipe
from redone_data.instruct.repeats import RepeatsStep
from redone_data.instruct.set_folder import SetFolder
from redone_data.instruct.shares import read_token_shares
from redone_data.instruct.tables import table_files
from redone_data.instruct.task import Task, find_task
from redone_data.instruct.written import WriteStep
from redone_data.manifest import digest

SCHEMA = "redone instruction set"
VERSION = 1

Made = tuple[str, str, Output]  # a task, the table it was made of, its conversations


@dataclass
class InstructionSet(SetFolder[SftRecipe]):
    """One run of a recipe into a folder."""

    tables: dict[str, Output] = field(default_factory=dict)

    def _made(self) -> dict[str, Any]:
        sources = self._judged(self._of_tasks(), self._of_general())
        steps = self._steps()
        drawn = self.engine.run(
            DrawStep(sources, self.tables, steps, self._token_shares(), self.recipe.held_out, self.recipe.seed)
        )
        files = [*map(step_file, steps), HELD_OUT]
        outputs = tuple(source.made for source in sources)
        written = self.engine.run_all([WriteStep(file, drawn, outputs) for file in files])
        return self._published(drawn, dict(zip(files, written, strict=True)))

    def _steps(self) -> Mapping[str, StepConfig]:
        return {"step1": self.recipe.steps.step1, "step2": self.recipe.steps.step2}

    def _token_shares(self) -> dict[str, dict[str, float]]:
        """What the mixture optimizer proposed, of the steps that name a proposal."""
        given = {name: step.proposal for name, step in self._steps().items() if step.proposal is not None}
        return {name: read_token_shares(self.loaded.base / path) for name, path in given.items()}

    def _of_tasks(self) -> list[Made]:
        """The conversations of every task from each of its tables."""
        recipe, base = self.recipe, self.loaded.base
        tasks = {}
        for name, entry in recipe.tasks.items():
            task = find_task(name, base)
            tasks[name] = task.with_options(entry.options, where=f"{self.loaded.path}: tasks.{name}")
        if len({task.name for task in tasks.values()}) < len(tasks):
            raise RedoneError(f"{self.loaded.path}: tasks: two have the same name; give your own another")
        names = sorted({table for entry in recipe.tasks.values() for table in entry.tables})
        texts: dict[str, set[str]] = {name: set() for name in names}
        for name, entry in recipe.tasks.items():
            read = {column for column, need in tasks[name].columns.items() if need.kind in TEXT_KINDS}
            for table in entry.tables:
                texts[table] |= read
        steps = [self._table_step(name, tuple(sorted(texts[name]))) for name in names]
        tables = dict(zip(names, self.engine.run_all(steps), strict=True))
        pairs = [
            (tasks[name], table)
            for name, entry in sorted(recipe.tasks.items(), key=lambda item: tasks[item[0]].name)
            for table in sorted(entry.tables)
        ]
        selects = [SelectStep(task_values(task), table, tables[table], recipe.seed) for task, table in pairs]
        selected = self.engine.run_all(selects)
        repeats = self._repeats_of_tasks(pairs, selected)
        renders = [
            RenderStep(step.task, table, output, repeats[task.name], recipe.seed, recipe.held_out.share)
            for step, (task, table), output in zip(selects, pairs, selected, strict=True)
        ]
        rendered = self.engine.run_all(renders)
        self.tables = tables
        return [(task.name, table, output) for (task, table), output in zip(pairs, rendered, strict=True)]

    def _repeats_of_tasks(self, pairs: Sequence[tuple[Task, str]], selected: Sequence[Output]) -> dict[str, Output]:
        """Of each task the rows that say what another row of it says; a table whose rows may repeat has no part."""
        steps = {}
        entries = {find_task(name, self.loaded.base).name: entry for name, entry in self.recipe.tasks.items()}
        for task in {task.name: task for task, _ in pairs}.values():
            config = entries[task.name].duplicates
            where = f"{self.loaded.path}: tasks.{task.name}.duplicates.by"
            for name in config.by:
                if name not in task.columns:
                    raise RedoneError(f"{where}: '{name}': {did_you_mean(name, task.columns)}")
            read = [name for name, need in task.columns.items() if need.kind in TEXT_KINDS]
            compared = [
                (table, output)
                for (one, table), output in zip(pairs, selected, strict=True)
                if one.name == task.name and _distinct(self.recipe.duplicates.get(table, DuplicateRowsConfig()))
            ]
            steps[task.name] = RepeatsStep(tuple(compared), tuple(config.by or read), config)
        return dict(zip(steps, self.engine.run_all(list(steps.values())), strict=True))

    def _table_step(self, name: str, texts: tuple[str, ...]) -> TableStep:
        tables, base = self.recipe.tables, self.loaded.base
        wanted = {name, *(join.table for join in tables[name].join)}
        for other in wanted - set(tables):
            raise RedoneError(f"{self.loaded.path}: tables.{name}.join: '{other}': {did_you_mean(other, tables)}")
        files = {other: table_files(other, tables[other], base, self.cache) for other in sorted(wanted)}
        self.inputs[f"tables.{name}"] = files[name]
        duplicates = self.recipe.duplicates.get(name, DuplicateRowsConfig())
        mine = {other: tables[other] for other in sorted(wanted)}
        return TableStep(name, mine, files, base, duplicates, texts, self.recipe.redact)

    def _of_general(self) -> list[Made]:
        """The conversations of general data."""
        recipe, steps = self.recipe, []
        for name, general in sorted(recipe.general.items()):
            where = f"{self.loaded.path}: general.{name}"
            source = SourceConfig(general.paths, format=general.format)
            files = resolve_inputs(source, self.loaded.base, f"{where}.paths", self.cache)
            for file in files:
                check_columns(general, file, where)
            self.inputs[f"general.{name}"] = files
            steps.append(GeneralStep(name, general, tuple(files), recipe.seed, recipe.held_out.share, recipe.redact))
        outputs = [self._distilled(step, made) for step, made in zip(steps, self.engine.run_all(steps), strict=True)]
        return [(step.source, step.source, output) for step, output in zip(steps, outputs, strict=True)]

    def _distilled(self, step: GeneralStep, made: Output) -> Output:
        """The same with the best samples as answers, where the recipe names samples."""
        config = step.general.distilled
        if config is None:
            return made
        answers, prompts = self.loaded.base / config.answers, self.root / PROMPTS / f"{step.source}.jsonl"
        write_prompts(made, prompts)
        if not answers.is_file():
            raise RedoneError(
                f"general.{step.source}.distilled.answers: {answers} is not there yet. Sample it, then run the same "
                f"command: redone-train generate MODEL {prompts} --out {answers} --num-answers 8 --temperature 0.7"
            )
        scores = None if config.scores is None else self.loaded.base / config.scores
        return self.engine.run(DistillStep(made, config, answers, scores))

    def _repeats_of_general(self, sources: Sequence[Made]) -> dict[str, Output]:
        """What two general sources ask alike; the strictest of their thresholds holds."""
        general = self.recipe.general
        compared = [(name, output) for name, _, output in sources if _distinct(general[name].duplicates)]
        if len(compared) < 2:
            return {}
        threshold = max(general[name].duplicates.threshold for name, _ in compared)
        found = self.engine.run(RepeatsStep(tuple(compared), (), DuplicateRowsConfig(threshold=threshold)))
        return dict.fromkeys((name for name, _ in compared), found)

    def _judged(self, of_tasks: list[Made], of_general: list[Made]) -> tuple[Source, ...]:
        sources = [*of_tasks, *of_general]
        names, made = [(task, table) for task, table, _ in sources], [output for _, _, output in sources]
        recipe, base, where = self.recipe, self.loaded.base, str(self.loaded.path)
        files_step = located_files(recipe.lengths, base, where)
        tokenizer = None if files_step is None else self.engine.run(files_step)
        lengths = Lengths(None if tokenizer is None else tokenizer.folder, recipe.lengths.overhead_tokens)
        index = None
        if recipe.contamination.sets:
            files = evaluation_files(recipe.contamination, base, f"{where}: contamination", self.cache)
            index = self.engine.run(ContaminationIndexStep(tuple(files), recipe.contamination))
        for name in recipe.clean.quality:
            check_classifier_name(name)
        models = {name: classifier_path(config, base) for name, config in recipe.clean.quality.items()}
        most = recipe.lengths.max_tokens
        grams = recipe.contamination
        asked_twice = self._repeats_of_general(of_general)
        repeats = [None for _ in of_tasks] + [asked_twice.get(source) for source, _, _ in of_general]
        clean = [
            CleanStep(output, task, recipe.clean, lengths, most, tokenizer, index, grams, models, repeated)
            for (task, _), output, repeated in zip(names, made, repeats, strict=True)
        ]
        cleaned = self.engine.run_all(clean)
        tables = tuple(self.tables.get(table) for _, table in names)
        held = self.engine.run(
            HeldOutIndexStep(tuple(made), tuple(cleaned), tables, recipe.held_out, grams, recipe.seed)
        )
        pairs = list(zip(made, cleaned, strict=True))
        looking = [LeaksStep(output, rows, held, grams, recipe.held_out.max_fraction) for output, rows in pairs]
        leaks = self.engine.run_all(looking)
        return tuple(Source(*name, *outputs) for name, *outputs in zip(names, made, cleaned, leaks, strict=True))

    def _published(self, drawn: Output, written: Mapping[str, Output]) -> dict[str, Any]:
        """The manifest, once all it names is shown."""
        shown = {name: output.folder / name for name, output in written.items()}
        shown |= {name: drawn.folder / name for name in (LEDGER, LINEAGE)}
        manifest = {
            "schema": SCHEMA,
            "version": VERSION,
            "recipe": self.recipe.canonical(),
            "recipe_sha256": digest(self.recipe.canonical()),
            "inputs": {
                name: [{"file": file.label, "sha256": file.sha256, "bytes": file.num_bytes} for file in files]
                for name, files in sorted(self.inputs.items())
            },
            "files": {
                name: {
                    **_of(written.get(name, drawn), name),
                    **({"rows": written[name].statistics["rows"]} if name in written else {}),
                }
                for name in sorted(shown)
            },
            "lengths": {"measured": self._lengths_measured(), "paper": PAPER},
            **drawn.statistics,
        }
        return self._publish(manifest, shown)

    def _lengths_measured(self) -> str:
        step = located_files(self.recipe.lengths, self.loaded.base, str(self.loaded.path))
        return Lengths(None if step is None else self.engine.folder(step), 0).measured


def _distinct(duplicates: DuplicateRowsConfig) -> bool:
    return duplicates.enabled and duplicates.near


def _of(output: Output, name: str) -> dict[str, Any]:
    described: dict[str, Any] = output.manifest["files"][name]
    return described
