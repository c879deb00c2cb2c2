from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from tiny_corpus import DOCUMENTS, Made, document_id, make
from tokenizers import Tokenizer, models

from redone_data.engine import Engine, ExecutorConfig, Output
from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST
from redone_data.tokens import part as part_module
from redone_data.tokens import pool as pool_module
from redone_data.tokens.pool import PoolStep, pools, token_dtype
from redone_data.tokens.tokenizer import TokenizerConfig, TokenizerStep, tokenizer_of


def test_every_document_is_in_its_split_once_with_its_own_tokens(made: Made) -> None:
    tokenizer, eos = tokenizer_of(made.tokenizer), made.tokenizer.statistics["eos_token_id"]
    for domain, pool in pools(made.pool).items():
        texts = {document_id(domain, row): text for row, text in enumerate(DOCUMENTS[domain])}
        seen: list[str] = []
        for split, files in (("train", pool.train), ("validation", pool.validation)):
            for file in files:
                tokens, ends = np.fromfile(file.ds, "<u2"), np.fromfile(file.index, "<u8").astype(int)
                spans = pl.read_parquet(file.spans)
                assert spans["num_tokens"].to_list() == np.diff(ends, prepend=0).tolist()
                assert (file.documents, file.tokens, file.bytes) == (len(ends), len(tokens), spans["num_bytes"].sum())
                for row, end in zip(spans.iter_rows(named=True), ends, strict=True):
                    document = tokens[end - row["num_tokens"] : end]
                    text = texts[row["id"]]
                    expected = tokenizer.encode(text, add_special_tokens=False).ids
                    assert document.tolist() == [*expected, eos]
                    assert row["num_bytes"] == len(text.encode())
                numbers = [int(row["id"], 16) for row in spans.iter_rows(named=True)]
                held_out = {int(document_id(domain, row), 16) for row in range(7, len(texts), 8)}
                assert all((number in held_out) == (split == "validation") for number in numbers)
                seen += spans["id"].to_list()
        assert sorted(seen) == sorted(texts)


def test_totals_by_domain_and_language_add_up(made: Made) -> None:
    for domain, pool in pools(made.pool).items():
        of_domain = made.pool.statistics["domains"][domain]["train"]
        assert of_domain == {"documents": pool.documents, "tokens": pool.tokens, "bytes": pool.bytes}
    for task in made.pool.tasks:
        for split in ("train", "validation"):
            langs = task["langs"][split].values()
            assert {name: sum(lang[name] for lang in langs) for name in task[split]} == task[split]
    assert set(made.pool.tasks[0]["langs"]["train"]) == {"en", "und", "zh"}


def test_order_of_parts_and_number_of_workers_change_nothing(
    tmp_path: Path, made: Made, digests: Callable[[Output], dict[str, str]]
) -> None:
    turned = make(tmp_path, DOCUMENTS, reverse=True)
    assert turned.pool.folder.name == made.pool.folder.name
    assert digests(turned.pool) == digests(made.pool)
    engine = Engine(tmp_path / "two", ExecutorConfig(workers=2))
    assert digests(engine.run(PoolStep(made.parts[::-1], made.tokenizer))) == digests(made.pool)


def test_batches_do_not_show_in_the_output(
    tmp_path: Path, made: Made, digests: Callable[[Output], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "_MAX_ROWS", 7)
    monkeypatch.setattr(pool_module, "_ENCODE_BYTES", 50)
    small = Engine(tmp_path).run(PoolStep(made.parts, made.tokenizer))
    shown = {name: digest for name, digest in digests(small).items() if ".ds" in name}
    assert shown == {name: digest for name, digest in digests(made.pool).items() if ".ds" in name}
    for name in [name for name in digests(small) if name.endswith(".parquet")]:
        assert pl.read_parquet(small.folder / name).equals(pl.read_parquet(made.pool.folder / name))


def test_a_killed_run_resumes_to_the_same_bytes(
    tmp_path: Path, digests: Callable[[Output], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(tmp_path, DOCUMENTS)
    before = digests(whole.pool)
    folder = whole.pool.folder
    (folder / MANIFEST).unlink()
    next(folder.glob("*.ds")).unlink()
    (folder / ".pool-00000-train.ds.tmp-1").write_bytes(b"half")
    assert digests(whole.engine.run(PoolStep(whole.parts, whole.tokenizer))) == before
    assert not list(folder.glob(".*"))


def test_tokens_take_two_bytes_up_to_65536_and_four_beyond() -> None:
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32


def test_a_tokenizer_that_loses_text_is_noted_not_refused(tmp_path: Path, made: Made) -> None:
    vocabulary = {"<unk>": 0, "the": 1, "<end>": 70_000}
    lossy = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    lossy.add_special_tokens(["<end>"])
    lossy.save(str(tmp_path / "tokenizer.json"))
    config = TokenizerConfig(path=str(tmp_path), eos="<end>")
    engine = Engine(tmp_path)
    tokenizer = engine.run(TokenizerStep((), config, 1))
    output = engine.run(PoolStep(made.parts, tokenizer))
    assert made.pool.statistics["roundtrip"] is True
    assert output.statistics["roundtrip"] is False
    assert output.statistics["token_bytes"] == 4
    file = pools(output)["wiki"].train[0]
    assert np.fromfile(file.ds, "<u4")[-1] == 70_000


def test_a_strange_split_is_refused(tmp_path: Path) -> None:
    good = make(tmp_path, {"wiki": DOCUMENTS["wiki"]}, parts=1)
    table = pq.read_table(good.parts[0].path)
    column = table.column_names.index("split")
    pq.write_table(table.set_column(column, "split", [["test"] * table.num_rows]), good.parts[0].path)
    with pytest.raises(RedoneError, match="a split other than"):
        Engine(tmp_path / "again").run(PoolStep(good.parts, good.tokenizer))
