"""Made-up items in the format of SNS-Bench's twelve files and of RedTrans-Bench; no text of either."""

import json
from pathlib import Path
from typing import Any


def result(*options: tuple[str, str]) -> str:
    return f"<Result>{json.dumps([{'Option': o, 'Reason': r} for o, r in options], ensure_ascii=False)}</Result>"


def highlight(comment: str, offered: str, gold: str) -> dict[str, str]:
    content = f"Comment: \n{comment}\n\nPossible highlight word options list:\n{offered}\n\nYour output is:"
    return {"content": content, "answer": gold}


LEVELS = {
    "candidates_primary": "['Food & Drink', 'Home']",
    "candidates_secondary": "['Tea', ' Plants ']",
    "candidates_tertiary": "['Green Tea', 'Pots', 'Weekend Care']",
}

ROWS: dict[str, list[dict[str, Any]]] = {
    "Note-Taxonomy-single": [
        {"content": "Two days by the lake", "candidates": "Weekend Trips, Tea, Cats", "answer": "Weekend Trips"},
        {"content": "A cup at noon", "candidates": "Weekend Trips, Tea, Cats", "answer": "Tea"},
    ],
    "Note-Taxonomy-multiple": [
        {"content": "A cup at noon", **LEVELS, "answer": "Food & Drink | Tea | Green Tea"},
        {"content": "New leaves", **LEVELS, "answer": "Home | Plants | Weekend Care"},
    ],
    "Note-Hashtag-single": [
        {"content": "Bought it", "candidates": "Acme Co., Ltd., Tea, Cats", "answer": "Acme Co., Ltd."},
        {"content": "A cup at noon", "candidates": "Rain, Tea, Cats, Bread", "answer": "Tea"},
    ],
    "Note-Hashtag-multiple": [
        {"content": "A cup in the rain", "candidates": "Rain, Tea, Cats, Bread", "answer": "Rain, Tea"},
        {"content": "He sleeps", "candidates": "Rain, Tea, Cats, Bread", "answer": "Cats"},
    ],
    "Note-QueryCorr-explain": [
        {"sentence1": "How long to boil an egg", "sentence2": "Six minutes", "answer": "Yes"},
        {"sentence1": "Which plants are safe", "sentence2": "Look at my cat", "answer": "No"},
    ],
    "Note-QueryCorr-topic": [
        {"content": "Query: boil an egg\nNotes: six minutes", "answer": "3"},
        {"content": "Query: ferry\nNotes: five outfits", "answer": "-1"},
    ],
    "Note-MRC-simple": [
        {"query": "When open?", "content": "We open at six. Bread is gone by eight.", "answer": ["We open at six."]},
        {"query": "Which lens?", "content": "Look at this sunset", "answer": []},
    ],
    "Note-MRC-complex": [
        {
            "content": "Query: cafes\n<Doc>Blue Door, Red Roof</Doc>",
            "answer": result(("Blue Door", "a"), ("Red Roof", "b")),
        },
        {"content": "Query: cafes\n<Doc>rain</Doc>", "answer": result()},
    ],
    "Note-NER": [
        {"question": "Please identify all 'Season' entities", "content": "wool scarf Winter grey", "answer": "Winter"},
        {"question": "Please identify all 'Group' entities", "content": "mug, kids, adults", "answer": "kids, adults"},
    ],
    "Note-Gender": [
        {"content": "Title: He wants to split every bill", "answer": "Yes"},
        {"content": "Title: A new keyboard", "answer": "No"},
    ],
    "Note-CHLW": [
        highlight("where is the folding bike from", "['folding bike', 'from']", "['folding bike']"),
        highlight("haha have fun", "['fun']", "[]"),
        highlight("same here", "['here']", "[]"),
    ],
    "Note-QueryGen": [
        {"content": "Note Title: Ripe tomatoes, \nMain Content: from seed", "answer": "tomatoes in pots"},
        {"content": "Note Title: Rye bread, \nMain Content: sour", "answer": "rye starter"},
    ],
}

PAIRS = [
    {"zh": "今天的面包烤糊了，哭", "en": "Burnt my bread today, sob", "src_lang": "zh", "dst_lang": "en"},
    {"zh": "今天的面包烤糊了，哭", "en": "Burnt my bread today, sob", "src_lang": "en", "dst_lang": "zh"},
    {
        "zh": "这只猫每天都睡在键盘上",
        "en": "This cat sleeps on the keyboard every day",
        "src_lang": "zh",
        "dst_lang": "en",
    },
    {"zh": "谁有同款的杯子链接", "en": "Who has the link for this mug", "src_lang": "en", "dst_lang": "zh"},
]


def write_bench(folder: Path) -> Path:
    for file, rows in ROWS.items():
        (folder / f"{file}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (folder / "RedTrans-Bench.json").write_text(json.dumps(PAIRS, ensure_ascii=False), encoding="utf-8")
    return folder
