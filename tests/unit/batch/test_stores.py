"""A run is the same wherever OUT is and whoever writes there: one contract for each engine and each kind of store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from stores import Out, memory, s3

from gradviz_cli import demo
from gradviz_cli.batch import bucket as buckets
from gradviz_cli.batch import current
from gradviz_cli.batch.engines import LOCAL, driver
from gradviz_cli.batch.engines.node import Node
from gradviz_cli.batch.files import Here
from gradviz_cli.batch.lease import Lease
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.batch.run import results, run
from gradviz_cli.cli import main
from gradviz_cli.errors import ExitCode, GradvizError, OutputError, UsageError
from gradviz_cli.files import objects
from gradviz_cli.files.objects import StoreError
from gradviz_cli.files.remote import Remote
from gradviz_cli.images.listing import Inputs
from gradviz_cli.plan.outputs import SEGMENTS
from gradviz_cli.plan.plan import Plan

STORES = ["disk", "memory", pytest.param("s3", marks=pytest.mark.slow)]
ENGINES = [LOCAL, "inprocess"]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, nodes: list) -> str:
    """Those that differ in nothing but where images are explained; Ray's nodes are in the command's tests."""
    return request.param


@pytest.fixture(params=STORES)
def out(request: pytest.FixtureRequest, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Out]:
    with ExitStack() as stack:
        if request.param == "disk":
            yield Out(tmp_path / "out", engine)
            return
        top = stack.enter_context(memory() if request.param == "memory" else s3(monkeypatch))
        yield Out(top / "maps/out", engine)


@pytest.fixture(params=STORES[1:])
def remote(request: pytest.FixtureRequest, engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Out]:
    with memory() if request.param == "memory" else s3(monkeypatch) as top:
        yield Out(top / "maps/out", engine)


class Words(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def failure(self, error: GradvizError) -> None:
        self.said.append(str(error))


def ran(out: Out, plan: Plan, folder: Path | Remote, **more) -> tuple[int, dict[str, int], str]:
    words, asked = Words(), out.plan(plan)
    report = run(asked, Inputs((folder,), asked.place, **more), words)
    return int(report.exit_code()), dict(report.counts), " ".join(words.said)


def test_a_run_and_the_same_again(out: Out, plan, images, explainers, monkeypatch) -> None:
    folder, asked = images("good", "good", "good"), plan({"raw": True})
    assert ran(out, asked, folder) == (0, {"written": 3}, "")
    files, told = out.files(), out.told()
    assert len(files) == 6 and len(told) == 3
    monkeypatch.setattr(current, "read", lambda *given: pytest.fail("no image is read"))
    for kind in (Here, buckets.Bucket):
        monkeypatch.setattr(kind, "record", lambda *given: pytest.fail("no picture is read"))
    assert ran(out, asked, folder) == (0, {"current": 3}, "") and out.files() == files
    assert ran(out, replace(asked, dry_run=True), folder)[1] == {"current": 3} and len(out.lines()) == 6
    assert not [name for name in out.others() if "manifest" not in name and name != ".gradviz.lock"]


def test_what_is_written_is_the_same_everywhere(remote: Out, tmp_path: Path, plan, images, explainers) -> None:
    here = Out(tmp_path / "here")
    folder, asked = images("good", "bad", "zero", "odd", "no"), plan({"raw": True, "styles": ("heatmap", "signed")})
    assert ran(remote, asked, folder) == ran(here, asked, folder)
    assert remote.files() == here.files() and remote.told() == here.told()
    assert ran(remote, asked, folder)[:2] == ran(here, asked, folder)[:2] and remote.told() == here.told()


def test_what_changed_is_drawn_again_and_nothing_else(out: Out, plan, images, explainers) -> None:
    folder = images("good", "good", "good", "good")
    ran(out, plan(), folder)
    before = out.files()
    first, second, third, _ = before
    out.remove(first)
    out.write(second, b"\x89PNG other")
    (folder / "003.png").write_text("good 9")
    assert ran(out, plan(), folder)[1] == {"written": 3, "current": 1}
    after = out.files()
    assert {name for name in before if before[name] != after[name]} == {third}
    out.write(first, after[first])  # the same bytes, written by somebody else
    assert ran(out, plan(), folder)[1] == {"current": 4}
    assert ran(out, plan(force=True), folder)[1] == {"written": 4}


@pytest.mark.parametrize(
    "words, code, more",
    [
        (("good", "bad"), 3, {}),
        (("bad", "bad"), 4, {}),
        ((), 4, {}),
        (("good", "last", "good"), 1, {}),
        (("good", "bad", "good"), 3, {"fail_fast": True}),
    ],
)
def test_exit_codes(out: Out, plan, images, explainers, words, code: int, more: dict) -> None:
    assert ran(out, plan(**more), images(*words))[0] == code
    done = sum(word != "bad" for word in words[:2])
    assert len(out.files()) == done == sum(line["status"] == "written" for line in out.lines())


def test_one_run_at_a_time(out: Out, plan, images, explainers) -> None:
    folder, asked = images("good", "good"), out.plan(plan())
    with closing(results(asked, Inputs((folder,), asked.place))) as first:
        assert next(first).status == "written"
        code, _, said = ran(out, plan(), folder)
        assert code == ExitCode.LOCKED and "another run is writing there (process " in said and "--lock-wait" in said
        code, _, said = ran(out, plan(), folder, shard=(1, 2))
        assert code == ExitCode.LOCKED and "another run is writing there" in said
        waiting = threading.Timer(0.2, lambda: [*first])
        waiting.start()
        assert ran(out, plan(lock_wait=20), folder)[1] == {"current": 2}
        waiting.join()


def test_shards_share_it(out: Out, plan, images, explainers) -> None:
    folder, asked = images(*["good"] * 6), out.plan(plan())
    with closing(results(asked, Inputs((folder,), asked.place, shard=(1, 2)))) as first:
        next(first)
        assert ran(out, plan(), folder)[0] == ExitCode.LOCKED
        assert ran(out, plan(), folder, shard=(1, 3))[0] == ExitCode.LOCKED
        assert ran(out, plan(), folder, shard=(2, 2))[0] == 0
        for _ in first:
            pass
    assert ran(out, plan(), folder)[1] == {"current": 6} and len(out.lines()) == 12
    assert not [name for name in out.others() if ".shards" in name]


def test_it_belongs_to_one_model_and_one_set_of_images(out: Out, plan, images, explainers, tmp_path: Path) -> None:
    ran(out, plan(), images("good"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "001.png").write_text("good 5")
    code, _, said = ran(out, plan(), other)
    assert code == ExitCode.USAGE and said.startswith(f"{out.place}/001.png.guided.png is of {tmp_path}/images/001.png")
    second = tmp_path / "second"
    second.mkdir()
    (second / "saved_model.pb").write_bytes(b"another graph")
    asked = plan()
    code, _, said = ran(out, replace(asked, model=replace(asked.model, path=str(second))), other)
    assert code == ExitCode.USAGE and said.startswith(f"{out.place} holds pictures of the model")
    assert ran(out, plan(adopt=True), other)[:2] == (0, {"written": 1})


def test_a_dry_run_leaves_nothing(out: Out, plan, images, explainers) -> None:
    code, counts, _ = ran(out, plan(dry_run=True), images("good"))
    assert (code, counts) == (0, {"pending": 1}) and not (out.others() if isinstance(out.place, Remote) else [])


def test_images_and_maps_in_one_bucket(remote: Out, plan, images, explainers) -> None:
    assert isinstance(remote.place, Remote)
    top = remote.place.parent
    for path in images("good", "good").iterdir():
        objects.put(top / "in" / path.name, path.read_bytes())
    for counts in ({"written": 2}, {"current": 2}):
        assert ran(remote, plan(), top) == (0, counts, "")
    assert list(remote.files()) == ["in/001.png.guided.png", "in/002.png.guided.png"]
    assert {line["source"] for line in remote.lines()} == {f"{top}/in/001.png", f"{top}/in/002.png"}


# ---- what goes wrong


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
def test_a_store_that_fails_in_the_middle(nth: int, plan, images, explainers, monkeypatch) -> None:
    """Whatever request is the first that fails, the next run does the rest, and no line is of a picture that is not there."""
    with memory() as top:
        out, folder, count = Out(top / "out"), images("good", "good", "good"), [0]
        for name in ("put", "create"):
            monkeypatch.setattr(objects, name, counted(getattr(objects, name), count, nth + 2))  # two are of the lease
        code, _, said = ran(out, plan(batch_size=1), folder)
        assert code == ExitCode.OUTPUT and "cannot be written: access is denied; check the credentials" in said
        monkeypatch.undo()
        assert {name for line in out.lines() for name in line["outputs"]} <= set(out.files())
        assert not [name for name in out.others() if not name.startswith(SEGMENTS)]


def counted(real: Callable, count: list[int], most: int) -> Callable:
    def asked(place: Remote, data: bytes) -> object:
        count[0] += 1
        if count[0] >= most:
            raise StoreError("unreadable", "access is denied", "check the credentials")
        return real(place, data)

    return asked


def test_nodes_are_ended_when_another_has_taken_it(plan, images, nodes, monkeypatch) -> None:
    """They do not look at the lease: the command does, also while none of them answers."""
    monkeypatch.setattr(driver, "REST", 0.01)
    busy, told, check = threading.Event(), threading.Event(), Lease.check

    def explain(self, text: str) -> str:
        busy.set()
        assert told.wait(10), "nobody looked"
        return before(self, text)

    def taken(self) -> None:
        if busy.is_set():
            told.set()
            self._lost = True
        check(self)

    before = Node.explain
    monkeypatch.setattr(Node, "explain", explain)
    monkeypatch.setattr(Lease, "check", taken)
    with memory() as top:
        out = Out(top / "out", "inprocess")
        code, counts, said = ran(out, plan(), images("good", "good"))
        assert (code, counts) == (ExitCode.LOCKED, {}) and "another run has taken it over" in said
        assert not out.lines()


def test_a_store_that_refuses_a_node_alone(plan, images, nodes, monkeypatch) -> None:
    def refused(self, staged) -> None:
        raise OutputError("memory://bucket/x.png: cannot be written: access is denied", "check the credentials")

    monkeypatch.setattr(buckets.Bucket, "ready", refused)
    with memory() as top:
        code, _, said = ran(Out(top / "out", "inprocess"), plan(), images("good"))
    assert code == ExitCode.OUTPUT and said.startswith(f"node {os.uname().nodename}: memory://bucket/x.png: cannot be")


def test_many_segments_are_brought_together(plan, images, explainers, monkeypatch) -> None:
    monkeypatch.setattr(buckets, "MOST_SEGMENTS", 2)
    with memory() as top:
        out, folder = Out(top / "out"), images("good", "good", "good")
        ran(out, plan(batch_size=1), folder)
        assert out.others() == ["manifest.jsonl"] and len(out.lines()) == 3
        assert ran(out, plan(), folder)[1] == {"current": 3} and len(out.others()) == 2
        before = out.lines()
        monkeypatch.setattr(objects, "remove", lambda *given: pytest.fail("killed before the segments are removed"))
        with buckets.standing_for(top / "out") as found, pytest.raises(pytest.fail.Exception):
            found.fold_segments(0)
        monkeypatch.undo()
        assert out.lines()[: len(before)] == before and ran(out, plan(), folder)[1] == {"current": 3}


def test_a_manifest_of_somebody_else_is_left_alone(plan, images, explainers) -> None:
    with memory() as top:
        objects.put(top / "out/manifest.jsonl", b"my own notes\n")
        code, _, said = ran(Out(top / "out"), plan(), images("good"))
        assert (
            code == ExitCode.OUTPUT
            and "memory://bucket/out/manifest.jsonl: cannot be written: it is no manifest" in said
        )
        assert Out(top / "out").others() == ["manifest.jsonl"]


def test_an_image_that_cannot_be_had_costs_itself_alone(plan, images, explainers, tmp_path, monkeypatch) -> None:
    with memory() as top:
        for path in images("good", "good").iterdir():
            objects.put(top / "in" / path.name, path.read_bytes())
        read = objects.read

        def asked(place: Remote, size: int) -> bytes:
            if place.name == "001.png":
                raise StoreError("timeout", "no answer within 90 s", "check the network, and run again")
            return read(place, size)

        monkeypatch.setattr(objects, "read", asked)
        out = Out(tmp_path / "out")
        assert ran(out, plan(), top / "in")[:2] == (3, {"failed": 1, "written": 1})
        error = next(line["error"] for line in out.lines() if line["error"])
        assert error == {
            "kind": "timeout",
            "message": "cannot be read: no answer within 90 s; check the network, and run again",
        }


def test_waiting_for_a_store_overlaps(plan, images, explainers, fake, tmp_path, monkeypatch) -> None:
    """More images are waited for than there are processors, and no more of them are decoded at once than --jobs says."""
    with memory() as top:
        for path in images(*["good"] * 40).iterdir():
            objects.put(top / "in" / path.name, path.read_bytes())
        read, all_wait = objects.read, threading.Barrier(objects.AT_ONCE)
        decoding, most = [0], [0]

        def waits(place: Remote, size: int) -> bytes:
            if place.name.endswith(".png") and int(place.name[:3]) <= objects.AT_ONCE:
                all_wait.wait(timeout=20)
            return read(place, size)

        def decode(self, *given: object, **named: object):
            decoding[0] += 1
            most[0] = max(most[0], decoding[0])
            try:
                return real(self, *given, **named)
            finally:
                decoding[0] -= 1

        asked = plan(jobs=1)
        monkeypatch.setattr(objects, "read", waits)
        real = fake.decode
        monkeypatch.setattr(fake, "decode", decode)
        assert ran(Out(tmp_path / "out"), asked, top / "in")[:2] == (0, {"written": 40}) and most == [1]


@pytest.mark.parametrize(
    "out, said",
    [
        (
            "memory://b/x.png",
            "--out memory://b/x.png: one picture under a name of its own is written to a folder of this",
        ),
        ("https://b/maps", "--out: https://b/maps is an address, and no store"),
        ("s3://me:pw@b/maps", r"--out: s3://\.\.\.@b/maps holds a password"),
        ("memory://models/birds/maps", "--out memory://models/birds/maps is the model or lies in it"),
    ],
)
def test_an_out_that_cannot_be(out: str, said: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with memory():
        for path in filter(Path.is_file, demo.MODEL.rglob("*")):
            objects.put(Remote("memory", "models/birds") / str(path.relative_to(demo.MODEL)), path.read_bytes())
        with pytest.raises(UsageError, match=said):
            plan_from("memory://models/birds", out)


def test_compact_in_a_store(plan, images, explainers, capfd, monkeypatch) -> None:
    with memory() as top:
        out, folder = Out(top / "out"), images("good", "good")
        for _ in range(4):
            ran(out, plan(batch_size=1), folder)
        before = len(out.lines())
        assert main(["compact", "-n", f"{top}/out"]) == 0 and "of 8 lines would stay" in capfd.readouterr().out
        assert main(["compact", f"{top}/out"]) == 0 and out.others() == ["manifest.jsonl"]
        assert len(out.lines()) < before == 8 and ran(out, plan(), folder)[1] == {"current": 2}
        assert main(["compact", f"{top}/nothing"]) == 2 and "holds no manifest" in capfd.readouterr().err
        monkeypatch.setattr(objects, "_CONDITIONAL", {})
        assert main(["compact", f"{top}/out"]) == 2 and "pictures are written to s3://" in capfd.readouterr().err
