"""Which runs are trained together: K in a stack, chosen once for a folder and kept in its stack.json.

The rule is fixed, so that two machines of a kind give the same groups and a resumed swarm its own. On a CPU K is 1:
stacks of 4 and 8 train 29.0k and 28.4k tokens/s of the 0.3m proxy on one core where single runs train 28.5k, 10.8k and
10.6k of the 1m proxy where they train 11.3k. On GPUs K is as many as fit in MEMORY_SHARE of the free memory of the
smallest, at most LARGEST_STACK, and never so many that a GPU has nothing to do (no GPU was at hand to measure a better
rule).
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redone_data.errors import RedoneError
from redone_data.proxy_shape import ProxyShape
from redone_train.swarm_files import ProxyRun, Swarm

STACK_FILE = "stack.json"
MEMORY_SHARE = 0.6
LARGEST_STACK = 256
# Of the logits and what is made of them, for all sets together: see proxy_stack.GPU_LOGITS.
LOGITS_BYTES = 4 << 30
# A cluster's GPUs are not asked before they are given: what a small one has, and how many are shared out to on Slurm.
CLUSTER_GPU_BYTES = 16 << 30
CLUSTER_GPUS = 8


@dataclass(frozen=True)
class Group:
    """Runs that share a stack; its number is what `--groups` takes."""

    number: int
    runs: tuple[ProxyRun, ...]

    def pending(self, swarm: Swarm) -> tuple[ProxyRun, ...]:
        return tuple(run for run in self.runs if swarm.finished(run) is None)

    @property
    def title(self) -> str:
        first, last = self.runs[0].run_id, self.runs[-1].run_id
        return f"run '{first}'" if first == last else f"runs '{first}' to '{last}' (group {self.number})"


def groups_of(swarm: Swarm, stack: int) -> list[Group]:
    """The runs by id, K at a time."""
    runs = list(swarm.runs.values())
    return [Group(i // stack, tuple(runs[i : i + stack])) for i in range(0, len(runs), stack)]


def keep_stack(swarm: Swarm, wanted: int | None, free_bytes: Sequence[int]) -> int:
    """K: as asked for, or as the folder was begun with, or by the rule; kept in the folder where it is not 1."""
    if swarm.config.init is not None:
        if wanted not in (None, 1):
            raise RedoneError(f"--stack {wanted}: proxies from a checkpoint are trained one at a time; leave it out")
        return 1
    path = swarm.directory / STACK_FILE
    stored = _stored(path)
    stack = wanted or stored or stack_by_rule(swarm, free_bytes)
    if stack != (stored or 1):
        aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        aside.write_text(json.dumps({"stack": stack}) + "\n", encoding="utf-8")
        os.replace(aside, path)
    return stack


def stack_by_rule(swarm: Swarm, free_bytes: Sequence[int]) -> int:
    """free_bytes: of each GPU; none means CPU."""
    if not free_bytes:
        return 1
    proxy = swarm.config.proxy
    one = proxy_bytes(proxy.shape, swarm.config.vocab_size, proxy.rows_per_step * proxy.context)
    room = MEMORY_SHARE * min(free_bytes) - LOGITS_BYTES
    share = -(-len(swarm.runs) // len(free_bytes))
    largest = max(1, min(int(room // one), LARGEST_STACK, share))
    # As few groups as that allows, all alike: a last group of a few runs would cost nearly what a full one does.
    return -(-share // -(-share // largest))


def proxy_bytes(shape: ProxyShape, vocab_size: int, tokens_per_step: int) -> int:
    """What a set of a stack takes: weights, gradients, moments and a bfloat16 copy; what a step keeps for its gradient.

    >>> proxy_bytes(ProxyShape(layers=2, width=128, heads=4), 4096, 1024) >> 20
    43
    """
    weights = 18 * shape.num_parameters(vocab_size)
    # Float32 numbers a token and layer that autograd keeps, counted from the code and rounded up.
    block = tokens_per_step * 4 * (12 * shape.width + 5 * shape.mlp_width)
    outside = tokens_per_step * 4 * 6 * shape.width
    return weights + shape.layers * block + outside


def group_numbers(text: str) -> list[int]:
    """The numbers of `--groups`.

    >>> group_numbers("0,3")
    [0, 3]
    """
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in numbers):
        raise RedoneError(f"--groups: '{text}'; give whole numbers from 0, separated by commas")
    return [int(part) for part in numbers]


def chosen_groups(groups: Sequence[Group], numbers: Sequence[int] | None) -> list[Group]:
    """Those with these numbers; None: all."""
    if numbers is None:
        return list(groups)
    by_number: Mapping[int, Group] = {group.number: group for group in groups}
    for number in numbers:
        if number not in by_number:
            raise RedoneError(f"--groups: {number}; this swarm has groups 0 to {len(groups) - 1}")
    return [by_number[number] for number in dict.fromkeys(numbers)]


def _stored(path: Path) -> int | None:
    try:
        stack = json.loads(path.read_bytes())["stack"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise RedoneError(f"{path}: cannot be read; delete it, or give --stack") from None
    if not isinstance(stack, int) or stack < 1:
        raise RedoneError(f"{path}: stack is {stack!r}; it must be a whole number of 1 or more; delete the file")
    return stack
