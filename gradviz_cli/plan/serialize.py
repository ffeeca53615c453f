"""A plan as JSON, for another machine: everything resolved, so that it means the same there and has the same digests.

Labels and targets are in it; the model is its path, and its fingerprint is for the machine that reads it to take.
"""

from __future__ import annotations

import json
import os
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from gradviz_cli.errors import UsageError
from gradviz_cli.plan.plan import Plan
from gradviz_cli.process.protocol import NotUnderstood, from_wire, to_wire

# Texts are as long as a --feed of a million numbers.
LONGEST_TEXT = 2**26


def to_json(plan: Plan) -> str:
    """One line of ASCII; the same plan gives the same bytes on every machine."""
    return json.dumps({**to_wire(plan), "out": os.fspath(plan.out)}, sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Plan:
    """The plan that `to_json` made the text of.

    Raises
    ------
    UsageError
        It is something else, of another version for example: a field is missing, unknown or of another type.
    """
    try:
        sent = from_wire(json.loads(text), _WIRE, longest=LONGEST_TEXT)
    except (NotUnderstood, ValueError, RecursionError) as error:
        raise UsageError(f"this is no plan: {error}", "make it with the same version of gradviz") from error
    return Plan(**{**vars(sent), "out": Path(sent.out)})


def _wire_type() -> Any:
    """Plan with its path as text: `from_wire` knows what JSON has."""
    hints = get_type_hints(Plan)
    parts = [(part.name, str if part.name == "out" else hints[part.name]) for part in fields(Plan)]
    return make_dataclass(Plan.__name__, parts, frozen=True)


_WIRE = _wire_type()
