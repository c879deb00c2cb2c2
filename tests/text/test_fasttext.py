from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from posts import EDGES, SNS, real_posts, texts

from redone_data.errors import RedoneError
from redone_data.text.fasttext import FastTextModel
from redone_data.text.fasttext_ngrams import HASHED

LID = Path(__file__).resolve().parents[3] / "shared" / "data" / "lid" / "lid.176.ftz"
SHAPES = {
    "softmax": {"loss": "softmax", "wordNgrams": 2},
    "tree": {"loss": "hs", "minn": 2, "maxn": 4},
    "everything": {"loss": "softmax", "wordNgrams": 3, "minn": 1, "maxn": 3},
    "words-only": {"loss": "softmax"},
    "sparse": {"loss": "hs", "minn": 1, "maxn": 4, "bucket": 50_000, "dim": 20},  # pruned, few windows have n-grams
}
LINES = [
    "__label__food the soup was good and warm 好 吃",
    "__label__food 这 家 店 的 面 很 好 吃 café",
    "__label__travel the train was late again 火 车",
    "__label__travel we walked to the lake l'été",
    "__label__work meeting moved to monday 开 会",
    "__label__work 今 天 加 班 到 九 点",
    *[f"__label__work task{number} 任务{number}" for number in range(200)],  # quantising needs 256 rows
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The path of a small model of each shape, plain and quantised."""
    folder = tmp_path_factory.mktemp("models")
    lines = folder / "lines.txt"
    lines.write_text("\n".join(LINES * 10) + "\n", encoding="utf-8")
    paths = {}
    for name, shape in SHAPES.items():
        settings = {"dim": 10, "epoch": 4, "bucket": 2000, "seed": 1, "thread": 1, "verbose": 0, **shape}
        model = fasttext.train_supervised(str(lines), **settings)
        model.save_model(str(folder / f"{name}.bin"))
        model.quantize(str(lines), qnorm=True, cutoff=300, retrain=True, verbose=0)
        model.save_model(str(folder / f"{name}.ftz"))
        paths |= {f"{name}.{kind}": folder / f"{name}.{kind}" for kind in ("bin", "ftz")}
    return paths


def both(path, rows):
    """(label, probability) of each row as the library gives them, and as the kernel does."""
    library, ours = fasttext.load_model(str(path)), FastTextModel.load(path)
    found = [library.predict(row.replace("\n", " ")) for row in rows]
    # The library answers nothing where it knows nothing.
    theirs = [(label[0].removeprefix("__label__"), float(p[0])) if label else ("", 0.0) for label, p in found]
    labels, probabilities = ours.best(pa.array(["skip", *rows])[1:])
    return theirs, [(ours.labels[i] if i >= 0 else "", float(p)) for i, p in zip(labels, probabilities, strict=True)]


def assert_same(theirs, ours):
    assert np.allclose([p for _, p in theirs], [p for _, p in ours], atol=1e-5)
    assert [label for label, _ in theirs] == [label for label, _ in ours]


@pytest.mark.parametrize("name", [f"{shape}.{kind}" for shape in SHAPES for kind in ("bin", "ftz")])
def test_every_kind_of_model_answers_as_the_library_does(trained, name):
    odd = ["__label__food", "__label__new soup", "a </s> b", "soup\x00soup", "\tgood \x0b面", "x" * 3000]
    rows = [line.split(" ", 1)[1] for line in LINES] + [row for row in EDGES + odd if "\ufffe" not in row]
    assert_same(*both(trained[name], rows))


@pytest.mark.parametrize("name", ["everything.bin", "sparse.ftz"])
@given(text=st.one_of(texts(), st.text("abnot'-é好<> ", max_size=30)))
def test_any_text_is_scored_as_the_library_scores_it(trained, name, text):
    theirs, ours = both(trained[name], [text])
    assert np.allclose(theirs[0][1], ours[0][1], atol=1e-5)


def test_a_pruned_model_has_the_sums_of_windows_ready_and_one_with_too_many_hashes(trained):
    ready = {name: FastTextModel.load(trained[name]).tables.windows for name in ("sparse.ftz", "sparse.bin")}
    assert (ready["sparse.ftz"] != HASHED).mean() > 0.5
    assert (ready["sparse.bin"] == HASHED).all()


def test_probability_of_a_label_is_the_librarys(trained):
    library, model = fasttext.load_model(str(trained["softmax.ftz"])), FastTextModel.load(trained["softmax.ftz"])
    labels, expected = library.predict("soup 好 吃", k=3)
    for label, probability in zip(labels, expected, strict=True):
        found = model.probability(pa.array(["soup 好 吃"]), label.removeprefix("__label__"))
        assert found[0] == pytest.approx(probability, abs=2e-5)
    with pytest.raises(RedoneError, match="no label 'sport'"):
        model.probability(pa.array(["a"]), "sport")
    with pytest.raises(RedoneError, match="tree of labels"):
        FastTextModel.load(trained["tree.bin"]).probability(pa.array(["a"]), "food")


def test_a_file_that_is_not_a_model_is_refused_whatever_its_sizes_say(trained, tmp_path):
    whole = trained["everything.ftz"].read_bytes()
    for size in [0, 3, 8, 60, 80, 100, *range(200, len(whole), len(whole) // 20)]:
        (tmp_path / "cut.ftz").write_bytes(whole[:size])
        with pytest.raises(RedoneError, match="is not a supervised fastText model"):
            FastTextModel.load(tmp_path / "cut.ftz")
    for place in range(0, 240, 4):
        broken = whole[:place] + b"\xff\xff\xff\x7f" + whole[place + 4 :]
        (tmp_path / "broken.ftz").write_bytes(broken)
        try:
            FastTextModel.load(tmp_path / "broken.ftz").best(pa.array(["soup 好 吃 and more"]))
        except RedoneError:
            continue


def test_a_model_file_that_is_replaced_is_read_again(trained, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(trained["words-only.bin"].read_bytes())
    first = FastTextModel.load(path)
    assert FastTextModel.load(path) is first
    path.write_bytes(trained["softmax.bin"].read_bytes())
    assert FastTextModel.load(path) is not first


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
@pytest.mark.parametrize(
    "name", ["weibo_comments", "multilingual_social", "tweets_tweeteval", "reddit_titles", "zh_reviews"]
)
def test_lid_176_answers_as_the_library_does_on_real_posts(name):
    assert_same(*both(LID, real_posts(f"{name}.jsonl.zst", 8000)))
