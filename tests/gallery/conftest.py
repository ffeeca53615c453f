"""Folders, pages and a browser to show them in."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gallery.browser import Browser, missing_for_browser
from gallery.folders import HOSTILE, HOSTILE_LABEL, LABELS, draw, explained, log, photo

from gradviz_cli import gallery


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: images in `photos`, pictures in `maps`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hostile(here: Path) -> Path:
    for name in HOSTILE:
        target = {"index": 1, "label": HOSTILE_LABEL, "rank": 0, "score": 1.5, "output": 0.5}
        explained(name, target=target, signature=HOSTILE_LABEL)
    error = {"kind": "<b>", "message": "</script><script>hacked=1</script>"}
    log(Path("maps"), photo(Path("photos/failed.jpg")), status="failed", error=error)
    return gallery.write(Path("maps"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    missing = missing_for_browser()
    if missing:
        reason = f"THE GALLERY WAS NOT TRIED IN A BROWSER: install {', '.join(missing)}"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core."""
    try:
        import axe_core_python
    except ImportError:
        reason = "THE GALLERY WAS NOT TRIED FOR ACCESSIBILITY: install axe-core-python (PyPI)"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return Path(axe_core_python.__file__).with_name("axe.min.js").read_text("utf-8")


@pytest.fixture
def page(here: Path) -> Path:
    """Six images: two modes, two styles and a panel, two targets; one failed, one zero, one whose source is gone."""
    out = Path("maps")
    for i, name in enumerate(["a.jpg", "b.jpg", "deep/c.png", "d.jpg"]):
        source, outputs = photo(Path("photos") / name), []
        for place, spec in enumerate(("", "top2")):
            index = (i + place) % 3
            target = {
                "index": index,
                "label": LABELS[index],
                "rank": place,
                "score": 20 - i - place,
                "output": 0.9 - i / 10,
            }
            for mode in ("backprop", "guided"):
                for style in ("heatmap", "overlay"):
                    outputs.append(draw(out, source, name, mode, style, spec, target=target))
            outputs.append(draw(out, source, name, "", "panel", spec, target=target, scale=None))
        log(out, source, outputs)
    Path("photos/d.jpg").unlink()
    log(
        out,
        photo(Path("photos/y.jpg")),
        status="failed",
        error={"kind": "truncated", "message": "ends too early"},
    )
    log(out, photo(Path("photos/z.jpg")), status="zero", error={"kind": "zero", "message": "guided: all zero"})
    return gallery.write(out)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
