"""SNS-Bench from its files: items, prompts with shots, averages, floors and ceilings, QueryGen's embedding model."""

import json
from pathlib import Path
from typing import get_args

import pytest
from sns_rows import ROWS, write_bench

from redone_data.errors import RedoneError
from redone_train.evaluate import sns_bench
from redone_train.evaluate.sns_bench import FILES, Scorer, SnsBench, averages, gold_answer

REAL = Path(__file__).parents[3] / "shared" / "data" / "sns_bench"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bench(tmp_path)


@pytest.mark.parametrize("scorer", get_args(Scorer))
def test_gold_answers_are_the_ceiling_of_every_file(folder: Path, scorer: Scorer) -> None:
    pytest.importorskip("jieba")
    bench = SnsBench(folder, scorer=scorer)
    assert bench.tasks == FILES
    for task in bench.tasks:
        items = bench.items(task)
        score = bench.score(items, [gold_answer(item.meta["row"]) for item in items])
        assert score.score == score.ceiling
        assert (score.n, score.scorer, score.task) == (len(ROWS[task]), scorer, task)
        if task == "Note-QueryGen":
            assert score.score is None
            assert score.parts["anls"] == 100
            assert "no sentence-embedding model" in score.notes[0]
        else:
            assert score.trivial is not None
            assert score.trivial <= score.ceiling
            json.dumps(score.mapping(), allow_nan=False)


def test_the_floor_is_the_best_trivial_rule(folder: Path) -> None:
    bench = SnsBench(folder)
    floors = {}
    for task in bench.tasks:
        items = bench.items(task)
        score = bench.score(items, [""] * len(items))
        floors[task] = (score.trivial, score.trivial_rule)
    assert floors["Note-Taxonomy-single"] == (pytest.approx(100 / 3), "a candidate at random")
    assert floors["Note-Taxonomy-multiple"] == (pytest.approx(100 / 12), "a candidate at random")
    # Three tags of the two items' eight are gold: 2 * 3 / (8 + 3).
    assert floors["Note-Hashtag-multiple"] == (pytest.approx(600 / 11), "all candidates")
    assert floors["Note-Gender"] == (50, "always Yes")
    # One gold in four words offered: 2 * 1 / (4 + 1).
    assert floors["Note-CHLW"] == (40, "all that is offered")
    assert floors["Note-MRC-complex"] == (0, "always []")


def test_items_keep_their_names_in_a_part_of_the_file_and_same_rows_differ(folder: Path) -> None:
    whole = SnsBench(folder).items("Note-NER")
    path = folder / "Note-NER.json"
    path.write_text(json.dumps([*ROWS["Note-NER"][1:], ROWS["Note-NER"][1]]))
    part = SnsBench(folder).items("Note-NER")
    assert part[0].id == whole[1].id
    assert part[0].meta["group"] == whole[1].meta["group"] == part[1].meta["group"]
    assert len({item.id for item in part}) == 2
    assert [item.meta["index"] for item in part] == [0, 1]


def test_prompts_show_shots_and_every_field_and_never_the_gold(folder: Path) -> None:
    for task in FILES:
        item = SnsBench(folder).items(task)[0]
        roles = [message["role"] for message in item.messages]
        assert roles[0] == "system"
        assert roles[1:] == ["user", "assistant"] * (len(roles) // 2 - 1) + ["user"]
        assert len(roles) > 2
        for name, value in item.meta["row"].items():
            assert name == "answer" or str(value) in item.messages[-1]["content"]
        assert "{" not in item.messages[-1]["content"]
        assert len(SnsBench(folder, shots=0).items(task)[0].messages) == 2


def test_shots_are_answered_in_the_format_that_is_scored() -> None:
    for task, prompt in sns_bench.own_prompts().items():
        rule = sns_bench.SCORERS["fixed"][task]
        for shot in prompt.shots:
            row = dict(shot) if task != "Note-MRC-simple" else {**shot, "answer": json.loads(shot["answer"])}
            values = rule.measure(row, shot["answer"])
            assert values["parsed"], (task, shot)
            assert values.get("item_score", 100) == pytest.approx(100), (task, shot)


def test_published_prompts_are_parsed_and_never_run(folder: Path, tmp_path: Path) -> None:
    configs = tmp_path / "opencompass" / "configs" / "datasets" / "sns_bench"
    configs.mkdir(parents=True)
    for file in FILES:
        name = file.lower().replace("-", "_")
        (configs / f"sns_{name}_gen.py").write_text(
            "raise SystemExit('run')\n"
            f"prompt_template = dict(begin=[dict(role='SYSTEM', prompt='''Do {name}''')],\n"
            "    round=[dict(role='HUMAN', prompt=f'{{content}}{{sentence2}} now'), dict(role='BOT', prompt='x')])\n"
            f"sns_datasets = [dict(type=Thing, name='{name}')]\n"
        )
    item = SnsBench(folder, prompts=tmp_path).items("Note-Gender")[0]
    assert item.messages == (
        {"role": "system", "content": "Do note_gender"},
        {"role": "user", "content": "Title: He wants to split every bill{sentence2} now"},
    )
    with pytest.raises(RedoneError, match="give the folder of a copy"):
        SnsBench(folder, prompts=folder / "nowhere")


def test_averages_are_of_tasks_not_files() -> None:
    scores: dict[str, float | None] = dict.fromkeys(FILES, 50.0)
    scores["Note-Taxonomy-single"] = 90.0  # the task: 70
    scores["Note-CHLW"] = 10.0
    found = averages(scores)
    assert found["average"] == (70 + 50 * 6 + 10) / 8
    assert found["without_chlw"] == (70 + 50 * 6) / 7
    scores["Note-QueryGen"] = None
    found = averages(scores)
    assert (found["average"], found["without_both"]) == (None, (70 + 50 * 5) / 6)


def test_a_score_can_be_drawn_again(folder: Path) -> None:
    bench = SnsBench(folder)
    items = bench.items("Note-Hashtag-multiple")
    score = bench.score(items, ["Rain", "Tea"])
    assert score.of(range(score.n)) == score.score
    assert score.of([0, 0]) == pytest.approx(100 * 4 / 6)
    assert score.interval(1) == score.interval(1)
    low, high = score.interval(1) or (0, 0)
    assert low <= (score.score or 0) <= high


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "a list of items is needed"),
        ('[{"content": "x"}]', "item 0: field 'question' is missing"),
        ('[{"content": "x", "question": "y", "answer": 3}]', "item 0: answer: a text is needed"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "Note-NER.json"
    path.write_text(rows)
    with pytest.raises(RedoneError, match=message):
        SnsBench(tmp_path).items("Note-NER")


def test_querygen_takes_an_embedding_model_and_says_which(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from redone_train.evaluate.similarity import SentenceModel

    model = tmp_path / "tiny-embedder"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"aeiknoprstuy", "rye"]))
    transformers.BertTokenizer(str(model / "vocab.txt")).save_pretrained(model)
    config = transformers.BertConfig(vocab_size=18, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.BertModel(config).save_pretrained(model)
    (model / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    bench = SnsBench(folder, scorer="official", embedding=SentenceModel(model))
    items = bench.items("Note-QueryGen")
    score = bench.score(items, [gold_answer(item.meta["row"]) for item in items])
    assert score.score == pytest.approx(100)
    assert score.notes == ("cosine by tiny-embedder (cls pooling)",)
    half = bench.score(items, ["tomatoes in pots", "sour"])
    assert half.item_scores is not None
    assert half.item_scores[1] < half.item_scores[0]
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(RedoneError, match="pooling by max; mean or cls is read"):
        SentenceModel(model)


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared is absent")
def test_the_real_files_score_what_the_same_rule_gave() -> None:
    expected = {
        "Note-Taxonomy-single": 97.94,
        "Note-Hashtag-single": 96.45,
        "Note-CHLW": 100.0,
        "Note-MRC-complex": 100.0,
    }
    bench = SnsBench(REAL, scorer="official")
    for task, ceiling in expected.items():
        items = bench.items(task)
        score = bench.score(items, [""] * len(items))
        assert round(score.ceiling or 0, 2) == ceiling
        if task == "Note-CHLW":
            assert round(score.trivial or 0, 2) == 67.3
