"""Exit codes and the exceptions that carry one, together with a remedy.

The codes are a stable interface (docs/exit-codes.md). Every exception says what is wrong and what to do about it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns to its caller."""

    OK = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3
    ALL_FAILED = 4
    MODEL_UNUSABLE = 5
    MODEL_REFUSED = 6
    OUTPUT = 7
    TIME_UP = 8
    LOCKED = 11
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


# From the gravest to the lightest: of several outcomes the first one here is returned.
GRAVITY = (
    ExitCode.SIGHUP,
    ExitCode.SIGINT,
    ExitCode.SIGTERM,
    ExitCode.BUG,
    ExitCode.USAGE,
    ExitCode.LOCKED,
    ExitCode.MODEL_REFUSED,
    ExitCode.MODEL_UNUSABLE,
    ExitCode.OUTPUT,
    ExitCode.TIME_UP,
    ExitCode.ALL_FAILED,
    ExitCode.SOME_FAILED,
    ExitCode.OK,
)


def gravest(codes: set[ExitCode]) -> ExitCode:
    """The code that is returned when several hold."""
    return min(codes or {ExitCode.OK}, key=GRAVITY.index)


class GradvizError(Exception):
    """Something the user can do something about; ends the run with `code`.

    `message` names the file, option or tensor and what is wrong with it; `remedy` says what to do.
    """

    code = ExitCode.BUG

    def __init__(self, message: str, remedy: str = ""):
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.traceback = ""  # of a child process, for -v

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(GradvizError):
    code = ExitCode.USAGE


class NoImages(GradvizError):
    """Nothing that is named can hold an image."""

    code = ExitCode.ALL_FAILED


class ModelUnusable(GradvizError):
    code = ExitCode.MODEL_UNUSABLE
    cut_at: str | None = None  # the operation that no gradient passes, where that is what is wrong


class ProofFailed(ModelUnusable):
    """What gradviz computes of a model is not what TensorFlow computes of it."""


class ModelRefused(GradvizError):
    code = ExitCode.MODEL_REFUSED


class OutputError(GradvizError):
    code = ExitCode.OUTPUT


class Locked(GradvizError):
    code = ExitCode.LOCKED


class TimeUp(GradvizError):
    code = ExitCode.TIME_UP


class Unanswered(TimeUp):
    """The time is up while something is waited for that may never come, so nobody waits for what is under way."""


class ImageError(Exception):
    """One image failed; the run goes on.

    Parameters
    ----------
    kind : str
        A word for machines (`unreadable`, `format`, `too-large`, `timeout`, `crash`, ...), kept in the manifest.
    message : str
        One line for people. The caller adds the name of the image.
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind
        self.message = message


class GradvizWarning(UserWarning):
    """What the command line would say on stderr, for who calls gradviz from Python."""
