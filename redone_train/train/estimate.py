"""What a run would be and need, before it starts: `redone-train cpt CONFIG.yaml --dry-run`.

Counted: parameters, and what autograd keeps for the backward pass, by running the model itself on tensors that have
shapes and no data (32B parameters: 3 s and no memory; within .3 % of what a real pass keeps). By formula: weights,
gradients and optimizer states by ZeRO stage (Rajbhandari et al., arXiv 1910.02054, section 3 and table 1: 2 + 2 + 12
bytes a parameter in bf16); with gradient checkpointing, the input of each layer and one layer whole (Korthikanti et
al., arXiv 2205.05198, section 5). Assumed: the share of a GPU's peak that is reached, so that the time is a guess, and
DeepSpeed's default buffers. Not in it: what CUDA itself takes, temporary tensors and fragmentation. A step of a 48M
model on a CPU took 19 % more than this by its resident memory, 32 % with checkpointing (.4 GB in both): leave a sixth.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from redone_train.data.batches import BatchShape
from redone_train.train.config import CptConfig
from redone_train.train.post_config import DpoConfig, SftConfig
from redone_train.train.progress import flops_per_token, peak_flops
from redone_train.train.start import Start, with_adapters

COUNTED = "redone_counted"
ASSUMED_GPU = ("H100", 989e12, 80e9)
# Of the peak, at 6 operations a weight and token; with gradient checkpointing a quarter of the work does not count.
ASSUMED_MFU, CHECKPOINTED_SHARE = 0.4, 0.75
CPU_CORE_FLOPS = 0.06e12  # models of 1M to 270M parameters reached .06 to .11 on Emerald Rapids
FILLED = 5 / 6
# DeepSpeed's defaults, in elements: a bucket to reduce or gather; weights that ZeRO-3 holds whole at once.
BUCKET, LIVE = 500_000_000, 1_000_000_000
# The loss as Transformers computes it: logits and their 32-bit copy, log-softmax, its gradient, that of the logits.
LOGITS_BYTES = {torch.bfloat16: 2 + 4 + 4 + 4, torch.float32: 4 + 4 + 4 + 4}


@dataclass(frozen=True)
class Machine:
    """All devices of a run. peak: operations a second of one; device_bytes: None of a CPU; assumed: it is not here."""

    name: str
    devices: int
    peak: float
    device_bytes: float | None
    assumed: bool

    @property
    def gpu(self) -> bool:
        return self.device_bytes is not None

    @classmethod
    def of(cls, gpus: int | None, ranks: int) -> "Machine":
        """`gpus` of the kind that is here, or of an assumed kind where there is none; by default what runs here."""
        if torch.cuda.is_available():
            peak = peak_flops() or ASSUMED_GPU[1]
            memory = torch.cuda.get_device_properties(0).total_memory
            return cls(torch.cuda.get_device_name(), gpus or ranks, peak, memory, assumed=peak_flops() is None)
        if gpus is not None:
            return cls(ASSUMED_GPU[0], gpus, *ASSUMED_GPU[1:], assumed=True)
        return cls("CPU", ranks, CPU_CORE_FLOPS * (os.cpu_count() or 1) / ranks, None, assumed=True)


@dataclass(frozen=True)
class Size:
    """Of a model. flops_per_token: of training."""

    parameters: int
    trained: int
    flops_per_token: int


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, and, where DeepSpeed offloads, of its rank in the memory of the CPU."""

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    activations: float
    logits: float
    host: float = 0.0

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.buffers + self.activations + self.logits


@dataclass(frozen=True)
class Estimate:
    """memory: by DeepSpeed preset, `none` without. epochs: passes over each source. seconds: a guess."""

    start: str
    size: Size
    machine: Machine
    tokens: int
    steps: int
    rows: int
    length: int
    epochs: Mapping[str, float]
    memory: Mapping[str, Memory]
    chosen: str
    seconds: float
    mfu: float
    precision: torch.dtype

    def fits(self, preset: str) -> bool | None:
        """None where the device has no memory of its own."""
        available = self.machine.device_bytes
        return None if available is None else self.memory[preset].total <= FILLED * available


RowsConfig = CptConfig | SftConfig | DpoConfig


def estimate(
    config: RowsConfig,
    start: Start,
    epochs: Mapping[str, float],
    *,
    num_steps: int,
    machine: Machine,
    whole_logits: bool = True,
) -> Estimate:
    """What a configuration comes to on a machine. Loads no weights.

    epochs: over each source. whole_logits: False where the loss makes them in tiles, and keeps none.
    """
    given = config.model.precision
    precision = torch.bfloat16 if given == "bf16" or (given == "auto" and machine.gpu) else torch.float32
    shape = BatchShape(config.batch.rows, config.batch.rows_per_device, machine.devices)
    size, kept = counted(start, config, precision, autocast=False)
    autocast = precision == torch.bfloat16
    kept_plain = counted(start, config, precision, autocast=True)[1] if autocast else kept
    tokens_at_once = config.batch.rows_per_device * config.data.length
    logits = tokens_at_once * start.vocab_size * LOGITS_BYTES[precision] * whole_logits
    memory = {"none": plain_states(size, precision, machine.devices, kept_plain, logits)}
    for preset in ("zero0", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"):
        if preset == "zero0" and precision == torch.bfloat16:
            continue  # refused: train/deepspeed.py
        states = zero_states(size, int(preset[4]), precision, machine.devices, accumulates=shape.micro_batches > 1)
        held = Memory(*states, activations=kept, logits=logits)
        memory[preset] = offloaded(held, int(preset[4])) if preset.endswith("offload") else held
    tokens = num_steps * config.batch.rows * config.data.length
    mfu = ASSUMED_MFU if machine.gpu else 1.0
    mfu *= CHECKPOINTED_SHARE if config.model.gradient_checkpointing else 1.0
    return Estimate(
        start=start.name,
        size=size,
        machine=machine,
        tokens=tokens,
        steps=num_steps,
        rows=config.batch.rows,
        length=config.data.length,
        epochs=epochs,
        memory=memory,
        chosen=(config.deepspeed or "none").removesuffix(".json"),
        seconds=size.flops_per_token * tokens / (machine.devices * machine.peak * mfu),
        mfu=mfu,
        precision=precision,
    )


def zero_states(
    size: Size, stage: int, precision: torch.dtype, ranks: int, *, accumulates: bool
) -> tuple[float, float, float, float]:
    """Bytes of weights, gradients, optimizer states (with 32-bit weights) and buffers on one of so many ranks.

    accumulates: gradients are summed in 32 bits over several micro-batches.
    """
    half = precision == torch.bfloat16
    width = 2 if half else 4
    summed = 4 if half and accumulates and stage else 0
    weights = width * size.parameters
    # Until ZeRO-2 each rank has the gradients of its own batch whole, and their sum beside them.
    gradients = (summed or width if stage >= 2 else width + summed) * size.trained
    optimizer = (12 if half else 8) * size.trained
    if stage == 3:
        buffers = width * min(LIVE, size.parameters) if ranks > 1 else 0
    else:
        buffers = width * min(BUCKET, size.trained) * (3 if stage else 1)
    return (
        weights / (ranks if stage >= 3 else 1),
        gradients / (ranks if stage >= 2 else 1),
        optimizer / (ranks if stage >= 1 else 1),
        buffers,
    )


def plain_states(size: Size, precision: torch.dtype, ranks: int, activations: float, logits: float) -> Memory:
    """Without DeepSpeed: what is trained in 32 bits (16-bit copies are among the activations), what is frozen not."""
    frozen = (2 if precision == torch.bfloat16 else 4) * (size.parameters - size.trained)
    buckets = 4 * size.trained if ranks > 1 else 0  # DistributedDataParallel's
    return Memory(4 * size.trained + frozen, 4 * size.trained, 8 * size.trained, buckets, activations, logits)


def offloaded(memory: Memory, stage: int) -> Memory:
    """With optimizer states and gradients, and in ZeRO-3 weights, in the memory of the CPU."""
    weights = 0.0 if stage == 3 else memory.weights
    host = memory.optimizer + memory.gradients + memory.weights - weights
    return Memory(weights, 0.0, 0.0, memory.buffers, memory.activations, memory.logits, host)


def counted(start: Start, config: RowsConfig, precision: torch.dtype, *, autocast: bool) -> tuple[Size, float]:
    """The model's size, and the bytes that one micro-batch keeps for its backward pass, logits apart.

    autocast: weights are kept in 32 bits, as without DeepSpeed.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    rows, length = config.batch.rows_per_device, config.data.length
    checkpointed = config.model.gradient_checkpointing
    weights = torch.float32 if autocast and config.model.lora is None else precision
    model = _without_data(start, config, weights)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    size = Size(sum(value.numel() for value in model.parameters()), trained, flops_per_token(model))
    # Meta tensors are the faster ones, but autocast knows none.
    with FakeTensorMode() if autocast else contextlib.nullcontext():
        if autocast:
            _placed(model)
        whole = kept_bytes(model, rows, length, autocast=autocast)
        if not checkpointed:
            return size, whole
        unwrapped: Any = model if config.model.lora is None else model.get_base_model()
        unwrapped.activation_checkpointing_enable({"use_reentrant": False})
        layers = int(start.text_config.num_hidden_layers)
        return size, kept_bytes(model, rows, length, autocast=autocast) + whole / layers


def kept_bytes(model: Any, rows: int, length: int, *, autocast: bool) -> float:
    """What autograd keeps of a forward pass of the model without its output layer, each storage once."""
    own = {value.untyped_storage()._cdata for value in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = value  # held, so that no other storage gets its address
        return value

    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    device = next(model.parameters()).device
    tokens = torch.zeros((rows, length), dtype=torch.long, device=device)
    positions = torch.arange(length, device=device).expand(rows, -1)
    model.train()
    # Autocast of a CPU does what that of a GPU does.
    mixed = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), mixed:
        decoder(input_ids=tokens, position_ids=positions, use_cache=False)
    return float(sum(value.untyped_storage().nbytes() for value in kept.values()))


def _without_data(start: Start, config: RowsConfig, weights: torch.dtype) -> Any:
    from transformers import AttentionInterface, AutoModelForCausalLM

    AttentionInterface.register(COUNTED, _counted_attention)
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(start.config, attn_implementation=COUNTED, dtype=weights)
        return model if config.model.lora is None else with_adapters(model, config.model.lora, config.seed)


def _placed(model: Any) -> None:
    """Put the tensors on the CPU, where autocast works; to be called where tensors are fake."""
    placed: dict[int, Any] = {}  # tied weights stay tied
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, value in held.items():
                if value is not None and id(value) not in placed:
                    empty = torch.empty(value.shape, dtype=value.dtype)
                    trained = isinstance(value, torch.nn.Parameter)
                    placed[id(value)] = torch.nn.Parameter(empty, value.requires_grad) if trained else empty
                held[name] = None if value is None else placed[id(value)]


class _Kept(torch.autograd.Function):
    """Attention as the flash kernels keep it: query, key, value and result; no weights of L x L."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, result)
        return result


def _counted_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Any, None]:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (given.to(torch.get_autocast_dtype("cpu")) for given in (query, key, value))
    result: Any = _Kept.apply(query, key, value)  # type: ignore[no-untyped-call]
    return result.transpose(1, 2).contiguous(), None
