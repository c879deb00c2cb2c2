"""What ranks do together about checkpoints: save one, and agree on the one to go on from.

A base of our trainers over transformers.Trainer, which writes and reads the states (weights, optimizer, schedule,
randomness; with DeepSpeed a shard a rank). Ours is that a checkpoint is whole (checkpoints.py), that the newest good
one is taken without being asked for, on any number of ranks (ranks.py), and that going on changes no logged digit.
Each rank flushes and hashes a share of the files: beside the writing, a checkpoint costs bytes / (ranks x 1.3 GB/s).
"""

import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, set_seed
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from redone_data.errors import RedoneError
from redone_data.manifest import read_json, write_json
from redone_data.rng import stream_seed
from redone_train.train import checkpoints
from redone_train.train.checkpoints import Checkpoint
from redone_train.train.config import CheckpointConfig
from redone_train.train.ranks import for_other_ranks

EMPTY_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")

T = TypeVar("T")


class SavingTrainer(Trainer):
    """`train` goes on from the newest good checkpoint of `output`; what it saves is whole."""

    def __init__(
        self, *args: Any, output: Path, checkpointing: CheckpointConfig, identity: Mapping[str, Any], **more: Any
    ) -> None:
        """identity: plain values that a run must share with the checkpoint that it goes on from."""
        super().__init__(*args, **more)
        self.output, self.checkpointing = output, checkpointing
        self._data_identity = dict(identity)
        self.beside: Sequence[Path] = ()  # files that go with the weights: the tokenizer's
        self.kept_steps: set[int] = set()  # their checkpoints are not pruned
        self._aside: Path | None = None
        self._other_ranks = False
        self._decay: list[float] = []
        self.add_callback(_OwnRandomness())

    @property
    def zero_stage(self) -> int | None:
        """None without DeepSpeed."""
        if not self.is_deepspeed_enabled:
            return None
        return int(self.accelerator.state.deepspeed_plugin.zero_stage)

    @property
    def identity(self) -> dict[str, Any]:
        kind = "plain" if self.zero_stage is None else f"zero{self.zero_stage}"
        precision = "bf16" if self.args.bf16 else "fp32"
        return {**self._data_identity, "deepspeed": kind, "precision": precision}

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **more: Any) -> Any:
        if resume_from_checkpoint is None and (checkpoint := self._agreed_checkpoint()):
            resume_from_checkpoint = str(self._loadable(checkpoint))
        return super().train(resume_from_checkpoint, *args, **more)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not (_internal_call and self.zero_stage):
            super().save_model(output_dir, _internal_call)
        elif self.args.should_save:  # the shards hold the weights; Trainer would gather them, or write them twice
            self._save(output_dir, state_dict={})
            for name in EMPTY_WEIGHTS:
                (Path(str(output_dir)) / name).unlink(missing_ok=True)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step, state = self.state.global_step, PartialState()
        self._aside = agreed(lambda: checkpoints.begin(self.output, step))
        try:
            super()._save_checkpoint(model, trial)
        finally:
            aside, self._aside = self._aside, None
        written = aside / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        if state.is_main_process:
            (written / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle that nothing reads
            for path in self.beside:
                shutil.copyfile(path, written / path.name)
        state.wait_for_everyone()
        names = sorted(set(_gathered(checkpoints.files_in(written))))  # each rank sees at least what it wrote
        mine = checkpoints.describe(written, names[state.process_index :: state.num_processes])
        files = dict(_gathered(list(mine.items())))
        agreed(lambda: self._finish(written, step, files))

    def _finish(self, written: Path, step: int, files: Mapping[str, Any]) -> None:
        checkpoints.finish(
            written,
            self.output,
            step,
            files=files,
            identity=self.identity,
            ranks=PartialState().num_processes,
            zero_stage=self.zero_stage,
        )
        checkpoints.prune(self.output, self.checkpointing.keep, self.kept_steps)

    def _agreed_checkpoint(self) -> Checkpoint | None:
        state, verification = PartialState(), self.checkpointing.verify
        folders = agreed(lambda: checkpoints.present(self.output, self.checkpointing.resume))

        def damage(folder: Path) -> str | None:
            mine = checkpoints.damage_of(folder, verification, state.process_index, state.num_processes)
            return next(filter(None, _gathered([mine])), None)

        found = checkpoints.newest(folders, damage)
        if found.checkpoint is not None:
            found.checkpoint.refuse_changes(self.identity)
        if state.is_main_process:
            for line in found.passed_over:
                print(f"redone-train: {line}", file=sys.stderr)
            if found.checkpoint is not None:
                print(f"redone-train: going on from {found.checkpoint.folder}", file=sys.stderr)
        return found.checkpoint

    def _loadable(self, checkpoint: Checkpoint) -> Path:
        """The folder to load: another one where DeepSpeed's shards are of another number of ranks."""
        self._other_ranks = checkpoint.ranks != PartialState().num_processes
        if not (self._other_ranks and checkpoint.zero_stage):
            return checkpoint.folder
        self.accelerator.state.deepspeed_plugin.deepspeed_config["checkpoint"] = {"load_universal": True}
        return agreed(lambda: for_other_ranks(checkpoint))

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        self._decay = [group.get("weight_decay", 0.0) for group in optimizer.param_groups]
        return optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self._other_ranks and self.zero_stage == 3:
            engine: Any = self.deepspeed
            _mend_zero3(engine.optimizer.optimizer, self._decay)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The loss is logged as a mean of some steps: those since the last line belong to the next one.
        unlogged = {"sums": [total.item() for total in self.unlogged()], "since": self._globalstep_last_logged}
        write_json(Path(output_dir) / f"loss_{self.args.process_index}.json", unlogged)

    def unlogged(self) -> list[torch.Tensor]:
        """Sums over the steps since the last line of the log."""
        return [self._tr_loss]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        ranks = sorted(Path(checkpoint).glob("loss_*.json"))
        if self._other_ranks:
            step, rank = self.state.global_step, self.args.process_index
            set_seed(stream_seed(self.args.seed, "other ranks", step, rank) % 2**32)
        else:
            super()._load_rng_state(checkpoint)
            ranks = [Path(checkpoint) / f"loss_{self.args.process_index}.json"]
        unlogged = [read_json(path) for path in ranks]
        for number, total in enumerate(self.unlogged()):  # what is logged is a mean over ranks
            total.fill_(math.fsum(rank["sums"][number] for rank in unlogged) / len(unlogged))
        self._globalstep_last_logged = unlogged[0]["since"]


class _OwnRandomness(TrainerCallback):
    """A data loader draws from the run's randomness when it is opened, unless it has its own: dropout would differ."""

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **more: Any) -> None:
        train_dataloader.generator = torch.Generator()


def _mend_zero3(optimizer: torch.optim.Optimizer, decay: list[float]) -> None:
    """What DeepSpeed 0.19 gets wrong when it loads ZeRO-3 for other ranks: losses were off by .003 two steps later.

    Every group is given what the first one has, its weight decay too; and all parts share one count of steps, which
    each of them then raises.
    """
    for group, own in zip(optimizer.param_groups, decay, strict=True):
        group["weight_decay"] = own
    for state in optimizer.state.values():
        state["step"] = torch.as_tensor(state["step"]).clone()


def agreed(find: Callable[[], T]) -> T:
    """What rank 0 finds, on all ranks; its RedoneError too."""
    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = find()
        except RedoneError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise RedoneError(outcome[1])
    found: T = outcome[0]
    return found


def _gathered(values: list[T]) -> list[T]:
    """The lists of all ranks, end to end."""
    return list(gather_object(values))
