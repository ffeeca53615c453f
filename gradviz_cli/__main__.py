"""`python -m gradviz_cli`: the same program as `gradviz`."""

import sys

from gradviz_cli.cli import main


def run() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
