"""Our steps in a datatrove pipeline, on its own executor, between its own reader and writer."""

import gzip
import json
from pathlib import Path

import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from redone_data.datatrove_steps import BATCH_DOCUMENTS, LanguageStep, NormalizeStep, RedactStep, RulesStep
from redone_data.errors import RedoneError


def written(folder: Path) -> list[dict[str, object]]:
    rows = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        rows += [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    return rows


def test_a_pipeline_of_all_our_steps_keeps_masks_and_explains(tmp_path):
    texts = {
        "good": "We walked along the river to the night market and had noodles, call 138 0013 8000",
        "french": "Nous avons mangé des nouilles au marché de nuit près de la rivière hier soir",
        "tags": "#food #noodles #market #river #night",
    }
    lines = [json.dumps({"id": name, "text": text}) for name, text in texts.items()]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/posts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    dropped = tmp_path / "dropped"
    hashtags = {"hashtag_fraction": {"max": 0.5}}
    pipeline = [
        JsonlReader(str(tmp_path / "in")),
        NormalizeStep(),
        RedactStep(),
        RulesStep("none", hashtags, exclusion_writer=JsonlWriter(str(dropped / "rules"))),
        LanguageStep(["en"], exclusion_writer=JsonlWriter(str(dropped / "language"))),
        JsonlWriter(str(tmp_path / "out")),
    ]
    LocalPipelineExecutor(pipeline, tasks=1, logging_dir=str(tmp_path / "logs")).run()

    [good] = written(tmp_path / "out")
    assert good["id"] == "good"
    assert good["text"].endswith("call <PHONE>")
    assert good["metadata"]["redacted"] == {"phone": 1}
    assert good["metadata"]["language"] == "en"
    [tags], [french] = written(dropped / "rules"), written(dropped / "language")
    assert (tags["id"], tags["metadata"]["filter_reason"]) == ("tags", "too_many_hashtags")
    assert (french["id"], french["metadata"]["filter_reason"]) == ("french", "other_language")


def test_every_document_passes_in_its_order_whatever_the_batches(tmp_path):
    documents = [Document(text=f"noodles by the river {i}\r\n", id=str(i)) for i in range(2 * BATCH_DOCUMENTS + 1)]
    found = list(NormalizeStep().run(iter(documents)))
    assert [document.id for document in found] == [str(i) for i in range(len(documents))]
    assert all(document.text == f"noodles by the river {document.id}" for document in found)


def test_an_empty_stream_gives_nothing_and_no_error():
    for step in (NormalizeStep(), RedactStep(), RulesStep(), LanguageStep()):
        assert list(step.run(iter([]))) == []


def test_bounds_go_over_the_preset():
    short = [Document(text="so", id="a")]
    assert list(RulesStep("sns").run(iter(short))) == []
    assert len(list(RulesStep("sns", {"num_words": {}}).run(iter(short)))) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RulesStep("goph"), "RulesStep: preset"),
        (lambda: RulesStep(bounds={"num_word": {"min": 1}}), "did you mean 'num_words'"),
        (lambda: RulesStep(bounds={"num_words": {"minimum": 1}}), "did you mean 'min'"),
        (lambda: LanguageStep(["english"]), "is not a language code"),
        (lambda: LanguageStep(min_confidence=2), "min_confidence"),
        (lambda: RedactStep(["phones"]), "phones"),
    ],
)
def test_a_wrong_argument_is_named_when_the_step_is_made(make, message):
    with pytest.raises(RedoneError, match=message):
        make()
