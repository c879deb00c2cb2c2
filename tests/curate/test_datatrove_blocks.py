"""datatrove's filters and formatters in a recipe: which may be named, what they decide, what they change."""

import json

import polars as pl
import pytest
from curation import inputs, posts, write_jsonl

from redone_data.config import read_config
from redone_data.corpus import Corpus
from redone_data.curate.attributes import Attributes
from redone_data.curate.datatrove_blocks import (
    KEPT,
    NO_FILTER,
    REASON,
    FilterConfig,
    FormatterConfig,
    block_types,
    datatrove_steps,
)
from redone_data.curate.read import ReadConfig, ReadStep
from redone_data.curate.sources import FieldsConfig, SourceConfig
from redone_data.engine import Engine
from redone_data.errors import RedoneError

GOOD = "The river is calm, and we walk to the market of the island with a lantern. " * 8


def read(folder, texts, **source):
    write_jsonl(folder / "posts.jsonl", [{"id": i, "text": text} for i, text in enumerate(texts)])
    config = SourceConfig(("posts.jsonl",), fields=FieldsConfig(id="id"), **source)
    engine = Engine(folder / "run")
    return engine, engine.run(ReadStep("sns", config, ReadConfig(), tuple(inputs(config, folder))))


def texts_of(output):
    return [text for path in output.files(".parquet") for text in pl.read_parquet(path)["text"]]


def verdicts(folder, texts, *filters):
    engine, output = read(folder, texts)
    steps = datatrove_steps((output,), {"sns": filters})
    attributes = Attributes(Corpus.of([output]), tuple(engine.run_all(steps)))
    table = attributes.read(attributes.corpus.parts[0], [KEPT, REASON])
    assert table[KEPT].to_pylist() == [int(reason is None) for reason in table[REASON].to_pylist()]
    return dict(zip(texts_of(output), table[REASON].to_pylist(), strict=True))


def test_the_first_filter_that_objects_is_the_reason_with_its_own_words(tmp_path):
    texts = [GOOD, "too short", GOOD.replace("river", "casino")]
    filters = FilterConfig("RegexFilter", {"regex_exp": "casino"}), FilterConfig("GopherQualityFilter")
    found = verdicts(tmp_path, texts, *filters)
    assert list(found.values()) == [None, "GopherQualityFilter/gopher_short_doc", "RegexFilter"]


def test_arguments_reach_the_filter(tmp_path):
    strict = FilterConfig("GopherQualityFilter", {"min_doc_words": 1_000})
    assert set(verdicts(tmp_path / "a", [GOOD], strict).values()) == {"GopherQualityFilter/gopher_short_doc"}
    assert set(verdicts(tmp_path / "b", [GOOD], FilterConfig("GopherQualityFilter")).values()) == {None}


def test_a_filter_that_edits_its_document_changes_neither_the_corpus_nor_the_next_filter(tmp_path):
    text = "We had noodles by the river yesterday[1].\n" * 5 + "no full stop here"
    filters = FilterConfig("C4QualityFilter"), FilterConfig("RegexFilter", {"regex_exp": "no full stop"})
    assert verdicts(tmp_path, [text], *filters) == {text: "RegexFilter"}


def test_the_same_decisions_as_a_datatrove_pipeline(tmp_path):
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter

    texts = [post["text"] + ("." if i % 3 else "") + "\nshort" * (i % 5) for i, post in enumerate(posts(60))]
    kept = [d.text for d in FineWebQualityFilter().run(Document(text, str(i)) for i, text in enumerate(texts))]
    found = verdicts(tmp_path, texts, FilterConfig("FineWebQualityFilter"))
    assert 0 < len(kept) < 60
    assert [text for text, reason in found.items() if reason is None] == kept


def test_domains_without_filters_have_no_step(tmp_path):
    _, output = read(tmp_path, ["a post"])
    assert datatrove_steps((output,), {"other": (FilterConfig("GopherQualityFilter"),)}) == []


def test_a_formatter_changes_the_text_that_is_read(tmp_path):
    formatters = (FormatterConfig("SymbolLinesFormatter"),)
    _, output = read(tmp_path, ["noodles\n-----\nriver"], formatters=formatters)
    assert texts_of(output) == ["noodles\nriver"]


def test_a_document_does_not_depend_on_those_before_it(tmp_path):
    # PIIFormatter takes its replacements by turns.
    mails = ["write to ann@river.org", "write to bob@river.org"]
    formatters = (FormatterConfig("PIIFormatter"),)
    write_jsonl(tmp_path / "posts.jsonl", [{"id": i, "text": text} for i, text in enumerate(mails)])
    config = SourceConfig(("posts.jsonl",), fields=FieldsConfig(id="id"), formatters=formatters)
    step = ReadStep("sns", config, ReadConfig(redact=()), tuple(inputs(config, tmp_path)))
    assert set(texts_of(Engine(tmp_path / "run").run(step))) == {"write to email@example.com"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"filter": "LambdaFilter", "args": {"filter_function": "print"}}, "not allowed in a recipe: it runs code"),
        ({"filter": "datatrove.pipeline.filters.RegexFilter"}, "is unknown"),
        ({"filter": "PipelineStep"}, "is unknown"),
        ({"filter": "BaseFilter"}, "is unknown"),
        ({"filter": "GopherQualityFiltr"}, "did you mean 'GopherQualityFilter'"),
        (
            {"filter": "GopherQualityFilter", "args": {"min_words": 3}},
            r"args\.min_words: .* did you mean 'min_doc_words'",
        ),
        ({"filter": "GopherQualityFilter", "args": {"exclusion_writer": "x"}}, "no such argument"),
        ({"filter": "RegexFilter"}, r"args\.regex_exp: missing"),
        ({"filter": "RegexFilter", "args": {"regex_exp": "("}}, "refuses its arguments"),
    ],
)
def test_what_cannot_be_named_is_refused_with_the_reason(values, message):
    with pytest.raises(RedoneError, match=message):
        read_config(FilterConfig, values, where="recipe.yaml", path="domains.sns.datatrove[0]")


def test_every_filter_that_is_refused_exists_and_none_of_them_is_allowed():
    from datatrove.pipeline import filters

    assert all(hasattr(filters, name) for name in NO_FILTER)
    assert not set(NO_FILTER) & set(block_types("filter"))
    assert {"GopherQualityFilter", "GopherRepetitionFilter", "C4QualityFilter", "FineWebQualityFilter"} <= set(
        block_types("filter")
    )


def test_another_filter_or_argument_is_another_step(tmp_path):
    _, output = read(tmp_path, ["a post"])
    configs = [FilterConfig("GopherQualityFilter"), FilterConfig("GopherQualityFilter", {"min_doc_words": 3})]
    names = {datatrove_steps((output,), {"sns": (config,)})[0].folder_name() for config in configs}
    assert len(names) == 2
    assert json.dumps(datatrove_steps((output,), {"sns": tuple(configs)})[0].config())
