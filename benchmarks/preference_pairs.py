"""Preference pairs of every kind on real data: how many stay, what length tells before and after, seconds of CPU.

    python benchmarks/preference_pairs.py ../shared/data [--conversations DIR]

DIR: a finished run of recipes/instruct/sns.yaml (redone-data sft), for the pairs from structure and from outputs. The
answers for the latter are planted, not a model's: right six times in ten, with more words around what is right. Raters
of alpaca_eval are models; the pairs of pref/reddit_* were made from scores elsewhere, and are read as rankings here.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine, measured

from redone_data.instruct.answers import read_format
from redone_data.instruct.conversation import read_conversations
from redone_data.rng import stream

NUM_ANSWERS = 8


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--conversations", type=Path)
    options = arguments.parse_args()
    names = ("rows", "candidates", "pairs", "bias", "after", "longer", "after", "CPU s")
    print(f"{'':34s}" + "".join(f"{name:>11s}" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe in recipes(options.data.resolve(), options.conversations, Path(folder)).items():
            told = measured(made, recipe, Path(folder) / name.replace(" ", "-"))
            (one,) = told.result["sets"].values()
            before, after = one["length"]["before"], one["length"]["after"]
            numbers = (one["source"]["rows"], one["candidates"], one["pairs"])
            rates = (before["bias"], after["bias"], before["longer_chosen"], after["longer_chosen"])
            cells = (
                [f"{number:11,d}" for number in numbers] + [f"{rate:11.3f}" for rate in rates] + [f"{told.cpu:11.1f}"]
            )
            print(f"{name:34s}" + "".join(cells))
            drops = {**one["source"]["rows_dropped"], **one["dropped"]}
            print("    dropped: " + ", ".join(f"{reason} {number:,}" for reason, number in sorted(drops.items())))
    print(machine("polars", "numba"))


def made(recipe: dict[str, Any], root: Path) -> dict[str, Any]:
    """Make the set of a recipe; its manifest."""
    from redone_data.config import read_config
    from redone_data.instruct.pairs.recipe import LoadedPairsRecipe, PairsRecipe
    from redone_data.instruct.pairs.set import PairSet

    loaded = LoadedPairsRecipe(read_config(PairsRecipe, recipe, where="benchmark"), root / "recipe.yaml")
    root.mkdir()
    return PairSet(loaded, root).run()


def recipes(data: Path, conversations: Path | None, folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    if conversations is not None:
        files = [str((conversations / name).resolve()) for name in ("step2.jsonl", "held_out.jsonl")]
        found["structure: sns"] = {"structure": {"sns": {"conversations": files}}}
        answers = plant(Path(files[0]), folder / "answers.jsonl")
        outputs = {"conversations": files[:1], "answers": [str(answers)]}
        found["outputs: sns, planted answers"] = {"outputs": {"sns": outputs}}
    for name in ("alpaca_eval_pairs", "dpo_demos_en_zh", "reddit_engagement_posts", "reddit_engagement_titles"):
        path = str(data / "pref" / f"{name}.jsonl.zst")
        columns = {column: column for column in ("prompt", "chosen", "rejected")}
        # In the Reddit files all posts of a subreddit answer one prompt: there the pair's own id is its document.
        own = {"id": "id"} if name.startswith("reddit") else {"document_text": "prompt"}
        table = {"paths": [path], "lang": {"name": "lang"}, "columns": columns, **own}
        select = {"pairs_per_prompt": 10_000} if name.startswith("reddit") else {}
        judges = {"rankings": {"table": "pref", "chosen": "chosen", "rejected": "rejected"}, "select": select}
        found[f"judges: {name}"] = {"tables": {"pref": table}, "judges": {"pref": judges}}
    for name in ("reddit_titles", "reddit_posts"):
        columns = {"text": "text", "subreddit": "meta.subreddit", "score": "meta.score", "at": "meta.created_utc"}
        table = {"paths": [str(data / "sns" / f"{name}.jsonl.zst")], "id": "id", "lang": "en", "columns": columns}
        engagement = {"table": "posts", "context": ["subreddit"], "engagement": ["score"], "created_at": "at"}
        engagement["prompts"] = {"en": ["Write a post for r/{{ subreddit }}."]}
        found[f"engagement: {name}"] = {"tables": {"posts": table}, "engagement": {"posts": engagement}}
    return found


def plant(conversations: Path, path: Path) -> Path:
    """Answers of no model: right six times in ten, with more words around what is right."""
    draws = stream(1, "planted")
    with path.open("w", encoding="utf-8") as file:
        rows = {row.id: row for row in read_conversations(conversations)}  # step 2 repeats some
        for row in rows.values():
            form = None if row.format is None else read_format(row.format)
            answers = []
            for _ in range(NUM_ANSWERS):
                right = draws.random() < 0.6
                text = row.messages[-1].content if right else "?"
                options = getattr(form, "options", None)
                if not right and options and isinstance(options[0], str):
                    wrong = [option for option in options if option != row.answer]
                    option = wrong[int(draws.integers(len(wrong)))] if wrong else "?"
                    text = form.render(option) if form is not None and form.kind == "choice" else option
                words = " ".join(["indeed"] * int(draws.integers(0, 8 if right else 5)))
                answers.append(f"{words}\nAnswer: {text}")
            file.write(json.dumps({"id": row.id, "answers": answers}, ensure_ascii=False) + "\n")
    return path


if __name__ == "__main__":
    main()
