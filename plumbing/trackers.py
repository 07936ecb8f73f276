"""Who is told each line of log.jsonl besides the file: TensorBoard, Weights & Biases.

Numbers only, named by their phase, one after the other in the order of the log's lines:
    solver/reward  1.42  step 61
"""

from collections.abc import Callable
from pathlib import Path

from errors import Malformed

Tell = Callable[[dict, int], None]  # of a line of the log, the n-th


def tensorboard(folder: Path, config: dict) -> Callable:
    """Events below the run folder."""
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(folder / "tensorboard")

    def send(numbers: dict[str, float], n: int) -> None:
        for name, value in numbers.items():
            board.add_scalar(name, value, n)
        board.flush()

    return send


def wandb(folder: Path, config: dict) -> Callable:
    """A run of the project tool-r0; one that goes on is a new one of the same group."""
    import wandb

    return wandb.init(project="tool-r0", group=folder.name, dir=folder, config=config).log


def tracker(make: Callable, folder: Path, config: dict) -> Tell:
    """What tells a tracker a line.  Raises `Malformed` where its package is missing."""
    try:
        send = make(folder, config)
    except ImportError:
        name = make.__name__
        raise Malformed(f"--{name} needs its package: pip install {name}") from None
    except Exception as error:  # of its own kind: no login, no network
        raise Malformed(f"--{make.__name__} cannot start: {str(error).splitlines()[0]}") from None
    return lambda line, n: send(
        {
            f"{line['phase']}/{name}": value
            for name, value in line.items()
            if isinstance(value, (int, float))
        },
        n,
    )
