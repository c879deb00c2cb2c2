"""One pool becomes several domains: every document in exactly one, whatever splits it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from curation import inputs, sentence, write_jsonl

from redone_data.config import read_config
from redone_data.corpus import CORPUS_SCHEMA, Corpus
from redone_data.curate.clusters import ClusterModel
from redone_data.curate.domains import SplitConfig, choose_names, split_domain
from redone_data.curate.groups import ExactStep, IdentifyStep
from redone_data.curate.language import LanguageConfig, model_digest, model_path
from redone_data.curate.metrics import MetricsStep
from redone_data.curate.read import ReadConfig, ReadStep
from redone_data.curate.sources import EmbeddingConfig, FieldsConfig, SourceConfig
from redone_data.engine import Engine, Output
from redone_data.errors import RedoneError
from redone_data.recipe import DomainConfig

FOOD = "noodles soup rice pepper kitchen dinner taste cook spicy bowl oven sugar bread butter lunch".split()  # noqa: SIM905
TRAVEL = "train ticket hotel beach island passport flight luggage museum tour airport map visa city".split()  # noqa: SIM905
CARS = "engine brake tyre wheel gear fuel motor garage diesel clutch seat bumper driver speed".split()  # noqa: SIM905


def pool(count: int = 60) -> list[dict[str, Any]]:
    """Posts about three things, in turn."""
    records, draw = [], np.random.default_rng(1)
    for i in range(count):
        topic, words = [("food", FOOD), ("travel", TRAVEL), ("cars", CARS)][i % 3]
        text = " ".join(draw.choice(words, 10))
        records.append({"id": i, "text": f"{text} {i}", "topic": topic, "likes": i})
    return records


def vectors(records: Sequence[dict[str, Any]], seed: int = 2) -> list[dict[str, Any]]:
    """The records with vectors that stand in their topics' directions, and texts that say nothing of them."""
    draw = np.random.default_rng(seed)
    direction = {"food": [1, 0, 0, 0], "travel": [0, 1, 0, 0], "cars": [0, 0, 1, 1]}
    return [
        {
            **record,
            "text": f"post {record['id']}",
            "vector": (direction[record["topic"]] + draw.normal(0, 0.1, 4)).tolist(),
        }
        for record in records
    ]


class Split:
    """A pool in files, read, and split."""

    def __init__(
        self, folder: Path, *pools: Sequence[dict[str, Any]], part_bytes: int = 1 << 20, **config: Any
    ) -> None:
        self.engine = Engine(folder / "run")
        steps = []
        for number, records in enumerate(pools):
            write_jsonl(folder / f"pool{number}.jsonl", records)
            embedding = EmbeddingConfig("vector", 4) if config["by"] == "embeddings" else None
            fields = FieldsConfig(id="id", engagement=("likes",), meta=("topic",), embedding=embedding)
            source = SourceConfig((f"pool{number}.jsonl",), name=f"pool{number}", fields=fields)
            steps.append(ReadStep("pool", source, ReadConfig(part_bytes=part_bytes), tuple(inputs(source, folder))))
        self.reads = self.engine.run_all(steps)
        attributes: list[Output] = []
        if config["by"] == "quality":
            digest = model_digest(model_path(None))
            attributes = self.engine.run_all([MetricsStep(read, LanguageConfig(), digest) for read in self.reads])
        values = read_config(SplitConfig, config, where="recipe.yaml", path="domains.pool.split")
        self.outputs = split_domain(
            self.engine, "pool", self.reads, values, seed=1, part_bytes=part_bytes, attributes=attributes
        )
        self.corpus = Corpus.of(self.outputs)

    @property
    def texts(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for part in self.corpus.parts:
            found.setdefault(part.domain, []).extend(part.read(["text"])["text"].to_pylist())
        return {domain: sorted(texts) for domain, texts in found.items()}

    @property
    def sizes(self) -> dict[str, int]:
        return {domain: len(texts) for domain, texts in self.texts.items()}


def test_each_value_of_a_field_becomes_a_domain_and_a_missing_one_is_other(tmp_path):
    records = [*pool(), {"id": "x", "text": "a post about nothing", "likes": 1}]
    split = Split(tmp_path, records, by="field", name="topic")
    assert split.sizes == {"pool/food": 20, "pool/travel": 20, "pool/cars": 20, "pool/other": 1}
    assert split.texts["pool/food"] == sorted(r["text"] for r in records if r.get("topic") == "food")


def test_rename_joins_values_and_sends_the_rest_to_other(tmp_path):
    rename = {"food": "life", "travel": "life"}
    split = Split(tmp_path, pool(), by="field", name="topic", rename=rename)
    assert split.sizes == {"pool/life": 40, "pool/other": 20}


def test_only_the_largest_values_become_domains(tmp_path):
    records = [*pool(30), *({"id": f"r{i}", "text": sentence(i), "topic": f"rare {i}"} for i in range(20))]
    assert set(Split(tmp_path / "a", records, by="field", name="topic", max_domains=2).sizes) == {
        "pool/cars", "pool/food", "pool/other",
    }  # fmt: skip
    several = Split(tmp_path / "b", records, by="field", name="topic", min_documents=5)
    assert several.sizes == {"pool/cars": 10, "pool/food": 10, "pool/travel": 10, "pool/other": 20}


def test_every_document_is_in_one_domain_with_its_columns_untouched(tmp_path):
    split = Split(tmp_path, pool(50), pool(40), by="field", name="topic", part_bytes=900)
    columns = [name for name in CORPUS_SCHEMA.names if name != "domain"]
    before = pl.concat([pl.read_parquet(path) for read in part_files(split.reads) for path in read])
    after = pl.concat([pl.read_parquet(part.path) for part in split.corpus.parts])
    order = ["key_hi", "key_lo"]
    assert after.select(columns).sort(order).equals(before.select(columns).sort(order))
    assert all((pl.read_parquet(part.path)["domain"] == part.domain).all() for part in split.corpus.parts)
    assert {part.source for part in split.corpus.parts} == {"pool0", "pool1"}
    assert len(split.corpus.parts) > 6


def part_files(reads: Sequence[Output]) -> list[list[Path]]:
    return [[path for path in read.files(".parquet") if path.name.startswith("part")] for read in reads]


def test_later_steps_take_a_sub_domain_for_a_read(tmp_path):
    split = Split(tmp_path, pool(), by="field", name="topic")
    for step in (IdentifyStep(split.corpus), ExactStep(split.corpus)):
        assert sum(task["rows"] for task in split.engine.run(step).tasks) == 60
    metrics = [MetricsStep(output, LanguageConfig(), model_digest(model_path(None))) for output in split.outputs]
    domains = [task["domain"] for output in split.engine.run_all(metrics) for task in output.tasks]
    assert set(domains) == {"pool/food", "pool/travel", "pool/cars"}


def test_quality_buckets_are_of_equal_size_or_between_given_bounds(tmp_path):
    records = [{"id": i, "text": sentence(i, 5 + i), "likes": 0} for i in range(40)]
    by_quantile = Split(tmp_path / "a", records, by="quality", attribute="num_words", quantiles=4)
    assert by_quantile.sizes == {f"pool/q{i}": 10 for i in (1, 2, 3, 4)} or max(by_quantile.sizes.values()) <= 12
    by_bound = Split(tmp_path / "b", records, by="quality", attribute="num_words", bounds=[10, 20])
    assert {d: sorted({len(t.split()) for t in ts})[0] for d, ts in by_bound.texts.items()} == {
        "pool/q1": 5, "pool/q2": 10, "pool/q3": 20,
    }  # fmt: skip


def test_an_attribute_that_is_not_measured_is_named(tmp_path):
    with pytest.raises(RedoneError, match=r"split\.attribute: 'num_wordz' is not measured"):
        Split(tmp_path, pool(3), by="quality", attribute="num_wordz", bounds=[1])


def test_a_classifier_gives_the_domains_and_unsure_documents_are_other(tmp_path):
    import fasttext

    train = tmp_path / "train.txt"
    train.write_text("".join(f"__label__{r['topic']} {r['text']}\n" for r in pool(300)), encoding="utf-8")
    model = fasttext.train_supervised(str(train), epoch=25, lr=0.5, dim=16, thread=1, verbose=0, minCount=1)
    path = tmp_path / "topics.bin"
    model.save_model(str(path))
    records = pool()
    split = Split(tmp_path / "a", records, by="label", model=str(path))
    assert split.texts["pool/cars"] == sorted(r["text"] for r in records if r["topic"] == "cars")
    strict = Split(tmp_path / "b", [{"id": 1, "text": "noodles"}], by="label", model=str(path), min_confidence=1.0)
    assert set(strict.sizes) <= {"pool/other", "pool/food"}


def test_clusters_find_the_topics_of_a_mixed_pool(tmp_path):
    records = pool(600)
    split = Split(tmp_path, records, by="clusters", clusters=3, sample=400)
    assert topics_found(split, records) == [{"cars"}, {"food"}, {"travel"}]


def topics_found(split: Split, records: Sequence[dict[str, Any]]) -> list[set[str]]:
    topic_of = {record["text"]: record["topic"] for record in records}
    return sorted(({topic_of[text] for text in texts} for texts in split.texts.values()), key=sorted)


def test_clusters_of_given_vectors_are_those_of_their_directions(tmp_path):
    records = vectors(pool(600))
    split = Split(tmp_path, records[::2], records[1::2], by="embeddings", clusters=3, sample=400)
    assert topics_found(split, records) == [{"cars"}, {"food"}, {"travel"}]


def test_a_document_without_a_vector_has_no_cluster_and_stays(tmp_path):
    lacking = [{"id": "a", "text": "no vector"}, {"id": "b", "text": "null", "vector": None}]
    lacking += [{"id": "c", "text": "zeros", "vector": [0, 0, 0, 0]}]
    split = Split(tmp_path, [*vectors(pool(30)), *lacking], by="embeddings", clusters=3)
    assert split.texts["pool/other"] == ["no vector", "null", "zeros"]


def test_who_is_together_does_not_depend_on_the_lengths_of_vectors_or_the_order_of_records(tmp_path):
    records = vectors(pool(90))
    longer = [{**record, "vector": [8 * number for number in record["vector"]]} for record in records[::-1]]
    ways = [Split(tmp_path / str(i), rows, by="embeddings", clusters=3) for i, rows in enumerate([records, longer])]
    assert sorted(ways[0].texts.values()) == sorted(ways[1].texts.values())


def test_no_vectors_at_all_is_said(tmp_path):
    with pytest.raises(RedoneError, match="clusters: 3; there are only 0 documents"):
        Split(tmp_path, pool(9), by="embeddings", clusters=3)


def test_a_second_run_over_vectors_writes_the_same_bytes(tmp_path):
    records = vectors(pool(60))
    runs = [Split(tmp_path / name, records, by="embeddings", clusters=3) for name in ("first", "again")]
    assert runs[0].reads[0].manifest == runs[1].reads[0].manifest
    assert [output.manifest for output in runs[0].outputs] == [output.manifest for output in runs[1].outputs]


def test_a_recipe_that_splits_by_vectors_it_does_not_have_is_refused(tmp_path):
    source = {"paths": ["a.jsonl"]}
    values = {"sources": [source], "split": {"by": "embeddings"}}
    with pytest.raises(RedoneError, match=r"fields\.embedding in every source"):
        read_config(DomainConfig, values, where="recipe.yaml", path="domains.pool")
    both = [{**source, "fields": {"embedding": {"name": "v", "dimensions": size}}} for size in (3, 4)]
    with pytest.raises(RedoneError, match="of the same dimensions"):
        read_config(DomainConfig, {**values, "sources": both}, where="recipe.yaml", path="domains.pool")
    threads = {**values, "sources": both[:1], "interactions": {}}
    with pytest.raises(RedoneError, match="no one vector"):
        read_config(DomainConfig, threads, where="recipe.yaml", path="domains.pool")


def test_a_text_without_words_has_no_cluster(tmp_path):
    records = [*pool(30), {"id": "x", "text": "!!! ... 123"}]
    assert Split(tmp_path, records, by="clusters", clusters=2).sizes["pool/other"] == 1


def test_a_second_run_writes_the_same_bytes(tmp_path):
    first, again = (
        Split(tmp_path / name, pool(200), by="clusters", clusters=3, sample=100) for name in ("first", "again")
    )
    assert [output.manifest for output in first.outputs] == [output.manifest for output in again.outputs]


def test_clusters_do_not_depend_on_the_order_of_records(tmp_path):
    records = pool(200)
    ways = [Split(tmp_path / str(i), rows, by="field", name="topic") for i, rows in enumerate([records, records[::-1]])]
    assert ways[0].texts == ways[1].texts
    model = ClusterModel.fit(pa.array([r["text"] for r in records], pa.large_string()), 3, seed=1)
    texts = pa.array([r["text"] for r in records[::-1]], pa.large_string())
    assert model.assign(texts).tolist() == model.assign(texts.take(pa.array(range(199, -1, -1)))).tolist()[::-1]


def test_fewer_documents_than_clusters_is_said(tmp_path):
    with pytest.raises(RedoneError, match="clusters: 16; there are only 3 documents"):
        Split(tmp_path, pool(3), by="clusters")


def test_a_value_that_no_folder_could_have_becomes_a_name_that_one_can():
    names = choose_names("pool", [{'a, "b"': 3, "x" * 500: 2, "../up": 1}], SplitConfig("field", "topic"))
    assert names['a, "b"'] == "pool/a_ _b_"
    assert len(names["x" * 500]) < 60
    assert names["../up"] == "pool/../up"  # a folder's name is quoted (corpus.folder_of)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "field"}, "by: field needs name"),
        ({"by": "label"}, "by: label needs model"),
        ({"by": "quality"}, "by: quality needs attribute"),
        ({"by": "quality", "attribute": "num_words", "bounds": [2, 1]}, "must increase"),
        ({"by": "clusters", "clusters": 1}, "clusters: 1"),
        ({"by": "clusters", "rename": {"c00": "food"}}, "no names to change"),
        ({"by": "topic"}, "not allowed"),
    ],
)
def test_impossible_splits_are_refused(values, message):
    with pytest.raises(RedoneError, match=message):
        read_config(SplitConfig, values, where="recipe.yaml", path="domains.pool.split")


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(RedoneError, match=r"split\.model: .*nowhere\.bin is not a file"):
        Split(tmp_path, pool(3), by="label", model=str(tmp_path / "nowhere.bin"))
