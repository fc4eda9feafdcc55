"""What training remembers survives restarts and crashes, begins where it began, and stays at home."""

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.state import MOST_SESSIONS, FolderStates, MemoryStates, States


@pytest.fixture(params=["memory", "folder"])
def states(request: pytest.FixtureRequest, tmp_path: Path) -> States:
    return MemoryStates() if request.param == "memory" else FolderStates(tmp_path / "state")


def arrays(value: float) -> dict[str, np.ndarray]:
    return {"norm": np.array(value), "moments": np.full((2, 3), value, np.float32), "count": np.array([7], np.int64)}


def test_a_letter_begins_from_the_newest_state_before_its_own(states: States) -> None:
    assert states.before("s", 0) == {}
    states.keep("s", 0, arrays(1.0))
    assert states.before("s", 0) == {}
    assert states.before("s", 1)["norm"] == 1.0
    states.keep("s", 3, arrays(2.0))
    assert states.before("s", 3)["norm"] == 1.0
    assert states.before("s", 9)["norm"] == 2.0


def test_a_letter_that_is_worked_on_again_begins_where_it_began(states: States) -> None:
    states.keep("s", 1, arrays(1.0))
    for attempt in (2.0, 3.0):  # killed after the first; its state was on disk
        assert states.before("s", 2)["norm"] == 1.0
        states.keep("s", 2, arrays(attempt))
    assert states.before("s", 3)["norm"] == 3.0


def test_states_keep_their_shapes_types_and_bits(states: States) -> None:
    kept = arrays(0.1)
    states.keep("s", 0, kept)
    found = states.before("s", 1)
    assert set(found) == set(kept)
    for name, array in kept.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)


def test_sessions_do_not_see_each_other_and_old_ones_are_forgotten(states: States) -> None:
    for n in range(MOST_SESSIONS + 3):
        states.keep(f"s{n}", 0, arrays(float(n)))
    assert states.before(f"s{MOST_SESSIONS + 2}", 1)["norm"] == MOST_SESSIONS + 2
    assert states.before("s3", 1)["norm"] == 3.0
    assert states.before("s2", 1) == {}


def test_what_is_handed_out_is_no_window_into_what_is_kept() -> None:
    states, kept = MemoryStates(), arrays(1.0)
    states.keep("s", 0, kept)
    kept["norm"][...] = 5.0
    states.before("s", 1)["norm"][...] = 6.0
    assert states.before("s", 1)["norm"] == 1.0


def test_a_new_process_finds_what_the_last_one_left(tmp_path: Path) -> None:
    FolderStates(tmp_path / "state").keep("s", 4, arrays(4.0))
    assert FolderStates(tmp_path / "state").before("s", 5)["norm"] == 4.0


def test_only_the_owner_reads_a_state_and_its_name_says_nothing(tmp_path: Path) -> None:
    states = FolderStates(tmp_path / "state")
    states.keep("../../canary", 0, arrays(1.0))
    (file,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert "canary" not in file.name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state"]


def test_a_session_keeps_two_files_however_many_letters_it_has(tmp_path: Path) -> None:
    states = FolderStates(tmp_path / "state")
    for number in range(9):
        states.keep("s", number, arrays(float(number)))
    assert len(list((tmp_path / "state").iterdir())) == 2
    assert states.before("s", 8)["norm"] == 7.0


@pytest.mark.parametrize("size", [0, 5, 60])
def test_a_damaged_state_is_a_fresh_start_and_no_error(tmp_path: Path, size: int) -> None:
    states = FolderStates(tmp_path / "state")
    states.keep("s", 0, arrays(1.0))
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(file.read_bytes()[:size])
    assert states.before("s", 1) == {}
    states.keep("s", 1, arrays(2.0))
    assert states.before("s", 2)["norm"] == 2.0


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-9, 9)), max_size=12), st.integers(0, 6))
def test_memory_and_files_remember_the_same(
    tmp_path_factory: pytest.TempPathFactory, kept: list[tuple[int, float]], asked: int
) -> None:
    memory, files = MemoryStates(), FolderStates(tmp_path_factory.mktemp("s") / "state")
    for number, value in kept:
        for states in (memory, files):
            states.keep("s", number, {"x": np.array(value)})
    found = [states.before("s", asked) for states in (memory, files)]
    assert [{k: float(v) for k, v in f.items()} for f in found[:1]] == [
        {k: float(v) for k, v in f.items()} for f in found[1:]
    ]
