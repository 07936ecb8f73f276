"""Keep what a decode step needs between batches, and replay it as a CUDA graph on a GPU.

A decode step launches hundreds of small kernels; a CUDA graph launches them all at once, but reads
and writes fixed addresses.  So a `Workspace` (cache, inputs, one graph per shape) outlives its
batch: later batches of the same model replay the graphs that are there.  It is replaced when a
batch does not fit or has another limit on new tokens, or when the model's weights have moved.  It
is dropped when `release` is called or the model is freed.

On a CPU nothing is captured and nothing is kept.  `WORKSPACES.captures` counts the captures.
"""

from collections.abc import Callable
from dataclasses import astuple
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from plumbing.group_cache import GroupCache, Size

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # token, position (S, 1) -> logits


def record(step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Capture `step` as a CUDA graph; return a function that replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # libraries set themselves up here, outside the graph
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


class Workspace:
    """The cache of a batch, the inputs at fixed addresses, and a graph for each shape."""

    def __init__(self, model: PreTrainedModel, size: Size, new_tokens: int) -> None:
        device = model.device
        self.weights = addresses(model)
        self.cache = GroupCache(size, new_tokens, device, model.dtype)
        self.token = torch.zeros(size.slots, 1, dtype=torch.long, device=device)
        self.position = torch.zeros(size.slots, 1, dtype=torch.long, device=device)
        self.graphs: dict[tuple, Callable[[], torch.Tensor]] = {}

    def serves(self, model: PreTrainedModel, new_tokens: int) -> bool:
        """Return whether a batch of this model may use the graphs, if it fits."""
        return self.weights == addresses(model) and self.cache.new_tokens == new_tokens


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
        if not self.captures_on(model.device):
            return Workspace(model, size, new_tokens)
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

    def captures_on(self, device: torch.device) -> bool:
        """Return whether steps are captured on this device."""
        return self.record is not None and device.type in self.devices

    def run(
        self, workspace: Workspace, step: Step, token: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        """Decode one token per slot: token and position (S,) -> logits (S, V)."""
        slots = len(token)
        inputs = (workspace.token[:slots], workspace.position[:slots])
        inputs[0].copy_(token[:, None])
        inputs[1].copy_(position[:, None])
        if not self.captures_on(token.device):
            return step(*inputs)
        shape = astuple(workspace.cache.size)
        if shape not in workspace.graphs:
            workspace.graphs[shape] = self.record(lambda: step(*inputs))
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
