"""What the exercises share: Python finds the project, and a reader's function is compared with it.

The solution of an exercise is the project's own function, so nothing stands here twice.  Import
this first: it puts the project's folder on the path.
"""

import copy
import inspect
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def check(yours: Callable, wanted: Callable, inputs: Iterable[tuple]) -> NoReturn:
    """Print "right" and leave with exit code 0, or print the first input that differs: code 1.

    Each of the inputs is a tuple of arguments for both functions.
    """
    for given in inputs:
        want = plain(wanted(*copy.deepcopy(given)))
        try:
            got = plain(yours(*copy.deepcopy(given)))
        except NotImplementedError:
            print(f"{yours.__name__}: its body is still missing")
            sys.exit(1)
        except Exception as error:  # whatever a reader's function may raise
            got = error
        if not same(got, want):
            names = inspect.signature(yours).parameters
            what = ", ".join(f"{name} {text(plain(x))}" for name, x in zip(names, given))
            gives = "raises" if isinstance(got, Exception) else "gives"
            print(f"wrong: for {what} yours {gives} {text(got)}, wanted {text(want)}")
            sys.exit(1)
    print("right")
    sys.exit(0)


def plain(value: Any) -> Any:
    """A tensor, an array, a tuple or a list as a list of plain values; any other value as it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(map(plain, value)) if isinstance(value, (list, tuple)) else value


def same(got: Any, want: Any) -> bool:
    """Equal, numbers up to the last digits of float32."""
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(map(same, got, want))
    if isinstance(want, float) and isinstance(got, (int, float)):
        return math.isclose(got, want, rel_tol=1e-5, abs_tol=1e-6)
    return got == want


def text(value: Any) -> str:
    """A plain value as it is shown to the reader."""
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
