"""A worker only ever reads the model whose fingerprint is in the digests: files are swapped under it, and it says so."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.model import fingerprint
from gradviz_cli.model.fingerprint import Seal, seal, unbroken
from gradviz_cli.model.remote import READINGS, RemoteModel
from gradviz_cli.process.protocol import Explain, Facts, InputFacts, Loaded, ModelOptions
from gradviz_cli.process.sandbox.enter import Sandbox

INPUT = InputFacts("x", (None, 4, 4, 3), "float32")
FACTS = Facts("f", "the only one", INPUT, "y", "z:0", None, None, 5, (4, 4), 3, "raw", {"Relu": (1, 1)}, 0, 0, ())
LOADED = Loaded(FACTS, 0.1, 0.2, Sandbox("full", 6, True, ()))


def write(folder: Path, graph: bytes) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(graph)
    (folder / "variables" / "variables.index").write_bytes(b"weights")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model", b"a graph")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write(tmp_path / "other", b"another")


def swap(one: Path, other: Path) -> None:
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


class Worker:
    """Does to the model's files what `while_loading` says, each time that it loads."""

    alive, stderr = True, ""

    def __init__(self, while_loading: Callable[[], object]):
        self.while_loading, self.loads, self.closed = while_loading, 0, False

    def request(self, *_: object, **__: object):
        self.loads += 1
        self.while_loading()
        return LOADED, ()

    def close(self) -> None:
        self.closed = True


def loading(
    monkeypatch: pytest.MonkeyPatch, path: Path, while_loading: Callable[[], object], known: Seal | None = None
):
    worker = Worker(while_loading)
    monkeypatch.setattr(RemoteModel, "_start", lambda *_, **__: worker)
    remote = RemoteModel(ModelOptions(str(path)), ("backprop",))
    if known is not None:
        remote.expect(known)
    return remote, worker


# ---- what is written another time, each way that a deployment does it


def rewritten(model: Path, other: Path) -> None:
    (model / "saved_model.pb").write_bytes((other / "saved_model.pb").read_bytes())


def rewritten_with_its_old_times(model: Path, other: Path) -> None:
    before = os.stat(model / "saved_model.pb")
    rewritten(model, other)
    os.utime(model / "saved_model.pb", ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(model: Path, other: Path) -> None:
    (other / "saved_model.pb").rename(model / "saved_model.pb")


def weights_swapped(model: Path, other: Path) -> None:
    (other / "variables" / "variables.index").write_bytes(b"WEIGHTS")
    swap(model / "variables", other / "variables")


def a_shard_more(model: Path, other: Path) -> None:
    (model / "variables" / "variables.data-00000-of-00001").write_bytes(b"x")


def gone(model: Path, other: Path) -> None:
    shutil.rmtree(model)


CHANGES = [swap, rewritten, rewritten_with_its_old_times, renamed_over, weights_swapped, a_shard_more, gone]


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_changes_is_not_the_one_that_was_sealed(model: Path, other: Path, change) -> None:
    before = seal(model)
    assert unbroken(model, before) == before
    change(model, other)
    with pytest.raises(ModelUnusable, match=r"during the run.*run again"):
        unbroken(model, before)


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_worker_reads_meanwhile_is_not_believed(monkeypatch, model: Path, other: Path, change) -> None:
    remote, worker = loading(monkeypatch, model, lambda: change(model, other), seal(model))
    with pytest.raises(ModelUnusable, match="during the run"):
        remote.load()
    assert worker.loads == 1


@pytest.mark.parametrize("change", CHANGES)
def test_the_worker_that_takes_anothers_place_reads_the_same(monkeypatch, model: Path, other: Path, change) -> None:
    remote, _ = loading(monkeypatch, model, lambda: None)  # sealed when it is first loaded
    remote.load()
    change(model, other)
    with pytest.raises(ModelUnusable, match="during the run"):
        remote._replace()


def test_a_link_that_leads_elsewhere(monkeypatch, model: Path, other: Path) -> None:
    link = model.with_name("current")
    link.symlink_to(model)

    def lead_elsewhere() -> None:
        link.unlink()
        link.symlink_to(other)

    remote, _ = loading(monkeypatch, link, lead_elsewhere, seal(link))
    with pytest.raises(ModelUnusable, match="during the run"):
        remote.load()


def test_an_archive_that_is_copied_over(monkeypatch, model: Path, other: Path) -> None:
    archive = model.with_name("model.zip")

    def pack(folder: Path) -> None:
        with zipfile.ZipFile(archive, "w") as file:
            for name in ("saved_model.pb", "variables/variables.index"):
                file.write(folder / name, name)

    pack(model)
    known = seal(archive)
    assert unbroken(archive, known) == known
    remote, _ = loading(monkeypatch, archive, lambda: pack(other), known)
    with pytest.raises(ModelUnusable, match="during the run"):
        remote.load()


def test_a_model_that_was_away_while_it_was_read_is_read_again(monkeypatch, model: Path, other: Path) -> None:
    """It holds what it held, but the worker may have read the other one."""
    visits = iter([True])

    def away_and_back() -> None:
        if next(visits, False):
            swap(model, other)
            swap(model, other)

    remote, worker = loading(monkeypatch, model, away_and_back, seal(model))
    assert remote.load() == LOADED and worker.loads == 2


def test_a_worker_that_ctrl_c_took_away_is_started_again(monkeypatch, model: Path) -> None:
    remote, worker = loading(monkeypatch, model, lambda: None)
    remote.load()
    remote._drop_worker()
    monkeypatch.setattr(remote, "_ask", lambda images: ["a row"] * len(images))
    assert list(remote.explain(np.zeros((2, 1, 1, 3)), Explain((0,), ("backprop",)))) == ["a row", "a row"]
    assert worker.loads == 2


def test_a_model_that_is_touched_all_the_time_is_given_up(monkeypatch, model: Path) -> None:
    remote, worker = loading(monkeypatch, model, lambda: os.utime(model / "saved_model.pb"), seal(model))
    with pytest.raises(ModelUnusable, match="touched again and again"):
        remote.load()
    assert worker.loads == READINGS


def test_a_worker_that_fails_over_a_changed_model_is_not_the_reason(monkeypatch, model: Path, other: Path) -> None:
    def torn() -> None:
        rewritten(model, other)
        raise ModelUnusable("the graph ends early", "mend it")

    remote, _ = loading(monkeypatch, model, torn, seal(model))
    with pytest.raises(ModelUnusable, match="during the run"):
        remote.load()


def test_what_nobody_touched_is_not_hashed_again(monkeypatch, model: Path) -> None:
    known = seal(model)
    monkeypatch.setattr(fingerprint, "YOUNG", -(10**18))
    monkeypatch.setattr(fingerprint, "of_model", lambda _: pytest.fail("hashed again"))
    assert unbroken(model, known) == known
    os.utime(model / "saved_model.pb")
    with pytest.raises(pytest.fail.Exception):
        unbroken(model, known)


def test_equal_times_of_young_files_prove_nothing(monkeypatch, model: Path) -> None:
    """Some file systems count in seconds: what is written twice in one of them looks untouched."""
    monkeypatch.setattr(fingerprint, "_identity", lambda _: (1, 2, 3, 10**10, 10**10))
    monkeypatch.setattr(fingerprint.time, "time_ns", lambda: 10**10)
    known = seal(model)
    (model / "saved_model.pb").write_bytes(b"A graph")
    with pytest.raises(ModelUnusable, match="during the run"):
        unbroken(model, known)


# -- a worker that is started ahead


def ahead(monkeypatch: pytest.MonkeyPatch, path: Path, **more) -> tuple[RemoteModel, list[dict], list[Worker]]:
    """The model, and for each worker what it was started with, and the worker."""
    started, workers = [], []

    def start(_, path: str, files: list[Path], **how: bool) -> Worker:
        started.append(how)
        workers.append(Worker(lambda: None))
        return workers[-1]

    monkeypatch.setattr(RemoteModel, "_start", start)
    return RemoteModel(ModelOptions(str(path)), ("backprop",), **more), started, workers


def test_a_worker_that_was_started_ahead_is_the_one_that_loads(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    remote, started, workers = ahead(monkeypatch, model)
    remote.start()
    remote.expect(seal(model))
    remote.load()
    remote.close()
    assert started == [{"ahead": True}]
    assert [(worker.loads, worker.closed) for worker in workers] == [(1, True)]


def test_a_model_that_was_replaced_since_is_read_by_another(
    monkeypatch: pytest.MonkeyPatch, model: Path, other: Path
) -> None:
    remote, started, workers = ahead(monkeypatch, model)
    remote.start()
    remote._ahead.result()
    swap(model, other)
    remote.expect(seal(model))
    remote.load()
    assert started == [{"ahead": True}, {}]
    assert [(worker.loads, worker.closed) for worker in workers] == [(0, True), (1, False)]


def test_one_that_is_never_asked_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    remote, _, workers = ahead(monkeypatch, model)
    remote.start()
    remote.close()
    assert [worker.closed for worker in workers] == [True]


def test_what_has_to_be_unpacked_first_is_not_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04")
    remote, started, _ = ahead(monkeypatch, tmp_path / "model.zip")
    remote.start()
    remote.close()
    assert started == []
