"""Limits of the system that a process runs into (`ulimit`), by the words and numbers that tell of them."""

from __future__ import annotations

import errno
import resource
from typing import NamedTuple

from gradviz_cli.errors import ModelUnusable


class Shortage(NamedTuple):
    """What is too little: in words, what to do, and by what it is known."""

    what: str
    remedy: str
    numbers: frozenset[int]
    signs: tuple[str, ...]


SHORTAGES = (
    Shortage(
        "this user may run no further process or thread",
        "raise ulimit -u, or end other programs",
        frozenset({errno.EAGAIN}),
        ("can't start new thread", "pthread_create", "thread constructor failed", "Resource temporarily unavailable"),
    ),
    Shortage(
        "no further file can be opened",
        "raise ulimit -n",
        frozenset({errno.EMFILE, errno.ENFILE}),
        ("Too many open files",),
    ),
    Shortage(
        "memory ran out",
        "free memory, or raise ulimit -v and -d where they are set",
        frozenset({errno.ENOMEM}),
        # What the C++ library, the loader and Python say when an allocation fails where nobody expects it to.
        (
            *("std::bad_alloc", "Cannot allocate memory", "MemoryError", "OOM when allocating"),
            *("failed to map segment", "Memory allocation still failed", "cannot allocate memory"),
        ),
    ),
)
PROCESSES, FILES, MEMORY = SHORTAGES
# What Python with NumPy and Pillow takes of address space, and a worker with TensorFlow of its own data; with less a process
# ends in the middle of an import, and says nothing.
LEAST = {
    "ulimit -v": (resource.RLIMIT_AS, 500 * 2**20, "address space"),
    "ulimit -d": (resource.RLIMIT_DATA, 400 * 2**20, "data"),
}


def named_in(text: str) -> Shortage | None:
    """What a process fell short of, by its last words."""
    return next((one for one in SHORTAGES if any(sign in text for sign in one.signs)), None)


def behind(error: BaseException | None) -> Shortage | None:
    """What the system lacked when this was raised, if that is the reason."""
    while error is not None:
        if isinstance(error, MemoryError):
            return MEMORY
        number = error.errno if isinstance(error, OSError) else None
        found = next((one for one in SHORTAGES if number in one.numbers), None)
        if found is None and isinstance(error, RuntimeError | ImportError | OSError):
            found = named_in(str(error))
        if found:
            return found
        error = error.__cause__
    return None


def as_error(error: BaseException) -> ModelUnusable | None:
    """The end of a run that a shortage caused; None where it was none."""
    found = behind(error)
    return ModelUnusable(f"gradviz cannot work: {found.what}", found.remedy) if found else None


def spent_time() -> str:
    """That children have taken the processor time that `ulimit -t` gives to each; empty where they have not."""
    most, used = resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrusage(resource.RUSAGE_CHILDREN)
    if most == resource.RLIM_INFINITY or used.ru_utime + used.ru_stime < most - 1:
        return ""
    return f"ulimit -t gives it {most} seconds of processor time"


def check_space() -> None:
    """Raise ModelUnusable where a limit is too small for the command or its worker to be imported."""
    for name, (limit, least, what) in LEAST.items():
        space = resource.getrlimit(limit)[0]
        if space != resource.RLIM_INFINITY and space < least:
            said = f"{name} leaves {space >> 20} MiB of {what}, and gradviz takes {least >> 20} MiB and more"
            raise ModelUnusable(said, MEMORY.remedy)
