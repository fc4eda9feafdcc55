"""A run is written down trip by trip and goes on where it was cut off: same letters, same answers, no new charge."""

import json
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from deployment import order
from village import COORDINATOR, Village, village

from protocols.catalog import CATALOG
from protocols.faults import LocalError
from protocols.session import Carrier, MemberId
from protocols.weights.average import Averaged
from server import rounds
from server.journal import Journal, write_whole
from server.rounds import RunFolder, Who

A, B = MemberId("a"), MemberId("b")


class Killed(BaseException):
    """What `kill -9` looks like from within: nothing runs after it."""


class Road:
    """Carry letters to real mailboxes; die before or after the trip that is told."""

    def __init__(self, carrier: Carrier, dies: int | None = None, after: bool = False) -> None:
        self.carrier, self.dies, self.after = carrier, dies, after
        self.sent: list[dict[MemberId, bytes]] = []

    def __call__(self, letters: Mapping[MemberId, bytes]) -> Mapping[MemberId, bytes]:
        self.sent.append(dict(letters))
        dies = len(self.sent) - 1 == self.dies
        if dies and not self.after:
            raise Killed
        answers = self.carrier(letters)
        if dies:
            raise Killed
        return answers


def made(tmp_path: Path, town: Village, spec: bytes, session: str = "5e55") -> RunFolder:
    (tmp_path / "identity.key").write_bytes(COORDINATOR.to_pem())
    keys = {m: str(h.identity.public) for m, h in town.houses.items()}
    who = Who(session, str(tmp_path / "identity.key"), keys, dict.fromkeys(keys, "7"))
    return RunFolder.make(tmp_path / "run", spec, who)


def result(folder: RunFolder) -> Averaged:
    decoded = CATALOG["average"].wire.decode(folder.result.read_bytes())
    assert isinstance(decoded, Averaged)
    return decoded


def test_a_run_ends_in_a_result_and_a_line_for_every_trip(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses), rounds=3))
    rounds.run(folder, town.road)
    assert result(folder).answered == (3, 3, 3)
    assert [t["answered"] for t in folder.trips()] == [["m0", "m1", "m2"]] * 6  # opening, three rounds, farewell
    assert folder.ended
    assert folder.why() == {}
    assert all(stat.S_IMODE(f.stat().st_mode) & 0o077 == 0 for f in folder.journal.iterdir())


@pytest.mark.parametrize("after", [False, True], ids=["before the letters left", "before the answers were kept"])
@pytest.mark.parametrize("dies", range(6))
def test_a_killed_run_resumes_with_the_same_letters_and_charges_nobody_twice(
    tmp_path: Path, dies: int, after: bool
) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses), rounds=3))
    first = Road(town.road, dies, after)
    with pytest.raises(Killed):
        rounds.run(folder, first)
    assert not folder.ended
    second = Road(town.road)
    rounds.run(folder, second)
    assert len(second.sent) == 6 - dies  # what was kept is not asked again
    assert second.sent[0] == first.sent[-1]  # byte for byte
    assert [len(list(h.ledger.entries())) for h in town.houses.values()] == [3, 3, 3]  # one charge a round


def test_a_run_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses), rounds=1))
    rounds.run(folder, town.road)
    again = Road(town.road)
    rounds.run(folder, again)
    assert again.sent == []


def test_a_round_below_the_quorum_fails_and_says_how_many_are_missing(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses), rounds=2))
    rounds.run(folder, lambda letters: {}, lambda: dict.fromkeys(sorted(town.houses), "late"))
    assert folder.why() == {"error": "Abort", "message": "0 of 3 members introduced themselves, need 2"}
    assert folder.trips()[0]["silent"] == {"m0": "late", "m1": "late", "m2": "late"}


def test_garbage_from_one_member_is_silence_and_the_round_goes_on(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses), rounds=2))
    rounds.run(folder, lambda letters: {**town.road(letters), MemberId("m1"): b"\x00" * 500})
    assert result(folder).answered == (2, 2)


def test_an_order_for_an_unknown_collaboration_or_a_stranger_fails_by_name(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order([*sorted(town.houses), "zoe"]))
    rounds.run(folder, town.road)
    assert folder.why()["error"] == "ConfigError"
    assert "3 of 4" in folder.why()["message"]


def test_the_text_of_a_strange_error_is_not_written_down(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses)))

    def road(_: object) -> dict[MemberId, bytes]:
        raise RuntimeError("canary-7f3a")

    with pytest.raises(RuntimeError):
        rounds.run(folder, road)
    assert folder.why() == {"error": "RuntimeError", "message": ""}
    assert b"canary" not in b"".join(f.read_bytes() for f in folder.root.rglob("*") if f.is_file())


def test_a_full_disk_is_no_end_and_the_run_resumes_when_there_is_room(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses), rounds=2))
    blocked = folder.journal / "000001.part"
    blocked.mkdir()  # the second trip cannot be written down
    with pytest.raises(OSError, match="000001"):
        rounds.run(folder, town.road)
    assert not folder.ended
    blocked.rmdir()
    rounds.run(folder, town.road)
    assert result(folder).answered == (3, 3)
    assert [len(list(h.ledger.entries())) for h in town.houses.values()] == [2, 2, 2]


def test_a_journal_refuses_a_coordinator_that_asks_something_else_on_replay(tmp_path: Path) -> None:
    Journal(tmp_path, tmp_path / "p", dict)({A: b"1", B: b"2"})
    other = Journal(tmp_path, tmp_path / "p", dict)
    with pytest.raises(LocalError, match="something else"):
        other({A: b"1", B: b"3"})


def test_a_trip_that_was_half_written_was_never_made(tmp_path: Path) -> None:
    journal = Journal(tmp_path, tmp_path / "p", dict)
    (tmp_path / "000000.part").write_bytes(b"\x92half a fi")
    assert journal({A: b"1"}) == {A: b"1"}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["000000.trip", "p"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    for data in (b"one", b"two"):
        write_whole(tmp_path / "f.bin", data)
        assert (tmp_path / "f.bin").read_bytes() == data
    assert [f.name for f in tmp_path.iterdir()] == ["f.bin"]


def test_progress_that_is_being_written_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    town = village(tmp_path)
    folder = made(tmp_path, town, order(sorted(town.houses)))
    folder.progress.write_text(json.dumps({"trip": 1}) + '\n{"trip": 2, "ask')
    assert folder.trips() == [{"trip": 1}]


def test_the_same_order_in_the_same_session_gives_the_same_letters(tmp_path: Path) -> None:
    towns = [village(tmp_path / "x", noise_multiplier=0.0)]
    roads = [Road(towns[0].road), Road(lambda letters: {})]
    for place, road in enumerate(roads):
        (tmp_path / str(place)).mkdir()
        rounds.run(made(tmp_path / str(place), towns[0], order(sorted(towns[0].houses))), road)
    assert roads[0].sent[0] == roads[1].sent[0]
    assert np.isfinite(result(RunFolder(tmp_path / "0" / "run")).adapter).all()
