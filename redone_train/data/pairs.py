"""Pair files as rows of tokens for TRL's DPOTrainer: read, rendered, tokenized, counted, kept on disk.

As conversations.py. An answer is what the chat template marks of it: the answer and the token that ends its turn. Pairs
of which a side is too long are left out and counted: TRL would cut them at the end, and reward what is left.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import check_turns
from redone_data.manifest import atomic, canonical, digest, read_json, write_json
from redone_train.data.conversations import AT_A_TIME, TOKENS, chat, json_lines, plain, refuse_losses, task_of
from redone_train.train.template import CHECKED, Messages, Rendered, Template, check_template, render

COLUMNS = pa.schema(
    {"prompt_ids": TOKENS, "chosen_ids": TOKENS, "rejected_ids": TOKENS, "pair": pa.int64(), "task": pa.string()}
)


@dataclass(frozen=True)
class PairRow:
    """One pair of a file. place: `FILE line N`."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    task: str
    held_out: bool
    weak: bool
    place: str


@dataclass(frozen=True)
class PairLengths:
    """What was read for a run, and what was left out of it. Medians of the answers; chosen_longer: of the pairs."""

    rows: int
    too_long: int
    weak: int
    chosen: int
    rejected: int
    chosen_longer: float
    longest: int

    @classmethod
    def of(cls, sizes_N3: Sequence[tuple[int, int, int]], too_long: int, weak: int) -> "PairLengths":
        if not sizes_N3:
            return cls(0, too_long, weak, 0, 0, 0.0, 0)
        prompt_N, chosen_N, rejected_N = np.array(sizes_N3).T
        chosen, rejected = (int(np.median(values)) for values in (chosen_N, rejected_N))
        longest = int((prompt_N + np.maximum(chosen_N, rejected_N)).max())
        return cls(len(sizes_N3), too_long, weak, chosen, rejected, float((chosen_N > rejected_N).mean()), longest)

    def __str__(self) -> str:
        return (
            f"{self.rows:,}; median length of chosen answers {self.chosen:,}, of rejected ones {self.rejected:,}; the "
            f"chosen one is longer in {self.chosen_longer:.0%} of the pairs; longest with its prompt {self.longest:,}; "
            f"{self.too_long:,} too long, left out; {self.weak:,} weak, left out"
        )


@dataclass(frozen=True)
class Pairs:
    """train, held_out: Arrow files. end: the token that ends a turn."""

    train: Path
    held_out: Path
    lengths: PairLengths
    held_out_lengths: PairLengths
    end: int


def read_pair_rows(path: Path) -> Iterator[PairRow]:
    """The pairs of a file of JSON lines; RedoneError names file and line.

    `prompt`, `chosen`, `rejected` are needed; of the rest of a pair file (docs/preference.md), what is there is used.
    """
    for number, values in json_lines(path):
        place = f"{path} line {number}"
        try:
            prompt, chosen, rejected = (chat(values, name) for name in ("prompt", "chosen", "rejected"))
            check_turns(prompt, last="user")
            for name, answer in (("chosen", chosen), ("rejected", rejected)):
                if [message.role for message in answer] != ["assistant"]:
                    raise RedoneError(f"{name}: exactly one assistant message is needed")
            if chosen == rejected:
                raise RedoneError("chosen and rejected are the same text")
            task = task_of(values)
        except RedoneError as error:
            raise RedoneError(f"{place}: {error}") from None
        held_out, weak = values.get("split") == "held_out", values.get("weak") is True
        yield PairRow(plain(prompt), plain(chosen), plain(rejected), task, held_out, weak, place)


def read_all_pairs(files: Sequence[Path], held_out: Sequence[Path] = ()) -> Iterator[PairRow]:
    """The pairs of files one after another, then those of files that are held out whole."""
    for path in files:
        yield from read_pair_rows(path)
    for path in held_out:
        for row in read_pair_rows(path):
            yield PairRow(row.prompt, row.chosen, row.rejected, row.task, True, row.weak, row.place)


def prepare_pairs(
    files: Sequence[Path],
    held_out: Sequence[Path],
    tokenizer: Any,
    template: Template,
    *,
    length: int,
    most_dropped: float,
    weak: bool,
    reference: str,
    folder: Path,
    identity: Mapping[str, Any],
) -> Pairs:
    """Tokenize files, unless that is done, and check that the template marks the answers of these pairs.

    weak: whether those that are marked so are trained on. reference: names the start point, whose log-probabilities TRL
    will put beside the files (it cannot tell weights apart that ZeRO-3 has shared out).
    """
    name = digest(canonical({**identity, "weak": weak, "reference": reference}))[:16]
    train, evaluation, counted = (folder / f"{name}.{end}" for end in ("train.arrow", "held_out.arrow", "json"))
    if not counted.is_file():
        rows = read_all_pairs(files, held_out)
        *tables, end = _tokenize(rows, tokenizer, template, length, weak, train, evaluation)
        write_json(counted, {"lengths": [asdict(table) for table in tables], "end": end})
    found = read_json(counted)
    lengths, held_out_lengths = (PairLengths(**values) for values in found["lengths"])
    refuse_losses("pairs", lengths.rows, lengths.too_long, length, most_dropped, files)
    return Pairs(train, evaluation, lengths, held_out_lengths, found["end"])


def _tokenize(
    rows: Iterator[PairRow], tokenizer: Any, template: Template, length: int, weak: bool, train: Path, held_out: Path
) -> tuple[PairLengths, PairLengths, int]:
    sizes: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] = ([], [])
    too_long, left_out, number, end, checked = [0, 0], [0, 0], 0, -1, 0
    train.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic(train) as aside,
        atomic(held_out) as held_aside,
        pa.ipc.new_stream(str(aside), COLUMNS) as first,
        pa.ipc.new_stream(str(held_aside), COLUMNS) as second,
    ):
        while block := [row for _, row in zip(range(AT_A_TIME), rows, strict=False)]:
            sides = []
            for name in ("chosen", "rejected"):
                whole = [row.prompt + getattr(row, name) for row in block]
                sides.append(render(tokenizer, template, whole, [f"{row.place}: {name}" for row in block]))
                if checked < 2 * CHECKED:
                    end = check_template(tokenizer, template, whole, sides[-1])
                    checked += len(block)
            kept: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
            for row, chosen, rejected in zip(block, *sides, strict=True):
                number += 1
                if row.weak and not weak:
                    left_out[row.held_out] += 1
                    continue
                values = _split(chosen, rejected, row.place)
                prompt, one, other = (len(ids) for ids in values.values())
                if prompt + max(one, other) > length:
                    too_long[row.held_out] += 1
                    continue
                sizes[row.held_out].append((prompt, one, other))
                kept[row.held_out].append({**values, "pair": number - 1, "task": row.task})
            first.write(pa.RecordBatch.from_pylist(kept[False], schema=COLUMNS))
            second.write(pa.RecordBatch.from_pylist(kept[True], schema=COLUMNS))
    counted = (PairLengths.of(*values) for values in zip(sizes, too_long, left_out, strict=True))
    return next(counted), next(counted), end


def _split(chosen: Rendered, rejected: Rendered, place: str) -> dict[str, list[int]]:
    """The prompt that both have, and each one's last marked run of tokens."""
    (first, chosen_end), (other, rejected_end) = _last_run(chosen), _last_run(rejected)
    start = min(first, other)
    while chosen.tokens[:start] != rejected.tokens[:start]:  # a token across the end of the prompt
        start -= 1
    values = {
        "prompt_ids": chosen.tokens[:start],
        "chosen_ids": chosen.tokens[start:chosen_end],
        "rejected_ids": rejected.tokens[start:rejected_end],
    }
    if values["chosen_ids"] == values["rejected_ids"]:
        raise RedoneError(f"{place}: chosen and rejected are the same to the model's tokenizer")
    return values


def _last_run(rendered: Rendered) -> tuple[int, int]:
    end = max((at for at, marked in enumerate(rendered.marked, 1) if marked), default=0)
    start = end
    while start and rendered.marked[start - 1]:
        start -= 1
    return start, end
