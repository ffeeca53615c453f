"""Code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python(code: str, *arguments, **options) -> subprocess.CompletedProcess:
    """Run `code` in a fresh Python that finds gradviz and the tests."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}{os.pathsep}{ROOT / 'tests' / 'cases'}",
    }
    environment |= options.pop("env", {})
    command = [sys.executable, *options.pop("flags", ()), "-c", code, *arguments]
    options.setdefault("timeout", 60)
    return subprocess.run(command, capture_output=True, env=environment, **options)


def as_nobody(action) -> str:
    """What `action` returns in a child process that is not root."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, str(action()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said
