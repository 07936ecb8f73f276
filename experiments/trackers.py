"""Who is told each line of log.jsonl besides the file: TensorBoard, Weights & Biases.

Numbers only, named by their phase, one after the other in the order of the log's lines:
    solver/reward  1.42  step 61
"""
from __future__ import annotations

from pathlib import Path
from typing import Callable

from ast_match import Malformed

Send = Callable[[dict, int], None]  # named numbers, and the line of the log that they stand in

def tensorboard(folder: Path, config: dict) -> Send:
    """Events below the run folder."""
    from torch.utils.tensorboard import SummaryWriter
    board = SummaryWriter(folder / "tensorboard")

    def send(numbers: dict, step: int) -> None:
        for name, value in numbers.items():
            board.add_scalar(name, value, step)
        board.flush()

    return send

def wandb(folder: Path, config: dict) -> Send:
    """A run of the project tool-r0; one that goes on is a new one of the same group."""
    import wandb
    return wandb.init(project="tool-r0", group=folder.name, dir=folder, config=config).log

def trackers(folder: Path, config: dict) -> list[Callable[[str, dict, int], None]]:
    """A function of phase, values and line for each tracker that was asked for."""
    return [_teller(make, folder, config) for make in (tensorboard, wandb) if config[make.__name__]]

def _teller(make: Callable, folder: Path, config: dict) -> Callable[[str, dict, int], None]:
    try:
        send = make(folder, config)
    except ImportError:
        name = make.__name__
        raise Malformed(f"--{name} needs its package: pip install {name}") from None

    def tell(phase: str, values: dict, line: int) -> None:
        send({f"{phase}/{name}": value for name, value in values.items()
              if isinstance(value, (int, float))}, line)

    return tell
