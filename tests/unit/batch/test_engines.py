"""What all engines have in common, without a model: the same files, lines and codes; and nodes that are lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gradviz_cli.batch import engines, pipeline
from gradviz_cli.batch.engines import driver, messages, node
from gradviz_cli.batch.engines.driver import AT_ONCE, FIRST, Hand, Lost, drive
from gradviz_cli.batch.engines.inprocess import InProcess
from gradviz_cli.batch.engines.messages import Chunk, from_text, to_text
from gradviz_cli.batch.engines.node import Kept
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.lock import LOCK
from gradviz_cli.batch.manifest import read as lines
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.batch.run import run
from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.files import whole
from gradviz_cli.files.remote import Remote
from gradviz_cli.images.listing import STDIN, Inputs
from gradviz_cli.model import shipped
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.model.fingerprint import of_model
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.plan import Job, Page, Plan
from gradviz_cli.plan.results import Result, Status
from gradviz_cli.process.protocol import NotUnderstood

TIMES = ("time", "seconds", "stamps", "image_stamp")


class Told(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.results: list[str] = []
        self.loads = 0

    def loaded(self, model) -> None:
        self.loads += 1

    def result(self, result: Result, report) -> None:
        self.results.append(f"{Path(result.image).name} {result.status}")

    def warning(self, message: str) -> None:
        self.said.append(message)

    detail = warning

    def failure(self, error) -> None:
        self.said.append(str(error))


@pytest.fixture(autouse=True)
def kept(nodes: list) -> list:
    """The explainers of nodes."""
    return nodes


class Shaky(InProcess):
    """Nodes that are lost over some chunks: `fails` is given the names of its images, and says what happens."""

    def __init__(self, room: int, fails: Callable[[int, list[str]], Exception | None]):
        super().__init__(room)
        self.fails, self.hired, self.chunks = fails, 0, []
        self.flying: dict[int, list[Future[str]]] = {}

    def hire(self, number: int, spec: str) -> Future[str]:
        self.hired += 1
        return super().hire(number, spec)

    def explain(self, number: int, chunk: str) -> Future[str]:
        names = [one.rel for one in from_text(chunk, Chunk).jobs]
        self.chunks.append(names)
        error = self.fails(number, names)
        if error is None:
            future = self._forwarded(super().explain(number, chunk))
            self.flying.setdefault(number, []).append(future)
            return future
        future = Future()
        future.set_exception(error)
        if getattr(error, "gone", False):
            for other in self.flying.pop(number, ()):
                if not other.done():
                    other.set_exception(error)
        return future

    def _forwarded(self, inner: Future[str]) -> Future[str]:
        outer: Future[str] = Future()
        inner.add_done_callback(lambda one: outer.done() or outer.set_result(one.result()))
        return outer


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Shaky]]:
    """Lets the engine `shaky` fail so; the crews that were started."""

    def make(fails: Callable[[int, list[str]], Exception | None] = lambda number, names: None, room: int = 1):
        made: list[Shaky] = []

        def start() -> Shaky:
            made.append(Shaky(room, fails))
            return made[-1]

        monkeypatch.setitem(engines.ENGINES, "shaky", partial(drive, start=start))
        return made

    return make


def ran(plan: Plan, folder: Path, **more) -> tuple[int, Told]:
    told = Told()
    report = run(plan, Inputs((folder,), plan.out, **more), told)
    return int(report.exit_code()), told


def files(out: Path) -> dict[str, bytes]:
    return {str(one.relative_to(out)): one.read_bytes() for one in out.rglob("*.*") if one.suffix in (".png", ".npy")}


def told_of(out: Path) -> list[str]:
    """The lines of the manifest, without what tells of time."""
    kept = ({name: value for name, value in line.items() if name not in TIMES} for line in lines(out))
    return sorted(json.dumps(line, sort_keys=True) for line in kept)


# ---- one contract for all


@pytest.mark.parametrize(
    "words",
    [
        ["good"] * 40,
        ["good", "bad", "no", "zero", "odd", "odd", "slow"] * 6,
        ["bad", "no"],
        [],
        ["good", "last", "good", "good"],
    ],
    ids=["good", "mixed", "failed", "none", "ends"],
)
@pytest.mark.parametrize("more", [{}, {"fail_fast": True}], ids=["", "fail-fast"])
def test_an_engine_gives_what_this_machine_gives(plan, images, words: list[str], more: dict) -> None:
    folder, here = images(*words), plan({"raw": True}, **more)
    there = replace(here, out=here.out.with_name("there"), engine="inprocess")
    codes, told = zip(*(ran(one, folder) for one in (here, there)), strict=True)
    assert codes[0] == codes[1]
    if more:  # what other nodes had when the image failed is done as well
        assert told[1].results[: len(told[0].results)] == told[0].results
        assert files(here.out).items() <= files(there.out).items()
        return
    assert files(there.out) == files(here.out)
    assert told_of(there.out) == told_of(here.out)
    assert told[0].results == told[1].results and told[0].loads == told[1].loads
    assert [one.replace("there", "out") for one in told[1].said] == told[0].said
    assert (there.out / LOCK).read_text() == ""
    again = [ran(one, folder) for one in (here, there)]
    assert again[0][0] == again[1][0] and again[0][1].results == again[1][1].results


def test_what_is_current_needs_no_node(plan, images, shaky) -> None:
    folder, crews = images(*["good"] * 90), shaky()
    asked = plan(engine="shaky", batch_size=16)
    assert ran(asked, folder)[0] == 0 and len(crews) == 1
    code, told = ran(asked, folder)
    assert code == 0 and len(crews) == 1 and told.loads == 0
    assert told.results == [f"{number:03}.png current" for number in range(1, 91)]


def test_bytes_are_compared_where_they_are_seen(plan, images, shaky, kept) -> None:
    """An image that was touched, and is what it was: the node says so, and starts no model."""
    folder, _ = images("good", "good", "good"), shaky()
    asked = plan(engine="shaky")
    ran(asked, folder)
    (folder / "002.png").touch()
    (asked.out / "003.png.guided.png").touch()
    code, told = ran(asked, folder)
    assert code == 0 and told.results == ["001.png current", "002.png current", "003.png current"]
    assert kept[-1].loads == 0 and told.loads == 0


@pytest.mark.parametrize(("more", "shard"), [({"force": True}, (1, 1)), ({}, (2, 3))], ids=["force", "shard"])
def test_options_of_a_run_hold(plan, images, shaky, more: dict, shard: tuple[int, int]) -> None:
    folder, _ = images(*["good"] * 12), shaky(room=2)
    here, there = plan(**more), replace(plan(engine="shaky", **more), out=plan().out.with_name("there"))
    for asked in (here, here, there, there):
        assert ran(asked, folder, shard=shard)[0] == 0
    assert told_of(here.out) == told_of(there.out) and files(here.out) == files(there.out)


# ---- nodes that are lost


def test_what_a_lost_node_had_is_done_by_others(plan, images, shaky) -> None:
    folder, dead = images(*["good"] * 100), iter((True,))
    crews = shaky(lambda number, names: Lost("killed") if "040.png" in names and next(dead, False) else None, room=2)
    asked = plan(engine="shaky", batch_size=8)
    left = asked.out / f"{whole.TEMPORARY}{whole.OWNER}{'0' * 16}.tmp"
    asked.out.mkdir()
    (asked.out / LOCK).touch()

    class Leaves(Told):
        def result(self, result: Result, report) -> None:
            left.touch()
            super().result(result, report)

    told = Leaves()
    report = run(asked, Inputs((folder,), asked.out), told)
    assert report.counts == {Status.WRITTEN: 100} and len(told_of(asked.out)) == len(files(asked.out)) == 100
    assert told.results == [f"{number:03}.png written" for number in range(1, 101)]  # in order all the same
    assert crews[0].hired == 3 and sum("040.png" in names for names in crews[0].chunks) == 2
    assert any("was lost: killed" in one for one in told.said) and told.loads == 1
    assert not left.exists() and (asked.out / LOCK).read_text() == ""


def test_an_image_that_costs_every_node_has_failed(plan, images, shaky) -> None:
    folder = images(*["good"] * 30)
    crews = shaky(lambda number, names: Lost("killed") if "007.png" in names else None, room=2)
    asked = plan(engine="shaky")
    code, told = ran(asked, folder)
    assert code == 3 and told.results.count("007.png failed") == 1
    assert sum(one.endswith("written") for one in told.results) == 29 == len(files(asked.out))
    (line,) = (line for line in lines(asked.out) if line["status"] == "failed")
    assert line["error"]["kind"] == "crash" and len(told_of(asked.out)) == 30
    assert [names for names in crews[0].chunks if "007.png" in names][-2:] == [["007.png"]] * 2
    assert crews[0].hired < 16


def test_a_node_that_cannot_be_reached_is_not_dead(plan, images, shaky, monkeypatch) -> None:
    monkeypatch.setattr(driver, "REST", 0.1)
    missed: list[int] = []

    def fails(number: int, names: list[str]) -> Exception | None:
        if len(missed) < 1:
            missed.append(number)
            return Lost("busy", gone=False)
        return None

    crews = shaky(fails)
    code, told = ran(plan(engine="shaky"), images(*["good"] * 20))
    assert code == 0 and crews[0].hired == 1 and len(told.results) == 20


def test_an_engine_without_nodes_ends_the_run(plan, images, shaky) -> None:
    crews = shaky(lambda number, names: Lost("killed by its owner"))
    asked = plan(engine="shaky")
    code, told = ran(asked, images(*["good"] * 40))
    assert code == 2 and told.said[-1].startswith(
        "--engine shaky: nodes are lost one after the other (killed by its owner)"
    )
    assert crews[0].hired <= driver.IN_A_ROW + 2
    assert (
        whole.OWNER in (asked.out / LOCK).read_text()
    )  # a node that is lost may still write, and is swept after later


def test_a_node_that_answers_nonsense_is_not_believed(plan, images, shaky, monkeypatch) -> None:
    said = iter(["{}", "", json.dumps({"type": "Answer"}), "[]"])
    before = InProcess.explain

    def explain(self, number: int, chunk: str) -> Future[str]:
        if (text := next(said, None)) is None:
            return before(self, number, chunk)
        future: Future[str] = Future()
        future.set_result(text)
        return future

    monkeypatch.setattr(InProcess, "explain", explain)
    shaky(room=2)
    code, told = ran(plan(engine="shaky"), images(*["good"] * 30))
    assert code == 0 and any("nonsense" in one for one in told.said) and len(told.results) == 30


@pytest.mark.parametrize(
    "change",
    [
        {"status": "pending"},
        {"status": "fine"},
        {"outputs": ("../x.png",)},
        {"outputs": ("b.png.guided.png",)},
        {"outputs": ()},
        {"hashes": {"b": "0"}},
        {"status": "failed", "error": None},
        {"status": "failed", "error": {"kind": "x"}},
        {"targets": "[1]"},
        {"targets": '[{"index": "0", "label": null, "rank": 0, "score": 1, "output": 1}]'},
        {"targets": "{"},
        {"estimates": "[1]"},
    ],
    ids=str,
)
def test_results_that_cannot_be(change: dict) -> None:
    result = Result("a.png", Status.WRITTEN, ("a.png.guided.png",), hashes={"a.png.guided.png": "0" * 64})
    sent, names = messages.sent(result), (("a.png.guided.png",),)
    job = Job(Path("a.png"), "a.png")
    assert messages.results_of([job], names, [sent]) == [result]
    with pytest.raises(NotUnderstood):
        messages.results_of([job], names, [replace(sent, **change)])
    with pytest.raises(NotUnderstood):
        messages.results_of([job], names, [sent, sent])


# ---- what nodes are hired for


@pytest.fixture
def spec(plan) -> Callable[..., str]:
    """Of a run into OUT, which is there, with these fields changed."""
    asked = plan()
    asked.out.mkdir()
    (asked.out / "probe").touch()

    def make(**changed) -> str:
        found = node.spec_of(asked, Digests(asked, of_model(Path(asked.model.path))), str(asked.out / "probe"))
        return to_text(replace(found, **changed))

    return make


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"versions": (("tensorflow", "1.0"),)}, "gradviz-cli"),
        ({"digest": "0"}, "the options mean something else there"),
        ({"probe": "/nowhere/at all"}, "is another folder there"),
        ({"fingerprint": "0" * 64}, "is another model there"),
    ],
    ids=str,
)
def test_a_node_that_would_draw_something_else_is_refused(spec, changed: dict, said: str) -> None:
    hired = from_text(node.Node(spec(**changed)).hired(), messages.Hired)
    assert (hired.failure is None) if not said else (said in hired.failure.message and hired.failure.remedy)


def test_nodes_that_do_not_come_are_said(plan, images, shaky, monkeypatch) -> None:
    monkeypatch.setattr(driver, "PATIENT", 0.05)
    monkeypatch.setattr(node.Node, "hired", lambda self, before=node.Node.hired: time.sleep(0.2) or before(self))
    shaky()
    code, told = ran(plan(engine="shaky"), images("good"))
    assert (code, told.said) == (0, ["--engine shaky: no node has come within 0 s; others may use them"])


def test_such_a_node_ends_the_run_with_one_line(plan, images, shaky, monkeypatch) -> None:
    shaky()
    seen = iter("ab")
    monkeypatch.setattr(node, "sample", lambda plan, model: next(seen))
    code, told = ran(plan(engine="shaky"), images("good"))
    assert code == 2 and len(told.said) == 1 and "the options mean something else there" in told.said[0]


def test_the_model_comes_along(plan, spec, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = Path(plan().model.path)
    (model / "variables").mkdir()
    (model / "variables" / "variables.index").write_bytes(b"weights")
    told, packed = spec(), shipped.packed(model)
    fingerprint = of_model(model)
    model.rename(tmp_path / "moved")
    there = node.Node(told, lambda: packed)
    assert from_text(there.hired(), messages.Hired).failure is None
    assert shipped.unpacked(packed, fingerprint) == Path(there._plan.model.path)  # kept from the first time
    assert of_model(Path(there._plan.model.path)) == fingerprint and "cache" in there._plan.model.path
    with pytest.raises(ModelUnusable, match="another model than its name says"):
        shipped.unpacked(packed, "0" * 64)


def test_a_job_and_what_is_known_of_it() -> None:
    class Known:
        def line(self, name: str) -> dict:
            return {"outputs": ["a", "b"], "sha256": {"a": "0" * 64}} if name in "ab" else {}

        def is_from(self, rel: str, source: str) -> bool:
            return source == "/x/caf\udce9.tif"

    job = Job(Path("/x/caf\udce9.tif"), "caf\udce9.tif", page=Page(2, 4))
    one = messages.asked(job, ("a", "b", "c"), Known())  # type: ignore[arg-type]
    assert len(one.lines) == 1
    (there,) = from_text(to_text(Chunk((one,), None, None)), Chunk).jobs
    assert messages.job_of(there) == job
    sketch = messages.Sketch([there])
    assert sketch.written("a") == ("0" * 64, None) and sketch.line("c") == {}
    assert sketch.is_from(job.rel, str(job.path)) is True and sketch.is_from("other", "/x") is None


@pytest.mark.parametrize("name", ["b/x?v=1.jpg", "b/me:pw@y.jpg", "b/a%20#1.jpg", "b/caf\u00e9 x.jpg"])
def test_a_job_of_a_store_whatever_its_name(name: str) -> None:
    job = Job(Remote("s3", name), "x.jpg")
    sent = messages.asked(job, (), Known())
    assert messages.job_of(from_text(to_text(Chunk((sent,), None, None)), Chunk).jobs[0]) == job


# ---- how much at once


def test_nothing_is_listed_ahead_of_what_nodes_can_take(plan, images, shaky, monkeypatch) -> None:
    monkeypatch.setattr(driver.Parts, "ahead", lambda parts: 0)
    go, listed, asked = threading.Event(), [], plan(engine="shaky")
    shaky(lambda number, names: None if go.wait(10) else None)
    before = Inputs.jobs

    def jobs(self, left=None) -> Iterator[Job]:
        for job in before(self, left):
            listed.append(job.rel)
            yield job

    folder = images(*["good"] * 120)
    inputs = Inputs((folder,), asked.out)
    monkeypatch.setattr(engines, "ENGINES", dict(engines.ENGINES))
    running = threading.Thread(target=lambda: run(asked, inputs))
    monkeypatch.setattr(Inputs, "jobs", jobs)
    running.start()
    time.sleep(0.2)
    walked = listed.count("120.png")  # OUT is looked through before, and nothing is known of it
    assert len(listed) < 2 * (AT_ONCE + 1) * FIRST and walked == 0  # what is listed together doubles
    go.set()
    running.join(20)
    assert len(told_of(asked.out)) == 120


def test_a_chunk_is_some_seconds_of_the_work_of_its_node(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(driver.time, "monotonic", lambda: now[0])
    hand = Hand(1, "host")
    hand.answered(FIRST)  # it has waited for the model
    assert hand.size == FIRST
    now[0] = 0.5
    hand.answered(50)
    assert hand.size == 300  # 100 a second
    now[0] = 100.0
    hand.answered(1)
    assert hand.size < 300
    hand.rate = 1e9
    assert hand.size == driver.LARGEST


def test_time_that_is_up(plan, images, shaky, fake, monkeypatch) -> None:
    monkeypatch.setattr(fake, "seconds", 0.05)
    shaky()
    asked = plan(engine="shaky", max_duration=0.5)
    code, told = ran(asked, images(*["good"] * 250))
    assert code == 8 and "--max-duration is reached" in told.said[-1]
    done = len(files(asked.out))
    assert 0 < done < 250 and len(told_of(asked.out)) == done == len(told.results)
    assert (asked.out / LOCK).read_text() == ""
    monkeypatch.setattr(fake, "seconds", 0.0)
    assert ran(replace(asked, max_duration=None), asked.out.with_name("images"))[0] == 0


def test_what_is_on_this_machine_alone_is_refused(plan, images) -> None:
    folder = images("good")
    code, told = ran(plan(engine="inprocess", file="x.png"), folder)
    assert code == 2 and "is one picture" in told.said[0]
    told = Told()
    asked = plan(engine="inprocess")
    run(asked, Inputs((STDIN,), asked.out, stdin=folder / "001.png"), told)
    assert "stdin" in told.said[0]


def test_ray_that_is_not_installed(plan, images, monkeypatch) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    code, told = ran(plan(engine="ray"), images("good"))
    assert (code, told.said) == (2, ["--engine ray: Ray is not installed; pip install 'gradviz-cli[ray]'"])
    with pytest.raises(UsageError, match="Ray is not installed"):
        plan_from("no such model", "out", engine="ray")  # which nobody has looked at


def test_two_chunks_of_a_node_decode_no_more_at_once_than_one(plan, monkeypatch) -> None:
    now, most = [0], [0]

    def decode(self, *given: object) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.01)
        now[0] -= 1

    monkeypatch.setattr(Explainer, "decode", decode)
    kept = pipeline.explainer_of(plan(), partial(Kept, 2))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(kept.decode, range(12)))
    assert most == [2]
