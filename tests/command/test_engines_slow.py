"""`--engine ray`: on a cluster of its own and on one that runs, with workers, actors, nodes and the command killed.

About five minutes on two cores; skipped where Ray is not installed. `-s` shows the figures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from command.batches import WORKER, pictures
from commands import (
    child_running,
    content,
    descendants,
    environment,
    files,
    gradviz,
    is_alive,
    records,
    start,
    stopped,
    temporaries,
    until,
)

from gradviz_cli.batch.lock import LOCK
from gradviz_cli.batch.manifest import MANIFEST

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]

COUNT = 1200
TIMES = ("time", "seconds", "stamps", "image_stamp")


class Cluster:
    """Two nodes on this machine, a core each."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it, so its name is short
        env = environment({"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"})
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("ray_cluster.py"), self.folder, "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            text=True,
        )
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()

    def actors(self) -> list[int]:
        """Processes that are nodes of gradviz."""
        names = {pid: Path(f"/proc/{pid}/cmdline") for pid in descendants(self.process.pid)}
        return [pid for pid, name in names.items() if name.exists() and b"Actor" in name.read_bytes()]

    def busy(self) -> int:
        """The one of them that computes: the other one may be done with its share, and nothing of it be left to do again."""
        actors = [one for one in self.actors() if child_running(one, WORKER)]
        before = {one: ticks(one) for one in actors}
        time.sleep(0.2)
        return max(actors, key=lambda one: ticks(one) - before[one])

    def close(self) -> None:
        self.process.communicate(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)


def ticks(pid: int) -> int:
    """Time that a process and those that it started have computed."""
    found = 0
    for one in [pid, *descendants(pid)]:
        with suppress(OSError):  # it has just ended
            user, system = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:13]
            found += int(user) + int(system)
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    found = Cluster()
    yield found
    found.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("ray") / "images", COUNT)


@pytest.fixture(scope="module")
def local(model: Path, images: Path) -> Path:
    """What one machine makes of them."""
    out = images.with_name("local")
    assert gradviz("explain", model, images, "-o", out, "--raw", cwd=images.parent).returncode == 0
    return out


ENV = {"RAY_AUTH_MODE": "disabled"}


def on_ray(cluster: Cluster | None, *more: str) -> list[str]:
    address = ["--ray-address", cluster.address] if cluster else []
    return ["--raw", "--engine", "ray", *address, *more]


def told(out: Path) -> list[str]:
    """Lines without what tells of time."""
    kept = ({name: value for name, value in line.items() if name not in TIMES} for line in records(out))
    return sorted(json.dumps(line, sort_keys=True) for line in kept)


def assert_same(out: Path, local: Path) -> None:
    """The same pictures, lines and files, and nothing besides."""
    assert content(out) == content(local)
    assert told(out) == told(local)
    assert files(out) == files(local) and not temporaries(out)
    assert (out / LOCK).read_text() == ""


def wait_for_lines(process: subprocess.Popen, out: Path, count: int) -> None:
    until(lambda: lines_in(out) >= count or process.poll() is not None, 120, f"{count} lines")
    assert process.poll() is None, process.communicate()[1]


def lines_in(out: Path) -> int:
    return (out / MANIFEST).read_bytes().count(b"\n") if (out / MANIFEST).exists() else 0


def test_a_cluster_of_its_own(model: Path, images: Path, local: Path, tmp_path: Path) -> None:
    left = Path(tempfile.mkdtemp(prefix="g-", dir="/tmp"))
    env = {"TMPDIR": str(left), "HOME": str(tmp_path)}
    arguments = ("explain", model, images, "-o", "out", *on_ray(None))
    began = time.monotonic()
    run = gradviz(*arguments, cwd=tmp_path, env=env)
    print(f"\n{COUNT} images on a cluster of its own: {time.monotonic() - began:.1f} s")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert_same(tmp_path / "out", local)
    began = time.monotonic()
    again = gradviz(*arguments, cwd=tmp_path, env=env)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert time.monotonic() - began < 5  # nobody starts a cluster for nothing
    assert {line["status"] for line in records(tmp_path / "out")[COUNT:]} == {"current"}
    assert os.listdir(left) == [] and not list(tmp_path.glob(".ray*"))
    left.rmdir()


def test_the_same_codes(model: Path, tmp_path: Path) -> None:
    found = pictures(tmp_path / "images", 6)
    (found / "000" / "00002.png").write_bytes(b"broken")
    runs = [
        gradviz("explain", model, found, "-o", out, "--print", *more, cwd=tmp_path)
        for out, more in (("here", []), ("there", ["--engine", "ray"]))
    ]
    assert [run.returncode for run in runs] == [3, 3] and runs[0].stderr == runs[1].stderr
    assert runs[0].stdout == runs[1].stdout.replace("there/", "here/")
    assert told(tmp_path / "here") == told(tmp_path / "there")
    for more, said in (
        (["--ray-address", "127.0.0.1:1"], "--ray-address 127.0.0.1:1: --engine local has no use for it"),
        (["--engine", "ray", "--ray-address", "127.0.0.1:1"], "--ray-address 127.0.0.1:1: "),
        (["--engine", "ray", "--output", "nothing"], "--output nothing: "),
    ):
        run = gradviz("explain", model, found, "-o", "none", *more, cwd=tmp_path)
        assert run.returncode in (2, 5) and len(run.stderr.splitlines()) == 1 and said in run.stderr, run.stderr


@pytest.mark.parametrize("victim", ["worker", "actor", "node"])
def test_what_is_killed_is_done_again(
    cluster: Cluster, model: Path, images: Path, local: Path, tmp_path: Path, victim: str
) -> None:
    out = tmp_path / "out"
    process = start("explain", model, images, "-o", out, *on_ray(cluster, "-v"), cwd=tmp_path, env=ENV)
    wait_for_lines(process, out, 60)
    actor = cluster.busy()
    before = lines_in(out)
    raylet = int(Path(f"/proc/{actor}/stat").read_text().rpartition(")")[2].split()[1])
    pid = {"worker": child_running(actor, WORKER), "actor": actor, "node": raylet}[victim]
    assert pid
    children = descendants(pid)
    for one in [pid, *(children if victim == "node" else [])]:  # a machine takes all with it
        os.kill(one, signal.SIGKILL)
    until(lambda: not any(map(is_alive, children)), 5, "the end of the children")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr.decode()
    assert_same(out, local)
    redone = re.findall(r"(\d+) images were given", stderr.decode())
    assert bool(redone) is (victim != "worker")
    print(f"\n{victim} killed behind {before} of {COUNT} lines: given once more: {redone or 0}")


@pytest.mark.parametrize("clustered", [True, False], ids=["cluster", "its own"])
def test_the_command_is_killed(
    cluster: Cluster, model: Path, images: Path, local: Path, tmp_path: Path, clustered: bool
) -> None:
    out, left = tmp_path / "out", Path(tempfile.mkdtemp(prefix="g-", dir="/tmp"))
    arguments = ("explain", model, images, "-o", out, *on_ray(cluster if clustered else None))
    env = {**(ENV if clustered else {}), "TMPDIR": str(left)}
    process = start(*arguments, cwd=tmp_path, env=env)
    wait_for_lines(process, out, 60)
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not any(map(is_alive, children)) and not cluster.actors(), 20, "the end of all children")
    assert not any(found.stat().st_mode & 0o077 for found in left.iterdir())  # sockets of the cluster lie in it
    before = lines_in(out)
    made = len(content(out)) // 2
    run = gradviz(*arguments, cwd=tmp_path, env=env)
    assert (run.returncode, run.stderr) == (0, "")
    assert content(out) == content(local) and files(out) == files(local)
    statuses = [line["status"] for line in records(out)]
    assert statuses.count("written") == COUNT and statuses.count("current") == before
    print(f"\nthe command killed: {before} lines, {made} images with pictures; redone: {made - before}")
    shutil.rmtree(left)


@pytest.mark.parametrize("moment", ["start", "work"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signals(model: Path, images: Path, local: Path, tmp_path: Path, number: signal.Signals, moment: str) -> None:
    out, left = tmp_path / "out", Path(tempfile.mkdtemp(prefix="g-", dir="/tmp"))
    arguments = ("explain", model, images, "-o", out, *on_ray(None))
    process = start(*arguments, cwd=tmp_path, env={"TMPDIR": str(left)})
    if moment == "work":
        wait_for_lines(process, out, 30)
    else:
        until(lambda: len(descendants(process.pid)) > 2, 60, "Ray")
    seconds = stopped(process, number)
    _, stderr = process.communicate()
    assert process.returncode == 128 + number and stderr == b"" and seconds < 2.5
    done = lines_in(out)
    run = gradviz(*arguments[:-2], cwd=tmp_path, env={"TMPDIR": str(left)})  # on this machine
    assert (run.returncode, run.stderr) == (0, "")
    assert content(out) == content(local) and files(out) == files(local)
    assert lines_in(out) == done + COUNT and os.listdir(left) == []
    print(f"\n{number.name} at {moment}: gone after {seconds:.1f} s, {done} lines")
    left.rmdir()


def test_time_that_is_up(model: Path, images: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    run = gradviz(
        "explain", model, images, "-o", "out", *on_ray(None, "--max-duration", "14", "--batch-size", "2"), cwd=tmp_path
    )
    assert run.returncode in (0, 8) and time.monotonic() - began < 20
    assert lines_in(tmp_path / "out") == len(content(tmp_path / "out")) // 2
    assert not temporaries(tmp_path / "out")


def test_nothing_imports_ray_without_the_option(model: Path, tmp_path: Path) -> None:
    images: Callable = pictures
    found = images(tmp_path / "images", 2)
    script = (
        "import sys\nfrom gradviz_cli.cli import main\n"
        f"code = main(['explain', {str(model)!r}, {str(found)!r}, '-o', {str(tmp_path / 'out')!r}])\n"
        "assert code == 0 and not {'ray', 'gradviz_cli.batch.engines.ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, cwd=tmp_path)
