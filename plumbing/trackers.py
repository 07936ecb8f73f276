"""The optional logger: every line of log.jsonl also goes to Weights & Biases.

Numbers only, named by their phase: solver/reward.  A resumed run is a new W&B run in the
same group.
"""

from collections.abc import Callable
from pathlib import Path

from errors import UsageError, first_line


def wandb(folder: Path, config: dict) -> Callable[[dict], None]:
    """Start a W&B run; return a function that logs a line.  Raises UsageError if that fails."""
    try:
        import wandb as package
    except ImportError:
        raise UsageError("--wandb needs its package: pip install wandb") from None
    try:
        run = package.init(project="tool-r0", group=folder.name, dir=folder, config=config)
    except Exception as error:  # of wandb's own classes: no login, no network
        raise UsageError(
            f"--wandb cannot start: {first_line(error)}. Run `wandb login`, or leave --wandb out."
        ) from None

    def tell(line: dict) -> None:
        numbers = {k: v for k, v in line.items() if isinstance(v, int | float)}
        run.log({f"{line['phase']}/{name}": value for name, value in numbers.items()})

    return tell
