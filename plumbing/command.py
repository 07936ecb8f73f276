"""How a command ends: one line on standard error and an exit code; only a bug gives a traceback."""

import os
import sys
from collections.abc import Callable

from errors import Malformed, NothingToLearn, UsageError, first_line, is_out_of_memory


def run_command(name: str, work: Callable[[], int | None], advice: str = "") -> int:
    """Do the work of the command `name` and return its exit code.

    `advice` says what to do after Ctrl-C or a system error.
    The code is that of the work (None: 0), or 2: bad input, a system error or no memory left; 3: a
    phase had nothing to learn from; 130: Ctrl-C; 141: the reader of the output closed the pipe.
    """
    try:
        code = work() or 0
        sys.stdout.flush()  # a closed pipe must show here, not when Python ends
        return code
    except BrokenPipeError:  # piped into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print(f"\n{name}: stopped. {advice}".rstrip(), file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{name}: error: {error}. {advice}".rstrip(), file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = "Lower --max-new-tokens, or name a smaller --model."
        print(f"{name}: error: out of memory ({first_line(error)}). {advice}", file=sys.stderr)
        return 2
    except (Malformed, UsageError, NothingToLearn) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 3 if isinstance(error, NothingToLearn) else 2
