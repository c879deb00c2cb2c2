"""Near-duplicate removal from end to end: the steps of exact and near duplicates, in their order.

| step | cost, MB/s a core (docs/curation.md) | in -> out |
|---|---|---|
| exact | hash groups | text hashes -> which documents share a text |
| near-bands | dominates | texts -> band keys, sliced by key |
| near-pairs | | keys -> candidate pairs, sliced by their first document |
| near-distinct, near-letters, near-verify | | pairs -> verified pairs |
| resolve | the only single task | verified pairs -> who stays |

With an index, the new documents are compared with its old ones too, which all stay.
"""

from dataclasses import dataclass

from redone_data.corpus import Corpus
from redone_data.curate.bands import BandKeysStep
from redone_data.curate.candidates import CandidatesStep
from redone_data.curate.index import Index
from redone_data.curate.index_segments import IndexTextsStep
from redone_data.curate.near import NearConfig
from redone_data.curate.resolve import ResolveStep
from redone_data.curate.verify import DistinctPairsStep, LettersStep, VerifyStep
from redone_data.engine import Engine, Output


@dataclass(frozen=True)
class NearDuplicates:
    """Verified pairs, what it took to find them, and which texts an index had already."""

    verified: Output
    candidates: Output
    bands: Output
    known: Output | None

    @property
    def candidates_per_document(self) -> float:
        """Distinct candidate pairs by document."""
        return float(self.verified.statistics["pairs"] / max(1, self.bands.statistics["documents"]))


def find_near_duplicates(
    engine: Engine, corpus: Corpus, exact: Output, standing: Output, near: NearConfig, index: Index | None = None
) -> NearDuplicates:
    """Verified pairs of near-duplicates among the distinct texts of a corpus, and between them and an index."""
    step = BandKeysStep(corpus, exact, near, 0 if index is None else index.num_documents)
    bands = engine.run(step)
    candidates = engine.run(CandidatesStep(corpus, bands, standing, step.packing, index))
    distinct = engine.run(DistinctPairsStep(corpus, candidates))
    letters = engine.run(LettersStep(corpus, distinct))
    verified = engine.run(VerifyStep(corpus, distinct, letters, near, index))
    known = None if index is None else engine.run(IndexTextsStep(corpus, exact, index))
    return NearDuplicates(verified, candidates, bands, known)


def resolve_duplicates(
    engine: Engine,
    corpus: Corpus,
    exact: Output,
    standing: Output,
    near: NearDuplicates | None,
    *,
    judged: Output | None,
    ids: Output | None,
    priorities: dict[str, int],
    index: Index | None = None,
) -> Output:
    """Who stays; read it part by part with ``resolve.duplicates_of_part``."""
    verified, known = (None, None) if near is None else (near.verified, near.known)
    return engine.run(ResolveStep(corpus, judged, exact, verified, priorities, standing, index, known, ids))
