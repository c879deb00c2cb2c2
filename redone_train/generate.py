"""Answers of a local model to prompts: judge's labels, candidates for preference pairs, tasks to be scored.

In: JSON lines of ``prompt`` (a text, or a list of chat messages), optionally ``id``. Out: a line a prompt, in their
order, with its `answers`; a prompt that does not fit has none and an `error`. Batches hold prompts of like length,
padded at the left, under the tokenizer's chat template if it has one. What all of them begin with goes through the
model once (shared_prefix.py).

Finished batches lie in OUT.partial: stopped or killed at any moment, the same command goes on where it stopped. Each
batch is sampled under a seed of its own, so it ends with the answers that an uninterrupted run gives; what an earlier
OUT answers already is not asked again. Evaluation asks several sets of prompts of one model (:func:`answer`), which is
loaded once, and not at all where every answer is known.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from redone_data.errors import RedoneError
from redone_data.manifest import atomic, canonical, folder_stamp
from redone_data.rng import stream_seed
from redone_train.shared_prefix import SharedPrefix

PARTIAL = ".partial"
Messages = list[dict[str, str]]
NEEDED = "redone-train generate needs the package transformers; pip install 'redone[train]'"


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. temperature 0 is greedy: the likeliest token each time."""

    num_answers: int = 1
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 1
    thinking: bool = False
    stop: tuple[str, ...] = ()  # an answer ends before the first of these, and its batch when all of it has ended

    def __post_init__(self) -> None:
        if "" in self.stop:
            raise RedoneError("stop: an empty text ends every answer before it begins; leave it out")
        if self.num_answers < 1 or self.max_new_tokens < 1:
            raise RedoneError("--num-answers and --max-new-tokens: at least 1 is needed")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise RedoneError("--temperature must not be below 0, and --top-p lies above 0 and up to 1")
        if self.num_answers > 1 and self.temperature == 0:
            raise RedoneError(
                f"--num-answers {self.num_answers}: greedy answers are all the same; set --temperature 0.7"
            )


@dataclass(frozen=True)
class Prompt:
    """One line of the prompts; `key` names its answer: the hash of the model, the sampling and the messages."""

    id: Any
    messages: Messages
    key: str

    @classmethod
    def of(cls, id: Any, messages: Messages, asked_of: str) -> "Prompt":
        """asked_of: :meth:`LocalModel.asked_of`."""
        return cls(id, messages, hashlib.sha256(f"{asked_of}\n{canonical(messages)}".encode()).hexdigest())


@dataclass(frozen=True)
class Generated:
    """What a call did: prompts in the file, asked now, and those that did not fit."""

    prompts: int
    asked: int
    too_long: int


def generate(
    model_folder: Path, prompts_file: Path, out: Path, sampling: Sampling, *, batch_size: int = 16, device: str = "auto"
) -> Generated:
    """Write the answers of the model to `out`. Raises RedoneError for a bad prompt, naming its line, or a bad model."""
    model = LocalModel(model_folder, device)
    prompts = read_prompts(prompts_file, model.asked_of(sampling))
    return answer(model, prompts, out, sampling, batch_size=batch_size)


def answer(
    model: "LocalModel", prompts: Sequence[Prompt], out: Path, sampling: Sampling, *, batch_size: int = 16
) -> Generated:
    """Write the answers to prompts that are at hand to `out`, as :func:`generate` does."""
    answered = read_answers(out)
    pending = {prompt.key: prompt for prompt in prompts if prompt.key not in answered}
    partial = out.with_name(out.name + PARTIAL)
    if pending:
        known = read_answers(partial)
        texts = {key: model.text_of(prompt.messages, thinking=sampling.thinking) for key, prompt in pending.items()}
        rows = {key: model.encoded(text) for key, text in texts.items()}
        lengths = {key: len(row) for key, row in rows.items()}
        room = model.context - sampling.max_new_tokens
        fits = [key for key in pending if lengths[key] <= room]
        order = sorted(fits, key=lambda key: (lengths[key], key))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        shared = SharedPrefix.of(model.model, [rows[key] for key in fits])
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a", encoding="utf-8") as file, _progress(len(fits)) as advance:
            file.write("\n")  # a kill may have left a line without its end
            for batch in batches:
                if not all(key in known for key in batch):
                    seed = stream_seed(sampling.seed, *batch)
                    found = model.answers([texts[key] for key in batch], sampling, seed, shared)
                    known |= {key: {"key": key, "answers": these} for key, these in zip(batch, found, strict=True)}
                    file.writelines(f"{canonical(known[key])}\n" for key in batch)
                    file.flush()
                advance(len(batch))
        for key in pending:
            if lengths[key] > room:
                error = f"{lengths[key]} tokens; the model's context of {model.context} leaves {room} for a prompt"
                known[key] = {"key": key, "answers": [], "error": error}
        answered |= known
    with atomic(out) as aside, aside.open("w", encoding="utf-8") as file:
        for prompt in prompts:
            line = {"id": prompt.id, **answered[prompt.key]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    partial.unlink(missing_ok=True)
    return Generated(len(prompts), len(pending), sum("error" in answered[prompt.key] for prompt in prompts))


def read_prompts(path: Path, asked_of: str) -> list[Prompt]:
    """The prompts of a file; `asked_of` goes into their keys."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RedoneError(f"{path}: cannot be read as text: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            raise RedoneError(f"{path} line {number}: not valid JSON") from None
        prompt = record.get("prompt") if isinstance(record, dict) else None
        messages: Any = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if not _are_messages(messages):
            raise RedoneError(
                f"{path} line {number}: prompt must be a text or a list of {{role, content}}, both texts; "
                'write {"prompt": "..."} on each line'
            )
        found.append(Prompt.of(record.get("id", number), messages, asked_of))
    if not found:
        raise RedoneError(f"{path}: no prompts are in it")
    return found


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
            for one in value
        )
    )


def read_answers(path: Path) -> dict[str, dict[str, Any]]:
    """Key -> answered line. A last line that a killed run left unfinished is passed over."""
    found = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                record = json.loads(line)
                found[record["key"]] = {name: record[name] for name in ("key", "answers", "error") if name in record}
            except (ValueError, KeyError, TypeError):
                continue
    return {key: record for key, record in found.items() if "answers" in record}


class LocalModel:
    """A causal language model of a folder, with its tokenizer; both are loaded when they are first needed."""

    def __init__(self, folder: Path, device: str = "auto", dtype: str = "auto") -> None:
        if not (folder / "config.json").is_file():
            raise RedoneError(f"{folder}: no config.json; give the folder of a Hugging Face model")
        self.folder, self.dtype = folder, dtype
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)

    def asked_of(self, sampling: Sampling) -> str:
        """What an answer depends on beside its prompt."""
        drawn = {name: value for name, value in asdict(sampling).items() if value}
        return canonical([folder_stamp(self.folder), self.dtype, drawn])

    @functools.cached_property
    def tokenizer(self) -> Any:
        tokenizer = self._load("AutoTokenizer")
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        return tokenizer

    @functools.cached_property
    def model(self) -> Any:
        return self._load("AutoModelForCausalLM", dtype=self.dtype).to(self.device).eval()

    @functools.cached_property
    def context(self) -> int:
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 30)

    def unload(self) -> None:
        """Free the memory of the weights; they are read again when they are needed."""
        self.__dict__.pop("model", None)

    def _load(self, kind: str, **options: Any) -> Any:
        try:
            import transformers
        except ImportError:
            raise RedoneError(NEEDED) from None
        try:
            return getattr(transformers, kind).from_pretrained(self.folder, local_files_only=True, **options)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RedoneError(f"{self.folder}: cannot be loaded as a language model: {reason}") from None

    def text_of(self, messages: Messages, *, thinking: bool) -> str:
        """What the model reads: the chat template's text; without one the contents, a line break between them."""
        if self.tokenizer.chat_template is None:
            return "\n".join(message["content"] for message in messages)
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        return text

    def _encode(self, texts: Sequence[str], **options: Any) -> Any:
        # A chat template writes the special tokens itself.
        return self.tokenizer(list(texts), add_special_tokens=self.tokenizer.chat_template is None, **options)

    def encoded(self, text: str) -> list[int]:
        """The tokens of a text as the model reads it."""
        return list(self._encode([text])["input_ids"][0])

    def num_tokens(self, text: str) -> int:
        return len(self.encoded(text))

    @torch.inference_mode()
    def answers(
        self, texts: Sequence[str], sampling: Sampling, seed: int, shared: SharedPrefix | None = None
    ) -> list[list[str]]:
        """`num_answers` texts for each prompt. shared: what all of them begin with, if that has been read already."""
        import transformers

        config_of: Any = transformers.GenerationConfig
        inputs = self._encode(texts, return_tensors="pt", padding=True).to(self.device)
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        drawn = (
            {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if sampling.temperature else {}
        )
        ends = self.model.generation_config.eos_token_id
        config = config_of(
            do_sample=sampling.temperature > 0,
            num_return_sequences=sampling.num_answers,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id if ends is None else ends,
            **drawn,
        )
        if shared is not None:
            padding_B = (inputs["attention_mask"] == 0).sum(1)
            inputs["past_key_values"] = shared.cache(padding_B.repeat_interleave(sampling.num_answers))
        torch.manual_seed(seed % (1 << 63))
        start = inputs["input_ids"].shape[1]
        stops = transformers.StoppingCriteriaList(
            [_Stops(self.tokenizer, sampling.stop, start)] if sampling.stop else []
        )
        tokens = self.model.generate(**inputs, generation_config=config, stopping_criteria=stops)[:, start:]
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        found = [before_stop(text, sampling.stop) for text in texts]
        step = sampling.num_answers
        return [found[start : start + step] for start in range(0, len(found), step)]


def before_stop(text: str, stop: Sequence[str]) -> str:
    """An answer, up to the first of the texts that end it. What opens it does not: models begin with a line break.

    >>> before_stop("\\n Yes\\nQuestion: 2", ["\\n"])
    'Yes'
    """
    text = text.lstrip()
    ends = [place for one in stop if (place := text.find(one)) >= 0]
    return text[: min(ends, default=len(text))].strip()


class _Stops:
    """For Transformers: which rows of a batch have ended. Its own `stop_strings` first looks at all of a vocabulary."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], start: int) -> None:
        self.tokenizer, self.stop, self.start = tokenizer, stop, start
        self.ended: list[bool] = []

    def __call__(self, tokens_BL: torch.Tensor, scores: Any, **others: Any) -> torch.Tensor:
        self.ended = self.ended or [False] * len(tokens_BL)
        going = [row for row, ended in enumerate(self.ended) if not ended]
        texts = self.tokenizer.batch_decode(tokens_BL[going, self.start :], skip_special_tokens=True)
        for row, text in zip(going, texts, strict=True):
            answer = text.lstrip()
            self.ended[row] = any(one in answer for one in self.stop)
        return torch.tensor(self.ended, device=tokens_BL.device)


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    columns = (TextColumn("prompts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=total)
        yield lambda done: bars.advance(task, done)
