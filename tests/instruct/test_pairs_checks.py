"""The checks that every set passes: nothing leaks, nothing contradicts, and length tells nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_data import check_conserved, choices, conversation, make, write_jsonl

from redone_data.instruct.pairs.lengths import LengthConfig, choose, length_statistics, match, within_ratio
from redone_data.rng import stream

LENGTHS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=50)


def sides(lengths):
    array = np.array(lengths, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1], stream(1, "draws").random(len(array))


@settings(deadline=None)
@given(LENGTHS, st.sampled_from([0.0, 0.02, 0.2]))
def test_after_matching_length_tells_chosen_from_rejected_no_better_than_a_coin(lengths, max_bias):
    chosen, rejected, draws = sides(lengths)
    stays = match(chosen, rejected, np.zeros(len(chosen), np.int64), draws, LengthConfig(max_bias=max_bias))
    found = length_statistics(chosen[stays], rejected[stays])
    if stays.any():
        # One pair is the smallest step that can be taken.
        step = np.abs(chosen - rejected).max() / max((chosen + rejected)[stays].sum() / 2, 1e-9)
        assert abs(found["bias"]) <= max(max_bias, step) + 1e-4
    assert found["pairs"] <= len(lengths)


def test_pairs_of_which_the_longer_is_always_chosen_leave_nothing_to_learn_from():
    chosen, tasks = np.arange(100, 200, dtype=np.int64), np.zeros(100, np.int64)
    assert not match(chosen, chosen - 50, tasks, np.zeros(100), LengthConfig()).any()
    assert match(chosen, chosen, tasks, np.zeros(100), LengthConfig()).all()
    assert match(chosen, chosen - 50, tasks, np.zeros(100), LengthConfig("off")).all()


def test_a_task_whose_right_answers_are_longer_is_not_made_good_by_one_whose_are_shorter():
    long, short = np.full(100, 60, np.int64), np.full(100, 40, np.int64)
    tasks = np.repeat(np.array([0, 1], np.int64), 50)
    chosen, rejected = np.where(tasks == 0, long, short), np.where(tasks == 0, short, long)
    assert match(chosen, rejected, tasks * 0, np.zeros(100), LengthConfig()).all()
    assert not match(chosen, rejected, tasks, np.zeros(100), LengthConfig()).any()


def test_of_a_prompt_s_candidates_those_are_taken_that_cancel_the_debt_of_others():
    groups = np.array([0, 1, 1, 1, 2, 2], np.int64)
    differences = np.array([30, 40, -25, 400, -4, 300], np.int64)
    tasks = np.zeros(6, np.int64)
    assert choose(groups, tasks, differences, 1, LengthConfig()).tolist() == [True, False, True, False, True, False]
    assert choose(groups, tasks, differences, 2, LengthConfig("off")).tolist() == [True, True, True, False, True, True]
    assert choose(groups[:0], tasks[:0], differences[:0], 2, LengthConfig()).tolist() == []


@settings(deadline=None)
@given(st.lists(st.integers(-500, 500), min_size=1, max_size=60), st.integers(1, 4))
def test_no_prompt_gives_more_pairs_than_allowed_and_each_gives_all_it_may(differences, limit):
    groups = np.sort(np.arange(len(differences)) % 7).astype(np.int64)
    taken = choose(groups, groups % 3, np.array(differences, np.int64), limit, LengthConfig())
    assert np.bincount(groups[taken]).tolist() == np.minimum(np.bincount(groups), limit).tolist()


def test_answers_of_very_different_length_are_no_pair():
    chosen, rejected = np.array([100, 100, 5], np.int64), np.array([25, 24, 0], np.int64)
    assert within_ratio(chosen, rejected, LengthConfig(max_ratio=4.0)).tolist() == [True, False, False]
    assert within_ratio(chosen, rejected, LengthConfig(max_ratio=None)).all()


def two_choices(number, right, text, **given):
    """A question with two answers: the pair is known."""
    form = {"kind": "choice", "options": ["red", "blue"]}
    return conversation(number, text, form, right, right, **given)


def colours(rows, **given):
    return {"structure": {"colours": {"conversations": [str(rows)], "select": {"length": {"control": "off"}}}}, **given}


def test_a_pair_that_somebody_has_the_other_way_round_is_dropped_on_both_sides(tmp_path):
    rows = [two_choices(1, "red", "What colour is it?"), two_choices(2, "blue", "What  COLOUR is it?")]
    rows += [two_choices(3, "red", "And this?"), two_choices(4, "red", "and this? ")]
    made = make(tmp_path, colours(write_jsonl(tmp_path / "set.jsonl", rows)))
    assert made.code == 0, made.said
    check_conserved(made)
    assert made.manifest["sets"]["colours"]["dropped"] == {"contradiction": 2, "duplicate": 1}
    lines = made.ledger.filter(made.ledger["reason"] == "contradiction")
    assert set(lines["id"]) == set(lines["detail"])  # each names the other
    duplicate = made.ledger.filter(made.ledger["reason"] == "duplicate")
    assert duplicate["detail"].to_list() == [made.pairs[0].id]


def test_of_two_sets_with_one_pair_the_stronger_kind_keeps_it(tmp_path):
    path = write_jsonl(tmp_path / "set.jsonl", [two_choices(3, "red", "And this?"), two_choices(4, "red", "And that?")])
    answers = [{"id": f"{n:032x}", "answers": ["red", "blue"]} for n in (3, 4)]
    write_jsonl(tmp_path / "answers.jsonl", answers)
    outputs = {"conversations": [str(path)], "answers": ["answers.jsonl"], "select": {"length": {"control": "off"}}}
    made = make(tmp_path, {**colours(path), "outputs": {"sampled": outputs}})
    assert "set 'sampled': no pair is left; of 2 rows and 2 candidates were dropped: duplicate 2" in made.said
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_pairs_that_hold_an_evaluation_item_are_dropped_and_named(tmp_path):
    leaked = "Ten green bottles are hanging on the wall and if one should fall how many are left there"
    rows = [two_choices(1, "red", f"Note: {leaked.upper()}! Which colour?"), two_choices(2, "red", "What colour?")]
    write_jsonl(tmp_path / "eval.jsonl", [{"question": leaked}])
    sets = {"sets": {"bench": {"paths": ["eval.jsonl"]}}}
    made = make(tmp_path, colours(write_jsonl(tmp_path / "set.jsonl", rows), contamination=sets))
    assert made.code == 0, made.said
    line = made.ledger.filter(made.ledger["reason"] == "evaluation_item").to_dicts()
    assert [one["detail"] for one in line] == ["bench/eval.jsonl#1"]
    assert len(made.pairs) == 1


def test_nothing_that_is_held_out_is_trained_on(tmp_path):
    rows = [
        two_choices(10, "red", "Held out"),
        two_choices(11, "red", "Same document", documents=["doc-10"]),
        two_choices(12, "blue", "held  OUT"),
        two_choices(13, "blue", "Something else"),
    ]
    made = make(tmp_path, colours(write_jsonl(tmp_path / "set.jsonl", rows)))
    assert made.manifest["sets"]["colours"]["dropped"] == {"document_in_both_splits": 1, "prompt_held_out": 1}
    assert [pair.prompt[0].content for pair in made.pairs] == ["Something else", "Held out"]


def test_the_order_of_files_and_lines_changes_nothing_and_a_second_run_does_nothing(tmp_path):
    rows = choices(120)
    write_jsonl(tmp_path / "a.jsonl", rows[:50])
    write_jsonl(tmp_path / "b.jsonl", rows[50:])
    recipe = {"structure": {"city": {"conversations": ["a.jsonl", "b.jsonl"]}}}
    first = make(tmp_path, recipe)
    assert "Nothing to do" not in first.said
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.glob("*.*") if path.name != "timings.json"}
    second = make(tmp_path, recipe)
    assert "Nothing to do" in second.said
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    write_jsonl(tmp_path / "a.jsonl", rows[:70][::-1])
    write_jsonl(tmp_path / "b.jsonl", rows[70:][::-1])
    turned = make(tmp_path, recipe, out="turned")
    for name in ("train.jsonl", "held_out.jsonl", "ledger.parquet"):
        assert (first.folder / name).read_bytes() == (turned.folder / name).read_bytes()


@pytest.mark.parametrize("when", ["conversations", "pairs-structure", "pairs"])
def test_a_run_that_was_killed_ends_with_the_same_bytes(tmp_path, when):
    write_jsonl(tmp_path / "set.jsonl", choices(80))
    recipe = {"structure": {"city": {"conversations": ["set.jsonl"]}}}
    whole = make(tmp_path, recipe)
    broken = make(tmp_path, recipe, out="broken")
    # What a kill leaves: a step without its manifest, files half written, nothing published.
    step = next(folder for folder in (broken.folder / "steps").iterdir() if folder.name.rpartition("-")[0] == when)
    (step / "manifest.json").unlink()
    next(path for path in step.iterdir() if path.is_file()).write_bytes(b"half")
    (broken.folder / "manifest.json").unlink()
    (broken.folder / ".train.jsonl.tmp-1").write_text("half")
    assert make(tmp_path, recipe, out="broken").files() == whole.files()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({}, "name a set under structure, outputs, judges or engagement"),
        ({"structure": {"a b": {"conversations": ["x"]}}}, "must not be empty or hold spaces"),
        ({"structure": {"a": {"conversations": ["x"]}}, "outputs": {"a": {"conversations": ["x"]}}}, "under two kinds"),
        ({"structure": {"a": {"conversations": ["x"], "select": {"pairs_per_prompt": 0}}}}, "at least 1"),
        ({"structure": {"a": {"conversations": ["x"], "select": {"length": {"max_ratio": 0.5}}}}}, "at least 1"),
        ({"structure": {"a": {"conversations": ["x"]}}, "held_out": {"share": 0.9}}, "between 0 and 0.5"),
    ],
)
def test_a_recipe_is_checked_before_anything_is_read(tmp_path, recipe, message):
    made = make(tmp_path, recipe)
    assert made.code != 0
    assert message in made.said
