"""What `redone-train ladder` trains and measures: one strict YAML file. Paths are relative to it. No torch here.

A stage is a model that is there (`start`), or a run of cpt, sft or dpo from one (`start`) or from what another stage
ended with (`after`): arms of an ablation branch by `after`. A stage's run is that of its own configuration file, with
settings laid over it: those of all stages of its kind first, then the stage's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redone_data.config import load_yaml, read_config, set_key
from redone_data.errors import RedoneError, did_you_mean
from redone_train.train.post_config import STEP_NAME

Verb = Literal["cpt", "sft", "dpo"]
VERBS: tuple[Verb, ...] = ("cpt", "sft", "dpo")
OWN = ("output", "model.start", "models")  # what the ladder itself lays over a run's or an evaluation's file


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """A model, or how one is made of another."""

    start: str | None = field(
        default=None,
        metadata={"help": "a model, as `model.start` of a run has it; without a run, it is the stage"},
    )
    after: str | None = field(default=None, metadata={"help": "the stage whose result it starts from"})
    cpt: str | None = field(default=None, metadata={"help": "a file of `redone-train cpt`"})
    sft: str | None = field(default=None, metadata={"help": "a file of `redone-train sft`"})
    dpo: str | None = field(default=None, metadata={"help": "a file of `redone-train dpo`"})
    set: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "key.path -> value, over the file's; paths relative to that file"}
    )
    shots: int | None = field(default=None, metadata={"help": "as evaluated; null: those of the evaluation"})
    evaluate: bool = field(default=True, metadata={"help": "false: trained for the stages after it alone"})

    def __post_init__(self) -> None:
        if (self.start is None) == (self.after is None):
            raise RedoneError("give either start (a model) or after (another stage)")
        given = [verb for verb in VERBS if getattr(self, verb) is not None]
        if len(given) > 1:
            raise RedoneError(f"{' and '.join(given)}: a stage is one run; make two of it, one after the other")
        if self.after is not None and not given:
            raise RedoneError(f"after '{self.after}' it does nothing; give cpt, sft or dpo")
        if self.set and not given:
            raise RedoneError("set: there is no run whose keys these could be; give cpt, sft or dpo")
        _check_own(self.set)

    @property
    def run(self) -> tuple[Verb, str] | None:
        """Which trainer, and its file; None: a model as it is."""
        for verb in VERBS:
            if (file := getattr(self, verb)) is not None:
                return verb, str(file)
        return None


@dataclass(frozen=True)
class SettingsConfig:
    """Over the files of all stages of a kind: a smaller ladder by a few lines."""

    cpt: dict[str, Any] = field(default_factory=dict, metadata={"help": "of all runs of cpt: key.path -> value"})
    sft: dict[str, Any] = field(default_factory=dict, metadata={"help": "of all runs of sft"})
    dpo: dict[str, Any] = field(default_factory=dict, metadata={"help": "of all runs of dpo"})
    eval: dict[str, Any] = field(default_factory=dict, metadata={"help": "of the evaluation"})

    def __post_init__(self) -> None:
        for given in (self.cpt, self.sft, self.dpo, self.eval):
            _check_own(given)


@dataclass(frozen=True)
class LadderConfig:
    """Stages and arms, and the evaluation of them all. The first stage is the one that others are compared with."""

    output: str = field(metadata={"help": "the ladder's folder"})
    stages: dict[str, StageConfig] = field(metadata={"help": "name -> a model or a run, in the order of the tables"})
    evaluation: str = field(metadata={"help": "a file of `redone-train eval`; its `models` are the stages"})
    settings: SettingsConfig = field(default_factory=SettingsConfig)
    launcher: tuple[str, ...] = field(
        default=(),
        metadata={"help": "what starts a run, up to the verb: [torchrun, --nproc-per-node, '8', -m, redone_train]"},
    )

    def __post_init__(self) -> None:
        if not self.stages:
            raise RedoneError("stages: at least one is needed")
        folders: dict[str, str] = {}
        for name, stage in self.stages.items():
            if not STEP_NAME.fullmatch(name):
                raise RedoneError(f"stages: {name!r} cannot name a folder; letters, digits, '_', '-' and '.' can")
            if (other := folders.setdefault(name.casefold(), name)) != name:
                raise RedoneError(f"stages: '{other}' and '{name}' would share a folder; rename one")
            if stage.after is not None and stage.after not in self.stages:
                raise RedoneError(f"stages.{name}.after: '{stage.after}': {did_you_mean(stage.after, self.stages)}")
        for name in self.stages:
            self.ancestors(name)
        if not any(stage.evaluate for stage in self.stages.values()):
            raise RedoneError("stages: none is evaluated; leave `evaluate: false` out where there is something to see")

    def ancestors(self, name: str) -> list[str]:
        """The stages before one, first to last. RedoneError: they go round."""
        found: list[str] = []
        after = self.stages[name].after
        while after is not None:
            if after == name or after in found:
                ring = " after ".join([name, *found, after])
                raise RedoneError(f"stages.{name}.after: they go round: {ring}; one must have a `start`")
            found.append(after)
            after = self.stages[after].after
        return found[::-1]

    def order(self, only: tuple[str, ...] = ()) -> list[str]:
        """Stages, each after the one that it starts from, else as in the file. only: these and what they stand on."""
        for name in only:
            if name not in self.stages:
                raise RedoneError(f"--only {name}: {did_you_mean(name, self.stages)}")
        wanted = [name for one in only or self.stages for name in (*self.ancestors(one), one)]
        in_order = [name for one in self.stages for name in (*self.ancestors(one), one)]
        return [name for name in dict.fromkeys(in_order) if name in wanted]

    def settings_of(self, name: str) -> dict[str, Any]:
        """key.path -> value of a stage's run."""
        stage = self.stages[name]
        assert stage.run is not None
        return {**dict(flat(getattr(self.settings, stage.run[0]))), **dict(flat(stage.set))}


def flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted ones.

    >>> list(flat({"batch": {"rows": 8}, "data.length": 64}))
    [('batch.rows', 8), ('data.length', 64)]
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _check_own(values: Mapping[str, Any]) -> None:
    for key, _ in flat(values):
        if key in OWN or key.startswith("models."):
            raise RedoneError(f"set: {key} is the ladder's own to say, by `output`, `start`, `after` and the stages")


def load_ladder(path: Path, settings: tuple[str, ...] = ()) -> LadderConfig:
    """Read a file; settings: `key.path=value` each, laid over it."""
    values = load_yaml(path)
    for setting in settings:
        set_key(values, setting)
    return read_config(LadderConfig, values, where=str(path))
