"""Near-duplicates by MinHash LSH over word 3-grams, every candidate verified by its exact Jaccard similarity.

16 bands x 4 rows and a threshold of .55 find .977 of planted near-duplicates of short posts at precision .98, where
word 5-grams in 14 x 8 bands find .80 (docs/curation.md). The steps: band keys (bands.py), candidate pairs
(candidates.py), verification by an out-of-core join (verify.py); who stays is decided last, among those that pass the
rules (resolve.py), so a changed threshold of a rule recomputes none of the others. duplicates.py runs them.

Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3 (banding).
"""

from dataclasses import dataclass, field

from redone_data.errors import RedoneError


@dataclass(frozen=True)
class NearConfig:
    """Near-duplicate settings."""

    enabled: bool = field(default=True, metadata={"help": "without it only equal texts count as duplicates"})
    ngram: int = field(default=3, metadata={"help": "words per shingle"})
    bands: int = field(default=16, metadata={"help": "bands of the LSH; more find more, and cost more"})
    rows: int = field(default=4, metadata={"help": "MinHash values per band"})
    threshold: float = field(
        default=0.55, metadata={"help": "Jaccard similarity of shingles from which two are duplicates"}
    )

    def __post_init__(self) -> None:
        if min(self.ngram, self.bands, self.rows) < 1:
            raise RedoneError("ngram, bands and rows must be at least 1")
        if not 0 < self.threshold <= 1:
            raise RedoneError(f"threshold: {self.threshold}; above 0 and at most 1")
