"""Images, and what one run over them wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from command.batches import pictures
from commands import (
    gradviz,
)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("photos") / "photos", 40, per_folder=10)


@pytest.fixture(scope="session")
def done(tmp_path_factory, model: Path, photos: Path) -> Path:
    """What one run over `photos` wrote. Not to be changed; copy it."""
    folder = tmp_path_factory.mktemp("done")
    run = gradviz("explain", model, photos, "-o", "out", "--raw", cwd=folder)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    return folder / "out"
