"""What the tests of speaking homes share: a server on loopback, and the villages."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that these tests share `loopback`
sys.path.insert(1, str(Path(__file__).parents[2] / "protocols"))  # and `village`

from loopback import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()
