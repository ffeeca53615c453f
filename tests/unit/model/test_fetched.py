"""MODEL in a store: what is copied, how often, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gradviz_cli import demo
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.files import objects
from gradviz_cli.files.objects import StoreError
from gradviz_cli.files.remote import Remote
from gradviz_cli.model import fetched, fingerprint

fsspec = pytest.importorskip("fsspec")
TOP = Remote("memory", "models/birds")


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = fsspec.filesystem("memory")
    yield found
    found.store.clear()


def put(folder: str = "", beside: bool = True) -> None:
    for path in filter(Path.is_file, demo.MODEL.rglob("*")):
        objects.put(TOP / f"{folder}{path.relative_to(demo.MODEL)}", path.read_bytes())
    if beside:
        objects.put(TOP / f"{folder}training/log.bin", b"large")


def test_it_is_fetched_once_and_is_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    put()
    copy = fetched.here(TOP)
    assert copy.name == "birds" and fingerprint.of_model(copy) == fingerprint.of_model(demo.MODEL)
    assert not (copy / "training").exists()
    monkeypatch.setattr(objects, "fetch", lambda *given: pytest.fail("it is there"))
    assert fetched.here(TOP) == fetched.here(TOP / "saved_model.pb") == copy
    plan, here = plan_from(str(TOP), "out"), plan_from(demo.MODEL, "out")
    assert plan.typed == str(TOP) and plan.model.path == str(copy) and plan.labels == here.labels


def test_one_that_changed_is_another_copy() -> None:
    put()
    before = fetched.here(TOP)
    objects.put(TOP / "assets.extra/labels.txt", b"one\ntwo\n")
    after = fetched.here(TOP)
    assert after != before and (after / "assets.extra" / "labels.txt").read_text() == "one\ntwo\n"


def test_the_highest_version_is_meant_and_nothing_else_is_fetched() -> None:
    for folder in ("1/", "10/", "9/"):
        put(folder, beside=False)
    copy = fetched.here(TOP)
    assert copy.name == "10" and not list(copy.parents[1].rglob("9"))
    with pytest.raises(UsageError, match="memory://models/birds holds several models: .*; name the one"):
        put("other/")
        put("another/")
        for name in ("1", "10", "9"):
            objects.remove(TOP / name / "saved_model.pb")
        fetched.here(TOP)


def test_it_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put()
    fetch = objects.fetch

    def fails(place: Remote, path: str) -> None:
        fetch(place, path)
        if "variables" in str(place):
            raise StoreError("timeout", "no answer", "run again")

    monkeypatch.setattr(objects, "fetch", fails)
    with pytest.raises(ModelUnusable, match="memory://models/birds/variables/.*: cannot be read: no answer"):
        fetched.here(TOP)
    monkeypatch.setattr(objects, "fetch", lambda place, path: (fetch(place, path), put("x" * (place.name[0] == "s"))))
    objects.put(TOP / "saved_model.pb", b"other")
    with pytest.raises(ModelUnusable, match="memory://models/birds changed while it was read"):
        fetched.here(TOP)
    assert not list((tmp_path / "cache" / "gradviz").iterdir())


@pytest.mark.parametrize(
    "name, error, said",
    [
        ("nothing", UsageError, "no such model: memory://models/birds/nothing: there is no such object"),
        ("photos", ModelUnusable, "memory://models/birds/photos holds no saved_model.pb"),
        ("photos/a.jpg", ModelUnusable, "memory://models/birds/photos/a.jpg is no model"),
    ],
)
def test_what_is_none(name: str, error: type[Exception], said: str) -> None:
    objects.put(TOP / "photos/a.jpg", b"no image")
    with pytest.raises(error, match=said):
        fetched.here(TOP / name)
