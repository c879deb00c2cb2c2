"""A small instruction set: two tables, two tasks of one's own, general data in three forms, an evaluation file.

All rows are made up. Reviews repeat, nearly repeat, lack a label, copy an evaluation item; general records refuse, have
no answer, speak in turns that no template knows.
"""

import json
import random
from pathlib import Path
from typing import Any

WORDS = {
    "en": ["river", "garden", "window", "copper", "market", "summer", "letter", "bridge", "silver", "forest", "planet"],
    "zh": [
        "河流",
        "花园",
        "窗户",
        "市场",
        "夏天",
        "来信",
        "小桥",
        "森林",
        "咖啡",
        "冬天",
        "音乐",
        "纸张",
        "火车",
        "海岸",
    ],
}
EVALUATION = "an old lighthouse keeper counts the ships that pass by every single evening of the long winter"

SENTIMENT = """\
name: mood
capability: content_understanding
about: Whether a review is glad or sorry.
metric: accuracy
gold: {kind: real, note: made up}
columns: {text: {}, label: {kind: label}}
labels:
  glad: {en: glad, zh: 高兴}
  sorry: {en: sorry, zh: 遗憾}
answer: {kind: choice, column: label, options: labels}
templates:
  en:
    plain: {version: 1, user: "Is the writer of this review {{ options | join(' or ') }}?\\n\\n{{ text }}"}
    short: {version: 2, user: "{{ text }}\\n\\nOne of: {{ options | join(', ') }}"}
  zh:
    plain: {version: 1, user: "这条评论的作者是{{ options | join('还是') }}？\\n\\n{{ text }}"}
"""
REPLY = """\
name: answer_back
capability: dialogue
about: Answer a post.
metric: bleu
gold: {kind: derived, note: made up}
columns: {text: {}, reply: {}}
answer: {kind: text, column: reply}
templates:
  en:
    plain: {version: 1, user: "Answer this post as a friend would:\\n{{ text }}"}
"""


def sentence(lang: str, rng: random.Random, words: int = 14) -> str:
    return ("" if lang == "zh" else " ").join(rng.choices(WORDS[lang], k=words))


def write_small_set(folder: Path, *, rows: int = 120) -> Path:
    """Its files and recipe in `folder`; the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    reviews: list[dict[str, Any]] = []
    for lang in ("en", "zh"):
        for number in range(rows):
            label = ("glad", "sorry")[number % 2]
            reviews.append({"id": f"{lang}-{number}", "body": sentence(lang, rng), "mood": label, "lang": lang})
    reviews += [{**reviews[0], "id": "copy"}, {**reviews[1], "id": "near", "body": reviews[1]["body"] + " paper"}]
    reviews += [{**reviews[2], "id": "unlabelled", "mood": "?", "body": sentence("en", rng)}]
    reviews += [{**reviews[3], "id": "evaluated", "body": f"So: {EVALUATION}, indeed."}]
    _jsonl(folder / "reviews.jsonl", reviews)
    posts = [{"id": f"p{n}", "post": sentence("en", rng), "answer": sentence("en", rng, 6)} for n in range(rows // 2)]
    posts.append(
        {"id": "echo", "post": "the same words said again and again", "answer": "the same words said again and again"}
    )
    (folder / "posts.csv").write_text(
        "id,post,answer\n" + "".join(f"{row['id']},{row['post']},{row['answer']}\n" for row in posts), encoding="utf-8"
    )
    chats = [_chat(n, rng) for n in range(30)]
    chats.append({"id": "tool", "messages": [{"role": "user", "content": "hi"}, {"role": "tool", "content": "x"}]})
    chats.append({"id": "mute", "messages": [{"role": "user", "content": "hello there"}]})
    _jsonl(folder / "chats.jsonl", chats)
    sums = [
        {
            "instruction": f"What is {n} plus {n + 1}, and {sentence('en', rng, 9)}?",
            "input": "",
            "output": f"It is {2 * n + 1}.",
            "why": f"{n} and {n} and 1.",
        }
        for n in range(30)
    ]
    sums.append(
        {
            "instruction": "Book me a flight",
            "input": "",
            "output": "I'm sorry, but as an AI I cannot do that.",
            "why": "",
        }
    )
    (folder / "sums.json").write_text(json.dumps(sums), encoding="utf-8")
    shares = [
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "human", "value": sentence("zh", rng)},
                {"from": "gpt", "value": sentence("zh", rng, 5)},
                {"from": "human", "value": "谢谢"},
            ],
        }
        for _ in range(20)
    ]
    _jsonl(folder / "shares.jsonl", shares)
    _jsonl(folder / "evaluation.jsonl", [{"question": EVALUATION}])
    for name, text in (("mood", SENTIMENT), ("reply", REPLY), ("recipe", RECIPE)):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / "recipe.yaml"


def _chat(number: int, rng: random.Random) -> dict[str, Any]:
    turns = [("user", sentence("en", rng)), ("assistant", sentence("en", rng, 8))] * (1 + number % 2)
    return {"id": f"chat{number}", "messages": [{"role": role, "content": text} for role, text in turns], "lang": "en"}


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


RECIPE = """\
tables:
  reviews:
    paths: [reviews.jsonl]
    id: id
    lang: {name: lang}
    columns: {text: body, label: {name: mood, values: {glad: glad, sorry: sorry}}}
  posts:
    paths: [posts.csv]
    id: id
    lang: en
    columns: {text: post, reply: answer}
duplicates:
  reviews: {by: [text]}
tasks:
  mood.yaml: {tables: [reviews]}
  reply.yaml: {tables: [posts]}
general:
  chats: {paths: [chats.jsonl], id: id}
  sums: {paths: [sums.json], form: instruction, thought: why, lang: =en, duplicates: {near: false}}
  shares: {paths: [shares.jsonl], form: sharegpt, system: system, lang: =zh}
contamination:
  sets: {exam: {paths: [evaluation.jsonl]}}
held_out: {share: 0.1, max_conversations: 12}
steps:
  step2: {conversations: 150, general_share: 0.2, temperature: 2}
"""
