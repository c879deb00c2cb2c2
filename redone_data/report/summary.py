"""What a run did, as plain tables: the source of the terminal's tables, the HTML report and the notebooks' plots."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DomainRow:
    """One domain from raw records to training tokens. Sizes in UTF-8 bytes."""

    domain: str
    quarantined: int
    documents_read: int
    bytes_read: int
    documents_train: int
    documents_validation: int
    bytes_kept: int
    documents_joined: int = 0  # comments and queries that are part of their note's document now
    tokens: int | None = None  # training tokens in the pool, end-of-document tokens included
    pool_bytes: int | None = None  # bytes of those tokens' text
    prior: float | None = None
    weight: float | None = None
    epochs: float | None = None
    sampled_tokens: int | None = None

    @property
    def documents_dropped(self) -> int:
        kept = self.documents_train + self.documents_validation
        return self.documents_read - self.documents_joined - kept

    @property
    def kept_fraction(self) -> float:
        own = self.documents_read - self.documents_joined
        return (self.documents_train + self.documents_validation) / max(own, 1)


@dataclass(frozen=True)
class WeightRow:
    """A domain in the recommended mixture, where nothing else of the domain is at hand."""

    domain: str
    prior: float | None
    weight: float | None
    epochs: float | None


@dataclass(frozen=True)
class DropRow:
    """Documents of a domain that one rule dropped."""

    domain: str
    step: str  # identity, language, rules, exact, near
    rule: str
    documents: int


@dataclass(frozen=True)
class Histogram:
    """How a metric is spread over a domain's documents, with the bounds its rule allows."""

    domain: str
    metric: str
    meaning: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True)
class LanguageRow:
    """Training tokens by domain and language."""

    domain: str
    language: str
    documents: int
    tokens: int
    bytes: int


@dataclass(frozen=True)
class HeldOutPoint:
    """One proxy run's loss, measured and predicted by a fit that did not see the run. Bits per byte."""

    run_id: str
    metric: str
    measured: float
    predicted: float


@dataclass(frozen=True)
class MeasuredRow:
    """Loss of one mixture on one metric over the validation seeds, beside its prediction. Bits per byte."""

    metric: str  # a domain, or "objective"
    mixture: str  # proposal, prior, uniform
    predicted: float | None
    low: float | None
    high: float | None
    measured: tuple[float, ...]  # one value a seed


@dataclass(frozen=True)
class FinalistRow:
    """Objective of one mixture that was trained to be compared: predicted, then mean and sd over seeds. Bits per byte.

    choosing: on the seeds that one was chosen on. fresh: on others. target: on those at the target's scale.
    """

    name: str
    recommended: bool
    predicted: float | None
    choosing: float | None
    choosing_sd: float | None
    fresh: float | None
    fresh_sd: float | None
    target: float | None = None
    target_sd: float | None = None


@dataclass(frozen=True)
class SkillRow:
    """How well a surrogate, or the whole choice where it was chosen, predicts held-out runs of one metric."""

    metric: str
    surrogate: str
    chosen: bool
    spearman: float
    r2: float
    rmse: float
    skilled: bool


@dataclass(frozen=True)
class LearningPoint:
    """How well held-out runs of one metric are ranked by a fit to so many runs."""

    metric: str
    runs: int
    spearman: float


@dataclass(frozen=True)
class FrontPoint:
    """A mixture of the Pareto front: no other is predicted better on both. Bits per byte."""

    objective: float
    retention: float
    chosen: bool


@dataclass(frozen=True)
class Effect:
    """What one more percentage point of a domain, taken from the others in proportion, does to a metric's loss."""

    domain: str
    metric: str
    change: float  # bits per byte


@dataclass(frozen=True)
class WeightRange:
    """A domain's weight in the optima of fits that each lack a part of the runs, and in that of the fit to all."""

    domain: str
    low: float
    high: float
    found: float


@dataclass(frozen=True)
class ProxyRow:
    """One proxy run of the swarm."""

    run_id: str
    seed: int
    batch: int  # 0 is the first swarm, or the runs taken over from earlier ones
    weights: dict[str, float]  # domain -> share of the target tokenizer's tokens
    losses: dict[str, float]  # metric -> bits per byte; none where it diverged

    @property
    def diverged(self) -> bool:
        return not self.losses


@dataclass(frozen=True)
class RoundRow:
    """What the fit said after a batch of proxy runs. Losses are of the objective, bits per byte."""

    runs: int  # so far
    expected_gain: float | None  # None: no skill
    noise_floor: float | None  # None: nothing is replicated
    best_predicted: float | None
    best_measured: float | None


@dataclass(frozen=True)
class Curve:
    """Training loss of one proxy run, nats per token."""

    run_id: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """A document that was dropped (or kept), to look at. Text is already redacted, and cut."""

    domain: str
    step: str  # "kept" for kept ones
    rule: str
    value: float | None
    bound: float | None
    text: str
    duplicate_of: str | None = None  # the text of the document it duplicates, cut


@dataclass(frozen=True)
class Summary:
    """Everything a report shows. Parts that a run did not reach are empty."""

    name: str
    seed: int
    domains: tuple[DomainRow, ...]
    drops: tuple[DropRow, ...] = ()
    redacted: dict[str, int] = field(default_factory=dict)  # kind -> occurrences masked
    histograms: tuple[Histogram, ...] = ()
    examples: tuple[Example, ...] = ()
    languages: tuple[LanguageRow, ...] = ()
    tokenizer: str = ""
    vocab_size: int | None = None
    budget: int | None = None
    decision: str = ""
    scale: str = ""  # of the proxies, "0.3m parameters x 0.2M tokens"
    targets: dict[str, float] = field(default_factory=dict)
    skill: tuple[SkillRow, ...] = ()
    held_out: tuple[HeldOutPoint, ...] = ()
    measured: tuple[MeasuredRow, ...] = ()
    finalists: tuple[FinalistRow, ...] = ()
    noise: dict[str, float | None] = field(default_factory=dict)  # baseline -> of the objective's difference to it
    curves: tuple[Curve, ...] = ()
    learning: tuple[LearningPoint, ...] = ()
    front: tuple[FrontPoint, ...] = ()
    rivals: dict[str, tuple[float, float]] = field(default_factory=dict)  # mixture -> objective, retention; predicted
    effects: tuple[Effect, ...] = ()
    rounds: tuple[RoundRow, ...] = ()
    stopped: str = ""  # why there were no more rounds
    reused: int = 0  # runs taken over from earlier recipes
    uncapped: dict[str, float] = field(default_factory=dict)  # the optimum if nothing limited repetition
    uncapped_epochs: dict[str, float] = field(default_factory=dict)
    uncapped_predicted: float | None = None
    weight_ranges: tuple[WeightRange, ...] = ()
    run_weights: dict[str, dict[str, float]] = field(default_factory=dict)  # run id -> domain -> weight, planned or run
    proxies: tuple[ProxyRow, ...] = ()
    mixtures: dict[str, dict[str, float]] = field(default_factory=dict)  # name -> weights of what was to be compared
    uniform: dict[str, float] = field(default_factory=dict)
    nearest_run_distance: float | None = None
    binding_caps: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # step -> wall time
