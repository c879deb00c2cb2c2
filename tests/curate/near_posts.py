"""Corpora of posts for the tests of near-duplicates, and the steps from texts to who stays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from redone_data.corpus import CORPUS_SCHEMA, Corpus, Part
from redone_data.curate.duplicates import NearDuplicates, find_near_duplicates, resolve_duplicates
from redone_data.curate.groups import ExactStep
from redone_data.curate.index import Index
from redone_data.curate.near import NearConfig
from redone_data.curate.parts import write_part
from redone_data.curate.resolve import duplicates_of_part
from redone_data.curate.standing import DuplicatesConfig, StandingStep
from redone_data.engine import Engine, Output
from redone_data.text.folding import folded
from redone_data.text.hashing import hash128, to_hex

# Small and sensitive: what shares a word run or two is compared.
NEAR = NearConfig(ngram=2, bands=20, rows=2, threshold=0.5)
WORDS = "tea cup sun sea fox jam ink oak ash elm ivy bay".split()  # noqa: SIM905


@dataclass(frozen=True)
class Post:
    """A document with what decides who stays."""

    id: str
    text: str
    likes: float | None = None
    created_at: int | None = None


def ids_of(posts: Sequence[Post]) -> list[str]:
    """The ids of posts, as a corpus has them."""
    found: list[str] = to_hex(*hash128(pa.array([post.id for post in posts], pa.large_string()))).to_pylist()
    return found


def corpus_of(folder: Path, parts: Sequence[tuple[str, Sequence[Post]]]) -> Corpus:
    """A corpus of (domain, posts) parts, in this order, as `read` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    made, offset = [], 0
    for index, (domain, posts) in enumerate(parts):
        path = folder / f"part-{index}.parquet"
        ids, texts = (pa.array([getattr(p, name) for p in posts], pa.large_string()) for name in ("id", "text"))
        key_hi, key_lo = hash128(ids)
        text_hi, text_lo = hash128(texts)
        columns: dict[str, Any] = {"key_hi": key_hi, "key_lo": key_lo, "text_hi": text_hi, "text_lo": text_lo}
        columns |= {"text": texts, "domain": [domain] * len(posts), "source": [domain] * len(posts)}
        columns |= {"created_at": [p.created_at for p in posts], "engagement": [p.likes for p in posts]}
        columns |= dict.fromkeys(("meta", "native_id"), pa.nulls(len(posts), pa.large_string()))
        typed = {name: pa.array(columns[name], CORPUS_SCHEMA.field(name).type) for name in columns}
        write_part(folder, path.stem, typed, named=True)
        made.append(Part(index, path, domain, domain, len(posts), offset, 0, True))
        offset += len(posts)
    return Corpus(tuple(made), {folder.name: str(folder)})


@dataclass(frozen=True)
class Deduplicated:
    """What was dropped, and what is left."""

    corpus: Corpus
    engine: Engine
    exact: Output
    standing: Output
    near: NearDuplicates
    resolved: Output

    @cached_property
    def dropped(self) -> dict[str, dict[str, Any]]:
        """Id -> rule, similarity, duplicate_of."""
        found = {}
        for part in self.corpus.parts:
            table = part.read(["key_hi", "key_lo"])
            ids = to_hex(table["key_hi"].to_numpy(), table["key_lo"].to_numpy()).to_pylist()
            for row in duplicates_of_part(self.resolved, part.index).to_pylist():
                found[ids[row["row"] - part.offset]] = row
        return found


def deduplicate(
    folder: Path,
    parts: Sequence[tuple[str, Sequence[Post]]],
    *,
    near: NearConfig = NEAR,
    duplicates: DuplicatesConfig | None = None,
    priorities: Mapping[str, int] | None = None,
    index: Index | None = None,
) -> Deduplicated:
    """Run every step on these parts."""
    corpus, engine = corpus_of(folder / "corpus", parts), Engine(folder / "run")
    exact = engine.run(ExactStep(corpus))
    standing = engine.run(StandingStep(corpus, duplicates or DuplicatesConfig()))
    found = find_near_duplicates(engine, corpus, exact, standing, near, index)
    order = {domain: 0 for domain, _ in parts} | dict(priorities or {})
    resolved = resolve_duplicates(
        engine, corpus, exact, standing, found, judged=None, ids=None, priorities=order, index=index
    )
    return Deduplicated(corpus, engine, exact, standing, found, resolved)


def grams(text: str) -> set[str]:
    """Character 5-grams of the folded letters, by Python."""
    _, data = folded(pa.array([text], pa.large_string()), np.array([True]))
    letters = bytes(data).decode()
    return {letters[i : i + 5] for i in range(max(1, len(letters) - 4))} - {""}


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of two texts' grams."""
    left, right = grams(a), grams(b)
    return len(left & right) / len(left | right) if left | right else 0.0


@st.composite
def posts(draw: Any, prefix: str = "p", max_size: int = 30) -> list[Post]:
    """Posts of few words, many of them copies of others with a word or two changed; some empty."""
    texts: list[list[str]] = []
    for _ in range(draw(st.integers(1, max_size))):
        if texts and draw(st.integers(0, 2)):
            text = list(draw(st.sampled_from(texts)))
            for _ in range(draw(st.integers(0, 2))):
                if text:
                    text[draw(st.integers(0, len(text) - 1))] = draw(st.sampled_from(WORDS))
        else:
            text = draw(st.lists(st.sampled_from(WORDS), max_size=12))
        texts.append(text)
    likes = st.one_of(st.none(), st.integers(0, 3))
    return [Post(f"{prefix}{i}", " ".join(text), draw(likes)) for i, text in enumerate(texts)]
