"""The optional logger: every line of log.jsonl goes to Weights & Biases, too.

Numbers only, named by their phase: solver/reward.  A run that continues is a new run of the same
group.
"""

from collections.abc import Callable
from pathlib import Path

from errors import UsageError


def wandb(folder: Path, config: dict) -> Callable[[dict], None]:
    """Start a W&B run; return what logs one line.  Raises UsageError if the package is missing."""
    try:
        import wandb as package
    except ImportError:
        raise UsageError("--wandb needs its package: pip install wandb") from None
    try:
        run = package.init(project="tool-r0", group=folder.name, dir=folder, config=config)
    except Exception as error:  # of its own kind: no login, no network
        raise UsageError(f"--wandb cannot start: {str(error).splitlines()[0]}") from None

    def tell(line: dict) -> None:
        numbers = {k: v for k, v in line.items() if isinstance(v, int | float)}
        run.log({f"{line['phase']}/{name}": value for name, value in numbers.items()})

    return tell
