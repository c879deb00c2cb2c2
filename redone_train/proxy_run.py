"""Training and evaluating one proxy: the loop, its checkpoint and its result.

A run is a pure function of (swarm, run) on a given machine and thread count: stopping it at any step and going on gives
the same bytes. A checkpoint (weights, Adam's moments, step; 12 bytes a parameter) is written every
`checkpoint_seconds` (by default 10, for about 0.1 % of the time), and whenever the run is told to stop.
"""

import contextlib
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from redone_data.errors import RedoneError
from redone_train.proxy_data import TokenPool, TrainPlan
from redone_train.proxy_model import ProxyModel
from redone_train.proxy_rate import BETAS, rate_at
from redone_train.swarm_files import ProxyRun, Swarm

CURVE_POINTS = 20
GRADIENT_CLIP = 1.0
EVALUATION_TOKENS = 2048

OnStep = Callable[[int], bool]


class LanguageModel(Protocol):
    """What is trained: a proxy from scratch or a pretrained model, which parameters of it being its own affair."""

    num_parameters: int

    def loss(self, tokens_BL: Tensor, targets_BL: Tensor) -> Tensor: ...
    def total_nats(self, tokens_BL: Tensor, targets_BL: Tensor) -> float: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def parameter_groups(self, rate: float) -> list[dict[str, Any]]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


class Stopped(Exception):  # noqa: N818 - no error
    """The run was told to stop; its checkpoint is written."""


def train_run(
    swarm: Swarm, run: ProxyRun, on_step: OnStep, checkpoint_seconds: float, device: str = "cpu"
) -> dict[str, Any]:
    """Train, evaluate, write `results/` and `timings/`; returns the timing. `on_step(tokens)` returns True to stop.

    device: of a model that goes on from a checkpoint; a proxy from scratch is trained on the CPU here.
    """
    trainer = _Trainer(swarm, run, device)
    if swarm.measures_base(run) and swarm.base() is None:
        write_base(swarm, trainer.model)
    trainer.resume()
    status = trainer.train(on_step, checkpoint_seconds)
    nats = {} if status == "diverged" else evaluate_domains(trainer.model, swarm)
    timing = {"seconds": round(trainer.seconds(), 3), "tokens_per_second": round(trainer.tokens_per_second(), 1)}
    done = write_result(
        swarm,
        run,
        nats=nats,
        tokens=trainer.step * trainer.tokens_per_step,
        parameters=trainer.model.num_parameters,
        curve=trainer.curve,
        timing=timing,
    )
    trainer.checkpoint_path.unlink(missing_ok=True)
    return done


def write_result(
    swarm: Swarm,
    run: ProxyRun,
    *,
    nats: Mapping[str, float],
    tokens: int,
    parameters: int,
    curve: list[tuple[int, float]],
    timing: Mapping[str, Any],
) -> dict[str, Any]:
    """The run's files in `results/` and `timings/`; losses that are missing or not finite mean that it diverged."""
    ok = bool(nats) and all(map(math.isfinite, nats.values()))
    losses = nats if ok else {}
    result = {
        "run_id": run.run_id,
        "status": "ok" if ok else "diverged",
        **_losses(swarm, losses),
        "tokens": tokens,
        "parameters": parameters,
        "curve": curve,
        "fingerprint": swarm.fingerprint(run),
    }
    write_atomically(swarm.file_of("timings", run.run_id), _json_bytes(timing))
    write_atomically(swarm.file_of("results", run.run_id), _json_bytes(result))
    return {"status": result["status"], **timing}


def write_base(swarm: Swarm, model: LanguageModel) -> None:
    """The losses of the checkpoint that proxies go on from, as it came: `base.json`, a record like a run's."""
    nats = evaluate_domains(model, swarm)
    if not all(map(math.isfinite, nats.values())):
        raise RedoneError("init: the checkpoint's own loss is not a finite number; its weights are broken")
    record = {
        **_losses(swarm, nats),
        "tokens": 0,
        "parameters": model.num_parameters,
        "fingerprint": swarm.base_fingerprint,
    }
    write_atomically(swarm.base_path, _json_bytes(record))


def _losses(swarm: Swarm, nats: Mapping[str, float]) -> dict[str, dict[str, float]]:
    sizes = {name: swarm.config.domains[name].validation_bytes for name in nats}
    return {
        "loss_bpb": {name: total / math.log(2) / sizes[name] for name, total in nats.items()},
        "loss_nats_per_token": {name: total / len(swarm.validation[name]) for name, total in nats.items()},
    }


def make_model(swarm: Swarm, run: ProxyRun, device: str = "cpu") -> LanguageModel:
    """The model of a run as it is before its first step: random weights of its seed, or the checkpoint's."""
    config = swarm.config
    if config.init is None:
        return ProxyModel(config.proxy.shape, config.vocab_size, config.proxy.context, run.seed)
    from redone_train.pretrained import PretrainedModel

    return PretrainedModel(config.init, swarm.directory, run.seed, device)


class _Trainer:
    def __init__(self, swarm: Swarm, run: ProxyRun, device: str) -> None:
        config, proxy = swarm.config, swarm.config.proxy
        self.fingerprint = swarm.fingerprint(run)
        self.checkpoint_path = swarm.file_of("checkpoints", run.run_id)
        self.num_steps = proxy.num_steps
        self.tokens_per_step = proxy.rows_per_step * proxy.context
        self.plan = TrainPlan(
            swarm.train,
            run.mixture,
            {name: domain.train_limit_tokens for name, domain in config.domains.items()},
            context=proxy.context,
            rows_per_step=proxy.rows_per_step,
            num_steps=proxy.num_steps,
            swarm_seed=config.seed,
            run_seed=run.seed,
        )
        self.model = make_model(swarm, run, device)
        groups = self.model.parameter_groups(swarm.peak_rate)
        self.optimizer = torch.optim.AdamW(groups, lr=swarm.peak_rate, betas=BETAS, fused=True)
        self.step = 0
        self.curve: list[tuple[int, float]] = []
        self.losses: list[float] = []  # since the last point of the curve
        self.seconds_before, self.started = 0.0, time.perf_counter()
        self.train_seconds = 0.0

    def train(self, on_step: OnStep, checkpoint_seconds: float) -> str:
        """Go on to the last step; "ok", or "diverged" at the first loss that is not finite."""
        saved = time.perf_counter()
        status = "ok"
        while self.step < self.num_steps:
            loss = self._train_step()
            if not math.isfinite(loss):
                status = "diverged"
                break
            self._record(loss)
            if on_step(self.step * self.tokens_per_step):
                self.save()
                raise Stopped
            if time.perf_counter() - saved >= checkpoint_seconds:
                self.save()
                saved = time.perf_counter()
        self.train_seconds = self.seconds()
        return status

    def _train_step(self) -> float:
        batch = torch.from_numpy(self.plan.batch(self.step))
        share = rate_at(self.step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        loss = self.model.loss(batch[:, :-1], batch[:, 1:])
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_CLIP)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def _record(self, loss: float) -> None:
        """A point of the curve is the mean loss of the steps since the point before."""
        self.losses.append(loss)
        if self.step * CURVE_POINTS // self.num_steps > (self.step - 1) * CURVE_POINTS // self.num_steps:
            self.curve.append((self.step, math.fsum(self.losses) / len(self.losses)))
            self.losses = []

    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def tokens_per_second(self) -> float:
        return self.step * self.tokens_per_step / max(self.train_seconds, 1e-9)

    def save(self) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "curve": self.curve,
            "losses": self.losses,
            "seconds": self.seconds(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with beside(self.checkpoint_path) as aside:
            torch.save(state, aside)

    def resume(self) -> None:
        """Take up the run's checkpoint; one that is unreadable or of another run is as good as none."""
        try:
            state = torch.load(self.checkpoint_path, weights_only=True, map_location="cpu")
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return
        if not isinstance(state, dict) or state.get("fingerprint") != self.fingerprint:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curve, self.losses = state["step"], state["curve"], state["losses"]
        self.seconds_before = state["seconds"]


def evaluate_domains(model: LanguageModel, swarm: Swarm) -> dict[str, float]:
    """Nats summed over each domain's whole validation stream, every token predicted once."""
    context, eos = swarm.config.proxy.context, swarm.config.eos_token_id
    return {name: stream_nats(model, swarm.validation[name], context, eos) for name in swarm.domains}


def stream_nats(model: LanguageModel, pool: TokenPool, context: int, eos_token_id: int) -> float:
    """Over all of a pool's windows, read EVALUATION_TOKENS at a time."""
    windows = held_out_windows(pool, context, eos_token_id, EVALUATION_TOKENS)
    return sum((model.total_nats(inputs_BL, targets_BL) for inputs_BL, targets_BL in windows), 0.0)


def held_out_windows(pool: TokenPool, context: int, eos_token_id: int, at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets: windows of `context` tokens, end to end; the first is begun by the end-of-document token.

    Each pair holds about `at_once` tokens; the last window may be shorter.
    """
    step, previous = max(1, at_once // context) * context, eos_token_id
    for start in range(0, len(pool), step):
        targets = torch.from_numpy(pool.read(start, min(step, len(pool) - start)))
        tokens = torch.cat([torch.tensor([previous]), targets[:-1]])
        previous = int(targets[-1])
        whole = len(targets) // context * context
        for first, end, width in ((0, whole, context), (whole, len(targets), len(targets) - whole)):
            if end > first:
                yield tokens[first:end].view(-1, width), targets[first:end].view(-1, width)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, renamed to it when the block ends well."""
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    with beside(path) as aside:
        aside.write_bytes(content)


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
