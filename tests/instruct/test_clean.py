"""Which conversations stay: each rule on a conversation that breaks it, beside one that does not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from redone_data.curate.quality_train import Examples, TrainConfig, train
from redone_data.errors import RedoneError
from redone_data.instruct.clean import CleanConfig
from redone_data.instruct.conversation import MESSAGES, read_conversations
from redone_data.instruct.lengths import APPROXIMATE, ESTIMATED, EXACT, LengthConfig, Lengths, located_files
from redone_data.instruct.recipe import load_sft_recipe
from redone_data.instruct.set import InstructionSet
from redone_data.tokens.tokenizer import train_bpe

GOOD = {"instruction": "Name a river of the north", "output": "The copper river runs past the old bridge."}
RECIPE = """\
general:
  some: {paths: [rows.jsonl], form: instruction, duplicates: {enabled: false}}
held_out: {share: 0}
"""


def reasons(folder: Path, rows: list[dict[str, str]], *assignments: str) -> dict[str, str]:
    """What was asked -> the rule that dropped it, or "kept"."""
    lines = [json.dumps({**row, "id": str(number)}) for number, row in enumerate([GOOD, *rows])]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load_sft_recipe(folder / "recipe.yaml", ["general.some.id=id", *assignments])
    InstructionSet(recipe, folder / "out").run()
    dropped = dict(
        pl.read_parquet(folder / "out" / "ledger.parquet").select(pl.col("documents").list[0], "rule").iter_rows()
    )
    return {row["instruction"]: dropped.get(str(number), "kept") for number, row in enumerate(rows, 1)}


@pytest.mark.parametrize(
    "answer",
    [
        "As an AI language model, I have no favourite river.",
        "I'm sorry, but I cannot help with that.",
        "Sorry, I don’t have the capability to book flights.",
        "Sorry, I am unable to look that up.",
        "作为一个人工智能语言模型，我没有个人感受。",
        "很抱歉，我无法回答这个问题。",
    ],
)
def test_a_refusal_is_dropped(tmp_path: Path, answer: str) -> None:
    assert reasons(tmp_path, [{"instruction": "q", "output": answer}])["q"] == "refusal"


@pytest.mark.parametrize(
    "answer",
    [
        "I am sorry for your loss; the garden was lovely.",
        "The ship was unable to land, so it sailed on.",
        "抱歉让你久等了，这家店的汤很好喝。",
        "An AI winter is a time of less interest in artificial intelligence.",
    ],
)
def test_an_answer_that_only_sounds_like_a_refusal_stays(tmp_path: Path, answer: str) -> None:
    assert reasons(tmp_path, [{"instruction": "q", "output": answer}])["q"] == "kept"


def test_each_rule_names_what_it_drops(tmp_path: Path) -> None:
    found = reasons(
        tmp_path,
        [
            {"instruction": "invisible", "output": "\u200b"},
            {
                "instruction": "says the very same words that were said before",
                "output": "says the very same words that were said before!",
            },
            {"instruction": "long " * 60, "output": "a fine answer"},
            {"instruction": "short", "output": "no"},
            {"instruction": "wordy", "output": "word " * 30},
            {"instruction": "shouts", "output": "LOUD LOUD WORDS"},
        ],
        "lengths.max_tokens=60",
        "clean.min_characters=3",
        "clean.max_characters=100",
        "clean.bounds={uppercase_fraction: {max: 0.9}}",
    )
    assert list(found.values()) == [
        "empty_answer",
        "repeats_prompt",
        "too_long",
        "answer_too_short",
        "answer_too_long",
        "metric",
    ]


def test_other_answers_to_a_prompt_stay_where_the_recipe_allows_them_and_equal_ones_do_not(tmp_path: Path) -> None:
    rows = [{"instruction": GOOD["instruction"], "output": text} for text in ("Another one.", "A third.")]
    rows.append({**GOOD, "output": GOOD["output"] + " "})
    reasons(tmp_path, rows, "clean.max_answers=2")
    dropped = pl.read_parquet(tmp_path / "out" / "ledger.parquet")["rule"].sort().to_list()
    assert dropped == ["repeated_conversation", "repeated_prompt"]


MESSAGES_OF_TWO = [
    [{"role": "user", "content": "Name a river"}, {"role": "assistant", "content": "The copper river"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "河流"},
        {"role": "assistant", "content": "好"},
    ],
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}"
    "{% else %}{{ message.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A trained one with the two special tokens of ChatML."""
    made = train_bpe(iter(["Name a river, the copper river", "user assistant system Be brief"] * 20), 320)
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def lengths_of(config: LengthConfig, folder: Path) -> tuple[str, list[int]]:
    step = located_files(config, folder, "recipe.yaml")
    out = folder / "unpacked"
    out.mkdir(exist_ok=True)
    if step is not None:
        step.run(None, 0, out)
    lengths = Lengths(None if step is None else out, config.overhead_tokens)
    return lengths.measured, lengths.tokens(pl.Series(MESSAGES_OF_TWO, dtype=MESSAGES)).to_list()


def test_with_the_chat_template_lengths_are_those_of_the_rendered_text(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text(TEMPLATE, encoding="utf-8")
    how, found = lengths_of(LengthConfig(tokenizer="tokenizer.json", chat_template="chat.jinja"), tmp_path)
    assert how == EXACT
    by_hand = Tokenizer.from_file(str(tokenizer))
    for number, turns in zip(found, MESSAGES_OF_TWO, strict=True):
        text = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
        assert number == len(by_hand.encode(text, add_special_tokens=False).ids)


def test_without_a_template_each_message_has_its_overhead_and_without_a_tokenizer_bytes_estimate(
    tokenizer: Path, tmp_path: Path
) -> None:
    by_hand = Tokenizer.from_file(str(tokenizer))
    how, found = lengths_of(LengthConfig(tokenizer="tokenizer.json", overhead_tokens=7), tmp_path)
    assert how == APPROXIMATE
    assert found == [sum(7 + len(by_hand.encode(turn["content"]).ids) for turn in turns) for turns in MESSAGES_OF_TWO]
    (tmp_path / "none").mkdir()
    how, found = lengths_of(LengthConfig(), tmp_path / "none")
    assert how == ESTIMATED
    assert found[0] == 4 + 5 + 5 + 5  # 12 and 16 bytes at 3.5 a token, and twice the overhead


@pytest.mark.parametrize(
    ("template", "message"),
    [("{% for %}", "not a Jinja template"), ("{{ raise_exception('no system role') }}", "no system role")],
)
def test_a_chat_template_that_cannot_be_used_is_named(
    tokenizer: Path, tmp_path: Path, template: str, message: str
) -> None:
    (tmp_path / "chat.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(RedoneError, match=f"lengths.chat_template: .*{message}"):
        lengths_of(LengthConfig(tokenizer="tokenizer.json", chat_template="chat.jinja"), tmp_path)


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An OpenAI-compatible judge that finds answers with a number in them good."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
            answer = "yes" if any(letter.isdigit() for letter in asked) else "no"
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_judge_chooses_among_samples(tmp_path: Path, endpoint: str) -> None:
    distilled = (
        "general.some.distilled={answers: answers.jsonl, judge: {prompt: '{text}', answers: {'yes': good, 'no': bad}, "
        f"base_url: '{endpoint}', model: m}}}}"
    )
    with pytest.raises(RedoneError, match="is not there yet"):
        reasons(tmp_path, [], distilled)
    asked = [json.loads(line) for line in (tmp_path / "out" / "prompts" / "some.jsonl").read_text().splitlines()]
    samples = [{"id": row["id"], "answers": ["none that I know", "the 3 forks", "the 4 forks"]} for row in asked]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples), encoding="utf-8")
    reasons(tmp_path, [], distilled)
    (row,) = read_conversations(tmp_path / "out" / "step1.jsonl")
    assert row.messages[-1].content == "the 3 forks"


@pytest.mark.parametrize(
    "values",
    [
        {"max_answers": 0},
        {"min_characters": 0},
        {"min_characters": 9, "max_characters": 3},
        {"max_prompt_similarity": 2.0},
    ],
)
def test_settings_that_no_answer_could_pass_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(RedoneError):
        CleanConfig(**values)  # type: ignore[arg-type]


def test_a_classifier_of_answers_bounds_them_by_its_score(tmp_path: Path) -> None:
    words = {True: ["river", "garden", "window", "copper", "market"], False: ["buy", "cheap", "pills", "click", "now"]}
    texts = [" ".join(words[n % 2 == 0][(n + k) % 5] for k in range(8)) + f" {n}" for n in range(400)]
    table = pa.table({"text": texts, "engagement": pa.nulls(400)})
    examples = Examples.of(table, np.arange(400) % 2 == 0)
    train(examples, TrainConfig(dim=4, buckets=1 << 10), tmp_path / "model")
    rows = [
        {"instruction": "a", "output": "the garden by the copper river"},
        {"instruction": "b", "output": "click now to buy cheap pills"},
    ]
    found = reasons(tmp_path, rows, "clean.quality={ads: {model: model}}", "clean.bounds={quality_ads: {min: 0.5}}")
    assert found == {"a": "kept", "b": "quality"}
    ledger = pl.read_parquet(tmp_path / "out" / "ledger.parquet").to_dicts()
    assert ledger[0]["detail"] == "quality_ads"
    assert ledger[0]["value"] < ledger[0]["bound"] == 0.5
