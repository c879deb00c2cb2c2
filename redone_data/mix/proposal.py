"""The proposal: the file that says which mixture to train on, why, and how far to believe it.

A JSON file with a schema version, the same bytes for the same content: keys sorted, floats rounded to eight significant
digits when the proposal is made (so reading it back gives an equal object), null where nothing is known. Reading is
strict: a missing or unknown key is an error, never a default.
"""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.fit import FitRow
from redone_data.mixture import Mixture

SCHEMA_VERSION = 1
SIGNIFICANT_DIGITS = 8
MIXED = "mixed"


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
class Proposal:
    """A proposed mixture and the evidence for it.

    weights, prior, uniform: domain -> share; the prior and uniform mixture are those that were compared, caps applied.
    epochs: domain -> passes over its tokens that these weights mean.
    metrics: what is known of each metric.
    surrogates: metric -> the surrogate that predicted it.
    seed: of design, fit and search. seeds: of the validation runs.
    decision: why these weights ("searched", "no skill: the prior", "fixed by recipe", "from an earlier proposal").
    skill: how well held-out runs were predicted. objective: metric -> weight.
    nearest_run_distance: total variation; None where there was no swarm. binding_caps: domains at their cap.
    scale: of the proxies, such as "0.3m parameters x 0.2M tokens".
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
    scale: str = ""
    seeds: tuple[int, ...] = ()

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
            raise RedoneError(f"{path}: schema_version is {version}, not {SCHEMA_VERSION}; make the proposal again")
        derived = ("domains", "surrogate")
        _same_keys(record, [*(item.name for item in fields(cls)), *derived], f"{path}")
        stated = {name: record.pop(name) for name in derived}
        try:
            for metric, values in record["metrics"].items():
                _same_keys(values, [item.name for item in fields(MetricRecord)], f"{path}: metrics.{metric}")
            for row in record["skill"]:
                _same_keys(row, [item.name for item in fields(FitRow)], f"{path}: skill")
            record["metrics"] = {name: MetricRecord(**values) for name, values in record["metrics"].items()}
            record["skill"] = tuple(FitRow(**row) for row in record["skill"])
            record["binding_caps"], record["seeds"] = tuple(record["binding_caps"]), tuple(record["seeds"])
            proposal = cls(**record)
        except (TypeError, AttributeError) as error:
            raise RedoneError(f"{path}: a value has the wrong type: {error}") from error
        except RedoneError as error:
            raise RedoneError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
        for name in derived:
            if stated[name] != getattr(proposal, name):
                raise RedoneError(f"{path}: '{name}' is {stated[name]}, the rest says {getattr(proposal, name)}")
        return proposal


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
    return value
