"""Workers that were taken over: whatever they answer, the command ends them, believes nothing and goes on."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hostile.lying_workers import EXPLAINING, GOOD, LOADING, Taken
from hostile.pool import explained
from hostile_models import SIDE
from PIL import Image

from gradviz_cli import cli
from gradviz_cli.errors import ModelRefused, ModelUnusable, UsageError
from gradviz_cli.estimators import Taps
from gradviz_cli.model import remote
from gradviz_cli.model.remote import Batch, RemoteModel
from gradviz_cli.process import wire
from gradviz_cli.process.protocol import Explain, Failure
from gradviz_cli.process.supervisor import ChildLost


@pytest.mark.parametrize("behaviour", LOADING)
def test_a_worker_that_lies_at_load_is_ended(behaviour: str, plain_model: Path) -> None:
    doing, says = LOADING[behaviour]
    model = Taken(plain_model, doing, load_timeout=1.0 if says == "no answer" else 20.0)
    try:
        with pytest.raises(ModelUnusable, match=re.escape(says)) as raised:
            model.load()
        assert str(raised.value).isprintable()
        if "error" not in behaviour and "codes" not in behaviour:
            assert model._child._process.poll() is not None
    finally:
        model.close()


def test_a_worker_may_ask_for_no_giant_picture(plain_model: Path) -> None:
    model = Taken(plain_model, "facts['facts']['size'] = [100000, 100000]; send(facts)")
    try:
        with pytest.raises(ModelRefused, match="100000x100000"):
            model.load()
    finally:
        model.close()


def test_a_worker_may_ask_for_no_giant_map_of_a_layer(plain_model: Path) -> None:
    taps = asdict(Taps("cam", ("x:0",), (100000, 100000)))
    model = Taken(plain_model, f"facts['facts']['taps'] = [{taps!r}]; send(facts)", method="backprop.grad-cam")
    try:
        with pytest.raises(ModelRefused, match="100000x100000"):
            model.load()
    finally:
        model.close()


@pytest.mark.parametrize("behaviour", EXPLAINING)
def test_a_worker_that_lies_about_an_image_costs_the_image(behaviour: str, plain_model: Path) -> None:
    doing, kind = EXPLAINING[behaviour]
    model = Taken(plain_model, "send(facts)", GOOD + doing, timeout=0.5 if kind == "timeout" else 20.0)
    try:
        model.load()
        row = explained(model)
        assert row.kind == kind
        assert row.message.isprintable()
        if kind != "model":  # three in a row are the model's fault
            explained(model)
            with pytest.raises(ModelUnusable, match="3 different images"):
                explained(model)
    finally:
        model.close()


ASKED = Explain((-1,), ("backprop",))


@pytest.mark.parametrize("killed", [True, False])
def test_a_worker_that_is_killed_while_it_loads_is_tried_once_more(killed: bool, plain_model: Path, tmp_path) -> None:
    """Somebody's kill may be an accident; a crash, or a second kill, is none."""
    first, second = tmp_path / "first", tmp_path / "second"
    once = f"open({str(first)!r}, 'x'); os.kill(os.getpid(), signal.SIGKILL)"
    loading = f"""
if not os.path.exists({str(first)!r}):
    {once if killed else once.replace("SIGKILL", "SIGSEGV")}
open({str(second)!r}, 'x')
send(facts)
"""
    model = Taken(plain_model, loading)
    try:
        if killed:
            assert model.load().facts.classes == 4
        else:
            with pytest.raises(ModelUnusable, match="SIGSEGV"):
                model.load()
        assert first.exists() and second.exists() == killed
    finally:
        model.close()


def test_a_worker_that_is_always_killed_is_tried_twice(plain_model: Path, tmp_path: Path) -> None:
    count = tmp_path / "count"
    model = Taken(plain_model, f"open({str(count)!r}, 'a').write('x'); os.kill(os.getpid(), signal.SIGKILL)")
    try:
        with pytest.raises(ModelUnusable, match="memory ran out"):
            model.load()
        assert count.read_text() == "xx"
    finally:
        model.close()


def test_what_a_worker_left_is_not_the_fault_of_the_next(plain_model: Path) -> None:
    """It was ended for its temporary files; the one that takes its place must not be."""
    explaining = f"""
{GOOD}
if arrays[0].max() > 2:
    os.posix_fallocate(os.open("f", 65), 0, 2**28 + 1)
    time.sleep(99)
say(i, i, f, f, g)
"""
    model = Taken(plain_model, "send(facts)", explaining)
    try:
        model.load()
        assert list(model.explain(np.full([1, SIDE, SIDE, 3], 9, np.float32), ASKED))[0].kind == "crash"
        assert explained(model).gradients["backprop"].shape == (1, SIDE, SIDE, 3)
    finally:
        model.close()


def test_an_honest_fake_is_believed(plain_model: Path) -> None:
    """The fake itself works: what is refused above is refused for what it does."""
    model = Taken(plain_model, "send(facts)", GOOD + "say(i, i, f, f, g)")
    try:
        assert model.load().facts.classes == 4
        assert explained(model).gradients["backprop"].shape == (1, SIDE, SIDE, 3)
    finally:
        model.close()


def test_a_worker_that_does_not_listen_is_not_waited_for(plain_model: Path) -> None:
    """The request is larger than a pipe holds."""
    model = Taken(plain_model, "send(facts); time.sleep(99)", timeout=0.5)
    try:
        model.load()
        many = np.zeros([4000, SIDE, SIDE, 3], np.float32)
        model._request = ASKED
        start = time.monotonic()
        with pytest.raises(ChildLost, match="no answer"):
            model._ask(Batch((many,)))
        assert time.monotonic() - start < 5
    finally:
        model.close()


@pytest.mark.parametrize(("loading", "code"), [("raw(bytes(100))", 5), ("os.abort()", 5), ("send({})", 5)])
def test_the_command_ends_in_order_with_a_worker_that_lies(
    loading, code, plain_model, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("a.png")

    def start(self, path, files, ahead=False):
        fake = Taken(plain_model, loading)
        self._folder()
        fake._scratch = self._scratch
        return fake._start(path, files)

    monkeypatch.setattr(RemoteModel, "_start", start)
    assert cli.main(["explain", str(plain_model), "a.png", "-m", "backprop", "-o", "out"]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "internal error" not in said


def test_texts_are_made_printable_and_short() -> None:
    assert wire.plain({"a\n": ["b\x1b", 1, None, {"c": "d\u202e"}]}) == {"a\\n": ["b\\x1b", 1, None, {"c": "d\\u202e"}]}
    error = remote._as_exception(Failure("UsageError", "x" * 10**6, "y"), "m")
    assert isinstance(error, UsageError)
    assert len(str(error)) < 1200
