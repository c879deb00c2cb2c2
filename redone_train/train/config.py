"""What a training run is: one strict YAML file, read into frozen dataclasses. No torch here.

Paths are relative to the file. A key that is left out has the default that is written here; an unknown one is an error
(redone_data/config.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from redone_data.config import load_yaml, read_config, set_key
from redone_data.errors import RedoneError
from redone_data.mixture import Mixture


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on every linear layer but the output layer (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = field(default=16, metadata={"help": "rank of the adapters"})
    alpha: int = field(default=32, metadata={"help": "they count alpha / rank times"})
    dropout: float = field(default=0.0, metadata={"help": "share of an adapter's inputs that is dropped"})

    def __post_init__(self) -> None:
        if min(self.rank, self.alpha) < 1 or not 0 <= self.dropout < 1:
            raise RedoneError(f"rank is {self.rank}, alpha {self.alpha}, dropout {self.dropout}; 1 or more, and [0, 1)")


@dataclass(frozen=True)
class ModelConfig:
    start: str = field(
        metadata={"help": "a Hugging Face folder, a run's, a GGUF file, a hub name, or a new model's size (1m ... 1b)"}
    )
    revision: str | None = field(default=None, metadata={"help": "of a hub name"})
    lora: LoraConfig | None = field(default=None, metadata={"help": "train adapters, not all weights"})
    precision: Literal["auto", "bf16", "fp32"] = field(
        default="auto", metadata={"help": "auto: bf16 on a GPU, fp32 on a CPU"}
    )
    attention: Literal["auto", "flash_attention_2", "flex_attention", "sdpa", "eager"] = field(
        default="auto", metadata={"help": "auto: the fastest one here that keeps documents apart"}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "compute activations again in the backward pass: less memory, a third slower"}
    )
    liger: bool | None = field(
        default=None, metadata={"help": "Liger's fused kernels; null: on a GPU where they are installed"}
    )


@dataclass(frozen=True)
class SourceConfig:
    path: str = field(metadata={"help": "a token dataset: the folder that holds manifest.json"})
    weight: float | None = field(default=None, metadata={"help": "share of the rows; null: by its tokens"})


@dataclass(frozen=True)
class PhaseConfig:
    share: float = field(metadata={"help": "of all steps"})
    weights: dict[str, float] = field(metadata={"help": "source -> share of the rows"})


@dataclass(frozen=True)
class DataConfig:
    sources: dict[str, SourceConfig] = field(metadata={"help": "token datasets by name"})
    length: int = field(default=1024, metadata={"help": "tokens of a row"})
    layout: Literal["packed", "windows"] = field(
        default="packed", metadata={"help": "whole documents by best fit, or text cut every `length` tokens"}
    )
    document_masks: bool = field(
        default=True, metadata={"help": "attention stays within documents; packed rows always have them"}
    )
    phases: tuple[PhaseConfig, ...] = field(
        default=(), metadata={"help": "mixtures by share of the run, in order (annealing); empty: one"}
    )
    workers: int = field(default=2, metadata={"help": "processes that read ahead on each rank"})

    def __post_init__(self) -> None:
        if not self.sources:
            raise RedoneError("sources: at least one token dataset is needed")
        if self.length < 2:
            raise RedoneError(f"length is {self.length}; a row has 2 tokens or more")
        if self.layout == "packed" and not self.document_masks:
            raise RedoneError("document_masks: packed rows always have them; use layout: windows to go without")
        weights = [source.weight for source in self.sources.values()]
        if self.phases and any(weight is not None for weight in weights):
            raise RedoneError("phases: they hold the weights; leave out those of the sources")
        if any(weight is None for weight in weights) and any(weight is not None for weight in weights):
            raise RedoneError("sources: give every source a weight, or none")
        if self.phases and not math.isclose(sum(phase.share for phase in self.phases), 1, abs_tol=1e-6):
            raise RedoneError(f"phases: the shares sum to {sum(phase.share for phase in self.phases):g}, not to 1")

    def mixtures(self, tokens: Mapping[str, int]) -> list[tuple[float, Mixture]]:
        """Share of the run and weights, phase by phase. tokens: of each source, for those without weights."""
        if self.phases:
            return [(phase.share, Mixture.of(phase.weights).on(sorted(self.sources))) for phase in self.phases]
        given = {name: source.weight for name, source in self.sources.items()}
        return [(1.0, Mixture.of({name: tokens[name] if w is None else w for name, w in given.items()}))]


@dataclass(frozen=True)
class BatchConfig:
    rows: int = field(default=64, metadata={"help": "of one step, over all ranks; a run goes on with no other"})
    rows_per_device: int = field(default=4, metadata={"help": "of one micro-batch of one rank"})


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; matrices decay, vectors do not."""

    learning_rate: float = field(default=2e-5, metadata={"help": "peak"})
    betas: tuple[float, ...] = field(default=(0.9, 0.95), metadata={"help": "of AdamW"})
    epsilon: float = field(default=1e-8, metadata={"help": "of AdamW"})
    weight_decay: float = field(default=0.1, metadata={"help": "of matrices"})
    clip: float = field(default=1.0, metadata={"help": "largest norm of a step's gradient; 0: none"})
    z_loss: float = field(default=0.0, metadata={"help": "weight of log(Z)^2 (PaLM, arXiv 2204.02311: 1e-4); 0: off"})


@dataclass(frozen=True)
class ScheduleConfig:
    kind: Literal["cosine", "wsd", "constant"] = field(
        default="cosine", metadata={"help": "after the warm-up; wsd: constant, then linear decay"}
    )
    warmup: float = field(
        default=0.02, metadata={"help": "share of the steps; also the re-warming of a model that was decayed before"}
    )
    decay: float = field(default=0.2, metadata={"help": "share of the steps that wsd decays for"})
    floor: float = field(default=0.1, metadata={"help": "what is left at the end, as a share of the peak"})

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.decay <= 1 and 0 <= self.floor <= 1):
            raise RedoneError(f"warmup, decay and floor are shares; got {self.warmup}, {self.decay}, {self.floor}")
        if self.kind == "wsd" and self.warmup + self.decay > 1:
            raise RedoneError(f"warmup {self.warmup} and decay {self.decay} are more than the whole run")


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = field(default=500, metadata={"help": "steps"})
    keep: int = field(default=3, metadata={"help": "the newest so many; 0: all"})
    resume: Literal["auto", "never"] = field(
        default="auto", metadata={"help": "go on from the newest good one in `output`, or refuse where there is one"}
    )
    verify: Literal["hashes", "sizes"] = field(
        default="hashes", metadata={"help": "what of a checkpoint is compared with its mark before it is loaded"}
    )

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 0:
            raise RedoneError(f"every is {self.every} and keep {self.keep}; 1 step or more, and 0 (all) or more")


@dataclass(frozen=True)
class EvaluationConfig:
    pools: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "name -> folder of held-out token pools, or of such folders (RUN/validation)"},
    )
    every: int = field(default=200, metadata={"help": "steps; 0: at the start and the end only"})
    tokens: int = field(default=100_000, metadata={"help": "of each domain, at most"})


@dataclass(frozen=True)
class GuardConfig:
    """Steps that are left out: a loss or gradient that is not finite, or a gradient far above the usual."""

    spike: float = field(
        default=10.0,
        metadata={"help": "a gradient norm this many times the median of the last `window` steps; 0: never"},
    )
    window: int = field(default=100, metadata={"help": "steps"})
    stop_after: int = field(
        default=10, metadata={"help": "skipped steps among the last `window`: the run stops and names their documents"}
    )


@dataclass(frozen=True)
class LoggingConfig:
    every: int = field(default=10, metadata={"help": "steps"})
    tensorboard: bool = field(default=False, metadata={"help": "write events to OUTPUT/tensorboard"})
    wandb: str | None = field(default=None, metadata={"help": "project to log to, where wandb is installed"})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the runs of cpt, sft and dpo have alike."""

    output: str = field(metadata={"help": "the run's folder"})
    model: ModelConfig
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    deepspeed: str | None = field(
        default=None,
        metadata={"help": "a preset of recipes/deepspeed (zero0 ... zero3_offload) or a JSON file; null: none"},
    )
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    seed: int = field(default=1, metadata={"help": "of everything that is drawn"})


@dataclass(frozen=True, kw_only=True)
class CptConfig(RunConfig):
    """Continued pre-training."""

    data: DataConfig
    tokens: int | None = field(default=None, metadata={"help": "of the whole run; null: one pass over the data"})
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


Run = TypeVar("Run", bound=RunConfig)


def load_run(kind: type[Run], path: Path, settings: tuple[str, ...] = ()) -> Run:
    """Read the file of a kind of run; settings: `key.path=value` each, laid over it."""
    values = load_yaml(path)
    for setting in settings:
        set_key(values, setting)
    return read_config(kind, values, where=str(path))
