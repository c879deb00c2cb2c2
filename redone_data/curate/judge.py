"""An LLM as judge: labels for a sample, from an OpenAI-compatible endpoint or a local model, to train a classifier on.

An LLM judges some posts a second; a classifier distilled from a few thousand answers judges a hundred thousand
(curate/quality_train.py: train, then `agreement` on held-out answers). Every answer is kept in a file by the hash of
what was asked, so a run that was cut short goes on where it was and nothing is paid for twice. What it will cost is
known before it starts, and it starts only when told to.

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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from redone_data.curate.formats import read_file
from redone_data.curate.sources import DigestCache, SourceConfig, resolve_inputs
from redone_data.errors import RedoneError
from redone_data.manifest import atomic, canonical, folder_stamp
from redone_data.processes import die_with_parent
from redone_data.text.hashing import hash128
from redone_data.text.normalize import normalize
from redone_data.text.redact import redact

PLACE = "{text}"
# Characters of a token, to estimate a cost: about 4 in English, 1.3 in Chinese; bytes are near 3.5 in both.
BYTES_A_TOKEN = 3.5
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class JudgeConfig:
    """Whom to ask, and what."""

    prompt: str = field(metadata={"help": "what is asked, with {text} where the post goes"})
    answers: dict[str, str] = field(metadata={"help": "each answer that is allowed -> good or bad"})
    base_url: str | None = field(default=None, metadata={"help": "the endpoint up to and with /v1"})
    model: str | None = field(default=None, metadata={"help": "the model's name there"})
    generate: str | None = field(
        default=None, metadata={"help": "in place of an endpoint: folder of a model that redone-train generate asks"}
    )
    api_key_env: str | None = field(default=None, metadata={"help": "environment variable that holds the key"})
    max_characters: int = field(default=2000, metadata={"help": "of a post; the rest is not sent"})
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
        if PLACE not in self.prompt:
            raise RedoneError("prompt: {text} is missing; put it where the post shall stand")
        wrong = [label for label in self.answers.values() if label not in ("good", "bad")]
        if len(set(self.answers.values())) < 2 or wrong:
            raise RedoneError("answers: name at least one answer that means good and one that means bad")
        if len({_folded(answer) for answer in self.answers}) < len(self.answers):
            raise RedoneError("answers: two answers differ in case or white space only")
        if min(self.concurrency, self.max_characters, self.max_tokens) < 1 or self.retries < 0:
            raise RedoneError("concurrency, max_characters and max_tokens must be above 0")

    def request(self, text: str) -> dict[str, Any]:
        """The body of the call for one post."""
        content = self.prompt.replace(PLACE, text[: self.max_characters])
        messages = [{"role": "user", "content": content}]
        return {"model": self.model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0}

    def key_of(self, text: str) -> str:
        """Names an answer: the hash of where it was asked and what."""
        asked = self.base_url if self.generate is None else _model_stamp(self.generate)
        return hashlib.sha256(canonical([asked, self.request(text)]).encode()).hexdigest()

    def label(self, answer: str) -> str | None:
        """good or bad; None for an answer that is not one of those allowed."""
        return {_folded(name): label for name, label in self.answers.items()}.get(_folded(answer))


@functools.lru_cache(maxsize=4)
def _model_stamp(folder: str) -> str:
    return folder_stamp(Path(folder))


def _folded(answer: str) -> str:
    return answer.strip().rstrip(".").casefold()


@dataclass(frozen=True)
class Cost:
    """What judging will take, estimated."""

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


@dataclass(frozen=True)
class Judged:
    """A label for each text, None where the answer could not be read."""

    labels: tuple[str | None, ...]

    @property
    def unreadable(self) -> int:
        return sum(label is None for label in self.labels)


def sample_posts(source: SourceConfig, base: Path, wanted: int, max_record_bytes: int = 1 << 20) -> list[str]:
    """The `wanted` posts of a source whose text hashes are least, in that order, each text once.

    Normalised, and personal data masked: they leave the house.
    """
    best = pa.table({"hash": pa.array([], pa.uint64()), "text": pa.array([], pa.large_string())})
    for file in resolve_inputs(source, base, "files", DigestCache()):
        for records in read_file(file, source, max_record_bytes):
            text, _ = redact(normalize(records.table["text"]))
            more = pa.table({"hash": hash128(text)[0], "text": text})
            best = pa.concat_tables([best, more]).group_by("hash").aggregate([("text", "min")])
            best = best.rename_columns(["hash", "text"]).sort_by("hash").slice(0, wanted)
    texts: list[str] = best["text"].to_pylist()
    return texts


def estimate(texts: Sequence[str], config: JudgeConfig, cache: Path) -> Cost:
    """What :func:`judge` would take now."""
    known = read_cache(cache)
    asked = {config.key_of(text): text for text in texts}
    missing = [text for key, text in asked.items() if key not in known]
    sent = sum(len(config.request(text)["messages"][0]["content"].encode()) for text in missing)
    tokens_in, tokens_out = int(sent / BYTES_A_TOKEN), len(missing) * config.max_tokens
    price = None
    if config.price_in is not None and config.price_out is not None:
        price = (tokens_in * config.price_in + tokens_out * config.price_out) / 1e6
    return Cost(
        len(missing), len(texts) - sum(config.key_of(t) not in known for t in texts), tokens_in, tokens_out, price
    )


def judge(
    texts: Sequence[str], config: JudgeConfig, cache: Path, *, confirmed: bool, progress: Progress = lambda *_: None
) -> Judged:
    """A label for each text; answers are added to the file `cache` as they come.

    Raises RedoneError before any call unless `confirmed`, and when the endpoint refuses or stays away; answers that
    came are kept.
    """
    known = read_cache(cache)
    missing = {key: text for text in texts if (key := config.key_of(text)) not in known}
    if missing and not confirmed and config.generate is None:
        raise RedoneError(f"this would take {estimate(texts, config, cache)}; add --yes to start")
    api_key = _api_key(config) if missing else None
    fault: BaseException | None = None
    cache.parent.mkdir(parents=True, exist_ok=True)
    if missing and config.generate is not None:
        _generate(config, missing, cache)
        known, missing = read_cache(cache), {}
    with cache.open("a", encoding="utf-8") as file, ThreadPoolExecutor(config.concurrency) as pool:
        waiting = {pool.submit(_ask, config, text, api_key): name for name, text in missing.items()}
        for done, call in enumerate(as_completed(waiting), 1):
            if call.cancelled():
                continue
            if (error := call.exception()) is not None:
                # Calls under way are paid for: their answers are still awaited and kept.
                fault = fault or error
                pool.shutdown(wait=False, cancel_futures=True)
                continue
            name = waiting[call]
            known[name] = call.result()
            # The line break first: a run that was killed may have left a line without its end.
            file.write("\n" + canonical({"key": name, "answer": known[name]}) + "\n")
            file.flush()
            progress(done, len(waiting))
    if fault is not None:
        raise fault
    return Judged(tuple(config.label(known[config.key_of(text)]) for text in texts))


def read_cache(path: Path) -> dict[str, str]:
    """Key -> answer. A last line that a killed run left unfinished is passed over."""
    answers = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                answers[entry["key"]] = entry["answer"]
            except (ValueError, KeyError, TypeError):
                continue
    return answers


def agreement(labels: Sequence[str | None], scores: Sequence[float], threshold: float) -> float:
    """The share of judged texts on which a classifier's verdict is the judge's."""
    pairs = [(label == "good") == (score >= threshold) for label, score in zip(labels, scores, strict=True) if label]
    if not pairs:
        raise RedoneError("none of these texts has a label of the judge")
    return sum(pairs) / len(pairs)


def _generate(config: JudgeConfig, missing: Mapping[str, str], cache: Path) -> None:
    """Ask a local model by the command redone-train, whose own progress is shown; its answers join the cache.

    The command keeps its finished batches: cut short, the same call goes on where it was.
    """
    prompts, answers = (cache.with_name(f"{cache.name}.{kind}") for kind in ("prompts", "generated"))
    with atomic(prompts) as aside:
        lines = ({"id": key, "prompt": config.request(text)["messages"]} for key, text in sorted(missing.items()))
        aside.write_text("".join(canonical(line) + "\n" for line in lines), encoding="utf-8")
    arguments = [*(sys.executable, "-m", "redone_train", "generate", str(config.generate), str(prompts))]
    arguments += ["--out", str(answers), "--max-new-tokens", str(config.max_tokens)]
    arguments += ["--batch-size", str(config.concurrency)]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, check=False, preexec_fn=die_with_parent)
    if done.returncode:
        raise RedoneError(
            "redone-train generate did not finish (its message is above); answers so far are kept: start again"
        )
    with cache.open("a", encoding="utf-8") as file:
        for line in map(json.loads, answers.read_text(encoding="utf-8").splitlines()):
            # A post that does not fit the model has no answer: counted as one that cannot be read.
            answer = line["answers"][0] if line["answers"] else ""
            file.write("\n" + canonical({"key": line["id"], "answer": answer}) + "\n")
    for path in (prompts, answers):
        path.unlink()


def _api_key(config: JudgeConfig) -> str | None:
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env)
    if not key:
        raise RedoneError(
            f"the environment variable {config.api_key_env} is not set; it should hold the endpoint's key"
        )
    return key


def _ask(config: JudgeConfig, text: str, key: str | None) -> str:
    headers: Mapping[str, str] = {
        "Content-Type": "application/json",
        **({"Authorization": f"Bearer {key}"} if key else {}),
    }
    url = str(config.base_url).rstrip("/") + "/chat/completions"
    body = json.dumps(config.request(text)).encode()
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
