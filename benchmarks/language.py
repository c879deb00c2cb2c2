"""Language identification: speed beside fastText and datatrove, and accuracy, on real posts with known languages.

    python benchmarks/language.py ../shared/data

Prints Markdown: CPU time of one thread on the same posts in one run (each way once warm, the best of three; datatrove
on a tenth), then accuracy and mean confidence by language and number of letters.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import polars as pl
import pyarrow as pa

from redone_data.curate.language import LanguageModel, model_path

POSTS_A_FILE = 3000
FILES = [
    *["sns/reddit_posts", "sns/reddit_titles", "sns/reddit_goemotions", "sns/tweets_tweeteval", "sns/tweets_crisis"],
    *["sns/weibo_comments", "sns/weibo_posts", "sns/weibo_sentiment", "sns/zh_reviews", "sns/zh_offensive_comments"],
    *["sns/multilingual_social", "general/wiki_fr_es"],
]
CLASSES = ["1-4", "5-8", "9-15", "16-30", "31-60", "61+"]


def rows(data: Path) -> Iterator[dict[str, str]]:
    for name in FILES:
        with pa.input_stream(data / f"{name}.jsonl.zst", compression="zstd") as stream:
            lines = stream.read().splitlines()
        for line in lines[:: max(1, len(lines) // POSTS_A_FILE)]:
            row = orjson.loads(line)
            yield {"text": row["text"], "lang": row["lang"]}


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def main(data: Path) -> None:
    posts = pl.DataFrame(list(rows(data)))
    texts = posts["text"].to_list()
    array = posts["text"].to_arrow().cast(pa.large_string())
    size = posts["text"].str.len_bytes().sum() / 1e6
    tenth = texts[::10]
    tenth_size = sum(len(text.encode()) for text in tenth) / 1e6
    model = LanguageModel.load(None)

    import fasttext

    library = fasttext.load_model(str(model_path(None)))
    ways = {
        "this project": (lambda: model.identify(array), size),
        "fasttext, whole posts": (lambda: library.predict([text.replace("\n", " ") for text in texts]), size),
        "fasttext, first 200 characters": (
            lambda: library.predict([text[:200].replace("\n", " ") for text in texts]),
            size,
        ),
    }
    from datatrove.data import Document

    predict = datatrove_predict()
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(tenth)]
    ways["datatrove (FT176LID, as its LanguageFilter asks it)"] = (lambda: [predict(d) for d in documents], tenth_size)
    print(f"{len(texts):,} posts, {size:.1f} MB\n\n| way | MB/s a core | ms a MB |\n|---|---|---|")
    for name, (work, megabytes) in ways.items():
        spent = seconds(work)
        print(f"| {name} | {megabytes / spent:.1f} | {1000 * spent / megabytes:.1f} |", flush=True)
    accuracy(posts, model)


def datatrove_predict() -> Callable[[object], object]:
    """datatrove's FT176LID on the same file, which it would fetch from the network by itself."""
    import fasttext
    from datatrove.utils.lid import FT176LID

    lid = FT176LID()
    lid._model = fasttext.load_model(str(model_path(None)))
    return lid.predict


def accuracy(posts: pl.DataFrame, model: LanguageModel) -> None:
    language, confidence = model.identify(posts["text"].to_arrow().cast(pa.large_string()))
    table = posts.with_columns(
        right=language.str.split("-").list.first() == posts["lang"],
        sure=pl.Series(confidence),
        letters=pl.col("text").str.count_matches(r"\p{L}"),
    ).filter(pl.col("letters") > 0)
    bounds = pl.lit(CLASSES[-1])
    for name in reversed(CLASSES[:-1]):
        bounds = pl.when(pl.col("letters") <= int(name.split("-")[1])).then(pl.lit(name)).otherwise(bounds)
    table = table.with_columns(length=bounds)
    print("\n| language | letters | posts | accuracy | mean confidence | wrong with .6 or more |")
    print("|---|---|---|---|---|---|")
    for lang in ["all", *sorted(posts["lang"].unique())]:
        of_lang = table if lang == "all" else table.filter(pl.col("lang") == lang)
        for length in CLASSES if lang in ("all", "en", "zh") else ["all"]:
            some = of_lang if length == "all" else of_lang.filter(pl.col("length") == length)
            if len(some):
                wrong = ((~some["right"]) & (some["sure"] >= 0.6)).mean()
                print(
                    f"| {lang} | {length} | {len(some)} | {some['right'].mean():.3f} "
                    f"| {some['sure'].mean():.3f} | {wrong:.3f} |"
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
