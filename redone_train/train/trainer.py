"""The training loop: transformers.Trainer, and what all our trainers change in it.

The loop, precision and distribution are Trainer's and DeepSpeed's. Ours: the loss is a mean over all target tokens of
the global batch, so that neither ranks nor accumulation change it; z-loss; decay for matrices only; the schedule and
the batches as functions of the step; a guard before each step (guard.py); what is shown of a run (progress.py).
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from redone_data.errors import RedoneError
from redone_train.data.batches import Batches, BatchShape, RankSampler, loader
from redone_train.data.rows import IGNORED
from redone_train.train.config import CptConfig, ModelConfig, RunConfig
from redone_train.train.guard import Guard, carried
from redone_train.train.masks import Attention, check_masks, model_inputs
from redone_train.train.progress import Meter, ProgressLine
from redone_train.train.saving import SavingTrainer
from redone_train.train.schedule import rate_factor


def training_arguments(
    config: RunConfig, shape: BatchShape, num_steps: int, *, bf16: bool, deepspeed: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Keyword arguments of TrainingArguments, or of TRL's subclasses of it."""
    optimizer, logging = config.optimizer, config.logging
    if logging.tensorboard:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(config.output) / "tensorboard")
    if logging.wandb is not None:
        if importlib.util.find_spec("wandb") is None:
            raise RedoneError("logging.wandb: the package wandb is not installed; pip install wandb, or leave it out")
        os.environ["WANDB_PROJECT"] = logging.wandb
    reports = ["tensorboard"] * logging.tensorboard + ["wandb"] * (logging.wandb is not None)
    return {
        "output_dir": config.output,
        "max_steps": num_steps,
        "per_device_train_batch_size": shape.rank_rows,
        "gradient_accumulation_steps": shape.micro_batches,
        "average_tokens_across_devices": True,
        "learning_rate": optimizer.learning_rate,
        "adam_beta1": optimizer.betas[0],
        "adam_beta2": optimizer.betas[1],
        "adam_epsilon": optimizer.epsilon,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.clip,
        "bf16": bf16,
        "activation_checkpointing": config.model.gradient_checkpointing,
        "use_cache": False,
        "logging_steps": logging.every,
        "logging_nan_inf_filter": False,  # it waits for the GPU at every micro-batch; the guard does this
        "report_to": reports or "none",
        "run_name": Path(config.output).name,
        "save_strategy": "steps",
        "save_steps": config.checkpoints.every,
        "ignore_data_skip": True,  # the sampler starts at the step
        "remove_unused_columns": False,
        "use_liger_kernel": _liger(config.model),
        # z-loss needs logits, which Liger's loss never makes whole.
        "liger_kernel_config": {"fused_linear_cross_entropy": not optimizer.z_loss},
        "ddp_find_unused_parameters": False,
        "disable_tqdm": True,
        "log_level": "error",
        "seed": config.seed,
        "deepspeed": deepspeed,
        # Only so does accelerate see several processes without GPUs.
        "use_cpu": not torch.cuda.is_available(),
    }


def _liger(model: ModelConfig) -> bool:
    installed = importlib.util.find_spec("liger_kernel") is not None
    if model.liger and not (installed and torch.cuda.is_available()):
        raise RedoneError("model.liger: it needs a GPU and the package liger-kernel; leave it out to do without")
    return model.liger if model.liger is not None else installed and torch.cuda.is_available()


class SharedTrainer(SavingTrainer):
    """A base of every trainer here; TRL's are mixed in after it: `class Sft(SharedTrainer, SFTTrainer)`."""

    def __init__(
        self,
        model: Any,
        *args: Any,
        config: RunConfig,
        documents: Callable[[int], list[str]] | None = None,
        **more: Any,
    ) -> None:
        """documents: names those of a step, counted from 0."""
        self.config = config
        super().__init__(model, *args, output=Path(config.output), checkpointing=config.checkpoints, **more)
        self.guard = Guard(config.guard, Path(config.output), documents)
        self.meter, self.line = Meter(model, self.args.world_size), ProgressLine(Path(config.output))
        self._norm: float | None = None
        self.last_logged = 0
        self.z_losses = torch.zeros((), device=self.args.device)  # of the steps since then
        self.remove_callback(PrinterCallback)
        for callback in (self.guard, _StepTaken(self), self.line):
            self.add_callback(callback)

    def train(self, *args: Any, **more: Any) -> Any:
        try:
            return super().train(*args, **more)
        finally:
            self.line.close()  # an error is not to be said over the bar

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        # Of a parameter that ZeRO-3 holds in parts, only ds_shape knows the shape.
        return [name for name, p in model.named_parameters() if len(getattr(p, "ds_shape", p.shape)) > 1]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        # Trainer asks for it right after DeepSpeed or accelerate have wrapped the optimizer.
        self._guard_steps()
        if self.lr_scheduler is None:
            stepped: Any = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = LambdaLR(
                stepped,
                lambda step: rate_factor(self.config.schedule, step, num_training_steps),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _guard_steps(self) -> None:
        """Have the guard asked by the innermost optimizer, which steps when the norm is known, but for ZeRO-0."""
        optimizer: Any = self.optimizer
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        engine = getattr(self.accelerator, "deepspeed_engine_wrapped", None)
        if engine is None:
            self.guard.watch(optimizer, lambda: self._norm)
            return
        zero = engine.engine.optimizer
        if zero is not optimizer:
            self.guard.watch(optimizer, lambda: _number(zero._global_grad_norm))
            return
        # ZeRO-0 in float32: DeepSpeed clips, and throws the norm away. Ours clips when the norm is asked for.
        engine.engine.clip_fp32_gradients = lambda: None
        self.guard.watch(optimizer, self._clip)

    def _clip(self) -> float | None:
        most = self.args.max_grad_norm or float("inf")
        self._norm = _number(nn.utils.clip_grad_norm_(self.accelerator.unwrap_model(self.model).parameters(), most))
        return self._norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        found = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        if found is not None:
            self._norm = _number(found)
        return self._norm

    def get_batch_samples(self, *args: Any) -> tuple[list[Any], Any]:
        self.meter.waits()
        found = super().get_batch_samples(*args)
        self.meter.has_batches()
        return found

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        found: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return (carried(found[0]), found[1]) if return_outputs else carried(found)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self.meter.tokens(sum(values.numel() for name, values in inputs.items() if name.endswith("input_ids")))
        return super().training_step(model, inputs, num_items_in_batch)

    def unlogged(self) -> list[Tensor]:
        return [*super().unlogged(), self.z_losses]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            skipped = sum(step > self.last_logged for step in self.guard.skipped)
            steps = self.state.global_step - self.last_logged
            loss = logs.pop("loss") * steps / max(1, steps - skipped)  # Trainer's mean counts those left out
            means = {"loss": loss} if skipped < steps else {}
            if self.config.optimizer.z_loss and means:
                means["z_loss"] = self.accelerator.reduce(self.z_losses, reduction="mean").item() / (steps - skipped)
            self.z_losses.zero_()
            logs = {**means, **logs, **self.meter.take(), "skipped": len(self.guard.skipped)}
        pending = self.control.should_log and "learning_rate" not in logs
        super().log(logs, start_time)
        self.control.should_log = pending  # an evaluation logs before the step does: that is no reason to leave it out


@final
class CptTrainer(SharedTrainer):
    """Next-token loss over rows of token datasets."""

    config: CptConfig

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        config: CptConfig,
        batches: Batches,
        shape: BatchShape,
        attention: Attention,
        identity: Mapping[str, Any],
    ) -> None:
        self.batches, self.shape, self.attention = batches, shape, attention
        self.sampler = RankSampler(shape, args.process_index, args.max_steps)
        super().__init__(
            model,
            args,
            config=config,
            documents=lambda step: batches.documents(np.arange(shape.rows) + step * shape.rows),
            identity=identity,
            train_dataset=batches,
        )
        self.add_callback(_Start(self))
        # The model's own loss where it can be, so that Liger's fused one works.
        if config.optimizer.z_loss or not self.model_accepts_loss_kwargs:
            self.compute_loss_func = self._loss

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Not prepared by accelerate, which would share rows out among ranks a second time."""
        return loader(self.batches, self.sampler, self.config.data.workers, pinned=self.args.device.type == "cuda")

    def get_batch_samples(self, *args: Any) -> tuple[list[Any], Any]:
        iterator: Iterator[dict[str, Tensor]]
        iterator, *others = args
        # Trainer counts targets only where it sees labels, and then counts shift_labels.
        labelled = ({**batch, "labels": batch["shift_labels"]} for batch in iterator)
        return super().get_batch_samples(labelled, *others)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        passed = model_inputs(inputs, self.attention)
        passed["labels"] = inputs["labels"]
        if self.compute_loss_func is None:
            passed["shift_labels"] = inputs["shift_labels"]
        return super().compute_loss(model, passed, return_outputs, num_items_in_batch)

    def _loss(self, outputs: Any, targets_BL: Tensor, num_items_in_batch: Any) -> Tensor:
        cross_entropy, z_loss = (total / num_items_in_batch for total in losses(outputs.logits, targets_BL))
        loss: Tensor = cross_entropy + self.config.optimizer.z_loss * z_loss
        self._z_loss = z_loss.detach() * self.accelerator.num_processes  # as Trainer does with the loss
        return loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """The loss to log: without the z-loss, which is logged apart."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not self.config.optimizer.z_loss:
            return loss
        self.z_losses += self._z_loss
        logged: Tensor = loss - self.config.optimizer.z_loss * self._z_loss
        return logged


def losses(logits_BLV: Tensor, targets_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and squared log-normalizer, summed over the targets."""
    targets = targets_BL.flatten()
    kept = targets != IGNORED
    logits_NV = logits_BLV.flatten(0, -2)[kept].float()
    log_z_N = torch.logsumexp(logits_NV, dim=-1)
    target_N = logits_NV.gather(-1, targets[kept].unsqueeze(-1)).squeeze(-1)
    return (log_z_N - target_N).sum(), log_z_N.square().sum()


def _number(norm: Any) -> float | None:
    return None if norm is None else float(norm)


class _Start(TrainerCallback):
    """Before the first step, when everything is in place: the place in the data, and a proof that masks work."""

    def __init__(self, trainer: CptTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        trainer = self.trainer
        trainer.sampler.first_step = state.global_step
        if trainer.config.data.document_masks:
            rows = trainer.batches.__getitems__(range(trainer.shape.rank_rows))
            dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
            check_masks(trainer.model_wrapped, rows, trainer.attention, dtype)


class _StepTaken(TrainerCallback):
    """Keeps the losses of steps that were left out from those that are logged."""

    def __init__(self, trainer: SharedTrainer) -> None:
        self.trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        trainer = self.trainer
        trainer.last_logged = trainer._globalstep_last_logged
        self.before = trainer._tr_loss.clone(), trainer.z_losses.clone()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        trainer = self.trainer
        trainer.meter.step_done()
        if trainer.guard.refusal() is not None:
            trainer._tr_loss.copy_(self.before[0])
            trainer.z_losses.copy_(self.before[1])
        control.should_log |= state.global_step == state.max_steps
