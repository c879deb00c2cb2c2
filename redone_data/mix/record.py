"""How a mixture was found and how sure that is, read from files as plain rows: for the report, notebooks and scripts.

`MixtureRecord.open("runs/quickstart")` reads the `mixture/` folder and the proposal.json of a finished run
(docs/run-folder.md), wherever they were copied to; a run at work makes the same record of its steps' folders. Nothing
is trained or fitted again, so a question costs a file: milliseconds.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.errors import RedoneError
from redone_data.manifest import read_json
from redone_data.mix.entrants import BEST
from redone_data.mix.limits import OBJECTIVE, PRIOR, PROPOSAL, UNIFORM
from redone_data.mix.measured import Measurement
from redone_data.mix.proposal import Candidate, Measured, Proposal
from redone_data.mix.steps import ROUNDS
from redone_data.mix.swarm import BASE, MIXTURES, all_diverged, trained
from redone_data.mix.validate import FRESH
from redone_data.report.summary import (
    Curve,
    Effect,
    FinalistRow,
    FrontPoint,
    HeldOutPoint,
    LearningPoint,
    MeasuredRow,
    ProxyRow,
    RoundRow,
    SkillRow,
    WeightRange,
    WeightRow,
)

FOLDER = "mixture"
FIT, HELD_OUT, SEARCH = "fit.json", "held_out.parquet", "search.json"
VALIDATION = "validation"


@dataclass(frozen=True, eq=False)
class MixtureRecord:
    """Every property is empty where the run did not come so far.

    fitted: the folder with fit.json, held_out.parquet and, with rounds, rounds.json. searched: with search.json.
    swarms: a swarm folder a batch. validations: stage -> swarm folder.
    """

    fitted: Path | None = None
    searched: Path | None = None
    swarms: tuple[Path, ...] = ()
    validations: Mapping[str, Path] = field(default_factory=dict)
    proposal: Proposal | None = None

    @classmethod
    def open(cls, run: Path) -> "MixtureRecord":
        """Of a finished run's folder, or of a copy of its proposal.json and mixture/."""
        folder = run / FOLDER
        if not (folder / SEARCH).is_file():
            raise RedoneError(
                f"{run}: there is no {FOLDER}/{SEARCH}; name the folder of a finished `redone-data mix` whose weights "
                "were searched for (mix.weights and mix.proposal set them)"
            )
        swarms = sorted(folder.glob("swarm-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        stages = sorted((folder / VALIDATION).glob("*"))
        proposal = Proposal.from_json(run / "proposal.json")
        return cls(folder, folder, tuple(swarms), {path.name: path for path in stages}, proposal)

    def published(self) -> dict[Path, Path]:
        """Name below the run's `mixture/` -> the file that is shown there; nothing where nothing was searched for."""
        if self.fitted is None or self.searched is None:
            return {}
        shown = {Path(name): self.fitted / name for name in (FIT, HELD_OUT, ROUNDS)}
        shown[Path(SEARCH)] = self.searched / SEARCH
        folders = {Path(f"swarm-{number}"): folder for number, folder in enumerate(self.swarms)}
        folders |= {Path(VALIDATION) / stage: folder for stage, folder in self.validations.items()}
        for name, folder in folders.items():
            files = [folder / table for table in ("runs.csv", MIXTURES, "metrics.csv", BASE)]
            for path in (*files, *_results(folder)):
                shown[name / path.relative_to(folder)] = path
        return {name: path for name, path in shown.items() if path.is_file()}

    # --- The swarm ---------------------------------------------------------------------------------------------------

    @cached_property
    def proxies(self) -> tuple[ProxyRow, ...]:
        """Every run of the swarm, those that diverged among them."""
        rows = []
        for batch, folder in enumerate(self.swarms):
            losses = {}
            if not all_diverged(folder):
                swarm = trained(folder)
                for run, losses_M in zip(swarm.run_ids, swarm.losses_RM, strict=True):
                    losses[run] = dict(zip(swarm.metrics, losses_M.tolist(), strict=True))
            table = folder / MIXTURES
            with (table if table.is_file() else folder / "runs.csv").open(encoding="utf-8", newline="") as file:
                for line in csv.DictReader(file):
                    run, seed = line.pop("run_id"), int(line.pop("seed"))
                    weights = {domain: float(weight) for domain, weight in line.items()}
                    rows.append(ProxyRow(run, seed, batch, weights, losses.get(run, {})))
        return tuple(rows)

    @property
    def run_weights(self) -> dict[str, dict[str, float]]:
        """Run -> domain -> weight."""
        return {row.run_id: row.weights for row in self.proxies}

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Training losses; a trainer of one's own, or counts, may have none."""
        results = [read_json(path) for swarm in self.swarms for path in _results(swarm)]
        return tuple(
            Curve(result["run_id"], tuple(step for step, _ in curve), tuple(loss for _, loss in curve))
            for result in results
            if (curve := result.get("curve"))
        )

    @property
    def rounds(self) -> tuple[RoundRow, ...]:
        """What the fit said after each batch."""
        names = ("runs", "expected_gain", "noise_floor", "best_predicted", "best_measured")
        return tuple(RoundRow(**{name: row[name] for name in names}) for row in self._rounds.get("trace", ()))

    @property
    def stopped(self) -> str | None:
        """Why there was no further batch; None: the recipe has no rounds."""
        reason: str | None = self._rounds.get("stopped")
        return reason

    @cached_property
    def _rounds(self) -> dict[str, Any]:
        return _json(self.fitted, ROUNDS)

    # --- The fit -----------------------------------------------------------------------------------------------------

    @cached_property
    def _fit(self) -> dict[str, Any]:
        return _json(self.fitted, FIT)

    @property
    def skill(self) -> tuple[SkillRow, ...]:
        """Every surrogate that was compared, on held-out runs; for the chosen one, the score of the whole choice."""
        if not self._fit:
            return ()
        nested = {(row["metric"], row["surrogate"]): row for row in self._fit["report"]}
        names = ("metric", "surrogate", "spearman", "r2", "rmse", "skilled")
        rows = []
        for compared in self._fit["compared"]:
            key = (compared["metric"], compared["surrogate"])
            row = nested.get(key, compared)
            rows.append(SkillRow(chosen=key in nested, **{name: row[name] for name in names}))
        return tuple(rows)

    @property
    def held_out(self) -> tuple[HeldOutPoint, ...]:
        """Each run and metric, as predicted by a fit that did not see the run."""
        if self.fitted is None:
            return ()
        frame = pl.read_parquet(self.fitted / HELD_OUT)
        return tuple(HeldOutPoint(**row) for row in frame.to_dicts() if math.isfinite(row["predicted"]))

    # --- The search --------------------------------------------------------------------------------------------------

    @cached_property
    def _search(self) -> dict[str, Any]:
        return _json(self.searched, SEARCH)

    @property
    def learning(self) -> tuple[LearningPoint, ...]:
        """Rank correlation by the number of runs; where there is none (a constant prediction), no point."""
        points = (LearningPoint(*row) for row in self._search.get("learning", ()) if row[2] is not None)
        return tuple(point for point in points if math.isfinite(point.spearman))

    @property
    def front(self) -> tuple[FrontPoint, ...]:
        points = self._search.get("front", ())
        return tuple(FrontPoint(row["objective"], row["retention"], row["chosen"]) for row in points)

    @property
    def rivals(self) -> dict[str, tuple[float, float]]:
        """Prior and uniform on the axes of the front: as it has them, over the metrics that can be predicted."""
        if not self.front or self.proposal is None:
            return {}
        unskilled = {*self._search["unskilled"], *(row["metric"] for row in self._fit["report"] if not row["skilled"])}
        wanted, retention = self.proposal.objective, self._search["retention"]
        general = dict.fromkeys(set(self.proposal.weights) - set(wanted), 1.0) if retention is None else None
        sides = [
            {metric: weight for metric, weight in side.items() if metric not in unskilled}
            for side in (wanted, retention["metrics"] if general is None else general)
        ]
        marks = {}
        for name in (PRIOR, UNIFORM):
            losses = self._search["predicted"][name]
            objective, kept = (
                sum(weight * losses[metric]["predicted"] for metric, weight in side.items()) / sum(side.values())
                for side in sides
            )
            marks[name] = (objective, kept)
        return marks

    @property
    def effects(self) -> tuple[Effect, ...]:
        """Of the found mixture."""
        table = self._search.get("effects", {})
        return tuple(
            Effect(domain, metric, change) for domain, row in sorted(table.items()) for metric, change in row.items()
        )

    @property
    def weight_ranges(self) -> tuple[WeightRange, ...]:
        ranges, found = self._search.get("weight_ranges", {}), self._search.get("weights", {})
        return tuple(WeightRange(name, low, high, found[name]) for name, (low, high) in sorted(ranges.items()))

    # --- The recommendation ------------------------------------------------------------------------------------------

    @property
    def weights(self) -> tuple[WeightRow, ...]:
        """What is recommended, by domain."""
        if self.proposal is None:
            return ()
        prior, weights, epochs = self.proposal.prior, self.proposal.weights, self.proposal.epochs
        return tuple(WeightRow(name, prior[name], weights[name], epochs[name]) for name in sorted(weights))

    @property
    def measured(self) -> tuple[MeasuredRow, ...]:
        """What was found, prior and uniform: as predicted by the search, and as measured on fresh seeds."""
        if not self._search:
            return ()
        fresh, compared = None, {} if self.proposal is None else {item.name: item for item in self.proposal.finalists}
        found = next((item.name for item in compared.values() if item.kind != "baseline" and item.fresh), BEST)
        if self.proposal is not None and FRESH in self.validations:
            fresh = Measurement.read(self.validations[FRESH], "", self.proposal.objective)
        rows = []
        for metric in (OBJECTIVE, *sorted(self._search["weights"])):
            for mixture, name in ((PROPOSAL, found), (PRIOR, PRIOR), (UNIFORM, UNIFORM)):
                if mixture == PROPOSAL and self._search["found_by"] == "no skill":
                    continue
                values = self._search["predicted"].get(PROPOSAL if name == BEST else name, {}).get(metric, {})
                if name in compared and self._is_elsewhere(compared[name]):
                    values = {"predicted": compared[name].carried.get(metric)}
                losses = () if fresh is None else fresh.values(name, metric)
                interval = (values.get("predicted"), values.get("low"), values.get("high"))
                rows.append(MeasuredRow(metric, mixture, *interval, losses))
        return tuple(rows)

    def _is_elsewhere(self, item: Candidate) -> bool:
        """Whether it was measured at another scale than the swarm's, at which predictions are."""
        measured = item.choosing or item.fresh
        return self.proposal is not None and measured is not None and measured.scale != self.proposal.scale

    def _predicted(self, item: Candidate) -> float | None:
        known = item.carried if self._is_elsewhere(item) else item.predicted
        return known.get(OBJECTIVE)

    @property
    def noise(self) -> dict[str, float | None]:
        """Baseline -> noise of the objective's difference to it, on fresh seeds, not those at the target's scale."""
        noise: dict[str, float | None] = {}
        for row in () if self.proposal is None else self.proposal.differences:
            if row.against in (PRIOR, UNIFORM):
                noise.setdefault(row.against, row.noise)
        return noise

    @property
    def finalists(self) -> tuple[FinalistRow, ...]:
        """Everything that was trained to be compared, by the objective; nothing where nothing was."""
        if self.proposal is None:
            return ()
        return tuple(
            FinalistRow(
                name=item.name,
                recommended=item.name == self.proposal.recommended,
                predicted=self._predicted(item),
                choosing=_objective(item.choosing)[0],
                choosing_sd=_objective(item.choosing)[1],
                fresh=_objective(item.fresh)[0],
                fresh_sd=_objective(item.fresh)[1],
                target=_objective(item.target)[0],
                target_sd=_objective(item.target)[1],
            )
            for item in (*self.proposal.finalists, *self.proposal.neighbours)
            if item.choosing or item.fresh or item.target
        )


def _objective(measured: Measured | None) -> tuple[float | None, float | None]:
    return (None, None) if measured is None else (measured.mean[OBJECTIVE], measured.sd[OBJECTIVE])


def _results(folder: Path) -> list[Path]:
    return sorted((folder / "results").glob("[!.]*.json"))


def _json(folder: Path | None, name: str) -> dict[str, Any]:
    """A step's file, {} where the step has not run or has no such file."""
    if folder is None or not (folder / name).is_file():
        return {}
    values: dict[str, Any] = read_json(folder / name)
    return values
