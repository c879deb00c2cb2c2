"""The proposal: the file that says which mixture to train on, why, and how far to believe it.

A JSON file with a schema version, the same bytes for the same content: keys sorted, floats rounded to eight significant
digits when the proposal is made (so reading it back gives an equal object), null where nothing is known. Reading is
strict: a missing or unknown key is an error, never a default. Every measured figure names the scale it was measured at
and the number of seeds behind it.
"""

import json
import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from redone_data.config import read_config
from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.fit import FitRow
from redone_data.mixture import Mixture

SCHEMA_VERSION = 2
SIGNIFICANT_DIGITS = 8
MIXED = "mixed"

# Where a candidate comes from: the search, the best run of the swarm, a baseline, the mixture that retention is told
# against, or from beside the chosen one.
Kind = Literal["found", "run", "baseline", "reference", "neighbour"]


@dataclass(frozen=True)
class MetricRecord:
    """One metric's loss: predicted, and measured by training (mean and standard deviation over seeds); None: unknown.

    low, high: interval of the prediction.
    """

    predicted: float | None = None
    predicted_prior: float | None = None
    predicted_uniform: float | None = None
    low: float | None = None
    high: float | None = None
    measured: float | None = None
    measured_sd: float | None = None
    measured_prior: float | None = None
    measured_prior_sd: float | None = None
    measured_uniform: float | None = None
    measured_uniform_sd: float | None = None

    def __post_init__(self) -> None:
        _round_fields(self)


@dataclass(frozen=True)
class Measured:
    """What training one mixture gave: metric -> mean and standard deviation over seeds, at one scale.

    seeds: how many finished. sd: None where one seed finished.
    """

    scale: str
    seeds: int
    mean: dict[str, float]
    sd: dict[str, float | None]

    def __post_init__(self) -> None:
        _round_fields(self)


@dataclass(frozen=True)
class Candidate:
    """A mixture that was trained to be compared with others: metric -> loss as predicted and as measured.

    predicted: at the swarm's scale. carried: the same prediction at the scale of `choosing`, by the affine map.
    choosing: on the seeds that the finalists were chosen on, so flattering for the chosen one. fresh: on seeds that had
        no part in the choice. target: on those seeds at the target's scale. None: not trained so, or all diverged.
    """

    name: str
    kind: Kind
    weights: dict[str, float]
    predicted: dict[str, float] = field(default_factory=dict)
    carried: dict[str, float] = field(default_factory=dict)
    choosing: Measured | None = None
    fresh: Measured | None = None
    target: Measured | None = None

    def __post_init__(self) -> None:
        Mixture.of(self.weights)
        _round_fields(self)


@dataclass(frozen=True)
class Difference:
    """The measured objective of one mixture minus that of another on the same seeds; negative: the first is better.

    noise: half-width of the 95 % interval; None where there is no telling (one seed of two mixtures).
    """

    name: str
    against: str
    difference: float
    noise: float | None
    seeds: int
    scale: str

    def __post_init__(self) -> None:
        _round_fields(self)


@dataclass(frozen=True)
class FrontPoint:
    """A mixture on the Pareto front of the objective and retention, as predicted; one of them is `chosen`."""

    weights: dict[str, float]
    objective: float
    retention: float | None
    chosen: bool

    def __post_init__(self) -> None:
        _round_fields(self)


@dataclass(frozen=True)
class Uncapped:
    """The optimum if no cap on epochs were set, and the epochs it would mean; predicted: its objective."""

    weights: dict[str, float]
    epochs: dict[str, float]
    predicted: float | None

    def __post_init__(self) -> None:
        _round_fields(self)


@dataclass(frozen=True)
class Proposal:
    """A proposed mixture and the evidence for it.

    weights, prior, uniform: domain -> share; the prior and uniform mixture are those that were compared, brought within
        the caps and the recipe's other constraints.
    epochs: domain -> passes over its tokens that these weights mean.
    recommended: the name of the candidate that is proposed.
    metrics: what is known of each metric.
    surrogates: metric -> the surrogate that predicted it.
    seed: of design, fit and search. seeds: the fresh ones of the validation.
    decision: why these weights, in sentences for a reader: what was recommended and against which baseline, with the
        measured losses, their noise, seeds and scale; then what was left out, what retention says, and whether prior
        or uniform mixture had to be changed to be allowed. No program should read it: `recommended` and `differences`
        hold the same as values.
    skill: how well held-out runs were predicted. objective: metric -> weight.
    nearest_run_distance: total variation; None where there was no swarm. binding_caps: domains at their cap; binding:
        names of the constraints that bind.
    scale: of the swarm's proxies, such as "0.3m parameters x 0.2M tokens".
    finalists: everything that was trained to be compared, baselines too, and the reference of retention.
    neighbours: mixtures beside the chosen one.
    differences: what the decision rests on. diverged: proxies that are left out, as stage/run.
    front, uncapped, optimism: of the search; optimism is how much its predicted gain is thought to flatter.
    noise: metric -> standard deviation over seeds of one mixture in the swarm.
    rounds: how the swarm grew and why it stopped. reused: runs taken over from an earlier swarm.
    """

    weights: dict[str, float]
    prior: dict[str, float]
    uniform: dict[str, float]
    epochs: dict[str, float]
    seed: int
    decision: str
    metrics: dict[str, MetricRecord] = field(default_factory=dict)
    surrogates: dict[str, str] = field(default_factory=dict)
    skill: tuple[FitRow, ...] = ()
    objective: dict[str, float] = field(default_factory=dict)
    nearest_run_distance: float | None = None
    binding_caps: tuple[str, ...] = ()
    binding: tuple[str, ...] = ()
    scale: str = ""
    seeds: tuple[int, ...] = ()
    recommended: str | None = None
    finalists: tuple[Candidate, ...] = ()
    neighbours: tuple[Candidate, ...] = ()
    differences: tuple[Difference, ...] = ()
    diverged: tuple[str, ...] = ()
    front: tuple[FrontPoint, ...] = ()
    uncapped: Uncapped | None = None
    optimism: float | None = None
    noise: dict[str, float | None] = field(default_factory=dict)
    rounds: dict[str, Any] = field(default_factory=dict)
    reused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("weights", "prior", "uniform"):
            named = sorted(getattr(self, name))
            if named != self.domains:
                raise RedoneError(f"proposal: '{name}' has domains {named}, 'weights' has {self.domains}")
            Mixture(tuple(self.domains), tuple(getattr(self, name)[domain] for domain in self.domains))
        for domain in self.epochs:
            if domain not in self.weights:
                raise RedoneError(f"proposal: 'epochs' names domain '{domain}'; {did_you_mean(domain, self.domains)}")
        object.__setattr__(self, "skill", tuple(FitRow(**_rounded(asdict(row))) for row in self.skill))
        _round_fields(self)

    @property
    def domains(self) -> list[str]:
        return sorted(self.weights)

    @property
    def mixture(self) -> Mixture:
        """The proposed weights."""
        return Mixture.of(self.weights)

    @property
    def surrogate(self) -> str | None:
        """The surrogate, if it is the same for all metrics; else "mixed"; None where nothing was fitted."""
        kinds = sorted(set(self.surrogates.values()))
        return MIXED if len(kinds) > 1 else (kinds[0] if kinds else None)

    def to_json(self) -> str:
        """The file's text: the same bytes for the same proposal."""
        derived = {"schema_version": SCHEMA_VERSION, "domains": self.domains, "surrogate": self.surrogate}
        record = derived | asdict(self)
        return json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, path: Path) -> "Proposal":
        """Read a proposal; anything that this version does not know is an error."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RedoneError(f"{path}: there is no such file; `redone-data mix` writes proposal.json") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RedoneError(f"{path}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise RedoneError(f"{path}: a proposal is a JSON object, this is a {type(record).__name__}")
        version = record.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise RedoneError(
                f"{path}: schema_version is {version}, this version reads {SCHEMA_VERSION}; "
                "make the proposal again (finished proxies are not trained again), or copy its weights to mix.weights"
            )
        derived = ("domains", "surrogate")
        _same_keys(record, [*(item.name for item in fields(cls)), *derived], f"{path}")
        stated = {name: record.pop(name) for name in derived}
        _all_keys(cls, record, path)
        try:
            proposal = read_config(cls, record, where=f"{path}")
        except RedoneError as error:
            raise RedoneError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
        for name in derived:
            if stated[name] != getattr(proposal, name):
                raise RedoneError(f"{path}: '{name}' is {stated[name]}, the rest says {getattr(proposal, name)}")
        return proposal


def _all_keys(kind: Any, value: Any, path: Path, key: str = "") -> None:
    """Every record within a record has all keys of its kind; their types are read_config's to check."""
    if is_dataclass(kind) and isinstance(kind, type):
        _same_keys(value, [item.name for item in fields(kind)], f"{path}: {key}" if key else f"{path}")
        for name, inner in get_type_hints(kind).items():
            _all_keys(inner, value[name], path, f"{key}.{name}" if key else name)
    elif get_origin(kind) is dict and isinstance(value, dict):
        for name, item in value.items():
            _all_keys(get_args(kind)[1], item, path, f"{key}.{name}")
    elif get_origin(kind) is tuple and isinstance(value, list):
        for i, item in enumerate(value):
            _all_keys(get_args(kind)[0], item, path, f"{key}[{i}]")
    elif value is not None:
        for option in get_args(kind):
            if is_dataclass(option):
                _all_keys(option, value, path, key)


def _same_keys(record: Any, expected: list[str], where: str) -> None:
    if not isinstance(record, dict):
        raise RedoneError(f"{where}: an object is expected, this is a {type(record).__name__}")
    missing = sorted(set(expected) - set(record))
    if missing:
        raise RedoneError(f"{where}: missing {', '.join(missing)}; a proposal that was cut or edited: make it again")
    for key in sorted(set(record) - set(expected)):
        raise RedoneError(f"{where}: unknown key '{key}'; {did_you_mean(key, expected)}")


def _round_fields(record: Any) -> None:
    """Round a frozen dataclass's floats in place, in dicts too, so that writing and reading give the same object."""
    for item in fields(record):
        object.__setattr__(record, item.name, _rounded(getattr(record, item.name)))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RedoneError(f"proposal: a value is {value}; a proposal holds finite numbers, and null where unknown")
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
