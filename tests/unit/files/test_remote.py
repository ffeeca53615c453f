"""URLs of objects: what they name, what is refused, and what is told of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.files import objects
from gradviz_cli.files.remote import Remote, full_name, is_url, without_secrets
from gradviz_cli.plan import values


def test_what_a_url_names() -> None:
    found = Remote.of("s3a://bucket/photos/a b.jpg/")
    assert found == Remote("s3", "bucket/photos/a b.jpg") and str(found) == "s3://bucket/photos/a b.jpg"
    assert isinstance(found, Remote)
    assert (found.name, str(found.parent), str(found / "x")) == ("a b.jpg", "s3://bucket/photos", f"{found}/x")
    assert [str(one) for one in found.parents] == ["s3://bucket/photos", "s3://bucket"]
    bucket = Remote("s3", "bucket")
    assert found.below(bucket) == "photos/a b.jpg" and bucket.below(bucket) == "" and bucket.below(found) is None
    assert Remote("s3", "bucket2/a").below(bucket) is None and Remote("gs", "bucket/a").below(bucket) is None


def test_what_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s3:/b").mkdir(parents=True)
    Path("s3:/b/a.jpg").touch()
    assert [Remote.of(one) for one in ("a.jpg", "C:/a", "s3:/b/a.jpg", "s3://b/a.jpg")] == [
        None
    ] * 4  # the last is a file
    assert Remote.of("file:///tmp/a%20b.jpg") == Path("/tmp/a b.jpg")
    assert full_name("a.jpg") == str(tmp_path / "a.jpg") and full_name("s3://b/a.jpg") == "s3://b/a.jpg"
    assert is_url("s3://b") and not is_url("/s3:/b")


@pytest.mark.parametrize(
    "typed, said",
    [
        ("s3://me:secret@b/a.jpg", r"^s3://\.\.\.@b/a.jpg holds a password"),
        ("s3://b/a.jpg?X-Amz-Signature=secret", r"^s3://b/a.jpg\?\.\.\. has a query"),
        ("s3://b/../a.jpg", "a part of it is empty or dots"),
        ("s3://", "a part of it is empty or dots"),
        ("https://a.b/c.jpg", "https://a.b/c.jpg is an address"),
    ],
)
def test_what_is_refused(typed: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        values.location(typed)
    assert "secret" not in str(caught.value)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        values.location("s3://b/a.jpg")
    assert str(caught.value) == "s3://b/a.jpg: needs the cloud extra: pip install 'gradviz-cli[cloud]'"
    with pytest.raises(ValueError, match="^what://b/a: no store is known by what://"):
        values.location("what://b/a")


def test_what_stands_in_messages() -> None:
    text = "GET https://u:p@host/b/a.jpg?sig=abc failed at s3://b/x?y=1"
    assert without_secrets(text) == "GET https://...@host/b/a.jpg?... failed at s3://b/x?..."


@pytest.mark.parametrize(
    "error, kind, said",
    [
        (FileNotFoundError("The specified bucket does not exist"), "missing", "no such bucket"),
        (FileNotFoundError("b/a.jpg"), "missing", "no such object"),
        (PermissionError("Forbidden"), "unreadable", "access is denied"),
        (FileExistsError("b/a"), "taken", "there already"),
        (TimeoutError(), "timeout", "no answer"),
        (ConnectionRefusedError(), "unreadable", "cannot be reached"),
        (OSError("https://k:s@host/?sig=secret\nis odd"), "unreadable", r"the store says: https://\.\.\.@host/\?"),
    ],
)
def test_what_goes_wrong_is_one_line(error: Exception, kind: str, said: str) -> None:
    def ask() -> None:
        raise error

    with pytest.raises(objects.StoreError, match=said) as caught:
        objects.told(ask)
    assert caught.value.kind == kind and "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_imported_before_the_first_url() -> None:
    """No module imports these as it is imported itself."""
    package = Path(objects.__file__).parents[1]
    naming = {path: ast.parse(text) for path in package.rglob("*.py") if "fsspec" in (text := path.read_text())}
    assert Path(objects.__file__) in naming
    first = [node for tree in naming.values() for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [node for node in first if re.search("fsspec|s3fs|gcsfs|botocore", ast.unparse(node))]
