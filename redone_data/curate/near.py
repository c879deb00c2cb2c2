"""Near-duplicates by MinHash LSH over word 3-grams, every candidate verified by its exact Jaccard similarity.

25 bands x 5 rows find .95 of planted near-duplicates of short posts at precision .97-.99 where word 5-grams in 14 x 8
bands find .83 (docs/curation.md). Three steps: band keys by part; candidate pairs by range of band keys; verification
by range of pairs. Cost is linear in documents, but each verification task reads the parts its pairs lie in.
What comes out are verified pairs; which document of a pair stays is decided later, among those that pass the rules
(curate/resolve.py), so a changed threshold of a rule recomputes none of this.

Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3 (banding).
"""

from dataclasses import dataclass, field

from redone_data.errors import RedoneError


@dataclass(frozen=True)
class NearConfig:
    """Near-duplicate settings."""

    enabled: bool = field(default=True, metadata={"help": "without it only equal texts count as duplicates"})
    ngram: int = field(default=3, metadata={"help": "words per shingle"})
    bands: int = 16
    rows: int = field(default=4, metadata={"help": "MinHash values per band"})
    threshold: float = field(
        default=0.55, metadata={"help": "Jaccard similarity of shingles from which two are duplicates"}
    )

    def __post_init__(self) -> None:
        if min(self.ngram, self.bands, self.rows) < 1:
            raise RedoneError("ngram, bands and rows must be at least 1")
        if not 0 < self.threshold <= 1:
            raise RedoneError(f"threshold: {self.threshold}; above 0 and at most 1")
