"""An image takes its decoder over, or the worker: it costs that image, and nothing else. The long tables are slow."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hostile.taken_over import ANYHOW, DECODING, EXPLAINING, HARMLESS, MARK, take_over
from PIL import Image

from gradviz_cli import cli

TIMEOUT = 3  # seconds for an image, the start of a process included
# For the quick suite one of each kind.
QUICK = (
    "sends deep JSON",
    "fills the disk and trickles",
    "says a giant height",
    "sends a map for another batch",
    "says that the model is unusable",
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images, the second one of which lies."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abc":
        Image.new("RGB", (9, 9), "gray").save(folder / f"{name}.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes() + MARK)
    return folder


def ran(model: Path, photos: Path, capsys: pytest.CaptureFixture, *more: str) -> tuple[int, dict[str, str], str]:
    """Exit code, the status of each image, and what was said."""
    out = photos.parent / "out"
    options = ["-m", "backprop", "--proof", "never", "--timeout", str(TIMEOUT), "--jobs", "1", "--style", "overlay"]
    code = cli.main(["explain", str(model), str(photos), "-o", str(out), *options, *more])
    lines = map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
    assert len((out / "manifest.jsonl").read_bytes()) < 10_000
    return code, {os.path.basename(line["image"]): line["status"] for line in lines}, capsys.readouterr().err


def check_cost(found: tuple[int, dict[str, str], str], seconds: float) -> None:
    code, status, said = found
    assert code == 3, said
    assert status.pop("b.png") in ("failed", "zero", "nonfinite")
    assert status == {"a.png": "written", "c.png": "written"}, said
    assert "internal error" not in said and len(said) < 6000
    assert all(line.isprintable() for line in said.splitlines())
    assert seconds < 60


def marked(names) -> list:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("lie", marked({**ANYHOW, **DECODING}))
def test_a_decoder_that_lies_costs_its_image(lie: str, plain_model: Path, photos: Path, monkeypatch, capsys) -> None:
    take_over(monkeypatch, photos.parent / "code", decoding={**ANYHOW, **DECODING}[lie])
    start = time.monotonic()
    check_cost(ran(plain_model, photos, capsys), time.monotonic() - start)


@pytest.mark.parametrize("lie", marked(ANYHOW))
def test_a_worker_that_lies_costs_its_image(lie: str, plain_model: Path, photos: Path, monkeypatch, capsys) -> None:
    """Also of a batch."""
    take_over(monkeypatch, photos.parent / "code", explaining=ANYHOW[lie])
    start = time.monotonic()
    check_cost(ran(plain_model, photos, capsys), time.monotonic() - start)


@pytest.mark.parametrize("lie", marked(EXPLAINING))
def test_a_worker_that_lies_about_its_numbers_costs_its_image(
    lie: str, plain_model: Path, photos: Path, monkeypatch, capsys
) -> None:
    take_over(monkeypatch, photos.parent / "code", explaining=EXPLAINING[lie])
    start = time.monotonic()
    check_cost(ran(plain_model, photos, capsys, "--batch-size", "1"), time.monotonic() - start)


@pytest.mark.parametrize("oddity", HARMLESS)
def test_what_is_odd_and_no_lie_costs_nothing(oddity: str, plain_model, photos: Path, monkeypatch, capsys) -> None:
    take_over(monkeypatch, photos.parent / "code", decoding=HARMLESS[oddity], explaining="send(WRAPPED, *right)")
    code, status, said = ran(plain_model, photos, capsys)
    assert code == 0 and set(status.values()) == {"written"} and len(status) == 3, said
    assert len(said) < 6000 and all(line.isprintable() for line in said.splitlines())
    alike = [(photos.parent / "out" / f"{name}.png.backprop.overlay.png").read_bytes() for name in "ac"]
    shutil.rmtree(photos.parent / "out")
    assert ran(plain_model, photos, capsys)[0] == 0  # and c.png was given its own pixels
    assert alike == [(photos.parent / "out" / f"{name}.png.backprop.overlay.png").read_bytes() for name in "ac"]
