"""A proxy that goes on from a pretrained model: all of its weights are trained, or low-rank adapters beside them.

Transformers and peft do the work; here they are made to behave as a proxy does. A checkpoint of a run holds the trained
parameters alone (with LoRA, some per cent of the model). A run is a pure function of (checkpoint, swarm, run): dropout
is off, and adapters start from the run's seed. Adapters begin as the identity, so a model before its first step *is*
the checkpoint, and that is how the checkpoint's own loss is measured.

Logits of a real vocabulary are large (1,024 tokens of Gemma's 262,144 take 1 GB): a batch goes through a few rows at a
time, and its gradients are added up on the way forward.

Shapes in names: B rows, L positions, T = B x L tokens, V vocabulary.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from redone_data.errors import RedoneError
from redone_data.rng import stream_seed
from redone_train.pretrained_config import PretrainedConfig

LOGITS_AT_ONCE = 1 << 28
NEEDED = "mix.swarm.init needs the packages transformers and peft; pip install 'redone[train]'"


class PretrainedModel:
    """A causal language model of a folder, with ProxyModel's interface; `trained` are the parameters that learn."""

    def __init__(self, init: PretrainedConfig, directory: Path, seed: int, device: str = "cpu") -> None:
        self.init, self.device = init, torch.device(device)
        self.model = load_folder(init.folder(directory))
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        if init.adapt == "lora":
            self.model = _with_adapters(self.model, init, seed)
        self.model.to(self.device).eval()  # no dropout
        self.trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.rows_at_once = LOGITS_AT_ONCE // self.model.get_output_embeddings().weight.shape[0]

    def loss(self, tokens_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """Mean cross-entropy in nats per token, to be differentiated with respect to the trained parameters."""
        loss: Tensor = _AddedUp.apply(self, tokens_BL, targets_BL, *self.parameters())  # type: ignore[no-untyped-call]
        return loss

    @torch.no_grad()
    def total_nats(self, tokens_BL: Tensor, targets_BL: Tensor) -> float:
        """The sum of the cross-entropies of all targets, in nats."""
        return sum(float(self.nats(tokens, targets)) for tokens, targets in self.portions(tokens_BL, targets_BL))

    def nats(self, tokens_BL: Tensor, targets_BL: Tensor) -> Tensor:
        if self.init.bos_token_id is not None:
            # Checkpoints that learned with a token before every text are at a loss without it; it takes the place of
            # the first token shown, so that every target is still predicted once.
            tokens_BL = tokens_BL.clone()
            tokens_BL[:, 0] = self.init.bos_token_id
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu"):
            logits_BLV = self.model(input_ids=tokens_BL, use_cache=False).logits.float()
        return F.cross_entropy(logits_BLV.flatten(0, 1), targets_BL.reshape(-1), reduction="sum")

    def portions(self, tokens_BL: Tensor, targets_BL: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """As many rows at a time as leave the logits in memory."""
        rows = max(1, self.rows_at_once // tokens_BL.shape[1])
        for tokens, targets in zip(torch.split(tokens_BL, rows), torch.split(targets_BL, rows), strict=True):
            yield tokens.to(self.device), targets.to(self.device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those that are trained."""
        yield from self.trained.values()

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """What AdamW needs. Decay would draw weights to zero, away from the checkpoint: there is none."""
        return [{"params": list(self.parameters()), "peak": rate, "weight_decay": 0.0}]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.trained.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if set(state) != set(self.trained):
            raise RuntimeError("the saved parameters are not those that are trained")
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state[name])


class _AddedUp(torch.autograd.Function):
    """Mean cross-entropy of a batch, its gradients added up portion by portion on the way forward."""

    @staticmethod
    def forward(ctx: Any, model: PretrainedModel, tokens_BL: Tensor, targets_BL: Tensor, *trained: Tensor) -> Tensor:
        total = torch.zeros((), device=model.device)
        added: list[Tensor] = []
        for tokens, targets in model.portions(tokens_BL, targets_BL):
            with torch.enable_grad():
                nats = model.nats(tokens, targets) / targets_BL.numel()
                # Parameters that a model holds but does not use (a head for another task) have no gradient.
                found = torch.autograd.grad(nats, list(model.parameters()), allow_unused=True, materialize_grads=True)
            added = [a.add_(b) for a, b in zip(added, found, strict=True)] if added else list(found)
            total += nats.detach()
        ctx.save_for_backward(*added)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, None, None, *(added * grads[0] for added in ctx.saved_tensors)


def load_folder(
    folder: Path, *, key: str = "init", dtype: torch.dtype = torch.float32, attention: str | None = None
) -> Any:
    """The language model of a folder: its safetensors, no code of it, nothing from anywhere else.

    key: of the configuration, for the errors.
    """
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise RedoneError(NEEDED.replace("mix.swarm.init", key)) from None
    if (folder / "adapter_config.json").is_file():
        raise RedoneError(f"{key}: {folder} holds an adapter; merge it into its model and save that")
    strict: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, attn_implementation=attention, output_loading_info=True, **strict
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RedoneError(f"{key}: {folder}: cannot be loaded as a language model: {reason}") from None
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would begin them at random
        raise RedoneError(f"{key}: {folder}: {len(missing)} weights are not in its files, such as {missing[0]}")
    return model


def _with_adapters(model: Any, init: PretrainedConfig, seed: int) -> Any:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise RedoneError(NEEDED) from None
    config = LoraConfig(r=init.lora.rank, lora_alpha=init.lora.alpha, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "adapters") % 2**63)
        return inject_adapter_in_model(config, model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and warnings of transformers between our own lines."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
