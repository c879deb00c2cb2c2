"""The run in a terminal: progress while it works, tables when it is done.

Names come from data, so nothing is read as rich's markup and control characters are shown, not sent.
"""

import types
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from redone_data.engine import Progress
from redone_data.report.human import ABSENT, count, duration, label, loss, printable, share, signed, size
from redone_data.report.plots import rule_name
from redone_data.report.summary import Summary
from redone_data.report.tables import drops_by_rule, losses, weight_rows
from redone_data.report.verdict import OBJECTIVE, PRIOR, PROPOSAL, UNIFORM, caps_that_bind, verdict

_NAME_COLUMN = 15
# Rates come from all of a step: one proxy run may take minutes.
_SPEED_SECONDS = 3600.0


class Bars(Progress):
    """A bar for the step under way, a line for each that is done; off a terminal the lines only.

    A context manager: leaving it takes an unfinished bar away, so that an error finds a clean terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: RichProgress | None = None
        self._task = TaskID(0)
        self._totals: dict[str, int] = {}

    def __enter__(self) -> "Bars":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def start(self, name: str, total: int, done: int) -> None:
        self.close()
        self._totals[name] = total
        if not self._console.is_terminal:
            return
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            speed_estimate_period=_SPEED_SECONDS,
        )
        self._task = self._bar.add_task(f"{label(name):<{_NAME_COLUMN}}", total=total, completed=done)
        self._bar.start()

    def update(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def end(self, name: str, seconds: float, *, skipped: bool) -> None:
        self.close()
        total = self._totals.pop(name, None)
        if skipped:
            did = "already done"
        else:
            tasks = "" if total is None else f"{total:,} task{'' if total == 1 else 's'}"
            did = f"{tasks:<12} {duration(seconds)}"
        self._console.print(Text(f"{label(name):<{_NAME_COLUMN}} {did}"), soft_wrap=True)

    def close(self) -> None:
        """Take an unfinished bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def print_summary(summary: Summary, console: Console) -> None:
    """What a run did, as tables; parts that it did not reach are left out."""
    for table in (
        _domains(summary),
        _drops(summary),
        _weights(summary),
        _losses(summary),
        _finalists(summary),
        _timings(summary),
    ):
        if table is not None:
            console.print(table)
            console.print()
    if summary.decision:
        console.print(Text(printable(summary.decision)))
    found = verdict(summary)
    for item in found.comparisons:
        noise = "unknown" if item.noise is None else f"± {loss(item.noise)}"
        words = f"{signed(item.difference)} bits per byte against {item.baseline}, noise {noise}: {item.outcome}"
        console.print(Text(f"Objective as measured: {words}."))


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _row(table: Table, cells: Iterable[str], style: str = "") -> None:
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _domains(summary: Summary) -> Table | None:
    if not summary.domains:
        return None
    numbers = ("read", "bytes", "kept", "share", "bytes kept", "tokens", "sampled")
    table = _table("Documents, bytes and tokens", ["domain"], numbers)

    def cells(name: str, read: int, size_in: int, kept: int, size_out: int, *tokens: int | None) -> list[str]:
        fraction = share(kept / read) if read else ABSENT
        return [name, count(read), size(size_in), count(kept), fraction, size(size_out), *map(count, tokens)]

    for row in summary.domains:
        kept = row.documents_train + row.documents_validation
        amounts = (row.documents_read, row.bytes_read, kept, row.bytes_kept, row.tokens, row.sampled_tokens)
        _row(table, cells(label(row.domain), *amounts))
    if len(summary.domains) > 1:
        rows = summary.domains
        total = cells(
            "all",
            sum(row.documents_read for row in rows),
            sum(row.bytes_read for row in rows),
            sum(row.documents_train + row.documents_validation for row in rows),
            sum(row.bytes_kept for row in rows),
            sum(row.tokens or 0 for row in rows) or None,
            sum(row.sampled_tokens or 0 for row in rows) or None,
        )
        table.add_section()
        _row(table, total, style="bold")
    return table


def _drops(summary: Summary) -> Table | None:
    rows = drops_by_rule(summary)
    if not rows:
        return None
    table = _table("Dropped, by rule", ["rule", "mostly from"], ["documents", "of all read"])
    for row in rows:
        where = ", ".join(f"{label(name)} {count(documents)}" for name, documents in row.domains[:3])
        more = f" and {len(row.domains) - 3} more" if len(row.domains) > 3 else ""
        _row(table, [label(rule_name(row.step, row.rule), 40), where + more, count(row.documents), share(row.fraction)])
    return table


def _weights(summary: Summary) -> Table | None:
    rows = weight_rows(summary)
    if not rows:
        return None
    table = _table("Weights", ["domain"], ["prior", "uniform", "recommended", "epochs", ""])
    caps = caps_that_bind(summary)
    for row, uniform in rows:
        epochs = ABSENT if row.epochs is None else f"{row.epochs:.2f}"
        at_cap = "at cap" if row.domain in caps else ""
        _row(table, [label(row.domain), share(row.prior), share(uniform), share(row.weight), epochs, at_cap])
    return table


def _losses(summary: Summary) -> Table | None:
    rows = losses(summary)
    if not rows:
        return None
    numbers = ["predicted", "proposal", "prior", "uniform", "against prior"]
    table = _table("Losses, bits per byte (mean ± sd over seeds)", ["metric"], numbers)
    for row in rows:
        cells = [label(row.metric), loss(row.predicted)]
        for mixture in (PROPOSAL, PRIOR, UNIFORM):
            cells.append(_spread(row.mean(mixture), row.spread(mixture)))
        gain = row.gain(PRIOR)
        cells.append(ABSENT if gain is None else f"{signed(100 * gain, 2)} %")
        _row(table, cells, style="bold" if row.metric == OBJECTIVE else "")
    return table


def _finalists(summary: Summary) -> Table | None:
    """Only where one was chosen among several: otherwise the table of losses says it all."""
    if not any(row.choosing is not None for row in summary.finalists):
        return None
    measured_at_target = any(row.target is not None for row in summary.finalists)
    numbers = ["predicted", "to choose", "fresh seeds", *(["at the target's scale"] if measured_at_target else [])]
    table = _table("Finalists, objective in bits per byte (mean ± sd over seeds)", ["mixture"], numbers)
    for row in summary.finalists:
        cells = [label(row.name), loss(row.predicted), _spread(row.choosing, row.choosing_sd)]
        cells.append(_spread(row.fresh, row.fresh_sd))
        if measured_at_target:
            cells.append(_spread(row.target, row.target_sd))
        _row(table, cells, style="bold" if row.recommended else "")
    return table


def _spread(mean: float | None, sd: float | None) -> str:
    return loss(mean) + (f" ± {loss(sd)}" if sd is not None else "")


def _timings(summary: Summary) -> Table | None:
    if not summary.seconds:
        return None
    table = _table("Time", ["step"], ["wall time"])
    for name, seconds in sorted(summary.seconds.items(), key=lambda item: -item[1]):
        _row(table, [label(name), duration(seconds)])
    if len(summary.seconds) > 1:
        table.add_section()
        _row(table, ["all", duration(sum(summary.seconds.values()))], style="bold")
    return table
