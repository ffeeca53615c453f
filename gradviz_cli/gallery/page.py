"""Data -> the HTML of the page, with style and script in it, and a policy that lets in nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from gradviz_cli.files.text import printable
from gradviz_cli.version import __version__


def render(data: dict[str, Any], out: Path) -> str:
    """The page as HTML, ASCII only, deterministic but for the time of its making."""
    style, script = _part("page.css"), _part("page.js")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    here = os.path.abspath(out)
    data = {**data, "made": now, "root": "file://" + quote(os.fsencode(here)) + "/"}
    return Template(_part("page.html")).substitute(
        version=__version__,
        title=_escaped(printable(os.path.basename(here) or here)),
        policy=_policy(style, script),
        style=style,
        script=script,
        data=_embedded(data),
    )


def _escaped(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="ascii")


def _policy(style: str, script: str) -> str:
    """Only this style and this script, only images of the disk or of the server that the page comes from."""
    digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script))
    return (
        "default-src 'none'; img-src 'self' file: data:; style-src 'sha256-{}'; script-src 'sha256-{}'; "
        "base-uri 'none'; form-action 'none'"
    ).format(*digests)


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in, whatever names and labels hold."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
