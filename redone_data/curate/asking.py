"""Questions to a language model, an OpenAI-compatible endpoint or a local folder, and every answer kept.

An answer is kept in a file by the hash of what was asked and where, as it comes: a run that was cut short goes on where
it was, and nothing is paid for twice. What asking will cost is known before it starts, and it starts only when told to.

The endpoint gets the texts: send personal data only where it may go. The key is read from an environment variable and
never written.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError
from redone_data.manifest import atomic, canonical, folder_stamp
from redone_data.processes import die_with_parent

# Characters of a token, to estimate a cost: about 4 in English, 1.3 in Chinese; bytes are near 3.5 in both.
BYTES_A_TOKEN = 3.5
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
Progress = Callable[[int, int], None]
Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Question:
    """What is asked, and which answer to it this is, where several are drawn."""

    messages: Messages
    sample: int = 0


@dataclass(frozen=True, kw_only=True)
class AskConfig(ABC):
    """Whom to ask, and how."""

    base_url: str | None = field(default=None, metadata={"help": "the endpoint up to and with /v1"})
    model: str | None = field(default=None, metadata={"help": "the model's name there"})
    generate: str | None = field(
        default=None, metadata={"help": "in place of an endpoint: folder of a model that redone-train generate asks"}
    )
    api_key_env: str | None = field(default=None, metadata={"help": "environment variable that holds the key"})
    max_tokens: int = field(default=8, metadata={"help": "of an answer"})
    concurrency: int = field(default=8, metadata={"help": "calls at a time"})
    retries: int = field(default=5, metadata={"help": "of a call that fails for a while, each after twice the wait"})
    first_wait_seconds: float = field(default=1.0, metadata={"help": "before the first retry"})
    timeout_seconds: float = field(default=60.0, metadata={"help": "of one call"})
    price_in: float | None = field(default=None, metadata={"help": "of a million tokens sent"})
    price_out: float | None = field(default=None, metadata={"help": "of a million tokens received"})

    def __post_init__(self) -> None:
        if (self.generate is None) != (self.base_url is not None and self.model is not None):
            raise RedoneError("give either base_url and model (an endpoint) or generate (the folder of a local model)")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise RedoneError(f"base_url: {self.base_url!r}; it begins with http:// or https://")
        if min(self.concurrency, self.max_tokens) < 1 or self.retries < 0:
            raise RedoneError("concurrency and max_tokens must be above 0, retries not below")

    @abstractmethod
    def sampling(self) -> dict[str, float]:
        """How answers are drawn, as a request says it: ``temperature``, 0 where only the likeliest is wanted."""

    def request(self, question: Question) -> dict[str, Any]:
        """The body of the call."""
        drawn = {**self.sampling(), **({"seed": question.sample} if self.sampling()["temperature"] else {})}
        return {"model": self.model, "messages": list(question.messages), "max_tokens": self.max_tokens, **drawn}

    def key_of(self, question: Question) -> str:
        """Names an answer: the hash of where it was asked and what."""
        asked = self.base_url if self.generate is None else _model_stamp(self.generate)
        return hashlib.sha256(canonical([asked, self.request(question)]).encode()).hexdigest()


@functools.lru_cache(maxsize=4)
def _model_stamp(folder: str) -> str:
    return folder_stamp(Path(folder))


@dataclass(frozen=True)
class Cost:
    """What asking will take, estimated."""

    calls: int
    cached: int
    tokens_in: int
    tokens_out: int
    price: float | None

    def __str__(self) -> str:
        price = "" if self.price is None else f", about {self.price:.2f} in the currency of the prices given"
        return (
            f"{self.calls} calls ({self.cached} answers are at hand), about {self.tokens_in:,} tokens sent "
            f"and at most {self.tokens_out:,} received{price}"
        )


def cost_of_asking(questions: Iterable[Question], config: AskConfig, cache: Path) -> Cost:
    """What :func:`ask` would take now."""
    known = read_cache(cache)
    keyed = [(config.key_of(question), question) for question in questions]
    missing = {key: question for key, question in keyed if key not in known}
    sent = sum(len(str(message["content"]).encode()) for one in missing.values() for message in one.messages)
    tokens_in, tokens_out = int(sent / BYTES_A_TOKEN), len(missing) * config.max_tokens
    price = None
    if config.price_in is not None and config.price_out is not None:
        price = (tokens_in * config.price_in + tokens_out * config.price_out) / 1e6
    return Cost(len(missing), sum(key in known for key, _ in keyed), tokens_in, tokens_out, price)


def ask(
    questions: Sequence[Question],
    config: AskConfig,
    cache: Path,
    *,
    confirmed: bool,
    progress: Progress = lambda *_: None,
) -> list[str]:
    """An answer to each question; answers are added to the file `cache` as they come.

    Raises RedoneError before any call unless `confirmed`, and when the endpoint refuses or stays away; answers that
    came are kept.
    """
    known = read_cache(cache)
    keys = [config.key_of(question) for question in questions]
    missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in known}
    if missing and not confirmed and config.generate is None:
        raise RedoneError(f"this would take {cost_of_asking(questions, config, cache)}; add --yes to start")
    api_key = _api_key(config) if missing else None
    fault: BaseException | None = None
    if missing:
        cache.parent.mkdir(parents=True, exist_ok=True)
    if missing and config.generate is not None:
        _generate(config, missing, cache)
        known = read_cache(cache)
    elif missing:
        with cache.open("a", encoding="utf-8") as file, ThreadPoolExecutor(config.concurrency) as pool:
            waiting = {pool.submit(_call, config, one, api_key): name for name, one in missing.items()}
            for done, call in enumerate(as_completed(waiting), 1):
                if call.cancelled():
                    continue
                if (error := call.exception()) is not None:
                    # Calls under way are paid for: their answers are still awaited and kept. Each is cancelled for
                    # itself: what shutdown(cancel_futures=True) cancels, as_completed awaits for ever.
                    fault = fault or error
                    for other in waiting:
                        other.cancel()
                    continue
                name = waiting[call]
                known[name] = call.result()
                # The line break first: a run that was killed may have left a line without its end.
                file.write("\n" + canonical({"key": name, "answer": known[name]}) + "\n")
                file.flush()
                progress(done, len(waiting))
    if fault is not None:
        raise fault
    return [known[key] for key in keys]


def read_cache(path: Path) -> dict[str, str]:
    """Key -> answer. A last line that a killed run left unfinished is passed over."""
    answers = {}
    if path.is_file():
        for line in path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
                answers[entry["key"]] = entry["answer"]
            except (ValueError, KeyError, TypeError):
                continue
    return answers


def _generate(config: AskConfig, missing: Mapping[str, Question], cache: Path) -> None:
    """Ask a local model by the command redone-train, whose own progress is shown; its answers join the cache.

    The command keeps its finished batches: cut short, the same call goes on where it was.
    """
    keys: dict[str, dict[int, str]] = {}  # what is asked -> which answer to it -> its key
    asked: dict[str, Messages] = {}
    for key, question in missing.items():
        name = hashlib.sha256(canonical(list(question.messages)).encode()).hexdigest()
        keys.setdefault(name, {})[question.sample] = key
        asked[name] = question.messages
    prompts, answers = (cache.with_name(f"{cache.name}.{kind}") for kind in ("prompts", "generated"))
    with atomic(prompts) as aside:
        lines = ({"id": name, "prompt": list(messages)} for name, messages in sorted(asked.items()))
        aside.write_text("".join(canonical(line) + "\n" for line in lines), encoding="utf-8")
    arguments = [*(sys.executable, "-m", "redone_train", "generate", str(config.generate), str(prompts))]
    arguments += ["--out", str(answers), "--max-new-tokens", str(config.max_tokens)]
    arguments += ["--batch-size", str(config.concurrency)]
    if config.sampling()["temperature"]:
        arguments += ["--num-answers", str(1 + max(max(samples) for samples in keys.values()))]
        arguments += [f"--{name.replace('_', '-')}={value}" for name, value in config.sampling().items()]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, check=False, preexec_fn=die_with_parent)
    if done.returncode:
        raise RedoneError(
            "redone-train generate did not finish (its message is above); answers so far are kept: start again"
        )
    with cache.open("a", encoding="utf-8") as file:
        for line in map(json.loads, answers.read_text(encoding="utf-8").split("\n")[:-1]):
            for sample, key in sorted(keys[line["id"]].items()):
                # A prompt that does not fit the model has no answer: counted as one that cannot be read.
                answer = line["answers"][sample] if line["answers"] else ""
                file.write("\n" + canonical({"key": key, "answer": answer}) + "\n")
    for path in (prompts, answers):
        path.unlink()


def _api_key(config: AskConfig) -> str | None:
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env)
    if not key:
        raise RedoneError(
            f"the environment variable {config.api_key_env} is not set; it should hold the endpoint's key"
        )
    return key


def _call(config: AskConfig, question: Question, key: str | None) -> str:
    headers: Mapping[str, str] = {
        "Content-Type": "application/json",
        **({"Authorization": f"Bearer {key}"} if key else {}),
    }
    url = str(config.base_url).rstrip("/") + "/chat/completions"
    body = json.dumps(config.request(question)).encode()
    for attempt in range(config.retries + 1):
        try:
            request = urllib.request.Request(url, body, dict(headers))
            with urllib.request.urlopen(request, timeout=config.timeout_seconds) as response:
                answer = json.loads(response.read())["choices"][0]["message"]["content"]
                return str(answer or "")
        except urllib.error.HTTPError as error:
            with error:
                fault, passing = f"HTTP {error.code} {error.reason}", error.code in RETRIED
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            fault, passing = f"{type(error).__name__}: {error}", True
        if not passing or attempt == config.retries:
            break
        time.sleep(config.first_wait_seconds * 2**attempt)
    raise RedoneError(f"{url}: {fault}; answers so far are kept: mend it and start again")
