"""`gradviz prune`: what it removes, and what it must leave alone. About fifteen seconds; one test runs a model."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import tiny
from commands import command, content, environment, gradviz, picture, records
from workers import Pool

from gradviz_cli.batch.lock import LOCK
from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.cli import main
from gradviz_cli.cli import prune as pruning

SWAPS = ["the folder for a link", "the folder for another", "the file for another", "the file for a link", "its bytes"]


class Out:
    """An output folder with a manifest of our making; images lie in `photos`, pictures in `maps`."""

    def __init__(self, top: Path):
        self.photos, self.path = top / "photos", top / "maps"
        self.photos.mkdir()
        self.path.mkdir()

    def image(self, name: str) -> Path:
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image " + os.fsencode(name))
        return path

    def output(self, name: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture " + os.fsencode(name))
        return path

    def line(self, source: object, *names: str, sha256: dict | None = None, status: str = "written") -> None:
        """A line of the manifest; hashes are those of the files unless given."""
        if sha256 is None:
            sha256 = {name: hashlib.sha256((self.path / name).read_bytes()).hexdigest() for name in names}
        record = {"image": str(source), "status": status, "outputs": names, "sha256": sha256, "source": source}
        with open(self.path / MANIFEST, "a") as book:
            book.write(json.dumps(record) + "\n")

    def explained(self, *names: str) -> None:
        """Images, each with a picture and an array."""
        for name in names:
            outputs = [f"{name}.guided.png", f"{name}.guided.npy"]
            for output in outputs:
                self.output(output)
            self.line(str(self.image(name)), *outputs)

    def state(self) -> dict[str, tuple]:
        """Everything below OUT but the lock: what it is, its time, its bytes."""
        found = {}
        for path in sorted(self.path.rglob("*")):
            status = path.lstat()
            data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            if path.name != LOCK:
                found[str(path.relative_to(self.path))] = (
                    stat.S_IFMT(status.st_mode),
                    stat.S_ISDIR(status.st_mode) or status.st_mtime_ns,
                    data,
                )
        return found


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Out:
    monkeypatch.chdir(tmp_path)
    made = Out(tmp_path)
    made.explained("keep.jpg")
    return made


def prune(*arguments: object) -> int:
    return main(["prune", *map(str, arguments)])


def without(state: dict, *names: str) -> dict:
    return {name: what for name, what in state.items() if name not in names}


def test_what_belongs_to_an_image_that_is_gone_is_removed_and_nothing_else(out: Out, capfd) -> None:
    out.explained("a.jpg", "deep/down/b.jpg", "deep/c.jpg")
    out.output("a.jpg.deconv.png")  # not in the manifest
    out.output("index.html")
    before = out.state()
    (out.photos / "a.jpg").unlink()
    shutil.rmtree(out.photos / "deep" / "down")
    assert prune("maps") == 0
    assert capfd.readouterr() == ("", "")
    gone = [f"{name}.guided.{kind}" for name in ("a.jpg", "deep/down/b.jpg") for kind in ("png", "npy")]
    assert out.state() == without(before, "deep/down", *gone)
    assert prune("maps") == 0  # nothing to do is success
    assert out.state() == without(before, "deep/down", *gone)


def test_a_dry_run_names_the_files_and_removes_none(out: Out, capfdbinary) -> None:
    out.explained("a.jpg", "b\n.jpg")
    for name in ("a.jpg", "b\n.jpg"):
        (out.photos / name).unlink()
    before = out.state()
    assert prune("maps", "--dry-run") == 0
    names = [f"maps/{name}.guided.{kind}".encode() for name in ("a.jpg", "b\n.jpg") for kind in ("npy", "png")]
    assert capfdbinary.readouterr() == (b"".join(name + b"\n" for name in names), b"")
    assert out.state() == before


def test_names_that_are_no_text_are_found_again(out: Out, capfdbinary) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    out.explained(name)
    (out.photos / name).unlink()
    assert prune("maps", "-n") == 0
    assert b"maps/caf\xe9.jpg.guided.png\n" in capfdbinary.readouterr().out
    assert prune("maps") == 0
    assert {path.name for path in out.path.glob("*.png")} == {"keep.jpg.guided.png"}


def test_max_delete_is_all_or_nothing(out: Out, capfd) -> None:
    out.explained("a.jpg", "b.jpg")
    before = out.state()
    for name in ("a.jpg", "b.jpg"):
        (out.photos / name).unlink()
    for most in (0, 3):
        assert prune("maps", "--max-delete", most) == 2
        assert (
            capfd.readouterr().err
            == f"gradviz: 4 files would be removed, more than --max-delete {most}; raise it, or look with --dry-run\n"
        )
        assert out.state() == before
    (out.path / "a.jpg.guided.npy").unlink()
    (out.path / "b.jpg.guided.npy").unlink()
    (out.path / "b.jpg.guided.png").unlink()
    assert prune("maps", "--max-delete", 0) == 2
    assert "gradviz: 1 file would be removed" in capfd.readouterr().err
    assert prune("maps", "--max-delete", 1) == 0
    assert {path.name for path in out.path.glob("*.guided.*")} == {"keep.jpg.guided.png", "keep.jpg.guided.npy"}
    assert prune("maps", "--max-delete", 0) == 0
    assert prune("maps", "--max-delete", -1) == 2


def test_a_file_that_was_changed_stays(out: Out) -> None:
    out.explained("a.jpg")
    (out.photos / "a.jpg").unlink()
    (out.path / "a.jpg.guided.png").write_bytes(b"edited")
    assert prune("maps") == 0
    assert (out.path / "a.jpg.guided.png").read_bytes() == b"edited"
    assert not (out.path / "a.jpg.guided.npy").exists()


def test_what_was_drawn_for_an_image_that_is_there_stays(out: Out) -> None:
    """The same name under OUT, from a folder that was moved: the line that came last counts."""
    out.explained("a.jpg")
    moved = out.image("moved/a.jpg")
    (out.photos / "a.jpg").unlink()
    out.line(str(moved), "a.jpg.guided.png", "a.jpg.guided.npy", sha256={}, status="current")
    assert prune("maps") == 0
    assert (out.path / "a.jpg.guided.png").exists()


@pytest.mark.parametrize("kind", ["link", "dangling", "folder"])
def test_an_image_that_is_something_else_now_is_not_gone(out: Out, kind: str) -> None:
    out.explained("a.jpg")
    image = out.photos / "a.jpg"
    image.unlink()
    {
        "link": lambda: image.symlink_to(out.photos / "keep.jpg"),
        "dangling": lambda: image.symlink_to("nowhere"),
        "folder": image.mkdir,
    }[kind]()
    before = out.state()
    assert prune("maps") == 0
    assert out.state() == before


# ---- a manifest that somebody changed


def test_no_file_outside_out_is_reached(out: Out, tmp_path: Path) -> None:
    victims = [tmp_path / "x.png", tmp_path / "other" / "x.png"]
    (tmp_path / "other").mkdir()
    for victim in victims:
        victim.write_bytes(b"mine")
    hash_ = hashlib.sha256(b"mine").hexdigest()
    (out.path / "sub").mkdir()
    (out.path / "linked").symlink_to(tmp_path / "other")
    (out.path / "link.png").symlink_to(victims[0])
    (out.path / "circle").symlink_to("circle")
    names = [
        "../x.png",
        "sub/../../x.png",
        "../other/x.png",
        str(victims[0]),
        "//" + str(victims[0]),
        "linked/x.png",
        "link.png",
        "circle/x.png",
    ]
    names += [
        "linked/../x.png",
        "./../x.png",
        "\0.png",
        "\ud800/x.png",
        "x\ud800.png",
        ".",
        "",
        "/",
        "~/x.png",
        "y" * 300 + ".png",
    ]
    out.line(str(out.photos / "gone.jpg"), *names, sha256=dict.fromkeys(names, hash_))
    before = out.state()
    assert prune("maps") == 0
    assert all(victim.read_bytes() == b"mine" for victim in victims)
    assert out.state() == before


def test_only_pictures_and_arrays_that_are_plain_files_are_removed(out: Out) -> None:
    mine = {name: out.output(name).read_bytes() for name in ("index.html", "notes.txt", "model.pb", ".hidden")}
    (out.path / "folder.png").mkdir()
    os.mkfifo(out.path / "fifo.png")
    names = [*mine, "folder.png", "fifo.png", LOCK]
    hashes = {name: hashlib.sha256(mine.get(name, b"")).hexdigest() for name in names}
    out.line(
        str(out.photos / "gone.jpg"), *names, MANIFEST, sha256={**hashes, MANIFEST: hashlib.sha256(b"").hexdigest()}
    )
    before = out.state()
    assert prune("maps") == 0
    assert out.state() == before


@pytest.mark.parametrize(
    "source",
    [
        None,
        7,
        [],
        {},
        "",
        "a.jpg",
        "../photos/a.jpg",
        "s3://bucket/a.jpg",
        "\0",
        "/\0/a.jpg",
        "/\ud800.jpg",
        "/" + "y" * 5000,
    ],
)
def test_where_an_image_was_must_be_certain(out: Out, source: object) -> None:
    out.output("a.png")
    out.line(source, "a.png")
    before = out.state()
    assert prune("maps") == 0
    assert out.state() == before


def test_lines_of_any_kind_are_passed_over(out: Out) -> None:
    out.explained("a.jpg")
    gone = str(out.photos / "gone.jpg")
    odd = ["", "null", "[]", "7", '"x"', "{}", "{" * 5000, "[" * 100_000, '{"source": "torn', '{"source": 1e999}']
    odd += [
        json.dumps({"source": gone, "outputs": outputs, "sha256": hashes})
        for outputs in (None, 7, "a.png", [7, None, {}])
        for hashes in (None, 7, [], {"a.png": 7})
    ]
    with open(out.path / MANIFEST, "ab") as book:
        book.write("\n".join(odd).encode() + b"\n\xff\xfe\0\n")
    out.explained("b.jpg")
    (out.photos / "a.jpg").unlink()
    (out.photos / "b.jpg").unlink()
    assert prune("maps") == 0
    assert {path.name for path in out.path.glob("*.png")} == {"keep.jpg.guided.png"}


# ---- a disk that is missing


def test_an_empty_place_of_images_is_taken_for_a_missing_disk(out: Out, capfd) -> None:
    out.explained("disk/2023/a.jpg", "disk/b.jpg")
    before = out.state()
    shutil.rmtree(out.photos / "disk")
    (out.photos / "disk").mkdir()  # what is left of a mount point
    assert prune("maps") == 2
    said = capfd.readouterr().err
    assert (
        said
        == f"gradviz: {out.photos}/disk/2023/a.jpg is gone, and {out.photos}/disk is empty; is a disk missing? --even-all removes the outputs all the same\n"
    )
    assert out.state() == before
    assert prune("maps", "--dry-run") == 2
    assert prune("maps", "--even-all") == 0
    assert {path.name for path in out.path.glob("*.png")} == {"keep.jpg.guided.png"}
    assert not (out.path / "disk").exists()


def test_images_without_outputs_are_no_sign_of_a_missing_disk(out: Out) -> None:
    out.explained("disk/a.jpg")
    assert prune("maps", "--even-all") == 0
    out.image("b.jpg").unlink()
    (out.photos / "disk" / "a.jpg").unlink()
    assert prune("maps") == 2  # the folder is empty, and a picture is left
    assert prune("maps", "--even-all") == 0
    assert prune("maps") == 0


def test_when_every_image_is_gone_nothing_is_removed(out: Out, capfd) -> None:
    out.explained("a.jpg")
    before = out.state()
    shutil.rmtree(out.photos)
    assert prune("maps") == 2
    assert capfd.readouterr().err.startswith("gradviz: every image that the manifest names is gone; is a disk missing?")
    assert out.state() == before
    assert prune("maps", "--even-all", "--max-delete", 3) == 2
    assert out.state() == before
    assert prune("maps", "--even-all") == 0
    assert set(os.listdir(out.path)) == {MANIFEST, LOCK}


# ---- locks, folders, permissions


def test_a_run_in_out_keeps_prune_away(out: Out, capfd) -> None:
    out.explained("a.jpg")
    (out.photos / "a.jpg").unlink()
    (out.path / LOCK).write_text("process 1 on moon\n")
    before = out.state()
    with open(out.path / LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prune("maps") == prune("maps", "--dry-run") == prune("maps", "--lock-wait", "0.3") == 11
        said = capfd.readouterr().err.splitlines()
    assert (
        said
        == [
            "gradviz: maps: another run is writing there (process 1 on moon); let it finish, or wait with --lock-wait S"
        ]
        * 3
    )
    assert out.state() == before
    assert prune("maps") == 0
    assert (out.path / LOCK).read_text() == "process 1 on moon\n"  # the next run of explain still has to clean up


@pytest.mark.parametrize("place", ["nowhere", "photos", "photos/keep.jpg"])
def test_a_folder_without_a_manifest_is_refused_and_left_as_it_is(out: Out, capfd, place: str) -> None:
    before = sorted(Path(".").rglob("*"))
    assert prune(place) == 2
    what = ": no such folder" if place == "nowhere" else " holds no manifest.jsonl"
    assert capfd.readouterr().err == f"gradviz: {place}{what}; give a folder that `gradviz explain` wrote\n"
    assert sorted(Path(".").rglob("*")) == before


def test_any_spelling_of_out_will_do(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    (out.path.parent / "link").symlink_to(out.path)
    for spelling in ("maps/", "./maps", "photos/../maps", "link", out.path):
        out.explained("sub/a.jpg")
        (out.photos / "sub" / "a.jpg").unlink()
        (out.photos / "sub").rmdir()
        assert prune(spelling) == 0
        assert not (out.path / "sub").exists() and out.path.is_dir()
    out.explained("sub/a.jpg")
    shutil.rmtree(out.photos / "sub")
    monkeypatch.chdir(out.path)
    assert prune(".") == 0
    assert not (out.path / "sub").exists() and out.path.is_dir()


def test_a_file_that_cannot_be_removed_ends_it(out: Out) -> None:
    out.explained("sub/a.jpg")
    shutil.rmtree(out.photos / "sub")
    bound = subprocess.run(["mount", "--bind", out.path / "sub", out.path / "sub"], capture_output=True)
    if (
        bound.returncode
        or subprocess.run(["mount", "-o", "remount,ro,bind", out.path / "sub"], capture_output=True).returncode
    ):
        pytest.skip("NOT TESTED: no right to mount a file system")
    try:
        run = gradviz("prune", "maps", cwd=out.path.parent)
    finally:
        subprocess.run(["umount", out.path / "sub"], check=True)
    assert run.returncode == 7
    assert (
        run.stderr
        == "gradviz: maps/sub/a.jpg.guided.npy: cannot be removed: Read-only file system; give write permission on its folder\n"
    )


def test_stdout_that_is_closed_or_full(out: Out) -> None:
    out.explained("a.jpg")
    (out.photos / "a.jpg").unlink()
    for end, code in ((">&-", 7), (">/dev/full", 7), ("| true", 7)):
        script = f"{' '.join(command('prune', 'maps', '-n'))} {end}; exit ${{PIPESTATUS[0]}}"
        run = subprocess.run(
            ["bash", "-c", script], cwd=out.path.parent, env=environment(), capture_output=True, text=True
        )
        assert run.returncode in (code, 0 if "true" in end else code)
        assert "Traceback" not in run.stderr and (("stdout" in run.stderr) is ("true" not in end))


# ---- together with the other commands


def test_after_it_the_gallery_and_the_next_run_work(pool: Pool, tmp_path: Path) -> None:
    model = tiny.write(tmp_path / "model")
    for i, name in enumerate(("a.png", "b.png", "sub/c.png")):
        picture(tmp_path / "photos" / name, i)
    explain = ("explain", model, "photos", "-o", "maps", "--raw", "--style", "heatmap", "--style", "panel")
    assert pool.gradviz(*explain, cwd=tmp_path).returncode == 0
    before = content(tmp_path / "maps")
    shutil.move(tmp_path / "photos" / "sub", tmp_path / "sub")
    gone = {f"sub/c.png.{kind}" for kind in ("guided.png", "guided.npy", "panel.png")}
    listed = pool.gradviz("prune", "maps", "-n", cwd=tmp_path)
    assert (listed.returncode, set(listed.stdout.splitlines())) == (0, {f"maps/{name}" for name in gone})
    pruned = pool.gradviz("prune", "maps", cwd=tmp_path)
    assert (pruned.returncode, pruned.stdout, pruned.stderr) == (0, "", "")
    assert content(tmp_path / "maps") == {name: data for name, data in before.items() if name not in gone}
    page = pool.gradviz("gallery", "maps", cwd=tmp_path)
    assert (page.returncode, page.stderr) == (0, "")
    assert (
        "a.png" in (tmp_path / "maps" / "index.html").read_text()
        and "c.png" not in (tmp_path / "maps" / "index.html").read_text()
    )
    again = pool.gradviz(*explain, "-v", cwd=tmp_path)
    assert again.returncode == 0 and "2 current in" in again.stderr
    shutil.move(tmp_path / "sub", tmp_path / "photos" / "sub")  # the image is back
    assert pool.gradviz(*explain, cwd=tmp_path).returncode == 0
    assert content(tmp_path / "maps") == before
    assert [record["status"] for record in records(tmp_path / "maps")] == ["written"] * 3 + ["current"] * 2 + [
        "current"
    ] * 2 + ["written"]


@pytest.mark.parametrize("swap", SWAPS)
def test_what_is_swapped_between_the_look_and_the_removal_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    """Nothing outside OUT is lost, nor what came to a name meanwhile."""
    out, victim = Out(tmp_path), tmp_path / "victim"
    out.explained("deep/a.jpg", "z.jpg")
    (out.photos / "deep" / "a.jpg").unlink()
    shutil.copytree(out.path / "deep", victim)
    inner, name = out.path / "deep", "a.jpg.guided.png"
    remove, swapped = pruning._remove, []

    def after_a_swap(*given) -> None:
        if not swapped:
            swapped.append(True)
            if swap == "its bytes":
                (inner / name).write_bytes(b"mine now")
            elif swap.startswith("the folder"):
                inner.rename(out.path / "moved")
                inner.symlink_to(victim) if swap.endswith("link") else shutil.copytree(victim, inner)
            else:
                (inner / name).unlink()
                if swap.endswith("link"):
                    (inner / name).symlink_to(victim / name)
                else:
                    shutil.copy2(victim / name, inner / name)
        remove(*given)

    monkeypatch.setattr(pruning, "_remove", after_a_swap)
    before = content(victim)
    assert prune(out.path, "--even-all") == 0 and swapped
    assert content(victim) == before and os.path.lexists(inner / name)
    if swap.startswith("the folder"):
        assert {path.name for path in inner.iterdir()} == {path.name for path in victim.iterdir()}
