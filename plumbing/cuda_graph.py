"""Keep what a decode step needs between batches, and replay it as a CUDA graph on a GPU.

A decode step launches hundreds of small kernels; a CUDA graph launches them all at once, but reads
and writes fixed addresses.  So a `Workspace` (cache, inputs, one graph per shape) outlives its
batch: later batches and phases of the same model and size replay the graphs that are there.  They
are dropped when the model's weights move, when `release` is called, or with the model.

On a CPU nothing is captured and nothing is kept.  `WORKSPACES.captures` counts the captures.
"""

from collections.abc import Callable
from dataclasses import astuple
from weakref import WeakKeyDictionary

import torch

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

    def __init__(self, size: Size, new_tokens: int, device: torch.device) -> None:
        self.cache = GroupCache(size, new_tokens, device)
        self.token = torch.zeros(size.slots, 1, dtype=torch.long, device=device)
        self.position = torch.zeros(size.slots, 1, dtype=torch.long, device=device)
        self.graphs: dict[tuple, Callable[[], torch.Tensor]] = {}


class Workspaces:
    """Workspaces by model and size.

    `record` captures a step on devices of these types; None runs every step without capture.
    """

    def __init__(self, record: Callable | None, devices: tuple[str, ...] = ("cuda",)) -> None:
        self.record = record
        self.devices = devices
        self.captures = 0
        self.kept: WeakKeyDictionary = WeakKeyDictionary()  # model -> addresses, {size: Workspace}

    def get(self, model: torch.nn.Module, size: Size, new_tokens: int, device) -> Workspace:
        """Return the workspace of this model and size, emptied, or a new one."""
        if not self.captures_on(device):
            return Workspace(size, new_tokens, device)
        addresses = [weight.data_ptr() for weight in model.parameters()]
        known = self.kept.get(model)
        if known is None or known[0] != addresses:
            known = (addresses, {})
            self.kept[model] = known
        workspaces = known[1]
        key = (*astuple(size), new_tokens)
        if key not in workspaces:
            workspaces[key] = Workspace(size, new_tokens, device)
        workspaces[key].cache.reset()
        return workspaces[key]

    def captures_on(self, device: torch.device) -> bool:
        """Return whether steps are captured on this device."""
        return self.record is not None and device.type in self.devices

    def run(self, workspace: Workspace, step: Step, token, position) -> torch.Tensor:
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

    def release(self) -> bool:
        """Free every workspace; return whether there was one."""
        found = len(self.kept) > 0
        self.kept.clear()
        return found


WORKSPACES = Workspaces(record)
