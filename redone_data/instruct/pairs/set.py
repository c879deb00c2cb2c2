"""A pair set, from a recipe to its folder: what ``redone-data pairs`` does.

```
conversations ─▶ structure ──┐
conversations ─▶ ask ─▶ outputs ─┤                  ┌▶ train.jsonl  held_out.jsonl
rankings ─▶ votes ─▶ ask ─▶ judges ─┼▶ candidates ─▶ checks ─┼▶ ledger.parquet
posts with counts ─▶ engagement ─┘                  └▶ manifest.json  report.html
```
Each arrow is a step of the engine, so the same command goes on after a kill and does nothing twice. Answers of models
are kept in DIR/asked, outside the steps: what was paid for is there whatever the recipe becomes. The manifest comes
last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from redone_data.curate.asking import AskConfig, Cost, Question, ask, cost_of_asking
from redone_data.curate.contamination import ContaminationIndexStep, evaluation_files
from redone_data.curate.sources import InputFile, SourceConfig, resolve_inputs
from redone_data.engine import Output
from redone_data.errors import RedoneError
from redone_data.instruct.pairs.checks import LEDGER, SPLITS, CandidateSet, PairsStep
from redone_data.instruct.pairs.conversations import ConversationsStep, conversation_rows
from redone_data.instruct.pairs.engagement_step import EngagementStep
from redone_data.instruct.pairs.judge_model import calibrated, questions_about
from redone_data.instruct.pairs.judges import JudgesConfig, JudgesStep, calibration_sample
from redone_data.instruct.pairs.outputs import OutputsConfig, OutputsStep, prompts_of, questions_of
from redone_data.instruct.pairs.recipe import PairsRecipe
from redone_data.instruct.pairs.structure import StructureStep
from redone_data.instruct.pairs.tables import Tables
from redone_data.instruct.pairs.votes import UnjudgedStep, VotesStep, pairs_of
from redone_data.instruct.set_folder import SetFolder
from redone_data.instruct.tables import table_files
from redone_data.manifest import atomic, canonical, digest

SCHEMA = "redone preference pairs"
VERSION = 1
ASKED, PROMPTS = "asked", "prompts"
AnyAsked = TypeVar("AnyAsked", bound=AskConfig)


@dataclass
class PairSet(SetFolder[PairsRecipe]):
    """One run of a recipe into a folder. `confirmed`: an endpoint may be asked, whatever it costs."""

    confirmed: bool = False
    costs: dict[str, Cost] = field(default_factory=dict)

    def _made(self) -> dict[str, Any]:
        sources = {**self._structure(), **self._outputs(), **self._judges(), **self._engagement()}
        sets = tuple(CandidateSet(name, sources[name], select) for name, (_, select) in self.recipe.selects().items())
        index = self._index()
        made = self.engine.run(PairsStep(sets, self.recipe.seed, self.recipe.contamination, index))
        return self._published(made, sources)

    def write_prompts(self) -> list[Path]:
        """Write the prompts of every set that model answers can go into, for ``redone-train generate``.

        Of sets under outputs those that are asked; of sets under structure all that have a format, to find what the
        model confuses.
        """
        recipe, rows = self.recipe, {}
        for name, config in recipe.outputs.items():
            conversations = self._conversations(f"outputs.{name}", config.conversations, config.tasks)
            rows[name] = (row for row, asked in prompts_of(conversations, config, recipe.seed) if asked)
        for name, of_options in recipe.structure.items():
            conversations = self._conversations(f"structure.{name}", of_options.conversations, of_options.tasks)
            rows[name] = (row for row in conversation_rows(conversations) if row["format"] is not None)
        if not rows:
            raise RedoneError(f"{self.loaded.path}: no set under structure or outputs; there are no prompts to write")
        return [self._write_prompts(name, rows[name]) for name in sorted(rows)]

    def _write_prompts(self, name: str, rows: Iterator[dict[str, Any]]) -> Path:
        path = self.root / PROMPTS / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as aside, aside.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(canonical({"id": row["id"], "prompt": row["messages"][:-1]}) + "\n")
        return path

    def _files(self, where: str, paths: Sequence[str]) -> tuple[InputFile, ...]:
        if not paths:
            return ()
        source = SourceConfig(tuple(paths), format="jsonl")
        self.inputs[where] = resolve_inputs(source, self.loaded.base, f"{self.loaded.path}: {where}", self.cache)
        return tuple(self.inputs[where])

    def _conversations(self, where: str, paths: Sequence[str], tasks: Sequence[str]) -> Output:
        files = self._files(f"{where}.conversations", paths)
        return self.engine.run(ConversationsStep(files, tuple(sorted(tasks))))

    def _tables(self, *names: str) -> Tables:
        wanted = sorted({*names, *(join.table for name in names for join in self.recipe.tables[name].join)})
        for name in wanted:
            self.inputs[f"tables.{name}"] = table_files(name, self.recipe.tables[name], self.loaded.base, self.cache)
        files = tuple(file for name in wanted for file in self.inputs[f"tables.{name}"])
        return Tables({name: self.recipe.tables[name] for name in wanted}, files, self.loaded.base)

    def _structure(self) -> dict[str, Output]:
        made = {}
        for name, config in sorted(self.recipe.structure.items()):
            conversations = self._conversations(f"structure.{name}", config.conversations, config.tasks)
            paths = (config.confusions,) if config.confusions is not None else config.answers
            files = self._files(f"structure.{name}.answers", paths)
            made[name] = self.engine.run(StructureStep(conversations, files, config, self.recipe.seed))
        return made

    def _outputs(self) -> dict[str, Output]:
        made = {}
        for name, config in sorted(self.recipe.outputs.items()):
            if config.sample is not None:
                config = replace(config, sample=self._located(config.sample))
            conversations = self._conversations(f"outputs.{name}", config.conversations, config.tasks)
            files = self._files(f"outputs.{name}.answers", config.answers)
            cache, answers = self._sampled(name, config, conversations)
            step = OutputsStep(conversations, config, self.recipe.seed, files, cache, digest(answers))
            made[name] = self.engine.run(step)
        return made

    def _sampled(self, name: str, config: OutputsConfig, conversations: Output) -> tuple[Path | None, list[str]]:
        if config.answers:
            return None, []
        if config.sample is None:
            raise RedoneError(
                f"{self.loaded.path}: outputs.{name}: no answers; write the prompts with --prompts, answer them with "
                "redone-train generate and name its file under answers, or name a model under sample"
            )
        questions = [
            question
            for row, asked in prompts_of(conversations, config, self.recipe.seed)
            if asked
            for question in questions_of(row, config.sample)
        ]
        return self._cache(name), self._ask(name, questions, config.sample)

    def _located(self, config: AnyAsked) -> AnyAsked:
        """With a local model's folder as it is seen from here: the recipe names it from where it lies itself."""
        return config if config.generate is None else replace(config, generate=str(self.loaded.base / config.generate))

    def _cache(self, name: str) -> Path:
        return self.root / ASKED / f"{name}.jsonl"

    def _ask(self, name: str, questions: Sequence[Question], config: AskConfig) -> list[str]:
        cache = self._cache(name)
        cost = cost_of_asking(questions, config, cache)
        if cost.calls and config.generate is None and not self.confirmed:
            raise RedoneError(f"set '{name}': this would take {cost}; add --yes to start")
        if cost.calls:
            self.costs[name] = cost
        return ask(questions, config, cache, confirmed=True)

    def _judges(self) -> dict[str, Output]:
        return {name: self._judged(name, config) for name, config in sorted(self.recipe.judges.items())}

    def _judged(self, name: str, config: JudgesConfig) -> Output:
        seed = self.recipe.seed
        if config.judge is not None:
            config = replace(config, judge=self._located(config.judge))
        votes = self.engine.run(VotesStep(self._tables(config.rankings.table), config.rankings))
        unjudged: Output | None = None
        about_people: tuple[str, ...] = ()
        about_others: tuple[str, ...] = ()
        if config.judge is not None:
            sample = calibration_sample(votes, config, seed)
            about_people = tuple(self._ask(name, questions_about(sample, config.judge), config.judge))
            if config.expand is not None:
                unjudged = self.engine.run(UnjudgedStep(self._tables(config.expand.table), config.expand, votes, seed))
                if calibrated(sample, about_people, config.judge).agreement_low > config.min_agreement:
                    questions = questions_about(pairs_of(unjudged), config.judge)
                    about_others = tuple(self._ask(name, questions, config.judge))
        share = self.recipe.held_out.share
        return self.engine.run(JudgesStep(config, votes, unjudged, about_people, about_others, seed, share))

    def _engagement(self) -> dict[str, Output]:
        made = {}
        for name, config in sorted(self.recipe.engagement.items()):
            tables = self._tables(config.table)
            made[name] = self.engine.run(EngagementStep(tables, config, self.recipe.seed, self.recipe.held_out.share))
        return made

    def _index(self) -> Output | None:
        if not self.recipe.contamination.sets:
            return None
        where = f"{self.loaded.path}: contamination"
        files = evaluation_files(self.recipe.contamination, self.loaded.base, where, self.cache)
        return self.engine.run(ContaminationIndexStep(tuple(files), self.recipe.contamination))

    def _published(self, made: Output, sources: dict[str, Output]) -> dict[str, Any]:
        """Show the finished files in the set's folder; the manifest comes last, and only if it is another one."""
        kinds = {name: kind for name, (kind, _) in self.recipe.selects().items()}
        manifest = {
            "schema": SCHEMA,
            "version": VERSION,
            "recipe": self.recipe.canonical(),
            "inputs": {where: sorted(file.sha256 for file in files) for where, files in sorted(self.inputs.items())},
            "files": {name: made.manifest["files"][name] for name in sorted(made.manifest["files"])},
            "pairs": {split: made.statistics[split] for split in SPLITS},
            "sets": {
                name: {"kind": kinds[name], "source": sources[name].statistics, **found}
                for name, found in made.statistics["sets"].items()
            },
        }
        return self._publish(manifest, {name: made.folder / name for name in (*(f"{x}.jsonl" for x in SPLITS), LEDGER)})
