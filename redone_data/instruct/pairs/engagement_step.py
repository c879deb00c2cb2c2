"""The candidates of one set from engagement: what engagement.py found comparable, with a prompt for each pair."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from redone_data.config import plain
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import MESSAGES
from redone_data.instruct.pairs.candidates import PairSource, unplaced, write_candidates
from redone_data.instruct.pairs.engagement import Compared, EngagementConfig, measured_posts
from redone_data.instruct.pairs.tables import Tables
from redone_data.instruct.tables import split_of
from redone_data.instruct.template import Template
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import hash128

HELD = "held_out"
_BETWEEN = "\x1f"


@dataclass(frozen=True)
class EngagementStep(PairSource):
    """The candidates of one set from engagement."""

    name = "pairs-engagement"
    VERSION = 1

    tables: Tables
    engagement: EngagementConfig
    seed: int
    held_out_share: float

    def config(self) -> Any:
        settings = {name: value for name, value in plain(self.engagement).items() if name != "select"}
        control = self.engagement.select.length.control
        return {
            **settings,
            "tables": self.tables.config(),
            "seed": self.seed,
            "held_out": self.held_out_share,
            "length": control,
        }

    def inputs(self) -> dict[str, str]:
        return self.tables.inputs()

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        config = self.engagement
        table = self.tables.read(config.table)
        posts = measured_posts(table.frame, config, f"tables.{config.table}")
        posts = posts.with_columns(split_of(posts["document"], self.seed, self.held_out_share))
        faults = pl.concat(
            [
                table.dropped.select("row", pl.col("rule").alias("reason"), "detail"),
                posts.filter(pl.col("fault").is_not_null()).select("row", pl.col("fault").alias("reason"), detail=None),
            ],
            how="vertical_relaxed",
        )
        posts = posts.filter(pl.col("fault").is_null()).sort("of", "at", "row")
        pairs = Compared(posts, config, self.seed)
        frame = self._frame(posts, pairs)
        unused = posts.with_columns(reason=pl.Series(pairs.reasons(), dtype=pl.String)).filter(
            pl.col("reason").is_not_null()
        )
        dropped = [
            *faults.iter_rows(),
            *((row, reason, None) for row, reason in unused.select("row", "reason").iter_rows()),
        ]
        seen = len(table.frame) + len(table.dropped)
        counts = write_candidates(folder, frame, dropped, seen, seen - len(dropped))
        at = posts["at"].to_numpy()
        older = float((at[pairs.winners] < at[pairs.losers]).mean()) if len(pairs.winners) else None
        return {**counts, "contexts": posts["of"].n_unique(), "chosen_older": older, "length_before": pairs.lengths}

    def _frame(self, posts: pl.DataFrame, pairs: "Compared") -> pl.DataFrame:
        """Candidates, each a group of its own: a post's other pairs ask something else."""
        config = self.engagement
        best, other = posts[pairs.winners], posts[pairs.losers]
        group = pl.Series(best["row"] + _BETWEEN + other["row"], dtype=pl.String)
        documents = [list(dict.fromkeys([*a, *b])) for a, b in zip(best["documents"], other["documents"], strict=True)]
        frame = pl.DataFrame(
            {
                "prompt": pl.Series(
                    [[{"role": "user", "content": t}] for t in self._asked(best, group)], dtype=MESSAGES
                ),
                "chosen": best[config.text],
                "rejected": other[config.text],
                "lang": best["lang"],
                "margin": (best["rate"] / other["rate"]).log().round(6),
                "documents": pl.Series(documents, dtype=pl.List(pl.String)),
                # A pair is held out with either of its posts: none that is trained on holds one.
                "split": other["split"].zip_with(other["split"] == HELD, best["split"]),
                "group": group,
            }
        )
        return frame.with_columns(
            pl.lit(config.capability).alias("capability"),
            pl.lit(config.task).alias("task"),
            pl.lit("engagement").alias("kind"),
            pl.lit(value=True).alias("weak"),
            *unplaced(),
        )

    def _asked(self, posts: pl.DataFrame, group: pl.Series) -> Iterator[str]:
        """What is asked, one of the language's templates by a draw on the pair."""
        config = self.engagement
        templates = {lang: [Template(text, config.context) for text in texts] for lang, texts in config.prompts.items()}
        draws = keyed_uniform(self.seed, "prompt", hash128(group.to_arrow().cast(pa.large_string()))[0])
        for row, draw in zip(posts.select("lang", *config.context).iter_rows(named=True), draws.tolist(), strict=True):
            if row["lang"] not in templates:
                raise RedoneError(f"prompts: no template in '{row['lang']}'; {did_you_mean(row['lang'], templates)}")
            of_lang = templates[row["lang"]]
            yield of_lang[int(draw * len(of_lang))].render(row, 100_000)
