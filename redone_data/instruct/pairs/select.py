"""Which candidates of a set stay, once those with a fault are out: at most k a prompt, places and lengths balanced."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from redone_data.errors import RedoneError
from redone_data.instruct.pairs.lengths import LengthConfig, choose, length_statistics, match, within_ratio
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex

RATIO, MANY, POSITION, LENGTH = "length_ratio", "max_pairs_per_prompt", "position_balance", "length_balance"
# A place may hold the right option so much more often than the rarest does.
_POSITION_SLACK = 0.1

Flags = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SelectConfig:
    """How many pairs of a set stay, and what must not tell chosen from rejected."""

    pairs_per_prompt: int = field(default=2, metadata={"help": "at most so many of one prompt"})
    balance_positions: bool = field(
        default=True, metadata={"help": "the right option stands at each place of the list equally often"}
    )
    length: LengthConfig = field(default_factory=LengthConfig)

    def __post_init__(self) -> None:
        if self.pairs_per_prompt < 1:
            raise RedoneError(f"pairs_per_prompt: {self.pairs_per_prompt}; at least 1")


def select(survey: pl.DataFrame, config: SelectConfig, seed: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """A set's survey with the reasons of what was dropped now, and what lengths and places tell before and after.

    Splits are chosen from apart, so that held-out pairs are as free of bias as those that are learnt.
    """
    hi, _ = from_hex(survey["id"].to_arrow())
    frame = survey.with_columns(
        pl.Series("draw", keyed_uniform(seed, "pairs", hi)), pl.col("group").rank("dense").cast(pl.Int64).alias("of")
    ).sort("split", "of", "draw", "id")
    done = [_select_split(part, config) for part in frame.partition_by("split", maintain_order=True)]
    frame = pl.concat([part for part, _ in done]) if done else frame
    before = frame.filter(pl.Series(np.concatenate([first for _, first in done]) if done else [], dtype=pl.Boolean))
    kept = frame.filter(pl.col("reason").is_null())
    statistics = {
        "candidates": len(frame),
        "pairs": len(kept),
        "dropped": dict(sorted(frame["reason"].drop_nulls().value_counts().iter_rows())),
        "splits": dict(sorted(kept["split"].value_counts().iter_rows())),
        "tasks": dict(sorted(kept["task"].value_counts().iter_rows())),
        "length": {"before": _lengths(before), "after": _lengths(kept)},
        "positions": {"before": _positions(before), "after": _positions(kept)},
    }
    return frame.select(survey.columns), statistics


def _select_split(frame: pl.DataFrame, config: SelectConfig) -> tuple[pl.DataFrame, Flags]:
    """The reasons of one split, and which pairs a draw without control would have taken."""
    chosen, rejected = (frame[name].to_numpy() for name in ("chosen_chars", "rejected_chars"))
    of, draws = frame["of"].to_numpy(), frame["draw"].to_numpy()
    tasks = frame["task"].rank("dense").cast(pl.Int64).to_numpy()
    reasons = np.array(frame["reason"].to_list(), dtype=object)
    sound = frame["reason"].is_null().to_numpy()
    drawn = np.zeros(len(frame), np.bool_)
    rows = np.flatnonzero(sound)
    drawn[rows] = choose(of[rows], tasks[rows], chosen[rows], config.pairs_per_prompt, LengthConfig("off"))

    def drop(rows: npt.NDArray[np.int64], stays: Flags, reason: str) -> npt.NDArray[np.int64]:
        reasons[rows[~stays]] = reason
        return rows[stays]

    rows = drop(rows, within_ratio(chosen[rows], rejected[rows], config.length), RATIO)
    differences = chosen - rejected
    rows = drop(rows, choose(of[rows], tasks[rows], differences[rows], config.pairs_per_prompt, config.length), MANY)
    if config.balance_positions:
        rows = drop(rows, _balanced(frame[rows], draws[rows]), POSITION)
    rows = drop(rows, match(chosen[rows], rejected[rows], tasks[rows], draws[rows], config.length), LENGTH)
    return frame.with_columns(pl.Series("reason", reasons.tolist(), dtype=pl.String)), drawn


def _balanced(frame: pl.DataFrame, draws: Float64) -> Flags:
    """Which pairs stay so that, of each task and length of list, no place holds the right option much more often.

    Where some place never does, nothing is dropped: the places are then told in the report.
    """
    numbered = frame.with_row_index("row").filter(pl.col("chosen_position").is_not_null())
    stays = np.ones(len(frame), np.bool_)
    for (_, options), part in numbered.group_by("task", "num_options", maintain_order=True):
        place, rows = part["chosen_position"].to_numpy(), part["row"].to_numpy()
        counts = np.bincount(place, minlength=int(options))
        if not counts.min():
            continue
        most = math.ceil((1 + _POSITION_SLACK) * counts.min())
        for number in np.flatnonzero(counts > most):
            there = rows[place == number]
            stays[there[np.argsort(draws[there], kind="stable")][most:]] = False
    return stays


def _lengths(frame: pl.DataFrame) -> dict[str, Any]:
    return length_statistics(frame["chosen_chars"].to_numpy(), frame["rejected_chars"].to_numpy())


def _positions(frame: pl.DataFrame) -> dict[str, Any]:
    """How often each place holds the right option, and how often it stands before the wrong one."""
    placed = frame.filter(pl.col("chosen_position").is_not_null())
    if not len(placed):
        return {}
    counts = placed["chosen_position"].value_counts().sort("chosen_position")
    return {
        "pairs": len(placed),
        "right_at": {str(place): number for place, number in counts.iter_rows()},
        "chosen_first": round(float((placed["chosen_position"] < placed["rejected_position"]).mean() or 0.0), 4),  # type: ignore[arg-type]
    }
