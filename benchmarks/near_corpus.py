"""The corpus of the near-duplicate benchmarks: real short posts, a fifth of them planted near-duplicates.

Two posts count as near-duplicates when the character 5-grams of their letters and digits have a Jaccard similarity
of at least .5; by this recall and precision are judged. Precision is also told for texts with all they have: by that,
12 % of the planted Chinese copies (marks changed, a mention added) are none, so both cannot be had at once.

Built from ../shared/data (see there for sources and licences), fixed by a seed, written as Parquet to a cache folder
outside the project. What was planted lies beside it: which document was edited how.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# Documents drawn from each file, in a fixed order; 20 % of what comes out is planted on them.
COMPOSITION = {
    "sns/reddit_posts": 52_000,
    "sns/tweets_tweeteval": 30_000,
    "sns/tweets_crisis": 20_000,
    "sns/weibo_comments": 45_000,
    "sns/weibo_sentiment": 8_000,
    "sns/zh_reviews": 30_000,
}
PLANTED_SHARE = 0.2
SIMILAR = 0.5  # Jaccard similarity of character 5-grams from which two posts are near-duplicates
LEAST_UNITS = 8  # words, or Chinese characters, that a post must have to be planted on
EMOJI = ["😂", "😭", "🔥", "👍", "❤️", "🎉", "🙏", "✨", "😍", "🤔"]
HASHTAGS = {
    "en": ["#love", "#news", "#fail", "#today", "#tbt", "#follow"],
    "zh": ["#每日分享#", "#生活#", "#打卡#", "#好物推荐#"],
}
PREFIXES = {
    "en": ["RT @user: ", "via @user - ", "reposting: ", "This!! "],
    "zh": ["转发微博 //@user:", "转: ", "【转】", "看看这个："],
}
LENGTH_CLASSES = (("short", 100), ("medium", 400), ("long", 1 << 40))  # UTF-8 bytes below


@dataclass(frozen=True)
class Planted:
    """One edited copy: documents by their place in the corpus."""

    copy: int
    original: int
    kind: str
    language: str
    length: str


IDEOGRAPHS = 20_902  # of Unicode 1, in one row


def texts_of(name: str) -> Iterator[tuple[str, str]]:
    """(language, text) of every line of a file of ../shared/data."""
    with (DATA / f"{name}.jsonl.zst").open("rb") as file:
        data = zstandard.ZstdDecompressor().stream_reader(file).read()
    for line in data.splitlines():
        record = orjson.loads(line)
        if record["text"].strip():
            yield ("zh" if record["lang"].startswith("zh") else "en"), record["text"]


def units_of(text: str, language: str) -> list[str]:
    """What edits work on: words, or characters."""
    return list(text) if language == "zh" else re.split(r"(?<= )", text)


def _some(units: list[str], rng: random.Random, share: float = 0.05) -> list[int]:
    return sorted(rng.sample(range(len(units)), min(len(units), max(1, round(share * len(units))))))


def _case(units: list[str], language: str, rng: random.Random) -> list[str]:
    if language == "zh":  # full-width and half-width forms
        return [chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else {"，": ",", "！": "!", "？": "?"}.get(c, c) for c in units]
    return [rng.choice((str.upper, str.lower))("".join(units))]


def _emoji(units: list[str], language: str, rng: random.Random) -> list[str]:
    return [*units, " ", *rng.choices(EMOJI, k=rng.randint(1, 4))]


def _punctuation(units: list[str], language: str, rng: random.Random) -> list[str]:
    marks = "，。！～…" if language == "zh" else ",.!~"
    return [*list(re.sub(r"[,.!?，。！？]", lambda _: rng.choice(marks), "".join(units))), rng.choice(marks) * 3]


def _hashtags(units: list[str], language: str, rng: random.Random) -> list[str]:
    return [*units, " ", " ".join(rng.sample(HASHTAGS[language], rng.randint(1, 2)))]


def _mention(units: list[str], language: str, rng: random.Random) -> list[str]:
    name = "".join(rng.choices("abcdefghij", k=6))
    return [f"@{name} ", *units, rng.choice(("", f" https://t.co/{name}"))]


def _truncation(units: list[str], language: str, rng: random.Random) -> list[str]:
    return [*units[: round(len(units) * rng.uniform(0.75, 0.92))], rng.choice(("...", "…", ""))]


def _swaps(units: list[str], language: str, rng: random.Random) -> list[str]:
    units = list(units)
    for at in _some(units[1:], rng, 0.03):
        units[at], units[at + 1] = units[at + 1], units[at]
    return units


def _deletions(units: list[str], language: str, rng: random.Random) -> list[str]:
    gone = set(_some(units, rng))
    return [unit for at, unit in enumerate(units) if at not in gone]


def _replacements(units: list[str], language: str, rng: random.Random) -> list[str]:
    pool = (
        "的了是在有人这那大好来去"
        if language == "zh"
        else ["really", "just", "very", "good", "bad", "thing", "people", "time"]
    )
    units = list(units)
    for at in _some(units, rng, 0.04):
        units[at] = rng.choice(pool) + ("" if language == "zh" else " ")
    return units


def _typos(units: list[str], language: str, rng: random.Random) -> list[str]:
    units = list(units)
    for at in _some(units, rng, 0.04):
        word = units[at]
        cut = rng.randrange(len(word))
        units[at] = word[:cut] + word[cut:][:1] * 2 + word[cut + 1 :]
    return units


def _tail(units: list[str], language: str, rng: random.Random) -> list[str]:
    cut = max(1, round(len(units) * rng.uniform(0.08, 0.18)))
    tails = {
        "en": [
            "that",
            "is",
            "pretty",
            "much",
            "all",
            "there",
            "is",
            "to",
            "say",
            "about",
            "it",
            "so",
            "tell",
            "me",
            "what",
            "you",
            "think",
            "",
        ],
        "zh": list("大概就是这样了大家怎么看欢迎留言告诉我谢谢"),
    }
    space = "" if language == "zh" else " "
    return [*units[:-cut], *(word + space for word in (tails[language] * (cut // 8 + 1))[:cut])]


def _prefix(units: list[str], language: str, rng: random.Random) -> list[str]:
    return [rng.choice(PREFIXES[language]), *units]


def _lines(units: list[str], language: str, rng: random.Random) -> list[str]:
    text = "".join(units)
    return [
        re.sub(r"([.!?。！？]) ?", lambda m: m[1] + "\n", text) if rng.random() < 0.5 else text.replace("\n", " "),
        " ",
    ]


EDITS: dict[str, Callable[[list[str], str, random.Random], list[str]]] = {
    "case or width": _case,
    "emoji": _emoji,
    "punctuation": _punctuation,
    "appended hashtags": _hashtags,
    "mention, link": _mention,
    "truncation": _truncation,
    "word swaps": _swaps,
    "deleted words": _deletions,
    "replaced words": _replacements,
    "typos": _typos,
    "paraphrased tail": _tail,
    "repost with a prefix": _prefix,
    "line breaks": _lines,
}


def length_class(text: str) -> str:
    """short, medium or long, by UTF-8 bytes."""
    size = len(text.encode())
    return next(name for name, most in LENGTH_CLASSES if size < most)


def build(folder: Path, seed: int, share: float = 1.0) -> tuple[Path, list[Planted]]:
    """The corpus (id, text; Parquet) and what was planted; made once. `share`: of the documents of each file."""
    path, plan = folder / f"corpus-{seed}-{share:g}.parquet", folder / f"planted-{seed}-{share:g}.json"
    if path.is_file() and plan.is_file():
        return path, [Planted(**row) for row in orjson.loads(plan.read_bytes())]
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    documents: list[tuple[str, str]] = []
    for name, count in COMPOSITION.items():
        found = list(texts_of(name))
        documents += rng.sample(found, min(len(found), round(count * share)))
    fit = [i for i, (language, text) in enumerate(documents) if len(units_of(text.strip(), language)) >= LEAST_UNITS]
    wanted = round(len(documents) * PLANTED_SHARE / (1 - PLANTED_SHARE))
    originals = rng.sample(fit, min(wanted, len(fit)))
    kinds = list(EDITS)
    copies: list[tuple[int, str, str]] = []
    for number, original in enumerate(originals):
        language, text = documents[original]
        kind = kinds[number % len(kinds)]
        edited = "".join(EDITS[kind](units_of(text, language), language, rng))
        # What the judge would not call a near-duplicate is none: mostly short Chinese posts with a third of them gone.
        if edited != text and character_jaccard(edited, text) >= SIMILAR:
            copies.append((original, kind, edited))
    order = list(range(len(documents) + len(copies)))
    rng.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    texts = [text for _, text in documents] + [text for *_, text in copies]
    planted = [
        Planted(place[len(documents) + i], place[original], kind, documents[original][0], length_class(edited))
        for i, (original, kind, edited) in enumerate(copies)
    ]
    table = {
        "id": [f"d{i:07d}" for i in range(len(order))],
        "text": pa.array([texts[old] for old in order], pa.large_string()),
    }
    table["language"] = [
        documents[old if old < len(documents) else copies[old - len(documents)][0]][0] for old in order
    ]
    pq.write_table(pa.table(table), path, compression="zstd", row_group_size=50_000)
    plan.write_bytes(orjson.dumps([row.__dict__ for row in planted]))
    return path, planted


_LINKS = re.compile(r"https?://\S+|@\w+")
_MARKS = re.compile(r"[\W_]+")


def character_ngrams(text: str, size: int = 5) -> frozenset[str]:
    """Character n-grams of the letters and digits of the folded text, links and mentions left out."""
    folded = _MARKS.sub("", _LINKS.sub("", unicodedata.normalize("NFKC", text).casefold()))
    return frozenset(folded[i : i + size] for i in range(max(1, len(folded) - size + 1)))


def character_jaccard(a: str, b: str) -> float:
    """Exact Jaccard similarity of character 5-grams."""
    left, right = character_ngrams(a), character_ngrams(b)
    return len(left & right) / len(left | right)


def plain_jaccard(a: str, b: str) -> float:
    """The same of the texts with all they have, case and width folded: stricter on short posts with marks and links."""
    left, right = (
        {text[i : i + 5] for i in range(max(1, len(text) - 4))}
        for text in (unicodedata.normalize("NFKC", text).casefold() for text in (a, b))
    )
    return len(left & right) / len(left | right)


def read_texts(path: Path) -> list[str]:
    texts: list[str] = pq.read_table(path, columns=["text"])["text"].to_pylist()
    return texts


def _other_ideographs(text: str, shift: int) -> str:
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).copy()
    place = codes - 0x4E00  # wraps below
    han = place < IDEOGRAPHS
    codes[han] = 0x4E00 + (place[han] + shift) % IDEOGRAPHS
    return codes.tobytes().decode("utf-32-le")


def perturbed(texts: list[str], count: int, seed: int) -> Iterator[list[str]]:
    """`count` documents in blocks, made from real ones with new words in them.

    A fifth are near-duplicates of documents made before in their block, so that duplicates are as frequent in a large
    corpus as in a small one.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, count, 100_000):
        block: list[str] = []
        for number, draw in zip(
            rng.integers(0, len(texts), min(100_000, count - start)), rng.random(100_000), strict=False
        ):
            if draw < 0.2 and block:
                block.append(f"{block[number % len(block)]} {rng.integers(1 << 30)}")
                continue
            # New words in every other place and other ideographs leave next to no common 2-gram of words: a new
            # document of the same length and script.
            words = texts[number].split(" ")
            salt = f"{rng.integers(1 << 40):x}"[:6]
            salted = " ".join(word if i % 2 else word + salt for i, word in enumerate(words))
            block.append(salted if salted.isascii() else _other_ideographs(salted, int(rng.integers(IDEOGRAPHS))))
        yield block
