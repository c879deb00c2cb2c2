"""What a model is worth to a platform, in small: exposure to harmful posts, and the order of notes, on real posts.

    PYTHONPATH=. python benchmarks/applications.py DATA OUT NAME=MODEL [NAME=MODEL ...] [--posts 200] [--queries 40]

DATA holds sns/zh_offensive_comments, sns/tweets_hate_davidson and sns/weibo_posts (jsonl.zst); a MODEL is any folder
that `redone-train eval` takes, a fine-tuned one's run among them. Harmful posts are thinned to a fifth. Prints the
table of `redone-train eval` and the seconds of CPU; run again, it asks nothing.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import yaml
from measuring import machine

from redone_train.evaluation import run_evaluation

PREVALENCE = 0.2


def config(data: Path, out: Path, models: dict[str, str], posts: int, queries: int, seed: int) -> dict[str, Any]:
    def table(file: str, lang: str, **columns: Any) -> dict[str, Any]:
        return {"paths": [str(data / "sns" / f"{file}.jsonl.zst")], "lang": lang, "id": "id", "columns": columns}

    offensive = {"name": "labels.offensive", "values": {"1": "yes", "0": "no"}}
    thinned = {"prevalence": PREVALENCE, "head": {"rows": posts}}
    return {
        "output": str(out / "eval"),
        "models": models,
        "exposure": {
            "zh_offensive": {"table": table("zh_offensive_comments", "zh", text="text", label=offensive), **thinned},
            "en_harmful": {
                "table": table("tweets_hate_davidson", "en", text="text", label="labels.class"),
                "task": "harmful_speech",
                "harmful": ["hate", "offensive"],
                **thinned,
            },
        },
        "ranking": {
            "weibo_headlines": {
                "table": table(
                    "weibo_posts",
                    "zh",
                    text={"name": "text", "remove": "【[^】]*】"},
                    query={"name": "text", "extract": "【([^】]{5,30})】"},
                ),
                "drawn": {"number": 7, "how": "similar"},
                "max_queries": queries,
                "head": {"rows": queries},
            }
        },
        "max_items": posts,
        "precision": "bf16",
        "seed": seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--posts", type=int, default=200)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    models = {name: str(Path(folder).resolve()) for name, folder in (one.split("=", 1) for one in given.models)}
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out.resolve() / "eval.yaml"
    values = config(given.data.resolve(), path.parent, models, given.posts, given.queries, given.seed)
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    start = time.process_time()
    run_evaluation(path)
    print(f"{time.process_time() - start:.0f} s of CPU; {machine('torch', 'transformers', 'bm25s')}")


if __name__ == "__main__":
    main()
