"""Data -> the HTML of the page, with style and script in it, and a policy that lets in nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from gradviz_cli.version import __version__

# Each takes up what those before it say; all of them are one function.
SCRIPTS = ("elements", "images", "choice", "list", "tools", "stage", "lightbox", "address", "about")
WEB = "web"  # the folder of the page's parts
LINKED, HELD = "'self' file: data:", "data:"  # where pictures may come from


def render(data: dict[str, Any], base: Path, copies: Sequence[str] | None = None) -> str:
    """The page as HTML, ASCII only, deterministic but for the time of its making.

    Parameters
    ----------
    base : Path
        The folder that the page is to lie in.
    copies : sequence of str, optional
        The pictures that it holds in itself, as base64.
    """
    style, script = _part("page.css"), _script()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    root = "" if copies is not None else "file://" + quote(os.fsencode(os.path.abspath(base))) + "/"
    held = "" if copies is None else f'<script type="application/json" id="copies">{_embedded(copies)}</script>\n'
    return Template(_part("page.html")).substitute(
        version=__version__,
        title=_escaped(" and ".join(out["name"] for out in data["outs"])),
        policy=_policy(style, script, LINKED if copies is None else HELD),
        style=style,
        script=script,
        data=_embedded({**data, "made": now, "root": root}),
        copies=held,
    )


def _script() -> str:
    parts = "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _escaped(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _part(name: str) -> str:
    return (resources.files(__package__) / WEB / name).read_text(encoding="ascii")


def _policy(style: str, script: str, pictures: str) -> str:
    """Only this style and this script, only images of the disk or of the server that the page comes from."""
    digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script))
    return (
        f"default-src 'none'; img-src {pictures}; "
        "style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
    ).format(*digests)


def _embedded(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever names and labels hold."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
