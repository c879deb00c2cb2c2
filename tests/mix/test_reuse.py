from pathlib import Path

import polars as pl
import pytest

from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, write_json
from redone_data.mix.reuse import EarlierRun, Today

WIKI = pl.DataFrame({"id": ["a", "b", "c", "d"], "num_tokens": [3, 4, 5, 6], "num_bytes": [9, 9, 9, 9]})
NOTES = pl.DataFrame({"id": ["x", "y"], "num_tokens": [30, 70], "num_bytes": [90, 210]})


def splits(train: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {"train": train, "validation": train.head(1)}


def described(**limits: int | None) -> dict[str, object]:
    return {"domains": {name: {"train_limit_tokens": limit} for name, limit in limits.items()}}


def today(**domains: pl.DataFrame) -> Today:
    tokens = {name: int(frame["num_tokens"].sum()) for name, frame in domains.items()}
    return Today(
        tokens,
        {name: round(count / 2) for name, count in tokens.items()},
        {name: splits(frame) for name, frame in domains.items()},
    )


EARLIER = {"wiki": splits(WIKI), "notes": splits(NOTES)}


def test_a_domain_with_the_same_documents_in_another_order_holds() -> None:
    now = today(wiki=WIKI.reverse(), notes=NOTES)
    assert now.match(EARLIER, described(wiki=9, notes=50)) == ({"wiki": ["wiki"], "notes": ["notes"]}, {})
    assert now.measures_the_same("notes", EARLIER)


def test_a_split_domain_holds_where_its_parts_have_its_documents() -> None:
    now = today(**{"wiki/en": WIKI[:1], "wiki/fr": WIKI[1:], "notes": NOTES})
    parts, reasons = now.match(EARLIER, described(wiki=9, notes=50))
    assert (parts["wiki"], reasons) == (["wiki/en", "wiki/fr"], {})
    assert not now.measures_the_same("wiki/en", EARLIER)
    lost = today(**{"wiki/en": WIKI[:1], "wiki/fr": WIKI[2:], "notes": NOTES})
    assert lost.match(EARLIER, described(wiki=9, notes=50))[1] == {"wiki": "the documents of 'wiki' differ"}


def test_a_document_that_grew_a_domain_that_went_and_another_repetition_are_told_apart() -> None:
    grown = WIKI.with_columns(pl.when(pl.col("id") == "a").then(10).otherwise(pl.col("num_bytes")).alias("num_bytes"))
    assert today(wiki=grown, notes=NOTES).match(EARLIER, described(wiki=9, notes=50))[1] == {
        "wiki": "the documents of 'wiki' differ"
    }
    assert today(wiki=WIKI).match(EARLIER, described(wiki=9, notes=50))[1] == {
        "notes": "it has 'notes' in its mixture, which is no domain of this recipe"
    }
    same = today(wiki=WIKI, notes=NOTES)
    assert (
        "'notes' was seen from 60 tokens, now it is from 50"
        in same.match(EARLIER, described(wiki=9, notes=60))[1]["notes"]
    )
    assert "from all tokens" in same.match(EARLIER, described(wiki=9, notes=None))[1]["notes"]


def test_held_out_documents_that_changed_take_the_metric_away() -> None:
    now = today(wiki=WIKI, notes=NOTES)
    changed = {**EARLIER, "notes": {"train": NOTES, "validation": NOTES.tail(1)}}
    assert now.measures_the_same("wiki", changed)
    assert not now.measures_the_same("notes", changed)
    assert not now.measures_the_same("elsewhere", changed)


def test_names_in_an_earlier_manifest_that_are_not_steps_are_not_followed(tmp_path: Path) -> None:
    names = ["swarm-0123456789ab", "../swarm-0123456789ab", "round-1-0123456789ab", "pool-0123456789ab", "pool-../x"]
    write_json(tmp_path / MANIFEST, {"steps": dict.fromkeys(names, "f")})
    earlier = EarlierRun.open(tmp_path, "earlier")
    assert list(earlier.steps) == ["pool-0123456789ab", "round-1-0123456789ab", "swarm-0123456789ab"]
    write_json(tmp_path / MANIFEST, ["steps"])
    with pytest.raises(RedoneError, match="'steps' is not what redone-data writes there"):
        EarlierRun.open(tmp_path, "earlier")
