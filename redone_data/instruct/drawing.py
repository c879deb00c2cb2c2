"""From judged conversations to what each file holds: the plans of the steps, their order, ledger, lineage, counts.

Reads no text: a slim row a conversation (clean.ROW_SCHEMA), 200 bytes of memory each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.blend import Plan, StepConfig, drawn, of_conversations, plan, remarks
from redone_data.instruct.clean import ROWS
from redone_data.instruct.held_out import HeldOutConfig, chosen_held_out, leak_lines
from redone_data.instruct.ledger import DROPPED, LEDGER_SCHEMA, ledger_frame
from redone_data.manifest import atomic

HELD_OUT = "held_out.jsonl"
LEDGER, LINEAGE = "ledger.parquet", "lineage.parquet"
# Upper edges of the histogram's bins, tokens: four a doubling.
EDGES = tuple(round(2 ** (power / 4)) for power in range(12, 61))
PAPER = {"median": 345, "p95": 2342}  # RedOne's SFT set, arXiv:2507.10605


def step_file(name: str) -> str:
    return f"{name}.jsonl"


@dataclass(frozen=True)
class Source:
    """What one task or general source left at each stage."""

    task: str
    table: str
    made: Output
    cleaned: Output
    leaks: Output


@dataclass(frozen=True)
class DrawStep(Step):
    """Order files of the steps and of the held-out set, ledger and lineage; statistics: all that a report counts."""

    name = "sft-blend"
    VERSION = 1

    sources: tuple[Source, ...]
    tables: Mapping[str, Output]
    steps: Mapping[str, StepConfig]
    token_shares: Mapping[str, Mapping[str, float]]  # of the steps that have a proposal
    held_out: HeldOutConfig
    seed: int

    def config(self) -> Any:
        return {
            "steps": {name: plain(replace(step, proposal=None)) for name, step in self.steps.items()},
            "token_shares": {name: dict(shares) for name, shares in self.token_shares.items()},
            "held_out": plain(self.held_out),
            "seed": self.seed,
            "sources": [[source.task, source.table] for source in self.sources],
        }

    def inputs(self) -> dict[str, str]:
        outputs: dict[str, str] = {
            f"{i:04d}.{label}": output.fingerprint
            for i, source in enumerate(self.sources)
            for label, output in (("made", source.made), ("cleaned", source.cleaned), ("leaks", source.leaks))
        }
        return outputs | {f"table.{name}": output.fingerprint for name, output in sorted(self.tables.items())}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        rows = _without_repeats(self._rows())
        held = chosen_held_out(rows, self.held_out.max_conversations, self.seed)
        surplus = pl.col("rule").is_null() & (pl.col("split") == "held_out") & ~pl.col("id").is_in(held["id"].implode())
        rows = rows.with_columns(
            rule=pl.when(surplus).then(pl.lit("beyond_max_held_out")).otherwise("rule"),
            stage=pl.when(surplus).then(pl.lit("held_out")).otherwise("stage"),
        )
        train = rows.filter(pl.col("rule").is_null(), pl.col("split") == "train")
        self._check_filled(rows, train)
        counts = {(key[0], key[1]): len(part) for key, part in train.group_by("capability", "task")}
        plans, orders = {}, {}
        for name, step in self.steps.items():
            if name in self.token_shares:
                step = replace(step, proposal=None, shares=of_conversations(self.token_shares[name], train))
            plans[name] = plan(counts, step, where=f"steps.{name}")
            orders[name] = drawn(train, plans[name], self.seed, name)
            _write(folder / f"{step_file(name)}.parquet", orders[name].select("id"))
        _write(folder / f"{HELD_OUT}.parquet", held.select("id"))
        lines = self._ledger(rows)
        _write(folder / LEDGER, lines)
        _write(folder / LINEAGE, _lineage(rows, orders))
        return self._statistics(rows, held, plans, orders, lines)

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def _rows(self) -> pl.DataFrame:
        """All judged conversations, those that leak held-out ones marked."""
        pieces = [
            pl.read_parquet(source.cleaned.folder / ROWS).with_columns(
                table=pl.lit(source.table), stage=pl.lit("clean"), source=pl.lit(number)
            )
            for number, source in enumerate(self.sources)
        ]
        rows = pl.concat(pieces)
        if rows["id"].n_unique() < rows.height:
            twice = rows.filter(pl.col("id").is_duplicated())["task"].unique().sort().to_list()
            raise RedoneError(f"two conversations have the same id, of {', '.join(twice)}: a task stands there twice")
        leaks = leak_lines([source.leaks for source in self.sources]).rename({"value": "leak", "detail": "held"})
        rows = rows.join(leaks, on="id", how="left", maintain_order="left")
        leaked = pl.col("rule").is_null() & pl.col("leak").is_not_null()
        return rows.with_columns(
            rule=pl.when(leaked).then(pl.lit("holds_held_out")).otherwise("rule"),
            stage=pl.when(leaked).then(pl.lit("held_out")).otherwise("stage"),
            value=pl.when(leaked).then("leak").otherwise("value"),
            bound=pl.when(leaked).then(pl.lit(self.held_out.max_fraction)).otherwise("bound"),
            detail=pl.when(leaked).then("held").otherwise("detail"),
        ).drop("leak", "held")

    def _check_filled(self, rows: pl.DataFrame, train: pl.DataFrame) -> None:
        left = set(train["source"].unique().to_list())
        for number, source in enumerate(self.sources):
            if number in left:
                continue
            mine = rows.filter(pl.col("source") == number, pl.col("rule").is_not_null())
            worst = mine.group_by("rule").len().sort("len", "rule", descending=True)
            why = f"most were dropped by {worst['rule'][0]} ({worst['len'][0]})" if len(worst) else "none was made"
            raise RedoneError(
                f"task '{source.task}' has no training conversations from '{source.table}': {mine.height} dropped, "
                f"{why}; loosen clean or lengths, mend the table, or leave the task out"
            )

    def _ledger(self, rows: pl.DataFrame) -> pl.DataFrame:
        before = [
            ledger_frame(pl.read_parquet(output.folder / DROPPED), table=name) for name, output in self.tables.items()
        ]
        before += [
            ledger_frame(pl.read_parquet(source.made.folder / DROPPED), task=source.task, table=source.table)
            for source in self.sources
        ]
        dropped = rows.filter(pl.col("rule").is_not_null()).select(list(LEDGER_SCHEMA))
        return pl.concat([*before, dropped]).sort("task", "table", "stage", "rule", "id", maintain_order=True)

    def _statistics(
        self,
        rows: pl.DataFrame,
        held: pl.DataFrame,
        plans: Mapping[str, Plan],
        orders: Mapping[str, pl.DataFrame],
        lines: pl.DataFrame,
    ) -> dict[str, Any]:
        tokens = {
            name: rows.select("id", "tokens").join(order, on="id", how="right")["tokens"]
            for name, order in orders.items()
        }
        placed = {name: rows.select("id", "source").join(order, on="id") for name, order in orders.items()}
        return {
            "sources": [self._source(number, rows, held, lines, placed) for number in range(len(self.sources))],
            "tables": {
                name: {
                    "read": output.statistics["read"],
                    "rows": output.statistics["rows"],
                    "masked": output.statistics["masked"],
                    "drops": _drops(lines.filter(pl.col("table") == name, pl.col("task").is_null())),
                }
                for name, output in sorted(self.tables.items())
            },
            "steps": {
                name: {
                    "conversations": taken.total,
                    "social_share": taken.social_share,
                    "tokens": lengths_of(tokens[name]),
                    "capabilities": {
                        capability: {"asked": asked, "reached": reached, "conversations": count}
                        for capability, (asked, reached, count) in taken.capabilities().items()
                    },
                    "tasks": [{**plain(row), "reached": taken.reached(row)} for row in taken.tasks],
                }
                for name, taken in plans.items()
            },
            "drops": _drops(lines),
            "held_out": held.height,
            "remarks": remarks(plans),
        }

    def _source(
        self,
        number: int,
        rows: pl.DataFrame,
        held: pl.DataFrame,
        lines: pl.DataFrame,
        placed: Mapping[str, pl.DataFrame],
    ) -> dict[str, Any]:
        source = self.sources[number]
        mine = rows.filter(pl.col("source") == number)
        kept = mine.filter(pl.col("rule").is_null())
        gone = lines.filter(pl.col("task") == source.task, pl.col("table") == source.table)
        return {
            "task": source.task,
            "table": source.table,
            "capability": kept["capability"][0],
            "read": source.made.statistics["read"],
            "conversations": mine.height,
            "kept": kept.filter(pl.col("split") == "train").height,
            "held_out": kept.join(held.select("id"), on="id", how="semi").height,
            "steps": {name: order.filter(pl.col("source") == number).height for name, order in placed.items()},
            "languages": _counts(kept["lang"]),
            "templates": _counts(kept["template"]),
            "drops": _drops(gone),
            "tokens": lengths_of(kept["tokens"]),
            # Of general data only: what was masked, and how many answers are the model's own.
            **{key: source.made.statistics[key] for key in ("masked", "distilled") if key in source.made.statistics},
        }


def _without_repeats(rows: pl.DataFrame) -> pl.DataFrame:
    """The same, training rows marked whose prompt is held out or stands in an earlier source, however short it is."""
    kept = rows.filter(pl.col("rule").is_null())
    held = kept.filter(pl.col("split") == "held_out").unique("prompt", keep="first", maintain_order=True)
    first = kept.filter(pl.col("split") == "train").group_by("prompt").agg(pl.col("source").min().alias("first"))
    rows = rows.join(held.select("prompt", held="id"), on="prompt", how="left", maintain_order="left")
    rows = rows.join(first, on="prompt", how="left", maintain_order="left")
    trains = pl.col("rule").is_null() & (pl.col("split") == "train")
    leaks, repeats = trains & pl.col("held").is_not_null(), trains & (pl.col("source") > pl.col("first"))
    return rows.with_columns(
        rule=pl.when(leaks)
        .then(pl.lit("holds_held_out"))
        .when(repeats)
        .then(pl.lit("repeated_prompt"))
        .otherwise("rule"),
        stage=pl.when(leaks).then(pl.lit("held_out")).otherwise("stage"),
        value=pl.when(leaks).then(1.0).otherwise("value"),
        detail=pl.when(leaks).then(pl.concat_str("task", pl.lit("#"), "held")).otherwise("detail"),
    ).drop("held", "first")


def lengths_of(tokens: pl.Series) -> dict[str, Any]:
    """Sum, median, 95th percentile, the longest, and the histogram over `EDGES` (a last bin for longer ones)."""
    values = np.sort(tokens.to_numpy())
    if not len(values):
        return {"sum": 0, "median": 0, "p95": 0, "max": 0, "histogram": [0] * (len(EDGES) + 1)}
    bins = np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1)
    return {
        "sum": int(values.sum()),
        "median": int(values[(len(values) - 1) // 2]),
        "p95": int(values[int(np.ceil(0.95 * len(values))) - 1]),
        "max": int(values[-1]),
        "histogram": bins.tolist(),
    }


def _lineage(rows: pl.DataFrame, orders: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """document -> conversations made of it that are in a file: what a deletion asks."""
    kept = rows.filter(pl.col("rule").is_null()).select("documents", "id", "task", "table", "split")
    for name, order in orders.items():
        times = order.group_by("id").agg(pl.len().alias(name))
        kept = kept.join(times, on="id", how="left", maintain_order="left").with_columns(pl.col(name).fill_null(0))
    exploded = kept.explode("documents").rename({"documents": "document", "id": "conversation"})
    return exploded.sort("document", "task", "conversation")


def _drops(lines: pl.DataFrame) -> dict[str, int]:
    counts = lines.group_by("stage", "rule").len().sort("stage", "rule")
    return {f"{stage}/{rule}": count for stage, rule, count in counts.iter_rows()}


def _counts(values: pl.Series) -> dict[str, int]:
    return dict(values.value_counts().sort(values.name).iter_rows())


def _write(path: Path, frame: pl.DataFrame) -> None:
    with atomic(path) as aside:
        frame.write_parquet(aside, compression="zstd")
