"""What tests of several rooms share."""

from __future__ import annotations

import os
import signal
import tempfile

import odd_images
import pytest


@pytest.fixture
def no_hang():
    """A test that blocks fails after 30 s."""

    def stop(*_):
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="gradviz-tests-") as folder:
        os.chmod(folder, 0o755)
        yield folder


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> list[odd_images.Case]:
    """The catalogue of odd images, written."""
    return odd_images.catalogue(tmp_path_factory.mktemp("odd"))
