"""Put this folder and the village's on the path, so that the tests share `deployment` and `village`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "protocols")]
