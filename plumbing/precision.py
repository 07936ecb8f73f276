"""Float32 weights that are trained, and the bfloat16 copy that computes on fast hardware.

In bfloat16 a step of 1e-6 would be rounded away, so the optimizer keeps float32 weights.  Sampling
and the update's forward and backward passes use one bfloat16 copy of them, cast before each; the
gradients of its micro-batches are added up in float32, on the float32 weights.  Fast hardware is a
GPU from Ampere on, and for large models a CPU that multiplies in bfloat16 (AVX512_BF16, AMX).
Elsewhere the float32 model itself computes.

Sharded layers are not copied for the update: there autocast takes the copy's place.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbing import distributed

DTYPES = {"cuda": torch.bfloat16}  # in which a device computes, if not in float32
AMPERE = (8, 0)  # the first compute capability with all bfloat16 kernels
LARGE = 50_000_000  # parameters; from here on a CPU computes in bfloat16 if it can
COPIES: WeakKeyDictionary[PreTrainedModel, PreTrainedModel] = WeakKeyDictionary()


def cast_weights(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Cast the weights in place and return the model.

    Buffers stay float32, as `from_pretrained` leaves them: rounding rotary frequencies to bfloat16
    would change the positions.
    """
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def dtype_for(model: PreTrainedModel) -> torch.dtype:
    """Return the dtype in which this model computes on its device."""
    return dtype_on(str(model.device), model.num_parameters())


def dtype_on(device: str, parameters: float) -> torch.dtype:
    """Return the dtype in which a model of this size computes on this device."""
    kind = device.partition(":")[0]  # "cuda:1" is "cuda"
    if kind == "cpu" and parameters >= LARGE and cpu_has_bfloat16():
        return torch.bfloat16
    if kind == "cuda" and torch.cuda.get_device_capability(device) < AMPERE:
        return torch.float32
    return DTYPES.get(kind, torch.float32)


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU has instructions that multiply in bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def sampling_model(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model that samples for this one, unsharded and with its current weights."""
    if model not in COPIES:
        if model.dtype == dtype_for(model):
            return model
        keep_copy(model)
    with torch.no_grad():
        for copied, weight in zip(COPIES[model].parameters(), model.parameters()):
            copied.copy_(distributed.whole(weight.detach()))
    return COPIES[model]


def training_model(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model whose backward pass adds to the gradients of this one."""
    if distributed.is_sharded(model):
        return model
    policy = sampling_model(model)
    if policy is not model:
        policy.zero_grad()  # a backward pass that ran out of memory may have left something
    return policy


def keep_copy(model: PreTrainedModel, gradients: bool = True) -> None:
    """Make the copy that computes; make it before sharding a model, and then without gradients."""
    copied = cast_weights(copy.deepcopy(model), dtype_for(model))
    copied.requires_grad_(gradients)
    if gradients:
        for weight, master in zip(copied.parameters(), model.parameters()):
            weight.register_post_accumulate_grad_hook(add_to(master))
    COPIES[model] = copied


def add_to(master: torch.nn.Parameter) -> Callable[[Tensor], None]:
    """Return a hook that moves a weight's gradient to the float32 weight, and frees it."""

    def move(weight: Tensor) -> None:
        if master.grad is None:
            master.grad = weight.grad.to(master.dtype)
        else:
            master.grad.add_(weight.grad)
        weight.grad = None

    return move


def autocast(model: PreTrainedModel) -> AbstractContextManager:
    """Return a context in which float32 weights compute in the dtype of their device."""
    dtype = dtype_for(model)
    if model.dtype == dtype:
        return nullcontext()
    return torch.autocast(model.device.type, dtype)
