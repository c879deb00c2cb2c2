import io
import re

import example_runs
import pytest
from rich.console import Console

from redone_data.report.summary import Summary
from redone_data.report.terminal import Bars, print_summary


def plain(**options: object) -> Console:
    return Console(file=io.StringIO(), width=140, **options)  # type: ignore[arg-type]


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_summary_shows_domains_drops_weights_losses_and_timings() -> None:
    console = plain()
    print_summary(example_runs.realistic(), console)
    text = written(console)
    for title in ("Documents, bytes and tokens", "Dropped, by rule", "Weights", "Losses, bits per byte", "Time"):
        assert title in text
    assert re.search(r"微博评论 +12\.6k +3\.03 MB", text)
    assert re.search(r"小红书笔记 .* 23\.0 % .* at cap", text)
    assert re.search(r"objective +2\.3630 +2\.3570 ± 0\.0022 +2\.3951 ± 0\.0022 +2\.4081 ± 0\.0033 +−1\.59 %", text)
    assert "against prior, noise ± 0.0028: better" in text


@pytest.mark.parametrize("summary", [example_runs.EMPTY, example_runs.large(), example_runs.hostile()])
def test_any_summary_prints(summary: Summary) -> None:
    console = plain()
    print_summary(summary, console)
    assert "\x1b" not in written(console)


def test_names_are_not_markup() -> None:
    name = "[red]weibo[/red] [link=x]y"
    console = plain()
    print_summary(example_runs.make((name, "b"), (0.5, 0.5), (0.5, 0.5), runs=2, seeds=1), console)
    assert name in written(console)


def test_off_a_terminal_each_finished_step_is_one_plain_line() -> None:
    console = plain()
    with Bars(console) as bars:
        bars.start("read", 12, 0)
        for done in range(12):
            bars.update(done)
        bars.end("read", 3.14, skipped=False)
        bars.end("judge", 0.0, skipped=True)
        bars.start("fit", 1, 0)
        bars.end("fit", 125.0, skipped=False)
    assert written(console).splitlines() == [
        "read            12 tasks     3.1 s",
        "judge           already done",
        "fit             1 task       2 min 05 s",
    ]


def test_on_a_terminal_a_bar_moves_and_leaves_its_line_behind() -> None:
    console = plain(force_terminal=True)
    with Bars(console) as bars:
        bars.start("tokenize", 4, 1)
        bars.update(3)
        bars.end("tokenize", 2.0, skipped=False)
    text = written(console)
    assert "tokenize" in text
    assert "4 tasks" in text
    assert text.rstrip().endswith("2.0 s")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_an_error_in_a_step_leaves_the_cursor_visible() -> None:
    console = plain(force_terminal=True)

    def fail() -> None:
        with Bars(console) as bars:
            bars.start("swarm", 64, 0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert written(console).rstrip("\r\n").count("\x1b[?25h") == 1
