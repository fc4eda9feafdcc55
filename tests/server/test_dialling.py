"""A run on a stream of its own: opened over the other road once, found again when resumed, ended with the run."""

from dataclasses import replace
from pathlib import Path

import pytest
from deployment import order, until
from streaming import Town

from protocols.catalog import CATALOG
from protocols.faults import Abort
from server import rounds
from server.dialling import Dialled
from server.orders import ORDERS, Road, RunFolder, Who, read_order


def made(own_town: Town, tmp_path: Path, name: str = "run", coordinator: Path | None = None) -> RunFolder:
    keys = {m: str(h.identity.public) for m, h in own_town.there.houses.items()}
    root = coordinator or own_town.folder.root
    who = Who(name, str(own_town.folder.identity_key), keys, dict.fromkeys(keys, "7"), str(root))
    return RunFolder.make(tmp_path / name, order(sorted(keys), rounds=2, deadline_s=20.0), who)


def test_a_run_on_streams_ends_as_on_flowers_road_and_takes_its_stream_with_it(
    own_town: Town, tmp_path: Path
) -> None:
    folder, opened = made(own_town, tmp_path), []

    def flower(letters):
        opened.append(sorted(letters))
        return own_town.there.road(letters)

    carrier = Dialled(folder, flower)
    rounds.run(folder, carrier, lambda: carrier.silent)
    carrier.close()
    assert folder.why() == {}
    assert CATALOG["average"].wire.decode(folder.result.read_bytes()).answered == (3, 3)
    assert opened == [["m0", "m1", "m2"]] * 2  # asked to dial, and the farewell of that session
    assert list(own_town.folder.streams.iterdir()) == []
    until(lambda: not any(line.is_alive() for home in own_town.homes.values() for line in home._lines.values()))


class Killed(BaseException):
    """The process is gone."""


def test_a_run_that_was_killed_goes_on_upon_the_stream_that_it_had(own_town: Town, tmp_path: Path) -> None:
    folder, opened = made(own_town, tmp_path), []

    def flower(letters):
        opened.append(sorted(letters))
        return own_town.there.road(letters)

    first = Dialled(folder, flower)

    def dies(letters):
        if len(list(folder.trips())) == 3:
            raise Killed
        return first(letters)

    with pytest.raises(Killed):
        rounds.run(folder, dies)
    first.close()
    name = folder.stream.read_text()
    assert (own_town.folder.streams / name).exists()  # the run has not ended
    again = Dialled(folder, flower)
    rounds.run(folder, again)
    again.close()
    assert folder.ended
    assert folder.why() == {}
    assert len(opened) == 2
    assert not (own_town.folder.streams / name).exists()


def test_a_run_whose_members_do_not_dial_or_may_not_ends_by_name(own_town: Town, tmp_path: Path) -> None:
    folder = made(own_town, tmp_path)
    carrier = Dialled(folder, lambda _letters: {})
    rounds.run(folder, carrier)
    carrier.close()
    assert folder.why() == {"error": "Abort", "message": "0 of 3 members dial"}
    strangers = made(own_town, tmp_path, "strangers")
    strangers.spec.write_bytes(order(["m0", "m9"]))
    stranger = Dialled(strangers, own_town.there.road)
    with pytest.raises(Abort, match="422"):
        stranger({})


def test_a_run_whose_coordinator_is_restarting_is_not_over(own_town: Town, tmp_path: Path) -> None:
    folder = made(own_town, tmp_path, coordinator=tmp_path / "nowhere")
    with pytest.raises(OSError, match="no coordinator"):
        rounds.run(folder, Dialled(folder, own_town.there.road))
    assert not folder.ended


def test_an_order_says_on_which_road_it_goes() -> None:
    plain = read_order(order(["m0"]))
    assert plain.carrier is Road.FLOWER
    streamed = replace(plain, carrier=Road.STREAM)
    assert read_order(ORDERS.encode(streamed)) == streamed
