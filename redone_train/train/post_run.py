"""A trainer from its first step to its result, and out of the process again, so that another can follow."""

from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, GradientState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from redone_train.train import checkpoints
from redone_train.train.post_trainer import PostTrainer
from redone_train.train.stages import write_result
from redone_train.train.stopping import Stopping


def train(trainer: PostTrainer, best_step: Any = None) -> bool:
    """Train, and mark the run as finished; whether it is, and was not told to stop.

    best_step: a function that gives the step whose checkpoint is the result, or None for the last one.
    """
    stopping = Stopping()
    trainer.add_callback(stopping)
    try:
        trainer.train()
    finally:
        stopping.close()
    if not stopping.asked:
        output, step = Path(trainer.config.output), trainer.state.global_step
        best = None if best_step is None else best_step()
        why = f"the last step, {step}" if best in (None, step) else f"the best of {step} steps"
        if trainer.is_world_process_zero():
            write_result(output, output / checkpoints.FOLDER / f"step-{best or step}", why)
    trainer.accelerator.wait_for_everyone()
    _forget(trainer)
    return not stopping.asked


def _forget(trainer: PostTrainer) -> None:
    """Free the devices, and what accelerate keeps of a run in the process."""
    for tracker in trainer.accelerator.trackers:
        tracker.finish()
    engine: Any = getattr(trainer, "deepspeed", None)
    if engine is not None:
        engine.destroy()
    emptied: Any = trainer
    emptied.model = emptied.model_wrapped = emptied.optimizer = emptied.lr_scheduler = None
    AcceleratorState._reset_state()
    GradientState._reset_state()
    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]
    trainer.accelerator.free_memory()  # collects what nothing holds any more, and empties the device's cache
