"""Worlds and models for the tests of the sandbox and of what it holds."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hostile.confinement import World


@pytest.fixture(scope="module")
def make_world(tmp_path_factory):
    with ExitStack() as stack:
        yield lambda: World(tmp_path_factory.mktemp("world"), stack)


@pytest.fixture
def world(make_world):
    return make_world()
