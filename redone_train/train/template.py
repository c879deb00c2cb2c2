"""Chat templates that mark what an assistant says, and the proof, at the start, that they do.

Assistant-only loss hangs on marks within a template ({% generation %}); where they are absent, or end too early, a
model is trained on nothing, on the questions too, or never to stop, and its loss looks well. So conversations of the
run are rendered, the marked tokens decoded, and held against the answers: .5 ms a conversation, 64 of them.

Which template: a file of the user's; the model's own, where it has marks; TRL's for a family that it knows (Qwen,
Llama, Gemma ...), which renders the same text; ours (ChatML) where a base model has none.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError
from redone_data.manifest import digest
from redone_train.train.start import Start

Messages = list[dict[str, str]]

CHECKED = 64
BEGIN, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}{{ '@BEGIN' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '@END' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '@END' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '@BEGINassistant\n' }}{% endif %}"
)
REMEDY = (
    "put {% generation %} before and {% endgeneration %} after what the assistant says and the token that ends its turn"
)


@dataclass(frozen=True)
class Template:
    """text: in Jinja. origin: for messages. own: whether a model that is trained with it is to keep it."""

    text: str
    origin: str
    own: bool

    @property
    def digest(self) -> str:
        return digest(self.text)

    def miscount(self, marked: int, answers: int) -> str:
        return f"{self.origin} marks {marked} of {answers} turns of the assistant; {REMEDY}"


@dataclass(frozen=True)
class Rendered:
    """Tokens of a conversation, and of each whether it is learnt."""

    tokens: list[int]
    marked: list[bool]

    def runs(self) -> Iterator[list[int]]:
        """The marked tokens, one run of them after another."""
        pairs = zip(self.tokens, self.marked, strict=True)
        for marked, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
            if marked:
                yield [token for token, _ in run]


def load_tokenizer(start: Start) -> Any:
    """Of a start point's folder, with the end token of the model where it has none of its own."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start.folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.eos_token is None and isinstance(end := start.text_config.eos_token_id, int):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def find_template(tokenizer: Any, file: Path | None, model: str) -> Template:
    """The template to train with; RedoneError: one without marks. model: its name, for messages."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RedoneError(f"data.template: {file}: cannot be read: {error}") from None
        if not has_generation_markers(text):
            raise RedoneError(f"data.template: {file} does not mark what the assistant says; {REMEDY}")
        return Template(text, str(file), own=True)
    text = tokenizer.chat_template
    if isinstance(text, dict):
        text = text["default"]
    if text is None:
        return chatml(tokenizer, model)
    if has_generation_markers(text):
        return Template(text, f"the chat template of {model}", own=True)
    try:
        known: str | None = get_training_chat_template(tokenizer)
    except ValueError:
        known = None
    if known is None:
        raise RedoneError(
            f"data.template: the chat template of {model} does not mark what the assistant says, and TRL has none that "
            f"does for its family; copy it into a file, {REMEDY}, and give that file"
        )
    return Template(known, f"TRL's chat template for the family of {model}", own=False)


def chatml(tokenizer: Any, model: str) -> Template:
    """For a base model without a template: ChatML, with the model's own end token where it has not ChatML's.

    Tokens that a base model has, but never saw (Gemma's <end_of_turn>), would be dear to learn.
    """
    end = END if {BEGIN, END} <= tokenizer.get_vocab().keys() else tokenizer.eos_token
    if end is None:
        raise RedoneError(
            f"data.template: {model} has neither a chat template nor an end token; give its tokenizer an eos_token, or "
            "a template in a file"
        )
    # What the tokenizer itself would put before every text: rendered conversations are tokenized without.
    first = tokenizer("a").input_ids[:1]
    opening = tokenizer.decode(first) if first != tokenizer("a", add_special_tokens=False).input_ids[:1] else ""
    text = CHATML.replace("@BEGIN", BEGIN).replace("@END", end)
    return Template(f"{{{{ '{opening}' }}}}{text}" if opening else text, "ChatML (the model has no template)", own=True)


def render(
    tokenizer: Any, template: Template, conversations: Sequence[Messages], places: Sequence[str]
) -> list[Rendered]:
    """Conversations as tokens. places: `file line N` of each; RedoneError names that of one that cannot be rendered."""
    try:
        found = tokenizer.apply_chat_template(
            list(conversations),
            chat_template=template.text,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
    except Exception as error:  # of Jinja, and whatever a template's filters raise
        if len(conversations) > 1:
            return [
                rendered
                for messages, place in zip(conversations, places, strict=True)
                for rendered in render(tokenizer, template, [messages], [place])
            ]
        raise RedoneError(f"{places[0]}: {template.origin} cannot render it: {_first_line(error)}") from None
    return [
        Rendered(tokens, [bool(mark) for mark in marks])
        for tokens, marks in zip(found["input_ids"], found["assistant_masks"], strict=True)
    ]


def answers_of(messages: Messages) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "assistant"]


def check_template(
    tokenizer: Any, template: Template, conversations: Sequence[Messages], rendered: Sequence[Rendered]
) -> int:
    """The token that ends a turn; RedoneError says what the template marks wrongly.

    Each marked run of tokens must be one answer, whole, nothing of the others, and the token that ends its turn. Looked
    at are those with the most turns, and as many of all.
    """
    ends: list[int] = []
    known = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    by_turns = sorted(range(len(conversations)), key=lambda number: -len(conversations[number]))
    spread = range(0, len(conversations), 1 + 2 * len(conversations) // CHECKED)
    for number in (*by_turns[: CHECKED // 2], *spread):
        answers, runs = answers_of(conversations[number]), list(rendered[number].runs())
        if len(runs) != len(answers):
            raise RedoneError(f"data.template: {template.miscount(len(runs), len(answers))}")
        ends += [_end_of(tokenizer, known, template, answer, run) for answer, run in zip(answers, runs, strict=True)]
    if not ends:
        raise RedoneError("data: there is no turn of an assistant")
    return ends[-1]


def _end_of(tokenizer: Any, known: set[int], template: Template, answer: str, run: Sequence[int]) -> int:
    """The last marked token, which must be `known`: one of the tokenizer's own, and no text."""
    text, answer = tokenizer.decode(run), answer.strip()
    if answer not in text:  # a tokenizer that rewrites what it reads (NFKC, spaces)
        answer = tokenizer.decode(tokenizer(answer, add_special_tokens=False).input_ids).strip()
    before, found, after = text.partition(answer)
    if not found:
        raise RedoneError(
            f"data.template: {template.origin} does not mark all of an answer: {_short(answer)!r} is learnt as "
            f"{_short(text)!r}; {REMEDY}"
        )
    # Thoughts that a template opens and closes for a model that can think belong to what it says.
    if before.replace("<think>", "").replace("</think>", "").strip():
        raise RedoneError(
            f"data.template: {template.origin} marks more than the answer {_short(answer)!r}: before it, "
            f"{_short(before.strip())!r} is learnt too; {REMEDY}"
        )
    last = next((token for token in reversed(run) if tokenizer.decode([token]).strip()), None)
    if last is None or last not in known or not after.strip():
        raise RedoneError(
            f"data.template: {template.origin} leaves the token that ends a turn unmarked, and the model would never "
            f"learn to stop: {_short(text[-40:])!r} is the end of what is learnt; {REMEDY}"
        )
    if tokenizer.decode([token for token in run if token != last]).partition(answer)[2].strip():
        raise RedoneError(
            f"data.template: {template.origin} marks more than the answer {_short(answer)!r}: after it, "
            f"{_short(after.strip())!r} is learnt too; {REMEDY}"
        )
    return last


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:28]} ... {text[-28:]}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
