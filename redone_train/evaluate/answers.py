"""The answers of a model to items: of a folder's by generation or by likelihood, or of an endpoint.

Answers are kept as they come in OUTPUT/answers, by the hash of what was asked of which model: a killed evaluation goes
on where it was, and another seed or scorer asks nothing again. Generation is redone_train/generate.py: batches of like
length, padded at the left, over when all of a batch have ended. What the prompts of a task share (solved examples), and
of one item the options, goes through the model once.

By likelihood the answer is the option with the highest probability of all its tokens and of the token that ends it, so
that no option wins by being the beginning of another; items without options are generated.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch

from redone_data.curate.asking import Question, ask
from redone_data.manifest import canonical
from redone_train.evaluate.config import AnswersBy, EndpointConfig
from redone_train.evaluate.items import Item
from redone_train.evaluate.limits import limit_of, options_of
from redone_train.evaluate.results import Answered
from redone_train.generate import LocalModel, Prompt, Sampling, answer, before_stop, read_answers
from redone_train.shared_prefix import SharedPrefix

LINE_END = "\n"  # ends an answer of a model without a chat template, where nothing else does


@dataclass(frozen=True)
class Asking:
    """How items are asked, where nothing is known of their answers (limits.py)."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    by: AnswersBy = "generate"
    batch_size: int = 16

    def limits(self, item: Item, *, chat: bool) -> tuple[int, tuple[str, ...]]:
        """Tokens at most, and what ends the answer; a model that chats ends by itself, and may think aloud."""
        limit = limit_of(item)
        if chat:
            return max(self.max_new_tokens, limit.max_new_tokens or 0), self.stop
        return limit.max_new_tokens or self.max_new_tokens, tuple(dict.fromkeys((*limit.stop, *self.stop)))


class Answerer(ABC):
    """A model that can be asked."""

    @abstractmethod
    def answers(self, items: Sequence[Item], asking: Asking, file: Path) -> list[Answered]:
        """An answer to each item, kept in `file`."""


@final
@dataclass(frozen=True)
class EndpointAnswers(Answerer):
    """confirmed: the calls may be made; else what they cost is said, as an error, before the first."""

    config: EndpointConfig
    confirmed: bool

    def answers(self, items: Sequence[Item], asking: Asking, file: Path) -> list[Answered]:
        found: dict[int, Answered] = {}
        for (most, stop), numbers in _alike(items, asking, chat=True).items():
            config = replace(self.config, max_tokens=most, stop=stop)
            questions = [Question(items[number].messages) for number in numbers]
            texts = ask(questions, config, file, confirmed=self.confirmed)
            found |= {n: Answered(before_stop(text, stop)) for n, text in zip(numbers, texts, strict=True)}
        return [found[number] for number in range(len(items))]


@final
@dataclass(frozen=True)
class LocalAnswers(Answerer):
    model: LocalModel

    def answers(self, items: Sequence[Item], asking: Asking, file: Path) -> list[Answered]:
        file.parent.mkdir(parents=True, exist_ok=True)
        chosen = {n for n, item in enumerate(items) if asking.by == "likelihood" and options_of(item)}
        found = self._chosen([(n, items[n]) for n in sorted(chosen)], asking, file) if chosen else {}
        free = [(n, item) for n, item in enumerate(items) if n not in chosen]
        for (most, stop), places in _alike([item for _, item in free], asking, chat=self._chat).items():
            sampling = Sampling(max_new_tokens=most, stop=stop)
            asked_of = self.model.asked_of(sampling)
            numbers = [free[place][0] for place in places]
            prompts = [Prompt.of(items[n].id, list(items[n].messages), asked_of) for n in numbers]
            lines = self._generated(prompts, sampling, asking.batch_size, file)
            for number, prompt in zip(numbers, prompts, strict=True):
                line = lines[prompt.key]
                found[number] = Answered((line["answers"] or [""])[0], line.get("error"))
        return [found[number] for number in range(len(items))]

    def _generated(
        self, prompts: Sequence[Prompt], sampling: Sampling, batch_size: int, file: Path
    ) -> dict[str, dict[str, Any]]:
        """Key -> answered line; those that are new join the file."""
        known = read_answers(file)
        missing = [prompt for prompt in prompts if prompt.key not in known]
        if missing:
            new = file.with_suffix(".new.jsonl")  # beside it, finished batches, until all of them are
            answer(self.model, missing, new, sampling, batch_size=batch_size)
            added = read_answers(new)
            with file.open("a", encoding="utf-8") as kept:
                kept.writelines(f"\n{canonical(line)}\n" for line in added.values())
            new.unlink()
            known |= added
        return known

    def _chosen(self, numbered: Sequence[tuple[int, Item]], asking: Asking, file: Path) -> dict[int, Answered]:
        """The likeliest option of each."""
        asked: list[tuple[int, Item, Sequence[str], Sequence[str], str]] = []
        path = file.with_suffix(".likelihood.jsonl")
        known = read_answers(path)
        stamp = self.model.asked_of(Sampling())
        for n, item in numbered:
            options, stop = options_of(item) or [], asking.limits(item, chat=self._chat)[1]
            asked_of = canonical([stamp, "likelihood", options, stop])
            asked.append((n, item, options, stop, Prompt.of(item.id, list(item.messages), asked_of).key))
        starts = [self.model.encoded(self._prompt(item)) for _, item, _, _, key in asked if key not in known]
        prefix = SharedPrefix.of(self.model.model, starts) if starts else None
        chosen: dict[int, Answered] = {}
        with path.open("a", encoding="utf-8") as kept:
            kept.write("\n")  # a kill may have left a line without its end
            for n, item, options, stop, key in asked:
                if key not in known:
                    known[key] = {"key": key, **self._likeliest(item, options, stop, asking.batch_size, prefix)}
                    kept.write(canonical(known[key]) + "\n")
                    kept.flush()
                chosen[n] = Answered((known[key]["answers"] or [""])[0], known[key].get("error"))
        return chosen

    @cached_property
    def _chat(self) -> bool:
        return self.model.tokenizer.chat_template is not None

    def _prompt(self, item: Item) -> str:
        prompt = self.model.text_of(list(item.messages), thinking=False)
        # As the answers of solved examples follow their questions.
        return prompt if self._chat or prompt[-1:].isspace() else prompt + LINE_END

    def _likeliest(
        self, item: Item, options: Sequence[str], stop: Sequence[str], batch_size: int, prefix: SharedPrefix | None
    ) -> dict[str, Any]:
        """`answers`, one, or none and an `error`."""
        prompt = self._prompt(item)
        end = self.model.tokenizer.eos_token if self._chat else (stop[0] if stop else LINE_END)
        start = self.model.encoded(prompt)
        rows = [self.model.encoded(prompt + option + end) for option in options]
        longest, context = max(map(len, rows)), self.model.context
        if longest > context:
            return {
                "answers": [],
                "error": f"{longest} tokens with the longest option; the model's context is {context}",
            }
        # Over all options, not those of a batch: all are conditioned on the same tokens.
        shared = min(_shared(start, row) for row in rows)
        found = [
            value
            for first in range(0, len(rows), batch_size)
            for value in log_probs(self.model, shared, rows[first : first + batch_size], prefix)
        ]
        return {"answers": [options[max(range(len(found)), key=lambda place: found[place])]]}


@torch.inference_mode()
def log_probs(
    model: LocalModel, shared: int, rows: Sequence[Sequence[int]], prefix: SharedPrefix | None = None
) -> list[float]:
    """The log-probability of each row after its first `shared` tokens, which are those of all and are read once.

    prefix: what these begin with, if that has been read already.
    """
    longest = max(len(row) for row in rows)
    ids_BL = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=model.device)
    cache: Any = None
    if shared > 1:
        read = min(len(prefix.tokens), shared - 1) if prefix else 0
        cache = prefix.cache(ids_BL.new_zeros(1), read) if prefix else None
        if read < shared - 1:
            first: Any = model.model(
                input_ids=ids_BL[:1, read : shared - 1], past_key_values=cache, logits_to_keep=1, use_cache=True
            )
            cache = first.past_key_values
        cache.batch_repeat_interleave(len(rows))
    # Causal: what is padded at the right changes nothing before it.
    found: Any = model.model(input_ids=ids_BL[:, shared - 1 :], past_key_values=cache, use_cache=cache is not None)
    log_BKV = found.logits[:, :-1].float().log_softmax(-1)
    taken_BK = log_BKV.gather(-1, ids_BL[:, shared:, None])[..., 0]
    sizes_B = torch.tensor([len(row) - shared for row in rows], device=model.device)
    inside_BK = torch.arange(longest - shared, device=model.device) < sizes_B[:, None]
    sums: list[float] = (taken_BK.double() * inside_BK).sum(1).tolist()
    return sums


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many first tokens two rows have in common (they may merge at the seam); the last is left to be predicted."""
    size = min(len(a), len(b) - 1)
    return max(next((place for place in range(size) if a[place] != b[place]), size), 1)


def _alike(items: Sequence[Item], asking: Asking, *, chat: bool) -> dict[tuple[int, tuple[str, ...]], list[int]]:
    """The places of items that are asked with the same limits."""
    found: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for number, item in enumerate(items):
        found.setdefault(asking.limits(item, chat=chat), []).append(number)
    return found
