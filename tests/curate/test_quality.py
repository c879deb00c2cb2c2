import json
import random

import numpy as np
import pyarrow as pa
import pytest

from redone_data.curate.quality import ClassifierConfig, QualityStep, classifier_path, load_classifier
from redone_data.curate.quality_train import Examples, ExamplesConfig, TrainConfig, auc, read_examples, train
from redone_data.curate.sources import FieldsConfig, SourceConfig
from redone_data.engine import Output
from redone_data.errors import RedoneError

THINGS = ["soup", "lake", "train", "book", "面条", "电影", "公园", "老师"]
PRAISE = ["lovely and warm", "I would go again", "很好看 推荐", "味道不错"]
ADS = ["buy now cheap http://t.cn/x", "!!! 加微信 低价 代购 !!!", "click the LINK", "刷单 兼职 日结"]


def posts(number, seed=3):
    rng = random.Random(seed)
    rows = []
    for index in range(number):
        good = index % 2 == 0
        text = f"{rng.choice(THINGS)} {rng.choice(PRAISE if good else ADS)} {rng.choice(THINGS)} {index}"
        rows.append({"text": text, "kind": "post" if good else "ad", "likes": 50 if good else 1})
    return rows


@pytest.fixture
def labelled(tmp_path):
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, posts(1200))), encoding="utf-8")
    source = SourceConfig(("posts.jsonl",), fields=FieldsConfig(engagement=("likes",)))
    return [ExamplesConfig(source, label_field="kind", good_values=("post",))]


@pytest.mark.parametrize("kind", ["fasttext", "lightgbm"])
def test_a_classifier_tells_held_out_ads_from_posts_in_both_languages(tmp_path, labelled, kind):
    examples = read_examples(labelled, tmp_path)
    report = train(examples, TrainConfig(kind=kind, buckets=2000), tmp_path / "model")
    assert report["held_out"]["auc"] > 0.95
    assert report["held_out"]["precision"] > 0.9
    assert report["held_out"]["documents"] + report["training_documents"] < 1200
    assert {"zh", "en"} & set(report["by_language"])
    assert report == json.loads((tmp_path / "model" / "report.json").read_text())
    kept = [rate["kept"] for rate in report["by_keep_rate"].values()]
    assert kept == sorted(kept)


@pytest.mark.parametrize("kind", ["fasttext", "lightgbm"])
def test_the_same_examples_in_another_order_give_the_same_bytes(tmp_path, kind):
    rows = posts(600)
    models = []
    for name in ("one", "two"):
        random.Random(name).shuffle(rows)
        table = pa.table({"text": [row["text"] for row in rows], "engagement": [float(row["likes"]) for row in rows]})
        examples = Examples.of(table, np.array([row["kind"] == "post" for row in rows]))
        train(examples, TrainConfig(kind=kind, buckets=2000, rounds=20), tmp_path / name)
        models.append(classifier_path(ClassifierConfig(name, kind), tmp_path).read_bytes())
    assert models[0] == models[1]


def test_shuffled_labels_teach_nothing(tmp_path):
    rows = posts(2000)
    table = pa.table({"text": [row["text"] for row in rows], "engagement": pa.nulls(len(rows), pa.float64())})
    examples = Examples.of(table, np.random.default_rng(1).random(len(rows)) < 0.5)
    report = train(examples, TrainConfig(buckets=2000), tmp_path)
    assert abs(report["held_out"]["auc"] - 0.5) < 0.12


def test_a_text_on_both_sides_or_twice_cannot_leak_into_the_report(tmp_path):
    table = pa.table({"text": ["a", "a", "b", "b", "c"], "engagement": pa.nulls(5, pa.float64())})
    examples = Examples.of(table, np.array([True, True, True, False, False]))
    assert sorted(zip(examples.documents.column("text").to_pylist(), examples.good.tolist(), strict=True)) == [
        ("a", True),
        ("c", False),
    ]


def test_engagement_is_used_only_when_asked_for(tmp_path):
    rng = random.Random(5)
    rows = [{"text": f"{rng.choice(THINGS)} {i}", "engagement": float(100 * (i % 2))} for i in range(800)]
    table = pa.Table.from_pylist(rows)
    examples = Examples.of(table, np.array([row["engagement"] > 0 for row in rows]))
    blind = train(examples, TrainConfig(kind="lightgbm"), tmp_path / "blind")
    seeing = train(examples, TrainConfig(kind="lightgbm", use_engagement=True), tmp_path / "seeing")
    assert seeing["held_out"]["auc"] == 1
    assert blind["held_out"]["auc"] < 0.9
    assert load_classifier(tmp_path / "blind" / "model.txt", "lightgbm").needs() == ["text"]


def test_scores_do_not_depend_on_the_batch_and_lie_between_0_and_1(tmp_path, labelled):
    train(read_examples(labelled, tmp_path), TrainConfig(buckets=2000), tmp_path / "ads")
    train(read_examples(labelled, tmp_path), TrainConfig(kind="lightgbm"), tmp_path / "style")
    configs = {"ads": ClassifierConfig("ads"), "style": ClassifierConfig("style", "lightgbm")}
    paths = {name: classifier_path(config, tmp_path) for name, config in configs.items()}
    step = QualityStep(Output(tmp_path, {}), configs, paths)
    texts = ["", "soup lovely and warm lake", "加微信 低价", "😀"]
    batch = pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], ["text"])
    together = step.measure(batch)
    assert together.columns == list(step.columns()) == ["quality_ads", "quality_style"]
    assert together.min_horizontal().min() >= 0
    assert together.max_horizontal().max() <= 1
    for row in range(len(texts)):
        assert step.measure(batch.slice(row, 1)).row(0) == together.row(row)
    assert together["quality_ads"][1] > 0.5 > together["quality_ads"][2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None, "label_field": None}, "either label"),
        ({"label": "fine"}, "good and bad are allowed"),
        ({"label_field": "kind"}, "good_values"),
    ],
)
def test_examples_without_a_clear_label_are_refused(change, message):
    with pytest.raises(RedoneError, match=message):
        ExamplesConfig(SourceConfig(("a.jsonl",)), **change)


def test_wrong_models_and_too_few_examples_are_named(tmp_path, labelled):
    with pytest.raises(RedoneError, match="is not a file; give the folder"):
        classifier_path(ClassifierConfig("none"), tmp_path)
    (tmp_path / "model.txt").write_text("not a model")
    with pytest.raises(RedoneError, match="is not a LightGBM model"):
        load_classifier(tmp_path / "model.txt", "lightgbm")
    (tmp_path / "few.jsonl").write_text('{"text": "a"}')
    with pytest.raises(RedoneError, match="1 good and 0 bad examples"):
        read_examples([ExamplesConfig(SourceConfig(("few.jsonl",)), label="good")], tmp_path)


def test_auc_counts_ties_half_and_needs_both_labels():
    assert auc(np.array([0.5, 0.5]), np.array([True, False])) == 0.5
    assert auc(np.array([0.5, 0.7]), np.array([True, True])) is None
