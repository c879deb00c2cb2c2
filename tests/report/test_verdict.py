import dataclasses

import example_runs
import pytest

from redone_data.report.summary import MeasuredRow, Summary
from redone_data.report.verdict import caps_that_bind, fell_back, verdict


def measured(**losses: tuple[float, ...]) -> Summary:
    rows = tuple(MeasuredRow("objective", name, None, None, None, values) for name, values in losses.items())
    return dataclasses.replace(example_runs.EMPTY, measured=rows)


@pytest.mark.parametrize(
    ("proposal", "headline"),
    [
        ((1.80, 1.81, 1.82), "Measured better than prior and uniform"),
        ((2.00, 2.01, 2.02), "Measured worse than uniform"),
        ((1.93, 1.95, 1.97), "Within the noise of uniform"),
    ],
)
def test_the_headline_compares_with_the_better_baseline_and_knows_noise(
    proposal: tuple[float, ...], headline: str
) -> None:
    summary = measured(proposal=proposal, prior=(1.99, 2.00, 2.01), uniform=(1.94, 1.95, 1.96))
    assert verdict(summary).headline == headline


def test_a_single_seed_is_never_called_better() -> None:
    found = verdict(measured(proposal=(1.0,), prior=(2.0,), uniform=(2.0,)))
    assert found.headline == "One seed: noise unknown"
    assert [item.outcome for item in found.comparisons] == ["untested", "untested"]


def test_nothing_measured_is_said_so() -> None:
    assert verdict(example_runs.EMPTY).headline == "Not measured"
    assert verdict(measured(proposal=(), prior=(), uniform=())).headline == "Not measured"
    assert verdict(measured(prior=(1.0, 1.1))).headline == "No mixture was found"


def test_caps_of_a_mixture_that_is_not_recommended_are_not_shown() -> None:
    summary = example_runs.realistic()
    assert fell_back(summary) is None
    assert caps_that_bind(summary) == summary.binding_caps
    rows = tuple(dataclasses.replace(row, weight=summary.uniform[row.domain]) for row in summary.domains)
    uniform = dataclasses.replace(summary, domains=rows)
    assert fell_back(uniform) == "uniform"
    assert verdict(uniform).headline == "Better on the objective, but uniform is recommended"
    assert caps_that_bind(uniform) == ()
