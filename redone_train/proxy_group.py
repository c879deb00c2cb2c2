"""Training and evaluating a group of proxies as one stack: the loop, its checkpoint and its results.

Each run gets what :func:`redone_train.proxy_run.train_run` would give it, to rounding: the same first weights, the same
batches, the same schedule, the same held-out text. A run whose loss is no longer finite is reported as diverged; its
set stays in the stack, where it disturbs nobody (proxy_stack), and the others go on.

A group is a pure function of (swarm, its members) on a given machine: stopped at any step and taken up again it gives
the same bytes. Its checkpoint is one file for all members, named for the first run of the group.
"""

import contextlib
import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from redone_train.proxy_batches import RESIDENT_SHARE, HostBatches, ResidentBatches, pool_bytes
from redone_train.proxy_data import TokenPool, TrainPlan
from redone_train.proxy_rate import BETAS, rate_at
from redone_train.proxy_run import CURVE_POINTS, GRADIENT_CLIP, OnStep, Stopped, beside, held_out_windows, write_result
from redone_train.proxy_stack import ProxyStack
from redone_train.swarm_files import ProxyRun, Swarm

# Steps that a GPU is given before the host looks at their losses: it never waits for the host in between.
GPU_BLOCK_STEPS = 32
EVALUATION_TOKENS = 2048
GPU_EVALUATION_TOKENS = 16_384
# How far the first losses of the compiled model may lie from those of the plain one, in nats (bfloat16).
COMPILED_TOLERANCE = 0.05


def train_group(
    swarm: Swarm,
    group: Sequence[ProxyRun],
    device: torch.device,
    on_step: OnStep,
    checkpoint_seconds: float,
    compile_backend: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Train what is pending of a group, evaluate, write `results/` and `timings/`; returns the timings by run.

    on_step(tokens of all members) returns True to stop. compile_backend: of torch.compile; None: not compiled.
    """
    path = swarm.file_of("checkpoints", group[0].run_id)
    state = _read_checkpoint(path, device)
    pending = [run for run in group if swarm.finished(run) is None]
    members = _members(swarm, group, pending, state)
    trainer = _GroupTrainer(swarm, members, device, compile_backend)
    if state is not None and [swarm.fingerprint(run) for run in members] == state["fingerprints"]:
        trainer.load(state)
    trainer.train(on_step, checkpoint_seconds, path)
    # A kill between two results must find all members again: trained apart, they would be rounded otherwise.
    trainer.save(path)
    timings = trainer.write_results()
    path.unlink(missing_ok=True)
    return timings


def _members(
    swarm: Swarm, group: Sequence[ProxyRun], pending: Sequence[ProxyRun], state: dict[str, Any] | None
) -> list[ProxyRun]:
    """The runs of the checkpoint if it has all that is pending as it is now, otherwise what is pending."""
    if state is not None:
        saved = [run for run in group if swarm.fingerprint(run) in state["fingerprints"]]
        if len(saved) == len(state["fingerprints"]) and {run.run_id for run in pending} <= {r.run_id for r in saved}:
            return saved
    return list(pending)


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return state if isinstance(state, dict) and "fingerprints" in state else None


class _GroupTrainer:
    def __init__(self, swarm: Swarm, runs: Sequence[ProxyRun], device: torch.device, backend: str | None) -> None:
        config, proxy = swarm.config, swarm.config.proxy
        self.swarm, self.runs, self.device = swarm, runs, device
        self.num_steps = proxy.num_steps
        self.tokens_per_step = proxy.rows_per_step * proxy.context
        limits = {name: domain.train_limit_tokens for name, domain in config.domains.items()}
        plans = [
            TrainPlan(
                swarm.train,
                run.mixture,
                limits,
                context=proxy.context,
                rows_per_step=proxy.rows_per_step,
                num_steps=proxy.num_steps,
                swarm_seed=config.seed,
                run_seed=run.seed,
            )
            for run in runs
        ]
        seeds = [run.seed for run in runs]
        self.model = ProxyStack(proxy.shape, config.vocab_size, proxy.context, seeds, device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameter_groups(proxy.peak_rate), lr=proxy.peak_rate, betas=BETAS, fused=True
        )
        self.batches = _batches(swarm, plans, device)
        self.losses = self.model.losses if backend is None else self._compiled(backend)
        self.block_steps = GPU_BLOCK_STEPS if device.type == "cuda" else 1
        self.step = 0
        self.diverged_at: list[int | None] = [None] * len(runs)
        self.curves: list[list[tuple[int, float]]] = [[] for _ in runs]
        self.recent: list[list[float]] = [[] for _ in runs]  # losses since the last point of the curve
        self.seconds_before, self.started, self.train_seconds = 0.0, time.perf_counter(), 0.0

    def _compiled(self, backend: str) -> Callable[[Tensor, Tensor], Tensor]:
        """The compiled loss, if it compiles and its first value is that of the plain one; else the plain one."""
        compiled: Callable[[Tensor, Tensor], Tensor]
        batch = next(self.batches.steps(0, 1))
        try:
            compiled = torch.compile(self.model.losses, backend=backend, dynamic=False)
            found = compiled(batch[..., :-1], batch[..., 1:])
            found.sum().backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever a compiler raises
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"torch.compile failed, training goes on without it: {reason}", file=sys.stderr, flush=True)
            return self.model.losses
        finally:
            self.optimizer.zero_grad()
        difference = float((found - self.model.losses(batch[..., :-1], batch[..., 1:])).detach().abs().max())
        if not difference <= COMPILED_TOLERANCE:
            print(
                f"the compiled model's first loss is off by {difference:.3g} nats: it is not used",
                file=sys.stderr,
                flush=True,
            )
            return self.model.losses
        return compiled

    def train(self, on_step: OnStep, checkpoint_seconds: float, checkpoint: Path) -> None:
        """Go on to the last step, or until every set has diverged."""
        saved = time.perf_counter()
        while self.step < self.num_steps and None in self.diverged_at:
            end = min(self.num_steps, self.step + self.block_steps)
            losses = [
                self._train_step(self.step + i, batch) for i, batch in enumerate(self.batches.steps(self.step, end))
            ]
            for losses_K in torch.stack(losses).tolist():
                self.step += 1
                for i, loss in enumerate(losses_K):
                    self._record(i, loss)
            if on_step(self.step * self.tokens_per_step * len(self.runs)):
                self.save(checkpoint)
                raise Stopped
            if time.perf_counter() - saved >= checkpoint_seconds:
                self.save(checkpoint)
                saved = time.perf_counter()
        self.train_seconds = self.train_seconds or self.seconds()

    def _train_step(self, step: int, batch: Tensor) -> Tensor:
        share = rate_at(step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        losses_K = self.losses(batch[..., :-1], batch[..., 1:])
        self.optimizer.zero_grad()
        with _deterministic(self.device):
            losses_K.sum().backward()  # type: ignore[no-untyped-call]
        self.model.clip_gradients(GRADIENT_CLIP)
        self.optimizer.step()
        return losses_K.detach()

    def _record(self, i: int, loss: float) -> None:
        if self.diverged_at[i] is not None:
            return
        if not math.isfinite(loss):
            self.diverged_at[i] = self.step
            return
        self.recent[i].append(loss)
        if self.step * CURVE_POINTS // self.num_steps > (self.step - 1) * CURVE_POINTS // self.num_steps:
            self.curves[i].append((self.step, math.fsum(self.recent[i]) / len(self.recent[i])))
            self.recent[i] = []

    def write_results(self) -> dict[str, dict[str, Any]]:
        nats = evaluate_stack(self.model, self.swarm) if None in self.diverged_at else {}
        seconds = self.seconds() / len(self.runs)
        speed = self.step * self.tokens_per_step * len(self.runs) / max(self.train_seconds, 1e-9)
        timings: dict[str, dict[str, Any]] = {}
        for i, run in enumerate(self.runs):
            steps = self.diverged_at[i]
            timings[run.run_id] = write_result(
                self.swarm,
                run,
                nats={} if steps is not None else {name: values[i] for name, values in nats.items()},
                tokens=(self.step if steps is None else steps) * self.tokens_per_step,
                parameters=self.model.shape.num_parameters(self.swarm.config.vocab_size),
                curve=self.curves[i],
                timing={
                    "seconds": round(seconds, 3),
                    "tokens_per_second": round(speed / len(self.runs), 1),
                    "stack": len(self.runs),
                    "device": self.device.type,
                },
            )
        return timings

    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def save(self, path: Path) -> None:
        state = {
            "fingerprints": [self.swarm.fingerprint(run) for run in self.runs],
            "step": self.step,
            "diverged_at": self.diverged_at,
            "curves": self.curves,
            "recent": self.recent,
            "seconds": self.seconds(),
            "train_seconds": self.train_seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with beside(path) as aside:
            torch.save(state, aside)

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.diverged_at = state["step"], state["diverged_at"]
        self.curves, self.recent = state["curves"], state["recent"]
        self.seconds_before, self.train_seconds = state["seconds"], state["train_seconds"]


def _batches(swarm: Swarm, plans: Sequence[TrainPlan], device: torch.device) -> HostBatches | ResidentBatches:
    proxy, token_bytes = swarm.config.proxy, swarm.config.token_bytes
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if pool_bytes(swarm.train, token_bytes) <= RESIDENT_SHARE * free:
            return ResidentBatches(
                plans,
                swarm.train,
                device,
                context=proxy.context,
                rows_per_step=proxy.rows_per_step,
                token_bytes=token_bytes,
            )
    return HostBatches(plans, device)


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Sums of a gradient in a fixed order: attention's on a GPU is the one that would not be."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


def evaluate_stack(model: ProxyStack, swarm: Swarm) -> dict[str, list[float]]:
    """Nats of each set over each domain's whole validation stream, every token predicted once."""
    context, eos = swarm.config.proxy.context, swarm.config.eos_token_id
    return {name: stack_nats(model, swarm.validation[name], context, eos) for name in swarm.domains}


def stack_nats(model: ProxyStack, pool: TokenPool, context: int, eos_token_id: int) -> list[float]:
    """As :func:`redone_train.proxy_run.stream_nats`, for every set of a stack."""
    device = model.embedding.device
    at_once = GPU_EVALUATION_TOKENS if device.type == "cuda" else EVALUATION_TOKENS
    totals_K = torch.zeros(model.num_sets, dtype=torch.float64, device=device)
    for inputs_BL, targets_BL in held_out_windows(pool, context, eos_token_id, at_once):
        totals_K += model.total_nats(inputs_BL.to(device), targets_BL.to(device))
    result: list[float] = totals_K.tolist()
    return result
