"""A swarm as two tables, joined by run id: what each proxy run was trained on, and what it measured.

Pairing the two tables by position, as RegMix and olmix do, gives a wrong mixture without a sign of it once either table
is sorted or filtered. Here the run id joins them; rows, domains and metrics are put in sorted order, so shuffling
either table changes nothing downstream. All that is wrong with the tables is said in one message.

Read as they are: ours (`run_id`, `seed`, one column a domain / `run_id`, one column a metric), RegMix's (`index`, ...)
and olmix's (an unnamed column, `run`, `name`, `index`, ...). A column of words is neither domain nor metric.

Shapes: R runs, D domains, M metrics.
"""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from redone_data.errors import RedoneError

Floats = NDArray[np.float64]

WEIGHT_SUM_TOLERANCE = 5e-3  # published tables are rounded to .001; rows within this are renormalised
NAMED_IN_MESSAGE = 5
# The column with the run id, and the columns beside it that are neither domain nor metric.
LAYOUTS: dict[str, frozenset[str]] = {
    "run_id": frozenset({"", "seed"}),
    "run": frozenset({"", "name", "index", "seed"}),
    "index": frozenset({"", "seed"}),
}


@dataclass(frozen=True, eq=False)
class Swarm:
    """Finished proxy runs: row r of both arrays is `run_ids[r]`. Checked when made; names unique, values finite."""

    run_ids: tuple[str, ...]
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    weights_RD: Floats
    losses_RM: Floats

    def __post_init__(self) -> None:
        runs, domains, metrics = len(self.run_ids), len(self.domains), len(self.metrics)
        assert self.weights_RD.shape == (runs, domains), "weights_RD is runs x domains"
        assert self.losses_RM.shape == (runs, metrics), "losses_RM is runs x metrics"
        problems = [*_twice("run id", self.run_ids), *_twice("domain", self.domains), *_twice("metric", self.metrics)]
        if not (runs and domains and metrics):
            problems.append(f"there are {runs} runs, {domains} domains and {metrics} metrics; each must be at least 1")
        problems += _not_finite("weights", self.run_ids, self.weights_RD)
        problems += _not_finite("metrics", self.run_ids, self.losses_RM)
        problems += _not_shares(self.run_ids, self.weights_RD)
        _raise(problems, where="the swarm")

    def in_order(self) -> "Swarm":
        """The same swarm with runs, domains and metrics sorted by name and each row of weights summing to one."""
        runs_R = sorted(range(len(self.run_ids)), key=self.run_ids.__getitem__)
        domains_D = sorted(range(len(self.domains)), key=self.domains.__getitem__)
        metrics_M = sorted(range(len(self.metrics)), key=self.metrics.__getitem__)
        weights_RD = self.weights_RD[np.ix_(runs_R, domains_D)]
        return Swarm(
            run_ids=tuple(self.run_ids[r] for r in runs_R),
            domains=tuple(self.domains[d] for d in domains_D),
            metrics=tuple(self.metrics[m] for m in metrics_M),
            weights_RD=weights_RD / weights_RD.sum(axis=1, keepdims=True),
            losses_RM=self.losses_RM[np.ix_(runs_R, metrics_M)],
        )

    def losses(self, metric: str) -> Floats:
        """One metric's losses, a run each."""
        return self.losses_RM[:, self.metrics.index(metric)]


def load_swarm(runs_csv: Path, metrics_csv: Path, *, without: Collection[str] = ()) -> Swarm:
    """Read the two CSV tables of a swarm and join them by run id. without: runs of the first that have no metrics."""
    runs, repeated = _read_csv(runs_csv)
    if without and "run_id" in runs.columns:
        runs = runs.filter(~pl.col("run_id").is_in(list(without)))
    metrics, also_repeated = _read_csv(metrics_csv)
    names = {"runs_name": str(runs_csv), "metrics_name": str(metrics_csv)}
    return join_swarm(runs, metrics, **names, problems=(*repeated, *also_repeated))


def join_swarm(
    runs: pl.DataFrame,
    metrics: pl.DataFrame,
    *,
    runs_name: str = "runs",
    metrics_name: str = "metrics",
    problems: Iterable[str] = (),
) -> Swarm:
    """Join two frames by run id; the names are for error messages, the problems were seen before and are said too."""
    _, run_ids, domains, weights_RD, run_problems = _columns(runs, runs_name, "weights")
    _, measured_ids, names, losses_RM, metric_problems = _columns(metrics, metrics_name, "metrics")
    found = [*problems, *run_problems, *metric_problems]
    found += [f"{runs_name}: {problem}" for problem in _not_shares(run_ids, weights_RD)]
    found += _about(f"runs without a row in {metrics_name}", sorted(set(run_ids) - set(measured_ids)))
    found += _about(f"runs without a row in {runs_name}", sorted(set(measured_ids) - set(run_ids)))
    _raise(found, where=f"{runs_name} and {metrics_name}")
    row_of = {run_id: row for row, run_id in enumerate(measured_ids)}
    losses_RM = losses_RM[[row_of[run_id] for run_id in run_ids]]
    return Swarm(tuple(run_ids), tuple(domains), tuple(names), weights_RD, losses_RM).in_order()


@dataclass(frozen=True, eq=False)
class MixtureTable:
    """Mixtures to predict, a row each, columns in the order of the swarm's domains. id_column: its name in the file."""

    id_column: str
    ids: tuple[str, ...]
    weights_CD: Floats


def load_mixtures(path: Path, domains: Sequence[str]) -> MixtureTable:
    """Read a CSV table of mixtures over these domains, its columns in any order."""
    frame, problems = _read_csv(path)
    id_column, ids, names, weights_CD, column_problems = _columns(frame, str(path), "weights")
    problems += [*column_problems, *(f"{path}: {problem}" for problem in _not_shares(ids, weights_CD))]
    problems += _about("domains of the swarm without a column", sorted(set(domains) - set(names)))
    unknown = sorted(set(names) - set(domains))
    problems += _about("columns that are no domain of the swarm", unknown)
    _raise(problems, where=str(path), remedy=f"Its columns are the swarm's domains: {', '.join(sorted(domains))}")
    weights_CD = weights_CD[:, [names.index(name) for name in domains]]
    return MixtureTable(id_column, tuple(ids), weights_CD / weights_CD.sum(axis=1, keepdims=True))


def _columns(frame: pl.DataFrame, where: str, what: str) -> tuple[str, list[str], list[str], Floats, list[str]]:
    """The id column's name, the ids, the names of the columns of numbers, their values, and what is wrong with them."""
    id_column = next((name for name in LAYOUTS if name in frame.columns), None)
    if id_column is None:
        raise RedoneError(f"{where}: no column with the run id; name it run_id (also read: run, index)")
    ids = frame.get_column(id_column).cast(pl.String).fill_null("").to_list()
    rest = [name for name in frame.columns if name != id_column and name not in LAYOUTS[id_column]]
    values = frame.select(pl.col(rest).cast(pl.Float64, strict=False))
    words = [name for name in rest if values[name].is_null().all() and not frame[name].is_null().all()]
    names = [name for name in rest if name not in words]
    array = values.select(names).to_numpy().astype(np.float64) if names else np.empty((len(ids), 0))
    problems = [f"{where}: {problem}" for problem in _twice("run id", ids)]
    if not names:
        problems.append(f"{where}: no column of numbers" + (f"; of words: {', '.join(words)}" if words else ""))
    elif not ids:
        problems.append(f"{where}: no rows")
    problems += [f"{where}: {problem}" for problem in _not_finite(what, ids, array, names)]
    return id_column, ids, names, array, problems


def _read_csv(path: Path) -> tuple[pl.DataFrame, list[str]]:
    """All columns as text: a run id "007" stays what it is, and a value that is no number is found with its run."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        repeated = [f"{path}: {problem}" for problem in _twice("column", header)]
        frame = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError:
        raise RedoneError(f"{path}: there is no such file; a swarm is two tables, runs.csv and metrics.csv") from None
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise RedoneError(f"{path}: not a readable CSV table: {str(error).splitlines()[0]}") from error
    # polars gives repeated columns names of its own.
    return frame.select(pl.nth([header.index(name) for name in dict.fromkeys(header)])), repeated


def _not_shares(ids: Sequence[str], weights_RD: Floats) -> list[str]:
    problems = _about(
        "negative weights in runs", [ids[r] for r in np.flatnonzero((weights_RD < 0).any(axis=1)).tolist()]
    )
    sums_R = weights_RD.sum(axis=1)
    off_R = (np.abs(sums_R - 1) > WEIGHT_SUM_TOLERANCE) & (weights_RD.shape[1] > 0)
    sums = [f"{ids[r]} (sum {sums_R[r]:.4g})" for r in np.flatnonzero(off_R).tolist()]
    return problems + _about("the weights do not sum to one in runs", sums)


def _twice(what: str, names: Iterable[str]) -> list[str]:
    return _about(f"{what} given twice", [name for name, count in Counter(names).items() if count > 1])


def _not_finite(what: str, ids: Iterable[str], array: Floats, names: list[str] | None = None) -> list[str]:
    found = np.argwhere(~np.isfinite(array))
    id_list = list(ids)
    cells = [f"{id_list[row]} ({names[column]})" if names else id_list[row] for row, column in found.tolist()]
    return _about(f"{what} missing or not finite in runs", list(dict.fromkeys(cells)))


def _about(what: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = f" and {len(items) - NAMED_IN_MESSAGE} more" if len(items) > NAMED_IN_MESSAGE else ""
    return [f"{what}: {', '.join(items[:NAMED_IN_MESSAGE])}{more}"]


def _raise(
    problems: list[str], *, where: str, remedy: str = "Mend or remove these rows; tables are joined by run id"
) -> None:
    if problems:
        raise RedoneError(f"{where}: {'; '.join(problems)}. {remedy}")
