import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import DOCUMENTS, Made, document_id

from redone_data.errors import RedoneError
from redone_data.mixture import Mixture
from redone_data.tokens.dataset import TokenDataset
from redone_data.tokens.sample import SampleConfig, sample
from redone_data.tokens.write import write_dataset

Write = Callable[[Path], TokenDataset]


@pytest.fixture(scope="session")
def write(made: Made) -> Write:
    mixture = Mixture.of({"chat": 0.4, "wiki": 0.6})
    drawn = sample(made.engine, made.pool, mixture, SampleConfig(12_000, 3_000), seed=9)

    def write_into(folder: Path) -> TokenDataset:
        dataset = write_dataset(folder, drawn, made.tokenizer)
        for path in folder.iterdir():  # tests damage files; hard links would damage the step's
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        return dataset

    return write_into


@pytest.fixture(scope="session")
def dataset(write: Write, tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    return write(tmp_path_factory.mktemp("dataset"))


def test_manifest_says_how_the_dataset_came_to_be(dataset: TokenDataset, made: Made) -> None:
    manifest = dataset.manifest
    assert manifest["schema_version"] == 1
    assert manifest["tokenizer"]["sha256"] == made.tokenizer.statistics["sha256"]
    assert (manifest["seed"], manifest["budget"], manifest["token_bytes"]) == (9, 12_000, 2)
    assert manifest["weights"] == {"chat": 0.4, "notes/旅行": 0.0, "wiki": 0.6}
    assert manifest["epochs"]["notes/旅行"] == 0
    for counts in (manifest["domains"], manifest["langs"]):
        for name in ("documents", "tokens", "bytes"):
            assert sum(count[name] for count in counts.values()) == manifest[name]
    spans = dataset.spans().collect()
    assert spans["num_bytes"].sum() == manifest["bytes"]
    assert (dataset.vocab_size, dataset.eos_token_id) == (320, made.tokenizer.statistics["eos_token_id"])


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_window_equals_the_concatenated_documents(dataset: TokenDataset, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, dataset.num_tokens))
    stop = data.draw(st.integers(start, dataset.num_tokens))
    whole = np.concatenate([np.fromfile(path, "<u2") for path in sorted(dataset.folder.glob("*.ds"))])
    assert np.array_equal(dataset.tokens(start, stop), whole[start:stop])
    ends = np.flatnonzero(whole == dataset.eos_token_id) + 1
    assert dataset.document_ends(start, stop).tolist() == ends[(ends > start) & (ends <= stop)].tolist()


def test_documents_lie_end_to_end(dataset: TokenDataset) -> None:
    spans = [dataset.document_span(i) for i in range(dataset.num_documents)]
    assert spans[0][0] == 0
    assert spans[-1][1] == dataset.num_tokens
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    for outside in (-1, dataset.num_documents):
        with pytest.raises(IndexError):
            dataset.document(outside)
    with pytest.raises(IndexError):
        dataset.tokens(0, dataset.num_tokens + 1)


def test_find_returns_every_copy_of_a_document_and_decode_its_text(dataset: TokenDataset) -> None:
    wanted = document_id("chat", 3)
    found = dataset.find(wanted)
    assert found.height >= 2
    assert set(found["id"]) == {wanted}
    for row in found.iter_rows(named=True):
        tokens = dataset.tokens(row["start"], row["start"] + row["num_tokens"])
        assert dataset.decode(tokens) == DOCUMENTS["chat"][3]
    assert dataset.decode(tokens, keep_special=True) == DOCUMENTS["chat"][3] + "<|endoftext|>"
    assert dataset.find("0" * 32).is_empty()


def test_a_pickled_dataset_is_small_and_reads_the_same(dataset: TokenDataset) -> None:
    dataset.tokens(0, dataset.num_tokens)
    packed = pickle.dumps(dataset)
    assert len(packed) < 20_000
    assert np.array_equal(pickle.loads(packed).document(5), dataset.document(5))


def test_datatrove_reads_the_same_tokens(dataset: TokenDataset) -> None:
    pytest.importorskip("torch", reason="datatrove's dataset is a torch dataset")
    from datatrove.utils.dataset import DatatroveFolderDataset

    length = 64
    theirs = DatatroveFolderDataset(
        str(dataset.folder), seq_len=length - 1, token_size=2, recursive=False, return_positions=True
    )
    windows = [theirs[i] for i in range(len(theirs))]
    assert len(windows) > 100
    start = 0
    index = 0
    for shard in dataset.manifest["shards"]:
        for k in range(shard["tokens"] // length):
            here = start + k * length
            assert windows[index]["input_ids"].tolist() == dataset.tokens(here, here + length).tolist()
            index += 1
        start += shard["tokens"]
    assert index == len(windows)
    text = dataset.decode(windows[0]["input_ids"].numpy(), keep_special=True)
    first = dataset.decode(dataset.document(0), keep_special=True)
    assert text.startswith(first) or first.startswith(text)


def test_importing_the_dataset_loads_no_engine_no_compiler_and_no_trainer() -> None:
    heavy = {"torch", "numba", "datatrove", "tokenizers", "huggingface_hub", "redone_data.engine"}
    code = f"import sys, redone_data.tokens.dataset; print(sorted({heavy!r} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suffix", [".ds", ".ds.index", ".spans.parquet"])
def test_a_truncated_or_absent_file_is_named(tmp_path: Path, write: Write, suffix: str) -> None:
    write(tmp_path)
    path = tmp_path / f"00001{suffix}"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(RedoneError, match=rf"00001{suffix}: \d+ bytes, but manifest\.json says"):
        TokenDataset.open(tmp_path)
    path.unlink()
    with pytest.raises(RedoneError, match=rf"00001{suffix}: absent"):
        TokenDataset.open(tmp_path)


def test_an_index_that_contradicts_its_shard_is_named(tmp_path: Path, write: Write) -> None:
    write(tmp_path)
    path = tmp_path / "00000.ds.index"
    ends = np.fromfile(path, "<u8")
    ends[-1] += 1
    ends.tofile(path)
    with pytest.raises(RedoneError, match="documents end at token"):
        TokenDataset.open(tmp_path)


def test_counts_that_contradict_sizes_are_named(tmp_path: Path, write: Write) -> None:
    write(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["shards"][0]["documents"] += 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RedoneError, match=r"index: \d+ bytes, where its counts make"):
        TokenDataset.open(tmp_path)


def test_verify_finds_a_flipped_byte(tmp_path: Path, write: Write) -> None:
    dataset = write(tmp_path)
    dataset.verify()
    path = tmp_path / "00001.ds"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(RedoneError, match=r"00001\.ds: its content"):
        TokenDataset.open(tmp_path).verify()


def test_another_tokenizer_in_the_folder_is_refused(tmp_path: Path, write: Write) -> None:
    dataset = write(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RedoneError, match="not the tokenizer that made these tokens"):
        dataset.decode(dataset.document(0))


@pytest.mark.parametrize("version", [None, 2])
def test_an_unknown_schema_version_is_refused(tmp_path: Path, version: int | None) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": version}))
    with pytest.raises(RedoneError, match=f"schema_version {version}; this release reads 1"):
        TokenDataset.open(tmp_path)


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match="not a token dataset"):
        TokenDataset.open(tmp_path)


def test_writing_replaces_an_earlier_dataset_and_nothing_else(tmp_path: Path, made: Made, write: Write) -> None:
    write(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    smaller = sample(made.engine, made.pool, Mixture.of({"wiki": 1}), SampleConfig(2_000), seed=9)
    dataset = write_dataset(tmp_path, smaller, made.tokenizer)
    dataset.verify()
    assert [path.name for path in sorted(tmp_path.glob("*.ds"))] == ["00000.ds"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert dataset.spans().select(pl.len()).collect().item() == dataset.num_documents


def test_writing_over_a_stranger_is_refused(tmp_path: Path, made: Made) -> None:
    drawn = sample(made.engine, made.pool, Mixture.of({"wiki": 1}), SampleConfig(2_000), seed=9)
    with pytest.raises(RedoneError, match="choose another folder"):
        write_dataset(made.pool.folder, drawn, made.tokenizer)
    (tmp_path / "theirs.ds").write_bytes(b"xx")
    with pytest.raises(RedoneError, match=r"theirs\.ds: of no dataset known here"):
        write_dataset(tmp_path, drawn, made.tokenizer)
    assert made.pool.manifest["step"] == "pool"
