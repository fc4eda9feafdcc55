"""Put this folder and the village's on the path, so that the tests share `deployment` and `village`."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "protocols")]

import pytest  # noqa: E402
from deployment import until  # noqa: E402
from streaming import Town  # noqa: E402


@pytest.fixture
def own_town(tmp_path: Path) -> Iterator[Town]:
    """Return a coordinator with its hub, and three homes, for one test alone."""
    made = Town.make(tmp_path)
    made.up()
    yield made
    made.stop()


@pytest.fixture
def stream(town: Town) -> Iterator[str]:
    """Return a stream that all homes of the file's own `town` have dialled, closed after the test.

    A home keeps no more than four.
    """
    name = town.dialled()
    yield name
    with town.control() as control:
        control.delete(f"/streams/{name}")
    until(lambda: not town.here(name))
