"""What a run of `redone-train sft` or `redone-train dpo` is: a strict YAML file, as config.py has it. No torch here."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from redone_data.errors import RedoneError
from redone_train.train.config import OptimizerConfig, RunConfig

STEP_NAME = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True)
class ConversationConfig:
    """How conversations become rows."""

    length: int = field(default=4096, metadata={"help": "tokens of a row, and the most that a conversation may have"})
    packing: bool = field(
        default=True, metadata={"help": "several conversations a row, masked from each other, or one a row"}
    )
    template: str | None = field(
        default=None,
        metadata={"help": "a Jinja file; null: the model's own chat template, or ChatML where it has none"},
    )
    most_dropped: float = field(
        default=0.05, metadata={"help": "share of the rows that may be too long, and are left out; more is an error"}
    )
    only: tuple[str, ...] = field(
        default=(), metadata={"help": "capabilities or tasks (or CAPABILITY/TASK) to train on; empty: all"}
    )
    without: tuple[str, ...] = field(
        default=(), metadata={"help": "capabilities or tasks that are not trained on; they are measured all the same"}
    )

    def __post_init__(self) -> None:
        _check_data(self.length, self.most_dropped)


@dataclass(frozen=True)
class SftStepConfig:
    """One step of instruction tuning."""

    name: str = field(metadata={"help": "of its folder, OUTPUT/NAME"})
    data: tuple[str, ...] = field(metadata={"help": "conversation files (JSON lines)"})
    epochs: float = field(default=1.0, metadata={"help": "passes over them"})
    learning_rate: float | None = field(default=None, metadata={"help": "peak; null: that of `optimizer`"})

    def __post_init__(self) -> None:
        if not STEP_NAME.fullmatch(self.name):
            raise RedoneError(f"name: {self.name!r} cannot name a folder; letters, digits, '_', '-' and '.' can")
        if not self.data:
            raise RedoneError("data: at least one file is needed")
        if not self.epochs > 0:
            raise RedoneError(f"epochs is {self.epochs:g}; more than 0")


@dataclass(frozen=True)
class SftEvaluationConfig:
    data: tuple[str, ...] = field(
        default=(), metadata={"help": "files of held-out conversations, beside those that are marked so in the steps'"}
    )
    every: int = field(default=100, metadata={"help": "steps; 0: at the start and the end only"})
    conversations: int = field(default=200, metadata={"help": "of each task, at most"})


@dataclass(frozen=True, kw_only=True)
class SftConfig(RunConfig):
    """Instruction tuning, in one step or several."""

    steps: tuple[SftStepConfig, ...] = field(metadata={"help": "in order; each starts from the weights of the last"})
    data: ConversationConfig = field(default_factory=ConversationConfig)
    evaluation: SftEvaluationConfig = field(default_factory=SftEvaluationConfig)

    def __post_init__(self) -> None:
        if not self.steps:
            raise RedoneError("steps: at least one is needed")
        for name, times in Counter(step.name for step in self.steps).items():
            if times > 1:
                raise RedoneError(f"steps: {times} are named '{name}'; a name is a folder, and belongs to one")
        _check_optimizer(self.optimizer)


@dataclass(frozen=True)
class PairConfig:
    """Which preference pairs are read, and how."""

    files: tuple[str, ...] = field(metadata={"help": "pair files (JSON lines: prompt, chosen, rejected)"})
    length: int = field(default=2048, metadata={"help": "tokens of prompt and answer, at most"})
    template: str | None = field(
        default=None,
        metadata={"help": "a Jinja file; null: the model's own chat template, or ChatML where it has none"},
    )
    most_dropped: float = field(
        default=0.05, metadata={"help": "share of the pairs that may be too long, and are left out; more is an error"}
    )
    weak: bool = field(default=True, metadata={"help": "pairs that are marked weak (by engagement) are trained on too"})

    def __post_init__(self) -> None:
        if not self.files:
            raise RedoneError("files: at least one file is needed")
        _check_data(self.length, self.most_dropped)


@dataclass(frozen=True)
class PreferenceLossConfig:
    """DPO (arXiv 2305.18290) or IPO (2310.12036), and the likelihood of chosen answers beside it (RPO, 2404.19733)."""

    kind: Literal["sigmoid", "ipo"] = field(default="sigmoid", metadata={"help": "DPO's loss, or IPO's"})
    beta: float = field(
        default=0.1, metadata={"help": "what leaving the reference costs; of ipo, 1/(2 beta) is the margin a token"}
    )
    likelihood: float = field(
        default=0.0, metadata={"help": "weight of the negative log-likelihood of chosen answers; 0: none"}
    )

    def __post_init__(self) -> None:
        if not self.beta > 0 or self.likelihood < 0:
            raise RedoneError(f"beta is {self.beta:g} and likelihood {self.likelihood:g}; above 0, and 0 or more")


@dataclass(frozen=True)
class DpoEvaluationConfig:
    data: tuple[str, ...] = field(
        default=(), metadata={"help": "files of held-out pairs, beside those that are marked so in the run's"}
    )
    every: int = field(default=50, metadata={"help": "steps; 0: at the start and the end only"})
    pairs: int = field(default=200, metadata={"help": "of each task, at most"})
    patience: int = field(
        default=3,
        metadata={"help": "measurements in a row below the best accuracy that stop the run; 0: it goes to the end"},
    )


@dataclass(frozen=True)
class DpoOptimizerConfig(OptimizerConfig):
    """AdamW, at a twentieth of the usual rate."""

    learning_rate: float = field(default=1e-6, metadata={"help": "peak"})


@dataclass(frozen=True, kw_only=True)
class DpoConfig(RunConfig):
    """Preference optimization."""

    data: PairConfig
    epochs: float = field(default=1.0, metadata={"help": "passes over the pairs"})
    loss: PreferenceLossConfig = field(default_factory=PreferenceLossConfig)
    optimizer: DpoOptimizerConfig = field(default_factory=DpoOptimizerConfig)
    evaluation: DpoEvaluationConfig = field(default_factory=DpoEvaluationConfig)

    def __post_init__(self) -> None:
        if not self.epochs > 0:
            raise RedoneError(f"epochs is {self.epochs:g}; more than 0")
        _check_optimizer(self.optimizer)


def _check_data(length: int, most_dropped: float) -> None:
    if length < 2:
        raise RedoneError(f"length is {length}; 2 tokens or more")
    if not 0 <= most_dropped <= 1:
        raise RedoneError(f"most_dropped is {most_dropped:g}; a share, 0 to 1")


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    if optimizer.z_loss:
        raise RedoneError("optimizer.z_loss: it belongs to `redone-train cpt`; leave it out")
