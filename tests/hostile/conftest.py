"""Worlds and models for the tests of the sandbox and of what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hostile_models as hostile
import pytest
from hostile.confinement import World as Attacked
from hostile.pool import LITTLE_MEMORY
from hostile_models import World
from workers import Pool


@pytest.fixture(scope="session")
def w(tmp_path_factory) -> Iterator[World]:
    with hostile.world(tmp_path_factory.mktemp("hostile")) as world:
        yield world


@pytest.fixture(scope="session")
def pool(w: World) -> Iterator[Pool]:
    pool = Pool(w.models, w.models.parent / "scratch", LITTLE_MEMORY)
    yield pool
    pool.close()


@pytest.fixture
def plain_model(w: World) -> Path:
    folder = w.models / "plain"
    if not folder.exists():
        hostile.save(folder, hostile.network())
    return folder


@pytest.fixture(scope="module")
def make_world(tmp_path_factory):
    with ExitStack() as stack:
        yield lambda: Attacked(tmp_path_factory.mktemp("world"), stack)


@pytest.fixture
def world(make_world):
    return make_world()
