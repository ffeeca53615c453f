"""A run whose power is cut: `python -m command.power_cut OUT IMAGES CUT NAMES LEFT [I/N]` runs until the CUT-th sync (0: to the end).

LEFT then holds what a disk would: of each file the bytes, of each folder the names, that were there when it was last synced.
With NAMES `all` names have come as far as they got, as some file systems write them early; then files may be empty. With
`killed` the process is killed there, and nothing else happens.
The explainer is the one of the unit tests, so that nothing takes long.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from pathlib import Path

from unit.batch.conftest import FakeExplainer

from gradviz_cli.batch import pipeline
from gradviz_cli.batch.run import run
from gradviz_cli.images.listing import Inputs
from gradviz_cli.plan import values
from gradviz_cli.plan.outputs import WHOLE, Shard
from gradviz_cli.plan.plan import Drawing, Plan
from gradviz_cli.process.protocol import ModelOptions

CUT = 9  # how the process exits then

Names = dict[str, tuple[int, bool]]  # name -> inode, whether it is a folder


class Disk:
    """What was synced, by inode; ends the process at the sync that is asked for."""

    def __init__(self, out: Path, cut: int, names: str, left: Path):
        self.syncs, self._cut, self._out, self._left = 0, cut, out, left
        self._early, self._killed = names == "all", names == "killed"
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, Names] = {}
        self._real, self._guard = os.fsync, threading.Lock()

    def sync(self, handle: int) -> None:
        self._real(handle)
        with self._guard:
            status = os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                self._folders[status.st_ino] = _names(handle)
            else:
                self._files[status.st_ino] = os.pread(handle, status.st_size, 0) if _readable(handle) else b""
            self.syncs += 1
            if self.syncs == self._cut and self._killed:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.syncs == self._cut:
                self._leave(os.stat(self._out).st_ino, self._out, self._left)
                os._exit(CUT)

    def _leave(self, inode: int, now: Path, then: Path) -> None:
        then.mkdir()
        known = _names(now) if self._early and now.is_dir() else self._folders.get(inode, {})
        for name, (number, is_folder) in known.items():
            if is_folder:
                self._leave(number, now / name, then / name)
            else:
                (then / name).write_bytes(self._files.get(number, b""))


def _names(folder: int | Path) -> Names:
    with os.scandir(folder) as entries:
        return {one.name: (one.inode(), one.is_dir(follow_symlinks=False)) for one in entries}


def _readable(handle: int) -> bool:
    import fcntl

    return fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY


def explained(out: Path, images: Path, shard: Shard = WHOLE, **more: int) -> int:
    """Exit code of a run with the stand-in."""
    model = images.with_name("model")
    model.mkdir(exist_ok=True)
    if not (model / "saved_model.pb").exists():
        (model / "saved_model.pb").write_bytes(b"a graph")
    pipeline.Explainer = FakeExplainer  # type: ignore[misc, assignment]
    drawing = Drawing(modes=("backprop", "guided"), raw=True)
    plan = Plan(ModelOptions(str(model)), out, drawing, **{"jobs": 2, "batch_size": 2, **more})  # type: ignore[arg-type]
    return int(run(plan, Inputs((images,), out, shard=shard)).exit_code(True))


def main(out: str, images: str, cut: str, names: str, left: str, shard: str = "1/1") -> int:
    disk = Disk(Path(out), int(cut), names, Path(left))
    os.fsync = disk.sync
    code = explained(Path(out), Path(images), values.shard(shard))
    print(disk.syncs)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
