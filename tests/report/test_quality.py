"""The page of a quality classifier: what it draws is what was measured, and what it shows cannot harm its reader."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pyarrow as pa
import pytest

from redone_data.curate.quality_train import Examples, TrainConfig, train
from redone_data.report.quality import NUM_EXAMPLES, ScoredText, curves, histograms, write_quality_page

HELD_OUT = {"documents": 4, "good": 2, "auc": 0.75, "threshold": 0.5, "kept": 0.5, "precision": 0.5, "recall": 0.5}
CONFIG = {"kind": "fasttext", "seed": 1, "keep": 0.5}
REPORT = {"config": CONFIG, "training_documents": 9, "threshold": 0.5, "held_out": HELD_OUT}
REPORT |= {"by_language": {"en": HELD_OUT}, "by_keep_rate": {"0.5": HELD_OUT}}


def page(folder, examples, report=REPORT) -> str:
    write_quality_page(report, examples, "civil", folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def column(text: str, title: str) -> list[str]:
    """The scores under one heading of examples, in their order."""
    after = text.split(f'<div class="column-head">{title}</div>')[1].split('<div class="column-head">')[0]
    return re.findall(r"score (\d\.\d+)", after)


def test_the_worst_mistakes_and_the_nearest_come_first(tmp_path):
    scores = [0.01, 0.02, 0.3, 0.49, 0.51, 0.7, 0.98, 0.99]
    goods = [True, False, True, False, True, False, True, False]
    examples = [ScoredText(f"post {i}", good, score) for i, (good, score) in enumerate(zip(goods, scores, strict=True))]
    text = page(tmp_path, examples)
    assert column(text, "labelled good, scored lowest") == ["0.010", "0.300"]
    assert column(text, "labelled bad, scored highest") == ["0.990", "0.700"]
    assert column(text, "just dropped") == ["0.490", "0.300", "0.020", "0.010"]
    assert column(text, "just kept") == ["0.510", "0.700", "0.980", "0.990"]


def test_the_page_stays_short_and_long_texts_are_cut(tmp_path):
    text = page(tmp_path, [ScoredText("word " * 5000, i % 2 == 0, i / 500) for i in range(500)])
    assert len(column(text, "just kept")) == NUM_EXAMPLES
    assert len(text) < 150_000


def test_a_post_can_neither_run_nor_load_nor_turn_the_page(tmp_path):
    nasty = "<script>alert(1)</script><img src=//evil.example> {{ 7 * 7 }} \x1b[31m \u202e"
    text = page(tmp_path, [ScoredText(nasty, True, 0.1), ScoredText(nasty, False, 0.9)])
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    for drawing in re.findall("<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)


@pytest.mark.parametrize("examples", [[], [ScoredText("a", True, 0.9)], [ScoredText("a", False, 1.0)] * 3])
def test_few_examples_or_one_label_still_make_a_page(tmp_path, examples):
    absent = {**HELD_OUT, "documents": len(examples), "good": 0, "auc": None, "precision": None, "recall": None}
    assert "</html>" in page(tmp_path, examples, {**REPORT, "held_out": absent})


def test_curves_are_precision_recall_and_share_kept_at_each_threshold():
    scores, good = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True])
    precision, recall, kept, _ = (line.get_ydata() for line in curves(scores, good, 0.5).axes[0].lines)
    at = {threshold: round(threshold * 200) for threshold in (0.0, 0.5, 0.7)}
    assert [precision[at[t]] for t in at] == [0.5, 0.5, 1.0]
    assert [recall[at[t]] for t in at] == [1.0, 0.5, 0.5]
    assert [kept[at[t]] for t in at] == [1.0, 0.5, 0.25]
    assert np.isnan(precision[-1])


def test_histograms_hold_every_example_of_either_label():
    scores, good = np.array([0.0, 0.5, 0.5, 1.0]), np.array([True, True, True, False])
    bars = [patch.get_data().values for patch in histograms(scores, good, 0.5).axes[0].patches]
    assert [round(float((values**2).sum()), 9) for values in bars] == [1.0, 1.0]
    assert bars[0].min() >= 0 >= bars[1].max()


def test_a_trained_classifier_comes_with_its_page_and_personal_data_is_masked(tmp_path):
    texts = [f"nice soup number {i} mail me at joe{i}@mail.com" if i % 2 else f"buy cheap {i} now" for i in range(900)]
    documents = pa.table({"text": texts, "engagement": pa.nulls(900, pa.float64())})
    good = np.arange(900) % 2 == 1
    train(Examples.of(documents, good), TrainConfig(buckets=2000, epochs=1), tmp_path / "civil")
    text = (tmp_path / "civil" / "report.html").read_text(encoding="utf-8")
    assert "nice soup number" in text
    assert "&lt;EMAIL&gt;" in text
    assert "@mail.com" not in text
