"""Vectors that records came with: what is no vector is told with its place, and a good one keeps its direction."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation import batches, curate

from redone_data.curate.sources import EmbeddingConfig, FieldsConfig, SourceConfig
from redone_data.errors import RedoneError

GOOD = [3.0, 0.0, -4.0]
UNIT = [0.6, 0.0, -0.8]
WRONG = {
    "has 2 numbers where fields.embedding.dimensions is 3": [1.0, 2.0],
    "holds a number that is not finite": [1.0, math.inf, 0.0],
}


def source(name: str, path: str = "vector") -> SourceConfig:
    return SourceConfig((name,), fields=FieldsConfig(id="id", embedding=EmbeddingConfig(path, 3)))


def read_vectors(config: SourceConfig, folder) -> tuple[dict[str, list[float] | None], list[tuple[int, str]]]:
    found, bad = {}, []
    for records in batches(config, folder):
        for row in records.table.to_pylist():
            packed = row["embedding"]
            vector = None if packed is None else np.frombuffer(packed, np.float16).astype(float).round(3).tolist()
            found[row["native_id"]] = vector
        bad += records.bad
    return found, bad


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16())])
def test_parquet_lists_are_vectors_and_a_bad_one_is_told_with_its_row(tmp_path, kind):
    vectors = pa.array([GOOD, None, *WRONG.values(), [0.0, None, 1.0]], kind)
    pq.write_table(pa.table({"id": list("abcde"), "text": ["post"] * 5, "vector": vectors}), tmp_path / "a.parquet")
    found, bad = read_vectors(source("a.parquet"), tmp_path)
    assert found == {"a": UNIT, "b": None}
    assert [place for place, _ in bad] == [3, 4, 5]
    assert all(reason in told for (_, told), reason in zip(bad, [*WRONG, list(WRONG)[1]], strict=True))


def test_fixed_size_lists_inside_a_struct_are_vectors(tmp_path):
    rows = [{"vector": GOOD}, {"vector": None}]
    struct = pa.array(rows, pa.struct([("vector", pa.list_(pa.float32(), 3))]))
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x", "y"], "meta": struct}), tmp_path / "a.parquet")
    assert read_vectors(source("a.parquet", "meta.vector"), tmp_path) == ({"a": UNIT, "b": None}, [])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"vector": ["1 2 3"]}, "column 'vector' holds string, which cannot be the embedding"),
        ({}, "there is no column 'vector'; put the name of your embedding column under fields.embedding"),
    ],
)
def test_a_column_that_holds_no_vectors_stops_the_run_with_its_name(tmp_path, column, message):
    pq.write_table(pa.table({"id": ["a"], "text": ["post"], **column}), tmp_path / "a.parquet")
    with pytest.raises(RedoneError, match=message):
        read_vectors(source("a.parquet"), tmp_path)


def test_json_lists_are_vectors_and_a_bad_one_is_told_with_its_line(tmp_path):
    values = [GOOD, None, [1, 2], "abc", [1, None, 2], [[1, 2, 3]], {"x": 1}, [10**400, 0, 0], [0, 0, 5]]
    lines = [json.dumps({"id": f"{i}", "text": "post", "vector": value}) for i, value in enumerate(values)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"id": "9", "text": "post"}']), encoding="utf-8")
    found, bad = read_vectors(source("a.jsonl"), tmp_path)
    assert found == {"0": UNIT, "1": None, "8": [0.0, 0.0, 1.0], "9": None}
    assert {place: reason.removeprefix("field 'vector' (embedding) ")[:8] for place, reason in bad} == {
        3: "has 2 nu", 4: "is not a", 5: "holds a ", 6: "is not a", 7: "is not a", 8: "not vali",
    }  # fmt: skip


def test_huge_and_tiny_vectors_keep_their_direction(tmp_path):
    rows = [[1e30, 0, 1e30], [1e-30, 0, 1e-30]]
    lines = [json.dumps({"id": f"{i}", "text": "post", "vector": row}) for i, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found, _ = read_vectors(source("a.jsonl"), tmp_path)
    assert found == {"0": [0.707, 0.0, 0.707], "1": [0.707, 0.0, 0.707]}


def test_a_recipe_makes_domains_of_vectors_and_mixes_them(tmp_path):
    direction = {0: [1, 0], 1: [0, 1]}
    posts = [{"id": i, "text": f"post number {i} of many", "vector": direction[i % 2]} for i in range(20)]
    fields = {"id": "id", "embedding": {"name": "vector", "dimensions": 2}}
    pool = {"split": {"by": "embeddings", "clusters": 2}, "sources": [{"paths": ["run-0.jsonl"], "fields": fields}]}
    made = curate(tmp_path, {"pool": posts}, domains={"pool": pool}, curate={"deduplicate": False})
    domains = {row["text"]: row["domain"] for row in made.kept.values()}
    assert len(domains) == 20
    assert {len({domains[f"post number {i} of many"] for i in range(start, 20, 2)}) for start in (0, 1)} == {1}
    assert set(domains.values()) == {"pool/c00", "pool/c01"}
