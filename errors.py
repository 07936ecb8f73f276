"""The project's own exceptions.

A message says what is wrong and what to do.  The commands print it in one line and exit: code 2
for bad input, 3 for a phase that had nothing to learn from.
"""

# The words of torch on a CPU, of CUDA in a graph, and of cuBLAS.
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")


class Malformed(ValueError):
    """Untrusted text is not what it should be; the message is a short, countable reason."""


class UsageError(ValueError):
    """An option, a file or a folder cannot be used; the message says what to do."""


class UnusableModel(UsageError):
    """A model cannot be found, read or used."""


class NothingToLearn(Exception):
    """A phase had nothing to learn from; the message says which option to change."""


class LostProcess(ConnectionError):
    """Another process of this run has ended, so this one ends too."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type.

    >>> first_line(ValueError())
    'ValueError'
    """
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:150]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, on a GPU or on a CPU.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    import torch  # here, as modules that do without torch import this one

    if isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY):
        return True
    return isinstance(error, (torch.OutOfMemoryError, MemoryError))
