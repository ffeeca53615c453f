"""What is said of arguments that were meant otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradviz_cli.cli import main


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("m x.png", "there is no command m; did you mean gradviz explain m x.png?"),
        ("m", "there is no command m; did you mean gradviz inspect m?"),
        ("m --json", "there is no command m; did you mean gradviz inspect m --json?"),
        ("insepct m", "there is no command insepct; did you mean inspect?"),
        ("q", "there is no command q; the commands are explain, inspect, "),
        (
            "inspect m x.png y.png",
            "inspect takes a MODEL alone, and not x.png behind it; for images give --image x.png",
        ),
        (
            "inspect m --json x.png",
            "inspect takes a MODEL alone, and not x.png behind it; for images give --image x.png",
        ),
        ("inspect m --nothing", "inspect has no option --nothing; see gradviz inspect --help-all"),
    ],
)
def test_what_was_meant_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], argv: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    assert main(argv.split()) == 2
    assert capfd.readouterr().err.startswith(f"gradviz: {said}")
