"""Every row that does not become part of the set, and why: one line each, at whichever stage it went.

A line names the conversation, or the row of a table that never became one; the task and table; the stage and rule; the
value and bound; for a duplicate the row that it repeats, for a leak the evaluation item. It holds no text.
"""

import polars as pl

# What each source of conversations leaves: those it made (conversation.FRAME), and lines of the ledger.
CONVERSATIONS, DROPPED = "conversations.parquet", "dropped.parquet"
SELECTED = "selected.parquet"  # the rows that a task takes of a table, before they are conversations
LEDGER_SCHEMA = pl.Schema(
    [
        ("id", pl.String()),
        ("task", pl.String()),
        ("table", pl.String()),
        ("documents", pl.List(pl.String())),
        ("stage", pl.String()),  # table, build, clean, held_out
        ("rule", pl.String()),
        ("value", pl.Float64()),
        ("bound", pl.Float64()),
        ("detail", pl.String()),
    ]
)


def ledger_frame(frame: pl.DataFrame, **given: str) -> pl.DataFrame:
    """Lines of the ledger from a frame with some of its columns; `given` columns have one value throughout."""
    return frame.select(
        pl.lit(given[name], dtype).alias(name)
        if name in given
        else pl.col(name).cast(dtype)
        if name in frame.columns
        else pl.lit(None, dtype).alias(name)
        for name, dtype in LEDGER_SCHEMA.items()
    )
