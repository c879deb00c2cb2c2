import dataclasses
import math
from collections.abc import Callable
from xml.etree import ElementTree

import example_runs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from redone_data.report import canvas, mixture_plots, plots, swarm_plots
from redone_data.report.summary import Curve, Histogram, MeasuredRow, Summary
from redone_data.report.svg import to_svg

PLOTS: dict[str, Callable[[Summary], Figure]] = {
    "documents": lambda summary: plots.documents(summary.domains),
    "drops": lambda summary: plots.drops(summary.drops, summary.domains),
    "histograms": lambda summary: plots.histograms(summary.histograms[:60]),
    "weights": lambda summary: plots.weights(summary.domains, summary.uniform, summary.binding_caps),
    "swarm": lambda summary: plots.swarm(summary.run_weights, summary.domains),
    "held_out": lambda summary: plots.held_out(summary.held_out, summary.skill),
    "measured": lambda summary: plots.measured(summary.measured),
    "curves": lambda summary: plots.curves(summary.curves),
    "bytes_per_token": lambda summary: plots.bytes_per_token(summary.languages),
    "timings": lambda summary: plots.timings(summary.seconds),
    "ranks": lambda summary: mixture_plots.ranks(summary.held_out),
    "learning": lambda summary: mixture_plots.learning(summary.learning),
    "front": lambda summary: mixture_plots.front(summary.front, {"prior": (2.7, 2.8)}),
    "effects": lambda summary: mixture_plots.effects(summary.effects),
    "finalists": lambda summary: mixture_plots.finalists(summary.finalists),
    "odd_runs": lambda summary: swarm_plots.odd_runs(summary.held_out),
    "noise": lambda summary: swarm_plots.noise(summary.proxies),
    "rounds": lambda summary: swarm_plots.rounds(summary.rounds),
    "nearest": lambda summary: swarm_plots.nearest(summary.proxies, summary.mixtures),
    "weight_ranges": lambda summary: mixture_plots.weight_ranges(summary.domains, summary.weight_ranges),
}
ONE = example_runs.make(("微博",), (1.0,), (1.0,), runs=2, seeds=1)


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("size", ["none", "one", "six", "hostile", pytest.param("sixty", marks=pytest.mark.slow)])
def test_every_plot_draws_any_number_of_domains(name: str, size: str) -> None:
    summaries = {"none": lambda: example_runs.EMPTY, "one": lambda: ONE, "six": example_runs.realistic}
    summaries |= {"sixty": example_runs.large, "hostile": example_runs.hostile}
    figure = PLOTS[name](summaries[size]())
    svg = to_svg(figure, name)
    assert svg.startswith("<svg")
    assert figure.get_size_inches()[0] == canvas.WIDTH
    assert "<script" not in svg


@pytest.mark.parametrize("name", PLOTS)
def test_a_machine_without_chinese_fonts_draws_the_same_words_without_a_warning(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = example_runs.realistic()
    expected = words(to_svg(PLOTS[name](summary), name))
    for module in (canvas, plots, mixture_plots):
        monkeypatch.setattr(module, "fonts", lambda: ["DejaVu Sans"])
    assert words(to_svg(PLOTS[name](summary), name)) == expected


def test_the_same_rows_give_the_same_svg() -> None:
    summary = example_runs.realistic()
    assert to_svg(plots.held_out(summary.held_out), "a") == to_svg(plots.held_out(summary.held_out), "a")


def test_two_figures_in_one_page_share_no_id_and_use_only_their_own() -> None:
    summary = example_runs.realistic()
    seen: set[str] = set()
    for name in PLOTS:
        root = ElementTree.fromstring(to_svg(PLOTS[name](summary), name.replace("_", "-")))
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        used = {element.get("href", "")[1:] for element in root.iter("use")}
        used |= {value[5:-1] for element in root.iter() if (value := element.get("clip-path"))}
        assert used <= ids
        assert not ids & seen
        seen |= {value for value in ids if value}


def test_chinese_names_are_text_that_a_browser_draws() -> None:
    found = words(to_svg(plots.documents(example_runs.realistic().domains), "x"))
    assert {"微博评论", "小红书笔记", "wiki"} <= set(found)


def test_a_dollar_sign_in_a_name_is_no_formula() -> None:
    assert "$\\frac{a$ {{ 7 * 7 }}" in words(to_svg(plots.documents(example_runs.hostile().domains), "x"))


def test_drops_that_are_not_named_are_counted_together() -> None:
    summary = example_runs.realistic()
    found = words(to_svg(plots.drops(summary.drops, summary.domains), "x"))
    assert "too few words" in found
    assert "3 more" in found  # ten rules, seven colours


def test_measured_differences_are_relative_to_the_prior() -> None:
    rows = [
        MeasuredRow("objective", "proposal", 1.96, 1.9, 2.0, (1.97, 1.99)),
        MeasuredRow("objective", "prior", 2.0, 1.9, 2.1, (1.99, 2.01)),
    ]
    figure = plots.measured(rows)
    assert "−1.00 %" in words(to_svg(figure, "x"))
    low, high = figure.axes[0].get_xlim()
    assert low < 1.96 / 2 - 1 < 0 < 2.01 / 2 - 1 < high


def test_measurement_without_a_prior_or_prediction_still_draws() -> None:
    rows = [
        MeasuredRow("wiki", "proposal", None, None, None, (1.0,)),
        MeasuredRow("x", "uniform", None, None, None, ()),
    ]
    assert "wiki" in words(to_svg(plots.measured(rows), "x"))


def test_a_metric_whose_rank_correlation_does_not_exist_is_drawn() -> None:
    summary = example_runs.realistic()
    points = [dataclasses.replace(point, predicted=1.0) for point in summary.held_out if point.metric == "wiki"]
    unknown = [dataclasses.replace(row, spearman=None, r2=None, skilled=False) for row in summary.skill]  # type: ignore[arg-type]
    assert "no rank correlation, no skill" in words(to_svg(plots.held_out(points, unknown), "x"))


def test_a_run_that_diverged_is_drawn_as_the_worst() -> None:
    rows = [Curve("good", (0, 1, 2), (3.0, 2.0, 1.0)), Curve("bad", (0, 1, 2), (3.0, 2.0, math.nan))]
    assert "bad  nan" in words(to_svg(plots.curves(rows), "x"))


def test_what_a_histogram_calls_outside_is_outside_the_bounds() -> None:
    row = Histogram("a", "m", "", (0.0, 1.0, 2.0, 3.0, 4.0), (10, 20, 30, 40), 1.0, 3.0)
    assert plots.outside_bounds(row) == [True, False, False, True]
    assert "50.0 %" in words(to_svg(plots.histograms([row]), "x"))


def test_a_long_axis_ends_where_documents_and_bounds_end() -> None:
    edges = (0.0, *(2.0**i for i in range(21)))
    row = Histogram("a", "num_words", "", edges, (0, 5, 9, 5, *[0] * 17), 3.0, None)
    axes = plots.histograms([row]).axes[0]
    assert axes.get_xlim() == (0.0, 8.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_agrees_with_scipy_where_ties_abound(pairs: list[tuple[int, int]]) -> None:
    left, right = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    ours = plots.spearman(list(left), list(right))
    if left.std() and right.std():
        assert ours == pytest.approx(spearmanr(left, right).statistic)
    else:
        assert math.isnan(ours)
