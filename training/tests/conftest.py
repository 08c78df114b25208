"""Makes the packages of training/ importable; see training/README.md for how to run the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
