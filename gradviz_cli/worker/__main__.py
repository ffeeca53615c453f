"""The process that differentiates: gives up what it does not need, then answers `load` and `explain` over its pipe."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

from gradviz_cli.process import machine
from gradviz_cli.process.sandbox import enter


def main(argument: str) -> None:
    """Serve requests until the other side closes the pipe."""
    config = json.loads(argument)
    limits = {name: config[name] for name in ("memory_limit", "file_limit") if name in config}
    gpu = config.get("gpu", False) and machine.has_gpu()
    confined = enter.enter(config["read"], config["scratch"], parent=config["parent"], gpu=gpu, **limits)
    # Only now anything large: what follows is bound by the sandbox.
    ahead = config.get("ahead", False)
    if ahead:
        from gradviz_cli.worker.graph import tf_names

        with suppress(ImportError, OSError, RuntimeError):  # the first request meets the same, and says it
            tf_names.load_library()
    from gradviz_cli.worker.serve import serve

    serve(config["in"], config["out"], confined, ahead)


if __name__ == "__main__":
    main(sys.argv[1])
