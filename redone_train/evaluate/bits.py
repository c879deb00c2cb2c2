"""Bits per byte of each domain of held-out token pools, with an interval by document.

A document costs what it costs alone (data/held_out.py): every token is predicted once, after the token that the model
wants before every text. So models with different tokenizers can be compared, each on pools of its own tokenizer. The
documents are those that training is measured on; the sums of each are kept, for a bootstrap over documents.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, digest, folder_stamp, read_json, write_json
from redone_data.tokens.dataset import TokenDataset
from redone_train.data.held_out import HeldOut, open_pools
from redone_train.data.rows import IGNORED, NO_BOS
from redone_train.evaluate.config import BitsConfig
from redone_train.evaluate.estimate import Estimate, resampled
from redone_train.generate import LocalModel
from redone_train.pretrained import LOGITS_AT_ONCE
from redone_train.train.start import TOKENIZER_FILE, DataTokenizer, opening_token, tokenizers_differ

TASK = "bits"  # of a domain as a task: bits/DOMAIN


def bits_per_byte(
    model: LocalModel,
    config: BitsConfig,
    base: Path,
    cache: Path,
    *,
    seed: int,
    resamples: int,
    left_out: Mapping[str, Sequence[str]] = MappingProxyType({}),
    removed: Callable[[str], Sequence[str]] = lambda task: (),
) -> dict[str, dict[str, Any]]:
    """Domain -> bits per byte with its draws, documents, bytes. Finished domains are kept in the folder `cache`.

    left_out: bits/DOMAIN -> documents that are not measured, by number. removed: those that were trained on; `clean`
    is without them, null if there are none. RedoneError: a pool is absent or damaged, or made by another tokenizer than
    the model's.
    """
    pools = {name: (base / path).resolve() for name, path in config.pools.items()}
    dataset = TokenDataset.open(_dataset(config, base, pools))
    bos = _opening(model, dataset)
    found = {}
    for pool in open_pools(pools, dataset, length=config.length, bos=bos, tokens=config.tokens):
        documents = digest([pool.name, pool.length, pool.tokens.tolist(), pool.ends_D.tolist(), pool.bytes_D.tolist()])
        kept = cache / f"{digest([folder_stamp(model.folder), model.dtype, pool.before, documents])[:32]}.json"
        if not kept.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            write_json(kept, document_nats(model, pool))
        out = [int(document) for document in left_out.get(f"{TASK}/{pool.name}", ())]
        tokens_D = np.diff(pool.ends_D.astype(np.int64), prepend=0)
        nats_D, bytes_D, tokens_D = (
            np.delete(one_D, out) for one_D in (np.array(read_json(kept)), pool.bytes_D, tokens_D)
        )
        estimate = _estimate(nats_D, bytes_D, pool.name, seed=seed, resamples=resamples)
        clean = None
        if leaked := [int(document) for document in removed(f"{TASK}/{pool.name}")]:
            rest = np.delete(np.arange(len(bytes_D)), leaked)
            without = _estimate(nats_D[rest], bytes_D[rest], pool.name, seed=seed, resamples=resamples)
            clean = {"n": len(rest), "bits_per_byte": without.mapping()}
        found[pool.name] = {
            "bits_per_byte": estimate.mapping(),
            "clean": clean,
            "nats_per_token": float(nats_D.sum() / tokens_D.sum()),
            "documents": len(bytes_D),
            "bytes": int(bytes_D.sum()),
            "digest": digest([documents, out]) if out else documents,
        }
    return found


def _estimate(nats_D: Any, bytes_D: Any, domain: str, *, seed: int, resamples: int) -> Estimate:
    def of(at: Any) -> float:
        return float(nats_D[at].sum() / bytes_D[at].sum() / math.log(2))

    everything = np.arange(len(bytes_D))
    value = of(everything) if len(everything) else None
    return resampled(value, of, len(bytes_D), seed=seed, name=f"bits/{domain}", draws=resamples)


def domain_names(config: BitsConfig, base: Path) -> list[str]:
    """The domains of all pools, in their order."""
    pools = {name: (base / path).resolve() for name, path in config.pools.items()}
    dataset = TokenDataset.open(_dataset(config, base, pools))
    return [pool.name for pool in open_pools(pools, dataset, length=config.length, tokens=config.tokens)]


def pool_texts(config: BitsConfig, base: Path) -> dict[str, dict[str, dict[str, str]]]:
    """bits/DOMAIN -> number of the document -> its text, of the documents that are measured."""
    if not config.pools:
        return {}
    pools = {name: (base / path).resolve() for name, path in config.pools.items()}
    dataset = TokenDataset.open(_dataset(config, base, pools))
    return {
        f"{TASK}/{pool.name}": {
            str(d): {"text": dataset.decode(tokens.tolist())}
            for d, tokens in enumerate(np.split(pool.tokens, pool.ends_D[:-1].astype(np.int64)))
        }
        for pool in open_pools(pools, dataset, length=config.length, tokens=config.tokens)
    }


@torch.inference_mode()
def document_nats(model: LocalModel, pool: HeldOut) -> list[float]:
    """What each document costs, in pieces of like length, as many at a time as leave their logits in memory."""
    pieces = list(_pieces(pool))
    order = sorted(range(len(pieces)), key=lambda place: -len(pieces[place][1]))
    vocabulary = model.model.get_output_embeddings().weight.shape[0]
    nats_D = np.zeros(len(pool.ends_D))
    while order:
        longest = len(pieces[order[0]][1])
        batch, order = _split(order, max(1, LOGITS_AT_ONCE // vocabulary // longest))
        input_BL, target_BL = (torch.full((len(batch), longest), fill) for fill in (pool.padding, IGNORED))
        for row, place in enumerate(batch):
            tokens = torch.tensor(pieces[place][1])
            input_BL[row, : len(tokens)] = torch.cat([torch.tensor([pool.before]), tokens[:-1]])
            target_BL[row, : len(tokens)] = tokens
        # Causal: what is padded at the right changes nothing before it.
        logits_BLV = model.model(input_ids=input_BL.to(model.device), use_cache=False).logits.float()
        target = target_BL.to(model.device)
        nats_BL = F.cross_entropy(logits_BLV.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
        for place, nats in zip(batch, nats_BL.double().sum(1).tolist(), strict=True):
            nats_D[pieces[place][0]] += nats
    found: list[float] = nats_D.tolist()
    return found


def _split(order: list[int], size: int) -> tuple[list[int], list[int]]:
    return order[:size], order[size:]


def _pieces(pool: HeldOut) -> Any:
    """(document, tokens) of each piece that fits, with the token before it, into `length`."""
    starts = [0, *map(int, pool.ends_D[:-1])]
    for d, (start, end) in enumerate(zip(starts, map(int, pool.ends_D), strict=True)):
        for first in range(start, end, pool.length - 1):
            yield d, pool.tokens[first : min(first + pool.length - 1, end)].astype(np.int64).tolist()


def general_domains(config: BitsConfig, domains: Sequence[str]) -> list[str]:
    """The domains that retention is measured on. RedoneError: `bits.general` names none that is there."""
    if not config.general:
        return list(domains)
    for name in config.general:
        if not any(domain == name or domain.startswith(f"{name}/") for domain in domains):
            raise RedoneError(f"bits.general: '{name}' is no pool and no domain; there are: {', '.join(domains)}")
    return [one for one in domains if any(one == name or one.startswith(f"{name}/") for name in config.general)]


def _dataset(config: BitsConfig, base: Path, pools: Mapping[str, Path]) -> Path:
    """The folder of a token dataset that was made with the pools' tokenizer."""
    if config.data is not None:
        return (base / config.data).resolve()
    for path in pools.values():
        for folder in (path.parent / "tokens", path.parents[1] / "tokens"):
            if (folder / MANIFEST).is_file():
                return folder
    raise RedoneError(
        f"bits.data: no token dataset lies beside {next(iter(pools.values()))}; give the folder of one that was made "
        "with the same tokenizer (its manifest names it)"
    )


def _opening(model: LocalModel, dataset: TokenDataset) -> int:
    """What the model wants before every text. RedoneError: the pools are of another tokenizer."""
    own = model.folder / TOKENIZER_FILE
    data = DataTokenizer.of({"bits": dataset}).file
    if not own.is_file():
        return NO_BOS
    if data is not None and (differ := tokenizers_differ(data, own)) is not None:
        raise RedoneError(
            f"bits.pools: not tokenized with the tokenizer of {model.folder}: {differ}; tokenize the same text with it "
            "(tokens.tokenizer.path in the recipe), and evaluate this model on those pools"
        )
    opening = opening_token(own)
    return NO_BOS if opening is None else opening
