"""Words of a text with their bytes, in plain Python: what tests of verbatim overlap compare kernels with."""

from redone_data.text import reference
from redone_data.text.words import WordKind


def words_of(text: str) -> list[tuple[str, int, int]]:
    """(folded word, first byte, end byte) of every word; hashtags as their words, links and mentions passed over."""
    found, position = [], 0
    while position < len(text):
        end, kind = reference.unit_at(text, position)
        if kind in (WordKind.WORD, WordKind.CJK):
            start_byte = len(text[:position].encode())
            found.append((reference.fold(text[position:end]), start_byte, len(text[:end].encode())))
        position = end if kind not in (WordKind.NONE, WordKind.HASHTAG) else position + 1
    return found
