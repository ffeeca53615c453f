"""What a check ends with, and what of it fits on paper."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gradviz_cli.check import sheet
from gradviz_cli.check.cascade import Cascade, Classes, Findings, Level
from gradviz_cli.check.checking import Checked
from gradviz_cli.check.measures import Likeness
from gradviz_cli.check.verdicts import of_method
from gradviz_cli.errors import ExitCode, OutputError, ProofFailed
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.process.protocol import ModelOptions

PLAN = Plan(ModelOptions("model"), Path("."))
DEAD = Likeness(None, None, None)


def findings(cosine: float, shape=(4, 6, 3)) -> Findings:
    shown = tuple(np.random.default_rng(place).normal(size=shape).astype(np.float32) for place in range(2))
    level = Level(1, 2, 2, Likeness(cosine, 0.5, 0.5))
    dead = Level(2, 0, 2, DEAD)
    return Findings("guided", (level, dead), Classes(0.1, 2, 2), Likeness(0.1, 0.1, 0.1), (*shown, 0 * shown[0]))


def checked(cosine: float = 0.1, asked: int = 2, **more) -> Checked:
    targets = {place: TargetResult(place, None, 0, 1.0, 0.5) for place in range(2)}
    found = Cascade(("b", "a"), targets, {}, (findings(cosine),))
    return Checked(PLAN, "f" * 64, 9, asked, ("one.png", "two.png"), cascade=found, **more)


def test_numbers_that_are_wrong_end_it() -> None:
    found = Checked(PLAN, "f", 1, 1, fault=ProofFailed("it is not what TensorFlow computes"))
    assert found.code(strict=False) == ExitCode.MODEL_UNUSABLE
    assert found.told()["numbers"]["verdict"] == "fails" and found.told()["maps"] == []


@pytest.mark.parametrize(("cosine", "word", "strict"), [(0.9, "fails", 3), (0.7, "weak", 0), (0.1, "passes", 0)])
def test_strict_is_of_failures_alone(cosine, word, strict) -> None:
    judged = Findings("guided", (Level(1, 2, 2, Likeness(cosine, 0, 0)),), Classes(None, 0, 0), DEAD, ())
    found = Checked(PLAN, "f", 2, 2, cascade=Cascade(("a",), {}, {}, (judged,)))
    assert found.meaning["guided"].word == word
    assert (found.code(strict=False), found.code(strict=True)) == (0, strict)


def test_failed_images_count_too() -> None:
    assert checked(failed={"bad.png": "damaged"}, asked=3).code(strict=False) == ExitCode.SOME_FAILED
    assert Checked(PLAN, "f", 1, 1, failed={"bad.png": "damaged"}).code(strict=True) == ExitCode.ALL_FAILED
    assert Checked(PLAN, "f", 0, 0).code(strict=False) == ExitCode.ALL_FAILED


def test_every_number_is_json() -> None:
    told = json.loads(json.dumps(checked().told(), allow_nan=False))
    (one,) = told["maps"]
    assert (one["mode"], one["estimator"]) == ("guided", "gradient")
    assert one["weights"][0] == {"random": 1, "alive": 2, "images": 2, "cosine": 0.1, "spearman": 0.5, "ssim": 0.5}
    assert one["weights"][1]["cosine"] is None and one["classes"]["cosine"] == 0.1
    assert [target["image"] for target in told["targets"]] == ["one.png", "two.png"]


@pytest.mark.parametrize("shape", [(4, 6, 3), (2, 3, 1)])
def test_a_sheet_has_a_row_for_each_method(shape) -> None:
    one = findings(0.1, shape)
    image = np.zeros((4, 6, 3), np.uint8)
    heights = []
    for count in (1, 2):
        drawn = sheet.draw(image, "a.png", [one] * count, {"guided": of_method(one)})
        assert drawn.dtype == np.uint8 and drawn.shape[2] == 3
        heights.append(drawn.shape[0])
    assert heights[1] > heights[0] + 100


@pytest.mark.parametrize(("flags", "said"), [(os.ST_RDONLY, "Read-only file system"), (0, "Permission denied")])
def test_why_no_picture_can_be_written_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, said: str
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    with pytest.raises(OutputError, match=f"check.png: cannot be written: {said}"):
        sheet.make_room(tmp_path / "check.png")


def test_where_the_picture_goes(tmp_path: Path) -> None:
    assert sheet.place_of(tmp_path) == tmp_path / "check.png"
    assert sheet.place_of(tmp_path / "a.PNG") == tmp_path / "a.PNG"
    (tmp_path / "folder.png").mkdir()
    assert sheet.place_of(tmp_path / "folder.png") == tmp_path / "folder.png" / "check.png"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file/check.png"):
        sheet.make_room(tmp_path / "file" / "check.png")
