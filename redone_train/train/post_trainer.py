"""TRL's SFTTrainer and DPOTrainer with what all our trainers have: guard, schedules, exact resume, checkpoints.

TRL computes the losses (a fused head that never makes all logits), packs, precomputes the reference and measures
rewards. Ours here: the rows of a step are a function of the step (a permutation an epoch, not a shuffled loader), and
TRL's running means go on where a checkpoint falls between two lines of the log.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
import trl.trainer.utils
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from trl.kernels.chunked_logprob import _use_triton
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from redone_train.data.batches import BatchShape, RankSampler
from redone_train.data.order import permuted
from redone_train.data.rows import IGNORED
from redone_train.train.config import RunConfig
from redone_train.train.masks import Attention, check_masks
from redone_train.train.post_config import DpoConfig
from redone_train.train.trainer import SharedTrainer, training_arguments


def trl_arguments(config: RunConfig, shape: BatchShape, num_steps: int, **given: Any) -> dict[str, Any]:
    """Keyword arguments of SFTConfig and DPOConfig. given: those of `training_arguments`."""
    arguments = training_arguments(config, shape, num_steps, **given)
    return {
        **arguments,
        # TRL's defaults are others than Transformers'.
        "gradient_checkpointing": arguments.pop("activation_checkpointing"),
        # Its fused head takes the place of Liger's loss; Liger's layers stay.
        "liger_kernel_config": {"fused_linear_cross_entropy": False},
        "per_device_eval_batch_size": shape.rank_rows,
    }


class Shuffled(TorchDataset[dict[str, Any]]):
    """Sample i of a run is row `permuted(i)` of its epoch: nothing is drawn in order, nothing kept."""

    def __init__(self, rows: Dataset, seed: int) -> None:
        self.rows, self.seed = rows, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, sample: int) -> dict[str, Any]:
        return self.__getitems__([sample])[0]

    def __getitems__(self, samples: Sequence[int]) -> list[dict[str, Any]]:
        return [self.rows[row] for row in self.lookup(samples)]

    def lookup(self, samples: Sequence[int]) -> list[int]:
        found = []
        for sample in samples:
            epoch, position = divmod(sample, len(self.rows))
            at = np.array([position], np.int64)
            found.append(int(permuted(self.seed, "rows", epoch, size=len(self.rows), positions_N=at)[0]))
        return found


class PostTrainer(SharedTrainer):
    """What SFT and DPO share; TRL's trainer is mixed in after it."""

    _metrics: dict[str, dict[str, list[float]]]
    _total_train_tokens: int

    def __init__(
        self,
        model: nn.Module,
        *,
        args: Any,
        config: RunConfig,
        shape: BatchShape,
        train_dataset: Dataset,
        columns: Sequence[str],
        names: Callable[[Dataset], list[str]],
        **more: Any,
    ) -> None:
        """columns: that the collator wants. names: those of some rows, for messages."""
        self.shape, self.rows, self.columns = shape, train_dataset, list(columns)
        self.sampler = RankSampler(shape, args.process_index, args.max_steps)
        order = Shuffled(train_dataset, config.seed)

        def documents(step: int) -> list[str]:
            samples = range(step * shape.rows, (step + 1) * shape.rows)
            return names(train_dataset.select(order.lookup(samples)))

        _score_what_is_learnt()
        # TRL asks Transformers by a name that it will drop, and says that Liger's layers will be had otherwise.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "`use_liger_kernel=True` is deprecated", FutureWarning)
        super().__init__(model, args=args, config=config, documents=documents, train_dataset=train_dataset, **more)
        self.add_callback(_RunningMeans(self))
        self.add_callback(_FirstStep(self))

    def _send_telemetry(self) -> None:
        """TRL would tell its makers of every run."""

    def create_model_card(self, *args: Any, **more: Any) -> None:
        """TRL would write one into every run."""

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Not prepared by accelerate, which would share rows out among ranks a second time."""
        rows: Any = self.train_dataset  # by now with the reference's log-probabilities
        return DataLoader(
            Shuffled(rows.select_columns(self.columns), self.config.seed),
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
            pin_memory=self.args.device.type == "cuda",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        kept = self._metrics
        if "loss" not in logs:  # TRL would put its means over steps on the line of an evaluation
            self._metrics = {mode: defaultdict(list) for mode in kept}
        super().log(logs, start_time)
        self._metrics = kept

    def at_first_step(self) -> None:
        """When everything is in place, before the first step."""

    def keep_only(self, step: int) -> None:
        """Keep the checkpoint of a step, besides the newest ones."""
        self.kept_steps = {step}


@final
class SftTrainer(PostTrainer, SFTTrainer):  # type: ignore[misc]
    """Next-token loss over the answers of an assistant."""

    loss_is_scaled_for_ga = True  # type: ignore[assignment]

    def __init__(self, *args: Any, attention: Attention, **more: Any) -> None:
        self.attention = attention
        super().__init__(*args, **more)
        self.model_accepts_loss_kwargs = True  # TRL's head takes the number of targets, whatever the model does

    def at_first_step(self) -> None:
        if not self.padding_free:
            return
        batch = self.data_collator([self.rows[row] for row in range(min(4, len(self.rows)))])
        dtype = torch.bfloat16 if self.args.bf16 else torch.float32
        check_masks(self.model_wrapped, batch, self.attention, dtype, next_log_probs)


@final
class DpoTrainer(PostTrainer, DPOTrainer):  # type: ignore[misc]
    """Preferences: the loss on pairs, with the reference's log-probabilities computed before the first step."""

    config: DpoConfig

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset  # tokenized already (data/pairs.py)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        lengths = inputs["completion_mask"].sum(1).chunk(2)
        for name, length_B in zip(("chosen", "rejected"), lengths, strict=True):
            mean = self.accelerator.gather(length_B).float().mean().item()
            self._metrics["train"][f"lengths/{name}"].append(mean)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def _score_what_is_learnt() -> None:
    """Have TRL's head score the learnt positions alone on a CPU too.

    It scores all where there is no Triton, for the sake of accelerators that compile for each number of them anew. Of
    Gemma 3 270M, whose head is most of its work, a row of 512 tokens took 15.2 s so, and takes 4.2, to the same digits.
    """
    utils: Any = trl.trainer.utils
    utils._use_triton = lambda device: device.type == "cpu" or _use_triton(device)


def next_log_probs(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Of the token that follows each one in its document (B x L x 1), by TRL's head.

    ZeRO-3 would go on to prefetch an output layer that was called once, and TRL's head then finds it under way.
    """
    labels = inputs["input_ids"].masked_fill(inputs["position_ids"] == 0, IGNORED)
    found: Tensor = model(**inputs, labels=labels, fused_lm_head=True).log_probs
    return nn.functional.pad(found, (0, 1)).unsqueeze(-1)


def padded_conversations(tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """One conversation a row."""
    collate: Any = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)
    return lambda rows: collate([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])


def sft_arguments(config: RunConfig, shape: BatchShape, num_steps: int, *, packing: bool, **given: Any) -> SFTConfig:
    return SFTConfig(
        **trl_arguments(config, shape, num_steps, **given),
        max_length=None,  # rows come tokenized, packed and no longer than they may be
        packing=packing,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def dpo_arguments(config: DpoConfig, shape: BatchShape, num_steps: int, **given: Any) -> DPOConfig:
    loss = config.loss
    kinds, weights = [str(loss.kind)], [1.0]
    if loss.likelihood:
        kinds, weights = [*kinds, "sft"], [*weights, loss.likelihood]
    return DPOConfig(
        **trl_arguments(config, shape, num_steps, **given),
        max_length=None,
        beta=loss.beta,
        loss_type=kinds,
        loss_weights=weights,
        precompute_ref_log_probs=True,
    )


class _FirstStep(TrainerCallback):
    def __init__(self, trainer: PostTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.trainer.sampler.first_step = state.global_step
        self.trainer.at_first_step()


@final
class _RunningMeans(TrainerCallback, ExportableState):
    """TRL's sums since the last line of the log go with a checkpoint; those of a step that is left out, nowhere."""

    def __init__(self, trainer: PostTrainer) -> None:
        self.trainer = trainer

    def state(self) -> dict[str, Any]:
        metrics = {name: list(values) for name, values in self.trainer._metrics["train"].items()}
        return {"args": {}, "attributes": {"metrics": metrics, "tokens": self.trainer._total_train_tokens}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        saved: Mapping[str, Any] = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {})
        self.trainer._metrics["train"].update(saved.get("metrics", {}))
        self.trainer._total_train_tokens = saved.get("tokens", 0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.before = {name: list(values) for name, values in self.trainer._metrics["train"].items()}

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self.trainer.guard.refusal() is not None:
            self.trainer._metrics["train"].clear()
            self.trainer._metrics["train"].update(self.before)
