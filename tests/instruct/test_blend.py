"""The two-step blend: exact counts, stated caps, an order that files do not decide."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.instruct.blend import Allotment, Plan, StepConfig, drawn, plan, remarks

COUNTS = {("dialogue", "reply"): 100, ("translation", "zh_en"): 300, ("general", "cot"): 600}


def taken(counts: dict[tuple[str, str], int], step: StepConfig) -> dict[str, int]:
    return {row.task: row.conversations for row in plan(counts, step).tasks}


def ids(counts: dict[tuple[str, str], int]) -> pl.DataFrame:
    rows = [
        {"id": f"{number:08x}{task.encode().hex():0<24}"[:32], "capability": capability, "task": task}
        for (capability, task), count in counts.items()
        for number in range(count)
    ]
    return pl.DataFrame(rows)


def test_a_step_without_settings_takes_everything_once() -> None:
    assert taken(COUNTS, StepConfig()) == {"reply": 100, "zh_en": 300, "cot": 600}


def test_shares_by_weight_are_reached_to_the_conversation() -> None:
    step = StepConfig(conversations=101, shares={"dialogue": 1, "translation": 1, "general": 1})
    assert sorted(taken(COUNTS, step).values()) == [33, 34, 34]


def test_a_higher_temperature_is_more_even() -> None:
    natural, warm = (taken(COUNTS, StepConfig(conversations=200, temperature=t)) for t in (1.0, 3.0))
    assert natural == {"reply": 20, "zh_en": 60, "cot": 120}
    assert natural["reply"] < warm["reply"] < warm["zh_en"] < warm["cot"] < natural["cot"]


def test_general_data_keeps_its_share_in_a_step_of_social_data() -> None:
    found = plan(COUNTS, StepConfig(conversations=400, general_share=0.05))
    assert found.capabilities()["general"][2] == 20
    assert found.social_share == pytest.approx(0.95)


def test_a_small_task_is_repeated_no_more_than_the_step_allows_and_the_plan_says_what_is_missing() -> None:
    step = StepConfig(conversations=600, shares={"dialogue": 1, "translation": 1, "general": 1}, max_repetitions=1)
    found = plan(COUNTS, step)
    assert {row.task: row.conversations for row in found.tasks} == {"reply": 100, "zh_en": 250, "cot": 250}
    assert found.short() == ["reply"]
    assert "reply" in remarks({"step1": found})[0]
    twice = StepConfig(conversations=600, shares=step.shares, max_repetitions=2)
    assert taken(COUNTS, twice) == {"reply": 200, "zh_en": 200, "cot": 200}


def test_more_than_there_is_is_not_made_up() -> None:
    assert plan(COUNTS, StepConfig(conversations=5000)).total == 1000


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (StepConfig(shares={"dialog": 1.0}), r"step: shares.dialog: no conversation has it; did you mean 'dialogue'\?"),
        (StepConfig(shares={"general": 1.0}), None),
    ],
)
def test_a_capability_without_conversations_is_named(step: StepConfig, message: str | None) -> None:
    if message is None:
        assert taken(COUNTS, step)["cot"] == 600
        return
    with pytest.raises(RedoneError, match=message):
        plan(COUNTS, step)


def test_no_conversations_at_all_is_an_error() -> None:
    with pytest.raises(RedoneError, match="no conversations to take"):
        plan({("general", "cot"): 0}, StepConfig())


@pytest.mark.parametrize(
    "values",
    [{"conversations": 0}, {"shares": {"a": -1.0}}, {"temperature": 0}, {"general_share": 1.0}, {"max_repetitions": 0}],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(RedoneError):
        StepConfig(**values)  # type: ignore[arg-type]


@given(
    counts=st.dictionaries(
        st.tuples(st.sampled_from(["dialogue", "general", "translation"]), st.sampled_from("abcdef")),
        st.integers(1, 500),
        min_size=1,
    ),
    wanted=st.integers(1, 3000),
    temperature=st.floats(0.5, 10),
    repetitions=st.integers(1, 3),
)
def test_counts_are_whole_within_their_caps_and_sum_to_what_was_asked(
    counts: dict[tuple[str, str], int], wanted: int, temperature: float, repetitions: int
) -> None:
    found = plan(counts, StepConfig(wanted, temperature=temperature, max_repetitions=repetitions))
    assert found.total == min(wanted, repetitions * sum(counts.values()))
    for row in found.tasks:
        assert 0 <= row.conversations <= repetitions * row.available
    assert sum(row.asked for row in found.tasks) == pytest.approx(1)


def test_the_order_of_the_input_does_not_change_what_is_drawn_or_where_it_stands() -> None:
    frame = ids(COUNTS)
    found = plan(COUNTS, StepConfig(conversations=500, temperature=2, max_repetitions=2))
    first = drawn(frame, found, 1, "step1")
    again = drawn(frame.reverse(), found, 1, "step1")
    assert first.select("id", "repetition").equals(again.select("id", "repetition"))
    assert first.height == 500
    other = drawn(frame, found, 2, "step1")
    assert not first.select("id").equals(other.select("id"))


def test_repetitions_are_spread_evenly_over_a_task() -> None:
    small = {("dialogue", "reply"): 10}
    found = Plan((Allotment("dialogue", "reply", 10, 1.0, 25),))
    times = drawn(ids(small), found, 1, "step1").group_by("id").len()["len"].sort().to_list()
    assert times == [2] * 5 + [3] * 5


def test_a_second_step_with_no_more_social_data_than_the_first_is_remarked() -> None:
    first = plan(COUNTS, StepConfig())
    same = remarks({"step1": first, "step2": first})
    assert any("does not rise" in line for line in same)
    better = plan(COUNTS, StepConfig(conversations=300, general_share=0.1))
    assert remarks({"step1": first, "step2": better}) == []
