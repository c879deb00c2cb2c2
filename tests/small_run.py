"""A small recipe with everything in it that a run meets: two languages, duplicates, personal data, broken lines.

The command line is driven as a user drives it: in a process of its own, with real signals, and warnings as errors; or
in this one, where no more is asked than what it says and the code it ends with.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from redone_data import cli
from redone_data.pipeline import Emit, Run, Stage
from redone_data.recipe import load_recipe

DOCUMENTS = 300
# What may differ between two runs of one recipe; .lock is empty.
VARYING = frozenset({"timings.json", "report.html"})
HAN = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过"


def _words(rng: random.Random, kind: str) -> list[str]:
    """A vocabulary of made-up words: Han characters for Chinese, consonant-vowel pairs for English."""
    if kind == "zh":
        return ["".join(rng.choices(HAN, k=rng.choice([1, 2, 2, 3]))) for _ in range(400)]
    common = ["the", "of", "and", "to", "in", "is", "that", "was", "for", "with", "this", "are", "have", "from"]
    made_up = ["".join(rng.choice("bdfglmnprst") + rng.choice("aeiou") for _ in range(rng.choice([1, 2, 3, 3])))]
    made_up += [
        "".join(rng.choice("bdfglmnprst") + rng.choice("aeiou") for _ in range(rng.choice([1, 2, 3])))
        for _ in range(400)
    ]
    return common * 8 + made_up


def made_up_posts(name: str, kind: str, count: int = DOCUMENTS) -> list[str]:
    """Lines of JSON: posts of random words, some twice, some nearly, some with personal data, two broken."""
    rng = random.Random(name)
    words, glue = _words(rng, kind), "" if kind == "zh" else " "
    texts: list[str] = []
    for i in range(count):
        if i % 20 == 7:
            texts.append(rng.choice(texts))
        elif i % 20 == 13:
            texts.append(rng.choice(texts) + glue + rng.choice(words))
        else:
            text = glue.join(rng.choices(words, k=rng.randrange(25, 60)))
            texts.append(
                text + (f" mail me at {rng.choice(words[:3])}{i}@example.com or 13800138{i:03d}" if i % 15 == 4 else "")
            )
    lines = [
        json.dumps({"id": f"{name}-{i}", "text": text, "likes": i % 7}, ensure_ascii=False)
        for i, text in enumerate(texts)
    ]
    lines.insert(50, '{"id": "cut off", "text": "no end')
    lines.insert(100, '{"id": "no text"}')
    return lines


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a user's error."""
        assert "Traceback" not in self.err, self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2", "COLUMNS": "120"}


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """`redone-data ...` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "redone_data", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**ENVIRONMENT, **environment},
    )


def redone(*arguments: object, timeout: float = 180, **environment: str) -> Finished:
    """Run `redone-data ...` to its end."""
    process = start(*arguments, **environment)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Finished(process.returncode, out, err)


def redone_here(*arguments: object) -> Finished:
    """Run `redone-data ...` in this process: a process of its own first imports for two seconds."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setenv("COLUMNS", ENVIRONMENT["COLUMNS"])
        with pytest.raises(SystemExit) as ended:
            cli.run([str(argument) for argument in arguments])
    return Finished(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def tree(root: Path, *, without: Sequence[str] = ()) -> dict[str, str]:
    """Path -> hash of every file below a folder, but for what may differ."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and (name := path.relative_to(root).as_posix()) not in VARYING
        if not any(name.startswith(prefix) for prefix in without)
    }


@dataclass
class SmallRecipe:
    """A recipe file in a folder of its own, and how to change it."""

    path: Path
    values: dict[str, Any]

    def change(self, edit: Callable[[dict[str, Any]], object]) -> "SmallRecipe":
        edit(self.values)
        self.path.write_text(yaml.safe_dump(self.values, allow_unicode=True), encoding="utf-8")
        return self

    def mix(self, out: Path, *options: object, **environment: str) -> Finished:
        return redone("mix", self.path, "--out", out, *options, **environment)

    def mixed(
        self, out: Path, *assignments: str, seed: int | None = None, emit: Emit = "tokens", until: Stage = "sample"
    ) -> Path:
        """The same in this process, without the report: three times as fast."""
        Run(load_recipe(self.path, assignments, seed), out, emit).execute(until)
        return out


def write_recipe(folder: Path) -> SmallRecipe:
    """Three domains in four files: a Chinese one in two, two English ones; a text of `notes` is in `wiki` too."""
    data = folder / "data"
    data.mkdir(parents=True)
    posts = made_up_posts("posts", "zh")
    (data / "posts-0.jsonl").write_text("\n".join(posts[:150]) + "\n", encoding="utf-8")
    (data / "posts-1.jsonl").write_text("\n".join(posts[150:]) + "\n", encoding="utf-8")
    notes, wiki = made_up_posts("notes", "en"), made_up_posts("wiki", "en")
    (data / "notes.jsonl").write_text("\n".join(notes) + "\n", encoding="utf-8")
    (data / "wiki.jsonl").write_text(
        "\n".join([*wiki, notes[0].replace("notes-0", "wiki-copy")]) + "\n", encoding="utf-8"
    )
    fields = {"id": "id", "engagement": ["likes"]}
    values: dict[str, Any] = {
        "seed": 1,
        "domains": {
            "posts": {
                "priority": 2,
                "sources": [{"paths": ["data/posts-0.jsonl", "data/posts-1.jsonl"], "fields": fields}],
            },
            "notes": {"priority": 1, "sources": [{"paths": ["data/notes.jsonl"], "fields": fields}]},
            "wiki": {"rules": {"preset": "prose"}, "sources": [{"paths": ["data/wiki.jsonl"], "fields": fields}]},
        },
        "read": {"max_bad_fraction": 0.05},
        "curate": {"validation": {"fraction": 0.1, "min_documents": 10}},
        "tokens": {"budget": 20_000, "shard_tokens": 8_000, "tokenizer": {"vocab_size": 600}},
        "mix": {"weights": {"posts": 2, "notes": 1, "wiki": 1}},
    }
    return SmallRecipe(folder / "recipe.yaml", values).change(lambda _: None)
