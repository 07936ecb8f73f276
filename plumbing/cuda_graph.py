"""Keep what a decode step needs between batches, and replay it as a CUDA graph on a GPU.

A decode step launches hundreds of small kernels; a CUDA graph launches them all at once, but reads
and writes fixed addresses.  So a `Workspace` (cache, inputs, one graph per shape) outlives its
batch: later batches of the same model replay the graphs that are there.  It is replaced when a
batch does not fit or has another limit on new tokens, or when the model's weights have moved.  It
is dropped when `release` is called or the model is freed.  The graphs of a workspace share one
memory pool and one tensor of logits, since only one of them runs at a time.

On a CPU nothing is captured and nothing is kept.  `WORKSPACES.captures` counts the captures.
"""

import functools
from collections.abc import Callable
from dataclasses import astuple
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from errors import is_out_of_memory
from plumbing.group_cache import GroupCache, Size
from plumbing.model_check import settings

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # token, position (S, 1) -> logits
READS_LENGTHS = ("dynamic", "longrope")  # rotary types whose forward pass makes the host wait


def record(step: Callable[[], torch.Tensor], pool: object) -> Callable[[], torch.Tensor]:
    """Capture `step` as a CUDA graph with memory from `pool`; return a function that replays it."""
    side = warm_up_stream(torch.cuda.current_device())
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # libraries set themselves up here, outside the graph
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = step()
    except torch.AcceleratorError as error:
        if is_out_of_memory(error) or isinstance(error.__context__, torch.OutOfMemoryError):
            raise torch.OutOfMemoryError("while a CUDA graph was captured") from error
        raise

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


@functools.cache
def warm_up_stream(device: int) -> torch.cuda.Stream:
    """Return the only stream that warms up, as cuBLAS keeps memory for every stream it has seen."""
    return torch.cuda.Stream(device)


class Workspace:
    """The cache of a batch, inputs and logits at fixed addresses, and a graph for each shape."""

    def __init__(
        self, model: PreTrainedModel, size: Size, new_tokens: int, captures: bool = True
    ) -> None:
        device = model.device
        self.captures = captures
        self.weights = addresses(model)
        self.cache = GroupCache(size, new_tokens, device, model.dtype)
        self.token = torch.zeros(size.slots, 1, dtype=torch.long, device=device)
        self.position = torch.zeros(size.slots, 1, dtype=torch.long, device=device)
        self.logits: torch.Tensor | None = None  # (S, V)
        self.pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self.graphs: dict[tuple, Callable[[], torch.Tensor]] = {}

    def serves(self, model: PreTrainedModel, new_tokens: int) -> bool:
        """Return whether a batch of this model may use the graphs, if it fits."""
        return self.weights == addresses(model) and self.cache.new_tokens == new_tokens

    def keep(self, logits: torch.Tensor) -> torch.Tensor:
        """Copy logits (S, V) to where every graph leaves them."""
        if self.logits is None:
            self.logits = logits.new_empty(len(self.token), logits.shape[1])
        return self.logits[: len(logits)].copy_(logits)


def addresses(model: PreTrainedModel) -> list[int]:
    """Return where the weights are."""
    return [weight.data_ptr() for weight in model.parameters()]


class Workspaces:
    """A workspace per model.

    `record` captures a step on devices of these types; None runs every step without capture.
    """

    def __init__(self, record: Callable | None, devices: tuple[str, ...] = ("cuda",)) -> None:
        self.record = record
        self.devices = devices
        self.captures = 0
        self.kept: WeakKeyDictionary[PreTrainedModel, Workspace] = WeakKeyDictionary()

    def get(self, model: PreTrainedModel, size: Size, new_tokens: int) -> Workspace:
        """Return the model's workspace, emptied, or a new one if the batch does not fit."""
        if not self.may_capture(model):
            return Workspace(model, size, new_tokens, captures=False)
        kept = self._usable(model, new_tokens)
        room = kept.cache.room.larger(size) if kept else size  # never smaller: sizes may alternate
        if kept is None or kept.cache.room != room:
            del kept  # frees its memory first
            kept = Workspace(model, room, new_tokens)
        self.kept[model] = kept
        kept.cache.reset(size)
        return kept

    def _usable(self, model: PreTrainedModel, new_tokens: int) -> Workspace | None:
        """Take out the model's workspace; return it if batches may still use it, else None."""
        kept = self.kept.pop(model, None)
        return kept if kept is not None and kept.serves(model, new_tokens) else None

    def may_capture(self, model: PreTrainedModel) -> bool:
        """Return whether the steps of this model can be captured on its device."""
        if self.record is None or model.device.type not in self.devices:
            return False
        for name, value in settings(model.config.get_text_config().to_dict()):
            if name.endswith("type") and value in READS_LENGTHS:
                return False
        return True

    def run(
        self, workspace: Workspace, step: Step, token: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        """Decode one token per slot: token and position (S,) -> logits (S, V)."""
        slots = len(token)
        inputs = (workspace.token[:slots], workspace.position[:slots])
        inputs[0].copy_(token[:, None])
        inputs[1].copy_(position[:, None])
        if not workspace.captures:
            return step(*inputs)
        shape = astuple(workspace.cache.size)
        if shape not in workspace.graphs:
            workspace.graphs[shape] = self.record(
                lambda: workspace.keep(step(*inputs)), workspace.pool
            )
            self.captures += 1
        return workspace.graphs[shape]()

    def bytes(self) -> int:
        """Return the memory of all caches that are kept."""
        return sum(workspace.cache.bytes() for workspace in self.kept.values())

    def release(self) -> bool:
        """Free every workspace; return whether there was one."""
        found = len(self.kept) > 0
        self.kept.clear()
        return found


WORKSPACES = Workspaces(record)
