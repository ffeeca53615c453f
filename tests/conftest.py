"""What all tests share: a quiet TensorFlow that leaves the home folder alone, and temporary files of their own."""

import atexit
import gc
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path

import pytest

_home = tempfile.TemporaryDirectory(prefix="gradviz-tests-")
atexit.register(_home.cleanup)

# Importing TensorFlow writes `keras.json` into KERAS_HOME, by default into the user's home.
os.environ["KERAS_HOME"] = os.path.join(_home.name, "keras")
# Tests run several at once, and some look at what a run of their own left among the temporary files.
os.environ["TMPDIR"] = os.path.join(_home.name, "tmp")
os.mkdir(os.environ["TMPDIR"])
os.chmod(_home.name, 0o755)  # some become another user, who has to come through
# What is unpacked or converted is kept there.
os.environ["XDG_CACHE_HOME"] = os.path.join(_home.name, "cache")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if platform.machine() == "x86_64":  # as the worker computes
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# While tests are collected next to nothing is let go, and looking for it takes a seventh of the time.
gc.disable()
# What is started in the background, or by nohup, ignores these, and so would the runs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def whole_float32() -> None:
    """On a GPU TensorFlow would round what tests compare with to 10 bits."""
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """Tiny models in one folder: `tiny`, and one for each trap."""
    import tiny  # not before the environment above stands, as it imports TensorFlow

    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder / "tiny")
    for trap in (tiny.hangs, tiny.eats_memory, tiny.needs_memory, tiny.fails):
        tiny.write(folder / trap.__name__, trap)
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """A worker for the models of many tests, and for runs of the command (`workers.Pool`)."""
    from workers import Pool

    from gradviz_cli import demo

    folder = tmp_path_factory.getbasetemp()
    pool = Pool(folder, tmp_path_factory.mktemp("pool") / "scratch", also=[demo.MODEL])
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def model(models: Path) -> Path:
    return models / "tiny"
