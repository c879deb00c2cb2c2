"""What `redone-train eval` measures of which models: one strict YAML file. Paths are relative to it. No torch here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redone_data.config import load_yaml, read_config, set_key
from redone_data.curate.asking import AskConfig, Question
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.tables import TableConfig
from redone_data.instruct.task import How

AnswersBy = Literal["generate", "likelihood"]


@dataclass(frozen=True, kw_only=True)
class EndpointConfig(AskConfig):
    """A model behind an OpenAI-compatible endpoint (vLLM, SGLang, a provider's)."""

    stop: tuple[str, ...] = field(default=(), metadata={"help": "set from `stop` of the evaluation"})
    shots: int | None = field(default=None, metadata={"help": "of this model; null: those of the evaluation"})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_shots(self.shots)
        if self.generate is not None:
            raise RedoneError("generate: a model of a folder is given by its path alone: `NAME: path`")

    def sampling(self) -> dict[str, float]:
        return {"temperature": 0.0}

    def request(self, question: Question) -> dict[str, Any]:
        return {**super().request(question), **({"stop": list(self.stop)} if self.stop else {})}


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """A model that is here, asked in a way of its own: a base model with shots beside tuned ones without."""

    path: str = field(metadata={"help": "as where a model is given by its path alone"})
    shots: int | None = field(default=None, metadata={"help": "of this model; null: those of the evaluation"})

    def __post_init__(self) -> None:
        _check_shots(self.shots)


@dataclass(frozen=True)
class BenchmarkConfig:
    """A benchmark in the format of its own files."""

    path: str = field(metadata={"help": "the folder of its files"})
    tasks: tuple[str, ...] = field(default=(), metadata={"help": "some of them; empty: all that are there"})


@dataclass(frozen=True)
class SnsBenchConfig(BenchmarkConfig):
    scorer: Literal["official", "fixed"] = field(
        default="official", metadata={"help": "the published one bug for bug, or ours"}
    )
    prompts: str | None = field(
        default=None, metadata={"help": "folder of a copy of the published code, for its prompts in place of ours"}
    )
    embeddings: str | None = field(
        default=None, metadata={"help": "folder of the sentence-embedding model that QueryGen is scored by"}
    )


@dataclass(frozen=True)
class TransBenchConfig(BenchmarkConfig):
    scorer: Literal["official", "fixed"] = field(
        default="fixed", metadata={"help": "fixed: corpus BLEU and chrF++, as RedOne reports; or the published code's"}
    )


@dataclass(frozen=True)
class SetConfig:
    """A labelled set as a task: conversations that were built, or a table and the task that asks about its rows."""

    files: tuple[str, ...] = field(default=(), metadata={"help": "conversation files of `redone-data sft`"})
    task: str | None = field(default=None, metadata={"help": "for a table: a shipped task, or the path of your own"})
    table: TableConfig | None = field(default=None, metadata={"help": "its rows, as in a recipe of `redone-data sft`"})
    split: Literal["held_out", "all"] = field(
        default="held_out", metadata={"help": "of conversation files: those held out from training, or all"}
    )

    def __post_init__(self) -> None:
        if bool(self.files) == (self.table is not None) or (self.table is None) != (self.task is None):
            raise RedoneError("give either files (conversations), or task and table")


@dataclass(frozen=True)
class HeadConfig:
    """A linear model on the last hidden state, beside the scored answers and on the same documents."""

    rows: int = field(default=2000, metadata={"help": "documents or queries that it is trained on, at most"})
    measured: float = field(
        default=0.5, metadata={"help": "share of documents that are measured, by a hash; it is trained on others"}
    )

    def __post_init__(self) -> None:
        if self.rows < 2 or not 0 < self.measured < 1:
            raise RedoneError(f"rows is {self.rows} and measured {self.measured}; at least 2, and between 0 and 1")


@dataclass(frozen=True)
class ExposureConfig:
    """Harmful posts among those that pass, when a model's scores decide which are held back."""

    table: TableConfig = field(metadata={"help": "labelled posts, as in a recipe of `redone-data sft`"})
    task: str = field(default="offensive", metadata={"help": "of kind yes_no or choice: shipped, or the path of yours"})
    harmful: tuple[str, ...] = field(default=("yes",), metadata={"help": "the labels of the task that are harmful"})
    pass_rates: tuple[float, ...] = field(
        default=(0.5, 0.7, 0.8, 0.9, 0.95), metadata={"help": "shares of the posts that pass"}
    )
    prevalence: float | None = field(
        default=None,
        metadata={"help": "harmful posts are dropped, by a hash, down to this share of all; null: as labelled"},
    )
    head: HeadConfig | None = field(default=None, metadata={"help": "a logistic regression beside; `{}`: as below"})

    def __post_init__(self) -> None:
        if not self.pass_rates or not all(0 < rate < 1 for rate in self.pass_rates):
            raise RedoneError(f"pass_rates: {', '.join(map(str, self.pass_rates))}; each between 0 and 1")
        if not self.harmful:
            raise RedoneError("harmful: at least one label is needed")
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise RedoneError(f"prevalence: {self.prevalence}; between 0 and 1, or null")


@dataclass(frozen=True)
class DrawnNotesConfig:
    """Notes of other rows among the candidates; they count as irrelevant."""

    number: int = field(default=7, metadata={"help": "of a query"})
    how: How = field(
        default="similar", metadata={"help": "similar: notes that share most letters with the query's own"}
    )
    group: str | None = field(default=None, metadata={"help": "same_group: the column that rows share (a community)"})

    def __post_init__(self) -> None:
        if self.number < 1:
            raise RedoneError(f"number: {self.number}; at least 1")
        if (self.how == "same_group") != (self.group is not None):
            raise RedoneError("group: the column that rows share is needed for how: same_group, and for no other")


@dataclass(frozen=True)
class RankingConfig:
    """Notes in the order of their relevance to a query, by a model's scores."""

    table: TableConfig = field(
        metadata={"help": "rows with the columns query, text and, if notes are graded, label; one query, many rows"}
    )
    task: str = field(
        default="query_note_match",
        metadata={"help": "asked of each query and note: of kind yes_no or grade, shipped, or the path of yours"},
    )
    drawn: DrawnNotesConfig | None = field(default=None, metadata={"help": "notes of other rows, added to each query"})
    relevant: int = field(default=1, metadata={"help": "the lowest grade that the reciprocal rank looks for"})
    max_queries: int = field(default=1000, metadata={"help": "drawn by a hash"})
    head: HeadConfig | None = field(default=None, metadata={"help": "a ridge regression beside; `{}`: as below"})

    def __post_init__(self) -> None:
        if self.relevant < 1 or self.max_queries < 1:
            raise RedoneError(f"relevant is {self.relevant} and max_queries {self.max_queries}; at least 1 each")


@dataclass(frozen=True)
class BitsConfig:
    """Bits per byte of held-out token pools, made with the models' own tokenizer."""

    pools: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "name -> folder of held-out token pools, or of such folders (RUN/validation)"},
    )
    general: tuple[str, ...] = field(
        default=(), metadata={"help": "pools or domains that are general text: retention is of these; empty: all"}
    )
    data: str | None = field(
        default=None,
        metadata={"help": "a token dataset of the pools' tokenizer; null: RUN/tokens beside RUN/validation"},
    )
    tokens: int = field(default=100_000, metadata={"help": "of each domain, at most"})
    length: int = field(default=1024, metadata={"help": "tokens of a piece; longer documents are cut"})

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.length < 2:
            raise RedoneError(f"tokens is {self.tokens} and length {self.length}; at least 1 and 2")


@dataclass(frozen=True)
class GeneralConfig:
    """General ability by lm-evaluation-harness (the package lm_eval)."""

    tasks: tuple[str, ...] = field(
        default=("redone",), metadata={"help": "its task names, or the suite `redone` or one of its groups"}
    )
    shots: int | None = field(default=None, metadata={"help": "null: as each task has it"})
    max_items: int | None = field(default=None, metadata={"help": "of each task, at most"})
    include: str | None = field(default=None, metadata={"help": "a folder of your own tasks in its format"})


@dataclass(frozen=True)
class EvaluationConfig:
    """An evaluation. The first model is the one that the others are compared with."""

    output: str = field(metadata={"help": "the folder of answers and results"})
    models: dict[str, str | FolderConfig | EndpointConfig] = field(
        metadata={
            "help": "name -> a Hugging Face folder, a run's (cpt, sft, dpo) or a checkpoint's, a GGUF file; "
            "{path, shots}; or an endpoint. In the order of the stages"
        }
    )
    sns_bench: SnsBenchConfig | None = field(default=None, metadata={"help": "SNS-Bench"})
    trans_bench: TransBenchConfig | None = field(default=None, metadata={"help": "RedTrans-Bench (SNS-TransBench)"})
    sets: dict[str, SetConfig] = field(default_factory=dict, metadata={"help": "name -> a labelled set as a task"})
    out_of_distribution: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "sets or their tasks that no model was tuned on; empty: those that no stage of a ladder has seen, "
            "else those of tables"
        },
    )
    exposure: dict[str, ExposureConfig] = field(
        default_factory=dict, metadata={"help": "name -> labelled posts: harmful ones among those that pass"}
    )
    ranking: dict[str, RankingConfig] = field(
        default_factory=dict, metadata={"help": "name -> queries and notes: the order of the notes"}
    )
    bits: BitsConfig = field(default_factory=BitsConfig)
    general: GeneralConfig | None = field(default=None, metadata={"help": "general ability by lm-evaluation-harness"})
    trained_on: dict[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata={
            "help": "model -> all that it was trained on (files, globs, folders of conversations, pairs, documents): "
            "items that stand in it are counted, and scores given without them"
        },
    )
    leave_out_trained_on: bool = field(
        default=False, metadata={"help": "measure only what stands in none of it: items are drawn among the others"}
    )
    answers: AnswersBy = field(
        default="generate",
        metadata={"help": "likelihood: of items with options, the one that the model finds likeliest"},
    )
    shots: int | None = field(
        default=None, metadata={"help": "solved examples before each item; null: the benchmark's own, of sets none"}
    )
    max_items: int | None = field(default=None, metadata={"help": "of each task, drawn by a hash; null: all"})
    max_new_tokens: int = field(default=256, metadata={"help": "of an answer, where the benchmark does not say"})
    stop: tuple[str, ...] = field(default=(), metadata={"help": "texts that end an answer, beside the benchmark's own"})
    batch_size: int = field(default=16, metadata={"help": "prompts at a time"})
    precision: Literal["auto", "bf16", "fp32"] = field(
        default="auto", metadata={"help": "auto: bf16 on a GPU, fp32 on a CPU"}
    )
    device: str = field(default="auto", metadata={"help": "cpu, cuda, cuda:1, ...; auto: a GPU if there is one"})
    resamples: int = field(default=1000, metadata={"help": "draws of the bootstrap"})
    seed: int = field(default=1, metadata={"help": "of everything that is drawn"})

    def __post_init__(self) -> None:
        if not self.models:
            raise RedoneError("models: at least one is needed")
        for name, least in (("max_new_tokens", 1), ("batch_size", 1), ("resamples", 2)):
            if getattr(self, name) < least:
                raise RedoneError(f"{name}: {getattr(self, name)}; at least {least}")
        _check_shots(self.shots)
        for name in self.trained_on:
            if name not in self.models:
                raise RedoneError(f"trained_on.{name}: no such model; {did_you_mean(name, self.models)}")
        if self.leave_out_trained_on and not self.trained_on:
            raise RedoneError("leave_out_trained_on: needs trained_on, the files that the models were trained on")
        if self.max_items is not None and self.max_items < 1:
            raise RedoneError(f"max_items: {self.max_items}; at least 1, or null for all")
        applied = self.exposure or self.ranking
        if not (self.sns_bench or self.trans_bench or self.sets or applied or self.bits.pools or self.general):
            raise RedoneError(
                "nothing to measure: give sns_bench, trans_bench, sets, exposure, ranking, bits.pools or general"
            )
        endpoints = [name for name, model in self.models.items() if isinstance(model, EndpointConfig)]
        if endpoints and applied:
            raise RedoneError(
                f"exposure, ranking: scores are the model's own probabilities, and '{endpoints[0]}' is an endpoint; "
                "leave them out, or give a folder"
            )
        if endpoints and self.answers == "likelihood":
            raise RedoneError(
                f"answers: likelihood needs the model itself, and '{endpoints[0]}' is an endpoint; generate"
            )

    def shots_of(self, model: str) -> int | None:
        """Solved examples before each item that this model is asked; None: the benchmark's own."""
        given = self.models[model]
        own = None if isinstance(given, str) else given.shots
        return self.shots if own is None else own

    @property
    def most_shots(self) -> int:
        """Of any model: so many rows of a set are not asked about, so that all are asked the same items."""
        return max(self.shots_of(model) or 0 for model in self.models)


def _check_shots(shots: int | None) -> None:
    if shots is not None and shots < 0:
        raise RedoneError(f"shots: {shots}; at least 0, or null")


def load_evaluation(path: Path, settings: tuple[str, ...] = ()) -> EvaluationConfig:
    """Read a file; settings: `key.path=value` each, laid over it."""
    values = load_yaml(path)
    for setting in settings:
        set_key(values, setting)
    return read_config(EvaluationConfig, values, where=str(path))
