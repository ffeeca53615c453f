"""Objects of stores, as fsspec reads and writes them: the extra `cloud`. Nothing of it is imported before the first URL.

What goes wrong is a StoreError with a line of its own. No listing is cached: what was just written must be seen. A PUT is
whole or not at all, so nothing is ever written bit by bit under its own name.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from gradviz_cli.errors import GradvizError, UsageError
from gradviz_cli.files.reading import Stamp
from gradviz_cli.files.remote import Remote, without_secrets
from gradviz_cli.files.text import plain, shortened

EXTRA = "pip install 'gradviz-cli[cloud]'"
# The package behind a scheme that the extra brings, and what it is told: bounded attempts, no cached listings.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
_NO_STORES = ("http", "https", "data")
ATTEMPTS, CONNECTING, ANSWERING = 2, 10, 20  # and seconds; two libraries try so often each
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": CONNECTING,
            "read_timeout": ANSWERING,
            "max_pool_connections": 64,
            "retries": {"max_attempts": ATTEMPTS, "mode": "standard"},
        }
    },
}
_TALKATIVE = ("fsspec", "s3fs", "gcsfs", "botocore", "aiobotocore", "google", "urllib3")
# Seconds for one object, with all attempts.
LONGEST = 90.0
# Requests that wait for a store at once.
AT_ONCE = 32


class StoreError(Exception):
    """A store did not do what it was asked.

    Attributes
    ----------
    kind : str
        `missing`, `unreadable`, `timeout`; of writing `taken` where something is there that must not be.
    reason, remedy : str
        What is wrong, without the URL, and what to do.
    """

    def __init__(self, kind: str, reason: str, remedy: str):
        super().__init__(f"{reason}; {remedy}")
        self.kind, self.reason, self.remedy = kind, reason, remedy


class Found(NamedTuple):
    """An object or a folder, as a store lists it."""

    place: Remote
    is_folder: bool
    size: int = 0
    stamp: Stamp | None = None
    tag: str = ""


def check(place: Remote) -> Remote:
    """The same.

    Raises
    ------
    UsageError
        What reads URLs like that is not installed.
    ValueError
        Nothing does.
    """
    scheme = place.scheme
    if scheme in _NO_STORES:
        raise ValueError(f"{place} is an address, and no store; download it, and give its path")
    if scheme in _PACKAGES:
        if find_spec(_PACKAGES[scheme]) is None:
            raise UsageError(f"{place}: needs the cloud extra: {EXTRA}")
    elif find_spec("fsspec") is None:
        raise ValueError(f"{place}: no store is known by {scheme}://; s3:// and gs:// are, with {EXTRA}")
    else:
        _check_known(place)
    return place


def _check_known(place: Remote) -> None:
    import fsspec

    try:
        fsspec.get_filesystem_class(place.scheme)
    except ValueError:
        raise ValueError(f"{place}: no store is known by {place.scheme}://; give s3:// or gs://") from None
    except ImportError as error:
        raise ValueError(f"{place}: {plain(str(error))}") from None


def look(place: Remote) -> Found:
    """What is there now. Raises StoreError."""
    return _found(place, _asked(place, "info", longest=LONGEST))


def entries(folder: Remote) -> list[Found]:
    """What is in a folder, in no order. Raises StoreError; a folder of which there is nothing is `missing`."""
    listed = _asked(folder, "ls", detail=True)
    found = [_found(_within(folder, info), info) for info in listed]
    return [one for one in found if one.place != folder]  # an empty object stands for a folder in some tools


def entries_if_any(folder: Remote) -> list[Found]:
    """The same of a folder that may not be there; none then. Asked for at once, s3fs would list the whole folder around it.
    Raises StoreError."""
    try:
        return entries(folder) if look(folder).is_folder else []
    except StoreError as error:
        if error.kind == "missing":
            return []
        raise


def everything(folder: Remote) -> list[Found]:
    """All objects below a folder; none where there is none. Raises StoreError."""
    try:
        listed = _asked(folder, "find", detail=True)
    except StoreError as error:
        if error.kind == "missing":
            return []
        raise
    found = [_found(_within(folder, info), info) for info in listed.values()]
    return [one for one in found if not one.is_folder and one.place != folder]


def read(place: Remote, size: int) -> bytes:
    """The first `size` bytes of an object, in one request. Raises StoreError."""
    if not size:
        return b""
    data: bytes = _asked(place, "cat_file", start=0, end=size, longest=LONGEST)
    return data


def head(place: Remote, most: int) -> bytes:
    """The first bytes of an object; none where it cannot be read, or has none."""
    with suppress(StoreError):
        return read(place, most)
    return b""


def fetch(place: Remote, path: str) -> None:
    """An object to a file of this machine, however large. Raises StoreError, OSError."""
    _asked(place, "get_file", path)


def put(place: Remote, data: bytes) -> None:
    """Write an object, whole or not at all. Raises StoreError."""
    _asked(place, "pipe_file", data, longest=LONGEST)


def put_file(place: Remote, path: str) -> None:
    """The same, of a file of this machine, however large. Raises StoreError."""
    found = system(place)
    told(lambda: _run(found, "put_file", path, str(place)))


def create(place: Remote, data: bytes) -> str:
    """Write an object that must not be there yet; its tag. Raises StoreError, `taken` where it is there."""
    return _conditional(place, data, None)


def exchange(place: Remote, data: bytes, tag: str, longest: float | None = None) -> str:
    """Write an object anew that still is what has this tag; the new tag. Raises StoreError, `taken` where it is not."""
    return _conditional(place, data, tag, longest)


def check_out(place: Remote) -> Remote:
    """The same; ValueError where no run could keep others away from it."""
    if place.scheme not in _CONDITIONAL:
        raise ValueError(
            f"{place}: pictures are written to s3://, gs:// or a folder of this machine; give one of these"
        )
    return place


def _conditional(place: Remote, data: bytes, tag: str | None, longest: float | None = None) -> str:
    found, write = system(place), _CONDITIONAL[place.scheme]
    tagged: str = told(lambda: write(found, str(place), data, tag, longest or LONGEST))
    return tagged


def _to_s3(found: Any, url: str, data: bytes, tag: str | None, longest: float) -> str:
    bucket, key, _ = found.split_path(url)
    match = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    answer = _run(found, "call_s3", "put_object", Bucket=bucket, Key=key, Body=data, longest=longest, **match)
    return str(answer["ETag"])


def _to_gcs(found: Any, url: str, data: bytes, tag: str | None, longest: float) -> str:
    """Generations stand for tags: https://cloud.google.com/storage/docs/request-preconditions."""
    bucket, key, _ = found.split_path(url)
    upload = f"{found._location}/upload/storage/v1/b/{{}}/o"
    asked = {"uploadType": "media", "name": key, "ifGenerationMatch": tag or "0"}
    answer = _run(found, "call", "POST", upload, bucket, data=data, json_out=True, longest=longest, **asked)
    return str(answer["generation"])


def _to_memory(found: Any, url: str, data: bytes, tag: str | None, longest: float) -> str:
    """Of this process alone."""
    with _guard:
        now = found.info(url)["created"].isoformat() if found.exists(url) else None
        if now != tag:
            raise FileExistsError(url)
        found.pipe_file(url, data)
        return str(found.info(url)["created"].isoformat())


_CONDITIONAL: dict[str, Callable[[Any, str, bytes, str | None, float], str]] = {
    "s3": _to_s3,
    "gs": _to_gcs,
    "memory": _to_memory,
}


def remove(place: Remote, longest: float | None = None) -> None:
    """Remove an object. Raises StoreError; of what is not there `missing`, where the store says so."""
    _asked(place, "rm_file", longest=longest or LONGEST)


def system(place: Remote) -> Any:
    """The file system of fsspec."""
    with _guard:
        return _system(place.scheme)


_guard = threading.Lock()


@cache
def _system(scheme: str) -> Any:
    import fsspec

    for name in _TALKATIVE:  # what went wrong is said by us, once
        logging.getLogger(name).addHandler(logging.NullHandler())
    options = {} if fsspec.config.conf.get(scheme) else _OPTIONS.get(scheme, {})
    found = fsspec.filesystem(scheme, use_listings_cache=False, **options)
    if scheme == "s3":
        found.retries = ATTEMPTS
    return found


def _asked(place: Remote, name: str, *given: Any, longest: float | None = None, **named: Any) -> Any:
    found = system(place)
    return told(lambda: _run(found, name, str(place), *given, longest=longest, **named))


def _run(found: Any, name: str, /, *given: Any, longest: float | None = None, **named: Any) -> Any:
    if not found.async_impl:
        return getattr(found, name)(*given, **named)
    from fsspec.asyn import sync

    return sync(found.loop, getattr(found, f"_{name}"), *given, timeout=longest, **named)


def told(ask: Callable[[], Any]) -> Any:
    """What it gives; what goes wrong as a StoreError."""
    try:
        return ask()
    except (MemoryError, StoreError, GradvizError):
        raise
    except Exception as error:  # of three libraries and their own libraries
        raise _error(error) from error


def _error(error: Exception) -> StoreError:
    names = {kind.__name__ for kind in type(error).__mro__}
    text = f"{type(error).__name__} {error}"
    for kind, pattern, reason, remedy in _KNOWN:
        if re.search(pattern, " ".join([*names, text])):
            return StoreError(kind, reason, remedy)
    said = shortened(without_secrets(plain(str(error) or type(error).__name__)), 200)
    return StoreError("unreadable", f"the store says: {said}", "look at the store, and run again")


# By the names of exceptions and what they say: the kind, what is wrong, what to do. The first that fits.
_KNOWN = (
    (
        "missing",
        r"NoSuchBucket|bucket does not exist",
        "there is no such bucket",
        "check the name, and the endpoint that the store's own tools use",
    ),
    ("missing", r"FileNotFoundError|NoSuchKey", "there is no such object", "check the URL"),
    (
        "taken",
        r"FileExistsError|PreconditionFailed|ConditionalRequestConflict|conditions you specified|conditionNotMet|\b412\b",
        "something is there already",
        "let another run finish",
    ),
    (
        "unreadable",
        r"NoCredentialsError|PartialCredentials|DefaultCredentialsError|Anonymous caller|RefreshError|TokenRetrievalError",
        "no credentials were found that it takes",
        "set them as the store's own tools want them",
    ),
    (
        "unreadable",
        r"PermissionError|AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|\b40[13]\b",
        "access is denied",
        "check the credentials, and the permissions of the bucket",
    ),
    (
        "timeout",
        r"TimeoutError|ReadTimeout|ConnectTimeout",
        f"no answer within {LONGEST:.0f} s",
        "check the network, and run again",
    ),
    (
        "unreadable",
        r"EndpointConnection|ConnectionError|ClientConnector|ConnectionClosed|ClientError\b.*Connect|ServerDisconnected",
        "the store cannot be reached",
        "check the network and the endpoint, and run again",
    ),
)


def _within(folder: Remote, info: dict[str, Any]) -> Remote:
    path = re.sub("^[a-z0-9+.-]+://", "", info["name"]).strip("/")
    return Remote(folder.scheme, path)


def _found(place: Remote, info: dict[str, Any]) -> Found:
    if info.get("type") == "directory":
        return Found(place, True)
    size, tag = int(info.get("size") or 0), str(info.get("ETag") or info.get("generation") or info.get("etag") or "")
    version = tag or _version_in_memory(info.get("created"))
    return Found(place, False, size, _stamp(size, tag, _time(info)), version)


def _version_in_memory(created: object) -> str:
    moment = datetime.fromtimestamp(created, timezone.utc) if isinstance(created, float) else created
    return moment.isoformat() if isinstance(moment, datetime) else ""


def _time(info: dict[str, Any]) -> float:
    said = next((info[name] for name in ("LastModified", "mtime", "last_modified", "created") if info.get(name)), 0)
    if isinstance(said, datetime):
        return said.timestamp()
    return float(said) if isinstance(said, int | float) else 0.0


def _stamp(size: int, tag: str, time: float) -> Stamp | None:
    """In the form of a file's: bytes, time of the last change, and what names the content. Listings and objects say the time
    with and without its fraction, which is left out where there is such a name."""
    if tag:
        return size, int(time) * 10**9, int(hashlib.sha256(tag.encode()).hexdigest()[:12], 16)
    return (size, round(time * 1e6) * 1000, 0) if time else None
