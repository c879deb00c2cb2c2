"""A whole instruction set: CPU, wall time and peak memory of redone-data sft; by stage, and for more made-up rows.

python benchmarks/instruction_set.py [recipes/instruct/sns.yaml] [--rows 1000000]

--rows makes a table of so many posts of random words (one in ten said twice) and one task of it, in place of the
recipe: what a set costs as it grows, with text like none that people write.
"""

import argparse
import json
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, measured

RECIPE = Path(__file__).parents[1] / "recipes/instruct/sns.yaml"
WORDS = 20_000
SYNTHETIC = """\
tables:
  posts:
    paths: [posts.jsonl]
    id: id
    lang: en
    columns: {text: text, label: {name: label, values: {"0": negative, "1": positive}}}
duplicates:
  posts: {by: [text]}
tasks:
  sentiment: {tables: [posts]}
steps:
  step2: {conversations: 100000}
"""


def make(recipe: Path, out: Path) -> dict[str, Any]:
    from redone_data.instruct.recipe import load_sft_recipe
    from redone_data.instruct.set import InstructionSet

    made = InstructionSet(load_sft_recipe(recipe), out)
    manifest = made.run()
    return {"manifest": manifest, "timings": made.engine.timings}


def write_posts(folder: Path, rows: int) -> Path:
    generator = np.random.default_rng(1)
    words = np.array([f"w{number:x}" for number in range(WORDS)])
    with (folder / "posts.jsonl").open("w", encoding="utf-8") as file:
        said: deque[str] = deque(maxlen=1000)
        for number in range(rows):
            if number % 10 == 9:
                text = said[int(generator.integers(len(said)))]
            else:
                text = " ".join(words[generator.integers(0, WORDS, int(generator.integers(10, 40)))])
            said.append(text)
            file.write(json.dumps({"id": str(number), "text": text, "label": number % 2}) + "\n")
    (folder / "recipe.yaml").write_text(SYNTHETIC, encoding="utf-8")
    return folder / "recipe.yaml"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("recipe", type=Path, nargs="?", default=RECIPE)
    arguments.add_argument("--rows", type=int, help="made-up rows in place of a recipe")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe = given.recipe if given.rows is None else write_posts(folder, given.rows)
        found = measured(make, recipe, folder / "out")
        manifest, timings = found.result["manifest"], found.result["timings"]
    made = manifest["steps"]["step1"]["conversations"] + manifest["held_out"]
    print(f"{made:,} conversations, {sum(manifest['drops'].values()):,} rows dropped")
    print(f"CPU {found.cpu:.1f} s, wall {found.wall:.1f} s, peak {found.peak / 2**30:.2f} GiB")
    print(f"{made / found.cpu:,.0f} conversations a second of CPU")
    for name, timing in timings.items():
        print(f"  {name:20} {timing['seconds']:7.1f} s")
    print(machine("polars", "tokenizers"))


if __name__ == "__main__":
    main()
