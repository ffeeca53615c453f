"""The modules of this folder are found by their bare names, here and by `run.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
