"""Chat templates: what is learnt of a conversation, and which templates are refused with their fault named."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="redone-train sft needs the packages of redone[train]")

from redone_data.errors import RedoneError
from redone_train.train.template import Template, check_template, find_template, render

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "A cat \u732b."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes \U0001f389"},
]
MARKED = "{% generation %}{{ message.content + '<end>' }}{% endgeneration %}"


def tokenizer_of(*special: str, eos: str | None = "<end>", opening: bool = False) -> Any:
    """Bytes, and these tokens of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = [*([eos] if eos else []), *special]
    tokenizer = Tokenizer(models.BPE({sign: number for number, sign in enumerate([*own, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(own)
    if opening:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", own.index("<bos>"))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos)


def learnt(tokenizer: Any, template: Template, messages: list[dict[str, str]] = TALK) -> tuple[str, list[str]]:
    """All that is rendered, and each marked run of it."""
    (one,) = render(tokenizer, template, [messages], ["talk.jsonl line 1"])
    runs, before = [], False
    for token, marked in zip(one.tokens, one.marked, strict=True):
        if marked and not before:
            runs.append([])
        if marked:
            runs[-1].append(token)
        before = marked
    return tokenizer.decode(one.tokens), [tokenizer.decode(run) for run in runs]


def checked(tokenizer: Any, text: str, messages: list[dict[str, str]] = TALK) -> str:
    """The token that ends a turn, by this template."""
    template = Template(text, "the template", own=True)
    return tokenizer.decode(
        [check_template(tokenizer, template, [messages], render(tokenizer, template, [messages], [""]))]
    )


def loop(body: str) -> str:
    return "{% for message in messages %}<{{ message.role }}>" + body + "\n{% endfor %}"


@pytest.mark.parametrize(
    ("special", "end"), [((), "<end>"), (("<|im_start|>",), "<end>"), (("<|im_start|>", "<|im_end|>"), "<|im_end|>")]
)
def test_a_base_model_learns_chatml_with_the_end_token_that_it_knows(special: tuple[str, ...], end: str) -> None:
    tokenizer = tokenizer_of(*special)
    template = find_template(tokenizer, None, "base")
    text, runs = learnt(tokenizer, template)
    assert runs == [f"A cat \u732b.{end}", f"Yes \U0001f389{end}"]
    begin = "<|im_start|>"
    assert text.startswith(f"{begin}system\nBe brief.{end}\n{begin}user\nWhat is it?{end}\n{begin}assistant\nA cat")
    (one,) = render(tokenizer, template, [TALK], [""])
    assert tokenizer.decode([check_template(tokenizer, template, [TALK], [one])]) == end
    asked = tokenizer.apply_chat_template(
        TALK[:2], chat_template=template.text, add_generation_prompt=True, tokenize=False
    )
    assert text.startswith(asked), "what it is asked with is what it was trained on"


def test_a_model_that_wants_a_token_before_every_text_gets_it_once() -> None:
    tokenizer = tokenizer_of("<bos>", opening=True)
    text, _ = learnt(tokenizer, find_template(tokenizer, None, "base"))
    assert text.startswith("<bos><|im_start|>system")
    assert text.count("<bos>") == 1


def test_a_known_family_gets_marks_and_keeps_its_own_template() -> None:
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    tokenizer = tokenizer_of("<|im_start|>", "<|im_end|>")
    tokenizer.chat_template = (folder / "qwen2_5.jinja").read_text(encoding="utf-8")
    template = find_template(tokenizer, None, "qwen")
    assert not template.own
    text, runs = learnt(tokenizer, template)
    assert text == tokenizer.apply_chat_template(TALK, tokenize=False)
    assert [run.strip() for run in runs] == ["A cat \u732b.<|im_end|>", "Yes \U0001f389<|im_end|>"]
    assert checked(tokenizer, template.text) == "<|im_end|>"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{{ message.content }}<end>", r"the template marks 0 of 2 turns of the assistant; put \{% generation %\}"),
        (
            "{% if message.role == 'assistant' and loop.last %}"
            + MARKED
            + "{% else %}{{ message.content }}{% endif %}",
            "marks 1 of 2 turns",
        ),
        (MARKED, "marks 5 of 2 turns"),
        (
            "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}<end>"
            "{% else %}{{ message.content }}{% endif %}",
            "the model would never learn to stop: 'A cat \u732b.' is the end",
        ),
        (
            "{% if message.role == 'assistant' %}{% generation %}I say: {{ message.content }}<end>{% endgeneration %}"
            "{% else %}{{ message.content }}{% endif %}",
            "marks more than the answer 'A cat \u732b.': before it, 'I say:' is learnt too",
        ),
        (
            "{% if message.role == 'assistant' %}{% generation %}{{ message.content }} (said)<end>{% endgeneration %}"
            "{% else %}{{ message.content }}{% endif %}",
            r"marks more than the answer 'A cat \u732b.': after it, '\(said\)<end>' is learnt too",
        ),
        (
            "{% if message.role == 'assistant' %}{{ message.content[:3] }}"
            "{% generation %}{{ message.content[3:] }}<end>{% endgeneration %}"
            "{% else %}{{ message.content }}{% endif %}",
            "does not mark all of an answer: 'A cat \u732b.' is learnt as 'at \u732b.<end>'",
        ),
    ],
)
def test_a_template_that_marks_wrongly_is_refused_with_its_fault(body: str, message: str) -> None:
    with pytest.raises(RedoneError, match=message):
        checked(tokenizer_of(), loop(body))


def test_a_template_without_marks_is_refused_before_anything_is_rendered(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    tokenizer.chat_template = loop("{{ message.content }}<end>")
    with pytest.raises(
        RedoneError, match="the chat template of mine does not mark what the assistant says, and TRL has"
    ):
        find_template(tokenizer, None, "mine")
    file = tmp_path / "chat.jinja"
    file.write_text(tokenizer.chat_template)
    with pytest.raises(RedoneError, match="does not mark what the assistant says; put"):
        find_template(tokenizer, file, "mine")
    with pytest.raises(RedoneError, match=r"nowhere\.jinja: cannot be read"):
        find_template(tokenizer, tmp_path / "nowhere.jinja", "mine")


def test_a_template_of_ones_own_that_is_right_is_taken(tmp_path: Path) -> None:
    tokenizer, file = tokenizer_of(), tmp_path / "chat.jinja"
    body = "{% if message.role == 'assistant' %}" + MARKED + "{% else %}{{ message.content }}{% endif %}"
    file.write_text(loop(body))
    template = find_template(tokenizer, file, "mine")
    assert learnt(tokenizer, template)[1] == ["A cat \u732b.<end>", "Yes \U0001f389<end>"]


def test_a_conversation_that_a_template_refuses_is_named_by_its_line() -> None:
    text = (
        "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + ("{% generation %}{{ message.content }}<end>{% endgeneration %}{% endfor %}")
    )
    places = ["talk.jsonl line 1", "talk.jsonl line 2"]
    with pytest.raises(RedoneError, match=r"talk\.jsonl line 2: the template cannot render it: no system"):
        render(tokenizer_of(), Template(text, "the template", own=True), [TALK[1:], TALK], places)


def test_a_base_model_without_an_end_token_is_refused() -> None:
    with pytest.raises(RedoneError, match="neither a chat template nor an end token"):
        find_template(tokenizer_of(eos=None), None, "base")
