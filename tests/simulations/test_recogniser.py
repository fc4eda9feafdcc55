"""The recogniser's training holds out what it says, and its weights compute in numpy what they did in torch."""

import json
import time
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not find_spec("phonenumbers"), reason="phonenumbers is missing")

WORDS = (("Anna", "Schmidt", "left", "Oslo", "for", "good", "."), ("x",), ("Initech", "is", "in", "Norway"))


def test_the_last_fifth_is_held_out_and_for_choosing_the_fourth_as_well(tmp_path: Path) -> None:
    from simulations.redaction.corpus import SOURCES, read

    for name in (file for files in SOURCES.values() for file in files):
        rows = [{"w": [f"{name}{i}", "x"], "t": ["B-PER", "O"]} for i in range(10)]
        rows += [{"w": ["wikigold9", "x"], "t": ["O", "O"]}, {"w": ["wikigold7", "x"], "t": ["O", "O"]}]
        wanted = rows[:10] if name == "wikigold" else rows
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in wanted), encoding="utf-8")
    for developing, judged, unseen in ((False, (8, 9), {8, 9}), (True, (6, 7), {6, 7, 8, 9})):
        training, held_out = read(tmp_path, developing)
        assert [s.words[0] for s in held_out] == [f"wikigold{i}" for i in judged]
        seen = {s.words[0] for s in training}
        assert {f"wikigold{i}" for i in range(10)} - seen == {f"wikigold{i}" for i in unseen}


def test_weights_that_are_written_compute_in_numpy_what_they_did_in_torch(tmp_path: Path, monkeypatch) -> None:
    import torch

    from privacy.redaction.ner import features
    from privacy.redaction.ner.network import HABITS, Recogniser
    from simulations.redaction import train
    from simulations.redaction.corpus import SOURCE_NAMES, Sentence
    from simulations.redaction.train import Network, Words, batch_of, save

    assert SOURCE_NAMES == HABITS
    for table in ("WORD_ROWS", "PART_ROWS"):
        monkeypatch.setattr(features, table, 256)
    monkeypatch.setattr(train, "lists", lambda: (frozenset({features.hashed("oslo")}), frozenset({1})))
    torch.manual_seed(1)
    network, words = Network(), Words()
    torch.nn.init.normal_(network.habits, std=0.1)
    save(network, words, tmp_path / "names.npz")
    written = Recogniser.load(tmp_path / "names.npz")
    sentences = [Sentence(w, ("O",) * len(w), HABITS.index("gum")) for w in WORDS]
    with torch.no_grad():
        expected = network.eval()(batch_of(sentences, words, None, Random(0))).numpy()
    for w, rows, scores in zip(WORDS, expected, written.scores(WORDS, "gum"), strict=True):
        np.testing.assert_allclose(scores, rows[: len(w)], atol=0.01)  # tables have 8 bits


def test_training_is_over_after_its_steps_or_its_minutes() -> None:
    from simulations.redaction.train import Plan

    assert Plan(steps=8).done(2, 0.0) == 0.25
    assert Plan(minutes=1e9).done(2, time.time()) < 1e-6
    assert Plan(minutes=1e-6).done(2, time.time() - 1) > 1
