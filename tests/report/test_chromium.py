"""The page in a real browser: it opens, draws its plots, complains of nothing and asks the network for nothing."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import example_runs
import pytest

from redone_data.report.html import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium"),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    # The browser's own errands (updates, dictionaries) find no host either: this test talks to nobody.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
)


class Visit(NamedTuple):
    dom: str
    console: list[str]
    requests: list[str]


def visit(page: Path, folder: Path) -> Visit:
    """Open a page in a fresh profile; its DOM after loading, console messages, and addresses that it asked for."""
    assert CHROMIUM is not None
    log = folder / "net.json"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    result = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    record = json.loads(log.read_text())
    kinds = {number: name for name, number in record["constants"]["logEventTypes"].items()}
    starts = [event for event in record["events"] if kinds[event["type"]] == "URL_REQUEST_START_JOB"]
    started = [event["params"] for event in starts if "url" in event.get("params", {})]  # an end has none
    # "not an origin": the browser itself asked, not the page.
    requests = [item["url"] for item in started if item.get("initiator") != "not an origin"]
    console = re.findall(r"CONSOLE.*", result.stderr)
    return Visit(result.stdout, console, [url for url in requests if url.startswith("http")])


@pytest.mark.parametrize("name", ["realistic", "hostile"])
def test_the_report_opens_quietly_with_all_its_plots(name: str, tmp_path: Path) -> None:
    summary = getattr(example_runs, name)()
    write_report(summary, tmp_path / "report.html")
    seen = visit(tmp_path / "report.html", tmp_path)
    title = re.search(r"<title>(.*?)</title>", seen.dom)
    assert title is not None
    assert title[1].endswith("redone report")
    assert seen.dom.count("<svg") == (tmp_path / "report.html").read_text().count("<svg") >= 10
    assert not seen.console
    assert not seen.requests
    assert "<script" not in seen.dom


def test_a_page_that_does_load_something_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "loud.html"
    page.write_text('<img src="http://example.invalid/x.png"><script>console.error("loud")</script>')
    seen = visit(page, tmp_path)
    assert seen.requests == ["http://example.invalid/x.png"]
    assert any("loud" in line for line in seen.console)
