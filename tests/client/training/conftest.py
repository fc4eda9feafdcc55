"""Put this folder on the path, so that its tests share `tiny`; save each tiny model once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Return the folder of the tiny model of a family, saved as transformers saves it."""
    made = {}

    def folder(family):
        if family not in made:
            made[family] = tiny.save(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder
