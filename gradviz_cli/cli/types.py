"""Types of options for click: `plan.values` says what a value means, click whose it is."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradviz_cli.estimators import MOST_SAMPLES
from gradviz_cli.files.remote import Remote
from gradviz_cli.images.listing import STDIN
from gradviz_cli.plan import values

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


_Parameter = click.Parameter | None
_Context = click.Context | None


class _Value(click.ParamType):
    """What a function of `plan.values` reads."""

    def __init__(self, name: str, read: values.Read):
        self.name, self._read = name, read

    def convert(self, value: Any, param: _Parameter, context: _Context) -> Any:
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, context)


class Size(_Value):
    def __init__(self) -> None:
        super().__init__("HxW", values.size)


class Length(_Value):
    def __init__(self) -> None:
        super().__init__("LENGTH", values.length)


class Amount(_Value):
    def __init__(self) -> None:
        super().__init__("N", values.amount)


class Level(_Value):
    def __init__(self) -> None:
        super().__init__("LEVEL", values.level)


class Count(_Value):
    def __init__(self) -> None:
        super().__init__("N", values.count(MOST_SAMPLES))


class Share(_Value):
    def __init__(self) -> None:
        super().__init__("S", values.share)


class Seconds(_Value):
    def __init__(self, least: float = 0.0, above: bool = False):
        super().__init__("S", values.seconds(least, above))


class Auto(_Value):
    def __init__(self) -> None:
        super().__init__("N|auto", values.auto)


class Shard(_Value):
    def __init__(self) -> None:
        super().__init__("I/N", values.shard)


class Position(_Value):
    def __init__(self) -> None:
        super().__init__("Y,X", values.position)


class Numbers(_Value):
    """Several numbers in one value, in a file also as a list."""

    listed = True

    def __init__(self, name: str, read: values.Read):
        super().__init__(name, read)


class Shift(_Value):
    def __init__(self) -> None:
        super().__init__("N", values.shift)


class Place(_Value):
    def __init__(self) -> None:
        super().__init__("N|all", values.place)


class Feed(_Value):
    def __init__(self) -> None:
        super().__init__("NAME=VALUE|FILE.npy", values.feed)


class Between(click.FloatRange):
    """A number of a range, in which NaN is not: it compares with nothing."""

    def convert(self, value: Any, param: _Parameter, context: _Context) -> float:
        found: float = super().convert(value, param, context)
        if math.isnan(found):
            self.fail(f"{found} is not in the range {self._describe_range()}.", param, context)
        return found


class Name(click.Choice):
    """One of several names; asks whether another one was meant."""

    def convert(self, value: Any, param: _Parameter, context: _Context) -> Any:
        try:
            return values.choice(map(str, self.choices))(value)
        except ValueError as error:
            self.fail(str(error), param, context)


class Names(Name):
    """One or several names, with commas; `flat` makes one list of an option that is given more than once."""

    def shell_complete(self, context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """How the last of them may go on."""
        before, comma, last = incomplete.rpartition(",")
        found = super().shell_complete(context, param, last)
        for one in found:
            one.value = f"{before}{comma}{one.value}"
        return found

    def convert(self, value: Any, param: _Parameter, context: _Context) -> Any:
        parts = values.parts(str(value))
        if "" in parts and any(parts):  # a blank behind a comma, as in a sentence
            self.fail(
                f"{value}: nothing stands on one side of a comma; write NAME,NAME without a blank", param, context
            )
        return ",".join(super(Names, self).convert(part, param, context) for part in parts)


class Percentile(_Value):
    def __init__(self) -> None:
        super().__init__("PERCENT", values.percentile)


class Weight(_Value):
    def __init__(self) -> None:
        super().__init__("A", values.weight)


def flat(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of an option of `Names`."""
    return tuple(part for one in value for part in values.parts(one))


class NamedPath(click.Path):
    """A path that is not empty, see `values.path`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)  # who reads it says more

    def convert(self, value: Any, param: _Parameter, context: _Context) -> Path:
        try:
            values.check_length(values.path(value))
        except ValueError as error:
            self.fail(str(error), param, context)
        return Path(os.fsdecode(super().convert(value, param, context)))


class Location(NamedPath):
    """A path, or the URL of something in a store."""

    def convert(self, value: Any, param: _Parameter, context: _Context) -> Any:
        try:
            found = values.location(value)
        except ValueError as error:
            self.fail(str(error), param, context)
        return found if isinstance(found, Remote) else super().convert(found, param, context)


class ImagePath(Location):
    """A path or URL of an image or a folder, or `-` for an image that comes through stdin; `./-` is a file."""

    def convert(self, value: Any, param: _Parameter, context: _Context) -> Any:
        return STDIN if value == "-" else super().convert(value, param, context)
