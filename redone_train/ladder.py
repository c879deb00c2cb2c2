"""`redone-train ladder`: every stage and arm of a ladder trained, then all of them measured, on the same items.

Each stage is the run of its configuration file in OUTPUT/stages/NAME, in a process of its own (a fresh DeepSpeed, any
launcher), with its output in OUTPUT/logs/NAME.log. What is finished is not run again: OUTPUT/stages/NAME/stage.json has
what was asked for. A run that was cut short goes on exactly where it was. results.json and page.html come last.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from redone_data.config import plain
from redone_data.errors import RedoneError
from redone_data.manifest import digest, file_digest, read_json, write_json
from redone_data.processes import die_with_parent
from redone_train.data.conversations import trained_tasks
from redone_train.evaluate.config import EvaluationConfig, load_evaluation
from redone_train.evaluate.results import Results
from redone_train.ladder_config import LadderConfig, Verb, flat, load_ladder
from redone_train.train.config import CptConfig, RunConfig, load_run
from redone_train.train.post_config import DpoConfig, SftConfig
from redone_train.train.stages import result_of
from redone_train.train.stopping import STOPPED_EXIT_CODE

KINDS: Mapping[Verb, type[RunConfig]] = {"cpt": CptConfig, "sft": SftConfig, "dpo": DpoConfig}
MARK = "stage.json"
STAGES, LOGS = "stages", "logs"
LAST_LINES = 5


@dataclass(frozen=True)
class Stage:
    """A stage whose files were read and found good. settings: as `--set` of its run; empty: a model as it is."""

    name: str
    folder: Path
    after: str | None
    verb: Verb | None = None
    file: Path | None = None
    settings: tuple[str, ...] = ()
    config: RunConfig | None = None
    data: tuple[Path, ...] = ()

    def asked(self, before: str) -> str:
        """Names what is to be trained. before: the same of the stage that it starts from."""
        values = plain(self.config)
        del values["output"]
        if self.after is not None:
            del values["model"]["start"]
        return digest([self.verb, values, [_stamp(path) for path in self.data], before])

    def command(self, launcher: Sequence[str]) -> list[str]:
        settings = [word for setting in self.settings for word in ("--set", setting)]
        return [*(launcher or (sys.executable, "-m", "redone_train")), str(self.verb), str(self.file), *settings]


def run_ladder(path: Path, settings: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> Results | None:
    """Train what is not trained yet and measure; None: a run was told to stop, and saved.

    RedoneError: something of the ladder is wrong, said before anything is trained; or a run failed: its log's place.
    """
    config, stages = open_ladder(path, settings, only)
    console, output = Console(stderr=True), _output(config, path)
    marks: dict[str, str] = {}
    for place, stage in enumerate(stages, 1):
        if stage.config is None:
            marks[stage.name] = str(stage.folder)
            continue
        asked = marks[stage.name] = stage.asked(marks.get(stage.after or "", ""))
        if _finished(stage, asked):
            continue
        log = output / LOGS / f"{stage.name}.log"
        told = f"{stage.name} ({place} of {len(stages)}): {stage.verb} {stage.file}; its log is {log}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
        if not _train(stage, config.launcher, log):
            return None
        write_json(stage.folder / MARK, {"asked": asked, "tasks": _tasks(stage)})
    from redone_train.evaluation import run_evaluation

    file = path.parent / config.evaluation
    return run_evaluation(file, evaluation_settings(config, stages, path), about={"ladder": facts(config, stages)})


def open_ladder(
    path: Path, settings: tuple[str, ...] = (), only: tuple[str, ...] = ()
) -> tuple[LadderConfig, list[Stage]]:
    """The stages in the order of their training. RedoneError: a file of one cannot be read, or its data."""
    config = load_ladder(path, settings)
    folders: dict[str, Path | str] = {}
    stages = []
    for name in config.order(only):
        given = config.stages[name]
        start = folders[given.after] if given.after is not None else _model(str(given.start), path.parent)
        if given.run is None:
            if not isinstance(start, Path):
                raise RedoneError(f"stage '{name}': {start}: there is no such model")
            folders[name] = start
            stages.append(Stage(name, start, None))
            continue
        verb, file = given.run
        folders[name] = folder = _output(config, path) / STAGES / name
        laid = {**config.settings_of(name), "output": str(folder), "model.start": str(start)}
        try:
            stages.append(_open_stage(name, folder, given.after, verb, path.parent / file, laid))
        except RedoneError as error:
            raise RedoneError(f"stage '{name}': {error}") from None
    _open_evaluation(config, path, stages)
    return config, stages


def evaluation_settings(config: LadderConfig, stages: Sequence[Stage], path: Path) -> tuple[str, ...]:
    """Over the evaluation's file: the stages as its models, in the file's order. path: the ladder's own file."""
    output, folder = _output(config, path), (path.parent / config.evaluation).absolute().parent
    trained = {stage.name: stage for stage in stages}
    models: dict[str, Any] = {}
    for name, given in config.stages.items():
        if name in trained and given.evaluate:
            shots = {} if given.shots is None else {"shots": given.shots}
            models[name] = {"path": str(trained[name].folder), **shots}
    read = {name: files for name, files in trained_on(stages, folder).items() if name in models}
    own = {"output": str(output), "models": models, "trained_on": read}  # the file's own are of its own models
    return settings_text({**dict(flat(config.settings.eval)), **own})


def trained_on(stages: Sequence[Stage], folder: Path) -> dict[str, list[str]]:
    """Stage -> what it and those before it were trained on, from `folder`; not of one whose text is not to be found.

    Of a token dataset, RUN/tokens, the text is RUN/corpus.
    """
    found: dict[str, list[str]] = {}
    for stage in stages:
        if stage.config is None:
            found[stage.name] = []
            continue
        texts = [one.parent.with_name("corpus") if stage.verb == "cpt" else one for one in stage.data]
        if all(text.exists() for text in texts) and (stage.after is None or stage.after in found):
            before = found[stage.after] if stage.after is not None else []
            found[stage.name] = list(dict.fromkeys([*before, *(os.path.relpath(text, folder) for text in texts)]))
    return {name: files for name, files in found.items() if files}


def facts(config: LadderConfig, stages: Sequence[Stage]) -> dict[str, Any]:
    """What results say of the stages: how each was made, and the conversations that it has seen, by task.

    No paths: what stands there goes into pages that others read.
    """
    found: dict[str, Any] = {}
    for stage in stages:
        if stage.config is None:
            found[stage.name] = {"after": None, "run": None, "settings": {}, "tasks": {}}
            continue
        before = found[stage.after]["tasks"] if stage.after is not None else {}
        own: dict[str, int] = read_json(stage.folder / MARK)["tasks"]
        found[stage.name] = {
            "after": stage.after,
            "run": f"{stage.verb} {Path(str(stage.file)).name}",
            "settings": config.settings_of(stage.name),
            "tasks": {task: before.get(task, 0) + own.get(task, 0) for task in sorted({*before, *own})},
        }
    listed = [name for name in config.stages if name in found]
    return {"stages": found, "order": listed}


def dry_run_ladder(path: Path, settings: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> None:
    """Print what would be trained on what, in order, and measured; train nothing."""
    config, stages = open_ladder(path, settings, only)
    lines, marks = [], dict[str, str]()
    for place, stage in enumerate(stages, 1):
        if stage.config is None:
            marks[stage.name] = str(stage.folder)
            lines.append(f"{place}. {stage.name}: the model {stage.folder}")
            continue
        asked = marks[stage.name] = stage.asked(marks.get(stage.after or "", ""))
        state = "finished" if _finished(stage, asked) else "begun" if stage.folder.exists() else "to do"
        start = f"after {stage.after}" if stage.after else f"from {stage.config.model.start}"
        lines.append(f"{place}. {stage.name}: {stage.verb} {start}; {state}")
        lines += [f"   {file}" for file in dict.fromkeys(stage.data)]
        lines += [f"   {setting}" for setting in settings_text(config.settings_of(stage.name))]
        lines.append(f"   {shlex.join(stage.command(config.launcher))}")
    models = [name for name in config.stages if config.stages[name].evaluate and name in marks]
    lines.append(f"then {config.evaluation} of {', '.join(models)}")
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _open_stage(name: str, folder: Path, after: str | None, verb: Verb, file: Path, laid: Mapping[str, Any]) -> Stage:
    settings = settings_text(laid)
    config = load_run(KINDS[verb], file, settings)
    data = tuple((file.parent / Path(one).expanduser()).absolute() for one in _data_of(config))
    for one in data:
        if not one.is_file():
            raise RedoneError(f"{one}: no such file; make the data first")
    return Stage(name, folder, after, verb, file.absolute(), settings, config, data)


def _open_evaluation(config: LadderConfig, path: Path, stages: Sequence[Stage]) -> EvaluationConfig:
    return load_evaluation(path.parent / config.evaluation, evaluation_settings(config, stages, path))


def _train(stage: Stage, launcher: Sequence[str], log: Path) -> bool:
    """Whether the run is done; False: it was told to stop, and saved."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(
                stage.command(launcher),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise RedoneError(f"launcher: {launcher[0]}: cannot be started: {error.strerror}") from None
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it was interrupted, too, and saves
            raise
    if code == STOPPED_EXIT_CODE:
        return False
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:]
        raise RedoneError(
            f"stage '{stage.name}': {stage.verb} ended with exit code {code}; its log is {log}, and ends with: "
            f"{' / '.join(lines)}. The same command goes on from here"
        )
    return True


def _finished(stage: Stage, asked: str) -> bool:
    """A run of something else in its folder is the trainer's to refuse: it says what differs."""
    mark = stage.folder / MARK
    return mark.is_file() and read_json(mark)["asked"] == asked


def _tasks(stage: Stage) -> dict[str, int]:
    """CAPABILITY/TASK -> conversations of all steps; none but of sft."""
    counts: dict[str, int] = {}
    if isinstance(stage.config, SftConfig):
        for step in stage.config.steps:
            run = stage.folder / step.name
            trained = trained_tasks(run / "data", result_of(run).mark["identity"]["data"])
            counts = {task: counts.get(task, 0) + trained.get(task, 0) for task in {*counts, *trained}}
    return counts


def _data_of(config: RunConfig) -> list[str]:
    """The files whose change makes another run."""
    if isinstance(config, SftConfig):
        return [file for step in config.steps for file in step.data]
    if isinstance(config, DpoConfig):
        return list(config.data.files)
    assert isinstance(config, CptConfig)
    return [f"{source.path}/manifest.json" for source in config.data.sources.values()]


def _stamp(path: Path) -> list[Any]:
    """Manifests by content; gigabytes of conversations by name, size and time."""
    if path.name == "manifest.json":
        return [file_digest(path)]
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def settings_text(values: Mapping[str, Any]) -> tuple[str, ...]:
    """As the command line gives them: JSON is YAML."""
    return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def _output(config: LadderConfig, path: Path) -> Path:
    return (path.parent / Path(config.output).expanduser()).absolute()


def _model(start: str, directory: Path) -> Path | str:
    """A folder or file that is there, or as it stands: a hub name, a new model's size."""
    folder = (directory / Path(start).expanduser()).absolute()
    return folder if folder.exists() else start
