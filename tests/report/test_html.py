import dataclasses
import functools
import re
from html.parser import HTMLParser
from pathlib import Path

import example_runs
import pytest

from redone_data.errors import RedoneError
from redone_data.report.html import render, write_report
from redone_data.report.summary import Summary

SECTIONS = ("overview", "curation", "mixture", "tokens", "timings")
VOID = {"meta", "br", "hr"}
ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Checks that elements nest, and gathers what a page could load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


ALL = {
    "realistic": example_runs.realistic,
    "hostile": example_runs.hostile,
    "empty": lambda: example_runs.EMPTY,
    "large": example_runs.large,
}


@functools.cache
def rendered(name: str) -> str:
    return render(ALL[name]())


@pytest.fixture(params=["realistic", "hostile", "empty", pytest.param("large", marks=pytest.mark.on_demand)])
def page(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param, rendered(request.param)


def small() -> Summary:
    return example_runs.make(("微博", "b"), (0.5, 0.5), (0.7, 0.3), runs=3, seeds=2)


def test_every_section_is_there_and_every_element_closed(page: tuple[str, str]) -> None:
    found = Page(page[1])
    assert set(SECTIONS) <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert {address[1:] for address in found.addresses if address.startswith("#")} <= set(found.ids)


def test_the_page_loads_and_runs_nothing(page: tuple[str, str]) -> None:
    found = Page(page[1])
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in found.addresses)
    assert not found.handlers
    assert not found.tags & {"script", "link", "iframe", "img", "object", "embed", "form", "foreignobject", "base"}
    assert not re.search(r"https?://|@import|url\((?!#)", page[1])


def test_names_and_texts_do_not_become_markup() -> None:
    text = rendered("hostile")
    assert "<script" not in text
    assert "<img" not in text
    assert "</svg><b>" not in text
    assert "\x1b" not in text
    assert "\x00" not in text
    assert example_runs.ATTACK in "".join(Page(text).words)  # shown as it is


def test_a_small_run_stays_a_small_page(page: tuple[str, str]) -> None:
    assert len(page[1].encode()) < (4_000_000 if page[0] == "large" else 1_000_000)


def test_the_overview_answers_what_came_in_what_goes_out_and_whether_it_is_better() -> None:
    summary = example_runs.realistic()
    overview = "".join(Page(rendered("realistic").split('<section id="curation"')[0] + "</main></body></html>").words)
    for answer in ("60.2k documents", "39.7k documents", "Measured better than prior and uniform", summary.decision):
        assert answer in overview


def test_a_baseline_that_is_recommended_instead_is_not_sold_as_found() -> None:
    summary = small()
    assert "at cap" in render(summary)
    rows = tuple(dataclasses.replace(row, weight=row.prior) for row in summary.domains)
    text = render(dataclasses.replace(summary, domains=rows))
    assert "The recommended weights are the prior weights" in text
    assert "at cap" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"measured": ()},
        {"skill": (), "held_out": (), "measured": (), "run_weights": {}, "curves": (), "nearest_run_distance": None},
        {"histograms": (), "examples": (), "drops": ()},
        {"languages": (), "tokenizer": "", "vocab_size": None, "budget": None},
        {"uniform": {}, "targets": {}},
        {"finalists": (), "rounds": (), "proxies": (), "mixtures": {}, "effects": (), "front": (), "learning": ()},
    ],
)
def test_a_run_that_stopped_early_still_has_a_report(changes: dict[str, object]) -> None:
    page = Page(render(dataclasses.replace(small(), **changes)))  # type: ignore[arg-type]
    assert {"overview", "curation"} <= set(page.ids)


def test_numbers_that_do_not_exist_are_dashes() -> None:
    summary = small()
    skill = tuple(dataclasses.replace(row, spearman=None, r2=float("nan")) for row in summary.skill)  # type: ignore[arg-type]
    assert ">nan<" not in render(dataclasses.replace(summary, skill=skill))


def test_before_sampling_the_domains_have_no_tokens() -> None:
    summary = small()
    unknown = dict.fromkeys(("tokens", "prior", "weight", "epochs", "sampled_tokens"))
    rows = tuple(dataclasses.replace(row, **unknown) for row in summary.domains)
    early = Summary(name="early", seed=1, domains=rows, drops=summary.drops)
    assert "This run did not compute a mixture." in render(early)


def test_the_report_has_every_picture_that_notebooks_have() -> None:
    names = ("mixture_analysis", "swarm_diagnostics")  # the two that look at a run
    notebooks = [(ROOT / "notebooks" / f"{name}.ipynb").read_text() for name in names]
    drawn = set(re.findall(r"plots\.(\w+)\(", "".join(notebooks)))
    shown = re.findall(r'figure\("(\w+)"', (ROOT / "redone_data/report/report.html.j2").read_text())
    assert {"ranks", "odd_runs"} <= drawn <= set(shown)
    metrics = {row.metric for row in example_runs.realistic().histograms}
    assert rendered("realistic").count('class="plot"') == len(shown) + len(metrics)


def test_a_duplicate_stands_beside_the_text_it_duplicates() -> None:
    words = "".join(Page(rendered("realistic")).words)
    example = next(example for example in example_runs.EXAMPLES if example.step == "near")
    assert example.duplicate_of is not None
    assert re.search(
        re.escape(example.text) + r"\s*the document that stays\s*" + re.escape(example.duplicate_of), words
    )


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    write_report(example_runs.EMPTY, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(RedoneError, match="cannot be written"):
        write_report(example_runs.EMPTY, tmp_path / "missing" / "report.html")


def test_the_same_run_gives_the_same_page() -> None:
    assert render(small()) == render(small())
