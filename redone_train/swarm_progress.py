"""What the swarm shows while it trains: a bar on a terminal, a line a finished run elsewhere (a log, a notebook)."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class SwarmProgress:
    """Counts tokens and runs; says a plain line on stderr for each run that ends."""

    def __init__(self, num_runs: int, tokens_per_run: int) -> None:
        self.num_runs, self.tokens_per_run = num_runs, tokens_per_run
        self.num_finished = 0
        self._now: dict[str, int] = {}
        self._trained = 0
        self._started = time.monotonic()

    def start(self, num_finished: int) -> None:
        self.num_finished = num_finished
        self._started = time.monotonic()
        self.say(f"{self.num_runs - num_finished} of {self.num_runs} runs to train")

    def tokens(self, title: str, tokens: int) -> None:
        """What a group has trained so far, all its runs together."""
        self._now[title] = tokens
        self.show()

    def done(self, title: str, timings: Mapping[str, Mapping[str, Any]]) -> None:
        self._now.pop(title, None)
        for run_id, timing in timings.items():
            self._trained += self.tokens_per_run
            self.num_finished += 1
            self.say(
                f"{run_id} {timing['status']} in {timing['seconds']:.1f} s | {self.num_finished}/{self.num_runs} runs, "
                f"{self.speed()}"
            )
        self.show()

    def speed(self) -> str:
        """All that this command has trained over its wall time, evaluation and start-up included.

        A resumed run counts as a whole one, so the first figures after a resume are a little high.
        """
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._trained + sum(self._now.values())) / seconds
        left = (self.num_runs - self.num_finished) * self.tokens_per_run - sum(self._now.values())
        return f"{rate:,.0f} tokens/s, {_clock(left / rate) if rate else '?'} left"

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def show(self) -> None:
        """Redraw; plain lines have nothing to redraw."""


class _BarProgress(SwarmProgress):
    def __init__(self, num_runs: int, tokens_per_run: int, bar: Progress) -> None:
        super().__init__(num_runs, tokens_per_run)
        self._bar = bar
        self._task = bar.add_task("runs", total=num_runs, speed="")

    def say(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, markup=False)

    def show(self) -> None:
        under_way = sum(self._now.values()) / self.tokens_per_run
        self._bar.update(self._task, completed=self.num_finished + under_way, speed=self.speed())


@contextmanager
def make_progress(num_runs: int, tokens_per_run: int) -> Iterator[SwarmProgress]:
    """The progress that suits where stderr goes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield SwarmProgress(num_runs, tokens_per_run)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total:.0f}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _BarProgress(num_runs, tokens_per_run, bar)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
