"""Near-duplicates by MinHash LSH over word 2-grams, every candidate verified by its exact similarity of characters.

24 bands x 4 rows find .997 of planted near-duplicates of short posts, every kind of edit in either language above .97;
what is reported has a Jaccard similarity of character 5-grams of at least the threshold, so precision by that measure
is 1 (docs/curation/duplicates.md; word 5-grams in 14 x 8 bands find .81). The steps: band keys (bands.py), candidate
pairs (candidates.py), verification by an out-of-core join (verify.py, likeness.py); who stays is decided last, among
those that pass the rules (resolve.py), so a changed threshold of a rule recomputes none of the others. duplicates.py
runs them.

Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3 (banding).
"""

from dataclasses import dataclass, field

from redone_data.errors import RedoneError


@dataclass(frozen=True)
class NearConfig:
    """Near-duplicate settings."""

    enabled: bool = field(default=True, metadata={"help": "without it only equal texts count as duplicates"})
    ngram: int = field(default=2, metadata={"help": "words per shingle of the LSH, which finds candidates"})
    bands: int = field(default=24, metadata={"help": "bands of the LSH; more find more, and cost more"})
    rows: int = field(default=4, metadata={"help": "MinHash values per band"})
    threshold: float = field(
        default=0.5,
        metadata={"help": "Jaccard similarity of the character 5-grams of their letters from which two are duplicates"},
    )

    def __post_init__(self) -> None:
        if min(self.ngram, self.bands, self.rows) < 1:
            raise RedoneError("ngram, bands and rows must be at least 1")
        if not 0 < self.threshold <= 1:
            raise RedoneError(f"threshold: {self.threshold}; above 0 and at most 1")
