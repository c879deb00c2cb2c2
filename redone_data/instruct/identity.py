"""Names of conversations, and which of them are held out: functions of what they were made from."""

import pyarrow as pa

from redone_data.manifest import digest
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import hash128


def conversation_id(task: str, template: str, document: str, occurrence: int) -> str:
    """32 hexadecimal digits."""
    return digest([task, template, document, occurrence])[:32]


def split_of(document: str, seed: int, held_out_share: float) -> str:
    """`held_out` or `train`, the same for every conversation made of this document."""
    key = hash128(pa.array([document], pa.large_string()))[1]
    return "held_out" if keyed_uniform(seed, "held_out documents", key)[0] < held_out_share else "train"
