"""A benchmark cut in two: a part to train on and a part to measure on, which share no post.

SNS-Bench and RedTrans-Bench have no training part. Here posts go to the test part by a hash until every file has enough
items there; the rest becomes conversations with the benchmark's own prompts and gold answers. Rows to train on that
share 40 letters in a row or a whole text with a test item (a post in two files, an edited copy, a sentence translated
twice) are left out and counted; what stands in many items is the files' own wording and does not count. Figures on a
part are no published figures: say so.
"""

import json
import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import Conversation, Message, write_rows
from redone_data.manifest import atomic, write_json
from redone_data.rng import keyed_uniform
from redone_train.evaluate.items import Item
from redone_train.evaluate.sns_bench import FILES, SnsBench, gold_answer
from redone_train.evaluate.trans_bench import FILE, TASKS, TransBench

RUN = 40  # letters and digits in a row that two texts share by copying
WORDING, WORDING_RUN = 8, 20  # a run of so many that stands in more items than these is the files' own wording
SHORT = 10  # letters of a whole text, from which on it counts
BREAK = "\n"
CAPABILITIES = {
    "Note-QueryCorr-explain": "semantic_matching",
    "Note-QueryCorr-topic": "semantic_matching",
    "Note-MRC-simple": "information_extraction",
    "Note-MRC-complex": "information_extraction",
    "Note-NER": "information_extraction",
    "Note-CHLW": "information_extraction",
    "Note-QueryGen": "user_behaviour",
    **dict.fromkeys(TASKS, "translation"),
}


@dataclass(frozen=True)
class Split:
    """Items by file and part; left out: to train on, but for what they share with a test item."""

    train: dict[str, int]
    test: dict[str, int]
    left_out: dict[str, int]


def split(folder: Path, out: Path, *, num_test: int, seed: int) -> Split:
    """Write OUT/test and OUT/train, each with the benchmark's files, and OUT/train.jsonl, conversations without shots.

    num_test: items of each file that are measured on, at least; of translation, of each way.
    """
    if out.exists() and any(out.iterdir()):
        raise RedoneError(f"{out}: there is something in it; a split is written into a new folder")
    items = _items(folder)
    tested = _test_groups(items, num_test, seed)
    is_test = [item.meta["group"] in tested for item in items]
    for task in dict.fromkeys(item.task for item in items):
        if all(test for item, test in zip(items, is_test, strict=True) if item.task == task):
            raise RedoneError(f"{task}: all of its posts are to be measured on; --test {num_test} is too many")
    shared = _shared_with_test(items, is_test)
    parts = {
        "test": [item for item, test in zip(items, is_test, strict=True) if test],
        "train": [item for n, item in enumerate(items) if not is_test[n] and n not in shared],
    }
    for name, kept in parts.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        files: dict[str, list[Any]] = {}
        for item in kept:
            files.setdefault(FILE if item.task in TASKS else f"{item.task}.json", []).append(item.meta["row"])
        for file, rows in files.items():
            with atomic(out / name / file) as aside:
                aside.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    write_rows(out / "train.jsonl", [_conversation(item) for item in parts["train"]])
    counts = [Counter(item.task for item in part) for part in (parts["train"], parts["test"])]
    left_out = Counter(items[n].task for n in shared)
    found = Split(*(dict(sorted(count.items())) for count in (*counts, left_out)))
    write_json(out / "split.json", {"seed": seed, "num_test": num_test, **vars(found)})
    return found


def _items(folder: Path) -> list[Item]:
    found: list[Item] = []
    if any((folder / f"{file}.json").is_file() for file in FILES):
        bench = SnsBench(folder, shots=0)
        found += [item for task in bench.tasks for item in bench.items(task)]
    if folder.name == FILE or (folder / FILE).is_file():
        translations = TransBench(folder, shots=0)
        found += [item for task in TASKS for item in translations.items(task)]
    if not found:
        raise RedoneError(f"{folder}: neither SNS-Bench's files ({FILES[0]}.json, ...) nor {FILE} is here")
    return found


def _test_groups(items: Sequence[Item], num_test: int, seed: int) -> set[str]:
    """Posts by a hash, the same in every file, until a file has enough items."""
    groups = sorted({str(item.meta["group"]) for item in items})
    drawn = keyed_uniform(seed, "split", np.array([int(group, 16) for group in groups], np.uint64))
    place = dict(zip(groups, drawn.tolist(), strict=True))
    found: set[str] = set()
    for task in dict.fromkeys(item.task for item in items):
        ordered = sorted((item for item in items if item.task == task), key=lambda item: place[item.meta["group"]])
        found |= {item.meta["group"] for item in ordered[:num_test]}
    return found


def _shared_with_test(items: Sequence[Item], is_test: Sequence[bool]) -> set[int]:
    """The places of items that are not tested and share a run with one that is."""
    texts = [_letters(item) for item in items]
    times: Counter[str] = Counter()
    for text in texts:
        times.update(set(_runs(text, WORDING_RUN)))
    wording = {run for run, count in times.items() if count > WORDING}
    own = [_without(text, wording) for text in texts]
    tested = {run for text, test in zip(own, is_test, strict=True) if test for run in _runs(text, RUN)}
    # A short text is shared as a whole: one side of a pair in two translations.
    sides = [{side for side in text.split(BREAK) if len(side) >= SHORT} for text in texts]
    tested_sides = {side for these, test in zip(sides, is_test, strict=True) if test for side in these}
    return {
        n
        for n, text in enumerate(own)
        if not is_test[n] and not (tested.isdisjoint(_runs(text, RUN)) and tested_sides.isdisjoint(sides[n]))
    }


def _letters(item: Item) -> str:
    row = item.meta["row"]
    texts = [row[name] for name in ("content", "sentence2", "zh", "en") if isinstance(row.get(name), str)]
    return BREAK.join(re.sub(r"[\W_]+", "", text).lower() for text in texts)


def _runs(text: str, size: int) -> Iterator[str]:
    for part in text.split(BREAK):
        yield from (part[start : start + size] for start in range(len(part) - size + 1))


def _without(text: str, wording: Container[str]) -> str:
    """The text with a break wherever the files' own wording stands."""
    kept = list(text)
    for start in range(len(text) - WORDING_RUN + 1):
        if text[start : start + WORDING_RUN] in wording:
            kept[start : start + WORDING_RUN] = BREAK * WORDING_RUN
    return "".join(kept)


def _conversation(item: Item) -> Conversation:
    answer = str(item.gold) if item.task in TASKS else gold_answer(item.meta["row"])
    asked = [Message(turn["role"], turn["content"]) for turn in item.messages]  # type: ignore[arg-type]
    return Conversation(
        id=item.id,
        messages=(*asked, Message("assistant", answer)),
        capability=CAPABILITIES.get(item.task, "content_understanding"),
        task=item.task,
        lang=item.task.split("-")[1] if item.task in TASKS else "en",
        template=f"{item.benchmark}/own",
        format=None,
        answer=None,
        documents=(str(item.meta["group"]),),
        split="train",
    )
