"""The environment that a child process is started with, and where its software lies."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gradviz_cli.process import machine

# NumPy's library starts threads when it is loaded, which takes half of its import; only products of matrices would use them,
# and nobody here or in a child asks NumPy for one.
THREADS = "OPENBLAS_NUM_THREADS"

# TensorFlow asks oneDNN for its kernels by itself only on processors with instructions for neural networks; on others they take
# four fifths of the time of its own.
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"

# HDF5 would lock what it reads, which the walls forbid.
LOCKING = "HDF5_USE_FILE_LOCKING"

PACKAGE = Path(__file__).resolve().parents[2]

# Names, not prefixes, wherever another program uses the prefix for secrets: TF_VAR_* and TF_TOKEN_* are
# Terraform's, NVIDIA_API_KEY is a credential.
_KEPT_NAMES = """
    LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH PYTHONHOME PYTHONHASHSEED MALLOC_ARENA_MAX GLIBC_TUNABLES
    TF_CPP_MIN_LOG_LEVEL TF_CPP_MAX_VLOG_LEVEL TF_CPP_VMODULE TF_ENABLE_ONEDNN_OPTS TF_NUM_INTRAOP_THREADS
    TF_NUM_INTEROP_THREADS TF_FORCE_GPU_ALLOW_GROWTH TF_GPU_ALLOCATOR TF_GPU_THREAD_MODE TF_GPU_THREAD_COUNT
    TF_GPU_HOST_MEM_LIMIT_IN_MB TF_CUDNN_USE_AUTOTUNE TF_CUDNN_DETERMINISTIC TF_DETERMINISTIC_OPS
    TF_XLA_FLAGS XLA_FLAGS CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_HOME CUDA_PATH CUDA_MODULE_LOADING
    CUDA_CACHE_DISABLE CUDA_FORCE_PTX_JIT CUDA_LAUNCH_BLOCKING NVIDIA_VISIBLE_DEVICES
    NVIDIA_DRIVER_CAPABILITIES NVIDIA_TF32_OVERRIDE
"""
_KEPT_PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_")


def scrubbed_environment(scratch: str | os.PathLike, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a worker: what Python and TensorFlow need, and no token, credential or proxy.

    Home, temporary and Keras folders lie in `scratch`. Modules must not come from the current folder, which
    may be a stranger's: PYTHONSAFEPATH is set (Python 3.11; for 3.10 start the worker with `scratch` as its
    current folder), PYTHONPATH is made absolute, and the folder of a gradviz that runs from a checkout is put
    into it. `extra` is applied last and wins.
    """
    scratch = os.path.abspath(scratch)
    kept = {k: v for k, v in os.environ.items() if k in _KEPT_NAMES.split() or k.startswith(_KEPT_PREFIXES)}
    search = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if not installed(PACKAGE.parent):
        search.append(str(PACKAGE.parent))
    if search:
        kept["PYTHONPATH"] = os.pathsep.join(search)
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        THREADS: "1",
        **({ONEDNN: "1"} if machine.has_onednn() else {}),
        LOCKING: "FALSE",
        **kept,
        "LANG": "C.UTF-8",
        "HOME": scratch,
        "TMPDIR": scratch,
        "KERAS_HOME": os.path.join(scratch, ".keras"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        **(extra or {}),
    }


def software() -> Iterator[str]:
    """Where Python, its packages and the libraries they link to are, and no user's folder by accident."""
    yield str(PACKAGE)
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        # Not the prefix itself: a virtual environment made in a home folder has that folder as its prefix.
        yield from (os.path.join(prefix, name) for name in ("lib", "lib64", "ssl", "nvvm", "targets"))
    linked = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    yield from (p for p in (*sys.path, *linked) if p and not private(os.path.realpath(p)))


def installed(folder: Path) -> bool:
    return folder.name in ("site-packages", "dist-packages")


def private(path: str) -> bool:
    """True if a search path entry holds more than software: the home folder, the current one, a checkout."""
    try:
        home = os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's user may have no entry
        home = "/"
    if path == "/" or (home + "/").startswith(path + "/") or path == os.path.realpath(os.curdir):
        return True
    return path == str(PACKAGE.parent) and not installed(PACKAGE.parent)
