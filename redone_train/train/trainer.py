"""The training loop: transformers.Trainer, and what all our trainers change in it.

The loop, precision, distribution and logging are Trainer's and DeepSpeed's. Ours: the loss is a mean over all target
tokens of the global batch, so that neither ranks nor accumulation change it; z-loss; decay for matrices only; the
schedule as a function of the step; batches that are a function of the step (data/batches.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from redone_train.data.batches import Batches, BatchShape, RankSampler, loader
from redone_train.data.rows import IGNORED
from redone_train.train.config import CptConfig, ModelConfig
from redone_train.train.schedule import rate_factor


def arguments(
    config: CptConfig, shape: BatchShape, num_steps: int, *, deepspeed: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Keyword arguments of TrainingArguments, or of TRL's subclasses of it."""
    optimizer, logging = config.optimizer, config.logging
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
        "bf16": in_bf16(config.model),
        "activation_checkpointing": config.model.gradient_checkpointing,
        "use_cache": False,
        "logging_steps": logging.every,
        "logging_nan_inf_filter": False,  # it waits for the GPU at every micro-batch
        "report_to": reports or "none",
        "run_name": Path(config.output).name,
        "save_strategy": "steps",
        "save_steps": config.checkpoints.every,
        "ignore_data_skip": True,  # the sampler starts at the step
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "seed": config.seed,
        "deepspeed": deepspeed,
    }


def in_bf16(model: ModelConfig) -> bool:
    return model.precision == "bf16" or (model.precision == "auto" and torch.cuda.is_available())


class SharedTrainer(Trainer):
    """A base of every trainer here; TRL's are mixed in after it: `class Sft(SharedTrainer, SFTTrainer)`."""

    def __init__(self, *args: Any, config: CptConfig, **more: Any) -> None:
        self.config = config
        super().__init__(*args, **more)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        # Of a parameter that ZeRO-3 holds in parts, only ds_shape knows the shape.
        return [name for name, p in model.named_parameters() if len(getattr(p, "ds_shape", p.shape)) > 1]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        if self.lr_scheduler is None:
            stepped: Any = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = LambdaLR(
                stepped,
                lambda step: rate_factor(self.config.schedule, step, num_training_steps),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler


@final
class CptTrainer(SharedTrainer):
    """Next-token loss over rows of token datasets."""

    def __init__(
        self, model: nn.Module, args: TrainingArguments, *, config: CptConfig, batches: Batches, shape: BatchShape
    ) -> None:
        self.batches, self.shape = batches, shape
        self.sampler = RankSampler(shape, args.process_index, args.max_steps)
        super().__init__(model, args, config=config, train_dataset=batches, callbacks=[_StartAtStep(self.sampler)])
        # Our own loss is over the whole step already; so is the model's, given the number of targets.
        self.loss_is_scaled_for_ga = True

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Not prepared by accelerate, which would share rows out among ranks a second time."""
        pinned = self.args.device.type == "cuda"
        return loader(self.batches, self.sampler, self.config.data.workers, pinned=pinned)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        # Trainer counts targets only where it sees labels, and then counts shift_labels.
        labelled = ({**batch, "labels": batch["shift_labels"]} for batch in epoch_iterator)
        return super().get_batch_samples(labelled, num_batches, device)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        # Without attention_mask and cache: with either, the model would not see where documents begin.
        inputs = {**inputs, "use_cache": False}
        if self.config.optimizer.z_loss == 0 and self.model_accepts_loss_kwargs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        targets = inputs.pop("shift_labels")
        del inputs["labels"]
        outputs = model(**inputs)
        cross_entropy, z_loss = losses(outputs.logits, targets)
        total = cross_entropy + self.config.optimizer.z_loss * z_loss
        # The gradient is a mean over ranks: times their number it is a sum.
        loss = total / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def losses(logits_BLV: Tensor, targets_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and squared log-normalizer, summed over the targets."""
    kept = targets_BL != IGNORED
    logits_NV = logits_BLV[kept].float()
    log_z_N = torch.logsumexp(logits_NV, dim=-1)
    target_N = logits_NV.gather(-1, targets_BL[kept].unsqueeze(-1)).squeeze(-1)
    return (log_z_N - target_N).sum(), log_z_N.square().sum()


class _StartAtStep(TrainerCallback):
    def __init__(self, sampler: RankSampler) -> None:
        self.sampler = sampler

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.sampler.first_step = state.global_step
