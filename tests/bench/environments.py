"""One virtual environment for each peer, under a cache folder, with pinned versions."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

COMMON = ("numpy==2.4.6", "pillow==13.0.0", "matplotlib==3.10.8")
TENSORFLOW = ("tensorflow==2.21.0", "keras==3.15.1")

# Environment -> calls of pip, in order. xplique asks for TensorFlow <= 2.20, which would compare two TensorFlows
# rather than two tools: it goes in without its own pins and runs on 2.21.
PACKAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "plain": ((*COMMON, *TENSORFLOW),),
    "xplique": (
        (
            *(*COMMON, *TENSORFLOW, "tf_keras==2.21.0", "tensorflow-probability==0.25.0"),
            *("scipy", "scikit-learn", "scikit-image", "opencv-python-headless", "einops", "deprecated"),
        ),
        ("--no-deps", "xplique==2.0.2"),
    ),
    "tf-keras-vis": ((*COMMON, *TENSORFLOW, "tf-keras-vis==0.8.7"),),
    "captum": ((*COMMON, "torch==2.13.0", "captum==0.9.0"),),
    "cams": ((*COMMON, "torch==2.14.1", "torchvision==0.29.1", "captum==0.9.0", "grad-cam==1.5.7", "torchcam==0.5.0"),),
    "saliency": ((*COMMON, *TENSORFLOW, "saliency==0.2.1"),),
}


def cache() -> Path:
    """Where environments, models and images are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GRADVIZ_BENCH_CACHE") or Path(home) / "gradviz-bench")


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made unless it is there with these very packages.

    Raises
    ------
    RuntimeError
        With pip's last line, when a package cannot be installed.
    """
    folder = cache() / "environments" / name
    python, mark = folder / "bin" / "python", folder / "complete"
    wanted = hashlib.sha256(repr((sys.version, PACKAGES[name])).encode()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return python
    print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    for packages in PACKAGES[name]:
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    mark.write_text(wanted)
    return python


def versions(python: Path, *packages: str) -> dict[str, str]:
    """Package -> its version in that environment."""
    code = "import sys, importlib.metadata as m; print(*(m.version(name) for name in sys.argv[1:]))"
    said = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, check=True).stdout
    return dict(zip(packages, said.split(), strict=True))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise RuntimeError(lines[-1] if lines else f"{command[0]} ended with {done.returncode}")


if __name__ == "__main__":
    for each in sys.argv[1:] or PACKAGES:
        try:
            python_of(each)
            print(each, "installed")
        except RuntimeError as error:
            print(each, "not installed:", error)
