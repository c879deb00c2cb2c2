"""A corpus read from posts, for steps that are run by themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation import write_jsonl

from redone_data.corpus import Corpus
from redone_data.curate.groups import ExactStep
from redone_data.curate.read import ReadConfig, ReadStep
from redone_data.curate.sources import DigestCache, FieldsConfig, SourceConfig, resolve_inputs
from redone_data.engine import Engine, Output

Posts = Sequence[Mapping[str, Any] | str]


def read_posts(engine: Engine, folder: Path, domains: Mapping[str, Posts], **read: Any) -> list[Output]:
    """The read steps of posts by domain; a post is its text, or a record with ``id``, ``text`` and ``likes``."""
    outputs = []
    for name, posts in domains.items():
        records = [{"id": f"{name}{i}", "text": p} if isinstance(p, str) else dict(p) for i, p in enumerate(posts)]
        write_jsonl(folder / f"{name}.jsonl", records)
        source = SourceConfig((f"{name}.jsonl",), fields=FieldsConfig(id="id", engagement=("likes",)))
        files = tuple(resolve_inputs(source, folder, "test", DigestCache()))
        outputs.append(engine.run(ReadStep(name, source, ReadConfig(**read), files)))
    return outputs


def corpus_of(engine: Engine, folder: Path, domains: Mapping[str, Posts], **read: Any) -> tuple[Corpus, Output]:
    """A corpus, and the groups of equal texts in it."""
    corpus = Corpus.of(read_posts(engine, folder, domains, **read))
    return corpus, engine.run(ExactStep(corpus))
