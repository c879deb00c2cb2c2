"""SNS-TransBench: both ways, sacreBLEU's own figures, copies and wrong languages counted."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sns_rows import PAIRS, write_bench

from redone_data.errors import RedoneError
from redone_train.evaluate import trans_bench
from redone_train.evaluate.trans_bench import TASKS, TransBench, average


@pytest.fixture
def bench(tmp_path: Path) -> TransBench:
    return TransBench(write_bench(tmp_path))


def test_references_score_a_hundred_and_signatures_are_stated(bench: TransBench) -> None:
    for task, tokenizer in zip(TASKS, ("13a", "zh"), strict=True):
        items = bench.items(task)
        score = bench.score(items, [item.gold for item in items])
        assert score.score == pytest.approx(100)
        assert f"tok:{tokenizer}" in score.notes[0]
        assert "nw:2" in score.notes[1]


def test_scores_are_sacrebleus_of_the_corpus(bench: TransBench) -> None:
    items = bench.items("zh-en")
    answers, golds = ["Burnt the bread today", "My cat sleeps on the keyboard"], [[item.gold for item in items]]
    score = bench.score(items, answers)
    assert score.parts["bleu"] == pytest.approx(BLEU(tokenize="13a").corpus_score(answers, golds).score)
    assert score.parts["chrf++"] == pytest.approx(CHRF(word_order=2).corpus_score(answers, golds).score)
    assert score.of([0, 1]) == score.score
    one = BLEU(tokenize="13a").corpus_score(answers[:1] * 2, [golds[0][:1] * 2]).score
    two = CHRF(word_order=2).corpus_score(answers[:1] * 2, [golds[0][:1] * 2]).score
    assert score.of([0, 0]) == pytest.approx((one + two) / 2)


def test_the_official_score_is_a_mean_over_sentences(tmp_path: Path) -> None:
    bench = TransBench(write_bench(tmp_path), scorer="official")
    items = bench.items("en-zh")
    score = bench.score(items, [items[0].gold, ""])
    assert score.parts["bleu_score"] == pytest.approx(50)
    assert score.item_scores == pytest.approx([100, 0])


def test_copies_of_the_source_and_wrong_languages_are_counted(bench: TransBench) -> None:
    items = bench.items("zh-en")
    score = bench.score(items, [PAIRS[0]["zh"], "这只猫"])
    assert (score.parts["copied"], score.parts["wrong_language"], score.parse_rate) == (1, 2, 1)
    assert bench.score(items, ["", "This cat 猫 sleeps"]).parts["wrong_language"] == 0
    assert score.trivial_rule == "the source, copied"


def test_a_pair_in_both_ways_is_one_group(bench: TransBench) -> None:
    there, back = bench.items("zh-en")[0], bench.items("en-zh")[0]
    assert there.meta["group"] == back.meta["group"]
    assert there.id != back.id
    assert there.messages[-1]["content"] == f"Chinese: {PAIRS[0]['zh']}\nEnglish:"
    assert average({"zh-en": 40.0}) is None


def test_a_pair_without_its_languages_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "RedTrans-Bench.json"
    path.write_text('[{"zh": "x", "en": "y"}]')
    with pytest.raises(RedoneError, match="item 0: zh, en, src_lang and dst_lang are needed"):
        TransBench(path).items("zh-en")
    with pytest.raises(RedoneError, match=r"RedTrans-Bench.json is not here"):
        TransBench(tmp_path / "nowhere")


@given(st.one_of(st.text(max_size=50), st.text("猫cat .\ud83d", max_size=9)), st.sampled_from(["fixed", "official"]))
@settings(deadline=None, max_examples=30)
def test_no_translation_raises_an_exception(answer: str, scorer: trans_bench.Scorer) -> None:
    meta = {"source": "猫", "index": 0}
    item = trans_bench.Item("a", "zh-en", "trans_bench", (), "cat", meta)
    score = trans_bench.score([item], [answer], scorer)
    assert 0 <= (score.score or 0) <= 100.0001
