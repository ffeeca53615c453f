"""What may be given as MODEL, and what it stands for."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.model import forms
from gradviz_cli.model.fingerprint import of_model
from gradviz_cli.model.forms import check_order, check_out, chosen, home, ready, resolve

GRAPH = b"\n\x3a\n\x05input\x12\x0bPlaceholder"
HDF5 = b"\x89HDF\r\n\x1a\n"
PNG = b"\x89PNG\r\n\x1a\n"


def model(folder: Path, graph: bytes = b"\x08\x01\x12\x00") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(graph)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def never(file: Path, form: str) -> bytes:
    raise AssertionError("nothing is to be converted")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gradviz"


def made(cache: Path) -> list[str]:
    return sorted(entry.name for entry in cache.iterdir()) if cache.exists() else []


# -- folders


def test_the_folder_and_the_graph_in_it(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    assert resolve(folder) == folder
    assert resolve(folder / "saved_model.pb") == folder


def test_versions_of_tensorflow_serving(tmp_path: Path) -> None:
    for version in ("1", "2", "10"):
        model(tmp_path / "birds" / version)
    (tmp_path / "birds" / "11" / "variables").mkdir(parents=True)  # half copied
    model(tmp_path / "birds" / ".12")  # as rsync names what is under way
    assert resolve(tmp_path / "birds") == tmp_path / "birds" / "10"
    assert of_model(resolve(tmp_path / "birds")) == of_model(tmp_path / "birds" / "10")


def test_a_version_may_be_a_link(tmp_path: Path) -> None:
    model(tmp_path / "birds" / "1")
    (tmp_path / "birds" / "2").symlink_to(model(tmp_path / "elsewhere"))
    assert resolve(tmp_path / "birds") == tmp_path / "birds" / "2"


def test_the_one_model_below(tmp_path: Path) -> None:
    deep = model(tmp_path / "run" / "export" / "best")
    (tmp_path / "run" / "logs").mkdir()
    (tmp_path / "run" / "circle").symlink_to(tmp_path / "run")
    assert resolve(tmp_path / "run") == deep


def test_what_was_taken_is_said_where_it_is_another_path(tmp_path: Path) -> None:
    for version in ("9", "10"):
        model(tmp_path / "birds" / version)
    (tmp_path / "birds" / "8").mkdir()
    (tmp_path / "birds" / "11" / "variables").mkdir(parents=True)
    assert chosen(tmp_path / "birds", tmp_path / "birds" / "10") == [
        f"{tmp_path}/birds/10, found in {tmp_path}/birds; {tmp_path}/birds/11 is passed over: it holds no saved_model.pb"
    ]
    assert chosen(tmp_path / "birds" / "10", tmp_path / "birds" / "10") == []
    assert chosen(tmp_path / "birds" / "10" / "saved_model.pb", tmp_path / "birds" / "10") == []


def test_the_model_that_comes_with_gradviz_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed, ours = Path("demo"), forms.NAMED["demo"]
    assert (ours / "saved_model.pb").is_file()
    assert forms.named(typed) == resolve(typed) == ours
    assert chosen(typed, ours) == [f"{ours}: it comes with gradviz"]
    assert forms.named(tmp_path / "demo") == tmp_path / "demo"  # a path is no name
    with pytest.raises(UsageError, match="no such model"):
        resolve(Path("./other"))


def test_what_is_called_demo_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed, ours = Path("demo"), forms.NAMED["demo"]
    typed.mkdir()
    assert resolve(typed) == typed
    with pytest.raises(
        ModelUnusable, match="holds no saved_model.pb, and goes before the model of that name"
    ) as caught:
        ready(typed, never)
    assert str(ours) in str(caught.value)
    typed.rmdir()
    model(typed)
    assert ready(resolve(typed), never) == typed
    (said,) = chosen(typed, typed)
    assert said.startswith(f"{tmp_path}/demo: it goes before the model") and str(ours) in said


def test_images_before_the_model_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_bytes(PNG)
    check_order(Path("demo"), [Path("cat.png")])
    with pytest.raises(UsageError, match="but demo is one; MODEL comes first: gradviz explain demo cat.png"):
        check_order(Path("cat.png"), [Path("demo")])


@pytest.mark.parametrize(
    "typed, out, right",
    [
        ("m", "m", False),
        ("m", "link", False),
        ("m", "m/variables/maps", False),
        ("m/saved_model.pb", "m/maps", False),
        ("birds", "birds", False),
        ("birds", "birds/7", False),
        ("birds", "birds/maps", True),
        ("m", ".", True),
        ("m", "maps", True),
        ("m", "m-maps", True),
    ],
)
def test_what_is_written_is_no_part_of_a_model(tmp_path: Path, typed: str, out: str, right: bool) -> None:
    model(tmp_path / "m"), model(tmp_path / "birds" / "7")
    (tmp_path / "link").symlink_to("m")
    found = resolve(tmp_path / typed)
    if right:
        return check_out(tmp_path / typed, found, tmp_path / out)
    with pytest.raises(UsageError, match=f"--out {tmp_path}/{out} .*model {found}; give a folder of its own"):
        check_out(tmp_path / typed, found, tmp_path / out)


def test_of_several_none_is_taken(tmp_path: Path) -> None:
    for name in ("a", "b"):
        model(tmp_path / "all" / name)
    with pytest.raises(UsageError, match="holds several models: a, b; name the one that is meant"):
        resolve(tmp_path / "all")


def test_what_is_too_large_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another model, behind what was looked at, might be the one that is meant."""
    model(tmp_path / "all" / "a")
    for number in range(30):
        (tmp_path / "all" / f"x{number}").mkdir()
    monkeypatch.setattr(forms, "MAX_ENTRIES", 20)
    monkeypatch.setattr(forms, "_folders", lambda folder: ((name, False) for name in sorted(os.listdir(folder))))
    with pytest.raises(
        UsageError, match=f"too large to be searched for its models; name one, such as {tmp_path}/all/a"
    ):
        resolve(tmp_path / "all")


def test_a_folder_without_models_is_left_for_who_says_so(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    with pytest.raises(ModelUnusable, match="holds no saved_model.pb"):
        of_model(tmp_path)


@pytest.mark.parametrize(
    "typed", [".", "./", "../m", "saved_model.pb", "./saved_model.pb", "../link", "../link/", "../link/saved_model.pb"]
)
def test_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    folder = model(tmp_path / "m")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    assert resolve(Path(typed)).samefile(folder)


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model"):
        resolve(tmp_path / "none")
    (tmp_path / "model.ckpt-7.index").touch()
    with pytest.raises(ModelUnusable, match="name of a checkpoint"):
        resolve(tmp_path / "model.ckpt-7")


# -- files


def test_a_model_behind_a_closed_folder_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "closed_folder", lambda path: tmp_path)
    for typed in (tmp_path, tmp_path / "saved_model.pb", model(tmp_path / "m")):
        with pytest.raises(ModelUnusable, match=f"^{typed} cannot be read: the folder {tmp_path} may not be entered; "):
            resolve(typed)


def test_a_frozen_graph_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "frozen.pb").write_bytes(GRAPH)
    assert ready(resolve(tmp_path / "frozen.pb"), never) == tmp_path / "frozen.pb"


def test_a_frozen_graph_under_the_name_of_a_saved_model(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", GRAPH)
    assert resolve(folder) == resolve(folder / "saved_model.pb") == folder / "saved_model.pb"


def test_an_archive_is_unpacked_once(tmp_path: Path, cache: Path) -> None:
    folder = model(tmp_path / "birds" / "3")
    archive = Path(shutil.make_archive(str(tmp_path / "birds"), "zip", tmp_path, "birds"))
    unpacked = home(archive)
    assert of_model(unpacked) == of_model(folder)
    assert ready(archive, never) == unpacked
    assert len(made(cache)) == 1
    shutil.copy(archive, tmp_path / "copy.zip")
    assert home(tmp_path / "copy.zip") == unpacked, "it goes by the content"
    assert of_model(tmp_path / "copy.zip") == of_model(archive) != of_model(folder)


def test_a_file_of_keras_is_turned_once_for_each_content(tmp_path: Path, cache: Path) -> None:
    asked = []

    def convert(file: Path, form: str) -> bytes:
        asked.append((file.name, form))
        return b"graph"

    file = tmp_path / "m.h5"
    for content in (HDF5, HDF5, HDF5 + b"2"):
        file.write_bytes(content)
        assert (ready(file, convert) / "saved_model.pb").read_bytes() == b"graph"
    assert asked == [("m.h5", "hdf5")] * 2 and len(made(cache)) == 2
    ready(file, convert, "trusted")
    assert len(asked) == 3, "it depends on what may run"


def test_what_fails_is_not_kept(tmp_path: Path, cache: Path) -> None:
    def fails(file: Path, form: str) -> bytes:
        raise ModelUnusable("no")

    (tmp_path / "m.h5").write_bytes(HDF5)
    for _ in range(2):
        with pytest.raises(ModelUnusable, match="no"):
            ready(tmp_path / "m.h5", fails)
    assert made(cache) == []


def test_a_file_that_changes_meanwhile_is_not_kept(tmp_path: Path, cache: Path) -> None:
    """Its graph would be kept under the content of another one."""

    def slow(file: Path, form: str) -> bytes:
        file.write_bytes(HDF5 + b"new")
        return b"graph"

    (tmp_path / "m.h5").write_bytes(HDF5)
    with pytest.raises(ModelUnusable, match="changed while it was read"):
        ready(tmp_path / "m.h5", slow)
    assert made(cache) == []


def test_the_fingerprint_needs_neither_unpacking_nor_conversion(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "m.h5").write_bytes(HDF5)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("saved_model.pb", b"x")
    assert of_model(tmp_path / "m.h5") != of_model(tmp_path / "m.zip")
    assert made(cache) == []


# -- the order of the arguments


def swap_of(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(PNG)
    (tmp_path / "b c.png").write_bytes(PNG)
    (tmp_path / "m.h5").write_bytes(HDF5)
    for version in ("1", "2"):
        model(tmp_path / "birds" / version)
    return {name: tmp_path / name for name in ("photos", "b c.png", "m.h5", "birds", "none")}


@pytest.mark.parametrize("first, second", [("photos", "birds"), ("b c.png", "birds"), ("photos", "m.h5")])
def test_swapped_arguments_are_noticed(tmp_path: Path, first: str, second: str) -> None:
    paths = swap_of(tmp_path)
    with pytest.raises(UsageError, match="MODEL comes first") as caught:
        check_order(paths[first], [paths[second]])
    quoted = f"'{paths[first]}'" if " " in first else str(paths[first])
    assert f"gradviz explain {paths[second]} {quoted}" in str(caught.value)


@pytest.mark.parametrize("first, second", [("birds", "photos"), ("m.h5", "b c.png"), ("none", "birds"), ("birds", "m.h5"), ("photos", "b c.png")])  # fmt: skip
def test_other_orders_are_not(tmp_path: Path, first: str, second: str) -> None:
    paths = swap_of(tmp_path)
    check_order(paths[first], [paths[second]])


def test_a_glob_before_the_model(tmp_path: Path) -> None:
    paths = swap_of(tmp_path)
    with pytest.raises(UsageError, match="MODEL comes first"):
        check_order(paths["b c.png"], [paths["photos"], paths["birds"]])
