"""Members in one process share what is public and hold what they need: one model, few open ledgers, short answers."""

import os
from pathlib import Path

import numpy as np
import pytest

from client.model import load_base
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.session import drive
from simulations import village as villages
from simulations.collaborations import run_of
from simulations.engine import complete, settle, simulate
from simulations.experiment import load_experiment
from simulations.texts import lay_out, training


@pytest.fixture
def scene(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    base = load_base(experiment.model_path)
    return complete(experiment, texts, base), texts, base


def files_of(folder: Path) -> list[str]:
    """Return the files below `folder` that this process has open."""
    links = (os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())
    return [file for file in links if file.startswith(str(folder.resolve()))]


def test_members_work_on_one_model_and_leave_the_one_they_were_given_alone(scene, tmp_path):
    experiment, texts, base = scene
    outcome, village = simulate(experiment, texts, base, tmp_path / "village")
    models = {id(v.house.base.model) for v in village.villagers.values()}
    assert len(models) == 1
    assert id(base.model) not in models
    assert not any("lora" in name for name, _ in base.model.named_parameters())
    shared = next(iter(village.villagers.values())).house.base
    theirs = {p.data_ptr() for p in shared.model.parameters()}
    assert {p.data_ptr() for p in base.model.parameters()} <= theirs  # no frozen weight was copied
    assert outcome.answered == (3, 3)
    village.close()


def test_ledgers_that_are_closed_between_letters_charge_as_ever(scene, tmp_path, monkeypatch):
    experiment, texts, base = scene
    adapters, spent = [], []
    for most in (1, 32):
        monkeypatch.setattr(villages, "_MOST_AWAKE", most)
        folder = tmp_path / str(most)
        outcome, village = simulate(experiment, texts, base, folder)
        assert len({Path(file).parent for file in files_of(folder)}) == min(most, 3)
        spent.append({m: v.statement for m, v in village.villagers.items()})
        adapters.append(outcome.adapter)
        village.close()
        assert not files_of(folder)
    assert np.array_equal(*adapters)
    assert [s.charges for of in spent for s in of.values()] == [2] * 6
    assert [s.spent for s in spent[0].values()] == [s.spent for s in spent[1].values()]


def test_a_long_answer_is_kept_in_a_file_and_its_letter_gets_the_same_bytes(scene, tmp_path, monkeypatch):
    experiment, texts, base = scene
    monkeypatch.setattr(villages, "_LONG", 1000)
    village, heard = settle(experiment, texts, base, tmp_path / "village"), []
    road = MemoryRoad(village.ends, tap=lambda member, way, letter: heard.append((member, way.name, letter)))
    entry = CATALOG["average"]
    drive(
        entry.coordinate(village.members, run_of(experiment).task(experiment, base)),
        village.outbox("5e55", "average", road),
        entry.wire,
    )
    last = {
        member: (letter, answer) for (member, _, letter), (_, _, answer) in zip(heard[::2], heard[1::2], strict=True)
    }
    for member, (letter, answer) in last.items():
        villager = village.villagers[member]
        held = villager.mailbox.shelf.sessions["5e55"].answer
        assert len(answer) < 1000 or len(held) < 20
        assert villager.mailbox.deliver(letter) == answer
    uploads = [answer for _, way, answer in heard if way == "BACK" and len(answer) > 1000]
    assert uploads
    village.close()
