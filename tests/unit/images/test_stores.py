"""Images in a store, of which fsspec's memory is one: the same as in folders, and read without more requests than needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files import objects
from gradviz_cli.files.objects import StoreError
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.images import sources
from gradviz_cli.images.aside import LeftOut
from gradviz_cli.images.listing import Inputs, names_in
from gradviz_cli.plan.plan import Job, Walk

fsspec = pytest.importorskip("fsspec")
TOP = Remote("memory", "bucket/in")
LINE = b'{"image": "a.png", "status": "written", "outputs": []}\n'


@pytest.fixture(autouse=True)
def memory() -> Iterator:
    found = fsspec.filesystem("memory")
    yield found
    found.store.clear()


def put(*names: str, data: bytes = b"good 1") -> None:
    for name in names:
        objects.put(TOP / name, data)


def inputs(*places: Place, out: Place | None = None, **more) -> Inputs:
    return Inputs(places, out or Path("out"), **more)


def rels(given: Inputs) -> list[str]:
    return [job.rel for job in given.checked().jobs()]


def test_a_folder_is_walked_as_one_here(memory) -> None:
    put("b.png", "a/2.png", "a/10.png", "a.png", "Z.png", "c/d/e.png", "x.txt", ".h/a.png", "@eaDir/a.png", ".a.png")
    left = LeftOut()
    found = list(inputs(TOP).jobs(left))
    assert [job.rel for job in found] == ["Z.png", "a/10.png", "a/2.png", "a.png", "b.png", "c/d/e.png"]
    assert all(job.path == TOP / job.rel and job.stamp for job in found)
    assert str(left) == "2 hidden names, 1 system folder (@eaDir), 1 file is not named as an image (.txt)"
    assert rels(inputs(TOP, walk=Walk(include=("a/*",), exclude=("10*",)))) == ["a/2.png"]
    assert rels(inputs(TOP, walk=Walk(root="memory://bucket"))) == [f"in/{job.rel}" for job in found]
    assert rels(inputs(TOP / "a.png", TOP / "c")) == ["a.png", "d/e.png"]


def test_outputs_are_no_images(memory) -> None:
    put("a.png", "out/a.png.guided.png", "old/a.png.guided.png", "older/b.png.guided.png")
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 29 + b"tEXtgradviz"
    put("old/x.png", "older/x.png", data=png)
    put("old/manifest/000001-1-of-1-0123abcd-000000.jsonl", "older/manifest.jsonl", data=LINE)
    assert rels(inputs(TOP, out=TOP / "out")) == ["a.png", "old/a.png.guided.png", "older/b.png.guided.png"]
    below = inputs(TOP / "out", out=TOP / "out")
    assert rels(below) == [] and "is not searched, as it is --out memory://bucket/in/out" in below.why_none()


def test_what_is_there_instead_is_looked_at(memory) -> None:
    put("a.pdf", data=b"%PDF-1.7")
    assert inputs(TOP).why_none() == "no image was found: 1 file is not named as an image (.pdf)"
    put("b.dat", data=b"\xff\xd8\xff\xe0")
    assert inputs(TOP).why_none().endswith("(.pdf, .dat); name what you mean, or: --include '*.dat'")


def test_what_is_not_there_is_said_at_once(memory) -> None:
    with pytest.raises(UsageError, match="^no such object or folder: memory://bucket/in/no: there is no such object"):
        inputs(TOP / "no").checked()
    with pytest.raises(UsageError, match="memory://bucket/in/a.png does not lie in --root /tmp"):
        put("a.png")
        inputs(TOP / "a.png", walk=Walk(root="/tmp")).checked()


def test_two_of_one_name(memory) -> None:
    put("a/x.png", "b/x.png")
    with pytest.raises(UsageError, match="memory://bucket/in/a/x.png and memory://bucket/in/b/x.png would both"):
        inputs(TOP / "a", TOP / "b").checked()
    assert rels(inputs(TOP / "a", TOP / "a" / "x.png")) == ["x.png"]


def test_a_list_asks_nothing_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list").write_bytes(b"memory://bucket/in/a.png\nb.png\nmemory://bucket/in/no.jpg\n")
    monkeypatch.setattr(objects, "look", lambda place: pytest.fail(f"{place} was asked for"))
    with open(tmp_path / "list", "rb") as file:
        found = list(inputs(listed=lambda: names_in(file, False)).jobs())
    assert [str(job.path) for job in found] == ["memory://bucket/in/a.png", "b.png", "memory://bucket/in/no.jpg"]


def test_folders_are_excluded_from_what_is_named(memory) -> None:
    put("drafts/a.png", "good/b.png", "c.png")
    listed = lambda: iter([TOP / "drafts/a.png", TOP / "good/b.png"])  # noqa: E731
    for root in (None, str(TOP)):
        for pattern in ("drafts", "drafts/", "in/drafts"):
            walk = Walk(exclude=(pattern,), root=root)
            assert len(rels(inputs(listed=listed, walk=walk))) == 1
            assert len(rels(inputs(TOP / "drafts", TOP / "good", TOP / "c.png", walk=walk))) == 2
    assert rels(inputs(TOP, walk=Walk(exclude=("bucket",)))) == ["c.png", "drafts/a.png", "good/b.png"]


def test_a_folder_that_cannot_be_listed_fails(memory, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a/b.png", "c.png")
    listed = objects.entries

    def entries(folder: Remote) -> list:
        if folder.name == "a":
            raise StoreError("unreadable", "access is denied", "check the permissions")
        return listed(folder)

    monkeypatch.setattr(objects, "entries", entries)
    first, second = inputs(TOP).jobs()
    assert first.trouble == "the folder cannot be listed: access is denied; check the permissions"
    assert second.rel == "c.png"


def test_an_object_is_read_in_one_request(memory, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png", data=b"12345")
    (job,) = inputs(TOP).jobs()
    monkeypatch.setattr(objects, "look", lambda place: pytest.fail("it has been listed"))
    assert sources.content(job, Limits()) == (b"12345", job.stamp) and sources.stamp_now(job) == job.stamp
    with pytest.raises(ImageError, match="^5 bytes are more than the limit of 4; see --max-file-size"):
        monkeypatch.setattr(objects, "read", lambda *given: pytest.fail("it is too large"))
        sources.content(job, Limits(max_file_size=4))


def test_an_object_that_changes(memory) -> None:
    put("a.png", data=b"12345")
    (job,) = inputs(TOP).jobs()
    put("a.png", data=b"123456")
    assert sources.content(job, Limits()) == (b"123456", None)  # of another size than was listed
    alone = Job(TOP / "a.png", "a.png")
    assert sources.content(alone, Limits())[1] == sources.stamp_now(alone) != job.stamp
    memory.store.clear()
    assert sources.stamp_now(alone) is None and sources.hashed(alone, Limits()) is None
    with pytest.raises(ImageError, match="^cannot be read: there is no such object; check the URL") as caught:
        sources.content(alone, Limits())
    assert caught.value.kind == "missing"


def test_python_reads_urls(memory) -> None:
    put("a.png", data=b"12345")
    assert sources.bytes_at(f"{TOP}/a.png", Limits()) == b"12345"
    with pytest.raises(ImageError, match="is an address, and no store"):
        sources.bytes_at("https://a.b/c.png", Limits())


def test_a_stamp_is_the_same_from_listing_and_object() -> None:
    listed = {"name": "b/a", "type": "file", "size": 3, "ETag": '"x"', "LastModified": "2026"}
    one = objects._found(TOP, {**listed, "mtime": 12.5, "LastModified": None})
    assert one.stamp == objects._found(TOP, {**listed, "mtime": 12.0, "LastModified": None}).stamp
    assert one.stamp != objects._found(TOP, {**listed, "mtime": 12.0, "LastModified": None, "ETag": '"y"'}).stamp
    assert objects._found(TOP, {"name": "b/a", "type": "file", "size": 3}).stamp is None


def test_a_list_may_be_of_urls_only_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "find_spec", lambda name: None)
    (tmp_path / "list").write_bytes(b"s3://b/a.png\n")
    with open(tmp_path / "list", "rb") as file, pytest.raises(UsageError, match="needs the cloud extra"):
        list(names_in(file, False))


def test_pages_are_not_counted_there(memory) -> None:
    put("a.tif", "b.png")
    first, second = inputs(TOP, walk=Walk(pages="all")).jobs()
    assert first.trouble and "copy it to this machine, or leave out --pages all" in first.trouble
    assert second.trouble is None
    assert [job.trouble for job in inputs(TOP / "a.tif", walk=Walk(pages="all")).jobs()] == [first.trouble]
    assert [job.trouble for job in inputs(TOP).jobs()] == [None, None]
