"""Where the bytes of an image come from: a file of this machine, or an object of a store."""

from __future__ import annotations

import hashlib
import os

from gradviz_cli.errors import ImageError
from gradviz_cli.files import objects, reading
from gradviz_cli.files.objects import StoreError
from gradviz_cli.files.reading import Limits, Stamp, check_size, hash_file, read_bytes, read_stamped
from gradviz_cli.files.remote import Remote, is_url
from gradviz_cli.plan import values
from gradviz_cli.plan.plan import Job


def content(job: Job, limits: Limits) -> tuple[bytes, Stamp | None]:
    """The bytes of an image, and its stamp while it was read, as `files.reading.read_stamped`.

    Raises
    ------
    ImageError
        Also of an object that cannot be had.
    """
    file = job.file
    if not isinstance(file, Remote):
        return read_stamped(file, limits)
    try:
        found = _object(job, file)
        check_size(found.size, limits)
        data = objects.read(file, found.size + 1)  # one more shows that it has grown
    except StoreError as error:
        raise ImageError(error.kind, f"cannot be read: {error}") from error
    check_size(len(data), limits)
    return data, found.stamp if len(data) == found.size else None


def bytes_at(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """The bytes of an image by its path or its URL. Raises ImageError as `content`, also for a URL that is none of a store."""
    if not is_url(os.fsdecode(path)):
        return read_bytes(path, limits)
    try:
        return content(Job(values.location(path), ""), limits)[0]
    except ValueError as error:
        raise ImageError("missing", str(error)) from None


def stamp_now(job: Job) -> Stamp | None:
    """The stamp of an image as it is there now; None where nobody can tell. Nothing of it is read."""
    if not isinstance(job.path, Remote):
        return reading.stamp_at(job.path)
    try:
        return _object(job, job.path).stamp
    except (StoreError, ImageError):
        return None


def size_of(job: Job) -> int:
    """The bytes of an object as its folder was listed; 0 where that is not known."""
    return job.stamp[0] if job.stamp else 0


def hashed(job: Job, limits: Limits) -> str | None:
    """SHA-256 of an image; None where it cannot be read."""
    if not isinstance(job.file, Remote):
        found = hash_file(job.file, limits.max_file_size)
        return found[0] if found else None
    try:
        return hashlib.sha256(content(job, limits)[0]).hexdigest()
    except ImageError:
        return None


def _object(job: Job, place: Remote) -> objects.Found:
    """As its folder was listed, or else as the store says now."""
    if job.stamp:
        return objects.Found(place, False, job.stamp[0], job.stamp)
    found = objects.look(place)
    if found.is_folder:
        raise ImageError("not-a-file", "is a folder, not an object")
    return found
