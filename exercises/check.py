"""Compare a reader's function with the project's own, which is the solution of an exercise."""

import copy
import inspect
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn


def check(yours: Callable, wanted: Callable, inputs: Iterable[tuple]) -> NoReturn:
    """Print "right" and exit with code 0, or print the first input that differs and exit with 1.

    Each input is a tuple of arguments for both functions.
    """
    for given in inputs:
        want = plain(wanted(*copy.deepcopy(given)))
        try:
            got = plain(yours(*copy.deepcopy(given)))
        except NotImplementedError:
            print(f"{yours.__name__}: write its body first")
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
    """Return a tensor, an array, a tuple or a list as a list of plain values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def same(got: Any, want: Any) -> bool:
    """Return whether two plain values are equal, numbers up to the precision of float32."""
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(map(same, got, want))
    if isinstance(want, float) and isinstance(got, (int, float)):
        return math.isclose(got, want, rel_tol=1e-5, abs_tol=1e-6)
    return got == want


def text(value: Any) -> str:
    """Write a plain value for the reader."""
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
