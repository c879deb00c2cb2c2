"""Which documents hold which known items: decontamination asked from the other side, after the training.

The items are indexed and the documents pass by once, so memory is the items' n-grams, one batch of documents and a few
documents an item, however large the training text. The rule is that of `redone-data decontaminate`
(curate/contamination.py): a document that holds more than `max_fraction` of a text of an item holds the item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from redone_data.curate.contamination import ContaminationConfig, EvaluationIndex, Passage, contamination, hit_table
from redone_data.text.normalize import normalize

KEPT = 5  # documents of an item that are listed; all are counted


@dataclass(frozen=True)
class Leak:
    """A document that holds an item. fraction: of the field's text; words: found of it; text: the longest run."""

    file: str
    document: str
    field: str
    fraction: float
    words: int
    text: str


@dataclass
class ItemLeaks:
    """The documents that hold one item: how many in each file, and those that hold most of it."""

    files: dict[str, int] = field(default_factory=dict)
    most: list[Leak] = field(default_factory=list)

    def add(self, leaks: Sequence[Leak]) -> None:
        """The fields of the item that one document holds."""
        self.files[leaks[0].file] = self.files.get(leaks[0].file, 0) + 1
        self.most = sorted([*self.most, *leaks], key=lambda leak: (-leak.fraction, leak.file, leak.document))[:KEPT]


class LeakSearch:
    """Items to look for, item -> field -> text, and what was found of them so far.

    A text that several items have is one: else what many are asked about would count as wording.
    """

    def __init__(self, items: Mapping[str, Mapping[str, str]], max_fraction: float | None = None) -> None:
        default = ContaminationConfig()
        bound = default.max_fraction if max_fraction is None else max_fraction
        self.config = ContaminationConfig(max_fraction=bound, report_from=bound)
        owners: dict[str, list[tuple[str, str]]] = {}
        for item, texts in items.items():
            for name, text in texts.items():
                owners.setdefault(text, []).append((item, name))
        self._owners = list(owners.values())
        self._index = EvaluationIndex.of([Passage(str(n), "", text) for n, text in enumerate(owners)], self.config)
        self.looked_for = {item for n in set(self._index.grams.passages.tolist()) for item, _ in self._owners[n]}
        self.found: dict[str, ItemLeaks] = {}

    def look(self, file: str, documents: Sequence[str], texts: Sequence[str]) -> None:
        """Look through some documents of a file: their ids and texts."""
        array = normalize(pa.array(texts, pa.large_string()))
        hits = contamination(array, self._index, self.config).hits
        names = pa.array([str(n) for n in range(len(documents))], pa.string())
        together: dict[tuple[str, str], list[Leak]] = {}
        for hit in hit_table(array, names, hits, self._index).to_pylist():
            if hit["fraction"] <= self.config.max_fraction:
                continue
            for item, name in self._owners[int(hit["item"])]:
                fraction, words = round(hit["fraction"], 4), hit["shared_words"]
                leak = Leak(file, documents[int(hit["id"])], name, fraction, words, hit["excerpt"])
                together.setdefault((item, hit["id"]), []).append(leak)
        for (item, _), leaks in together.items():
            self.found.setdefault(item, ItemLeaks()).add(leaks)

    @property
    def rule(self) -> str:
        """What counts as holding an item, in words."""
        settings = self.config
        return (
            f"a document that holds more than {100 * settings.max_fraction:g} % of one of the item's texts in "
            f"{settings.ngram}-grams of words (of a text over {settings.enough_words} words, of so many; texts under "
            f"{settings.min_words} words are not looked for; what more than {settings.max_items} items say is wording)"
        )
