"""What a fit leaves on the disk: fit.json (scores), held_out.parquet (runs as predicted unseen) and predictions.csv.

fit.json: `report`, a row a metric with nested scores; `compared`, a row a metric and surrogate; `dropped`, metric ->
surrogate -> held-out runs after which it had lost the race; `intervals` and `noise`, by metric. With the runs these are
the fit: `read_fit` fits the chosen surrogates alone, once each, and compares nothing again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redone_data.manifest import atomic, read_json, write_json
from redone_data.mix.fit import Fit, FitConfig, FitRow, Prediction, WhenAsked, one_metric
from redone_data.mix.intervals import Interval, conformal_quantile
from redone_data.mix.surrogates.base import Beside
from redone_data.mix.tables import MixtureTable, Swarm
from redone_data.mix.together import together
from redone_data.mix.transfer import Transfer


def fit_record(fitted: Fit) -> dict[str, Any]:
    """What fit.json holds."""
    return {
        "report": [asdict(row) for row in fitted.report],
        "compared": [asdict(row) for row in fitted.compared],
        "dropped": fitted.dropped,
        "intervals": {metric: interval.record() for metric, interval in fitted.intervals.items()},
        "noise": fitted.noise,
    }


def write_fit(fitted: Fit, folder: Path) -> None:
    """Write fit.json and held_out.parquet."""
    write_json(folder / "fit.json", fit_record(fitted))
    swarm = fitted.swarm
    frame = pl.DataFrame(
        {
            "run_id": [run for run in swarm.run_ids for _ in swarm.metrics],
            "metric": list(swarm.metrics) * len(swarm.run_ids),
            "measured": swarm.losses_RM.ravel(),
            "predicted": fitted.held_out_RM.ravel(),
        }
    )
    with atomic(folder / "held_out.parquet") as aside:
        frame.write_parquet(aside)


def read_fit(
    folder: Path, swarms: Sequence[Swarm], config: FitConfig, seed: int, beside: Mapping[str, Beside] | None = None
) -> Fit:
    """The fit that `write_fit` wrote, to the last bit: its choices and intervals, fitted again to the same swarms."""
    record, known = read_json(folder / "fit.json"), beside or {}
    report = tuple(FitRow(**row) for row in record["report"])
    metrics = tuple(row.metric for row in report)
    runs_of = {metric: together([s for s in swarms if metric in s.metrics], [metric]).in_order() for metric in metrics}
    whole = together([swarm for swarm in swarms if set(swarm.metrics) == set(metrics)], metrics).in_order()
    held_out = pl.read_parquet(folder / "held_out.parquet")
    predicted = dict(zip(held_out.select("run_id", "metric").rows(), held_out["predicted"].to_list(), strict=True))
    return Fit(
        swarm=whole,
        config=config,
        seed=seed,
        report=report,
        compared=tuple(FitRow(**row) for row in record["compared"]),
        dropped=record["dropped"],
        held_out_RM=np.array([[predicted[run_id, metric] for metric in metrics] for run_id in whole.run_ids]),
        fitted=WhenAsked(
            {row.metric: (one_metric(runs_of[row.metric], row.metric, known, seed), row.surrogate) for row in report}
        ),
        intervals={
            metric: Interval.read(record["intervals"][metric], runs_of[metric].weights_RD) for metric in metrics
        },
        noise=record["noise"],
        beside=known,
    )


def write_predictions(fitted: Fit, mixtures: MixtureTable, path: Path, at_scale: Transfer | None = None) -> None:
    """A row a mixture and metric: its id, metric, prediction, low, high; with at_scale also the scale's name.

    At a target scale only the metrics that it has measured. A metric without skill is predicted by its mean.
    """
    metrics = fitted.metrics if at_scale is None else tuple(at_scale.lines)
    tables = {metric: _prediction(fitted, metric, mixtures, at_scale) for metric in metrics}
    rows = len(mixtures.ids)
    columns: dict[str, Sequence[Any]] = {
        mixtures.id_column: [name for name in mixtures.ids for _ in metrics],
        "metric": list(metrics) * rows,
    }
    for field in ("prediction", "low", "high"):
        values = [getattr(tables[metric], f"{field}_C") for metric in metrics]
        columns[field] = np.stack(values, axis=1).ravel().tolist()
    if at_scale is not None:
        columns["scale"] = [at_scale.scale] * (rows * len(metrics))
    with atomic(path) as aside:
        pl.DataFrame(columns).write_csv(aside)


def _prediction(fitted: Fit, metric: str, mixtures: MixtureTable, at_scale: Transfer | None) -> Prediction:
    weights_CD = mixtures.weights_CD
    if at_scale is not None:
        return at_scale.predict(metric, weights_CD)
    if fitted.has_skill([metric]):
        middle_C, half_C = fitted.predict_weights(metric, weights_CD), fitted.half_width(metric, weights_CD)
    else:
        losses_R = fitted.swarm.losses(metric)
        middle_C = np.full(len(weights_CD), losses_R.mean())
        half, _ = conformal_quantile(np.abs(losses_R - losses_R.mean()), fitted.config.interval)
        half_C = np.full(len(weights_CD), half)
    return Prediction(middle_C, middle_C - half_C, middle_C + half_C)
