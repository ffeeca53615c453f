"""A smaller manifest tells every reader what the larger one did."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import outs
import pytest

from gradviz_cli.batch import compact as compacting
from gradviz_cli.batch import index, manifest
from gradviz_cli.batch.compact import compact, counted
from gradviz_cli.batch.known import Known, Model
from gradviz_cli.batch.lock import held
from gradviz_cli.batch.manifest import MANIFEST, Manifest
from gradviz_cli.batch.merge import merge
from gradviz_cli.cli import main
from gradviz_cli.cli import prune as pruning
from gradviz_cli.errors import OutputError
from gradviz_cli.files.reading import stamp_of
from gradviz_cli.files.whole import TEMPORARY
from gradviz_cli.gallery import folder
from gradviz_cli.plan.outputs import INDEX, LOCK
from gradviz_cli.plan.results import Result, TargetResult

MODELS = [Model("/m", "/m/1", "f" * 64), Model("/m", "/m/2", "e" * 64)]
NAMES = [f"{number}.png" for number in range(12)]


def history(out: Path, photos: Path, rounds: int, seed: int = 4) -> None:
    """Runs of all kinds: written, current, failed, moved, of other modes, models and proofs; between them what kills left."""
    draw = random.Random(seed)
    real = [outs.photo(photos / name, number) for number, name in enumerate(NAMES)]
    for number in range(rounds):
        kept = Manifest(out)
        if draw.random() < 0.3:
            kept.note({"model": draw.choice(MODELS)._asdict()})
        if draw.random() < 0.3:
            kept.note({"proved": {"key": draw.choice("kl"), "found": number}})
        mode, status = draw.choice(("guided", "deconv")), draw.choice(("written", "current", "current", "failed"))
        for path in draw.sample(real, 9):
            pictures = (f"{path.name}.{mode}.png",)
            source = path if draw.random() < 0.9 else Path("/gone") / path.name
            hashes = {pictures[0]: f"{number:064}"} if status == "written" else {}
            target = (TargetResult(3, "cat", 0, 1.0, 0.5),)
            failed = status == "failed"
            kept.add(
                Result(
                    str(source), status, () if failed else pictures, target, {"kind": "x", "message": str(number)} if failed else None,
                    "d", 0.0, hashes, stamps=dict.fromkeys(hashes, (number, 1, 1)), image_sha256="c" * 64,
                    image_stamp=stamp_of(path.stat()), page=draw.choice((None, None, None, 2)) and 2,
                )
            )  # fmt: skip
        kept.close()
        with open(out / MANIFEST, "a") as file:
            file.write(draw.choice(("", "", '{"image": "to', "\n\n", "[1]\n")))


def told(out: Path) -> dict[str, object]:
    """What each reader makes of a manifest."""
    pictures = [f"{name}.{mode}.png" for name in NAMES for mode in ("guided", "deconv")]
    with Known.of(out) as known:
        found: dict[str, object] = {
            "written": [known.written(name) for name in pictures],
            "lines": [known.line(name) for name in pictures],
            "images": [known.image(name) for name in NAMES],
            "from": [known.is_from(name, f"/gone/{name}") for name in NAMES],
            "model": known.model,
        }
    page = folder.read(out)
    found["gallery"] = page.models, sorted(page.images, key=lambda one: (one.source, one.page or 0))
    found["prune"] = pruning._listed(out)
    proofs = [line["proved"] for line in manifest.read(out) if "proved" in line]
    found["proofs"] = {one["key"]: one for one in proofs}
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    out = tmp_path / "maps"
    photos = [outs.photo(tmp_path / "photos" / name, number) for number, name in enumerate(NAMES)]
    outs.write(out, photos, modes=("guided", "deconv"), raw=False)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_every_reader_is_told_the_same(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(index, "MOST", 70)
    history(out, tmp_path / "photos", 20, seed)
    os.chmod(out / MANIFEST, 0o640)
    before, (lines, left) = told(out), counted(out)
    assert lines.size == (out / MANIFEST).stat().st_size and left.lines < lines.lines / 2
    compact(out)
    assert told(out) == before and (out / MANIFEST).stat().st_mode & 0o777 == 0o640
    text = (out / MANIFEST).read_bytes()
    assert counted(out) == (left, left) and len(text) == left.size
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())  # nothing torn is left
    inode = (out / MANIFEST).stat().st_ino
    compact(out)
    assert (out / MANIFEST).stat().st_ino == inode  # there was nothing to do


def test_a_disk_that_is_full_leaves_the_old_one(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history(out, tmp_path / "photos", 5)
    before = (out / MANIFEST).read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        compact(out)
    assert (out / MANIFEST).read_bytes() == before
    assert not [name for name in os.listdir(out) if name.startswith(TEMPORARY)]


def test_the_command(out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    history(out, tmp_path / "photos", 5)
    kept = Manifest(out, {}, (1, 2))
    kept.add(Result("/photos/new.png", "failed"))
    kept.close()
    before = (out / MANIFEST).read_bytes()
    assert main(["compact", str(out), "--dry-run"]) == 0
    said = capfd.readouterr().out
    lines, left = counted(out)
    assert (
        said.startswith(f"{left.lines} of {lines.lines} lines would stay (") and (out / MANIFEST).read_bytes() == before
    )
    (out / INDEX).write_text("of the old one")
    assert main(["compact", str(out)]) == 0
    assert capfd.readouterr() == ("", "")
    assert len((out / MANIFEST).read_bytes().splitlines()) == left.lines
    assert {name for name in os.listdir(out) if not name.endswith(".png")} == {MANIFEST, LOCK}
    assert [line["image"] for line in manifest.read(out)][-1] == "/photos/new.png"


def test_only_to_count_needs_no_lock_and_counts_nothing_that_comes_meanwhile(
    out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    history(out, tmp_path / "photos", 3)
    kept = Manifest(out, {}, (1, 2))
    kept.add(Result("/photos/new.png", "failed"))
    kept.close()
    alone, last = counted(out), compacting._last

    def meanwhile(parts: list) -> index.Table:
        found = last(parts)
        with open(out / MANIFEST, "ab") as file:
            file.write((out / MANIFEST).read_bytes())
        merge(out)
        return found

    monkeypatch.setattr(compacting, "_last", meanwhile)
    with held(out, 0):
        assert main(["compact", str(out)]) == 11
        capfd.readouterr()
        assert main(["compact", str(out), "--dry-run"]) == 0
    assert capfd.readouterr().out.startswith(f"{alone[1].lines} of {alone[0].lines} lines would stay (")


def test_what_the_command_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compact", str(tmp_path)]) == 2
    (tmp_path / MANIFEST).write_text("notes\n")
    assert main(["compact", str(tmp_path)]) == 7
    (tmp_path / MANIFEST).rename(tmp_path / "other")
    (tmp_path / MANIFEST).symlink_to("other")
    assert main(["compact", str(tmp_path)]) == 7
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 3 and "holds no manifest.jsonl" in said[0] and "no manifest of gradviz" in said[1]
    assert (tmp_path / "other").read_text() == "notes\n"
