"""Every shipped task on real tables: rows in, conversations out, drops by reason, and gold answers read back.

python benchmarks/instruction_tasks.py [recipes/instruct/sns.yaml] [--only sentiment stance] [--seed 1]

Tables and tasks are those of the recipe; its options are left aside, so this is all that there is. A gold answer counts
as read when the parser of its row's format, made anew from the row as a file would have it, gives that row's answer
from the text of its last message.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from redone_data.config import load_yaml, read_config
from redone_data.instruct.answers import read_format
from redone_data.instruct.build import Built, build
from redone_data.instruct.tables import Table, TableConfig, read_table
from redone_data.instruct.task import find_task

RECIPE = Path(__file__).parents[1] / "recipes/instruct/sns.yaml"


def parse_rate(built: Built) -> tuple[int, int]:
    """(answers read back, answers with a format)."""
    rows = built.conversations.select("messages", "format", "answer").drop_nulls("format")
    right = 0
    for messages, form, answer in rows.iter_rows():
        right += read_format(json.loads(form)).parse(messages[-1]["content"]) == json.loads(answer)
    return right, rows.height


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("recipe", type=Path, nargs="?", default=RECIPE)
    arguments.add_argument("--only", nargs="*", help="tasks; default: all")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    recipe, base = load_yaml(given.recipe), given.recipe.parent
    tables = {
        name: read_config(TableConfig, values, where=str(given.recipe), path=f"tables.{name}")
        for name, values in recipe["tables"].items()
    }

    conversations: Counter[str] = Counter()
    langs: Counter[str] = Counter()
    split_of_document: dict[str, str] = {}
    torn = 0
    reading = building = 0.0
    read = with_format = 0
    known: tuple[str, Table] | None = None
    print(f"{'task':17} {'table':22} {'gold':8} {'rows':>7} {'conv.':>7} {'langs':7} {'read back':>11}  dropped")
    for name, entry in recipe["tasks"].items():
        if given.only and name not in given.only:
            continue
        task = find_task(name, base)
        for table_name in entry["tables"]:
            start = time.process_time()
            if known is None or known[0] != table_name:
                known = (table_name, read_table(table_name, tables, base))
            table = known[1]
            middle = time.process_time()
            built = build(table, task, seed=given.seed, held_out_share=0.02)
            building += time.process_time() - middle
            reading += middle - start
            right, asked = parse_rate(built)
            read, with_format = read + right, with_format + asked
            here = Counter(built.conversations["lang"].to_list())
            langs += here
            conversations[task.capability] += built.conversations.height
            for documents, split in built.conversations.select("documents", "split").iter_rows():
                torn += split_of_document.setdefault(documents[0], split) != split
            drops = dict(sorted((Counter(table.dropped["rule"].to_list()) + Counter(built.drops)).items()))
            told = ", ".join(f"{rule} {count:,}" for rule, count in drops.items()) or "-"
            back = f"{right / asked:.2%}" if asked else "free text"
            print(
                f"{name:17} {table_name:22} {task.gold.kind:8} {table.frame.height:7,} {built.conversations.height:7,} "
                f"{'+'.join(sorted(here)):7} {back:>11}  {told}",
                flush=True,
            )
    total = sum(conversations.values())
    print(
        f"\n{total:,} conversations: " + ", ".join(f"{name} {count:,}" for name, count in sorted(conversations.items()))
    )
    print("languages: " + ", ".join(f"{lang} {count:,}" for lang, count in sorted(langs.items())))
    print(f"gold answers read back by their own parser: {read:,} of {with_format:,}")
    print(f"conversations whose document is in the other split elsewhere: {torn}")
    rate = total / building
    print(f"CPU: reading tables {reading:.1f} s; building {building:.1f} s, {rate:,.0f} conversations a second")


if __name__ == "__main__":
    main()
