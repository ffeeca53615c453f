"""OUT in each kind of store, for tests that hold for all: a folder here, fsspec's memory, S3 as moto serves it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gradviz_cli.batch import manifest
from gradviz_cli.batch.bucket import standing_for
from gradviz_cli.batch.engines import LOCAL
from gradviz_cli.files import objects
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.plan.plan import Plan

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "not-to-be-seen",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# What differs from run to run.
PASSING = ("time", "seconds", "stamps", "image_stamp", "source", "model", "proved")


@dataclass(frozen=True)
class Out:
    """One OUT, and the engine of the runs that write there."""

    place: Place
    engine: str = LOCAL

    def plan(self, plan: Plan) -> Plan:
        plan = replace(plan, engine=self.engine)
        return replace(plan, url=str(self.place)) if isinstance(self.place, Remote) else replace(plan, out=self.place)

    def files(self) -> dict[str, bytes]:
        """Pictures and arrays by name."""
        if isinstance(self.place, Path):
            found = {
                str(path.relative_to(self.place)): path.read_bytes() for path in self.place.rglob("*") if path.is_file()
            }
        else:
            every = objects.everything(self.place)
            found = {one.place.below(self.place) or "": objects.read(one.place, one.size) for one in every}
        return {name: data for name, data in sorted(found.items()) if name.endswith((".png", ".npy"))}

    def others(self) -> list[str]:
        """What is there besides."""
        if isinstance(self.place, Path):
            names = [str(path.relative_to(self.place)) for path in self.place.rglob("*") if path.is_file()]
        else:
            names = [one.place.below(self.place) or "" for one in objects.everything(self.place)]
        pictures = self.files()
        return sorted(name for name in names if name not in pictures)

    def lines(self) -> list[dict[str, Any]]:
        if isinstance(self.place, Path):
            return list(manifest.read(self.place))
        with standing_for(self.place) as bucket:
            bucket.lines()
            return list(manifest.read(bucket.folder))

    def told(self) -> list[str]:
        """The lines without what differs from run to run."""
        return [
            json.dumps({name: value for name, value in line.items() if name not in PASSING}, sort_keys=True)
            for line in self.lines()
        ]

    def write(self, name: str, data: bytes) -> None:
        if isinstance(self.place, Path):
            (self.place / name).write_bytes(data)
        else:
            objects.put(self.place / name, data)

    def remove(self, name: str) -> None:
        if isinstance(self.place, Path):
            (self.place / name).unlink()
        else:
            objects.remove(self.place / name)


@contextmanager
def memory() -> Iterator[Remote]:
    fsspec = pytest.importorskip("fsspec")
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield Remote("memory", "bucket")
    found.store.clear()


@contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """A server of this process, with one bucket."""
    pytest.importorskip("s3fs")
    served = pytest.importorskip("moto.server")
    server = served.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    objects._system.cache_clear()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        bucket = Remote("s3", f"tests-{secrets.token_hex(8)}")
        objects.system(bucket).mkdir(bucket.path)
        yield bucket
    finally:
        server.stop()
        objects._system.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()
